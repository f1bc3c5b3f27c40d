/* SPDX-License-Identifier: Apache-2.0 */
/* Multi-axis attention (MaxViT, arXiv 2204.01697): attention inside windows, then attention over a
 * grid of as many tokens that spans the whole map, each with its perceptron:
 *   x += attn(LN1(x));  x += mlp(LN2(x))    tokens of one window
 *   x += attn(LN1(x));  x += mlp(LN2(x))    tokens at one place of all cells of h/window x w/window
 * attn is multi-head self-attention with a bias for every position of a key relative to its query,
 *   s_ij = q_i . k_j * head_dim^-0.5
 *          + table[head, y_j - y_i + window_h - 1, x_j - x_i + window_w - 1]
 * with places counted in the window, or in the grid. */
#ifndef VERTEBRA_LAYERS_MULTI_AXIS_ATTENTION_H
#define VERTEBRA_LAYERS_MULTI_AXIS_ATTENTION_H

#include "vertebra/layers/attention.h"
#include "vertebra/layers/mlp.h"

VT_BEGIN_DECLS

typedef struct vt_multi_axis_settings {
    int channels, heads, hidden; /* hidden: channels inside the perceptrons */
    int window_h, window_w;
    vt_activation act;
    float eps;
} vt_multi_axis_settings;

/* Attention over one partition of the map. */
typedef struct vt_partition_attention {
    vt_norm norm1, norm2;
    vt_self_attention attention;
    vt_mlp mlp;
} vt_partition_attention;

typedef struct vt_multi_axis_attention {
    vt_partition_attention block, grid;
    int window_h, window_w;
} vt_multi_axis_attention;

/* Parameters below attn_block and attn_grid: norm1, norm2 (LayerNorm); attn.qkv.weight [3C, C] and
 * bias; attn.rel_pos.relative_position_bias_table [heads, 2 window_h - 1, 2 window_w - 1];
 * attn.proj.weight [C, C] and bias; mlp.fc1, mlp.fc2. A table of another window is resized as timm
 * does it: places of the old table stand at distances from the centre that grow geometrically until
 * they span the new one; between them linear. */
vt_multi_axis_attention vt_multi_axis_attention_bind(vt_binder *binder,
                                                     const vt_multi_axis_settings *settings);

/* x [n,h,w,C] -> [n,h,w,C]; the window must divide h and w. */
vt_value vt_multi_axis_attention_forward(vt_builder *builder, const vt_multi_axis_attention *layer,
                                         vt_value x);

VT_END_DECLS
#endif
