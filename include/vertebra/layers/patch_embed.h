/* SPDX-License-Identifier: Apache-2.0 */
/* Patch embedding: a patch x patch convolution with stride patch, then LayerNorm.
 *   y[n,i,j,:] = LN(bias + sum_{dy,dx,c} weight[:,c,dy,dx] x[n, i*patch + dy, j*patch + dx, c])
 * A map whose size is no multiple of the patch is padded with zeros at the bottom and right, as
 * the detection and segmentation code of the Swin authors does. */
#ifndef VERTEBRA_LAYERS_PATCH_EMBED_H
#define VERTEBRA_LAYERS_PATCH_EMBED_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_patch_embed {
    vt_conv_layer proj;
    vt_norm norm;
} vt_patch_embed;

/* Parameters proj.weight [channels, in, patch, patch], proj.bias, norm.weight, norm.bias. */
vt_patch_embed vt_patch_embed_bind(vt_binder *binder, int in, int channels, int patch, float eps);

/* x [n,h,w,in] -> [n, ceil(h/patch), ceil(w/patch), channels] */
vt_value vt_patch_embed_forward(vt_builder *builder, const vt_patch_embed *layer, vt_value x);

VT_END_DECLS
#endif
