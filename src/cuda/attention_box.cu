/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention on the tensor cores for patterns in which a tile of queries meets a box of
 * keys: neighborhoods, blocks with a halo, everything. f16 and bf16; see vt_attention for the
 * formula.
 *
 * Neighborhoods of one sub-grid (residue of the dilation) and the blocks of a halo pattern are
 * groups; inside a group both maps are plain grids. A block owns one head of a tile of queries and
 * loads the box of keys that any of them sees. Its warps take turns with 16 queries at a time, 2 x
 * 8 of the map (4 x 4 where the groups are that narrow), and walk through their part of the box in
 * rows of 8 or 16 keys. The rows of the box lie a multiple of 8 keys apart, so that a lane meets
 * the same columns in every row: what depends on the column is worked out once, and the addresses
 * of a row are those of the first and a constant. Queries that see everything have a kernel of
 * their own, attention_line.cu.
 *
 * The scores start as entries of the table of biases over the scale, or the products of the query
 * with the tables of rows and columns, or 0; attention_chunk.cuh has the rest. */
#include "cuda/attention_chunk.cuh"

enum {
    NEAR = 7,              /* window of the kernels that know it */
    MOST_SHARED = 99 << 10 /* what every GPU from sm_80 on has */
};

/* One axis: groups of queries and keys. Query q of group g is at g * query_group + q * step, key k
 * at g * key_group - halo + k * step. */
typedef struct box_axis {
    int queries, keys; /* sizes of the maps */
    int groups, query_group, key_group, step, halo;
    int shortest, longer; /* keys of a group with the padding; the first groups have one more */
    int group_queries;    /* at most, of one group */
    int span, stride;     /* keys of a query; queries that share them */
    int tile, tiles;      /* queries of a tile; tiles of a group */
    int box;              /* keys of a box, at most */
    bool slides;          /* the keys of a query depend on its place in the group */
} box_axis;

typedef struct box_map {
    box_axis rows, cols;
    int log2_sub_w;           /* a warp's queries: 16 >> log2_sub_w rows of so many columns */
    int pitch, height;        /* of the box with the zeros behind its rows and columns */
    int lines, line;          /* rows that a warp walks through, rounded up; the same of columns */
    int keys;                 /* in shared memory */
    unsigned reciprocal;      /* 2^20 / pitch, rounded up: j / pitch = j * reciprocal >> 20 */
    int table_w, table_pitch; /* table of positions: columns; floats from one to the next */
    unsigned table_reciprocal;
    int scratch; /* floats of a query: its products with the tables of rows and columns */
    vt_divisor heads, tiles_x, groups_x, tiles_y, groups_y; /* of the blocks */
    int64_t k_image, v_image;                               /* elements from image to image */
    float factor, inverse;                                  /* log2(e) scale; 1 / scale */
} box_map;

/* What is added to the products of queries and keys: a table of biases (or nothing), or tables of
 * rows and of columns that are multiplied by the query. */
enum box_positions { BIASED, RELATIVE };

static unsigned reciprocal_of(int x)
{
    return ((1u << 20) + (unsigned)x - 1) / (unsigned)x;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static box_axis box_axis_make(const vt_cuda_attention *a, bool rows)
{
    const vt_pattern *p = &a->pattern;
    box_axis x = {};
    int window = rows ? p->window_h : p->window_w, stride = rows ? p->stride_h : p->stride_w;
    x.queries = rows ? a->h : a->w;
    x.keys = rows ? a->key_h : a->key_w;
    x.stride = stride > 1 ? stride : 1;
    x.step = 1;
    x.span = window;
    if (p->kind == VT_PATTERN_NEIGHBORHOOD) {
        int dilation = rows ? p->dilation_h : p->dilation_w;
        x.step = x.groups = dilation > 1 ? dilation : 1;
        x.query_group = x.key_group = 1;
        int padded = x.keys > window * x.step ? x.keys : window * x.step;
        x.shortest = padded / x.step;
        x.longer = padded % x.step;
        x.group_queries = (x.queries + x.step - 1) / x.step;
        x.slides = true;
    } else {
        x.halo = rows ? p->halo_h : p->halo_w;
        x.span = window + 2 * x.halo;
        x.shortest = x.span;
        x.groups = x.keys / window;
        x.key_group = window;
        x.query_group = x.group_queries = window / x.stride;
    }
    return x;
}

/* Keys that `queries` neighbours see together, at most. */
static int box_axis_keys(const box_axis *x, int queries)
{
    int longest = x->shortest + (x->longer > 0), keys = queries + x->stride + x->span - 2;
    return !x->slides ? x->span : keys < longest ? keys : longest;
}

static void box_axis_tile(box_axis *x, int tile)
{
    x->tile = tile;
    x->tiles = (x->group_queries + tile - 1) / tile;
    x->box = box_axis_keys(x, tile);
}

/* Rows or columns of zeros that a walk in steps of `step` may meet behind its keys. */
static int box_axis_slack(const box_axis *x, int queries, int step)
{
    int slack = 0;
    for (int keys = x->span; keys <= box_axis_keys(x, queries); keys++) {
        int behind = vt_round_up(keys, step) - keys;
        slack = behind > slack ? behind : slack;
    }
    return slack;
}

static bool has_relative(const vt_cuda_attention *a)
{
    return a->position_rows != NULL;
}

/* Rows of keys at a time, and keys of a row. */
static int chunk_rows(const vt_cuda_attention *a)
{
    return has_relative(a) ? 4 : 8;
}

static box_map box_map_tile(const vt_cuda_attention *a, const box_map *whole, int tile_h,
                            int tile_w)
{
    box_map m = *whole;
    int sub_w = 1 << m.log2_sub_w, sub_h = VT_CHUNK_QUERIES >> m.log2_sub_w;
    box_axis_tile(&m.rows, tile_h);
    box_axis_tile(&m.cols, tile_w);
    m.line = box_axis_keys(&m.cols, sub_w) > 8 || has_relative(a) ? 16 : 8;
    m.lines = vt_round_up(box_axis_keys(&m.rows, sub_h), chunk_rows(a));
    bool narrow = tile_w == sub_w; /* all walks begin with the first column */
    m.pitch = vt_round_up(m.cols.box, narrow ? m.line : 8);
    m.height = m.rows.box + box_axis_slack(&m.rows, sub_h, chunk_rows(a)) +
               (!narrow && box_axis_slack(&m.cols, sub_w, m.line) > 0);
    m.keys = m.height * m.pitch;
    m.reciprocal = reciprocal_of(m.pitch);
    m.tiles_x = vt_divisor_of(m.cols.tiles);
    m.tiles_y = vt_divisor_of(m.rows.tiles);
    if (has_relative(a)) {
        m.scratch = m.lines + vt_round_up(box_axis_keys(&m.cols, sub_w), 16) + 4;
    } else {
        int rows = m.rows.span + m.lines;
        m.table_w = 2 * m.cols.span - 1;
        m.table_pitch = (rows > 2 * m.rows.span ? rows : 2 * m.rows.span) | 1;
        m.table_reciprocal = reciprocal_of(m.table_pitch);
    }
    return m;
}

static int entries_of(int span)
{
    return vt_round_up(2 * span - 1, 8);
}

static size_t box_shared(const vt_cuda_attention *a, const box_map *m)
{
    size_t keys = (size_t)m->keys * (size_t)(a->qk_width + a->v_width) * 2;
    if (!has_relative(a)) {
        return keys + sizeof(float) * (size_t)((m->table_w + 1) * m->table_pitch);
    }
    int entries = entries_of(m->rows.span) + entries_of(m->cols.span);
    return keys + (size_t)(entries * a->qk_width) * 4 +
           sizeof(float) * (size_t)(VT_CHUNK_WARPS * VT_CHUNK_QUERIES * m->scratch);
}

static bool fits(const vt_cuda_attention *a, const box_map *m)
{
    return m->keys <= 4096 && (int64_t)(m->table_w + 1) * m->table_pitch <= 1 << 14 &&
           box_shared(a, m) <= MOST_SHARED;
}

static box_map box_map_whole(const vt_cuda_attention *a)
{
    box_map m = {};
    m.rows = box_axis_make(a, true);
    m.cols = box_axis_make(a, false);
    m.log2_sub_w = has_relative(a) && m.cols.group_queries <= 4 ? 2 : 3;
    m.heads = vt_divisor_of(a->heads);
    m.k_image = a->k_pixel * a->key_h * a->key_w;
    m.v_image = a->v_pixel * a->key_h * a->key_w;

    m.groups_x = vt_divisor_of(m.cols.groups);
    m.groups_y = vt_divisor_of(m.rows.groups);
    m.factor = VT_LOG2_E * a->scale;
    m.inverse = 1.0f / a->scale;
    return m;
}

/* ---- the device's view of a tile ------------------------------------------------------------- */

/* The first key that query q of a group sees, in the group. SPAN: that of the axis, where no
 * queries share their keys; or 0. */
template <int SPAN> __device__ __forceinline__ int first_key(const box_axis &x, int group, int q)
{
    if (!SPAN && !x.slides) {
        return 0;
    }
    int n = x.shortest + (group < x.longer), span = SPAN ? SPAN : x.span;
    int leader = SPAN || x.stride == 1 ? q : q / x.stride * x.stride + x.stride / 2;
    return max(min(min(leader, n - 1) - span / 2, n - span), 0);
}

/* Where a block works: group and first query of the tile on each axis, and its box. */
typedef struct place {
    int head, group_y, group_x, y, x; /* y, x: first query of the tile, in the group */
    int box_y, box_x, box_h, box_w;
    int64_t image;
} place;

template <int SPAN> __device__ __forceinline__ place place_of(const box_map &m)
{
    place p;
    unsigned rest = vt_take(blockIdx.x, m.heads, &p.head);
    rest = vt_take(vt_take(rest, m.tiles_x, &p.x), m.groups_x, &p.group_x);
    p.image = vt_take(vt_take(rest, m.tiles_y, &p.y), m.groups_y, &p.group_y);
    p.y *= m.rows.tile;
    p.x *= m.cols.tile;
    int last_y = min(p.y + m.rows.tile, m.rows.group_queries) - 1;
    int last_x = min(p.x + m.cols.tile, m.cols.group_queries) - 1;
    int span_y = SPAN ? SPAN : m.rows.span, span_x = SPAN ? SPAN : m.cols.span;
    p.box_y = first_key<SPAN>(m.rows, p.group_y, p.y);
    p.box_x = first_key<SPAN>(m.cols, p.group_x, p.x);
    p.box_h = first_key<SPAN>(m.rows, p.group_y, last_y) + span_y - p.box_y;
    p.box_w = first_key<SPAN>(m.cols, p.group_x, last_x) + span_x - p.box_x;
    return p;
}

/* Pixel of a query of the group in its image, or -1. */
__device__ __forceinline__ int query_pixel(const box_map &m, const place &p, int qy, int qx)
{
    int y = p.group_y * m.rows.query_group + qy * m.rows.step;
    int x = p.group_x * m.cols.query_group + qx * m.cols.step;
    bool inside = qy < m.rows.group_queries && qx < m.cols.group_queries && y < m.rows.queries &&
                  x < m.cols.queries;
    return inside ? y * m.cols.queries + x : -1;
}

/* ---- shared memory --------------------------------------------------------------------------- */

/* The rows of a box that lie in the map: [first, end) of those that one column has. */
__device__ __forceinline__ void rows_inside(const box_axis &x, int y, int rows, int *first,
                                            int *end)
{
    *first = max(0, -y); /* only halos begin outside, and their step is 1 */
    *end = rows;
    if (y + (rows - 1) * x.step >= x.keys) {
        *end = y < x.keys ? (x.keys - 1 - y) / x.step + 1 : 0;
    }
}

/* Starts copying the box of one head of k, v or both, with zeros behind it; the whole block. A
 * thread stays in its column: its rows lie a constant apart. PITCH: m.pitch, or 0. */
template <typename T, int D, int PITCH, bool K, bool V>
__device__ __forceinline__ void load_box(const vt_cuda_attention &a, const box_map &m,
                                         const place &p, uint32_t keys, uint32_t values)
{
    constexpr int chunks = D / 8, at_once = VT_CHUNK_THREADS / chunks;
    unsigned j = threadIdx.x / chunks, c = threadIdx.x % chunks;
    int pitch = PITCH ? PITCH : m.pitch, keys_w = m.cols.keys, channel = p.head * D + (int)c * 8;
    int rows = 1, row = 0;
    if (PITCH) {
        rows = at_once / (PITCH ? PITCH : 1);
        row = (int)(j / (PITCH ? PITCH : 1));
    } else if (at_once >= pitch) {
        rows = (int)((unsigned)at_once * m.reciprocal >> 20);
        row = (int)(j * m.reciprocal >> 20);
    }
    const T *image_k = (const T *)a.k + p.image * m.k_image + channel;
    const T *image_v = (const T *)a.v + p.image * m.v_image + channel;
    int first_y = p.group_y * m.rows.key_group - m.rows.halo + p.box_y * m.rows.step;
    int first_x = p.group_x * m.cols.key_group - m.cols.halo + p.box_x * m.cols.step;
    int inside_y, end_y;
    int64_t down = (int64_t)(rows * m.rows.step) * keys_w;
    rows_inside(m.rows, first_y, p.box_h, &inside_y, &end_y);
    for (int kx = (int)j - row * pitch; kx < pitch && row < rows; kx += at_once) {
        int x = first_x + kx * m.cols.step, y = first_y + row * m.rows.step;
        const T *k = image_k + (int64_t)(y * keys_w + x) * (int)a.k_pixel;
        const T *v = image_v + (int64_t)(y * keys_w + x) * (int)a.v_pixel;
        uint32_t to_k = keys + vt_key_offset<D>(row * pitch + kx, (int)c);
        uint32_t to_v = values + vt_tile_offset<D>(row * pitch + kx, (int)c);
        bool column = kx < p.box_w && (unsigned)x < (unsigned)keys_w;
        int count = column ? end_y - inside_y : 0;
#pragma unroll 2
        for (int ky = row; ky < m.height; ky += rows) {
            bool inside = (unsigned)(ky - inside_y) < (unsigned)count;
            if (K) {
                vt_copy_async_or_zero(to_k, k, inside);
            }
            if (V) {
                vt_copy_async_or_zero(to_v, v, inside);
            }
            k += down * (int)a.k_pixel;
            v += down * (int)a.v_pixel;
            to_k += (uint32_t)(rows * pitch * D * 2);
            to_v += (uint32_t)(rows * pitch * D * 2);
        }
    }
}

/* The rows that stand for keys outside the map, where load_box left zeros; once those are there. */
template <typename T, int D, bool KEYS>
__device__ __forceinline__ void load_pads(const vt_cuda_attention &a, const box_map &m,
                                          const place &p, uint32_t tile)
{
    constexpr int chunks = D / 8;
    int c = (int)(threadIdx.x % chunks);
    int first_y = p.group_y * m.rows.key_group - m.rows.halo + p.box_y * m.rows.step;
    int first_x = p.group_x * m.cols.key_group - m.cols.halo + p.box_x * m.cols.step;
#pragma unroll 1
    for (int j = (int)(threadIdx.x / chunks); j < p.box_h * m.pitch;
         j += VT_CHUNK_THREADS / chunks) {
        int ky = (int)((unsigned)j * m.reciprocal >> 20), kx = j - ky * m.pitch;
        int y = first_y + ky * m.rows.step, x = first_x + kx * m.cols.step;
        bool inside = (unsigned)y < (unsigned)m.rows.keys && (unsigned)x < (unsigned)m.cols.keys;
        if (!inside && kx < p.box_w) {
            const float *pad = KEYS ? a.pad_k : a.pad_v;
            vt_store_shared(tile + (KEYS ? vt_key_offset<D>(j, c) : vt_tile_offset<D>(j, c)),
                            vt_pad_chunk<T>(pad, p.head * D + c * 8));
        }
    }
}

/* The biases of a head over the scale: entry (dy, dx) is at dx * table_pitch + dy + 1, behind the
 * last column there is one of -inf; 0 elsewhere. */
__device__ __forceinline__ void load_table(const vt_cuda_attention &a, const box_map &m, int head,
                                           float *table)
{
    int rows = 2 * m.rows.span - 1, count = (m.table_w + 1) * m.table_pitch;
    const float *bias = a.bias + (int64_t)head * rows * m.table_w;
#pragma unroll 1
    for (int item = (int)threadIdx.x; item < count; item += VT_CHUNK_THREADS) {
        int dx = (int)((unsigned)item * m.table_reciprocal >> 20);
        int dy = item - dx * m.table_pitch - 1;
        bool inside = a.bias && dx < m.table_w && (unsigned)dy < (unsigned)rows;
        table[item] = dx == m.table_w ? -INFINITY
                      : inside        ? bias[dy * m.table_w + dx] * m.inverse
                                      : 0.0f;
    }
}

/* Both tables of positions as rows of T, then what is left of their values after rounding, again
 * as T: rows of the first, of the second, of the rests. */
template <typename T, int D>
__device__ __forceinline__ void load_positions(const vt_cuda_attention &a, const box_map &m,
                                               uint32_t tile, int row_entries, int entries)
{
    constexpr int chunks = D / 8;
    for (int item = (int)threadIdx.x; item < entries * chunks; item += VT_CHUNK_THREADS) {
        int row = item / chunks, c = item % chunks;
        bool is_row = row < row_entries;
        int entry = is_row ? row : row - row_entries;
        uint32_t high[4] = {}, low[4] = {};
        if (entry < 2 * (is_row ? m.rows.span : m.cols.span) - 1) {
            const float *from = (is_row ? a.position_rows : a.position_cols) + entry * D + c * 8;
            vt_pack<float, 8> x = vt_load<float, 8>(from);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x0 = x.at[2 * i], x1 = x.at[2 * i + 1];
                high[i] = vt_pack2<T>(x0, x1);
                low[i] = vt_pack2<T>(x0 - vt_to_float(vt_from_float<T>(x0)),
                                     x1 - vt_to_float(vt_from_float<T>(x1)));
            }
        }
        vt_store_shared(tile + vt_key_offset<D>(row, c),
                        make_uint4(high[0], high[1], high[2], high[3]));
        vt_store_shared(tile + vt_key_offset<D>(row + entries, c),
                        make_uint4(low[0], low[1], low[2], low[3]));
    }
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* The first of the 16 queries of a warp's turn, and a lane's two; in the group. */
typedef struct turn {
    int y, x, qy[2], qx;
} turn;

template <int SPAN>
__device__ __forceinline__ turn turn_of(const box_map &m, const place &p, int tile)
{
    int log2_sub_w = SPAN ? 3 : m.log2_sub_w, sub_w = 1 << log2_sub_w,
        sub_h = VT_CHUNK_QUERIES / sub_w;
    int per_row = SPAN ? 1 : m.cols.tile >> log2_sub_w, g = (int)(threadIdx.x % 32 / 4);
    int ty = per_row == 1 ? tile : tile / per_row;
    turn t;
    t.y = p.y + ty * sub_h;
    t.x = p.x + (tile - ty * per_row) * sub_w;
    t.qy[0] = t.y + (g >> log2_sub_w);
    t.qy[1] = t.qy[0] + sub_h / 2;
    t.qx = t.x + (g & (sub_w - 1));
    return t;
}

template <typename T, int D, int SPAN>
__device__ __forceinline__ void load_turn(const vt_cuda_attention &a, const box_map &m,
                                          const place &p, const T *first, const turn &t,
                                          vt_queries<D> &q)
{
    vt_load_queries<T, D>(a, first, query_pixel(m, p, t.qy[0], t.qx),
                          query_pixel(m, p, t.qy[1], t.qx), q);
}

/* The part of the box that a warp's 16 queries see. */
typedef struct walk {
    int y, x;         /* first key, in the box */
    int lines, width; /* keys */
    /* Of tables of biases: the first key column of the lane's queries, the first key row of the
     * second one; the entry of key (0, 0) for the first. All from (y, x) on. */
    int first_x, first_y, entry_y, entry_x;
} walk;

template <int SPAN>
__device__ __forceinline__ walk walk_of(const box_map &m, const place &p, const turn &t)
{
    int sub_w = SPAN ? 8 : 1 << m.log2_sub_w, sub_h = VT_CHUNK_QUERIES / sub_w;
    int last_y = m.rows.group_queries - 1, last_x = m.cols.group_queries - 1;
    int span_y = SPAN ? SPAN : m.rows.span, span_x = SPAN ? SPAN : m.cols.span;
    int key_y = first_key<SPAN>(m.rows, p.group_y, t.y), qx = min(t.qx, last_x);
    int key_x = SPAN ? p.box_x : first_key<SPAN>(m.cols, p.group_x, t.x);
    walk w;
    w.y = key_y - p.box_y;
    w.x = key_x - p.box_x;
    w.lines = first_key<SPAN>(m.rows, p.group_y, min(t.y + sub_h - 1, last_y)) + span_y - key_y;
    w.width = first_key<SPAN>(m.cols, p.group_x, min(t.x + sub_w - 1, last_x)) + span_x - key_x;
    w.first_x = first_key<SPAN>(m.cols, p.group_x, qx) - key_x;
    w.first_y = first_key<SPAN>(m.rows, p.group_y, min(t.y + 1, last_y)) - key_y;
    w.entry_y = key_y - t.y + span_y - 1;
    w.entry_x = key_x - qx + span_x - 1;
    return w;
}

/* For each of a lane's columns from x0 on, its entries of the table of biases for the first query
 * and the walk's first row. */
template <int SPAN, int N>
__device__ __forceinline__ void find_columns(const box_map &m, const walk &w, int x0,
                                             const float *table, const float *(&column)[N])
{
    int t = (int)(threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < N; i++) {
        int x = x0 + i / 2 * 8 + 2 * t + i % 2;
        bool seen = (unsigned)(x - w.first_x) < (unsigned)(SPAN ? SPAN : m.cols.span);
        int entry = seen ? x + w.entry_x : m.table_w;
        column[i] = table + (entry * m.table_pitch + w.entry_y + 1);
    }
}

/* The scores of a chunk of ROWS rows from row y0 on, before the products. The second query is one
 * row below the first, so it meets in each row what the first one met in the row before. */
template <int SPAN, int ROWS, int N>
__device__ __forceinline__ void begin_biased(const box_map &m, const walk &w, int y0,
                                             const float *const (&column)[N],
                                             float (&s)[ROWS * N / 2][4])
{
    float before[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        before[i] = column[i][y0 - 1];
    }
#pragma unroll
    for (int y = 0; y < ROWS; y++) {
        bool low, high;
        if (SPAN) { /* the second query's keys begin in the same row or one below */
            low = y < SPAN;
            high = y == 0 ? w.first_y == 0 : y < SPAN || w.first_y > 0;
        } else {
            low = y0 + y < m.rows.span;
            high = (unsigned)(y0 + y - w.first_y) < (unsigned)m.rows.span;
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            float now = SPAN && y >= SPAN ? 0.0f : column[i][y0 + y], *to = s[(y * N + i) / 2];
            to[i % 2] = low ? now : -INFINITY;
            to[i % 2 + 2] = high ? before[i] : -INFINITY;
            before[i] = now;
        }
    }
}

/* The products of a warp's queries with the tables of rows and columns over the scale, each where
 * the key is that it belongs to: `lines` rows of keys, then the columns. */
template <typename T, int D>
__device__ __forceinline__ void
relative_products(const box_map &m, const turn &turn, const uint32_t (&q)[D / 16][4],
                  const unsigned char *tile, int row_entries, int entries, float *scratch)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    uint32_t first = vt_lane_key_offset<D>(g), second = first ^ 64;
#pragma unroll 2
    for (int block = 0; block < entries; block += 8) {
        float s[4] = {}, rest[4] = {};
        const unsigned char *high = tile + block * D * 2, *low = high + entries * D * 2;
        vt_multiply_block<T, D>(high + first, high + second, q, s);
        vt_multiply_block<T, D>(low + first, low + second, q, rest);
        bool is_row = block < row_entries;
        int span = is_row ? m.rows.span : m.cols.span;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int entry = block - (is_row ? 0 : row_entries) + 2 * t + i % 2;
            int key = entry + (is_row ? turn.qy[i / 2] : turn.qx) - span + 1;
            if ((unsigned)key < (unsigned)span) {
                scratch[(g + i / 2 * 8) * m.scratch + (is_row ? key : m.lines + key)] =
                    (s[i] + rest[i]) * m.inverse;
            }
        }
    }
}

/* The scores of a chunk of ROWS rows from row y0 and column x0 on, before the products. */
template <int ROWS, int N>
__device__ __forceinline__ void begin_relative(const box_map &m, int y0, int x0,
                                               const float *scratch, float (&s)[ROWS * N / 2][4])
{
    int lane = (int)(threadIdx.x % 32);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float *own = scratch + (lane / 4 + half * 8) * m.scratch;
        vt_pack<float, ROWS> rows = vt_load<float, ROWS>(own + y0);
        float cols[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            cols[i] = own[m.lines + x0 + i / 2 * 8 + lane % 4 * 2 + i % 2];
        }
#pragma unroll
        for (int y = 0; y < ROWS; y++) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                s[(y * N + i) / 2][i % 2 + 2 * half] = rows.at[y] + cols[i];
            }
        }
    }
}

/* LINE keys of each of ROWS rows at a time. SPAN: of both axes, where the tile is 8 columns wide
 * and no queries share their keys: then a walk is one chunk. Else 0. */
template <typename T, int DQ, int DV, int LINE, box_positions POSITIONS, int SPAN>
__global__ void __launch_bounds__(VT_CHUNK_THREADS, VT_CHUNK_BLOCKS(DQ) + (SPAN && LINE == 8))
    box_kernel(vt_cuda_attention a, box_map m)
{
    constexpr int ROWS = POSITIONS == RELATIVE ? 4 : 8, N = ROWS * LINE / 8;
    constexpr int PITCH = SPAN ? LINE : 0, LOW = SPAN ? SPAN * LINE / 8 : N;
    extern __shared__ __align__(128) unsigned char shared[];
    uint32_t keys = vt_shared_address(shared), values = keys + (uint32_t)(m.keys * DQ * 2);
    unsigned char *rest = shared + m.keys * (DQ + DV) * 2;
    float *floats = reinterpret_cast<float *>(rest);
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    int row_entries = 0, entries = 0, pitch = PITCH ? PITCH : m.pitch;
    vt_let_successor_begin();
    place p = place_of<SPAN>(m);
    vt_wait_for_predecessor();
    load_box<T, DQ, PITCH, true, DQ == DV>(a, m, p, keys, values);
    if (DQ != DV) {
        load_box<T, DV, PITCH, false, true>(a, m, p, keys, values);
    }
    vt_copy_async_commit();
    int64_t image = p.image * m.rows.queries * m.cols.queries;
    turn t = turn_of<SPAN>(m, p, warp);
    const T *from = vt_lane_queries<T, DQ>(a, image, p.head);
    T *to = vt_lane_results<T, DV>(a, image, p.head);
    vt_queries<DQ> next;
    load_turn<T, DQ, SPAN>(a, m, p, from, t, next);
    if (POSITIONS == BIASED) {
        load_table(a, m, p.head, floats);
    } else {
        row_entries = (2 * m.rows.span + 6) / 8 * 8;
        entries = row_entries + (2 * m.cols.span + 6) / 8 * 8;
        load_positions<T, DQ>(a, m, vt_shared_address(rest), row_entries, entries);
        floats = reinterpret_cast<float *>(rest + entries * DQ * 4);
        floats += warp * VT_CHUNK_QUERIES * m.scratch;
        for (int i = lane; i < VT_CHUNK_QUERIES * m.scratch; i += 32) {
            floats[i] = -INFINITY;
        }
    }
    vt_copy_async_wait();
    if (a.pad_k) {
        __syncthreads();
        load_pads<T, DQ, true>(a, m, p, keys);
        load_pads<T, DV, false>(a, m, p, values);
    }
    __syncthreads();
    int tiles = (m.rows.tile * m.cols.tile) / VT_CHUNK_QUERIES;
    for (int tile = warp; tile < tiles; tile += VT_CHUNK_WARPS) {
        int low = next.pixel[0], high = next.pixel[1];
        uint32_t q[DQ / 16][4];
        vt_query_fragments(next, q);
        turn now = t;
        if (tile + VT_CHUNK_WARPS < tiles) {
            t = turn_of<SPAN>(m, p, tile + VT_CHUNK_WARPS);
            load_turn<T, DQ, SPAN>(a, m, p, from, t, next);
        }
        if (now.y >= m.rows.group_queries || now.x >= m.cols.group_queries) {
            continue;
        }
        walk w = walk_of<SPAN>(m, p, now);
        if (POSITIONS == RELATIVE) {
            __syncwarp();
            relative_products<T, DQ>(m, now, q, rest, row_entries, entries, floats);
            __syncwarp();
        }
        vt_results<DV> r = vt_no_results<DV>();
        for (int x0 = 0; x0 < (SPAN ? 1 : w.width); x0 += LINE) {
            const float *column[LINE / 4];
            if (POSITIONS == BIASED) {
                find_columns<SPAN>(m, w, x0, floats, column);
            }
            for (int y0 = 0; y0 < (SPAN ? 1 : w.lines); y0 += ROWS) {
                float s[N][4];
                if (POSITIONS == BIASED) {
                    begin_biased<SPAN, ROWS>(m, w, y0, column, s);
                } else {
                    begin_relative<ROWS, LINE / 4>(m, y0, x0, floats, s);
                }
                vt_chunk_step<T, DQ, DV, LINE, LOW>(shared, values, (w.y + y0) * pitch + w.x + x0,
                                                    pitch, m.factor, x0 + y0 == 0, q, s, r);
            }
        }
        vt_store_results<T, DV>(a, to, low, high, r);
    }
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void box_function(vt_cuda_attention, box_map);

typedef struct functions {
    box_function *lines_of_8, *lines_of_16, *relative, *near_8, *near_16;
} functions;

typedef struct variant {
    int qk_width, v_width;
    functions f16, bf16;
} variant;

template <typename T, int DQ, int DV> static constexpr functions functions_of(void)
{
    functions f = {box_kernel<T, DQ, DV, 8, BIASED, 0>, box_kernel<T, DQ, DV, 16, BIASED, 0>,
                   box_kernel<T, DQ, DV, 16, RELATIVE, 0>, NULL, NULL};
    if constexpr (DQ == 32 && DV == 32) {
        f.near_8 = box_kernel<T, DQ, DV, 8, BIASED, NEAR>;
        f.near_16 = box_kernel<T, DQ, DV, 16, BIASED, NEAR>;
    }
    return f;
}

template <int DQ, int DV> static constexpr variant variant_of(void)
{
    return {DQ, DV, functions_of<__half, DQ, DV>(), functions_of<__nv_bfloat16, DQ, DV>()};
}

static const variant variants[] = {VT_CHUNK_WIDTHS(variant_of)};

/* Whether the kernels for NEAR x NEAR neighbours with their own keys serve. */
static bool is_near(const vt_cuda_attention *a)
{
    const vt_pattern *p = &a->pattern;
    return p->kind == VT_PATTERN_NEIGHBORHOOD && p->window_h == NEAR && p->window_w == NEAR &&
           p->stride_h <= 1 && p->stride_w <= 1 && vt_variant_for(variants, a)->f16.near_8;
}

/* The smallest tile: one turn. */
static box_map box_map_least(const vt_cuda_attention *a)
{
    box_map m = box_map_whole(a);
    return box_map_tile(a, &m, VT_CHUNK_QUERIES >> m.log2_sub_w, 1 << m.log2_sub_w);
}

const char *vt_cuda_attention_box_refuse(const vt_cuda_attention *a)
{
    if (a->pattern.kind != VT_PATTERN_NEIGHBORHOOD && a->pattern.kind != VT_PATTERN_HALO &&
        a->pattern.kind != VT_PATTERN_GLOBAL) {
        return "the pattern is made of windows";
    }
    const char *reason = vt_tensor_core_refuse(a);
    if (reason) {
        return reason;
    }
    if (!vt_variant_for(variants, a)) {
        return "no kernel for heads of these widths";
    }
    if (a->temperature) {
        return "the score is a cosine";
    }
    if (!(a->scale > 0)) {
        return "the scale is not positive";
    }
    if (a->position_rows && (a->pattern.kind != VT_PATTERN_HALO || a->bias)) {
        return "positions depend on the query";
    }
    if ((int64_t)a->h * a->w > 1 << 30 || (int64_t)a->key_h * a->key_w > 1 << 30 ||
        a->q_pixel > 1 << 30 || a->k_pixel > 1 << 30 || a->v_pixel > 1 << 30 ||
        a->dst_pixel > 1 << 30) {
        return "the map is beyond 2^30 pixels, or a pixel beyond 2^30 elements";
    }
    if (a->pattern.kind == VT_PATTERN_GLOBAL) {
        return NULL;
    }
    const vt_pattern *p = &a->pattern;
    if (p->window_h > 64 || p->window_w > 64 || p->halo_h > 64 || p->halo_w > 64) {
        return "the window is too large";
    }
    box_map m = box_map_least(a);
    return fits(a, &m) ? NULL : "the keys of a tile do not fit into shared memory";
}

static int64_t tiles_of(const vt_cuda_attention *a, const box_map *m)
{
    return a->n * a->heads * m->rows.groups * m->rows.tiles * m->cols.groups * m->cols.tiles;
}

static box_map box_map_best(const vt_cuda_attention *a, int processors)
{
    box_map whole = box_map_whole(a), best = box_map_least(a);
    int sub_w = 1 << whole.log2_sub_w, sub_h = VT_CHUNK_QUERIES >> whole.log2_sub_w;
    int widest = is_near(a) ? sub_w : whole.cols.group_queries + sub_w - 1;
    double least = INFINITY;
    for (int h = sub_h; h < whole.rows.group_queries + sub_h && h <= 64; h += sub_h) {
        for (int w = sub_w; w <= widest && w <= 64; w += sub_w) {
            box_map m = box_map_tile(a, &whole, h, w);
            double cost = vt_chunk_cost(m.keys, h * w / VT_CHUNK_QUERIES, box_shared(a, &m),
                                        processors, tiles_of(a, &m));
            if (fits(a, &m) && cost < least) {
                best = m;
                least = cost;
            }
        }
    }
    return best;
}

cudaError_t vt_cuda_attention_box(const vt_cuda_attention *a, cudaStream_t stream)
{
    if (vt_cuda_attention_box_refuse(a)) {
        return cudaErrorInvalidValue;
    }
    if (a->n < 1) {
        return cudaSuccess;
    }
    if (!vt_is_aligned(a->position_rows, 16) || !vt_is_aligned(a->position_cols, 16)) {
        return cudaErrorInvalidValue;
    }
    if (a->pattern.kind == VT_PATTERN_GLOBAL) {
        return vt_cuda_attention_line(a, stream);
    }
    int processors;
    cudaError_t code = vt_cuda_multiprocessors(&processors);
    if (code != cudaSuccess) {
        return code;
    }
    const variant *v = vt_variant_for(variants, a);
    const functions *f = a->dtype == VT_F16 ? &v->f16 : &v->bf16;
    box_map m = box_map_best(a, processors);
    box_function *kernel = has_relative(a) ? f->relative
                           : m.line == 16  ? (is_near(a) ? f->near_16 : f->lines_of_16)
                                           : (is_near(a) ? f->near_8 : f->lines_of_8);
    return vt_launch_chunks(kernel, tiles_of(a, &m), box_shared(a, &m), stream, *a, m);
}
