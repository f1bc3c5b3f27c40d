/* SPDX-License-Identifier: Apache-2.0 */
/* The fast implementations, one per kind of record; each serves every record of its kind. */
#ifndef VT_OPS_CPU_CPU_H
#define VT_OPS_CPU_CPU_H

#include "ops/backend.h"

extern const vt_impl vt_cpu_linear, vt_cpu_conv2d, vt_cpu_conv2d_groups, vt_cpu_norm,
    vt_cpu_attention, vt_cpu_summed_attention, vt_cpu_add, vt_cpu_space_to_depth, vt_cpu_mean_pool,
    vt_cpu_depthwise_rows, vt_cpu_affine, vt_cpu_mul, vt_cpu_concat, vt_cpu_pooling,
    vt_cpu_deform_patches;

/* `count` elements from one map to another, whatever their types. */
void vt_cpu_copy(const vt_exec *exec, vt_value from, int64_t from_at, vt_value to, int64_t to_at,
                 int64_t count);

/* vt_backend.peak */
double vt_cpu_peak(const vt_backend *backend, vt_dtype dtype, int threads);

/* vt_backend.copy_rate */
double vt_cpu_copy_rate(const vt_backend *backend, int threads);

#endif
