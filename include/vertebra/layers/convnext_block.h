/* SPDX-License-Identifier: Apache-2.0 */
/* The block of ConvNeXt (arXiv 2201.03545):
 *   y = x + gamma * fc2(gelu(fc1(LN(dwconv7x7(x)))))
 * The convolution is depthwise, with zeros outside the map; LN is over channels; gelu is the exact
 * one. One norm and one activation in a block. */
#ifndef VERTEBRA_LAYERS_CONVNEXT_BLOCK_H
#define VERTEBRA_LAYERS_CONVNEXT_BLOCK_H

#include "vertebra/layers/mlp.h"

VT_BEGIN_DECLS

typedef struct vt_convnext_block {
    vt_conv_layer conv_dw;
    vt_norm norm;
    vt_mlp mlp;
} vt_convnext_block;

/* Parameters below the current scope: conv_dw.weight [channels, 1, 7, 7], conv_dw.bias,
 * norm.weight, norm.bias, mlp.fc1.weight [4 channels, channels], mlp.fc1.bias, mlp.fc2.weight
 * [channels, 4 channels], mlp.fc2.bias, gamma [channels]. */
vt_convnext_block vt_convnext_block_bind(vt_binder *binder, int channels, float eps);

/* x [n,h,w,channels] -> [n,h,w,channels] */
vt_value vt_convnext_block_forward(vt_builder *builder, const vt_convnext_block *block, vt_value x);

VT_END_DECLS
#endif
