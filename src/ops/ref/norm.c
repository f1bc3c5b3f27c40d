/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/ref/ref.h"

void vt_ref_norm_row(const float *x, int64_t channels, const float *scale, const float *shift,
                     float eps, float *dst)
{
    float mean = 0.0f, variance = 0.0f;
    for (int64_t c = 0; c < channels; c++) {
        mean += x[c];
    }
    mean /= (float)channels;
    for (int64_t c = 0; c < channels; c++) {
        variance += (x[c] - mean) * (x[c] - mean);
    }
    variance /= (float)channels;
    float inverse = 1.0f / sqrtf(variance + eps);
    for (int64_t c = 0; c < channels; c++) {
        float y = (x[c] - mean) * inverse;
        dst[c] = y * (scale ? scale[c] : 1.0f) + (shift ? shift[c] : 0.0f);
    }
}

static void norm_run(const vt_exec *exec, const vt_record *r)
{
    const vt_norm *p = &r->as.norm;
    vt_shape s = vt_exec_shape(exec, r->dst);
    const float *x = vt_exec_map(exec, r->source[0]);
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t row = 0; row < s.n * s.h * s.w; row++) {
        vt_ref_norm_row(x + row * s.c, s.c, vt_exec_vector(exec, p->scale),
                        vt_exec_vector(exec, p->shift), p->eps, dst + row * s.c);
    }
}

const vt_impl vt_ref_norm = {.name = "ref", .run = norm_run};
