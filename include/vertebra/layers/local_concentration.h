/* SPDX-License-Identifier: Apache-2.0 */
/* Local concentration (L2ViT, arXiv 2501.16182): two depthwise convolutions that gather again what
 * linear attention spread,
 *   y = conv2(bn(gelu(conv1(x))))
 * The batch norm stays an operation of its own: conv2 sees zeros outside the map, not the shift of
 * the norm, so that it cannot be folded into conv2. */
#ifndef VERTEBRA_LAYERS_LOCAL_CONCENTRATION_H
#define VERTEBRA_LAYERS_LOCAL_CONCENTRATION_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_local_concentration {
    vt_conv_layer conv1, conv2;
    vt_affine norm;
} vt_local_concentration;

/* Parameters conv1.weight, conv2.weight [channels, 1, kernel, kernel], conv1.bias, conv2.bias and
 * the batch norm bn.{weight, bias, running_mean, running_var} [channels] below the current scope;
 * kernel is odd (7 in the paper). */
vt_local_concentration vt_local_concentration_bind(vt_binder *binder, int channels, int kernel,
                                                   float eps);

/* x [n,h,w,channels] -> [n,h,w,channels] */
vt_value vt_local_concentration_forward(vt_builder *builder, const vt_local_concentration *layer,
                                        vt_value x);

VT_END_DECLS
#endif
