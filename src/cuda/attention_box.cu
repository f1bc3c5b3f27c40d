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
 * of a row are those of the first and a constant. For everything the queries are one long row, and
 * keys that do not fit into shared memory come in slabs.
 *
 * Scores start as what is added to the products, over the scale: entries of the table of biases, or
 * the products of the query with the tables of rows and columns, or 0; -inf where the query does
 * not see the key. Then p = 2^(log2(e) scale (score - max)), with a running maximum and sum.
 *
 * Fragments of queries and keys hold the channels of a row in an order of their own (a lane's are
 * neighbours, 16 bytes of them), the same for both: a product does not depend on it. */
#include <math.h>

#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/pattern.cuh"
#include "cuda/reduce.cuh"

enum {
    QUERIES = 16, /* of a warp at a time */
    SLAB = 448,
    LINE_ROWS = 8,         /* rows of 8 keys at a time, where there are no places */
    MOST_SHARED = 99 << 10 /* what every GPU from sm_80 on has */
};

/* Threads of a block at most, and how many such blocks share a multiprocessor's registers. */
#define THREADS_OF(width) ((width) == 64 ? 128 : 256)
#define BLOCKS_OF(width)  ((width) == 64 ? 3 : 2)

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
    int pitch, slack;         /* keys from row to row; rows of zeros below the box */
    int lines, line;          /* rows that a warp walks through, rounded up; the same of columns */
    int keys;                 /* in shared memory */
    unsigned reciprocal;      /* 2^20 / pitch, rounded up: j / pitch = j * reciprocal >> 20 */
    int table_w, table_pitch; /* table of positions: columns; floats from one to the next */
    unsigned table_reciprocal;
    int scratch; /* floats of a query: its products with the tables of rows and columns */
    int warps;
    float factor, inverse; /* log2(e) scale; 1 / scale */
} box_map;

/* What is added to the products of queries and keys: a table of biases (or nothing), or tables of
 * rows and of columns that are multiplied by the query. */
enum box_positions { BIASED, RELATIVE };

static int round_up(int x, int to)
{
    return (x + to - 1) / to * to;
}

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
        int behind = round_up(keys, step) - keys;
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
                            int tile_w, int warps)
{
    box_map m = *whole;
    int sub_w = 1 << m.log2_sub_w, sub_h = QUERIES >> m.log2_sub_w;
    box_axis_tile(&m.rows, tile_h);
    box_axis_tile(&m.cols, tile_w);
    m.line = box_axis_keys(&m.cols, sub_w) > 8 || has_relative(a) ? 16 : 8;
    m.slack = box_axis_slack(&m.rows, sub_h, chunk_rows(a));
    m.lines = round_up(box_axis_keys(&m.rows, sub_h), chunk_rows(a));
    int behind = tile_w > sub_w ? box_axis_slack(&m.cols, sub_w, m.line) : 0;
    m.pitch = round_up(m.cols.box, tile_w > sub_w ? 8 : m.line);
    m.keys = round_up((m.rows.box + m.slack) * m.pitch + behind, 8);
    m.reciprocal = reciprocal_of(m.pitch);
    m.warps = warps;
    if (has_relative(a)) {
        m.scratch = m.lines + round_up(box_axis_keys(&m.cols, sub_w), 16) + 4;
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
    return round_up(2 * span - 1, 8);
}

static size_t box_shared(const vt_cuda_attention *a, const box_map *m)
{
    size_t keys = (size_t)m->keys * (size_t)(a->qk_width + a->v_width) * 2;
    if (!has_relative(a)) {
        return keys + sizeof(float) * (size_t)((m->table_w + 1) * m->table_pitch);
    }
    int entries = entries_of(m->rows.span) + entries_of(m->cols.span);
    return keys + (size_t)(entries * a->qk_width) * 4 +
           sizeof(float) * (size_t)(m->warps * QUERIES * m->scratch);
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
    m.factor = VT_LOG2_E * a->scale;
    m.inverse = 1.0f / a->scale;
    return m;
}

/* ---- the device's view of a tile ------------------------------------------------------------- */

/* The first key that query q of a group sees, in the group. */
__device__ __forceinline__ int first_key(const box_axis &x, int group, int q)
{
    if (!x.slides) {
        return 0;
    }
    int n = x.shortest + (group < x.longer);
    int leader = x.stride == 1 ? q : q / x.stride * x.stride + x.stride / 2;
    return max(min(min(leader, n - 1) - x.span / 2, n - x.span), 0);
}

/* Where a block works: group and first query of the tile on each axis, and its box. */
typedef struct place {
    int head, group_y, group_x, y, x; /* y, x: first query of the tile, in the group */
    int box_y, box_x, box_h, box_w;
    int64_t image;
} place;

__device__ __forceinline__ int64_t take(int64_t rest, int count, int *index)
{
    *index = 0;
    return count == 1 ? rest : vt_divide(rest, count, index);
}

__device__ __forceinline__ place place_of(const vt_cuda_attention &a, const box_map &m)
{
    place p;
    int64_t rest = take(blockIdx.x, a.heads, &p.head);
    rest = take(take(rest, m.cols.tiles, &p.x), m.cols.groups, &p.group_x);
    rest = take(take(rest, m.rows.tiles, &p.y), m.rows.groups, &p.group_y);
    p.image = rest;
    p.y *= m.rows.tile;
    p.x *= m.cols.tile;
    p.box_y = first_key(m.rows, p.group_y, p.y);
    p.box_x = first_key(m.cols, p.group_x, p.x);
    int last_y = min(p.y + m.rows.tile, m.rows.group_queries) - 1;
    int last_x = min(p.x + m.cols.tile, m.cols.group_queries) - 1;
    p.box_h = first_key(m.rows, p.group_y, last_y) + m.rows.span - p.box_y;
    p.box_w = first_key(m.cols, p.group_x, last_x) + m.cols.span - p.box_x;
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

/* Where chunk `c` of a row of keys lies: four neighbouring chunks of two neighbouring rows touch
 * every bank once. */
template <int D> __device__ __forceinline__ uint32_t key_offset(int row, int c)
{
    return (uint32_t)(row * D * 2 + ((c ^ (D == 64 ? row % 2 * 4 : 0)) << 4));
}

/* Starts copying the box of one head of k, v or both, with zeros around it; the whole block. */
template <typename T, int D, bool K, bool V>
__device__ __forceinline__ void load_box(const vt_cuda_attention &a, const box_map &m,
                                         const place &p, uint32_t keys, uint32_t values)
{
    constexpr int chunks = D / 8;
    int c = (int)threadIdx.x % chunks, channel = p.head * D + c * 8;
    int64_t image = p.image * m.rows.keys * m.cols.keys;
    const T *k = (const T *)a.k + image * a.k_pixel + channel;
    const T *v = (const T *)a.v + image * a.v_pixel + channel;
    int first_y = p.group_y * m.rows.key_group - m.rows.halo + p.box_y * m.rows.step;
    int first_x = p.group_x * m.cols.key_group - m.cols.halo + p.box_x * m.cols.step;
    for (int j = (int)threadIdx.x / chunks; j < m.keys; j += (int)blockDim.x / chunks) {
        int ky = (int)((unsigned)j * m.reciprocal >> 20), kx = j - ky * m.pitch;
        int y = first_y + ky * m.rows.step, x = first_x + kx * m.cols.step;
        int pixel = y * m.cols.keys + x;
        uint32_t to_k = keys + key_offset<D>(j, c), to_v = values + vt_tile_offset<D>(j, c);
        bool empty = ky >= p.box_h || kx >= p.box_w;
        if (!empty && (unsigned)y < (unsigned)m.rows.keys && (unsigned)x < (unsigned)m.cols.keys) {
            if (K) {
                vt_copy_async(to_k, k + (int64_t)pixel * (int)a.k_pixel);
            }
            if (V) {
                vt_copy_async(to_v, v + (int64_t)pixel * (int)a.v_pixel);
            }
            continue;
        }
        if (K) {
            vt_store_shared(to_k, vt_pad_chunk<T>(empty ? NULL : a.pad_k, channel));
        }
        if (V) {
            vt_store_shared(to_v, vt_pad_chunk<T>(empty ? NULL : a.pad_v, channel));
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
    for (int item = (int)threadIdx.x; item < count; item += (int)blockDim.x) {
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
    for (int item = (int)threadIdx.x; item < entries * chunks; item += (int)blockDim.x) {
        int row = item / chunks, c = item % chunks;
        bool is_row = row < row_entries;
        int entry = is_row ? row : row - row_entries;
        uint32_t high[4] = {}, low[4] = {};
        if (entry < 2 * (is_row ? m.rows.span : m.cols.span) - 1) {
            const float *x = (is_row ? a.position_rows : a.position_cols) + entry * D + c * 8;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float x0 = x[2 * i], x1 = x[2 * i + 1];
                high[i] = vt_pack2<T>(x0, x1);
                low[i] = vt_pack2<T>(x0 - vt_to_float(vt_from_float<T>(x0)),
                                     x1 - vt_to_float(vt_from_float<T>(x1)));
            }
        }
        vt_store_shared(tile + key_offset<D>(row, c),
                        make_uint4(high[0], high[1], high[2], high[3]));
        vt_store_shared(tile + key_offset<D>(row + entries, c),
                        make_uint4(low[0], low[1], low[2], low[3]));
    }
}

/* ---- fragments ------------------------------------------------------------------------------- */

/* A lane's words of a row of D elements: chunk t, for D = 64 chunk t + 4 as well, for D = 16 half
 * of a chunk. */
template <int D>
__device__ __forceinline__ void load_words(const unsigned char *first, const unsigned char *second,
                                           uint32_t (&w)[D / 8])
{
    constexpr int V = D == 16 ? 2 : 4;
    vt_pack<uint32_t, V> x = vt_load<uint32_t, V>(reinterpret_cast<const uint32_t *>(first));
#pragma unroll
    for (int i = 0; i < V; i++) {
        w[i] = x.at[i];
    }
    if (D == 64) {
        x = vt_load<uint32_t, V>(reinterpret_cast<const uint32_t *>(second));
#pragma unroll
        for (int i = 0; i < V; i++) {
            w[(V + i) % (D / 8)] = x.at[i];
        }
    }
}

/* The fragments of a lane's two queries; zeros where there is none. */
template <typename T, int D>
__device__ __forceinline__ void load_queries(const vt_cuda_attention &a, int64_t image, int head,
                                             int low, int high, uint32_t (&q)[D / 16][4])
{
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int pixel = half ? high : low;
        uint32_t w[D / 8] = {};
        if (pixel >= 0) {
            const T *row = (const T *)a.q + (image + pixel) * a.q_pixel + head * D;
            const unsigned char *p = reinterpret_cast<const unsigned char *>(row);
            load_words<D>(p + t * (D == 16 ? 8 : 16), p + 64 + t * 16, w);
        }
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            q[i / 2][i % 2 * 2 + half] = w[i];
        }
    }
}

/* The first of a lane's words of key `row` of a tile. */
template <int D> __device__ __forceinline__ uint32_t lane_key_offset(int row)
{
    int t = (int)threadIdx.x % 4;
    return D == 16 ? (uint32_t)(row * D * 2 + t * 8) : key_offset<D>(row, t);
}

/* s += q k^T for the 8 keys from `first` of a tile on; other = the place of chunk t + 4 */
template <typename T, int D>
__device__ __forceinline__ void multiply_block(const unsigned char *first,
                                               const unsigned char *other,
                                               const uint32_t (&q)[D / 16][4], float (&s)[4])
{
    uint32_t w[D / 8];
    load_words<D>(first, other, w);
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        vt_mma<T>(s, q[step], w[2 * step], w[2 * step + 1], s);
    }
}

/* ---- a chunk of keys ------------------------------------------------------------------------- */

/* Of a lane's two queries. */
template <int DV> struct results {
    float largest[2], sum[2], o[DV / 8][4];
};

template <int DV> __device__ __forceinline__ results<DV> no_results(void)
{
    results<DV> r = {};
    r.largest[0] = r.largest[1] = -INFINITY;
    return r;
}

/* s = p of the scores s of one chunk; the results so far are scaled to its maximum. */
template <int N, int DV>
__device__ __forceinline__ void weigh(float (&s)[N][4], float factor, bool first, results<DV> &r)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float largest = s[0][2 * half];
#pragma unroll
        for (int i = 0; i < N; i++) {
            largest = fmaxf(largest, fmaxf(s[i][2 * half], s[i][2 * half + 1]));
        }
        largest = vt_group_max(fmaxf(largest, r.largest[half]), 4);
        float base = largest == -INFINITY ? 0.0f : largest * factor; /* nothing seen: p = 0 */
        if (!first) {
            float shrink = vt_exp2(r.largest[half] * factor - base);
            r.sum[half] *= shrink;
#pragma unroll
            for (int c = 0; c < DV / 8; c++) {
                r.o[c][2 * half] *= shrink;
                r.o[c][2 * half + 1] *= shrink;
            }
        }
        r.largest[half] = largest;
        float sums[2] = {};
#pragma unroll
        for (int i = 0; i < N; i++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                s[i][2 * half + e] = vt_exp2(s[i][2 * half + e] * factor - base);
                sums[e] += s[i][2 * half + e];
            }
        }
        r.sum[half] += sums[0] + sums[1];
    }
}

/* o += p v for 16 keys; values: a lane's address of chunk 0 or 1 of key lane % 16 */
template <typename T, int DV>
__device__ __forceinline__ void multiply_values(const float (&p0)[4], const float (&p1)[4],
                                                uint32_t values, float (&o)[DV / 8][4])
{
    uint32_t weights[4] = {vt_pack2<T>(p0[0], p0[1]), vt_pack2<T>(p0[2], p0[3]),
                           vt_pack2<T>(p1[0], p1[1]), vt_pack2<T>(p1[2], p1[3])};
#pragma unroll
    for (int c = 0; c < DV / 8; c += 2) {
        uint32_t r[4];
        vt_load_blocks_transposed(values ^ (uint32_t)(c << 4), r);
        vt_mma<T>(o[c], weights, r[0], r[1], o[c]);
        vt_mma<T>(o[c + 1], weights, r[2], r[3], o[c + 1]);
    }
}

/* Among the 4 lanes of a query: lane t gets word t of each, in order. */
__device__ __forceinline__ void transpose_words(uint32_t (&w)[4])
{
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int step = 1; step <= 2; step++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int a = step == 1 ? 2 * i : i, b = a + step;
            uint32_t x = __shfl_xor_sync(0xffffffffu, t & step ? w[a] : w[b], step);
            w[a] = t & step ? x : w[a];
            w[b] = t & step ? w[b] : x;
        }
    }
}

/* Writes a lane's share of the two queries' results. */
template <typename T, int DV>
__device__ __forceinline__ void store_results(const vt_cuda_attention &a, int64_t image, int head,
                                              int low, int high, const results<DV> &r)
{
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int pixel = half ? high : low;
        float factor = 1.0f / vt_group_sum(r.sum[half], 4);
        T *row = (T *)a.dst + (image + pixel) * a.dst_pixel + head * DV;
        uint32_t w[4];
#pragma unroll
        for (int c = 0; c < DV / 8; c++) {
            w[c % 4] = vt_pack2<T>(r.o[c][2 * half] * factor, r.o[c][2 * half + 1] * factor);
            if (DV == 16 && pixel >= 0) {
                *reinterpret_cast<uint32_t *>(row + c * 8 + t * 2) = w[c % 4];
            }
            if (c % 4 == 3) {
                transpose_words(w);
                if (pixel >= 0) {
                    *reinterpret_cast<uint4 *>(row + c / 4 * 32 + t * 8) =
                        make_uint4(w[0], w[1], w[2], w[3]);
                }
            }
        }
    }
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* A warp's 16 queries and the part of the box that they see; the queries of a lane. */
typedef struct walk {
    int y, x;         /* first key, in the box */
    int lines, width; /* keys */
    int qy[2], qx;    /* in the group */
    /* Of tables of biases: the first key column of the lane's queries, the first key row of the
     * second one; the entry of key (0, 0) for the first. All from (y, x) on. */
    int first_x, first_y, entry_y, entry_x;
} walk;

/* Returns false where there are no queries. */
__device__ __forceinline__ bool walk_of(const box_map &m, const place &p, int tile, walk *w)
{
    int sub_w = 1 << m.log2_sub_w, sub_h = QUERIES >> m.log2_sub_w;
    int per_row = m.cols.tile >> m.log2_sub_w, g = (int)threadIdx.x % 32 / 4;
    int ty = per_row == 1 ? tile : tile / per_row, y = p.y + ty * sub_h;
    int x = p.x + (tile - ty * per_row) * sub_w;
    int last_y = m.rows.group_queries - 1, last_x = m.cols.group_queries - 1;
    if (y > last_y || x > last_x) {
        return false;
    }
    int key_y = first_key(m.rows, p.group_y, y), key_x = first_key(m.cols, p.group_x, x);
    w->y = key_y - p.box_y;
    w->x = key_x - p.box_x;
    w->lines = first_key(m.rows, p.group_y, min(y + sub_h - 1, last_y)) + m.rows.span - key_y;
    w->width = first_key(m.cols, p.group_x, min(x + sub_w - 1, last_x)) + m.cols.span - key_x;
    w->qy[0] = y + (g >> m.log2_sub_w);
    w->qy[1] = w->qy[0] + sub_h / 2;
    w->qx = x + (g & (sub_w - 1));
    int qx = min(w->qx, last_x);
    w->first_x = first_key(m.cols, p.group_x, qx) - key_x;
    w->first_y = first_key(m.rows, p.group_y, min(y + 1, last_y)) - key_y;
    w->entry_y = key_y - y + m.rows.span - 1;
    w->entry_x = key_x - qx + m.cols.span - 1;
    return true;
}

/* For each of a lane's columns from x0 on, its entries of the table of biases for the first query
 * and the walk's first row. */
template <int N>
__device__ __forceinline__ void find_columns(const box_map &m, const walk &w, int x0,
                                             const float *table, const float *(&column)[N])
{
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < N; i++) {
        int x = x0 + i / 2 * 8 + 2 * t + i % 2;
        bool seen = (unsigned)(x - w.first_x) < (unsigned)m.cols.span;
        int entry = seen ? x + w.entry_x : m.table_w;
        column[i] = table + entry * m.table_pitch + w.entry_y + 1;
    }
}

/* The scores of a chunk of ROWS rows from row y0 on, before the products. The second query is one
 * row below the first, so it meets in each row what the first one met in the row before. */
template <int ROWS, int N>
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
        bool low = y0 + y < m.rows.span;
        bool high = (unsigned)(y0 + y - w.first_y) < (unsigned)m.rows.span;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float now = column[i][y0 + y], *to = s[(y * N + i) / 2];
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
relative_products(const box_map &m, const walk &w, const uint32_t (&q)[D / 16][4],
                  const unsigned char *tile, int row_entries, int entries, float *scratch)
{
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    uint32_t first = lane_key_offset<D>(g), second = first ^ 64;
    for (int block = 0; block < entries; block += 8) {
        float s[4] = {};
        const unsigned char *high = tile + block * D * 2, *low = high + entries * D * 2;
        multiply_block<T, D>(high + first, high + second, q, s);
        multiply_block<T, D>(low + first, low + second, q, s);
        bool is_row = block < row_entries;
        int span = is_row ? m.rows.span : m.cols.span;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int entry = block - (is_row ? 0 : row_entries) + 2 * t + i % 2;
            int key = entry + (is_row ? w.qy[i / 2] : w.qx) - span + 1;
            if ((unsigned)key < (unsigned)span) {
                scratch[(g + i / 2 * 8) * m.scratch + (is_row ? key : m.lines + key)] =
                    s[i] * m.inverse;
            }
        }
    }
}

/* The scores of a chunk of ROWS rows from row y0 and column x0 on, before the products. */
template <int ROWS, int N>
__device__ __forceinline__ void begin_relative(const box_map &m, int y0, int x0,
                                               const float *scratch, float (&s)[ROWS * N / 2][4])
{
    int lane = (int)threadIdx.x % 32;
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

/* LINE keys of each of ROWS rows at a time. */
template <typename T, int DQ, int DV, int LINE, box_positions POSITIONS>
__global__ void __launch_bounds__(THREADS_OF(DQ), BLOCKS_OF(DQ))
    box_kernel(vt_cuda_attention a, box_map m)
{
    constexpr int ROWS = POSITIONS == RELATIVE ? 4 : 8, BLOCKS = ROWS * LINE / 8;
    extern __shared__ __align__(128) unsigned char shared[];
    uint32_t keys = vt_shared_address(shared), values = keys + (uint32_t)(m.keys * DQ * 2);
    unsigned char *rest = shared + m.keys * (DQ + DV) * 2;
    float *floats = reinterpret_cast<float *>(rest);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int row_entries = 0, entries = 0;
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    place p = place_of(a, m);
    load_box<T, DQ, true, DQ == DV>(a, m, p, keys, values);
    if (DQ != DV) {
        load_box<T, DV, false, true>(a, m, p, keys, values);
    }
    vt_copy_async_commit();
    if (POSITIONS == BIASED) {
        load_table(a, m, p.head, floats);
    } else {
        row_entries = (2 * m.rows.span + 6) / 8 * 8;
        entries = row_entries + (2 * m.cols.span + 6) / 8 * 8;
        load_positions<T, DQ>(a, m, vt_shared_address(rest), row_entries, entries);
        floats = reinterpret_cast<float *>(rest + entries * DQ * 4);
        floats += warp * QUERIES * m.scratch;
        for (int i = lane; i < QUERIES * m.scratch; i += 32) {
            floats[i] = -INFINITY;
        }
    }
    vt_copy_async_wait();
    __syncthreads();
    int64_t image = p.image * m.rows.queries * m.cols.queries;
    int tiles = (m.rows.tile * m.cols.tile) / QUERIES;
    for (int tile = warp; tile < tiles; tile += (int)blockDim.x / 32) {
        walk w;
        if (!walk_of(m, p, tile, &w)) {
            continue;
        }
        int low = query_pixel(m, p, w.qy[0], w.qx), high = query_pixel(m, p, w.qy[1], w.qx);
        uint32_t q[DQ / 16][4];
        load_queries<T, DQ>(a, image, p.head, low, high, q);
        if (POSITIONS == RELATIVE) {
            __syncwarp();
            relative_products<T, DQ>(m, w, q, rest, row_entries, entries, floats);
            __syncwarp();
        }
        results<DV> r = no_results<DV>();
        for (int x0 = 0; x0 < w.width; x0 += LINE) {
            const float *column[LINE / 4];
            if (POSITIONS == BIASED) {
                find_columns(m, w, x0, floats, column);
            }
            for (int y0 = 0; y0 < w.lines; y0 += ROWS) {
                float s[BLOCKS][4];
                if (POSITIONS == BIASED) {
                    begin_biased<ROWS>(m, w, y0, column, s);
                } else {
                    begin_relative<ROWS, LINE / 4>(m, y0, x0, floats, s);
                }
                int key = (w.y + y0) * m.pitch + w.x + x0;
                uint32_t offset = lane_key_offset<DQ>(key + lane / 4);
                const unsigned char *first = shared + offset, *second = shared + (offset ^ 64);
#pragma unroll
                for (int i = 0; i < BLOCKS; i++) {
                    int on = i / (LINE / 8) * m.pitch * DQ * 2 + i % (LINE / 8) * 8 * DQ * 2;
                    multiply_block<T, DQ>(first + on, second + on, q, s[i]);
                }
                weigh(s, m.factor, x0 + y0 == 0, r);
                int line = LINE == 16 ? lane % 16 : lane % 16 / 8 * m.pitch + lane % 8;
                uint32_t from = values + vt_tile_offset<DV>(key + line, lane / 16);
#pragma unroll
                for (int i = 0; i < BLOCKS; i += 2) {
                    multiply_values<T, DV>(
                        s[i], s[i + 1], from + (uint32_t)(i / (LINE / 8) * m.pitch * DV * 2), r.o);
                }
            }
        }
        store_results<T, DV>(a, image, p.head, low, high, r);
    }
}

/* ---- everything ------------------------------------------------------------------------------ */

typedef struct line_map {
    int queries, keys, tile, tiles, slab;
    float factor;
} line_map;

/* Starts copying keys [first, first + count) of one head of k or v, and zeros up to a full chunk.
 */
template <typename T, int D, bool KEYS>
__device__ __forceinline__ void load_line(const vt_cuda_attention &a, int64_t image, int head,
                                          int first, int count, uint32_t tile)
{
    constexpr int chunks = D / 8;
    int c = (int)threadIdx.x % chunks;
    int64_t stride = KEYS ? a.k_pixel : a.v_pixel;
    const T *map = (const T *)(KEYS ? a.k : a.v) + (image + first) * stride + head * D + c * 8;
    int rows = (count + 8 * LINE_ROWS - 1) / (8 * LINE_ROWS) * 8 * LINE_ROWS;
    for (int j = (int)threadIdx.x / chunks; j < rows; j += (int)blockDim.x / chunks) {
        uint32_t to = tile + (KEYS ? key_offset<D>(j, c) : vt_tile_offset<D>(j, c));
        if (j < count) {
            vt_copy_async(to, map + j * stride);
        } else {
            vt_store_shared(to, make_uint4(0, 0, 0, 0));
        }
    }
}

/* One chunk of a warp's queries with the keys from `first` of the slab on, `count` of which are
 * keys. */
template <typename T, int DQ, int DV>
__device__ __forceinline__ void line_step(const unsigned char *keys, uint32_t values, int first,
                                          int count, float factor, bool begins,
                                          const uint32_t (&q)[DQ / 16][4], results<DV> &r)
{
    int lane = (int)threadIdx.x % 32;
    float s[LINE_ROWS][4] = {};
    if (count < 8 * LINE_ROWS) {
#pragma unroll
        for (int i = 0; i < LINE_ROWS; i++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[i][e] = 8 * i + lane % 4 * 2 + e % 2 < count ? 0.0f : -INFINITY;
            }
        }
    }
    uint32_t offset = lane_key_offset<DQ>(first + lane / 4);
    const unsigned char *from = keys + offset, *other = keys + (offset ^ 64);
#pragma unroll
    for (int i = 0; i < LINE_ROWS; i++) {
        multiply_block<T, DQ>(from + i * 8 * DQ * 2, other + i * 8 * DQ * 2, q, s[i]);
    }
    weigh(s, factor, begins, r);
    uint32_t at = values + vt_tile_offset<DV>(first + lane % 16, lane / 16);
#pragma unroll
    for (int i = 0; i < LINE_ROWS; i += 2) {
        multiply_values<T, DV>(s[i], s[i + 1], at + (uint32_t)(i * 8 * DV * 2), r.o);
    }
}

template <typename T, int DQ, int DV>
__global__ void __launch_bounds__(THREADS_OF(DQ), BLOCKS_OF(DQ))
    line_kernel(vt_cuda_attention a, line_map m)
{
    extern __shared__ __align__(128) unsigned char shared[];
    uint32_t keys = vt_shared_address(shared), values = keys + (uint32_t)(m.slab * DQ * 2);
    int head, tile, warp = (int)threadIdx.x / 32, g = (int)threadIdx.x % 32 / 4;
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t n = take(take(blockIdx.x, a.heads, &head), m.tiles, &tile);
    int64_t image = n * m.queries;
    int end = min((tile + 1) * m.tile, m.queries);
    bool slabs = m.keys > m.slab; /* then each warp has one turn, and all have it */
    int query = tile * m.tile + warp * QUERIES;
    do {
        int low = query + g < end ? query + g : -1, high = query + g + 8 < end ? low + 8 : -1;
        uint32_t q[DQ / 16][4];
        load_queries<T, DQ>(a, image, head, low, high, q);
        results<DV> r = no_results<DV>();
        for (int first = 0; first < m.keys; first += m.slab) {
            int count = min(m.slab, m.keys - first);
            if (slabs || query == tile * m.tile + warp * QUERIES) {
                __syncthreads();
                load_line<T, DQ, true>(a, n * m.keys, head, first, count, keys);
                load_line<T, DV, false>(a, n * m.keys, head, first, count, values);
                vt_copy_async_commit();
                vt_copy_async_wait();
                __syncthreads();
            }
            for (int j = 0; j < count; j += 8 * LINE_ROWS) {
                line_step<T, DQ, DV>(shared, values, j, count - j, m.factor, first + j == 0, q, r);
            }
        }
        store_results<T, DV>(a, image, head, low, high, r);
        query += (int)blockDim.x / 32 * QUERIES;
    } while (query < end);
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void box_function(vt_cuda_attention, box_map);
typedef void line_function(vt_cuda_attention, line_map);

typedef struct functions {
    box_function *lines_of_8, *lines_of_16, *relative;
    line_function *line;
} functions;

typedef struct variant {
    int qk_width, v_width;
    functions f16, bf16;
} variant;

template <typename T, int DQ, int DV> static constexpr functions functions_of(void)
{
    return {box_kernel<T, DQ, DV, 8, BIASED>, box_kernel<T, DQ, DV, 16, BIASED>,
            box_kernel<T, DQ, DV, 16, RELATIVE>, line_kernel<T, DQ, DV>};
}

template <int DQ, int DV> static constexpr variant variant_of(void)
{
    return {DQ, DV, functions_of<__half, DQ, DV>(), functions_of<__nv_bfloat16, DQ, DV>()};
}

static const variant variants[] = {variant_of<16, 16>(), variant_of<32, 32>(), variant_of<64, 64>(),
                                   variant_of<16, 32>(), variant_of<16, 64>()};

static const variant *variant_for(const vt_cuda_attention *a)
{
    for (const variant &v : variants) {
        if (v.qk_width == a->qk_width && v.v_width == a->v_width) {
            return &v;
        }
    }
    return NULL;
}

/* The smallest tile: one turn of one warp. */
static box_map box_map_least(const vt_cuda_attention *a)
{
    box_map m = box_map_whole(a);
    return box_map_tile(a, &m, QUERIES >> m.log2_sub_w, 1 << m.log2_sub_w, 1);
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
    if (!variant_for(a)) {
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
        a->k_pixel > 1 << 30 || a->v_pixel > 1 << 30) {
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

static cudaError_t multiprocessors(int *count)
{
    int device;
    cudaError_t code = cudaGetDevice(&device);
    return code == cudaSuccess
               ? cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device)
               : code;
}

template <typename M>
static cudaError_t launch(void (*kernel)(vt_cuda_attention, M), int64_t blocks, int warps,
                          size_t shared, cudaStream_t stream, const vt_cuda_attention &a,
                          const M &m)
{
    cudaError_t code = vt_cuda_allow_shared((const void *)kernel);
    return code == cudaSuccess ? vt_cuda_launch(kernel, vt_grid(blocks, 1), (unsigned)warps * 32,
                                                shared, stream, a, m)
                               : code;
}

static int64_t tiles_of(const vt_cuda_attention *a, const box_map *m)
{
    return a->n * a->heads * m->rows.groups * m->rows.tiles * m->cols.groups * m->cols.tiles;
}

/* The tile that loads the fewest keys among those that leave every multiprocessor work. */
static box_map box_map_best(const vt_cuda_attention *a, int processors)
{
    box_map whole = box_map_whole(a), best = box_map_least(a);
    int sub_w = 1 << whole.log2_sub_w, sub_h = QUERIES >> whole.log2_sub_w;
    int64_t least = INT64_MAX;
    for (int h = sub_h; h < whole.rows.group_queries + sub_h && h <= 64; h += sub_h) {
        for (int w = sub_w; w < whole.cols.group_queries + sub_w && w <= 64; w += sub_w) {
            int turns = h * w / QUERIES, most = THREADS_OF(a->qk_width) / 32;
            box_map m = box_map_tile(a, &whole, h, w, turns < most ? turns : most);
            int64_t keys = tiles_of(a, &m) * m.keys;
            bool good = fits(a, &m) && box_shared(a, &m) <= 56 << 10 && turns <= 2 * most;
            if (good && keys < least && tiles_of(a, &m) >= 4 * processors) {
                best = m;
                least = keys;
            }
        }
    }
    return best;
}

static cudaError_t line_run(const vt_cuda_attention *a, const functions *f, int processors,
                            cudaStream_t stream)
{
    line_map m = {};
    m.queries = a->h * a->w;
    m.keys = a->key_h * a->key_w;
    m.factor = VT_LOG2_E * a->scale;
    int slab = a->qk_width + a->v_width > 64 ? SLAB / 2 : SLAB, warps = 4;
    m.slab = m.keys < slab ? round_up(m.keys, 8 * LINE_ROWS) : slab;
    m.tile = warps * QUERIES;
    int64_t images = a->n * a->heads;
    while (m.keys <= m.slab && m.tile < m.queries &&
           images * ((m.queries - 1) / (m.tile + warps * QUERIES) + 1) >= 4 * processors) {
        m.tile += warps * QUERIES;
    }
    m.tiles = (m.queries + m.tile - 1) / m.tile;
    size_t shared = (size_t)m.slab * (size_t)(a->qk_width + a->v_width) * 2;
    return launch(f->line, images * m.tiles, warps, shared, stream, *a, m);
}

cudaError_t vt_cuda_attention_box(const vt_cuda_attention *a, cudaStream_t stream)
{
    if (vt_cuda_attention_box_refuse(a)) {
        return cudaErrorInvalidValue;
    }
    if (a->n < 1) {
        return cudaSuccess;
    }
    int processors;
    cudaError_t code = multiprocessors(&processors);
    if (code != cudaSuccess) {
        return code;
    }
    const variant *v = variant_for(a);
    const functions *f = a->dtype == VT_F16 ? &v->f16 : &v->bf16;
    if (a->pattern.kind == VT_PATTERN_GLOBAL) {
        return line_run(a, f, processors, stream);
    }
    box_map m = box_map_best(a, processors);
    box_function *kernel = has_relative(a) ? f->relative
                           : m.line == 16  ? f->lines_of_16
                                           : f->lines_of_8;
    return launch(kernel, tiles_of(a, &m), m.warps, box_shared(a, &m), stream, *a, m);
}
