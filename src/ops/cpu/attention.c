/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention under any pattern, on NHWC maps as they lie:
 *   dst_i = sum_j softmax_j(score(q_i, k_j) + positions[i, j] + mask[i, j]) v_j
 *
 * One item is one head of one group of queries of one image, or a chunk of a large group. The rows
 * of k (transposed into panels) and v that the group meets are gathered into the thread's scratch,
 * a block of key rows at a time; then, for a tile of queries, the tile kernel makes the scores with
 * what positions add as its residual, rows are exponentiated in place, the tile kernel multiplies
 * by v, and the tokens are written to their pixels, divided by their sums. Where keys come in
 * several blocks, a running maximum and sum per query and its unfinished result are carried from
 * block to block. Nothing is as large as the map.
 *
 * NEIGHBORHOOD: the queries of a group see different parts of the box of its keys. A tile of whole
 * rows of queries meets only the rows of keys that one of them sees; what a query does not see
 * among those is left out by its position.
 *
 * Items are numbered head first, groups of one shape together, and a thread takes runs of them, so
 * that the positions of a shape, unfolded to [query][key], serve many groups. */
#include <math.h>
#include <omp.h>

#include "core/memory.h"
#include "ops/cpu/attention_groups.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/heads.h"

enum {
    RUNS_PER_THREAD = 4,
    GROUP_ROWS = 8,    /* NEIGHBORHOOD: rows of queries in a group */
    BLOCK_KEYS = 256,  /* about so many at a time: they stay in L2, their scores in L1 */
    CHUNK_MOST = 640,  /* queries of an item */
    CHUNK_LEAST = 112, /* that are worth gathering the keys for */
};

/* Sizes, and where things lie in scratch: first what all threads share, then a part per thread. */
typedef struct attention_plan {
    const vt_cpu_kernels *kernels;
    vt_axis_groups rows, cols;
    int64_t groups;                  /* of one image */
    int64_t chunks, chunk_queries;   /* of a group; the most queries in one */
    int64_t block_rows, blocks;      /* of keys */
    int64_t block_keys, key_columns; /* the most keys of a block; the same filled up to panels */
    int64_t value_panels;
    int64_t row_panels, col_panels; /* of the tables of rows and columns */
    int64_t items;
    bool tabled, relative;
    size_t group_at, query_at, key_at, order_at, rel_at; /* shared */
    size_t q_at, strip_at, kt_at, v_at, bias_at, table_at, score_at, along_at, across_at, out_at;
    size_t state_at, query_pixel_at, key_pixel_at, query_region_at, key_region_at, fill_at;
    size_t shared, per_thread;
} attention_plan;

/* From a row of scores to the next, in floats: an odd number of lines, so that the rows of a tile
 * spread over the sets of the L1 cache. */
static int64_t row_stride(int64_t columns)
{
    const int64_t line = VT_ALIGNMENT / (int64_t)sizeof(float);
    return (vt_div_up(columns, line) | 1) * line;
}

static void place_shared(attention_plan *w, const vt_attention *p)
{
    int64_t queries = w->rows.groups * w->rows.most_queries + w->cols.groups * w->cols.most_queries;
    int64_t keys = w->rows.groups * w->rows.most_keys + w->cols.groups * w->cols.most_keys;
    w->group_at = vt_cpu_take(&w->shared, w->rows.groups + w->cols.groups, sizeof(vt_axis_group));
    w->query_at = vt_cpu_take(&w->shared, queries, sizeof(vt_group_query));
    w->key_at = vt_cpu_take(&w->shared, keys, sizeof(vt_group_key));
    w->order_at = vt_cpu_take(&w->shared, 2 * w->groups, sizeof(int64_t));
    w->rel_at = vt_cpu_take(
        &w->shared, (w->row_panels + w->col_panels) * w->kernels->nr * p->q.width, sizeof(float));
}

static void place_own(attention_plan *w, const vt_attention *p)
{
    const vt_cpu_kernels *k = w->kernels;
    size_t *at = &w->per_thread, f = sizeof(float);
    int64_t slack = k->lanes, columns = w->key_columns, stride = row_stride(columns);
    int64_t values = w->value_panels * k->nr;
    int64_t table_h = 2 * w->rows.axis.span - 1, table_w = 2 * w->cols.axis.span - 1;
    w->q_at = vt_cpu_take(at, k->mr * p->q.width, f);
    w->strip_at = vt_cpu_take(at, k->lanes * p->k.width, f);
    w->kt_at = vt_cpu_take(at, columns * p->k.width, f);
    w->v_at = vt_cpu_take(at, w->block_keys * values, f);
    w->bias_at = vt_cpu_take(at, w->tabled ? table_h * table_w + slack : 0, f);
    w->table_at = vt_cpu_take(at, w->tabled ? w->chunk_queries * w->blocks * stride + slack : 0, f);
    w->score_at = vt_cpu_take(at, k->mr * stride + slack, f);
    w->along_at = vt_cpu_take(at, k->mr * w->row_panels * k->nr, f);
    w->across_at = vt_cpu_take(at, k->mr * w->col_panels * k->nr + slack, f);
    w->out_at = vt_cpu_take(at, (w->blocks > 1 ? w->chunk_queries : k->mr) * values, f);
    w->state_at = vt_cpu_take(at, 2 * (w->blocks > 1 ? w->chunk_queries : k->mr), f);
    w->query_pixel_at = vt_cpu_take(at, w->chunk_queries, sizeof(int64_t));
    w->key_pixel_at = vt_cpu_take(at, w->block_keys, sizeof(int64_t));
    w->query_region_at = vt_cpu_take(at, w->chunk_queries, sizeof(int32_t));
    w->key_region_at = vt_cpu_take(at, columns, sizeof(int32_t));
    w->fill_at = vt_cpu_take(at, k->nr, f);
    w->per_thread += VT_ALIGNMENT;
}

/* Large groups are cut where that keeps scratch small or gives every thread something to do. */
static void cut_groups(attention_plan *w, int64_t per_group, int threads)
{
    int64_t queries = w->rows.most_queries * w->cols.most_queries;
    w->chunks = vt_div_up(queries, CHUNK_MOST);
    while (per_group * w->groups * w->chunks < RUNS_PER_THREAD * threads &&
           queries > CHUNK_LEAST * w->chunks) {
        w->chunks++;
    }
    w->chunk_queries = vt_div_up(queries, w->chunks);
    w->items = per_group * w->groups * w->chunks;
}

static attention_plan make_plan(const vt_cpu_kernels *k, const vt_program *program,
                                const vt_attention *p, int threads)
{
    vt_shape s = program->maps[p->q.map.id].shape, t = program->maps[p->k.map.id].shape;
    attention_plan w = {.kernels = k};
    int64_t group_cols = k->mr > 8 ? k->mr / 2 : k->mr; /* one row or two fill a tile */
    w.rows = vt_axis_groups_of(vt_axis_rows(&p->pattern, s.h, t.h), GROUP_ROWS);
    w.cols = vt_axis_groups_of(vt_axis_cols(&p->pattern, s.w, t.w), group_cols);
    w.groups = w.rows.groups * w.cols.groups;
    w.blocks = vt_div_up(w.rows.most_keys * w.cols.most_keys, BLOCK_KEYS);
    w.block_rows = vt_div_up(w.rows.most_keys, w.blocks);
    w.blocks = vt_div_up(w.rows.most_keys, w.block_rows);
    w.block_keys = w.block_rows * w.cols.most_keys;
    w.key_columns = vt_div_up(w.block_keys, k->nr) * k->nr;
    w.value_panels = vt_div_up(p->v.width, k->nr);
    w.relative = p->rows.id > 0;
    w.row_panels = w.relative ? vt_div_up(2 * w.rows.axis.span - 1, k->nr) : 0;
    w.col_panels = w.relative ? vt_div_up(2 * w.cols.axis.span - 1, k->nr) : 0;
    w.tabled = p->bias.id > 0 || p->pattern.kind == VT_PATTERN_NEIGHBORHOOD;
    cut_groups(&w, p->heads * s.n, threads);
    place_shared(&w, p);
    place_own(&w, p);
    return w;
}

static size_t attention_scratch(const vt_plan_input *in, const vt_record *r)
{
    attention_plan w =
        make_plan(vt_cpu_kernels_of(in->backend), in->program, &r->as.attention, in->threads);
    return w.shared + w.per_thread * (size_t)in->threads;
}

/* One item: queries [first, last) of a group, counted row by row, for one head of one image. */
typedef struct item {
    int head;
    int64_t image, chunk, first, last;
    const vt_axis_group *rows, *cols;
    bool masked; /* there is more than one region */
} item;

/* A block of keys: rows [first, last) of the group's. */
typedef struct key_block {
    int64_t index, first, last;
    int64_t keys, columns; /* how many; filled up to panels */
} key_block;

/* What one thread works with. */
typedef struct worker {
    const vt_exec *exec;
    const vt_attention *p;
    const attention_plan *w;
    vt_value dst;
    const vt_axis_group *row_groups, *col_groups;
    const int64_t *order; /* pairs of row group and column group */
    const float *rel;     /* panels of the tables of rows, then of columns */
    float *q, *strip, *kt, *v, *bias, *table, *score, *along, *across, *out, *top, *sum, *fill;
    int64_t *query_pixel, *key_pixel; /* of a chunk, of a block; or -1 */
    int32_t *query_region, *key_region;
    vt_cpu_rows from, to; /* the queries and results of the item */
    item now, unfolded;   /* whose positions are in the table */
    const float *pad;     /* rows of k and v outside the map, or NULL */
    const float *biases;  /* the record's table, or NULL */
    const float *temperature;
} worker;

static void place_buffers(worker *t, char *own)
{
    const attention_plan *w = t->w;
    t->q = vt_cpu_place(own, w->q_at);
    t->strip = vt_cpu_place(own, w->strip_at);
    t->kt = vt_cpu_place(own, w->kt_at);
    t->v = vt_cpu_place(own, w->v_at);
    t->bias = vt_cpu_place(own, w->bias_at);
    t->table = vt_cpu_place(own, w->table_at);
    t->score = vt_cpu_place(own, w->score_at);
    t->along = vt_cpu_place(own, w->along_at);
    t->across = vt_cpu_place(own, w->across_at);
    t->out = vt_cpu_place(own, w->out_at);
    t->top = vt_cpu_place(own, w->state_at);
    t->sum = t->top + (w->blocks > 1 ? w->chunk_queries : w->kernels->mr);
    t->query_pixel = vt_cpu_place(own, w->query_pixel_at);
    t->key_pixel = vt_cpu_place(own, w->key_pixel_at);
    t->query_region = vt_cpu_place(own, w->query_region_at);
    t->key_region = vt_cpu_place(own, w->key_region_at);
    t->fill = vt_cpu_place(own, w->fill_at);
}

static worker make_worker(const vt_exec *exec, const vt_record *r, const attention_plan *w,
                          int thread)
{
    const vt_attention *p = &r->as.attention;
    char *shared = exec->scratch;
    worker t = {.exec = exec, .p = p, .w = w, .dst = r->dst, .unfolded.head = -1};
    t.row_groups = vt_cpu_place(shared, w->group_at);
    t.col_groups = t.row_groups + w->rows.groups;
    t.order = vt_cpu_place(shared, w->order_at);
    t.rel = vt_cpu_place(shared, w->rel_at);
    place_buffers(&t, shared + w->shared + w->per_thread * (size_t)thread);
    t.pad = vt_exec_vector(exec, p->pad);
    t.biases = vt_exec_vector(exec, p->bias);
    t.temperature = vt_exec_vector(exec, p->temperature);
    /* vectors and panels are filled up with what is here or was a key once: finite numbers */
    memset(t.strip, 0, (size_t)(w->kernels->lanes * p->k.width) * sizeof *t.strip);
    memset(t.kt, 0, (size_t)(w->key_columns * p->k.width) * sizeof *t.kt);
    memset(t.v, 0, (size_t)(w->block_keys * w->value_panels * w->kernels->nr) * sizeof *t.v);
    memset(t.key_region, 0, (size_t)w->key_columns * sizeof *t.key_region);
    if (w->tabled) {
        memset(t.bias, 0, w->table_at - w->bias_at);
    }
    return t;
}

/* ---- what all threads share ------------------------------------------------------------------ */

/* rel[i][c][j] = table[i * nr + j][c] */
static void pack_positions(const vt_cpu_kernels *k, const float *table, int64_t count,
                           int64_t width, int64_t panels, float *rel)
{
    for (int64_t i = 0; i < panels * k->nr; i++) {
        float *out = rel + i / k->nr * k->nr * width + i % k->nr;
        for (int64_t c = 0; c < width; c++) {
            out[c * k->nr] = i < count ? table[i * width + c] : 0.0f;
        }
    }
}

static void order_groups(const attention_plan *w, const vt_axis_group *groups, int64_t row_shapes,
                         int64_t col_shapes, int64_t *order)
{
    const vt_axis_group *cols = groups + w->rows.groups;
    for (int64_t shape = 0; shape < row_shapes * col_shapes; shape++) {
        for (int64_t y = 0; y < w->rows.groups; y++) {
            for (int64_t x = 0; x < w->cols.groups; x++) {
                if (groups[y].shape * col_shapes + cols[x].shape == shape) {
                    *order++ = y;
                    *order++ = x;
                }
            }
        }
    }
}

static void prepare(const vt_exec *exec, const vt_attention *p, const attention_plan *w)
{
    char *scratch = exec->scratch;
    vt_axis_group *groups = vt_cpu_place(scratch, w->group_at);
    vt_group_query *query = vt_cpu_place(scratch, w->query_at);
    vt_group_key *key = vt_cpu_place(scratch, w->key_at);
    for (int64_t i = 0; i < w->rows.groups + w->cols.groups; i++) {
        const vt_axis_groups *axis = i < w->rows.groups ? &w->rows : &w->cols;
        groups[i].query = query;
        groups[i].key = key;
        query += axis->most_queries;
        key += axis->most_keys;
    }
    int64_t row_shapes = vt_axis_groups_fill(&w->rows, groups);
    int64_t col_shapes = vt_axis_groups_fill(&w->cols, groups + w->rows.groups);
    order_groups(w, groups, row_shapes, col_shapes, vt_cpu_place(scratch, w->order_at));
    if (w->relative) {
        float *rel = vt_cpu_place(scratch, w->rel_at);
        pack_positions(w->kernels, vt_exec_vector(exec, p->rows), 2 * w->rows.axis.span - 1,
                       p->q.width, w->row_panels, rel);
        pack_positions(w->kernels, vt_exec_vector(exec, p->cols), 2 * w->cols.axis.span - 1,
                       p->q.width, w->col_panels,
                       rel + w->row_panels * w->kernels->nr * p->q.width);
    }
}

/* ---- one item -------------------------------------------------------------------------------- */

/* Queries share tiles and chunks by rows where they see different rows of keys. */
static int64_t tile_unit(const worker *t)
{
    bool near = t->p->pattern.kind == VT_PATTERN_NEIGHBORHOOD;
    return near && t->now.cols->queries <= t->w->kernels->mr ? t->now.cols->queries : 1;
}

/* Pixels and, where there is a mask, regions of the item's queries. */
static void find_queries(const worker *t)
{
    const item now = t->now; /* what is stored below can't change it */
    const vt_group_query *cols = now.cols->query;
    const int64_t width = vt_exec_shape(t->exec, t->dst).w, columns = now.cols->queries;
    int64_t *pixel = t->query_pixel, y = now.first / columns, x = now.first % columns;
    int32_t *region = t->query_region;
    for (int64_t left = now.last - now.first; left > 0; y++, x = 0) {
        const vt_group_query row = now.rows->query[y];
        int64_t count = columns - x < left ? columns - x : left;
        for (int64_t i = 0; i < count; i++) {
            pixel[i] = row.source * width + cols[x + i].source;
        }
        for (int64_t i = 0; now.masked && i < count; i++) {
            region[i] = 3 * row.region + cols[x + i].region;
        }
        pixel += count;
        region += count;
        left -= count;
    }
}

/* What the rows of all tiles have in common. */
static void find_rows(worker *t)
{
    const vt_heads *q = &t->p->q, dst = {.map = t->dst};
    int64_t head = t->now.head, values = t->p->v.width;
    t->from = vt_cpu_head_rows(t->exec, q, t->now.image, q->offset + head * q->width, NULL);
    t->from.width = t->from.block_stride = q->width;
    t->from.block = t->q;
    t->from.factor = t->temperature || t->w->relative ? 1.0f : t->p->scale;
    t->to = vt_cpu_head_rows(t->exec, &dst, t->now.image, head * values, NULL);
    t->to.width = values;
    t->to.block_stride = t->w->value_panels * t->w->kernels->nr;
}

/* Starts item number `index`; false if there is nothing in it. */
static bool find_item(worker *t, int64_t index)
{
    const attention_plan *w = t->w;
    item *now = &t->now;
    int64_t per_head = w->items / t->p->heads, rest = index % per_head;
    const int64_t *group = t->order + 2 * (rest % w->groups);
    now->head = (int)(index / per_head);
    now->image = rest / (w->groups * w->chunks);
    now->chunk = rest / w->groups % w->chunks;
    now->rows = &t->row_groups[group[0]];
    now->cols = &t->col_groups[group[1]];
    now->masked = now->rows->mixed || now->cols->mixed;
    int64_t columns = now->cols->queries, queries = now->rows->queries * columns;
    if (queries == 0) {
        return false;
    }
    int64_t unit = tile_unit(t), units = queries / unit;
    now->first = units * now->chunk / w->chunks * unit;
    now->last = units * (now->chunk + 1) / w->chunks * unit;
    find_queries(t);
    find_rows(t);
    return now->first < now->last;
}

/* The first column of the panel that holds column j. */
static int64_t panel_start(const worker *t, int64_t j)
{
    return j & -(int64_t)t->w->kernels->nr;
}

/* Columns that fill whole panels. */
static int64_t columns_of(const worker *t, int64_t keys)
{
    return panel_start(t, keys + t->w->kernels->nr - 1);
}

static key_block find_keys(const worker *t, int64_t index)
{
    const vt_axis_group *rows = t->now.rows, *cols = t->now.cols;
    key_block b = {.index = index, .first = index * t->w->block_rows};
    b.last = b.first + t->w->block_rows < rows->keys ? b.first + t->w->block_rows : rows->keys;
    b.keys = (b.last - b.first) * cols->keys;
    b.columns = columns_of(t, b.keys);
    const int64_t width = vt_exec_shape(t->exec, t->p->k.map).w, count = cols->keys;
    const vt_group_key *key = cols->key;
    int64_t *pixel = t->key_pixel;
    int32_t *region = t->key_region;
    for (int64_t y = b.first; y < b.last; y++, pixel += count) {
        const vt_group_key row = rows->key[y];
        for (int64_t x = 0; x < count; x++) {
            int64_t source = key[x].source;
            pixel[x] = row.source < 0 || source < 0 ? -1 : row.source * width + source;
        }
        for (int64_t x = 0; t->now.masked && x < count; x++) {
            *region++ = 3 * row.region + key[x].region;
        }
    }
    return b;
}

/* Positions of the query at (y, x) of the group for the keys of a block; `table` and `along` are
 * those of offset 0. */
static vt_cpu_positions positions_of(const worker *t, const key_block *b, int64_t y, int64_t x,
                                     const float *table, int64_t step, const float *along)
{
    const vt_group_query *row = &t->now.rows->query[y], *col = &t->now.cols->query[x];
    int64_t end = row->from + t->w->rows.axis.span;
    int64_t first = row->from > b->first ? row->from : b->first;
    int64_t last = end < b->last ? end : b->last;
    int64_t offset = row->offset + first - row->from;
    return (vt_cpu_positions){.rows = b->last - b->first,
                              .cols = t->now.cols->keys,
                              .columns = b->columns,
                              .first_row = first - b->first,
                              .first_col = col->from,
                              .seen_rows = last - first,
                              .seen_cols = t->w->cols.axis.span,
                              .table = table + offset * step + col->offset,
                              .table_step = step,
                              .along = along ? along + offset : NULL};
}

static float *table_row(const worker *t, const key_block *b, int64_t i)
{
    return t->table + b->index * t->w->chunk_queries * row_stride(t->w->key_columns) +
           i * row_stride(b->columns);
}

/* table[i][j] = what a position adds to the score of query i and key j, for a block */
static void unfold(const worker *t, const key_block *b)
{
    int64_t height = 2 * t->w->rows.axis.span - 1, width = 2 * t->w->cols.axis.span - 1;
    if (t->biases) {
        memcpy(t->bias, t->biases + t->now.head * height * width,
               (size_t)(height * width) * sizeof *t->bias);
    }
    int64_t columns = t->now.cols->queries;
    int64_t y = t->now.first / columns, x = t->now.first % columns;
    for (int64_t i = 0; i < t->now.last - t->now.first; i++) {
        vt_cpu_positions p = positions_of(t, b, y, x, t->bias, width, NULL);
        p.dst = table_row(t, b, i);
        t->w->kernels->positions(&p);
        y += x + 1 == columns;
        x = x + 1 == columns ? 0 : x + 1;
    }
}

/* Whether the table holds the positions of this item. */
static bool is_unfolded(const worker *t)
{
    const item *a = &t->now, *b = &t->unfolded;
    return a->head == b->head && a->chunk == b->chunk && a->rows->shape == b->rows->shape &&
           a->cols->shape == b->cols->shape;
}

/* Cosine score: rows[i] *= factor / max(|rows[i]|, 1e-12). */
static void normalise_rows(const worker *t, float *rows, int64_t count, int64_t width, float factor)
{
    const vt_cpu_kernels *k = t->w->kernels;
    for (int64_t i = 0; i < count; i++, rows += width) {
        k->scale(rows, width, factor / fmaxf(sqrtf(k->square_sum(rows, width)), 1e-12f), rows);
    }
}

/* k transposed into panels [width][nr], a strip of keys at a time, and v as it is. */
static void load_keys(const worker *t, const key_block *b)
{
    const vt_cpu_kernels *k = t->w->kernels;
    const vt_heads *h = &t->p->k, *v = &t->p->v;
    int64_t channel = h->offset + (int64_t)t->now.head * h->width;
    vt_cpu_rows rows = vt_cpu_head_rows(t->exec, h, t->now.image, channel, t->key_pixel);
    rows.width = rows.block_stride = h->width;
    rows.pad = t->pad ? t->pad + channel : NULL;
    rows.block = t->strip;
    for (int64_t i = 0; i < b->keys; i += k->lanes, rows.pixel += k->lanes) {
        rows.rows = b->keys - i < k->lanes ? b->keys - i : k->lanes;
        k->gather(&rows);
        if (t->temperature) {
            normalise_rows(t, t->strip, rows.rows, h->width, 1.0f);
        }
        k->transpose(t->strip, h->width, h->width, t->kt + i / k->nr * k->nr * h->width + i % k->nr,
                     k->nr);
    }
    for (int64_t i = 0; i < t->w->value_panels; i++) {
        int64_t done = i * k->nr, left = v->width - done;
        channel = v->offset + (int64_t)t->now.head * v->width + done;
        rows = vt_cpu_head_rows(t->exec, v, t->now.image, channel, t->key_pixel);
        rows.rows = b->keys;
        rows.width = left < k->nr ? left : k->nr;
        rows.pad = t->pad ? t->pad + channel : NULL;
        rows.block = t->v + i * b->keys * k->nr;
        rows.block_stride = k->nr;
        k->gather(&rows);
    }
}

/* ---- a tile of queries ----------------------------------------------------------------------- */

/* Queries [first, first + rows) of the chunk and the keys of a block that any of them sees. */
typedef struct tile {
    const key_block *block;
    int64_t first;
    int rows;
    int64_t first_key, last_key; /* counted in the block */
    int64_t column, columns;     /* of the panels that hold them: the first, how many */
} tile;

static tile make_tile(const worker *t, const key_block *b, int64_t first, int rows)
{
    int64_t top = b->first, bottom = b->last;
    if (t->p->pattern.kind == VT_PATTERN_NEIGHBORHOOD && !t->w->relative) {
        int64_t at = t->now.first + first, columns = t->now.cols->queries;
        int64_t from = t->now.rows->query[at / columns].from;
        int64_t end = t->now.rows->query[(at + rows - 1) / columns].from + t->w->rows.axis.span;
        top = from > top ? from : top;
        bottom = end < bottom ? end : bottom;
    }
    tile made = {.block = b, .first = first, .rows = rows};
    if (top < bottom) {
        made.first_key = (top - b->first) * t->now.cols->keys;
        made.last_key = (bottom - b->first) * t->now.cols->keys;
        made.column = panel_start(t, made.first_key);
        made.columns = columns_of(t, made.last_key) - made.column;
    }
    return made;
}

/* Turns the results to the places of queries [first, first + rows) of the chunk. In place: the
 * kernels would wait for a fresh copy. */
static void aim_results(worker *t, int64_t first, int64_t rows)
{
    t->to.pixel = t->query_pixel + first;
    t->to.rows = rows;
    t->to.block = t->out + (t->w->blocks > 1 ? first * t->to.block_stride : 0);
}

static void write_rows(worker *t, const float *sum)
{
    float inverse[VT_CPU_MAX_MR];
    for (int64_t i = 0; i < t->to.rows; i++) {
        inverse[i] = 1.0f / sum[i];
    }
    t->to.factors = inverse;
    t->w->kernels->scatter(&t->to);
    t->to.factors = NULL;
}

/* scores[i][j] = q_i . rows[.] + q_i . cols[.] + table[i][j]; q without its factor is loaded. */
static void relative_positions(const worker *t, const tile *u)
{
    const attention_plan *w = t->w;
    int64_t width = t->p->q.width, nr = w->kernels->nr, across = w->col_panels * nr;
    vt_cpu_product p = {.rows = u->rows,
                        .depth = width,
                        .a = t->q,
                        .a_stride = width,
                        .panels = t->rel,
                        .panel_step = width * nr,
                        .cols = w->row_panels * nr,
                        .c = t->along,
                        .c_stride = w->row_panels * nr};
    vt_cpu_multiply_panels(w->kernels, &p);
    p.panels += w->row_panels * width * nr;
    p.cols = across;
    p.c = t->across;
    p.c_stride = across;
    vt_cpu_multiply_panels(w->kernels, &p);
    for (int i = 0; i < u->rows; i++) {
        int64_t at = t->now.first + u->first + i, columns = t->now.cols->queries;
        vt_cpu_positions s =
            positions_of(t, u->block, at / columns, at % columns, t->across + i * across, 0,
                         t->along + i * w->row_panels * nr);
        s.base = w->tabled ? table_row(t, u->block, u->first + i) : NULL;
        s.dst = t->score + i * row_stride(u->columns);
        w->kernels->positions(&s);
    }
}

/* The tile's queries, with the factor of the score in them; the scores hold what depends on
 * queries without it. */
static void load_queries(worker *t, const tile *u)
{
    int64_t width = t->p->q.width;
    t->from.pixel = t->query_pixel + u->first;
    t->from.rows = u->rows;
    t->w->kernels->gather(&t->from);
    if (t->w->relative) {
        relative_positions(t, u);
    }
    if (t->temperature) {
        normalise_rows(t, t->q, u->rows, width,
                       expf(fminf(t->temperature[t->now.head], logf(100.0f))));
    } else if (t->w->relative) {
        t->w->kernels->scale(t->q, u->rows * width, t->p->scale, t->q);
    }
}

static void make_scores(const worker *t, const tile *u)
{
    const attention_plan *w = t->w;
    int64_t width = t->p->q.width, nr = w->kernels->nr, whole = u->block->columns;
    bool ends = u->column + u->columns == whole && u->block->keys < whole;
    vt_cpu_product p = {.rows = u->rows,
                        .depth = width,
                        .a = t->q,
                        .a_stride = width,
                        .panels = t->kt + u->column * width,
                        .panel_step = nr * width,
                        .cols = u->columns,
                        .fill = ends ? t->fill : NULL,
                        .c = t->score,
                        .c_stride = row_stride(u->columns)};
    if (w->relative) {
        p.residual = t->score;
        p.residual_stride = p.c_stride;
    } else if (w->tabled) {
        p.residual = table_row(t, u->block, u->first) + u->column;
        p.residual_stride = row_stride(whole);
    }
    vt_cpu_multiply_panels(w->kernels, &p);
}

static void attend(worker *t, const tile *u)
{
    const attention_plan *w = t->w;
    const vt_cpu_kernels *k = w->kernels;
    bool running = w->blocks > 1;
    float factor[VT_CPU_MAX_MR];
    int64_t state = running ? u->first : 0, skipped = u->first_key - u->column;
    aim_results(t, u->first, u->rows);
    vt_cpu_claim_rows(&t->to);
    load_queries(t, u);
    make_scores(t, u);
    k->softmax_rows(&(vt_cpu_softmax){.scores = t->score,
                                      .rows = u->rows,
                                      .n = u->columns,
                                      .stride = row_stride(u->columns),
                                      .regions = t->now.masked ? t->key_region + u->column : NULL,
                                      .region = t->query_region + u->first,
                                      .running = running,
                                      .top = t->top + state,
                                      .sum = t->sum + state,
                                      .factor = factor});
    for (int i = 0; running && i < u->rows; i++) {
        float *row = t->to.block + i * t->to.block_stride;
        k->scale(row, t->to.block_stride, factor[i], row);
    }
    vt_cpu_multiply_panels(k, &(vt_cpu_product){.rows = u->rows,
                                                .depth = u->last_key - u->first_key,
                                                .a = t->score + skipped,
                                                .a_stride = row_stride(u->columns),
                                                .panels = t->v + u->first_key * k->nr,
                                                .panel_step = u->block->keys * k->nr,
                                                .cols = t->to.block_stride,
                                                .residual = running ? t->to.block : NULL,
                                                .residual_stride = t->to.block_stride,
                                                .c = t->to.block,
                                                .c_stride = t->to.block_stride});
    if (!running) {
        write_rows(t, t->sum);
    }
}

/* ---- runs of items --------------------------------------------------------------------------- */

static void start_running(const worker *t)
{
    int64_t queries = t->now.last - t->now.first;
    memset(t->out, 0, (size_t)(queries * t->w->value_panels * t->w->kernels->nr) * sizeof *t->out);
    for (int64_t i = 0; i < queries; i++) {
        t->top[i] = -INFINITY;
        t->sum[i] = 0.0f;
    }
}

static void fill_columns(const worker *t, const key_block *b)
{
    int64_t used = t->w->kernels->nr - (b->columns - b->keys);
    for (int64_t j = 0; j < t->w->kernels->nr; j++) {
        t->fill[j] = j < used ? 0.0f : VT_CPU_UNSEEN;
    }
}

static void run_item(worker *t)
{
    int64_t queries = t->now.last - t->now.first, unit = tile_unit(t), units = queries / unit;
    int64_t per_tile = t->w->kernels->mr / unit, tiles = vt_div_up(units, per_tile);
    bool unfolds = t->w->tabled && (t->unfolded.head < 0 || !is_unfolded(t));
    if (t->w->blocks > 1) {
        start_running(t);
    }
    for (int64_t index = 0; index * t->w->block_rows < t->now.rows->keys; index++) {
        key_block b = find_keys(t, index);
        if (unfolds) {
            unfold(t, &b);
        }
        fill_columns(t, &b);
        load_keys(t, &b);
        for (int64_t i = 0; i < tiles; i++) {
            int64_t first = units * i / tiles * unit, next = units * (i + 1) / tiles * unit;
            tile u = make_tile(t, &b, first, (int)(next - first));
            if (u.columns > 0) {
                attend(t, &u);
            }
        }
    }
    t->unfolded = t->now;
    for (int64_t i = 0; t->w->blocks > 1 && i < queries; i += VT_CPU_MAX_MR) {
        int64_t rows = queries - i < VT_CPU_MAX_MR ? queries - i : VT_CPU_MAX_MR;
        aim_results(t, i, rows);
        write_rows(t, t->sum + i);
    }
}

static void attention_run(const vt_exec *exec, const vt_record *r)
{
    const vt_attention *p = &r->as.attention;
    const attention_plan w =
        make_plan(vt_cpu_kernels_of(exec->backend), exec->program, p, exec->threads);
    prepare(exec, p, &w);
    int64_t runs = exec->threads == 1 ? 1 : exec->threads * RUNS_PER_THREAD;
    runs = runs < w.items ? runs : w.items;
#pragma omp parallel num_threads(exec->threads)
    {
        worker t = make_worker(exec, r, &w, omp_get_thread_num());
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < runs; i++) {
            for (int64_t j = w.items * i / runs; j < w.items * (i + 1) / runs; j++) {
                if (find_item(&t, j)) {
                    run_item(&t);
                }
            }
        }
    }
}

const vt_impl vt_cpu_attention = {
    .name = "groups", .scratch = attention_scratch, .run = attention_run};
