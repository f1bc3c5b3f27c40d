/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions, dense and depthwise, with what surrounds them at inference folded into weight and
 * bias when they are loaded: batch norms and layer scales cost nothing later. */
#ifndef VERTEBRA_LAYERS_CONV_H
#define VERTEBRA_LAYERS_CONV_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

/* The statistics of y = (x - mean) / sqrt(var + eps) * weight + bias, per channel, to fold. */
typedef struct vt_batch_norm {
    vt_weight weight, bias, mean, var;
    float eps;
} vt_batch_norm;

/* Parameters `name`.weight, `name`.bias, `name`.running_mean, `name`.running_var [channels]. */
vt_batch_norm vt_batch_norm_bind(vt_binder *binder, const char *name, int channels, float eps);

/* The batch norm as an operation of its own, where there is no convolution to fold it into. */
vt_affine vt_batch_norm_affine(vt_binder *binder, const vt_batch_norm *norm, int channels);

/* scale = 1 and no shift, for an activation that follows neither a convolution nor a norm. */
vt_affine vt_identity_affine(vt_binder *binder, int channels);

/* y = act(scale x + shift), recorded as a depthwise convolution of one tap. */
vt_value vt_affine_forward(vt_builder *builder, const vt_affine *affine, vt_value x,
                           vt_activation act);

/* A vector of factors that is only folded into others: a layer scale. */
vt_weight vt_scale_bind(vt_binder *binder, const char *name, int channels);

/* y = gamma * after(conv(before(x))); what is NULL or 0 is left out. Only vt_conv_bind reads the
 * norms: they need not outlive it. */
typedef struct vt_conv_settings {
    int in, out;
    int kernel, stride, dilation; /* 0 counts as 1 */
    int pad;                      /* zeros on each side */
    int pad_to;     /* first pads the bottom and right with zeros to multiples of this; 0: not */
    bool same;      /* pads as TensorFlow's SAME: ceil(size / stride) outputs, the odd zero last */
    bool bias;      /* the file has one */
    bool depthwise; /* in = out, a kernel per channel */
    int groups;     /* of channels that do not mix; 0 counts as 1 */
    const vt_batch_norm *before; /* kernel 1 only: at a border, padding comes between */
    const vt_batch_norm *after;
    vt_weight gamma; /* from vt_scale_bind, or none */
} vt_conv_settings;

typedef struct vt_conv_layer {
    vt_weight weight, bias;
    int kernel, stride, dilation, pad, pad_to, groups;
    bool same, depthwise;
} vt_conv_layer;

/* Parameters `name`.weight [out, in / groups, kernel, kernel] (depthwise [out, 1, kernel, kernel]),
 * `name`.bias [out]. */
vt_conv_layer vt_conv_bind(vt_binder *binder, const char *name, const vt_conv_settings *settings);

/* x [n,h,w,in] -> act(y) [n, (h + padding - dilation (kernel - 1) - 1) div stride + 1, ..., out] */
vt_value vt_conv_forward(vt_builder *builder, const vt_conv_layer *layer, vt_value x,
                         vt_activation act);

VT_END_DECLS
#endif
