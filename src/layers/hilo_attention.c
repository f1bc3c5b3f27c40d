/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/hilo_attention.h"

#include <math.h>

vt_hilo_attention vt_hilo_attention_bind(vt_binder *b, const vt_hilo_attention_settings *s)
{
    vt_hilo_attention layer = {.window = s->window};
    if (s->heads < 1 || s->channels < 1 || s->channels % s->heads || s->window < 1 ||
        !(s->alpha >= 0.0 && s->alpha <= 1.0)) {
        vt_binder_fail(b, VT_ERR_ARGUMENT,
                       "hilo_attention: %d channels, %d heads, window %d, alpha %g", s->channels,
                       s->heads, s->window, s->alpha);
        return layer;
    }
    layer.low = s->window == 1 ? s->heads : (int)(s->heads * s->alpha);
    layer.high = s->heads - layer.low;
    layer.head_dim = s->channels / s->heads;
    int high = layer.high * layer.head_dim, low = layer.low * layer.head_dim;
    if (high > 0) {
        layer.h_qkv = vt_linear_bind(b, "h_qkv", s->channels, 3 * high, true);
        layer.h_proj = vt_linear_bind(b, "h_proj", high, high, true);
    }
    if (low > 0) {
        layer.l_q = vt_linear_bind(b, "l_q", s->channels, low, true);
        layer.l_kv = vt_linear_bind(b, "l_kv", s->channels, 2 * low, true);
        layer.l_proj = vt_linear_bind(b, "l_proj", low, low, true);
    }
    return layer;
}

static vt_value forward_high(vt_builder *b, const vt_hilo_attention *layer, vt_value x)
{
    int width = layer->head_dim, channels = layer->high * width;
    vt_value qkv = vt_linear_forward(b, &layer->h_qkv, x, VT_ACT_NONE);
    vt_attention attention = {.heads = layer->high,
                              .q = {qkv, 0, width},
                              .k = {qkv, channels, width},
                              .v = {qkv, 2 * channels, width},
                              .scale = 1.0f / sqrtf((float)width),
                              .pad = layer->h_qkv.bias,
                              .pattern = {.kind = VT_PATTERN_WINDOW,
                                          .window_h = layer->window,
                                          .window_w = layer->window}};
    return vt_linear_forward(b, &layer->h_proj, vt_op_attention(b, &attention), VT_ACT_NONE);
}

/* The mean of each window of the zero-padded map. */
static vt_value window_means(vt_builder *b, int window, vt_value x)
{
    vt_shape s = vt_value_shape(b, x);
    vt_pooling pooling = {.kind = VT_POOL_MEAN,
                          .kernel = window,
                          .stride = window,
                          .pad_bottom = (int)((window - s.h % window) % window),
                          .pad_right = (int)((window - s.w % window) % window)};
    return vt_op_pool(b, x, &pooling);
}

static vt_value forward_low(vt_builder *b, const vt_hilo_attention *layer, vt_value x)
{
    int width = layer->head_dim, channels = layer->low * width;
    vt_value means = layer->window > 1 ? window_means(b, layer->window, x) : x;
    vt_value kv = vt_linear_forward(b, &layer->l_kv, means, VT_ACT_NONE);
    vt_attention attention = {.heads = layer->low,
                              .q = {vt_linear_forward(b, &layer->l_q, x, VT_ACT_NONE), 0, width},
                              .k = {kv, 0, width},
                              .v = {kv, channels, width},
                              .scale = 1.0f / sqrtf((float)width),
                              .pattern = {.kind = VT_PATTERN_GLOBAL}};
    return vt_linear_forward(b, &layer->l_proj, vt_op_attention(b, &attention), VT_ACT_NONE);
}

vt_value vt_hilo_attention_forward(vt_builder *b, const vt_hilo_attention *layer, vt_value x)
{
    if (layer->low == 0) {
        return forward_high(b, layer, x);
    }
    if (layer->high == 0) {
        return forward_low(b, layer, x);
    }
    return vt_op_concat(b, forward_high(b, layer, x), forward_low(b, layer, x));
}
