/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/pattern.h"
#include "ops/ref/ref.h"

/* One token of a window: its pixel index in the map (-1: padding) and its region for the mask. */
typedef struct token {
    int64_t pixel;
    int region;
} token;

static token token_at(const vt_axis *rows, const vt_axis *cols, int64_t zy, int64_t zx)
{
    int64_t y = vt_axis_source(rows, zy), x = vt_axis_source(cols, zx);
    return (token){y < 0 || x < 0 ? -1 : y * cols->size + x,
                   3 * vt_axis_region(rows, zy) + vt_axis_region(cols, zx)};
}

/* The channels of head `head` at `pixel` of image n, or their padding row (NULL: zeros). */
static const float *head_row(const vt_exec *exec, const vt_heads *h, int head, int64_t n,
                             int64_t pixel, const float *pad)
{
    int64_t channel = h->offset + (int64_t)head * h->width;
    if (pixel < 0) {
        return pad ? pad + channel : NULL;
    }
    vt_shape s = vt_exec_shape(exec, h->map);
    return (const float *)vt_exec_map(exec, h->map) + (n * s.h * s.w + pixel) * s.c + channel;
}

static float dot(const float *a, const float *b, int width)
{
    float sum = 0.0f;
    for (int i = 0; a && b && i < width; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static float score(const vt_exec *exec, const vt_attention *p, int head, const float *q,
                   const float *k)
{
    const float *temperature = vt_exec_vector(exec, p->temperature);
    if (!temperature) {
        return p->scale * dot(q, k, p->q.width);
    }
    float q_norm = fmaxf(sqrtf(dot(q, q, p->q.width)), 1e-12f);
    float k_norm = fmaxf(sqrtf(dot(k, k, p->k.width)), 1e-12f);
    return expf(fminf(temperature[head], logf(100.0f))) * dot(q, k, p->q.width) / (q_norm * k_norm);
}

/* dst = sum_j softmax_j(s) v_j for one query of one head; `s` has room for a window of scores. */
static void attend(const vt_exec *exec, const vt_attention *p, int head, int64_t n, int64_t zy,
                   int64_t zx, float *s, float *dst)
{
    vt_shape map = vt_exec_shape(exec, p->k.map);
    const vt_pattern *pat = &p->pattern;
    vt_axis rows = vt_axis_make(map.h, pat->window_h, pat->shift_h, pat->roll);
    vt_axis cols = vt_axis_make(map.w, pat->window_w, pat->shift_w, pat->roll);
    const float *bias = vt_exec_vector(exec, p->bias), *pad = vt_exec_vector(exec, p->pad);
    token query = token_at(&rows, &cols, zy, zx);
    const float *q = head_row(exec, &p->q, head, n, query.pixel, NULL);
    int64_t y0 = zy - zy % pat->window_h, x0 = zx - zx % pat->window_w;
    int64_t table_w = 2 * pat->window_w - 1, table = table_w * (2 * pat->window_h - 1);
    int keys = pat->window_h * pat->window_w;
    float largest = -INFINITY, total = 0.0f;
    for (int j = 0; j < keys; j++) {
        int64_t ky = y0 + j / pat->window_w, kx = x0 + j % pat->window_w;
        token key = token_at(&rows, &cols, ky, kx);
        s[j] = score(exec, p, head, q, head_row(exec, &p->k, head, n, key.pixel, pad));
        if (bias) {
            s[j] += bias[head * table + (ky - zy + pat->window_h - 1) * table_w +
                         (kx - zx + pat->window_w - 1)];
        }
        s[j] += key.region == query.region ? 0.0f : VT_MASK_VALUE;
        largest = fmaxf(largest, s[j]);
    }
    for (int j = 0; j < keys; j++) {
        s[j] = expf(s[j] - largest);
        total += s[j];
    }
    for (int c = 0; c < p->v.width; c++) {
        dst[c] = 0.0f;
    }
    for (int j = 0; j < keys; j++) {
        token key = token_at(&rows, &cols, y0 + j / pat->window_w, x0 + j % pat->window_w);
        const float *v = head_row(exec, &p->v, head, n, key.pixel, pad);
        for (int c = 0; v && c < p->v.width; c++) {
            dst[c] += s[j] / total * v[c];
        }
    }
}

static size_t attention_scratch(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    const vt_pattern *p = &r->as.attention.pattern;
    return (size_t)p->window_h * (size_t)p->window_w * sizeof(float);
}

static void attention_run(const vt_exec *exec, const vt_record *r)
{
    const vt_attention *p = &r->as.attention;
    const vt_pattern *pat = &p->pattern;
    vt_shape s = vt_exec_shape(exec, r->dst);
    vt_axis rows = vt_axis_make(s.h, pat->window_h, pat->shift_h, pat->roll);
    vt_axis cols = vt_axis_make(s.w, pat->window_w, pat->shift_w, pat->roll);
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t zy = 0; zy < rows.padded; zy++) {
            for (int64_t zx = 0; zx < cols.padded; zx++) {
                token query = token_at(&rows, &cols, zy, zx);
                for (int head = 0; query.pixel >= 0 && head < p->heads; head++) {
                    attend(exec, p, head, n, zy, zx, exec->scratch,
                           dst + (n * s.h * s.w + query.pixel) * s.c + head * p->v.width);
                }
            }
        }
    }
}

const vt_impl vt_ref_attention = {
    .name = "ref", .scratch = attention_scratch, .run = attention_run};
