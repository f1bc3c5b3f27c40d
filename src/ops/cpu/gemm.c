/* SPDX-License-Identifier: Apache-2.0 */
/* dst[M, N] = left[M, K] x weight[N, K]^T with a prologue on the rows of the left operand and an
 * epilogue on the result.
 *
 * The result is cut into tasks of `row tiles x panels`; a task belongs to one thread. It first
 * brings its rows of the left operand into the thread's scratch, where they need work (patches,
 * norm, conversion) or lie badly (rows a multiple of 4096 bytes apart share one set of the L1
 * cache); otherwise they are read where they are. Then, panel by panel, each tile runs the whole
 * depth and is finished while it is in L1. A panel stays in L1 or L2 for all tiles of the task. How
 * the work is cut depends on the threads; what is computed for an element doesn't. */
#include "ops/cpu/gemm.h"

#include <omp.h>
#include <string.h>

#include "core/checked.h"
#include "core/memory.h"

enum {
    BLOCK_BYTES = 256 * 1024, /* of the left operand in one task: stays in L2 */
    MIN_BLOCK_TILES = 4,      /* that share a panel, which may come from memory */
    MAX_BLOCK_TILES = 16,
    MAX_COLUMN_SPLIT = 32
};

/* How a product is cut, and where things lie in a thread's scratch. */
typedef struct gemm_plan {
    int64_t tiles, panels;          /* in all */
    int64_t row_blocks, col_blocks; /* tasks = row_blocks * col_blocks */
    int64_t steps;                  /* of a tile */
    int64_t panel_bytes;
    bool pairs, copies;
    int64_t a_stride; /* bytes */
    int64_t block_rows;
    size_t row_at, tile_at, bias_at, out_at, per_thread;
} gemm_plan;

static int64_t part(int64_t count, int64_t parts, int64_t i)
{
    return count * i / parts;
}

/* Chooses the cut with the shortest time of the slowest thread, in rough cycles. */
static void choose_blocks(const vt_gemm *g, gemm_plan *p, int threads)
{
    bool whole_rows = g->norm_place == VT_NORM_OUTPUT;
    int64_t row_bytes = p->a_stride + (whole_rows ? p->panels * g->kernels->nr * 4 : 0);
    int64_t most = BLOCK_BYTES / (g->kernels->mr * row_bytes);
    most = most < MIN_BLOCK_TILES ? MIN_BLOCK_TILES : most;
    most = most > MAX_BLOCK_TILES ? MAX_BLOCK_TILES : most;
    int64_t least_blocks = vt_div_up(p->tiles, most), best = INT64_MAX;
    for (int64_t split = 1; split <= MAX_COLUMN_SPLIT && split <= p->panels; split++) {
        int64_t blocks = least_blocks;
        while (blocks < p->tiles && blocks * split % threads != 0) {
            blocks++;
        }
        int64_t rows = vt_div_up(p->tiles, blocks) * vt_div_up(g->rows, p->tiles);
        rows = rows < g->rows ? rows : g->rows;
        int64_t cols = vt_div_up(p->panels, split) * g->kernels->nr;
        int64_t rounds = vt_div_up(blocks * split, threads);
        int64_t prologue = p->copies ? 12 * rows : 0, panel_reads = 4 * cols;
        int64_t cost = rounds * (rows * cols + prologue + panel_reads);
        if (cost < best) {
            best = cost;
            p->row_blocks = blocks;
            p->col_blocks = split;
        }
        if (whole_rows) {
            break;
        }
    }
}

static gemm_plan make_plan(const vt_gemm *g, int threads)
{
    const vt_cpu_kernels *k = g->kernels;
    gemm_plan p = {.tiles = vt_div_up(g->rows, k->mr), .panels = vt_panel_count(k, g->cols)};
    p.pairs = vt_panel_pairs(k, g->weight_dtype);
    p.steps = p.pairs ? (g->depth + 1) / 2 : g->depth;
    p.panel_bytes = vt_panel_bytes(k, g->cols ? g->depth : 0, g->weight_dtype);
    int64_t element = p.pairs ? 2 : 4;
    p.a_stride = g->depth * element;
    p.copies = g->row || g->norm_place == VT_NORM_INPUT || g->src_bf16 != p.pairs ||
               (p.pairs && g->depth % 2 != 0) || (g->rows > 1 && p.a_stride % 4096 == 0);
    if (p.copies) {
        int64_t lines = vt_div_up(p.a_stride, VT_ALIGNMENT);
        p.a_stride = (lines | 1) * VT_ALIGNMENT; /* an odd number: rows spread over all sets */
    }
    choose_blocks(g, &p, threads);
    p.block_rows = vt_div_up(p.tiles, p.row_blocks) * k->mr;
    p.block_rows = p.block_rows < g->rows ? p.block_rows : g->rows;
    size_t line = VT_ALIGNMENT, at = p.copies ? (size_t)(p.block_rows * p.a_stride) : 0;
    p.row_at = at;
    at += p.copies ? ((size_t)g->depth * 4 + line - 1) / line * line : 0;
    p.tile_at = at;
    at += (size_t)(k->mr * k->nr) * 4;
    p.bias_at = at;
    at += (size_t)k->nr * 4;
    p.out_at = at;
    at +=
        g->norm_place == VT_NORM_OUTPUT ? (size_t)(p.block_rows * p.panels) * (size_t)k->nr * 4 : 0;
    p.per_thread = at + line; /* so that threads share no line's neighbour */
    return p;
}

size_t vt_gemm_scratch(const vt_gemm *g, int threads)
{
    return make_plan(g, threads).per_thread * (size_t)threads;
}

void vt_gemm_read(const vt_gemm *g, int64_t at, int64_t count, float *out)
{
    if (g->src_bf16) {
        g->kernels->widen((const uint16_t *)g->src + at, count, out);
    } else {
        memcpy(out, (const float *)g->src + at, (size_t)count * sizeof *out);
    }
}

/* Rows [first, first + count) into the block at `a`, ready for the tiles. */
static void fill_block(const vt_gemm *g, const gemm_plan *p, int64_t first, int64_t count, char *a,
                       float *buffer)
{
    const vt_cpu_kernels *k = g->kernels;
    for (int64_t r = 0; r < count; r++, a += p->a_stride) {
        const float *row;
        if (g->row) {
            row = g->row(g, first + r, buffer);
        } else if (g->src_bf16) {
            vt_gemm_read(g, (first + r) * g->depth, g->depth, buffer);
            row = buffer;
        } else {
            row = (const float *)g->src + (first + r) * g->depth;
        }
        float *out = p->pairs ? buffer : (float *)(void *)a;
        if (g->norm_place == VT_NORM_INPUT) {
            k->norm_row(row, g->depth, g->scale, g->shift, g->eps, out);
            row = out;
        }
        if (p->pairs) {
            uint16_t *half = (uint16_t *)(void *)a;
            k->narrow(row, g->depth, half);
            if (g->depth % 2 != 0) {
                half[g->depth] = 0;
            }
        } else if (row != out) {
            memcpy(out, row, (size_t)g->depth * sizeof *out);
        }
    }
}

static void finish_rows(const vt_gemm *g, int64_t row, int64_t rows, int64_t col, int64_t cols,
                        const float *src, int64_t src_stride, vt_activation act)
{
    int64_t at = row * g->cols + col;
    g->kernels->finish(&(vt_cpu_finish){
        .rows = rows,
        .cols = cols,
        .src = src,
        .src_stride = src_stride,
        .act = act,
        .residual = !g->residual       ? NULL
                    : g->residual_bf16 ? (const void *)((const uint16_t *)g->residual + at)
                                       : (const void *)((const float *)g->residual + at),
        .residual_bf16 = g->residual_bf16,
        .gated = g->gated,
        .residual_stride = g->cols,
        .dst = g->dst_bf16 ? (void *)((uint16_t *)g->dst + at) : (void *)((float *)g->dst + at),
        .dst_bf16 = g->dst_bf16,
        .dst_stride = g->cols,
    });
}

static const float no_bias[VT_CPU_MAX_NR];

/* What a thread knows while it works on a task. */
typedef struct gemm_task {
    const vt_gemm *g;
    const gemm_plan *p;
    char *scratch;
    int64_t first_tile, last_tile; /* row tiles [first, last) */
    int64_t first_row, rows;
    const char *a; /* row `first_row` */
} gemm_task;

static int64_t tile_start(const gemm_task *t, int64_t tile)
{
    return part(t->g->rows, t->p->tiles, tile);
}

/* One panel of columns for all row tiles of the task. `next` is the panel that follows, or NULL. */
static void run_panel(const gemm_task *t, int64_t panel, bool new_rows, const char *next)
{
    const vt_gemm *g = t->g;
    const gemm_plan *p = t->p;
    const vt_cpu_kernels *k = g->kernels;
    int64_t col = panel * k->nr, cols = g->cols - col < k->nr ? g->cols - col : k->nr;
    const char *data = (const char *)g->panels + panel * p->panel_bytes;
    bool whole_rows = g->norm_place == VT_NORM_OUTPUT;
    bool direct = cols == k->nr && g->act == VT_ACT_NONE && !whole_rows && !g->dst_bf16 &&
                  !(g->residual && (g->residual_bf16 || g->gated));
    const float *bias = g->bias ? g->bias + col : no_bias;
    if (g->bias && cols < k->nr) {
        float *padded = (float *)(void *)(t->scratch + p->bias_at);
        memset(padded, 0, (size_t)k->nr * sizeof *padded);
        memcpy(padded, bias, (size_t)cols * sizeof *padded);
        bias = padded;
    }
    float *buffer = (float *)(void *)(t->scratch + p->tile_at);
    float *out = (float *)(void *)(t->scratch + p->out_at);
    int64_t out_stride = p->panels * k->nr;
    vt_cpu_tile tile = {.k = p->steps, .a_stride = p->a_stride, .panel = data, .bias = bias};
    int64_t slice = vt_div_up(p->panel_bytes, 4);
    for (int64_t i = t->first_tile; i < t->last_tile; i++) {
        int64_t row = tile_start(t, i), place = i - t->first_tile;
        tile.rows = (int)(tile_start(t, i + 1) - row);
        tile.a = t->a + (row - t->first_row) * p->a_stride;
        if (new_rows && i + 1 < t->last_tile) {
            tile.ahead = (const char *)tile.a + tile.rows * p->a_stride;
            tile.ahead_step = 128;
        } else if (next && place < 4) {
            tile.ahead = next + place * slice;
            tile.ahead_step = 128;
        } else {
            tile.ahead = data;
            tile.ahead_step = 0;
        }
        if (direct) {
            int64_t at = row * g->cols + col;
            tile.residual = g->residual ? (const float *)g->residual + at : NULL;
            tile.residual_stride = tile.c_stride = g->cols * 4;
            tile.c = (float *)g->dst + at;
        } else if (whole_rows) {
            tile.c = out + (row - t->first_row) * out_stride + col;
            tile.c_stride = out_stride * 4;
        } else {
            tile.c = buffer;
            tile.c_stride = k->nr * 4;
        }
        (g->weight_dtype == VT_BF16 ? k->tile_bf16 : k->tile_f32)(&tile);
        if (!direct && !whole_rows) {
            finish_rows(g, row, tile.rows, col, cols, buffer, k->nr, g->act);
        }
    }
}

/* Activation, norm and residual of rows that are complete in the thread's scratch. */
static void finish_whole_rows(const gemm_task *t)
{
    const vt_gemm *g = t->g;
    const vt_cpu_kernels *k = g->kernels;
    float *out = (float *)(void *)(t->scratch + t->p->out_at);
    int64_t stride = t->p->panels * k->nr;
    for (int64_t r = 0; r < t->rows; r++, out += stride) {
        if (g->act != VT_ACT_NONE) {
            k->finish(&(vt_cpu_finish){
                .rows = 1, .cols = g->cols, .src = out, .act = g->act, .dst = out});
        }
        k->norm_row(out, g->cols, g->scale, g->shift, g->eps, out);
        finish_rows(g, t->first_row + r, 1, 0, g->cols, out, stride, VT_ACT_NONE);
    }
}

static void run_task(const vt_gemm *g, const gemm_plan *p, int64_t index, char *scratch)
{
    int64_t row_block = index / p->col_blocks, col_block = index % p->col_blocks;
    gemm_task t = {.g = g, .p = p, .scratch = scratch};
    t.first_tile = part(p->tiles, p->row_blocks, row_block);
    t.last_tile = part(p->tiles, p->row_blocks, row_block + 1);
    t.first_row = tile_start(&t, t.first_tile);
    t.rows = tile_start(&t, t.last_tile) - t.first_row;
    if (p->copies) {
        fill_block(g, p, t.first_row, t.rows, scratch, (float *)(void *)(scratch + p->row_at));
        t.a = scratch;
    } else {
        t.a = (const char *)g->src + t.first_row * p->a_stride;
    }
    int64_t first = part(p->panels, p->col_blocks, col_block);
    int64_t last = part(p->panels, p->col_blocks, col_block + 1);
    for (int64_t i = first; i < last; i++) {
        run_panel(&t, i, i == first && !p->copies,
                  i + 1 < last ? (const char *)g->panels + (i + 1) * p->panel_bytes : NULL);
    }
    if (g->norm_place == VT_NORM_OUTPUT) {
        finish_whole_rows(&t);
    }
}

void vt_gemm_run(const vt_gemm *g, void *scratch, int threads)
{
    gemm_plan p = make_plan(g, threads);
    int64_t tasks = p.row_blocks * p.col_blocks;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < tasks; i++) {
        run_task(g, &p, i, (char *)scratch + p.per_thread * (size_t)omp_get_thread_num());
    }
}
