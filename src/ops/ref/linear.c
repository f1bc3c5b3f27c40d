/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "ops/ref/ref.h"

float vt_ref_activate(vt_activation act, float x)
{
    switch (act) {
    case VT_ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case VT_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case VT_ACT_SILU: return x / (1.0f + expf(-x));
    case VT_ACT_RELU: return x > 0.0f ? x : 0.0f;
    case VT_ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
    case VT_ACT_TANH: return tanhf(x);
    case VT_ACT_NONE: break;
    }
    return x;
}

/* row = the patch x patch pixels of image n under output pixel (y, x), zero outside the map */
static void gather_row(const float *src, vt_shape s, int patch, int64_t n, int64_t y, int64_t x,
                       float *row)
{
    for (int dy = 0; dy < patch; dy++) {
        for (int dx = 0; dx < patch; dx++, row += s.c) {
            int64_t sy = y * patch + dy, sx = x * patch + dx;
            if (sy < s.h && sx < s.w) {
                memcpy(row, src + ((n * s.h + sy) * s.w + sx) * s.c, (size_t)s.c * sizeof *row);
            } else {
                memset(row, 0, (size_t)s.c * sizeof *row);
            }
        }
    }
}

static size_t linear_scratch(const vt_plan_input *in, const vt_record *r)
{
    return (size_t)in->weights[r->as.linear.weight.id].cols * sizeof(float);
}

static void linear_run(const vt_exec *exec, const vt_record *r)
{
    const vt_linear *p = &r->as.linear;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    const vt_weight_data *weight = &exec->weights[p->weight.id];
    const float *src = vt_exec_map(exec, r->source[0]), *w = weight->data;
    const float *residual = vt_exec_map(exec, r->source[1]);
    const float *bias = vt_exec_vector(exec, p->bias);
    const float *scale = vt_exec_vector(exec, p->norm.scale);
    const float *shift = vt_exec_vector(exec, p->norm.shift);
    float *row = exec->scratch, *dst = vt_exec_map(exec, r->dst);
    int64_t in = weight->cols, pixel = 0;
    for (int64_t n = 0; n < d.n; n++) {
        for (int64_t y = 0; y < d.h; y++) {
            for (int64_t x = 0; x < d.w; x++, pixel++) {
                gather_row(src, s, p->patch, n, y, x, row);
                if (p->norm_place == VT_NORM_INPUT) {
                    vt_ref_norm_row(row, in, scale, shift, p->norm.eps, row);
                }
                float *out = dst + pixel * d.c;
                for (int64_t o = 0; o < d.c; o++) {
                    float sum = 0.0f;
                    for (int64_t i = 0; i < in; i++) {
                        sum += w[o * in + i] * row[i];
                    }
                    out[o] = vt_ref_activate(p->act, sum + (bias ? bias[o] : 0.0f));
                }
                if (p->norm_place == VT_NORM_OUTPUT) {
                    vt_ref_norm_row(out, d.c, scale, shift, p->norm.eps, out);
                }
                for (int64_t o = 0; residual && o < d.c; o++) {
                    float other = residual[pixel * d.c + o];
                    out[o] = p->gated ? other * out[o] : other + out[o];
                }
            }
        }
    }
}

const vt_impl vt_ref_linear = {.name = "ref", .scratch = linear_scratch, .run = linear_run};
