/* SPDX-License-Identifier: Apache-2.0 */
/* Neighborhood attention (arXiv 2204.07143), dilated (arXiv 2209.15001), with a stride (arXiv
 * 2504.16922): each query attends to the window_h x window_w keys nearest to it.
 *   s_ij = (q_i . k_j) * head_dim^-0.5 + rpb[position of j relative to i],  j in the window of i
 *   y_i = proj(concat_heads sum_j softmax_j(s_ij) v_j)
 * At a border the window stays inside the map, so that no query sees fewer keys. With dilation d
 * the keys are those whose distance is a multiple of d. With stride s, s neighbouring queries share
 * one window; stride = window is attention in blocks. A window of even length reaches one further
 * to the top and left. vt_pattern (NEIGHBORHOOD) has the index rule.
 *
 * A map smaller than window * dilation is extended by zeros at the bottom and right before the qkv
 * map: its keys and values are then the bias of that map, and nothing masks them. */
#ifndef VERTEBRA_LAYERS_NEIGHBORHOOD_ATTENTION_H
#define VERTEBRA_LAYERS_NEIGHBORHOOD_ATTENTION_H

#include "vertebra/layers/attention.h"

VT_BEGIN_DECLS

typedef struct vt_neighborhood_attention_settings {
    int channels, heads;        /* head_dim = channels / heads */
    int window_h, window_w;     /* keys along each axis */
    int dilation_h, dilation_w; /* 0 counts as 1 */
    int stride_h, stride_w;     /* 0 counts as 1; at most the window */
    bool position_bias;         /* rpb */
    vt_weight gamma;            /* layer scale on y (see vt_scale_bind), or none */
} vt_neighborhood_attention_settings;

typedef struct vt_neighborhood_attention {
    vt_self_attention attention;
    vt_pattern pattern;
} vt_neighborhood_attention;

/* Parameters qkv.weight [3C, C], qkv.bias [3C], proj.weight [C, C], proj.bias [C] below the current
 * scope, and rpb [heads, 2 window_h - 1, 2 window_w - 1] where `position_bias`: entry
 * (dy + window_h - 1, dx + window_w - 1) is for the key dy * dilation_h rows below its query. */
vt_neighborhood_attention
vt_neighborhood_attention_bind(vt_binder *binder,
                               const vt_neighborhood_attention_settings *settings);

/* x [n,h,w,C] -> [n,h,w,C], any h and w */
vt_value vt_neighborhood_attention_forward(vt_builder *builder,
                                           const vt_neighborhood_attention *layer, vt_value x);

VT_END_DECLS
#endif
