/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/attention.h"

#include <math.h>

vt_self_attention vt_self_attention_bind(vt_binder *b, int channels, int heads, bool qkv_bias,
                                         vt_weight gamma)
{
    vt_self_attention layer = {.heads = heads};
    if (heads < 1 || channels < 1 || channels % heads) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "attention: %d channels, %d heads", channels, heads);
        return layer;
    }
    vt_conv_settings proj = {.in = channels, .out = channels, .bias = true, .gamma = gamma};
    layer.head_dim = channels / heads;
    layer.qkv = vt_linear_bind(b, "qkv", channels, 3 * channels, qkv_bias);
    layer.proj = vt_conv_bind(b, "proj", &proj);
    return layer;
}

vt_value vt_self_attention_forward(vt_builder *b, const vt_self_attention *layer, vt_value x,
                                   const vt_pattern *pattern)
{
    int channels = layer->heads * layer->head_dim;
    vt_value qkv = vt_linear_forward(b, &layer->qkv, x, VT_ACT_NONE);
    vt_attention attention = {.heads = layer->heads,
                              .q = {qkv, 0, layer->head_dim},
                              .k = {qkv, channels, layer->head_dim},
                              .v = {qkv, 2 * channels, layer->head_dim},
                              .scale = 1.0f / sqrtf((float)layer->head_dim),
                              .temperature = layer->temperature,
                              .bias = layer->bias,
                              .pad = layer->qkv.bias,
                              .pattern = *pattern};
    return vt_conv_forward(b, &layer->proj, vt_op_attention(b, &attention), VT_ACT_NONE);
}
