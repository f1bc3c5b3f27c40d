/* SPDX-License-Identifier: Apache-2.0 */
/* The two-layer perceptron with a depthwise 3x3 convolution inside, which tells a token where it
 * stands (PVTv2, arXiv 2106.13797; LITv2, VAN):
 *   y = gamma * fc2(act(dwconv3x3(fc1(before(x)))))
 * The convolution sees zeros outside the map, and nothing stands between it and fc1. */
#ifndef VERTEBRA_LAYERS_CONV_MLP_H
#define VERTEBRA_LAYERS_CONV_MLP_H

#include "vertebra/layers/conv.h"

VT_BEGIN_DECLS

typedef struct vt_conv_mlp_settings {
    int channels, hidden;
    vt_activation act;
    const vt_batch_norm *before; /* folded into fc1; NULL: none */
    vt_weight gamma;             /* layer scale (see vt_scale_bind), or none: 1 */
} vt_conv_mlp_settings;

typedef struct vt_conv_mlp {
    vt_conv_layer fc1, dwconv, fc2; /* fc1 and fc2 are 1 x 1 */
    vt_activation act;
} vt_conv_mlp;

/* Parameters fc1.weight [hidden, channels], dwconv.dwconv.weight [hidden, 1, 3, 3],
 * fc2.weight [channels, hidden] and a bias of each below the current scope. */
vt_conv_mlp vt_conv_mlp_bind(vt_binder *binder, const vt_conv_mlp_settings *settings);

/* x [n,h,w,channels] -> [n,h,w,channels] */
vt_value vt_conv_mlp_forward(vt_builder *builder, const vt_conv_mlp *layer, vt_value x);

VT_END_DECLS
#endif
