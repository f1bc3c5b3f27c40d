/* SPDX-License-Identifier: Apache-2.0 */
/* Channel gates: every channel is multiplied by a factor that the means of all channels decide.
 *   m[c] = mean_{h,w} x[h,w,c],   y[h,w,c] = x[h,w,c] * gate(g(m))[c]
 *   squeeze and excitation (arXiv 1709.01507):   g(m) = fc2(act(fc1(m)))
 *   efficient channel attention (arXiv 1910.03151):
 *     g(m)[c] = sum_{k} weight[k] m[c + k - (kernel - 1) / 2], zero outside the channels */
#ifndef VERTEBRA_LAYERS_SQUEEZE_EXCITE_H
#define VERTEBRA_LAYERS_SQUEEZE_EXCITE_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_squeeze_excite_settings {
    int channels, hidden;
    vt_activation act, gate; /* gate is usually the sigmoid */
} vt_squeeze_excite_settings;

typedef struct vt_squeeze_excite {
    vt_linear_layer fc1, fc2; /* efficient channel attention has one map only, fc2 */
    vt_activation act, gate;
} vt_squeeze_excite;

/* Parameters fc1.weight [hidden, channels], fc1.bias, fc2.weight [channels, hidden], fc2.bias. */
vt_squeeze_excite vt_squeeze_excite_bind(vt_binder *binder,
                                         const vt_squeeze_excite_settings *settings);

/* Efficient channel attention: parameter conv.weight [1, 1, kernel], kernel odd, as a matrix with a
 * band. */
vt_squeeze_excite vt_channel_conv_gate_bind(vt_binder *binder, int channels, int kernel,
                                            vt_activation gate);

/* x [n,h,w,channels] -> [n,h,w,channels] */
vt_value vt_squeeze_excite_forward(vt_builder *builder, const vt_squeeze_excite *layer, vt_value x);

VT_END_DECLS
#endif
