/* SPDX-License-Identifier: Apache-2.0 */
/* (Shifted) window attention, Swin V1 (arXiv 2103.14030) and V2 (arXiv 2111.09883).
 * Inside each window, for each head:
 *   V1: s_ij = (q_i * head_dim^-0.5) . k_j + B[j relative to i]
 *   V2: s_ij = exp(min(tau, ln 100)) * cos(q_i, k_j) + B,
 *       B = 16 sigmoid(mlp(log-spaced offsets)), computed once at load; an offset along an axis is
 *       sign(u) log2(|u| + 1) / 3, u = 8 * (place of i - place of j) / (window - 1), with the window
 *       of pre-training where there was another
 *   y_i = proj(concat_heads sum_j softmax_j(s_ij + mask_ij) v_j)
 * The grid of windows is moved by floor(window / 2) where `shifted`, by a cyclic roll whose seam is
 * masked with -100. How maps are padded that windows do not divide: vt_window_rule. */
#ifndef VERTEBRA_LAYERS_WINDOW_ATTENTION_H
#define VERTEBRA_LAYERS_WINDOW_ATTENTION_H

#include "vertebra/layers/attention.h"

VT_BEGIN_DECLS

typedef struct vt_window_attention_settings {
    int channels, heads; /* head_dim = channels / heads */
    int window;
    bool shifted;
    bool cosine;           /* V2's score and position bias */
    int pretrained_window; /* V2: the window of pre-training, or 0 */
    vt_window_rule rule;   /* the one of vt_bind_settings; AUTO counts as MM */
    /* VT_WINDOW_TIMM: the map size that the network is built for; others: ignored. */
    int map_height, map_width;
} vt_window_attention_settings;

typedef struct vt_window_attention {
    vt_self_attention attention;
    int window_h, window_w, shift_h, shift_w;
    vt_window_rule rule;
} vt_window_attention;

/* Parameters below the current scope: qkv.weight [3C, C], proj.weight, proj.bias;
 * V1: qkv.bias, relative_position_bias_table [(2w-1)^2, heads], in row (yi - yj + w - 1) (2w - 1) +
 * xi - xj + w - 1 what is added for query i and key j (resized when the file has another window);
 * V2: q_bias, v_bias, logit_scale, cpb_mlp.{0.weight, 0.bias, 2.weight}. */
vt_window_attention vt_window_attention_bind(vt_binder *binder,
                                             const vt_window_attention_settings *settings);

/* x [n,h,w,C] -> [n,h,w,C], any h and w */
vt_value vt_window_attention_forward(vt_builder *builder, const vt_window_attention *layer,
                                     vt_value x);

VT_END_DECLS
#endif
