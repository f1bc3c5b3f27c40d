/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention under a window pattern, on NHWC maps as they lie:
 *   dst_i = sum_j softmax_j(score(q_i, k_j) + bias[j - i] + mask[i, j]) v_j
 *
 * One item is one head of one window. Its rows of q (scaled), k (transposed into panels) and v are
 * gathered into the thread's scratch; then, for a tile of queries at a time, the tile kernel makes
 * the scores with the bias table as its residual, rows are exponentiated in place, the tile kernel
 * multiplies by v, and real tokens are written to their pixels, divided by their sums. Nothing is
 * as large as the map. Items are numbered head first, and a thread takes runs of them, so that the
 * bias table of a head, unfolded to [query][key], serves all its windows in a run. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "core/memory.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"
#include "ops/pattern.h"

enum { RUNS_PER_THREAD = 4 };
#define NO_KEY (-1e30f) /* bias of the columns that fill up the last panel */

/* Sizes, and where things lie in scratch: first what all threads share, then a part per thread. */
typedef struct window_plan {
    const vt_cpu_kernels *kernels;
    vt_axis rows, cols;
    int64_t keys, key_columns; /* tokens of a window; the same filled up to panels */
    int64_t key_rows;          /* filled up to vectors */
    int64_t value_panels;
    int64_t windows_w, windows; /* of one image */
    int64_t items;
    size_t source_at, region_at;              /* shared: int64, int32 per padded row and column */
    size_t q_at, k_at, kt_at, v_at, table_at; /* per thread */
    size_t score_at, out_at, pixel_at, token_region_at;
    size_t shared, per_thread;
} window_plan;

static size_t take(size_t *at, int64_t count, size_t size)
{
    size_t here = *at;
    *at += ((size_t)count * size + VT_ALIGNMENT - 1) / VT_ALIGNMENT * VT_ALIGNMENT;
    return here;
}

static window_plan make_plan(const vt_cpu_kernels *k, const vt_program *program,
                             const vt_attention *p)
{
    vt_shape s = program->maps[p->q.map.id].shape;
    const vt_pattern *pat = &p->pattern;
    window_plan w = {.kernels = k};
    w.rows = vt_axis_make(s.h, pat->window_h, pat->shift_h, pat->roll);
    w.cols = vt_axis_make(s.w, pat->window_w, pat->shift_w, pat->roll);
    w.keys = (int64_t)pat->window_h * pat->window_w;
    w.key_columns = vt_div_up(w.keys, k->nr) * k->nr;
    w.key_rows = vt_div_up(w.keys, k->lanes) * k->lanes;
    w.value_panels = vt_div_up(p->v.width, k->nr);
    w.windows_w = w.cols.padded / pat->window_w;
    w.windows = w.rows.padded / pat->window_h * w.windows_w;
    w.items = p->heads * s.n * w.windows;
    w.source_at = take(&w.shared, w.rows.padded + w.cols.padded, sizeof(int64_t));
    w.region_at = take(&w.shared, w.rows.padded + w.cols.padded, sizeof(int32_t));
    w.q_at = take(&w.per_thread, w.keys * p->q.width, sizeof(float));
    w.k_at = take(&w.per_thread, w.key_rows * p->k.width, sizeof(float));
    w.kt_at = take(&w.per_thread, w.key_columns * p->k.width, sizeof(float));
    w.v_at = take(&w.per_thread, w.keys * w.value_panels * k->nr, sizeof(float));
    w.table_at = take(&w.per_thread, w.keys * w.key_columns, sizeof(float));
    w.score_at = take(&w.per_thread, k->mr * w.key_columns, sizeof(float));
    w.out_at = take(&w.per_thread, k->mr * w.value_panels * k->nr, sizeof(float));
    w.pixel_at = take(&w.per_thread, w.keys, sizeof(int64_t));
    w.token_region_at = take(&w.per_thread, w.key_columns, sizeof(int32_t));
    w.per_thread += VT_ALIGNMENT;
    return w;
}

static size_t attention_scratch(const vt_plan_input *in, const vt_record *r)
{
    window_plan w = make_plan(vt_cpu_kernels_of(in->backend), in->program, &r->as.attention);
    return w.shared + w.per_thread * (size_t)in->threads;
}

/* What one thread works with. */
typedef struct worker {
    const vt_exec *exec;
    const vt_attention *p;
    const window_plan *w;
    vt_value dst;
    const int64_t *row_source, *col_source; /* map coordinate of a padded one, or -1 */
    const int32_t *row_region, *col_region;
    float *q, *k, *kt, *v, *table, *score, *out;
    int64_t *pixel;       /* of each token of the window, or -1 */
    int32_t *region;      /* of each token, for the mask */
    bool masked;          /* this window has more than one region */
    const float *pad;     /* rows of k and v outside the map, or NULL */
    const float *biases;  /* the record's table, or NULL */
    const float *temperature;
} worker;

static worker make_worker(const vt_exec *exec, const vt_record *r, const window_plan *w, int thread)
{
    const vt_attention *p = &r->as.attention;
    char *shared = exec->scratch, *own = shared + w->shared + w->per_thread * (size_t)thread;
    worker t = {.exec = exec, .p = p, .w = w, .dst = r->dst};
    t.row_source = (const int64_t *)(void *)(shared + w->source_at);
    t.col_source = t.row_source + w->rows.padded;
    t.row_region = (const int32_t *)(void *)(shared + w->region_at);
    t.col_region = t.row_region + w->rows.padded;
    t.q = (float *)(void *)(own + w->q_at);
    t.k = (float *)(void *)(own + w->k_at);
    t.kt = (float *)(void *)(own + w->kt_at);
    t.v = (float *)(void *)(own + w->v_at);
    t.table = (float *)(void *)(own + w->table_at);
    t.score = (float *)(void *)(own + w->score_at);
    t.out = (float *)(void *)(own + w->out_at);
    t.pixel = (int64_t *)(void *)(own + w->pixel_at);
    t.region = (int32_t *)(void *)(own + w->token_region_at);
    t.pad = vt_exec_vector(exec, p->pad);
    t.biases = vt_exec_vector(exec, p->bias);
    t.temperature = vt_exec_vector(exec, p->temperature);
    /* what fills up vectors and panels is never written again */
    memset(t.k, 0, (size_t)(w->key_rows * p->k.width) * sizeof *t.k);
    memset(t.kt, 0, (size_t)(w->key_columns * p->k.width) * sizeof *t.kt);
    memset(t.v, 0, (size_t)(w->keys * w->value_panels * w->kernels->nr) * sizeof *t.v);
    memset(t.region, 0, (size_t)w->key_columns * sizeof *t.region);
    return t;
}

static void fill_axis(const vt_axis *axis, int64_t *source, int32_t *region)
{
    for (int64_t z = 0; z < axis->padded; z++) {
        source[z] = vt_axis_source(axis, z);
        region[z] = vt_axis_region(axis, z);
    }
}

/* table[i][j] = bias of key j for query i */
static void unfold_bias(const worker *t, int head)
{
    const vt_pattern *pat = &t->p->pattern;
    int64_t width = 2 * pat->window_w - 1, height = 2 * pat->window_h - 1;
    const float *bias = t->biases ? t->biases + head * width * height : NULL;
    float *row = t->table;
    for (int64_t i = 0; i < t->w->keys; i++, row += t->w->key_columns) {
        int64_t y = i / pat->window_w, x = i % pat->window_w;
        for (int64_t ky = 0; ky < pat->window_h; ky++) {
            for (int64_t kx = 0; kx < pat->window_w; kx++) {
                row[ky * pat->window_w + kx] =
                    bias ? bias[(ky - y + pat->window_h - 1) * width + kx - x + pat->window_w - 1]
                         : 0.0f;
            }
        }
        for (int64_t j = t->w->keys; j < t->w->key_columns; j++) {
            row[j] = NO_KEY;
        }
    }
}

static void find_tokens(worker *t, int64_t window)
{
    const vt_pattern *pat = &t->p->pattern;
    int64_t y0 = window / t->w->windows_w * pat->window_h;
    int64_t x0 = window % t->w->windows_w * pat->window_w;
    int64_t i = 0;
    t->masked = false;
    for (int64_t y = y0; y < y0 + pat->window_h; y++) {
        int64_t sy = t->row_source[y];
        for (int64_t x = x0; x < x0 + pat->window_w; x++, i++) {
            int64_t sx = t->col_source[x];
            t->pixel[i] = sy < 0 || sx < 0 ? -1 : sy * t->w->cols.size + sx;
            t->region[i] = 3 * t->row_region[y] + t->col_region[x];
            t->masked |= t->region[i] != t->region[0];
        }
    }
}

/* out[i][count] = channels [channel, channel + count) of token i; `pad` or zeros outside the map */
static void gather(const worker *t, vt_value map, int64_t image, int64_t channel, int64_t count,
                   const float *pad, float *out, int64_t stride)
{
    vt_shape s = vt_exec_shape(t->exec, map);
    bool bf16 = vt_map_is_bf16(t->exec->program, map);
    const void *data = vt_exec_map(t->exec, map);
    int64_t first = image * s.h * s.w * s.c + channel;
    size_t bytes = (size_t)count * sizeof *out;
    for (int64_t i = 0; i < t->w->keys; i++, out += stride) {
        int64_t at = first + t->pixel[i] * s.c;
        if (t->pixel[i] < 0) {
            if (pad) {
                memcpy(out, pad + channel, bytes);
            } else {
                memset(out, 0, bytes);
            }
        } else if (bf16) {
            t->w->kernels->widen((const uint16_t *)data + at, count, out);
        } else {
            memcpy(out, (const float *)data + at, bytes);
        }
    }
}

/* Multiplies each row by `factor`, and for the cosine score also by 1 / max(|row|, 1e-12). */
static void scale_rows(const worker *t, float *rows, int64_t width, float factor)
{
    const vt_cpu_kernels *k = t->w->kernels;
    for (int64_t i = 0; i < t->w->keys; i++, rows += width) {
        float f = factor;
        if (t->temperature) {
            f /= fmaxf(sqrtf(k->square_sum(rows, width)), 1e-12f);
        }
        k->scale(rows, width, f, rows);
    }
}

static void load_window(worker *t, int head, int64_t image)
{
    const vt_attention *p = t->p;
    const vt_cpu_kernels *k = t->w->kernels;
    float factor = t->temperature ? expf(fminf(t->temperature[head], logf(100.0f))) : p->scale;
    gather(t, p->q.map, image, p->q.offset + (int64_t)head * p->q.width, p->q.width, NULL, t->q,
           p->q.width);
    scale_rows(t, t->q, p->q.width, factor);
    gather(t, p->k.map, image, p->k.offset + (int64_t)head * p->k.width, p->k.width, t->pad, t->k,
           p->k.width);
    if (t->temperature) {
        scale_rows(t, t->k, p->k.width, 1.0f);
    }
    k->transpose(t->k, p->k.width, t->w->keys, p->k.width, t->kt);
    for (int64_t i = 0; i < t->w->value_panels; i++) {
        int64_t done = i * k->nr, left = p->v.width - done;
        gather(t, p->v.map, image, p->v.offset + (int64_t)head * p->v.width + done,
               left < k->nr ? left : k->nr, t->pad, t->v + i * t->w->keys * k->nr, k->nr);
    }
}

static const float no_bias[VT_CPU_MAX_NR];

/* c[rows][panels * nr] = a[rows][depth] x panels + residual, residual laid out like c */
static void product(const vt_cpu_kernels *k, int rows, int64_t depth, const float *a,
                    int64_t a_stride, const float *panels, int64_t count, const float *residual,
                    float *c)
{
    for (int64_t i = 0; i < count; i++) {
        const float *panel = panels + i * depth * k->nr;
        k->tile_f32(&(vt_cpu_tile){.rows = rows,
                                   .k = depth,
                                   .a = a,
                                   .a_stride = a_stride * 4,
                                   .panel = panel,
                                   .bias = no_bias,
                                   .residual = residual ? residual + i * k->nr : NULL,
                                   .residual_stride = count * k->nr * 4,
                                   .c = c + i * k->nr,
                                   .c_stride = count * k->nr * 4,
                                   .ahead = (const char *)panel});
    }
}

/* Writes the real tokens among rows [first, first + rows) of the window. */
static void store_rows(const worker *t, int head, int64_t image, int64_t first, int rows,
                       const float *inverse)
{
    const vt_cpu_kernels *k = t->w->kernels;
    vt_shape s = vt_exec_shape(t->exec, t->dst);
    int64_t width = t->p->v.width, stride = t->w->value_panels * k->nr;
    void *dst = vt_exec_map(t->exec, t->dst);
    for (int r = 0; r < rows; r++) {
        int64_t pixel = t->pixel[first + r];
        int64_t at = (image * s.h * s.w + pixel) * s.c + head * width;
        float *row = t->out + r * stride;
        if (pixel < 0) {
            continue;
        }
        if (vt_map_is_bf16(t->exec->program, t->dst)) {
            k->scale(row, width, inverse[r], row);
            k->narrow(row, width, (uint16_t *)dst + at);
        } else {
            k->scale(row, width, inverse[r], (float *)dst + at);
        }
    }
}

static void run_window(const worker *t, int head, int64_t image)
{
    const vt_cpu_kernels *k = t->w->kernels;
    const window_plan *w = t->w;
    int64_t tiles = vt_div_up(w->keys, k->mr), q_width = t->p->q.width;
    for (int64_t i = 0; i < tiles; i++) {
        int64_t first = w->keys * i / tiles;
        int rows = (int)(w->keys * (i + 1) / tiles - first);
        float inverse[VT_CPU_MAX_MR];
        product(k, rows, q_width, t->q + first * q_width, q_width, t->kt, w->key_columns / k->nr,
                t->table + first * w->key_columns, t->score);
        for (int r = 0; r < rows; r++) {
            inverse[r] = k->softmax_row(t->score + r * w->key_columns, w->key_columns,
                                        t->masked ? t->region : NULL, t->region[first + r]);
        }
        product(k, rows, w->keys, t->score, w->key_columns, t->v, w->value_panels, NULL, t->out);
        store_rows(t, head, image, first, rows, inverse);
    }
}

static void attention_run(const vt_exec *exec, const vt_record *r)
{
    const vt_attention *p = &r->as.attention;
    const window_plan w = make_plan(vt_cpu_kernels_of(exec->backend), exec->program, p);
    int64_t *source = (int64_t *)(void *)((char *)exec->scratch + w.source_at);
    int32_t *region = (int32_t *)(void *)((char *)exec->scratch + w.region_at);
    fill_axis(&w.rows, source, region);
    fill_axis(&w.cols, source + w.rows.padded, region + w.rows.padded);
    int64_t runs = exec->threads == 1 ? 1 : exec->threads * RUNS_PER_THREAD;
    runs = runs < w.items ? runs : w.items;
    int64_t per_head = w.items / p->heads;
#pragma omp parallel num_threads(exec->threads)
    {
        worker t = make_worker(exec, r, &w, omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
        for (int64_t run = 0; run < runs; run++) {
            int unfolded = -1;
            for (int64_t i = w.items * run / runs; i < w.items * (run + 1) / runs; i++) {
                int head = (int)(i / per_head);
                if (head != unfolded) {
                    unfold_bias(&t, head);
                    unfolded = head;
                }
                find_tokens(&t, i % per_head % w.windows);
                load_window(&t, head, i % per_head / w.windows);
                run_window(&t, head, i % per_head / w.windows);
            }
        }
    }
}

const vt_impl vt_cpu_attention = {
    .name = "windows", .scratch = attention_scratch, .run = attention_run};
