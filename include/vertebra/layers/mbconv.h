/* SPDX-License-Identifier: Apache-2.0 */
/* Inverted bottleneck with batch norms before it and inside (MBConv), as in MaxViT
 * (arXiv 2204.01697):
 *   z = act(BN1(conv1x1(BN0(x))));   z = act(BN2(dwconv3x3(z)))     stride in the depthwise one
 *   y = shortcut(x) + conv1x1(squeeze_excite(z))
 *   shortcut(x) = x;  with stride 2 the means of 2 x 2 pixels, then conv1x1 where the widths differ
 * All padding is TensorFlow's SAME, whose odd zero comes last; zeros count in the means. */
#ifndef VERTEBRA_LAYERS_MBCONV_H
#define VERTEBRA_LAYERS_MBCONV_H

#include "vertebra/layers/conv.h"
#include "vertebra/layers/squeeze_excite.h"

VT_BEGIN_DECLS

typedef struct vt_mbconv_settings {
    int in, out, hidden, gate_hidden; /* channels of x, of y, of z, between the gate's two maps */
    int stride;                       /* 1, where in = out; or 2 */
    vt_activation act, gate_act;
    float eps; /* of the batch norms */
} vt_mbconv_settings;

typedef struct vt_mbconv {
    vt_conv_layer expand; /* of the shortcut */
    vt_conv_layer conv1, conv2, conv3;
    vt_squeeze_excite gate;
    vt_activation act;
    int stride;
    bool has_expand;
} vt_mbconv;

/* Parameters below the current scope: shortcut.expand.{weight, bias} where stride is 2 and the
 * widths differ; pre_norm, norm1, norm2 (batch norms); conv1_1x1.weight, conv2_kxk.weight,
 * conv3_1x1.{weight, bias}; se.fc1, se.fc2. */
vt_mbconv vt_mbconv_bind(vt_binder *binder, const vt_mbconv_settings *settings);

/* x [n,h,w,in] -> [n, ceil(h / stride), ceil(w / stride), out] */
vt_value vt_mbconv_forward(vt_builder *builder, const vt_mbconv *layer, vt_value x);

VT_END_DECLS
#endif
