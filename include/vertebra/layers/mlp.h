/* SPDX-License-Identifier: Apache-2.0 */
/* The transformer's two-layer perceptron: y = gamma * fc2(act(fc1(x))). */
#ifndef VERTEBRA_LAYERS_MLP_H
#define VERTEBRA_LAYERS_MLP_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_mlp {
    vt_conv_layer fc1, fc2; /* 1 x 1 */
    vt_activation act;
} vt_mlp;

/* Parameters fc1.weight [hidden, channels], fc1.bias, fc2.weight [channels, hidden], fc2.bias below
 * the current scope; gamma is a layer scale (see vt_scale_bind), or none: 1. */
vt_mlp vt_mlp_bind(vt_binder *binder, int channels, int hidden, vt_activation act, vt_weight gamma);

/* x [n,h,w,channels] -> [n,h,w,channels] */
vt_value vt_mlp_forward(vt_builder *builder, const vt_mlp *mlp, vt_value x);

VT_END_DECLS
#endif
