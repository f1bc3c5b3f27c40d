/* SPDX-License-Identifier: Apache-2.0 */
/* Halo attention (HaloNet, arXiv 2103.12731), in the form of timm's networks: the map is cut into
 * blocks; the queries of a block see the keys of their block and of a border of `halo` around it.
 *   q = x Wq at every stride-th pixel,  k, v = x Wk, x Wv at all;  zeros outside the map
 *   s_ij = q_i . k_j * dq^-0.5 + q_i . height_rel[row of j - row of i + win - 1]
 *                              + q_i . width_rel[column of j - column of i + win - 1]
 *   y_i = concat_heads sum_j softmax_j(s_ij) v_j,    win = block + 2 halo
 * Rows and columns of j count in the window of keys, those of i in the block of queries (with a
 * stride: of the queries that are left). Keys outside the map are not masked: they take part with
 * their position alone. Where the stride does not divide the block, all queries are computed and
 * means of 2 x 2 of them handed on. */
#ifndef VERTEBRA_LAYERS_HALO_ATTENTION_H
#define VERTEBRA_LAYERS_HALO_ATTENTION_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_halo_attention_settings {
    int channels, heads; /* v has channels / heads per head */
    int key_dim;         /* dq, channels of q and k per head; 0: channels / heads */
    int block, halo;
    int stride; /* 1 or 2 */
} vt_halo_attention_settings;

typedef struct vt_halo_attention {
    vt_conv_layer q;
    vt_weight kv; /* all k, then all v, each by head */
    vt_weight height_rel, width_rel;
    int heads, key_dim, value_dim, block, halo, stride;
    bool pooled; /* the stride is a pool behind the attention */
} vt_halo_attention;

/* Parameters below the current scope: q.weight [heads * dq, channels]; kv.weight
 * [heads * (dq + dv), channels], for each head the rows of k, then those of v;
 * pos_embed.height_rel, pos_embed.width_rel [2 win - 1, dq]. */
vt_halo_attention vt_halo_attention_bind(vt_binder *binder,
                                         const vt_halo_attention_settings *settings);

/* x [n,h,w,channels] -> [n, h / stride, w / stride, channels]; the block must divide h and w. */
vt_value vt_halo_attention_forward(vt_builder *builder, const vt_halo_attention *layer, vt_value x);

VT_END_DECLS
#endif
