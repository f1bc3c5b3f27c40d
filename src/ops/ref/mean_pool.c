/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

static void mean_pool_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]);
    const float *src = vt_exec_map(exec, r->source[0]);
    float *dst = vt_exec_map(exec, r->dst);
    int64_t pixels = s.h * s.w;
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t c = 0; c < s.c; c++) {
            double sum = 0.0;
            for (int64_t i = 0; i < pixels; i++) {
                sum += (double)src[(n * pixels + i) * s.c + c];
            }
            dst[n * s.c + c] = (float)(sum / (double)pixels);
        }
    }
}

const vt_impl vt_ref_mean_pool = {.name = "ref", .run = mean_pool_run};
