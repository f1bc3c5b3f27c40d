/* SPDX-License-Identifier: Apache-2.0 */
/* Multi-head self-attention under a pattern: y = proj(attention(qkv(x))), with
 *   s_ij = (q_i . k_j) * head_dim^-0.5 + B[position of j relative to i]
 * The patterns are those of vt_pattern (ops.h): windows, grids, neighborhoods, all tokens. Tokens
 * outside the map are keys and values made of zeros by the qkv map, that is, of its bias, as in the
 * published code. */
#ifndef VERTEBRA_LAYERS_ATTENTION_H
#define VERTEBRA_LAYERS_ATTENTION_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_self_attention {
    vt_linear_layer qkv; /* q, k, v, each [heads][head_dim] */
    vt_conv_layer proj;
    vt_weight bias;        /* table of B as in vt_attention, or none */
    vt_weight temperature; /* cosine score, or none */
    int heads, head_dim;
} vt_self_attention;

/* Parameters qkv.weight [3C, C], qkv.bias [3C] where `qkv_bias`, proj.weight [C, C], proj.bias [C];
 * a position bias and a temperature are the caller's to bind and to put into the struct. gamma: a
 * layer scale on y (see vt_scale_bind), or none. */
vt_self_attention vt_self_attention_bind(vt_binder *binder, int channels, int heads, bool qkv_bias,
                                         vt_weight gamma);

/* x [n,h,w,C] -> [n,h,w,C] */
vt_value vt_self_attention_forward(vt_builder *builder, const vt_self_attention *layer, vt_value x,
                                   const vt_pattern *pattern);

VT_END_DECLS
#endif
