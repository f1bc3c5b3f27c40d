/* SPDX-License-Identifier: Apache-2.0 */
/* Channel group attention (DaViT, arXiv 2204.03645): every channel of a head attends to the other
 * channels of that head, over all N = h w pixels. With q, k, v [N, d] of a head and y = proj(...):
 *   VALUES_OF_Q  A[c,e] = softmax_e(d^-1/2 sum_n k[n,c] v[n,e]),  out[n,c] = sum_e A[c,e] q[n,e]
 *   VALUES_OF_V  A[c,e] = softmax_e(N^-1/2 sum_n q[n,c] k[n,e]),  out[n,c] = sum_e A[c,e] v[n,e]
 * The first is what DaViT's classifiers were trained with, the second is that of Florence-2, whose
 * scale follows the size of the map. */
#ifndef VERTEBRA_LAYERS_CHANNEL_ATTENTION_H
#define VERTEBRA_LAYERS_CHANNEL_ATTENTION_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef enum vt_channel_attention_form {
    VT_CHANNEL_VALUES_OF_Q = 0,
    VT_CHANNEL_VALUES_OF_V
} vt_channel_attention_form;

typedef struct vt_channel_attention_layer {
    vt_linear_layer qkv; /* q, k, v, each [heads][head_dim] */
    vt_linear_layer proj;
    int heads, head_dim;
    vt_channel_attention_form form;
} vt_channel_attention_layer;

/* Parameters below the current scope: qkv.weight [3C, C], qkv.bias, proj.weight [C, C], proj.bias
 * [C]. */
vt_channel_attention_layer vt_channel_attention_bind(vt_binder *binder, int channels, int heads,
                                                     vt_channel_attention_form form);

/* x [n,h,w,C] -> [n,h,w,C] */
vt_value vt_channel_attention_forward(vt_builder *builder, const vt_channel_attention_layer *layer,
                                      vt_value x);

VT_END_DECLS
#endif
