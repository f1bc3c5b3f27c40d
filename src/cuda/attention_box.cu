/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention on the tensor cores for patterns in which a tile of queries meets a box of
 * keys: neighborhoods, blocks with a halo, everything. f16 and bf16; see vt_attention for the
 * formula.
 *
 * Neighborhoods of one sub-grid (residue of the dilation), the blocks of a halo pattern, and the
 * whole map are groups; inside a group both maps are plain grids. A block owns one head of a tile
 * of 64 queries and loads the box of keys that any of them sees. Each of its four warps owns 16
 * queries of the tile, 4 x 4, and walks through its own part of the box: rows of keys are gathered
 * by the addresses of ldmatrix, so that no key is computed that none of the 16 queries can see (for
 * 7 x 7 neighborhoods 10 x 10 keys, against the 14 x 14 of the box). What a single query does not
 * see is -inf. A box that is larger than shared memory comes in slabs (everything only).
 *
 * Scores are kept in base 2: t = log2(e) (scale q.k + position), p = 2^(t - max), with a running
 * maximum and sum.
 *
 * Shared: the tile of queries (also of results), the box of k and of v, the head's table of
 * positions, and the products of each query with the tables of rows and columns. */
#include <math.h>

#include "cuda/mma.cuh"
#include "cuda/pattern.cuh"
#include "cuda/reduce.cuh"

enum {
    WARPS = 4,
    THREADS = 32 * WARPS,
    QUERIES = 64,
    CHUNK = 64,
    SLAB = 448,
    MOST_SHARED =
        99 << 10 /* what every GPU from sm_80 on has; two blocks a multiprocessor on most */
};

/* One axis: groups of queries and keys. Query q of group g is at g * query_group + q * step, key k
 * at g * key_group - halo + k * step. */
typedef struct box_axis {
    int queries, keys; /* sizes of the maps */
    int padded;        /* keys with the padding */
    int groups, query_group, key_group, step, halo;
    int group_queries; /* at most, of one group */
    int span, stride;  /* keys of a query; queries that share them */
    int tile, tiles;   /* queries of a tile; tiles of a group */
    int box;           /* keys of a box, at most */
    bool slides;       /* the keys of a query depend on its place in the group */
} box_axis;

typedef struct box_map {
    box_axis rows, cols;
    int log2_sub_w;     /* a warp's queries: 16 >> log2_sub_w rows of so many columns */
    int table_w, table; /* of positions: width, entries; 0: none */
    bool relative;      /* there are tables of rows and columns */
    int slab;           /* keys in shared memory at a time */
} box_map;

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
    x.tile = 8;
    if (p->kind == VT_PATTERN_NEIGHBORHOOD) {
        int dilation = rows ? p->dilation_h : p->dilation_w;
        x.step = x.groups = dilation > 1 ? dilation : 1;
        x.query_group = x.key_group = 1;
        x.padded = x.keys > window * x.step ? x.keys : window * x.step;
        x.group_queries = (x.queries + x.step - 1) / x.step;
        x.slides = true;
        x.box = x.tile + x.stride + window - 2;
        int longest = (x.padded + x.step - 1) / x.step;
        x.box = x.box < longest ? x.box : longest;
    } else {
        x.halo = rows ? p->halo_h : p->halo_w;
        x.span = x.box = window + 2 * x.halo;
        x.padded = x.keys;
        x.groups = x.keys / window;
        x.key_group = window;
        x.query_group = x.group_queries = window / x.stride;
    }
    x.tiles = (x.group_queries + x.tile - 1) / x.tile;
    return x;
}

/* A row of `size` queries or keys: GLOBAL needs no places. */
static box_axis box_line(int queries, int keys, int tile)
{
    box_axis x = {};
    x.queries = x.group_queries = x.query_group = queries;
    x.keys = x.padded = x.key_group = x.span = x.box = keys;
    x.groups = x.step = x.stride = 1;
    x.tile = tile;
    x.tiles = (queries + tile - 1) / tile;
    return x;
}

static box_map box_map_make(const vt_cuda_attention *a)
{
    box_map m = {};
    if (a->pattern.kind == VT_PATTERN_GLOBAL) {
        m.rows = box_line(1, 1, 1);
        m.cols = box_line(a->h * a->w, a->key_h * a->key_w, QUERIES);
        m.log2_sub_w = 4;
    } else {
        m.rows = box_axis_make(a, true);
        m.cols = box_axis_make(a, false);
        m.log2_sub_w = 2;
    }
    int box = m.rows.box * m.cols.box, slab = a->qk_width + a->v_width > 64 ? SLAB / 2 : SLAB;
    bool global = a->pattern.kind == VT_PATTERN_GLOBAL;
    m.slab = ((global && box > slab ? slab : box) + 15) & ~15;
    m.table_w = 2 * m.cols.span - 1;
    m.table = a->bias ? m.table_w * (2 * m.rows.span - 1) : 0;
    m.relative = a->position_rows != NULL;
    return m;
}

static size_t box_shared(const box_map *m, int qk_width, int v_width)
{
    size_t widest = (size_t)(qk_width > v_width ? qk_width : v_width);
    size_t relative = m->relative ? (size_t)QUERIES * (size_t)(m->rows.span + m->cols.span) : 0;
    return (QUERIES * widest + (size_t)m->slab * (size_t)(qk_width + v_width)) * 2 +
           sizeof(float) * ((size_t)m->table + relative);
}

/* The first key that query q of a group sees, in the group. */
__device__ __forceinline__ int first_key(const box_axis &x, int group, int q)
{
    if (!x.slides) {
        return 0;
    }
    int n = x.padded / x.step + (group < x.padded % x.step);
    int leader = x.stride == 1 ? q : q / x.stride * x.stride + x.stride / 2;
    return max(min(min(leader, n - 1) - x.span / 2, n - x.span), 0);
}

/* Where a block works: group and first query of the tile on each axis, and its box. */
typedef struct place {
    int head, group_y, group_x, y, x; /* y, x: first query of the tile, in the group */
    int box_y, box_x, box_h, box_w;
    int64_t image;
} place;

__device__ __forceinline__ place place_of(const vt_cuda_attention &a, const box_map &m)
{
    place p;
    int64_t rest = vt_divide(blockIdx.x, a.heads, &p.head);
    rest = vt_divide(vt_divide(rest, m.cols.tiles, &p.x), m.cols.groups, &p.group_x);
    rest = vt_divide(vt_divide(rest, m.rows.tiles, &p.y), m.rows.groups, &p.group_y);
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

/* Pixel of a query of the tile in its image, or -1. */
__device__ __forceinline__ int query_pixel(const box_map &m, const place &p, int qy, int qx)
{
    int y = p.group_y * m.rows.query_group + (p.y + qy) * m.rows.step;
    int x = p.group_x * m.cols.query_group + (p.x + qx) * m.cols.step;
    bool inside = p.y + qy < m.rows.group_queries && p.x + qx < m.cols.group_queries &&
                  y < m.rows.queries && x < m.cols.queries;
    return inside ? y * m.cols.queries + x : -1;
}

/* Place in the tile of query `i` of warp `w`. */
__device__ __forceinline__ void query_place(const box_map &m, int w, int i, int *y, int *x)
{
    int sub_w = 1 << m.log2_sub_w, sub_h = 16 >> m.log2_sub_w;
    int per_row = m.cols.tile >> m.log2_sub_w; /* warps side by side */
    *y = w / per_row * sub_h + (i >> m.log2_sub_w);
    *x = w % per_row * sub_w + (i & (sub_w - 1));
}

/* Starts copying keys [first, first + count) of the box, of one head of k or v; the whole block. */
template <typename T, int D>
__device__ __forceinline__ void load_box(const vt_cuda_attention &a, const box_map &m,
                                         const place &p, const void *map, int64_t stride,
                                         const float *pad, int first, int count, uint32_t tile)
{
    constexpr int chunks = D / 8;
    int64_t image = p.image * m.rows.keys * m.cols.keys;
    for (int item = (int)threadIdx.x; item < count * chunks; item += THREADS) {
        int row = item / chunks, channel = p.head * D + item % chunks * 8;
        int ky = (first + row) / p.box_w, kx = first + row - ky * p.box_w;
        int y = p.group_y * m.rows.key_group - m.rows.halo + (p.box_y + ky) * m.rows.step;
        int x = p.group_x * m.cols.key_group - m.cols.halo + (p.box_x + kx) * m.cols.step;
        uint32_t dst = tile + vt_tile_offset<D>(row, item % chunks);
        if (y >= 0 && y < m.rows.keys && x >= 0 && x < m.cols.keys) {
            vt_copy_async(dst, (const T *)map + (image + y * m.cols.keys + x) * stride + channel);
        } else {
            vt_store_shared(dst, vt_pad_chunk<T>(pad, channel));
        }
    }
}

/* Starts copying the tile of queries; zeros where there is none. */
template <typename T, int D>
__device__ __forceinline__ void load_queries(const vt_cuda_attention &a, const box_map &m,
                                             const place &p, uint32_t tile)
{
    constexpr int chunks = D / 8;
    int64_t image = p.image * m.rows.queries * m.cols.queries;
    for (int item = (int)threadIdx.x; item < QUERIES * chunks; item += THREADS) {
        int row = item / chunks, channel = p.head * D + item % chunks * 8, qy, qx;
        query_place(m, row / 16, row % 16, &qy, &qx);
        int pixel = query_pixel(m, p, qy, qx);
        uint32_t dst = tile + vt_tile_offset<D>(row, item % chunks);
        if (pixel >= 0) {
            vt_copy_async(dst, (const T *)a.q + (image + pixel) * a.q_pixel + channel);
        } else {
            vt_store_shared(dst, make_uint4(0, 0, 0, 0));
        }
    }
}

/* products[query][k] = log2(e) q . rows[k - query + span - 1], then the same for columns. */
template <typename T, int D>
__device__ __forceinline__ void relative_products(const vt_cuda_attention &a, const box_map &m,
                                                  const place &p, const T *tile, float *products)
{
    int width = m.rows.span + m.cols.span;
    for (int item = (int)threadIdx.x; item < QUERIES * width; item += THREADS) {
        int row = item / width, k = item % width, qy, qx;
        query_place(m, row / 16, row % 16, &qy, &qx);
        bool is_row = k < m.rows.span;
        const float *table = is_row ? a.position_rows : a.position_cols;
        int entry = is_row ? k - (p.y + qy) + m.rows.span - 1
                           : k - m.rows.span - (p.x + qx) + m.cols.span - 1;
        float sum = 0.0f;
        entry = max(entry, 0); /* only where there is no query */
        for (int c = 0; c < D; c++) {
            const T *q = tile + vt_tile_offset<D>(row, c / 8) / 2 + c % 8;
            sum += vt_to_float(*q) * table[entry * D + c];
        }
        products[item] = VT_LOG2_E * sum;
    }
}

/* One of a lane's two queries. */
typedef struct query_row {
    int first_y, first_x; /* the first key it sees, in the box */
    int offset;           /* entry of key (y, x) of the box: offset + y * table_w + x */
    const float *relative;
    float largest, sum;
} query_row;

__device__ __forceinline__ query_row query_row_of(const box_map &m, const place &p, int warp, int i,
                                                  const float *products)
{
    int qy, qx;
    query_place(m, warp, i, &qy, &qx);
    qy = min(p.y + qy, m.rows.group_queries - 1);
    qx = min(p.x + qx, m.cols.group_queries - 1);
    query_row r;
    r.first_y = first_key(m.rows, p.group_y, qy) - p.box_y;
    r.first_x = first_key(m.cols, p.group_x, qx) - p.box_x;
    r.offset = (p.box_y - qy + m.rows.span - 1) * m.table_w + p.box_x - qx + m.cols.span - 1;
    r.relative = products + (warp * 16 + i) * (m.rows.span + m.cols.span);
    r.largest = -INFINITY;
    r.sum = 0.0f;
    return r;
}

/* The score of a query and key (y, x) of the box in base 2, from their product. */
__device__ __forceinline__ float score_of(const box_map &m, const query_row &r, float product,
                                          float factor, int y, int x, bool inside,
                                          const float *table)
{
    unsigned dy = (unsigned)(y - r.first_y), dx = (unsigned)(x - r.first_x);
    if (!inside || dy >= (unsigned)m.rows.span || dx >= (unsigned)m.cols.span) {
        return -INFINITY;
    }
    float s = product * factor;
    if (m.table) {
        s += table[r.offset + y * m.table_w + x];
    }
    if (m.relative) {
        s += r.relative[y] + r.relative[m.rows.span + x];
    }
    return s;
}

/* The part of the box in shared memory that a warp walks through. */
typedef struct walk {
    int first, width, count; /* first row; keys of a line; keys */
    int y, x;                /* of its first key, in the box */
    unsigned reciprocal;     /* 2^20 / width, rounded up: j / width = j * reciprocal >> 20 */
} walk;

__device__ __forceinline__ int walk_row(const walk &w, int box_w, int j)
{
    int line = (int)((unsigned)j * w.reciprocal >> 20);
    return w.first + line * box_w + j - line * w.width;
}

/* The lines and columns of the box that a warp's queries see; in slabs (one line) all of it. */
__device__ __forceinline__ walk walk_of(const box_map &m, const place &p, int warp, int keys)
{
    int y0, x0, y1, x1;
    walk w = {};
    query_place(m, warp, 0, &y0, &x0);
    query_place(m, warp, 15, &y1, &x1);
    y0 = min(p.y + y0, m.rows.group_queries - 1);
    x0 = min(p.x + x0, m.cols.group_queries - 1);
    y1 = min(p.y + y1, m.rows.group_queries - 1);
    x1 = min(p.x + x1, m.cols.group_queries - 1);
    w.y = first_key(m.rows, p.group_y, y0) - p.box_y;
    w.x = first_key(m.cols, p.group_x, x0) - p.box_x;
    int lines = first_key(m.rows, p.group_y, y1) + m.rows.span - p.box_y - w.y;
    w.width = first_key(m.cols, p.group_x, x1) + m.cols.span - p.box_x - w.x;
    w.count = lines * w.width;
    if (w.count > keys) { /* a slab */
        w.width = w.count = keys;
    }
    w.first = w.y * p.box_w + w.x;
    w.reciprocal = ((1u << 20) + (unsigned)w.width - 1) / (unsigned)w.width;
    return w;
}

/* Joins the maximum of a row of scores; returns what the sums so far are multiplied by. */
__device__ __forceinline__ float raise_maximum(query_row &r, float largest, float *base)
{
    largest = fmaxf(r.largest, vt_group_max(largest, 4));
    *base = largest == -INFINITY ? 0.0f : largest; /* nothing seen yet: p = 2^-inf = 0 */
    float shrink = vt_exp2(r.largest - *base);
    r.largest = largest;
    r.sum *= shrink;
    return shrink;
}

/* One chunk of up to 64 keys, from key `j0` of the walk on. */
template <typename T, int DQ, int DV>
__device__ __forceinline__ void box_step(const box_map &m, const place &p, const walk &w, int j0,
                                         float factor, const float *table, uint32_t keys,
                                         uint32_t values, const uint32_t (&q)[DQ / 16][4],
                                         query_row &low, query_row &high, float (&o)[DV / 8][4])
{
    int lane = (int)threadIdx.x % 32, last = w.count - 1;
    float s[CHUNK / 8][4] = {};
#pragma unroll
    for (int i = 0; i < CHUNK / 8; i += 2) {
        if (j0 + 8 * i < w.count) {
            int row = walk_row(w, p.box_w, min(j0 + 8 * i + lane / 16 * 8 + lane % 8, last));
#pragma unroll
            for (int step = 0; step < DQ / 16; step++) {
                uint32_t r[4];
                vt_load_blocks(keys + vt_tile_offset<DQ>(row, 2 * step + lane / 8 % 2), r);
                vt_mma<T>(s[i], q[step], r[0], r[1], s[i]);
                vt_mma<T>(s[i + 1], q[step], r[2], r[3], s[i + 1]);
            }
        }
    }
    float low_most = -INFINITY, high_most = -INFINITY, low_base, high_base;
#pragma unroll
    for (int i = 0; i < CHUNK / 8; i++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int j = j0 + 8 * i + 2 * (lane % 4) + e;
            int line = (int)((unsigned)j * w.reciprocal >> 20);
            int y = w.y + line, x = w.x + j - line * w.width;
            s[i][e] = score_of(m, low, s[i][e], factor, y, x, j <= last, table);
            s[i][e + 2] = score_of(m, high, s[i][e + 2], factor, y, x, j <= last, table);
            low_most = fmaxf(low_most, s[i][e]);
            high_most = fmaxf(high_most, s[i][e + 2]);
        }
    }
    float low_shrink = raise_maximum(low, low_most, &low_base);
    float high_shrink = raise_maximum(high, high_most, &high_base);
#pragma unroll
    for (int c = 0; c < DV / 8; c++) {
        o[c][0] *= low_shrink;
        o[c][1] *= low_shrink;
        o[c][2] *= high_shrink;
        o[c][3] *= high_shrink;
    }
#pragma unroll
    for (int i = 0; i < CHUNK / 8; i++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            s[i][e] = vt_exp2(s[i][e] - low_base);
            s[i][e + 2] = vt_exp2(s[i][e + 2] - high_base);
            low.sum += s[i][e];
            high.sum += s[i][e + 2];
        }
    }
#pragma unroll
    for (int i = 0; i < CHUNK / 8; i += 2) {
        if (j0 + 8 * i < w.count) {
            uint32_t weights[4] = {vt_pack2<T>(s[i][0], s[i][1]), vt_pack2<T>(s[i][2], s[i][3]),
                                   vt_pack2<T>(s[i + 1][0], s[i + 1][1]),
                                   vt_pack2<T>(s[i + 1][2], s[i + 1][3])};
            int row = walk_row(w, p.box_w, min(j0 + 8 * i + lane % 16, last));
#pragma unroll
            for (int c = 0; c < DV / 8; c += 2) {
                uint32_t r[4];
                vt_load_blocks_transposed(values + vt_tile_offset<DV>(row, c + lane / 16), r);
                vt_mma<T>(o[c], weights, r[0], r[1], o[c]);
                vt_mma<T>(o[c + 1], weights, r[2], r[3], o[c + 1]);
            }
        }
    }
}

template <typename T, int DQ, int DV>
__global__ void __launch_bounds__(THREADS) box_kernel(vt_cuda_attention a, box_map m)
{
    constexpr int widest = DQ > DV ? DQ : DV;
    extern __shared__ __align__(128) unsigned char shared[];
    uint32_t queries = vt_shared_address(shared), keys = queries + QUERIES * widest * 2;
    uint32_t values = keys + (uint32_t)(m.slab * DQ * 2);
    float *table = reinterpret_cast<float *>(shared + (QUERIES * widest + m.slab * (DQ + DV)) * 2);
    float *products = table + m.table;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    place p = place_of(a, m);
    int box = p.box_h * p.box_w;
    for (int i = (int)threadIdx.x; i < m.table; i += THREADS) {
        table[i] = VT_LOG2_E * a.bias[(int64_t)p.head * m.table + i];
    }
    load_queries<T, DQ>(a, m, p, queries);
    query_row low = query_row_of(m, p, warp, lane / 4, products);
    query_row high = query_row_of(m, p, warp, lane / 4 + 8, products);
    uint32_t q[DQ / 16][4];
    float o[DV / 8][4] = {};
    for (int first = 0; first < box; first += m.slab) {
        int count = min(m.slab, box - first);
        load_box<T, DQ>(a, m, p, a.k, a.k_pixel, a.pad_k, first, count, keys);
        load_box<T, DV>(a, m, p, a.v, a.v_pixel, a.pad_v, first, count, values);
        vt_copy_async_commit();
        vt_copy_async_wait();
        __syncthreads();
        if (first == 0) {
            vt_load_left<DQ>(queries, warp * 16, lane, q);
            if (m.relative) {
                relative_products<T, DQ>(a, m, p, reinterpret_cast<const T *>(shared), products);
                __syncthreads();
            }
        }
        walk w = walk_of(m, p, warp, count);
        for (int j = 0; j < w.count; j += CHUNK) {
            box_step<T, DQ, DV>(m, p, w, j, a.scale * VT_LOG2_E, table, keys, values, q, low, high,
                                o);
        }
        __syncthreads(); /* the next slab, or the results, go where something was read */
    }
    float low_sum = vt_group_sum(low.sum, 4), high_sum = vt_group_sum(high.sum, 4);
    vt_store_rows<T, DV>(queries, warp * 16, lane, 1.0f / low_sum, 1.0f / high_sum, o);
    __syncwarp();
    constexpr int chunks = DV / 8;
    int64_t image = p.image * m.rows.queries * m.cols.queries;
    for (int item = lane; item < 16 * chunks; item += 32) {
        int row = item / chunks, qy, qx;
        query_place(m, warp, row, &qy, &qx);
        int pixel = query_pixel(m, p, qy, qx);
        if (pixel >= 0) {
            T *dst = (T *)a.dst + (image + pixel) * a.dst_pixel + p.head * DV + item % chunks * 8;
            *reinterpret_cast<uint4 *>(dst) =
                vt_load_shared(queries + vt_tile_offset<DV>(warp * 16 + row, item % chunks));
        }
    }
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void box_function(vt_cuda_attention, box_map);

typedef struct variant {
    int qk_width, v_width;
    box_function *f16, *bf16;
} variant;

template <int DQ, int DV> static constexpr variant variant_of(void)
{
    return {DQ, DV, box_kernel<__half, DQ, DV>, box_kernel<__nv_bfloat16, DQ, DV>};
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
    if (a->position_rows && a->pattern.kind != VT_PATTERN_HALO) {
        return "positions depend on the query";
    }
    if ((int64_t)a->h * a->w > 1 << 30 || (int64_t)a->key_h * a->key_w > 1 << 30) {
        return "the map is beyond 2^30 pixels";
    }
    const vt_pattern *p = &a->pattern;
    if (p->window_h > 64 || p->window_w > 64 || p->halo_h > 64 || p->halo_w > 64) {
        return "the window is too large";
    }
    box_map m = box_map_make(a);
    return m.slab > 1024 || box_shared(&m, a->qk_width, a->v_width) > MOST_SHARED
               ? "the keys of a tile do not fit into shared memory"
               : NULL;
}

cudaError_t vt_cuda_attention_box(const vt_cuda_attention *a, cudaStream_t stream)
{
    if (vt_cuda_attention_box_refuse(a)) {
        return cudaErrorInvalidValue;
    }
    if (a->n < 1) {
        return cudaSuccess;
    }
    box_map m = box_map_make(a);
    box_function *kernel = a->dtype == VT_F16 ? variant_for(a)->f16 : variant_for(a)->bf16;
    size_t shared = box_shared(&m, a->qk_width, a->v_width);
    cudaError_t code = cudaFuncSetAttribute(
        (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (code != cudaSuccess) {
        return code;
    }
    int64_t blocks = a->n * a->heads * m.rows.groups * m.rows.tiles * m.cols.groups * m.cols.tiles;
    kernel<<<vt_grid(blocks, 1), THREADS, shared, stream>>>(*a, m);
    return cudaGetLastError();
}
