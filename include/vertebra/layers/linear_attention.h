/* SPDX-License-Identifier: Apache-2.0 */
/* Linear attention over all tokens with ReLU features (L2ViT, arXiv 2501.16182), its cost linear in
 * the number of tokens. For each head, with q = relu(q) and k = relu(k):
 *   o_n = temperature * (q_n sum_m k_m^T v_m) / max(q_n . sum_m k_m, floor)
 *   y = proj(concat_heads o)
 * The weights of a token add up to its temperature where the sum is above the floor, to less where
 * few or weak keys answer. */
#ifndef VERTEBRA_LAYERS_LINEAR_ATTENTION_H
#define VERTEBRA_LAYERS_LINEAR_ATTENTION_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_linear_attention_layer {
    vt_linear_layer qkv, proj; /* q, k, v, each [heads][head_dim] */
    vt_weight temperature;
    int heads, head_dim;
    float floor;
} vt_linear_attention_layer;

/* Parameters qkv.weight [3C, C], qkv.bias [3C], temperature [heads, 1, 1], proj.weight [C, C],
 * proj.bias [C] below the current scope; floor > 0. */
vt_linear_attention_layer vt_linear_attention_bind(vt_binder *binder, int channels, int heads,
                                                   float floor);

/* x [n,h,w,C] -> [n,h,w,C] */
vt_value vt_linear_attention_forward(vt_builder *builder, const vt_linear_attention_layer *layer,
                                     vt_value x);

VT_END_DECLS
#endif
