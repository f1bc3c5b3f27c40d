/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention under a window pattern, on NHWC maps as they lie:
 *   dst_i = sum_j softmax_j(score(q_i, k_j) + bias[j - i] + mask[i, j]) v_j
 *
 * One item is one head of one window. Its rows of k (transposed into panels) and v are gathered
 * into the thread's scratch; then, for a tile of queries at a time, the tile kernel makes the
 * scores with the bias table as its residual, rows are exponentiated in place, the tile kernel
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
    int64_t value_panels;
    int64_t windows_w, windows; /* of one image */
    int64_t items;
    size_t source_at, region_at; /* shared: int64, int32 per padded row and column */
    size_t q_at, strip_at, kt_at, v_at, table_at; /* per thread */
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
    w.rows = vt_axis_rows(pat, s.h, s.h);
    w.cols = vt_axis_cols(pat, s.w, s.w);
    w.keys = (int64_t)pat->window_h * pat->window_w;
    w.key_columns = vt_div_up(w.keys, k->nr) * k->nr;
    w.value_panels = vt_div_up(p->v.width, k->nr);
    w.windows_w = w.cols.padded / pat->window_w;
    w.windows = w.rows.padded / pat->window_h * w.windows_w;
    w.items = p->heads * s.n * w.windows;
    w.source_at = take(&w.shared, w.rows.padded + w.cols.padded, sizeof(int64_t));
    w.region_at = take(&w.shared, w.rows.padded + w.cols.padded, sizeof(int32_t));
    w.q_at = take(&w.per_thread, k->mr * p->q.width, sizeof(float));
    w.strip_at = take(&w.per_thread, k->lanes * p->k.width, sizeof(float));
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

/* One head of one window of one image. */
typedef struct window {
    int head;
    int64_t image;
    int64_t *pixel;  /* of each token, or -1 */
    int32_t *region; /* of each token, for the mask */
    bool masked;     /* there is more than one region */
} window;

/* What one thread works with. */
typedef struct worker {
    const vt_exec *exec;
    const vt_attention *p;
    const window_plan *w;
    vt_value dst;
    const int64_t *row_source, *col_source; /* map coordinate of a padded one, or -1 */
    const int32_t *row_region, *col_region;
    float *q, *strip, *kt, *v, *table, *score, *out;
    window now;
    const float *pad;    /* rows of k and v outside the map, or NULL */
    const float *biases; /* the record's table, or NULL */
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
    t.strip = (float *)(void *)(own + w->strip_at);
    t.kt = (float *)(void *)(own + w->kt_at);
    t.v = (float *)(void *)(own + w->v_at);
    t.table = (float *)(void *)(own + w->table_at);
    t.score = (float *)(void *)(own + w->score_at);
    t.out = (float *)(void *)(own + w->out_at);
    t.now.pixel = (int64_t *)(void *)(own + w->pixel_at);
    t.now.region = (int32_t *)(void *)(own + w->token_region_at);
    t.pad = vt_exec_vector(exec, p->pad);
    t.biases = vt_exec_vector(exec, p->bias);
    t.temperature = vt_exec_vector(exec, p->temperature);
    /* what fills up vectors and panels is never written again */
    memset(t.strip, 0, (size_t)(w->kernels->lanes * p->k.width) * sizeof *t.strip);
    memset(t.kt, 0, (size_t)(w->key_columns * p->k.width) * sizeof *t.kt);
    memset(t.v, 0, (size_t)(w->keys * w->value_panels * w->kernels->nr) * sizeof *t.v);
    memset(t.now.region, 0, (size_t)w->key_columns * sizeof *t.now.region);
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

static void find_tokens(const worker *t, int64_t item, window *found)
{
    const vt_pattern *pat = &t->p->pattern;
    int64_t per_head = t->w->items / t->p->heads, index = item % per_head % t->w->windows;
    int64_t y0 = index / t->w->windows_w * pat->window_h;
    int64_t x0 = index % t->w->windows_w * pat->window_w;
    found->head = (int)(item / per_head);
    found->image = item % per_head / t->w->windows;
    found->masked = false;
    int64_t i = 0;
    for (int64_t y = y0; y < y0 + pat->window_h; y++) {
        int64_t sy = t->row_source[y];
        for (int64_t x = x0; x < x0 + pat->window_w; x++, i++) {
            int64_t sx = t->col_source[x];
            found->pixel[i] = sy < 0 || sx < 0 ? -1 : sy * t->w->cols.keys + sx;
            found->region[i] = 3 * t->row_region[y] + t->col_region[x];
            found->masked |= found->region[i] != found->region[0];
        }
    }
}

/* out[i][count] = channels [channel, channel + count) of tokens [first, first + tokens) of the
 * window, times `factor`; outside the map `pad` or zeros */
static void gather(const worker *t, const vt_heads *h, int64_t channel, int64_t first,
                   int64_t tokens, int64_t count, const float *pad, float factor, float *out,
                   int64_t stride)
{
    vt_shape s = vt_exec_shape(t->exec, h->map);
    t->w->kernels->gather(&(vt_cpu_rows){.map = vt_exec_map(t->exec, h->map),
                                         .bf16 = vt_map_is_bf16(t->exec->program, h->map),
                                         .pixel = t->now.pixel + first,
                                         .rows = tokens,
                                         .width = count,
                                         .first = t->now.image * s.h * s.w * s.c + channel,
                                         .step = s.c,
                                         .pad = pad ? pad + channel : NULL,
                                         .block = out,
                                         .block_stride = stride,
                                         .factor = factor});
}

/* Cosine score: rows[i] *= factor / max(|rows[i]|, 1e-12). */
static void normalise_rows(const worker *t, float *rows, int64_t count, int64_t width, float factor)
{
    const vt_cpu_kernels *k = t->w->kernels;
    for (int64_t i = 0; i < count; i++, rows += width) {
        k->scale(rows, width, factor / fmaxf(sqrtf(k->square_sum(rows, width)), 1e-12f), rows);
    }
}

/* Queries [first, first + count), with the factor of the score in them. */
static void load_queries(const worker *t, int64_t first, int64_t count)
{
    const vt_heads *h = &t->p->q;
    gather(t, h, h->offset + (int64_t)t->now.head * h->width, first, count, h->width, NULL,
           t->temperature ? 1.0f : t->p->scale, t->q, h->width);
    if (t->temperature) {
        normalise_rows(t, t->q, count, h->width,
                       expf(fminf(t->temperature[t->now.head], logf(100.0f))));
    }
}

/* k transposed into panels [width][nr], a strip of keys at a time, and v as it is. */
static void load_keys(const worker *t)
{
    const vt_cpu_kernels *k = t->w->kernels;
    const vt_heads *h = &t->p->k, *v = &t->p->v;
    int64_t keys = t->w->keys;
    for (int64_t i = 0; i < keys; i += k->lanes) {
        int64_t count = keys - i < k->lanes ? keys - i : k->lanes;
        gather(t, h, h->offset + (int64_t)t->now.head * h->width, i, count, h->width, t->pad, 1.0f,
               t->strip, h->width);
        if (t->temperature) {
            normalise_rows(t, t->strip, count, h->width, 1.0f);
        }
        k->transpose(t->strip, h->width, h->width, t->kt + i / k->nr * k->nr * h->width + i % k->nr,
                     k->nr);
    }
    for (int64_t i = 0; i < t->w->value_panels; i++) {
        int64_t done = i * k->nr, left = v->width - done;
        gather(t, v, v->offset + (int64_t)t->now.head * v->width + done, 0, keys,
               left < k->nr ? left : k->nr, t->pad, 1.0f, t->v + i * keys * k->nr, k->nr);
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

/* Asks for the lines that scatter will write: stores that wait for their lines hold up those that
 * follow them. */
static void claim_rows(const vt_cpu_rows *out)
{
    int64_t element = out->bf16 ? 2 : 4;
    for (int64_t i = 0; i < out->rows; i++) {
        if (out->pixel[i] >= 0) {
            const char *row =
                (const char *)out->map + (out->first + out->pixel[i] * out->step) * element;
            for (int64_t at = 0; at < out->width * element; at += VT_ALIGNMENT) {
                __builtin_prefetch(row + at, 1, 3);
            }
        }
    }
}

static void run_window(const worker *t)
{
    const vt_cpu_kernels *k = t->w->kernels;
    const window_plan *w = t->w;
    vt_shape s = vt_exec_shape(t->exec, t->dst);
    int64_t tiles = vt_div_up(w->keys, k->mr), q_width = t->p->q.width;
    float inverse[VT_CPU_MAX_MR];
    vt_cpu_rows out = {.map = vt_exec_map(t->exec, t->dst),
                       .bf16 = vt_map_is_bf16(t->exec->program, t->dst),
                       .width = t->p->v.width,
                       .first =
                           t->now.image * s.h * s.w * s.c + (int64_t)t->now.head * t->p->v.width,
                       .step = s.c,
                       .block = t->out,
                       .block_stride = w->value_panels * k->nr,
                       .factors = inverse};
    for (int64_t i = 0; i < tiles; i++) {
        int64_t first = w->keys * i / tiles;
        int rows = (int)(w->keys * (i + 1) / tiles - first);
        out.pixel = t->now.pixel + first;
        out.rows = rows;
        claim_rows(&out);
        load_queries(t, first, rows);
        product(k, rows, q_width, t->q, q_width, t->kt, w->key_columns / k->nr,
                t->table + first * w->key_columns, t->score);
        k->softmax_rows(t->score, rows, w->key_columns, t->now.masked ? t->now.region : NULL,
                        t->now.region + first, inverse);
        product(k, rows, w->keys, t->score, w->key_columns, t->v, w->value_panels, NULL, t->out);
        k->scatter(&out);
    }
}

static void run_items(worker *t, int64_t first, int64_t last)
{
    int unfolded = -1;
    for (int64_t i = first; i < last; i++) {
        find_tokens(t, i, &t->now);
        if (t->now.head != unfolded) {
            unfold_bias(t, t->now.head);
            unfolded = t->now.head;
        }
        load_keys(t);
        run_window(t);
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
#pragma omp parallel num_threads(exec->threads)
    {
        worker t = make_worker(exec, r, &w, omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < runs; i++) {
            run_items(&t, w.items * i / runs, w.items * (i + 1) / runs);
        }
    }
}

static const char *attention_refuse(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    const vt_attention *p = &r->as.attention;
    if (p->pattern.kind != VT_PATTERN_WINDOW && p->pattern.kind != VT_PATTERN_GRID) {
        return "the pattern is not made of windows";
    }
    return p->rows.id ? "positions depend on the query" : NULL;
}

const vt_impl vt_cpu_attention = {.refuse = attention_refuse,
                                  .name = "windows",
                                  .scratch = attention_scratch,
                                  .run = attention_run};
