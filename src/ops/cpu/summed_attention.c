/* SPDX-License-Identifier: Apache-2.0 */
/* The attentions that sum all tokens of an image up to a small matrix per head: linear attention
 * and attention among channels. Both are
 *   M[i][j] = sum_n left_n[i] right_n[j],  dst_n[i] = factor_n sum_j P[i][j] read_n[j]
 *   linear: left = v and a channel of ones, right = relu(k), read = relu(q), P = M,
 *           factor_n = temperature / max(read_n . M[ones], floor)
 *   among channels: read = value, P = softmax_j(scale * M), factor = 1.
 *
 * An image is cut into parts whose number depends on its size alone: the threads share out heads
 * and parts and sum each up, a block of pixels at a time, with `left` transposed and `right` in
 * panels; then they share out the heads, add the parts in order and make panels of P; then heads
 * and runs of pixels. */
#include <omp.h>

#include "core/checked.h"
#include "core/memory.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/heads.h"

enum {
    BLOCK = 256,       /* pixels at a time: multiple of a vector */
    LEFT_STRIDE = 272, /* of the transposed rows: not all in the same sets of the L1 cache */
    PART_LEAST = 512,  /* pixels */
    PARTS_MOST = 16
};

/* The record, sizes, and where things lie in scratch: for all threads, then a part per thread. */
typedef struct sums_plan {
    const vt_cpu_kernels *kernels;
    int heads;
    vt_heads left, right, read;
    bool linear;
    float scale, floor;
    vt_weight temperature;
    int64_t pixels, parts;
    int64_t rows, padded_rows; /* of M, and rounded up to vectors */
    int64_t row_panels, col_panels;
    int64_t stride, matrix; /* floats of a row and of all of M */
    size_t sums_at, panels_at, shared;
    size_t strip_at, left_at, right_at, read_at, out_at, pixel_at, per_thread;
} sums_plan;

static void fill_plan(sums_plan *w, const vt_cpu_kernels *k, const vt_program *program)
{
    vt_shape s = program->maps[w->left.map.id].shape;
    int64_t widest = w->left.width > w->right.width ? w->left.width : w->right.width;
    size_t *at = &w->per_thread, f = sizeof(float);
    w->kernels = k;
    w->pixels = s.h * s.w;
    w->parts = vt_div_up(w->pixels, PART_LEAST);
    w->parts = w->parts < PARTS_MOST ? w->parts : PARTS_MOST;
    w->rows = w->left.width + w->linear;
    w->padded_rows = vt_div_up(w->rows, k->lanes) * k->lanes;
    w->row_panels = vt_div_up(w->left.width, k->nr);
    w->col_panels = vt_div_up(w->right.width, k->nr);
    w->stride = w->col_panels * k->nr;
    w->matrix = w->padded_rows * w->stride;
    w->sums_at = vt_cpu_take(&w->shared, w->heads * w->parts * w->matrix, f);
    w->panels_at = vt_cpu_take(&w->shared, w->heads * w->row_panels * w->right.width * k->nr, f);
    w->strip_at = vt_cpu_take(at, k->lanes * widest, f);
    w->left_at = vt_cpu_take(at, w->rows * LEFT_STRIDE, f);
    w->right_at = vt_cpu_take(at, BLOCK * w->stride, f);
    w->read_at = vt_cpu_take(at, k->mr * w->read.width, f);
    w->out_at = vt_cpu_take(at, k->mr * w->row_panels * k->nr, f);
    w->pixel_at = vt_cpu_take(at, BLOCK, sizeof(int64_t));
    w->per_thread += VT_ALIGNMENT;
}

static sums_plan make_plan(const vt_cpu_kernels *k, const vt_program *program, const vt_record *r)
{
    sums_plan w = {.linear = r->kind == VT_OP_LINEAR_ATTENTION};
    if (w.linear) {
        const vt_linear_attention *p = &r->as.linear_attention;
        w.heads = p->heads;
        w.left = p->v;
        w.right = p->k;
        w.read = p->q;
        w.floor = p->floor;
        w.temperature = p->temperature;
    } else {
        const vt_channel_attention *p = &r->as.channel_attention;
        w.heads = p->heads;
        w.left = p->left;
        w.right = p->right;
        w.read = p->value;
        w.scale = p->scale;
    }
    fill_plan(&w, k, program);
    return w;
}

static size_t summed_scratch(const vt_plan_input *in, const vt_record *r)
{
    sums_plan w = make_plan(vt_cpu_kernels_of(in->backend), in->program, r);
    return w.shared + w.per_thread * (size_t)in->threads;
}

/* What one thread works with. */
typedef struct worker {
    const vt_exec *exec;
    const sums_plan *w;
    vt_value dst;
    int64_t image;
    float *sums, *panels; /* of all heads */
    float *strip, *left, *right, *read, *out;
    int64_t *pixel;
} worker;

static worker make_worker(const vt_exec *exec, const vt_record *r, const sums_plan *w, int thread)
{
    char *shared = exec->scratch, *own = shared + w->shared + w->per_thread * (size_t)thread;
    worker t = {.exec = exec, .w = w, .dst = r->dst};
    t.sums = vt_cpu_place(shared, w->sums_at);
    t.panels = vt_cpu_place(shared, w->panels_at);
    t.strip = vt_cpu_place(own, w->strip_at);
    t.left = vt_cpu_place(own, w->left_at);
    t.right = vt_cpu_place(own, w->right_at);
    t.read = vt_cpu_place(own, w->read_at);
    t.out = vt_cpu_place(own, w->out_at);
    t.pixel = vt_cpu_place(own, w->pixel_at);
    /* what fills up vectors and panels is never written again */
    memset(t.strip, 0, w->left_at - w->strip_at);
    memset(t.right, 0, w->read_at - w->right_at);
    for (int64_t i = 0; w->linear && i < LEFT_STRIDE; i++) {
        t.left[w->left.width * LEFT_STRIDE + i] = 1.0f;
    }
    return t;
}

/* Numbers the pixels [first, first + count). */
static void list_pixels(const worker *t, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        t->pixel[i] = first + i;
    }
}

/* The rows of a head at the listed pixels, from channel `skip` of it on. */
static vt_cpu_rows head_rows(const worker *t, const vt_heads *h, int head, int64_t skip,
                             int64_t width)
{
    vt_cpu_rows rows = vt_cpu_head_rows(t->exec, h, t->image,
                                        h->offset + (int64_t)head * h->width + skip, t->pixel);
    rows.width = width;
    return rows;
}

static void load_block(const worker *t, int head, int64_t count)
{
    const vt_cpu_kernels *k = t->w->kernels;
    const vt_heads *h = &t->w->left, *other = &t->w->right;
    vt_cpu_rows rows = head_rows(t, h, head, 0, h->width);
    rows.block = t->strip;
    rows.block_stride = h->width;
    for (int64_t i = 0; i < count; i += k->lanes, rows.pixel += k->lanes) {
        rows.rows = count - i < k->lanes ? count - i : k->lanes;
        k->gather(&rows);
        k->transpose(t->strip, h->width, h->width, t->left + i, LEFT_STRIDE);
    }
    for (int64_t i = 0; i < t->w->col_panels; i++) {
        int64_t done = i * k->nr, left = other->width - done;
        rows = head_rows(t, other, head, done, left < k->nr ? left : k->nr);
        rows.rows = count;
        rows.block = t->right + done * BLOCK;
        rows.block_stride = k->nr;
        rows.relu = t->w->linear;
        k->gather(&rows);
    }
}

/* The sums of one part of the image, for one head. */
static void sum_part(const worker *t, int head, int64_t part)
{
    const sums_plan *w = t->w;
    int64_t mr = w->kernels->mr, tiles = vt_div_up(w->rows, mr);
    int64_t start = w->pixels * part / w->parts, end = w->pixels * (part + 1) / w->parts;
    float *sums = t->sums + (head * w->parts + part) * w->matrix;
    for (int64_t first = start; first < end; first += BLOCK) {
        int64_t count = end - first < BLOCK ? end - first : BLOCK;
        list_pixels(t, first, count);
        load_block(t, head, count);
        for (int64_t i = 0; i < tiles; i++) {
            int64_t row = w->rows * i / tiles, next = w->rows * (i + 1) / tiles;
            float *c = sums + row * w->stride;
            vt_cpu_multiply_panels(w->kernels,
                                   &(vt_cpu_product){.rows = (int)(next - row),
                                                     .depth = count,
                                                     .a = t->left + row * LEFT_STRIDE,
                                                     .a_stride = LEFT_STRIDE,
                                                     .panels = t->right,
                                                     .panel_step = BLOCK * w->kernels->nr,
                                                     .cols = w->stride,
                                                     .residual = first > start ? c : NULL,
                                                     .residual_stride = w->stride,
                                                     .c = c,
                                                     .c_stride = w->stride});
        }
    }
}

/* rows[i] = softmax(scale * rows[i]) */
static void weigh_channels(const worker *t, float *sums)
{
    const sums_plan *w = t->w;
    const vt_cpu_kernels *k = w->kernels;
    float top[VT_CPU_MAX_MR], total[VT_CPU_MAX_MR];
    for (int64_t first = 0; first < w->rows; first += k->mr) {
        int64_t count = w->rows - first < k->mr ? w->rows - first : k->mr;
        float *rows = sums + first * w->stride;
        k->scale(rows, count * w->stride, w->scale, rows);
        for (int64_t i = 0; i < count; i++) {
            for (int64_t j = w->right.width; j < w->stride; j++) {
                rows[i * w->stride + j] = VT_CPU_UNSEEN;
            }
        }
        k->softmax_rows(&(vt_cpu_softmax){.scores = rows,
                                          .rows = count,
                                          .n = w->stride,
                                          .stride = w->stride,
                                          .top = top,
                                          .sum = total});
        for (int64_t i = 0; i < count; i++) {
            k->scale(rows + i * w->stride, w->stride, 1.0f / total[i], rows + i * w->stride);
        }
    }
}

/* Adds up the parts of a head and makes panels of P: panels[.][j][i] = P[i][j]. */
static void finish_sums(const worker *t, int head)
{
    const sums_plan *w = t->w;
    const vt_cpu_kernels *k = w->kernels;
    int64_t width = w->right.width, depth = width * k->nr;
    float *sums = t->sums + head * w->parts * w->matrix;
    float *panels = t->panels + head * w->row_panels * depth;
    for (int64_t part = 1; part < w->parts; part++) {
        k->add(sums, sums + part * w->matrix, w->rows * w->stride, sums);
    }
    memset(sums + w->rows * w->stride, 0,
           (size_t)((w->padded_rows - w->rows) * w->stride) * sizeof *sums);
    if (!w->linear) {
        weigh_channels(t, sums);
    }
    memset(panels, 0, (size_t)(w->row_panels * depth) * sizeof *panels);
    for (int64_t i = 0; i < w->left.width; i += k->lanes) {
        k->transpose(sums + i * w->stride, w->stride, width, panels + i / k->nr * depth + i % k->nr,
                     k->nr);
    }
}

/* A tile of pixels from number `first` of the list on. */
static void read_tile(const worker *t, int head, int64_t first, int count)
{
    const sums_plan *w = t->w;
    const vt_cpu_kernels *k = w->kernels;
    const float *temperature = vt_exec_vector(t->exec, w->temperature);
    int64_t width = w->read.width, depth = width * k->nr;
    float factors[VT_CPU_MAX_MR];
    vt_heads to = {.map = t->dst, .width = w->left.width};
    vt_cpu_rows rows = head_rows(t, &w->read, head, 0, width);
    vt_cpu_rows out = head_rows(t, &to, head, 0, to.width);
    rows.pixel = out.pixel = t->pixel + first;
    rows.rows = out.rows = count;
    rows.block = t->read;
    rows.block_stride = width;
    rows.relu = w->linear;
    out.block = t->out;
    out.block_stride = w->row_panels * k->nr;
    out.factors = factors;
    vt_cpu_claim_rows(&out);
    k->gather(&rows);
    for (int i = 0; i < count; i++) {
        factors[i] = 1.0f;
    }
    if (w->linear) {
        const float *ones = t->sums + head * w->parts * w->matrix + w->left.width * w->stride;
        k->weigh(&(vt_cpu_weigh){.block = t->read,
                                 .rows = count,
                                 .width = width,
                                 .weights = ones,
                                 .numerator = temperature ? temperature[head] : 1.0f,
                                 .floor = w->floor,
                                 .factors = factors});
    }
    vt_cpu_multiply_panels(k, &(vt_cpu_product){.rows = count,
                                                .depth = width,
                                                .a = t->read,
                                                .a_stride = width,
                                                .panels = t->panels + head * w->row_panels * depth,
                                                .panel_step = depth,
                                                .cols = out.block_stride,
                                                .c = t->out,
                                                .c_stride = out.block_stride});
    k->scatter(&out);
}

static void read_block(const worker *t, int head, int64_t first)
{
    const sums_plan *w = t->w;
    int64_t count = w->pixels - first < BLOCK ? w->pixels - first : BLOCK;
    int64_t tiles = vt_div_up(count, w->kernels->mr);
    list_pixels(t, first, count);
    for (int64_t i = 0; i < tiles; i++) {
        int64_t at = count * i / tiles;
        read_tile(t, head, at, (int)(count * (i + 1) / tiles - at));
    }
}

static void summed_run(const vt_exec *exec, const vt_record *r)
{
    const sums_plan w = make_plan(vt_cpu_kernels_of(exec->backend), exec->program, r);
    int64_t images = vt_exec_shape(exec, r->dst).n, blocks = vt_div_up(w.pixels, BLOCK);
#pragma omp parallel num_threads(exec->threads)
    {
        worker t = make_worker(exec, r, &w, omp_get_thread_num());
        for (t.image = 0; t.image < images; t.image++) {
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < w.heads * w.parts; i++) {
                sum_part(&t, (int)(i / w.parts), i % w.parts);
            }
#pragma omp for schedule(static)
            for (int head = 0; head < w.heads; head++) {
                finish_sums(&t, head);
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t i = 0; i < w.heads * blocks; i++) {
                read_block(&t, (int)(i / blocks), i % blocks * BLOCK);
            }
        }
    }
}

const vt_impl vt_cpu_summed_attention = {
    .name = "sums", .scratch = summed_scratch, .run = summed_run};
