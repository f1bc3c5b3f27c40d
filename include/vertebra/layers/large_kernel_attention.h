/* SPDX-License-Identifier: Apache-2.0 */
/* Large kernel attention (VAN, arXiv 2202.09741): a map is weighed by what a wide neighbourhood of
 * each pixel says,
 *   y = x * pointwise(dwconv7x7, dilation 3 (dwconv5x5(x)))
 * with zeros outside the map before each of the two depthwise convolutions and nothing between
 * them: 23 x 23 pixels reach a place. No softmax, any map size. */
#ifndef VERTEBRA_LAYERS_LARGE_KERNEL_ATTENTION_H
#define VERTEBRA_LAYERS_LARGE_KERNEL_ATTENTION_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_large_kernel_attention {
    vt_conv_layer conv0, conv_spatial, conv1;
} vt_large_kernel_attention;

/* Parameters conv0.weight [C, 1, 5, 5], conv_spatial.weight [C, 1, 7, 7], conv1.weight [C, C] and a
 * bias of each below the current scope. */
vt_large_kernel_attention vt_large_kernel_attention_bind(vt_binder *binder, int channels);

/* x [n,h,w,C] -> [n,h,w,C] */
vt_value vt_large_kernel_attention_forward(vt_builder *builder,
                                           const vt_large_kernel_attention *layer, vt_value x);

VT_END_DECLS
#endif
