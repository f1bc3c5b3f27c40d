/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention on the tensor cores where every query sees every key: the queries of an image
 * are one long row, and so are its keys. A block owns one head of some queries. Keys that do not
 * fit into shared memory come in slabs. f16 and bf16; see vt_attention for the formula and
 * attention_chunk.cuh for how a warp works. */
#include "cuda/attention_chunk.cuh"

enum {
    SLAB = 448,
    ROWS = 8 /* rows of 8 keys at a time */
};

typedef struct line_map {
    int queries, keys, tile, slab;
    vt_divisor heads, tiles;
    float factor;
} line_map;

/* Starts copying keys [first, first + count) of one head of k or v, zeros up to a full chunk. */
template <typename T, int D, bool KEYS>
__device__ __forceinline__ void load_line(const vt_cuda_attention &a, int64_t image, int head,
                                          int first, int count, uint32_t tile)
{
    constexpr int chunks = D / 8;
    int c = (int)(threadIdx.x % chunks);
    int64_t stride = KEYS ? a.k_pixel : a.v_pixel;
    const T *map = (const T *)(KEYS ? a.k : a.v) + (image + first) * stride + head * D + c * 8;
    int rows = (count + 8 * ROWS - 1) / (8 * ROWS) * 8 * ROWS;
    for (int j = (int)(threadIdx.x / chunks); j < rows; j += VT_CHUNK_THREADS / chunks) {
        uint32_t to = tile + (KEYS ? vt_key_offset<D>(j, c) : vt_tile_offset<D>(j, c));
        if (j < count) {
            vt_copy_async(to, map + j * stride);
        } else {
            vt_store_shared(to, make_uint4(0, 0, 0, 0));
        }
    }
}

/* The scores of a chunk with `count` keys before the products. */
__device__ __forceinline__ void begin_line(int count, float (&s)[ROWS][4])
{
    int lane = (int)(threadIdx.x % 32);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[i][e] = 8 * i + lane % 4 * 2 + e % 2 < count ? 0.0f : -INFINITY;
        }
    }
}

template <typename T, int D>
__device__ __forceinline__ void load_line_turn(const vt_cuda_attention &a, const T *first,
                                               int query, int end, vt_queries<D> &q)
{
    int low = query + (int)(threadIdx.x % 32 / 4), high = low + 8;
    vt_load_queries<T, D>(a, first, low < end ? low : -1, high < end ? high : -1, q);
}

/* SLABS: the keys do not fit into shared memory; then each warp has one turn, and all have it. */
template <typename T, int DQ, int DV, bool SLABS>
__global__ void __launch_bounds__(VT_CHUNK_THREADS, VT_CHUNK_BLOCKS(DQ) + (DQ < 64))
    line_kernel(vt_cuda_attention a, line_map m)
{
    extern __shared__ __align__(128) unsigned char shared[];
    uint32_t keys = vt_shared_address(shared), values = keys + (uint32_t)(m.slab * DQ * 2);
    int head, tile;
    vt_let_successor_begin();
    int64_t n = vt_take(vt_take(blockIdx.x, m.heads, &head), m.tiles, &tile);
    int begin = tile * m.tile + (int)(threadIdx.x / 32) * VT_CHUNK_QUERIES;
    int end = min((tile + 1) * m.tile, m.queries), on = VT_CHUNK_WARPS * VT_CHUNK_QUERIES;
    const T *from = vt_lane_queries<T, DQ>(a, n * m.queries, head);
    T *to = vt_lane_results<T, DV>(a, n * m.queries, head);
    vt_wait_for_predecessor();
    vt_queries<DQ> next;
    load_line_turn<T, DQ>(a, from, begin, end, next);
    if (!SLABS) {
        load_line<T, DQ, true>(a, n * m.keys, head, 0, m.keys, keys);
        load_line<T, DV, false>(a, n * m.keys, head, 0, m.keys, values);
        vt_copy_async_commit();
        vt_copy_async_wait();
        __syncthreads();
    }
    for (int query = begin; SLABS ? query == begin : query < end; query += on) {
        if (query != begin) {
            load_line_turn<T, DQ>(a, from, query, end, next);
        }
        int low = next.pixel[0], high = next.pixel[1];
        uint32_t q[DQ / 16][4];
        vt_results<DV> r = vt_no_results<DV>();
        vt_query_fragments(next, q);
        for (int first = 0; first < m.keys; first += m.slab) {
            int count = SLABS ? min(m.slab, m.keys - first) : m.keys;
            if (SLABS) {
                __syncthreads();
                load_line<T, DQ, true>(a, n * m.keys, head, first, count, keys);
                load_line<T, DV, false>(a, n * m.keys, head, first, count, values);
                vt_copy_async_commit();
                vt_copy_async_wait();
                __syncthreads();
            }
            for (int j = 0; j < count; j += 8 * ROWS) {
                float s[ROWS][4] = {};
                if (count - j < 8 * ROWS) {
                    begin_line(count - j, s);
                }
                vt_chunk_step<T, DQ, DV, 8, ROWS>(shared, values, j, 8, m.factor, first + j == 0, q,
                                                  s, r);
            }
        }
        vt_store_results<T, DV>(a, to, low, high, r);
    }
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void line_function(vt_cuda_attention, line_map);

typedef struct functions {
    line_function *whole, *slabs;
} functions;

typedef struct variant {
    int qk_width, v_width;
    functions f16, bf16;
} variant;

template <int DQ, int DV> static constexpr variant variant_of(void)
{
    return {DQ,
            DV,
            {line_kernel<__half, DQ, DV, false>, line_kernel<__half, DQ, DV, true>},
            {line_kernel<__nv_bfloat16, DQ, DV, false>, line_kernel<__nv_bfloat16, DQ, DV, true>}};
}

static const variant variants[] = {VT_CHUNK_WIDTHS(variant_of)};

cudaError_t vt_cuda_attention_line(const vt_cuda_attention *a, cudaStream_t stream)
{
    int processors;
    cudaError_t code = vt_cuda_multiprocessors(&processors);
    const variant *v = vt_variant_for(variants, a);
    if (code != cudaSuccess || !v) {
        return code != cudaSuccess ? code : cudaErrorInvalidValue;
    }
    const functions *f = a->dtype == VT_F16 ? &v->f16 : &v->bf16;
    line_map m = {};
    m.heads = vt_divisor_of(a->heads);
    m.queries = a->h * a->w;
    m.keys = a->key_h * a->key_w;
    m.factor = VT_LOG2_E * a->scale;
    int slab = a->qk_width + a->v_width > 64 ? SLAB / 2 : SLAB;
    m.slab = m.keys < slab ? vt_round_up(m.keys, 8 * ROWS) : slab;
    size_t shared = (size_t)m.slab * (size_t)(a->qk_width + a->v_width) * 2;
    int64_t images = a->n * a->heads;
    int turns = (m.queries + VT_CHUNK_QUERIES - 1) / VT_CHUNK_QUERIES;
    int most = m.keys > m.slab ? VT_CHUNK_WARPS : 64;
    double least = INFINITY;
    for (int share = most < turns ? most : turns; share > 0; share--) {
        int64_t blocks = images * ((turns + share - 1) / share);
        double cost = vt_chunk_cost(m.slab, share, shared, processors, blocks);
        if (cost < least) {
            m.tile = share * VT_CHUNK_QUERIES;
            least = cost;
        }
    }
    m.tiles = vt_divisor_of((m.queries + m.tile - 1) / m.tile);
    return vt_launch_chunks(m.keys > m.slab ? f->slabs : f->whole, images * m.tiles.count, shared,
                            stream, *a, m);
}
