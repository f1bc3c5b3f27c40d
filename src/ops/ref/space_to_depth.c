/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

static void space_to_depth_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    const float *src = vt_exec_map(exec, r->source[0]);
    float *dst = vt_exec_map(exec, r->dst);
    int block = r->as.block;
    for (int64_t pixel = 0; pixel < d.n * d.h * d.w; pixel++) {
        int64_t x = pixel % d.w, y = pixel / d.w % d.h, n = pixel / (d.w * d.h);
        for (int64_t c = 0; c < d.c; c++) {
            int64_t place = c / s.c, sy = y * block + place / block, sx = x * block + place % block;
            bool inside = sy < s.h && sx < s.w;
            *dst++ = inside ? src[((n * s.h + sy) * s.w + sx) * s.c + c % s.c] : 0.0f;
        }
    }
}

const vt_impl vt_ref_space_to_depth = {.name = "ref", .run = space_to_depth_run};
