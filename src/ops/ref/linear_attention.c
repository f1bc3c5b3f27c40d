/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/ref/ref.h"

/* Channel c of head `head` at pixel i of image n. */
static float at(const vt_exec *exec, const vt_heads *h, int64_t n, int head, int64_t i, int c)
{
    vt_shape s = vt_exec_shape(exec, h->map);
    const float *map = vt_exec_map(exec, h->map);
    return map[(n * s.h * s.w + i) * s.c + h->offset + (int64_t)head * h->width + c];
}

/* For one head of one image:
 *   state[c][d] = sum_n relu(k_n[c]) v_n[d],  total[c] = sum_n relu(k_n[c]) */
static void gather_state(const vt_exec *exec, const vt_linear_attention *p, int64_t n, int head,
                         double *state, double *total)
{
    vt_shape s = vt_exec_shape(exec, p->k.map);
    for (int c = 0; c < p->k.width; c++) {
        total[c] = 0.0;
        for (int d = 0; d < p->v.width; d++) {
            state[c * p->v.width + d] = 0.0;
        }
        for (int64_t i = 0; i < s.h * s.w; i++) {
            double k = fmaxf(at(exec, &p->k, n, head, i, c), 0.0f);
            total[c] += k;
            for (int d = 0; d < p->v.width; d++) {
                state[c * p->v.width + d] += k * (double)at(exec, &p->v, n, head, i, d);
            }
        }
    }
}

/* dst = factor * (relu(q_i) S) / max(relu(q_i) . z, floor) */
static void read_state(const vt_exec *exec, const vt_linear_attention *p, int64_t n, int head,
                       int64_t i, const double *state, const double *total, float *dst)
{
    const float *temperature = vt_exec_vector(exec, p->temperature);
    double weight = 0.0;
    for (int c = 0; c < p->q.width; c++) {
        weight += (double)fmaxf(at(exec, &p->q, n, head, i, c), 0.0f) * total[c];
    }
    weight = (temperature ? (double)temperature[head] : 1.0) / fmax(weight, (double)p->floor);
    for (int d = 0; d < p->v.width; d++) {
        double sum = 0.0;
        for (int c = 0; c < p->q.width; c++) {
            sum += (double)fmaxf(at(exec, &p->q, n, head, i, c), 0.0f) * state[c * p->v.width + d];
        }
        dst[d] = (float)(weight * sum);
    }
}

static size_t linear_attention_scratch(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    const vt_linear_attention *p = &r->as.linear_attention;
    return (size_t)p->k.width * ((size_t)p->v.width + 1) * sizeof(double);
}

static void linear_attention_run(const vt_exec *exec, const vt_record *r)
{
    const vt_linear_attention *p = &r->as.linear_attention;
    vt_shape d = vt_exec_shape(exec, r->dst);
    double *total = exec->scratch, *state = total + p->k.width;
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t n = 0; n < d.n; n++) {
        for (int head = 0; head < p->heads; head++) {
            gather_state(exec, p, n, head, state, total);
            for (int64_t i = 0; i < d.h * d.w; i++) {
                read_state(exec, p, n, head, i, state, total,
                           dst + (n * d.h * d.w + i) * d.c + head * p->v.width);
            }
        }
    }
}

const vt_impl vt_ref_linear_attention = {
    .name = "ref", .scratch = linear_attention_scratch, .run = linear_attention_run};
