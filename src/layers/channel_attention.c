/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/channel_attention.h"

#include <math.h>

vt_channel_attention_layer vt_channel_attention_bind(vt_binder *b, int channels, int heads,
                                                     vt_channel_attention_form form)
{
    vt_channel_attention_layer layer = {.heads = heads, .form = form};
    if (heads < 1 || channels < 1 || channels % heads) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "channel_attention: %d channels, %d heads", channels,
                       heads);
        return layer;
    }
    layer.head_dim = channels / heads;
    layer.qkv = vt_linear_bind(b, "qkv", channels, 3 * channels, true);
    layer.proj = vt_linear_bind(b, "proj", channels, channels, true);
    return layer;
}

vt_value vt_channel_attention_forward(vt_builder *b, const vt_channel_attention_layer *layer,
                                      vt_value x)
{
    vt_shape s = vt_value_shape(b, x);
    vt_value qkv = vt_linear_forward(b, &layer->qkv, x, VT_ACT_NONE);
    int d = layer->head_dim, channels = layer->heads * d;
    vt_heads q = {qkv, 0, d}, k = {qkv, channels, d}, v = {qkv, 2 * channels, d};
    vt_channel_attention attention = {.heads = layer->heads};
    if (layer->form == VT_CHANNEL_VALUES_OF_Q) {
        attention.left = k;
        attention.right = v;
        attention.value = q;
        attention.scale = 1.0f / sqrtf((float)d);
    } else {
        attention.left = q;
        attention.right = k;
        attention.value = v;
        attention.scale = (float)(1.0 / sqrt((double)(s.h * s.w)));
    }
    vt_value y = vt_op_channel_attention(b, &attention);
    return vt_linear_forward(b, &layer->proj, y, VT_ACT_NONE);
}
