/* SPDX-License-Identifier: Apache-2.0 */
/* Deformable convolution (arXiv 1703.06211) with its stride equal to its kernel: the places that it
 * reads are moved by offsets that another convolution computes from the same map.
 *   d = conv_offset(x);  tap t = i * kernel + j reads at (d[2t], d[2t+1]) rows and columns away
 *   y[n,a,b,:] = after(bias + sum_{i,j} weight[:,:,i,j] S(x[n], a kernel + i + d[n,a,b,2t],
 *                                                            b kernel + j + d[n,a,b,2t+1]))
 * S is bilinear between pixels, with zeros outside the map. */
#ifndef VERTEBRA_LAYERS_DEFORM_CONV_H
#define VERTEBRA_LAYERS_DEFORM_CONV_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_deform_conv_settings {
    int in, out, kernel;
    const vt_batch_norm *after; /* folded; NULL: none */
} vt_deform_conv_settings;

typedef struct vt_deform_conv {
    vt_conv_layer offset, conv;
} vt_deform_conv;

/* Parameters `name`.weight [out, in, kernel, kernel], `name`.bias [out],
 * `name`.conv_offset.weight [2 kernel^2, in, kernel, kernel], `name`.conv_offset.bias. */
vt_deform_conv vt_deform_conv_bind(vt_binder *binder, const char *name,
                                   const vt_deform_conv_settings *settings);

/* x [n,h,w,in] -> act(y) [n, h div kernel, w div kernel, out]; h, w >= kernel */
vt_value vt_deform_conv_forward(vt_builder *builder, const vt_deform_conv *layer, vt_value x,
                                vt_activation act);

VT_END_DECLS
#endif
