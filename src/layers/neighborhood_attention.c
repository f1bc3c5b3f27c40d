/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/neighborhood_attention.h"

vt_neighborhood_attention
vt_neighborhood_attention_bind(vt_binder *b, const vt_neighborhood_attention_settings *s)
{
    vt_neighborhood_attention layer = {.pattern = {.kind = VT_PATTERN_NEIGHBORHOOD,
                                                   .window_h = s->window_h,
                                                   .window_w = s->window_w,
                                                   .dilation_h = s->dilation_h,
                                                   .dilation_w = s->dilation_w,
                                                   .stride_h = s->stride_h,
                                                   .stride_w = s->stride_w}};
    layer.attention = vt_self_attention_bind(b, s->channels, s->heads, true, s->gamma);
    if (s->position_bias) {
        vt_weight_desc rpb = {.name = "rpb",
                              .role = VT_WEIGHT_VECTOR,
                              .rank = 3,
                              .shape = {s->heads, 2 * s->window_h - 1, 2 * s->window_w - 1}};
        layer.attention.bias = vt_bind(b, &rpb);
    }
    return layer;
}

vt_value vt_neighborhood_attention_forward(vt_builder *b, const vt_neighborhood_attention *layer,
                                           vt_value x)
{
    return vt_self_attention_forward(b, &layer->attention, x, &layer->pattern);
}
