/* SPDX-License-Identifier: Apache-2.0 */
/* Conditional position encoding (arXiv 2102.10882): a depthwise 3x3 convolution with a residual,
 *   y[n,i,j,c] = x[n,i,j,c] + bias[c] + sum_{dy,dx} weight[c,dy,dx] x[n, i + dy - 1, j + dx - 1, c]
 * zero outside the map. The zeros at the border tell positions apart; any map size will do. */
#ifndef VERTEBRA_LAYERS_POSITION_ENCODING_H
#define VERTEBRA_LAYERS_POSITION_ENCODING_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_position_encoding {
    vt_conv_layer proj;
} vt_position_encoding;

/* Parameters proj.weight [channels, 1, 3, 3], proj.bias [channels] below the current scope. */
vt_position_encoding vt_position_encoding_bind(vt_binder *binder, int channels);

/* x [n,h,w,channels] -> [n,h,w,channels] */
vt_value vt_position_encoding_forward(vt_builder *builder, const vt_position_encoding *layer,
                                      vt_value x);

VT_END_DECLS
#endif
