/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/linear_attention.h"

vt_linear_attention_layer vt_linear_attention_bind(vt_binder *b, int channels, int heads,
                                                   float floor)
{
    vt_linear_attention_layer layer = {.heads = heads, .floor = floor};
    if (heads < 1 || channels < 1 || channels % heads || !(floor > 0.0f)) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "linear_attention: %d channels, %d heads, floor %g",
                       channels, heads, (double)floor);
        return layer;
    }
    layer.head_dim = channels / heads;
    layer.qkv = vt_linear_bind(b, "qkv", channels, 3 * channels, true);
    layer.temperature = vt_bind(
        b, &(vt_weight_desc){
               .name = "temperature", .role = VT_WEIGHT_VECTOR, .rank = 3, .shape = {heads, 1, 1}});
    layer.proj = vt_linear_bind(b, "proj", channels, channels, true);
    return layer;
}

vt_value vt_linear_attention_forward(vt_builder *b, const vt_linear_attention_layer *layer,
                                     vt_value x)
{
    int channels = layer->heads * layer->head_dim;
    vt_value qkv = vt_linear_forward(b, &layer->qkv, x, VT_ACT_NONE);
    vt_linear_attention attention = {.heads = layer->heads,
                                     .q = {qkv, 0, layer->head_dim},
                                     .k = {qkv, channels, layer->head_dim},
                                     .v = {qkv, 2 * channels, layer->head_dim},
                                     .floor = layer->floor,
                                     .temperature = layer->temperature};
    return vt_linear_forward(b, &layer->proj, vt_op_linear_attention(b, &attention), VT_ACT_NONE);
}
