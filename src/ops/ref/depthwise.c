/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

/* sum over the kernel for channel c of pixel (y, x); `w` is [kernel_h * kernel_w, channels] */
static float depthwise_at(const float *src, vt_shape s, const vt_conv2d *p, const float *w,
                          int64_t y, int64_t x, int64_t c)
{
    float sum = 0.0f;
    for (int ky = 0; ky < p->kernel_h; ky++) {
        for (int kx = 0; kx < p->kernel_w; kx++, w += s.c) {
            int64_t sy = y * p->stride_h + (int64_t)ky * p->dilation_h - p->pad_top;
            int64_t sx = x * p->stride_w + (int64_t)kx * p->dilation_w - p->pad_left;
            if (sy >= 0 && sy < s.h && sx >= 0 && sx < s.w) {
                sum += w[c] * src[(sy * s.w + sx) * s.c + c];
            }
        }
    }
    return sum;
}

static void depthwise_run(const vt_exec *exec, const vt_record *r)
{
    const vt_depthwise *p = &r->as.depthwise;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    const float *w = vt_exec_vector(exec, p->conv.weight);
    const float *bias = vt_exec_vector(exec, p->conv.bias);
    const float *scale = vt_exec_vector(exec, p->affine.scale);
    const float *shift = vt_exec_vector(exec, p->affine.shift);
    const float *src = vt_exec_map(exec, r->source[0]);
    const float *residual = vt_exec_map(exec, r->source[1]);
    float *dst = vt_exec_map(exec, r->dst);
    int64_t pixels = d.n * d.h * d.w;
    for (int64_t i = 0; i < pixels; i++) {
        const float *image = src + i / (d.h * d.w) * s.h * s.w * s.c;
        for (int64_t c = 0; c < d.c; c++) {
            float sum = depthwise_at(image, s, &p->conv, w, i / d.w % d.h, i % d.w, c);
            float value = vt_ref_activate(p->conv.act, sum + (bias ? bias[c] : 0.0f));
            value = scale ? value * scale[c] + (shift ? shift[c] : 0.0f) : value;
            dst[i * d.c + c] = value + (residual ? residual[i * d.c + c] : 0.0f);
        }
    }
}

const vt_impl vt_ref_depthwise = {.name = "ref", .run = depthwise_run};
