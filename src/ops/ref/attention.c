/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "ops/pattern.h"
#include "ops/ref/ref.h"

/* One query of one head, and what the score reads. */
typedef struct query {
    const vt_exec *exec;
    const vt_attention *p;
    vt_axis rows, cols;
    int64_t image, y, x;
    int head;
    const float *q;
} query;

/* Key number `index` of a query, rows before columns. */
typedef struct key {
    int64_t pixel; /* -1: outside the map */
    int offset_y, offset_x;
    bool masked;
} key;

static key key_of(const query *u, int index)
{
    vt_axis_key y = vt_axis_key_of(&u->rows, u->y, index / u->cols.span);
    vt_axis_key x = vt_axis_key_of(&u->cols, u->x, index % u->cols.span);
    return (key){y.source < 0 || x.source < 0 ? -1 : y.source * u->cols.keys + x.source, y.offset,
                 x.offset, y.masked || x.masked};
}

/* The channels of the query's head at `pixel`, or their padding row (NULL: zeros). */
static const float *head_row(const query *u, const vt_heads *h, int64_t pixel, const float *pad)
{
    int64_t channel = h->offset + (int64_t)u->head * h->width;
    if (pixel < 0) {
        return pad ? pad + channel : NULL;
    }
    vt_shape s = vt_exec_shape(u->exec, h->map);
    return (const float *)vt_exec_map(u->exec, h->map) + (u->image * s.h * s.w + pixel) * s.c +
           channel;
}

static float dot(const float *a, const float *b, int width)
{
    float sum = 0.0f;
    for (int i = 0; a && b && i < width; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static float score(const query *u, const float *k)
{
    const float *temperature = vt_exec_vector(u->exec, u->p->temperature);
    int width = u->p->q.width;
    if (!temperature) {
        return u->p->scale * dot(u->q, k, width);
    }
    float q_norm = fmaxf(sqrtf(dot(u->q, u->q, width)), 1e-12f);
    float k_norm = fmaxf(sqrtf(dot(k, k, width)), 1e-12f);
    return expf(fminf(temperature[u->head], logf(100.0f))) * dot(u->q, k, width) /
           (q_norm * k_norm);
}

/* What the position of the key adds to its score. */
static float position(const query *u, const key *k)
{
    const float *bias = vt_exec_vector(u->exec, u->p->bias);
    const float *rows = vt_exec_vector(u->exec, u->p->rows);
    const float *cols = vt_exec_vector(u->exec, u->p->cols);
    int64_t table_h = 2 * u->rows.span - 1, table_w = 2 * u->cols.span - 1;
    int width = u->p->q.width;
    float sum = k->masked ? VT_MASK_VALUE : 0.0f;
    if (bias) {
        sum += bias[(u->head * table_h + k->offset_y) * table_w + k->offset_x];
    }
    if (rows && cols) {
        sum += dot(u->q, rows + (int64_t)k->offset_y * width, width) +
               dot(u->q, cols + (int64_t)k->offset_x * width, width);
    }
    return sum;
}

/* dst = sum_j softmax_j(s) v_j; `s` has room for the scores of all keys. */
static void attend(const query *u, float *s, float *dst)
{
    const vt_attention *p = u->p;
    const float *pad = vt_exec_vector(u->exec, p->pad);
    int keys = u->rows.span * u->cols.span;
    float largest = -INFINITY, total = 0.0f;
    for (int j = 0; j < keys; j++) {
        key k = key_of(u, j);
        s[j] = score(u, head_row(u, &p->k, k.pixel, pad)) + position(u, &k);
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
        const float *v = head_row(u, &p->v, key_of(u, j).pixel, pad);
        for (int c = 0; v && c < p->v.width; c++) {
            dst[c] += s[j] / total * v[c];
        }
    }
}

static size_t attention_scratch(const vt_plan_input *in, const vt_record *r)
{
    const vt_attention *p = &r->as.attention;
    vt_shape s = in->program->maps[p->q.map.id].shape, t = in->program->maps[p->k.map.id].shape;
    vt_axis rows = vt_axis_rows(&p->pattern, s.h, t.h), cols = vt_axis_cols(&p->pattern, s.w, t.w);
    return (size_t)rows.span * (size_t)cols.span * sizeof(float);
}

static void attention_run(const vt_exec *exec, const vt_record *r)
{
    const vt_attention *p = &r->as.attention;
    vt_shape s = vt_exec_shape(exec, p->q.map), t = vt_exec_shape(exec, p->k.map);
    query u = {.exec = exec,
               .p = p,
               .rows = vt_axis_rows(&p->pattern, s.h, t.h),
               .cols = vt_axis_cols(&p->pattern, s.w, t.w)};
    float *dst = vt_exec_map(exec, r->dst);
    for (u.image = 0; u.image < s.n; u.image++) {
        for (u.y = 0; u.y < s.h; u.y++) {
            for (u.x = 0; u.x < s.w; u.x++) {
                for (u.head = 0; u.head < p->heads; u.head++, dst += p->v.width) {
                    u.q = head_row(&u, &p->q, u.y * s.w + u.x, NULL);
                    attend(&u, exec->scratch, dst);
                }
            }
        }
    }
}

const vt_impl vt_ref_attention = {
    .name = "ref", .scratch = attention_scratch, .run = attention_run};
