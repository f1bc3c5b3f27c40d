/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/ref/ref.h"

/* Channel c of an image at pixel (y, x), zero outside. */
static float pixel_at(const float *src, vt_shape s, float y, float x, int64_t c)
{
    int64_t row = (int64_t)y, col = (int64_t)x;
    bool inside = row >= 0 && row < s.h && col >= 0 && col < s.w;
    return inside ? src[(row * s.w + col) * s.c + c] : 0.0f;
}

/* Channel c at a place between pixels. */
static float sample(const float *src, vt_shape s, float y, float x, int64_t c)
{
    if (!(y > -1.0f && x > -1.0f && y < (float)s.h && x < (float)s.w)) {
        return 0.0f;
    }
    float top = floorf(y), left = floorf(x), dy = y - top, dx = x - left;
    return (1.0f - dy) * (1.0f - dx) * pixel_at(src, s, top, left, c) +
           (1.0f - dy) * dx * pixel_at(src, s, top, left + 1.0f, c) +
           dy * (1.0f - dx) * pixel_at(src, s, top + 1.0f, left, c) +
           dy * dx * pixel_at(src, s, top + 1.0f, left + 1.0f, c);
}

static void deform_patches_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    const float *src = vt_exec_map(exec, r->source[0]);
    const float *offset = vt_exec_map(exec, r->source[1]);
    float *dst = vt_exec_map(exec, r->dst);
    int kernel = r->as.block;
    for (int64_t i = 0; i < d.n * d.h * d.w; i++) {
        const float *image = src + i / (d.h * d.w) * s.h * s.w * s.c;
        for (int t = 0; t < kernel * kernel; t++, offset += 2) {
            float y = (float)(i / d.w % d.h * kernel + t / kernel) + offset[0];
            float x = (float)(i % d.w * kernel + t % kernel) + offset[1];
            for (int64_t c = 0; c < s.c; c++) {
                *dst++ = sample(image, s, y, x, c);
            }
        }
    }
}

const vt_impl vt_ref_deform_patches = {.name = "ref", .run = deform_patches_run};
