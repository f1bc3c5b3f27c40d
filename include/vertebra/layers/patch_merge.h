/* SPDX-License-Identifier: Apache-2.0 */
/* Patch merging (Swin): the four pixels of each 2 x 2 patch side by side, a linear map 4C -> 2C
 * without bias, and a LayerNorm before it (V1, over 4C) or after it (V2, over 2C). A map of odd
 * height or width is extended by one zero row or column.
 * In checkpoints channel block b of the 4C holds the pixel dy = b & 1, dx = b >> 1. */
#ifndef VERTEBRA_LAYERS_PATCH_MERGE_H
#define VERTEBRA_LAYERS_PATCH_MERGE_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_patch_merge {
    vt_linear_layer reduction;
    vt_norm norm;
    bool norm_first;
} vt_patch_merge;

/* Parameters reduction.weight [2C, 4C], norm.weight and norm.bias [4C or 2C]. */
vt_patch_merge vt_patch_merge_bind(vt_binder *binder, int channels, bool norm_first, float eps);

/* x [n,h,w,C] -> [n, ceil(h/2), ceil(w/2), 2C] */
vt_value vt_patch_merge_forward(vt_builder *builder, const vt_patch_merge *layer, vt_value x);

VT_END_DECLS
#endif
