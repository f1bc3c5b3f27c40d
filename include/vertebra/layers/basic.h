/* SPDX-License-Identifier: Apache-2.0 */
/* Linear map and layer norm with their parameters, which lie below the current scope and `name`. */
#ifndef VERTEBRA_LAYERS_BASIC_H
#define VERTEBRA_LAYERS_BASIC_H

#include "vertebra/backbone.h"

VT_BEGIN_DECLS

/* y[n,h,w,:] = act(weight x[n,h,w,:] + bias);  `name`.weight [out, in], `name`.bias [out] */
typedef struct vt_linear_layer {
    vt_weight weight, bias;
} vt_linear_layer;

vt_linear_layer vt_linear_bind(vt_binder *binder, const char *name, int in, int out, bool bias);
vt_value vt_linear_forward(vt_builder *builder, const vt_linear_layer *layer, vt_value x,
                           vt_activation act);

/* LayerNorm over channels, for vt_op_norm;  `name`.weight [channels], `name`.bias [channels] */
vt_norm vt_norm_bind(vt_binder *binder, const char *name, int channels, float eps);

VT_END_DECLS
#endif
