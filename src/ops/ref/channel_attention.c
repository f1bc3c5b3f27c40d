/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/ref/ref.h"

/* The first channel of head `head` at pixel 0 of image n. */
static const float *head_of(const vt_exec *exec, const vt_heads *h, int64_t n, int head)
{
    vt_shape s = vt_exec_shape(exec, h->map);
    const float *map = vt_exec_map(exec, h->map);
    return map + n * s.h * s.w * s.c + h->offset + (int64_t)head * h->width;
}

/* row[d] = softmax_d(scale * sum_n left_n[c] right_n[d]) */
static void weights_of(const vt_exec *exec, const vt_channel_attention *p, int64_t n, int head,
                       int c, double *row)
{
    vt_shape s = vt_exec_shape(exec, p->left.map), t = vt_exec_shape(exec, p->right.map);
    const float *left = head_of(exec, &p->left, n, head),
                *right = head_of(exec, &p->right, n, head);
    double largest = -INFINITY, total = 0.0;
    for (int d = 0; d < p->right.width; d++) {
        row[d] = 0.0;
        for (int64_t i = 0; i < s.h * s.w; i++) {
            row[d] += (double)left[i * s.c + c] * (double)right[i * t.c + d];
        }
        row[d] *= (double)p->scale;
        largest = fmax(largest, row[d]);
    }
    for (int d = 0; d < p->right.width; d++) {
        row[d] = exp(row[d] - largest);
        total += row[d];
    }
    for (int d = 0; d < p->right.width; d++) {
        row[d] /= total;
    }
}

static size_t channel_attention_scratch(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    return (size_t)r->as.channel_attention.right.width * sizeof(double);
}

static void channel_attention_run(const vt_exec *exec, const vt_record *r)
{
    const vt_channel_attention *p = &r->as.channel_attention;
    vt_shape s = vt_exec_shape(exec, r->dst), t = vt_exec_shape(exec, p->value.map);
    double *row = exec->scratch;
    float *dst = vt_exec_map(exec, r->dst);
    int width = p->value.width;
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t c = 0; c < s.c; c++) {
            const float *value = head_of(exec, &p->value, n, (int)(c / width));
            weights_of(exec, p, n, (int)(c / width), (int)(c % width), row);
            for (int64_t i = 0; i < s.h * s.w; i++) {
                double sum = 0.0;
                for (int d = 0; d < width; d++) {
                    sum += row[d] * (double)value[i * t.c + d];
                }
                dst[(n * s.h * s.w + i) * s.c + c] = (float)sum;
            }
        }
    }
}

const vt_impl vt_ref_channel_attention = {
    .name = "ref", .scratch = channel_attention_scratch, .run = channel_attention_run};
