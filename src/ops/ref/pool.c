/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/ref/ref.h"

static float pool_at(const float *src, vt_shape s, const vt_pooling *p, int64_t y, int64_t x,
                     int64_t c)
{
    float sum = 0.0f, largest = -INFINITY;
    for (int64_t sy = y * p->stride - p->pad_top, ky = 0; ky < p->kernel; ky++, sy++) {
        for (int64_t sx = x * p->stride - p->pad_left, kx = 0; kx < p->kernel; kx++, sx++) {
            if (sy >= 0 && sy < s.h && sx >= 0 && sx < s.w) {
                float value = src[(sy * s.w + sx) * s.c + c];
                sum += value;
                largest = fmaxf(largest, value);
            }
        }
    }
    return p->kind == VT_POOL_MAX ? largest : sum / (float)(p->kernel * p->kernel);
}

static void pool_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    const float *src = vt_exec_map(exec, r->source[0]);
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t i = 0; i < d.n * d.h * d.w; i++) {
        const float *image = src + i / (d.h * d.w) * s.h * s.w * s.c;
        for (int64_t c = 0; c < d.c; c++) {
            *dst++ = pool_at(image, s, &r->as.pooling, i / d.w % d.h, i % d.w, c);
        }
    }
}

const vt_impl vt_ref_pool = {.name = "ref", .run = pool_run};
