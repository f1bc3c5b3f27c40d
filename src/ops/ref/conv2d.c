/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

/* sum over the kernel for output o of pixel (y, x); `w` is the row of o: (ky, kx, in), `src` the
 * first channel of its group, which has `in` of them */
static float conv_at(const float *src, vt_shape s, const vt_conv2d *p, const float *w, int64_t in,
                     int64_t y, int64_t x)
{
    float sum = 0.0f;
    for (int ky = 0; ky < p->kernel_h; ky++) {
        for (int kx = 0; kx < p->kernel_w; kx++, w += in) {
            int64_t sy = y * p->stride_h + (int64_t)ky * p->dilation_h - p->pad_top;
            int64_t sx = x * p->stride_w + (int64_t)kx * p->dilation_w - p->pad_left;
            if (sy < 0 || sy >= s.h || sx < 0 || sx >= s.w) {
                continue;
            }
            for (int64_t i = 0; i < in; i++) {
                sum += w[i] * src[(sy * s.w + sx) * s.c + i];
            }
        }
    }
    return sum;
}

static void conv2d_run(const vt_exec *exec, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    const vt_weight_data *weight = &exec->weights[p->weight.id];
    const float *w = weight->data, *bias = vt_exec_vector(exec, p->bias);
    const float *src = vt_exec_map(exec, r->source[0]);
    float *dst = vt_exec_map(exec, r->dst);
    int groups = p->groups > 1 ? p->groups : 1;
    int64_t in = s.c / groups, out = d.c / groups;
    for (int64_t n = 0; n < d.n; n++) {
        const float *image = src + n * s.h * s.w * s.c;
        for (int64_t y = 0; y < d.h; y++) {
            for (int64_t x = 0; x < d.w; x++) {
                for (int64_t o = 0; o < d.c; o++) {
                    float sum = conv_at(image + o / out * in, s, p, w + o * weight->cols, in, y, x);
                    *dst++ = vt_ref_activate(p->act, sum + (bias ? bias[o] : 0.0f));
                }
            }
        }
    }
}

const vt_impl vt_ref_conv2d = {.name = "ref", .run = conv2d_run};
