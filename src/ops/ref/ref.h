/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: plain C for every record, f32 maps, one thread. It is the specification that every
 * faster implementation is checked against, so it is written to be read, never tuned. */
#ifndef VT_OPS_REF_H
#define VT_OPS_REF_H

#include "ops/backend.h"

extern const vt_impl vt_ref_linear, vt_ref_conv2d, vt_ref_norm, vt_ref_attention, vt_ref_add,
    vt_ref_space_to_depth, vt_ref_mean_pool, vt_ref_depthwise, vt_ref_affine, vt_ref_mul,
    vt_ref_concat, vt_ref_pool, vt_ref_linear_attention, vt_ref_channel_attention,
    vt_ref_deform_patches;

/* act(x), element-wise, as in vertebra/ops.h. */
float vt_ref_activate(vt_activation act, float x);

/* dst[c] = (x[c] - mean) / sqrt(variance + eps) * scale[c] + shift[c]; scale and shift may be NULL;
 * dst may be x. */
void vt_ref_norm_row(const float *x, int64_t channels, const float *scale, const float *shift,
                     float eps, float *dst);

#endif
