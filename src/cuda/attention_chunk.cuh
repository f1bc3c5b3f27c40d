/* SPDX-License-Identifier: Apache-2.0 */
/* What attention kernels share whose warps take turns with 16 queries and walk through keys in
 * shared memory, in chunks of rows of 8 or 16 keys: fragments, a chunk's step, the results; and how
 * such a kernel is started.
 *
 * Scores start as what is added to the products, over the scale: -inf where the query does not see
 * the key. Then p = 2^(log2(e) scale (score - max)), with a running maximum and sum.
 *
 * Fragments of queries and keys hold the channels of a row in an order of their own (a lane's are
 * neighbours, 16 bytes of them), the same for both: a product does not depend on it. */
#ifndef VT_CUDA_ATTENTION_CHUNK_CUH
#define VT_CUDA_ATTENTION_CHUNK_CUH

#include <math.h>

#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/pattern.cuh"
#include "cuda/reduce.cuh"

/* Of a block; queries of a warp's turn. */
enum { VT_CHUNK_WARPS = 4, VT_CHUNK_THREADS = 32 * VT_CHUNK_WARPS, VT_CHUNK_QUERIES = 16 };

/* How many blocks shall share a multiprocessor's registers. */
#define VT_CHUNK_BLOCKS(width) ((width) == 64 ? 3 : 4)

/* Host side: the kernels for heads of these widths, or NULL. */
template <typename V, int N>
static const V *vt_variant_for(const V (&variants)[N], const vt_cuda_attention *a)
{
    for (const V &v : variants) {
        if (v.qk_width == a->qk_width && v.v_width == a->v_width) {
            return &v;
        }
    }
    return NULL;
}

/* The widths of heads that there are kernels for: f<of q and k, of v>(). */
#define VT_CHUNK_WIDTHS(f) f<16, 16>(), f<32, 32>(), f<64, 64>(), f<16, 32>(), f<16, 64>()

/* A divisor and 2^32 over it, rounded down. */
typedef struct vt_divisor {
    unsigned count, inverse;
} vt_divisor;

static inline vt_divisor vt_divisor_of(int count)
{
    vt_divisor d = {(unsigned)count, count > 1 ? (unsigned)((1ull << 32) / (unsigned)count) : 0};
    return d;
}

/* rest / d, with the remainder in *index: the estimate is too small by 1 at most. */
__device__ __forceinline__ unsigned vt_take(unsigned rest, const vt_divisor &d, int *index)
{
    *index = 0;
    if (d.count == 1) {
        return rest;
    }
    unsigned quotient = (unsigned)((uint64_t)rest * d.inverse >> 32);
    unsigned left = rest - quotient * d.count;
    bool more = left >= d.count;
    *index = (int)(more ? left - d.count : left);
    return quotient + more;
}

static inline int vt_round_up(int x, int to)
{
    return (x + to - 1) / to * to;
}

/* ---- fragments ------------------------------------------------------------------------------- */

/* Where chunk `c` of a row of keys lies: four neighbouring chunks of two neighbouring rows touch
 * every bank once. */
template <int D> __device__ __forceinline__ uint32_t vt_key_offset(int row, int c)
{
    return (uint32_t)(row * D * 2 + ((c ^ (D == 64 ? row % 2 * 4 : 0)) << 4));
}

/* A lane's words of a row of D elements: chunk t, for D = 64 chunk t + 4 as well, for D = 16 half
 * of a chunk. */
template <int D>
__device__ __forceinline__ void vt_load_words(const unsigned char *first,
                                              const unsigned char *second, uint32_t (&w)[D / 8])
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

/* A lane's words of its two queries; of any pixel where there is none. */
template <int D> struct vt_queries {
    int pixel[2]; /* or -1 */
    uint32_t w[2][D / 8];
};

/* first: the lane's first word of pixel 0. */
template <typename T, int D>
__device__ __forceinline__ void vt_load_queries(const vt_cuda_attention &a, const T *first, int low,
                                                int high, vt_queries<D> &q)
{
    q.pixel[0] = low;
    q.pixel[1] = high;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const T *row = first + (int64_t)max(q.pixel[half], 0) * (int)a.q_pixel;
        const unsigned char *p = reinterpret_cast<const unsigned char *>(row);
        vt_load_words<D>(p, p + 64, q.w[half]);
    }
}

/* Where a lane's words of the queries of a head begin in its image, and its results. */
template <typename T, int D>
__device__ __forceinline__ const T *vt_lane_queries(const vt_cuda_attention &a, int64_t image,
                                                    int head)
{
    return (const T *)a.q + image * a.q_pixel + head * D +
           (int)(threadIdx.x % 4) * (D == 16 ? 4 : 8);
}
template <typename T, int D>
__device__ __forceinline__ T *vt_lane_results(const vt_cuda_attention &a, int64_t image, int head)
{
    return (T *)a.dst + image * a.dst_pixel + head * D + (int)(threadIdx.x % 4) * (D == 16 ? 2 : 8);
}

/* Their fragments; zeros where there is no query. */
template <int D>
__device__ __forceinline__ void vt_query_fragments(const vt_queries<D> &q,
                                                   uint32_t (&fragments)[D / 16][4])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int i = 0; i < D / 8; i++) {
            fragments[i / 2][i % 2 * 2 + half] = q.pixel[half] >= 0 ? q.w[half][i] : 0;
        }
    }
}

/* The first of a lane's words of key `row` of a tile. */
template <int D> __device__ __forceinline__ uint32_t vt_lane_key_offset(int row)
{
    int t = (int)(threadIdx.x % 4);
    return D == 16 ? (uint32_t)(row * D * 2 + t * 8) : vt_key_offset<D>(row, t);
}

/* s += q k^T for the 8 keys from `first` of a tile on; other = the place of chunk t + 4 */
template <typename T, int D>
__device__ __forceinline__ void vt_multiply_block(const unsigned char *first,
                                                  const unsigned char *other,
                                                  const uint32_t (&q)[D / 16][4], float (&s)[4])
{
    uint32_t w[D / 8];
    vt_load_words<D>(first, other, w);
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        vt_mma<T>(s, q[step], w[2 * step], w[2 * step + 1], s);
    }
}

/* ---- a chunk of keys ------------------------------------------------------------------------- */

/* Of a lane's two queries. */
template <int DV> struct vt_results {
    float largest[2], o[DV / 8][4], sum[4]; /* sum: the product of p and columns of ones */
};

template <int DV> __device__ __forceinline__ vt_results<DV> vt_no_results(void)
{
    vt_results<DV> r = {};
    r.largest[0] = r.largest[1] = -INFINITY;
    return r;
}

/* s = p of the scores s of one chunk; the results so far are scaled to its maximum. The first query
 * sees only the first LOW blocks. */
template <int LOW, int N, int DV>
__device__ __forceinline__ void vt_weigh(float (&s)[N][4], float factor, bool first,
                                         vt_results<DV> &r)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int blocks = half ? N : LOW;
        float largest = s[0][2 * half];
#pragma unroll
        for (int i = 0; i < blocks; i++) {
            largest = fmaxf(largest, fmaxf(s[i][2 * half], s[i][2 * half + 1]));
        }
        largest = vt_group_max(fmaxf(largest, r.largest[half]), 4);
        float base = largest == -INFINITY ? 0.0f : largest * factor; /* nothing seen: p = 0 */
        if (!first) {
            float shrink = vt_exp2(r.largest[half] * factor - base);
            r.sum[2 * half] *= shrink;
#pragma unroll
            for (int c = 0; c < DV / 8; c++) {
                r.o[c][2 * half] *= shrink;
                r.o[c][2 * half + 1] *= shrink;
            }
        }
        r.largest[half] = largest;
#pragma unroll
        for (int i = 0; i < N; i++) {
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                s[i][e] = i < blocks ? vt_exp2(s[i][e] * factor - base) : 0.0f;
            }
        }
    }
}

/* o += p v for 16 keys; values: a lane's address of chunk 0 or 1 of key lane % 16 */
template <typename T, int DV>
__device__ __forceinline__ void vt_add_values(const float (&p0)[4], const float (&p1)[4],
                                              uint32_t values, vt_results<DV> &result)
{
    uint32_t weights[4] = {vt_pack2<T>(p0[0], p0[1]), vt_pack2<T>(p0[2], p0[3]),
                           vt_pack2<T>(p1[0], p1[1]), vt_pack2<T>(p1[2], p1[3])};
    uint32_t ones = vt_pack2<T>(1.0f, 1.0f);
#pragma unroll
    for (int c = 0; c < DV / 8; c += 2) {
        uint32_t r[4];
        vt_load_blocks_transposed(values ^ (uint32_t)(c << 4), r);
        vt_mma<T>(result.o[c], weights, r[0], r[1], result.o[c]);
        vt_mma<T>(result.o[c + 1], weights, r[2], r[3], result.o[c + 1]);
    }
    vt_mma<T>(result.sum, weights, ones, ones, result.sum);
}

/* Among the 4 lanes of a query: lane t gets word t of each, in order. */
__device__ __forceinline__ void vt_transpose_words(uint32_t (&w)[4])
{
    int t = (int)(threadIdx.x % 4);
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

/* Writes a lane's share of the two queries' results; first: where it begins in pixel 0. */
template <typename T, int DV>
__device__ __forceinline__ void vt_store_results(const vt_cuda_attention &a, T *first, int low,
                                                 int high, const vt_results<DV> &r)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int pixel = half ? high : low;
        float factor = __fdividef(1.0f, r.sum[2 * half]);
        T *row = first + (int64_t)pixel * (int)a.dst_pixel;
        uint32_t w[4];
#pragma unroll
        for (int c = 0; c < DV / 8; c++) {
            w[c % 4] = vt_pack2<T>(r.o[c][2 * half] * factor, r.o[c][2 * half + 1] * factor);
            if (DV == 16 && pixel >= 0) {
                *reinterpret_cast<uint32_t *>(row + c * 8) = w[c % 4];
            }
            if (c % 4 == 3) {
                vt_transpose_words(w);
                if (pixel >= 0) {
                    *reinterpret_cast<uint4 *>(row + c / 4 * 32) =
                        make_uint4(w[0], w[1], w[2], w[3]);
                }
            }
        }
    }
}

/* The products of one chunk: s += q k^T, p of it, o += p v. `key`: its first key in shared
 * memory. */
template <typename T, int DQ, int DV, int LINE, int LOW, int N>
__device__ __forceinline__ void
vt_chunk_step(const unsigned char *keys, uint32_t values, int key, int pitch, float factor,
              bool first, const uint32_t (&q)[DQ / 16][4], float (&s)[N][4], vt_results<DV> &r)
{
    constexpr int across = LINE / 8;
    int lane = (int)(threadIdx.x % 32);
    uint32_t offset = vt_lane_key_offset<DQ>(key + lane / 4);
    const unsigned char *from = keys + offset, *other = keys + (offset ^ 64);
#pragma unroll
    for (int i = 0; i < N; i++) {
        int on = (i / across * pitch + i % across * 8) * DQ * 2;
        vt_multiply_block<T, DQ>(from + on, other + on, q, s[i]);
    }
    vt_weigh<LOW>(s, factor, first, r);
    int line = LINE == 16 ? lane % 16 : lane % 16 / 8 * pitch + lane % 8;
    uint32_t at = values + vt_tile_offset<DV>(key + line, lane / 16);
#pragma unroll
    for (int i = 0; i < N; i += 2) {
        vt_add_values<T, DV>(s[i], s[i + 1], at + (uint32_t)(i / across * pitch * DV * 2), r);
    }
}

/* ---- launch ---------------------------------------------------------------------------------- */

/* How long the blocks of a kernel take, from times on an H100 and in instructions of a warp: a
 * block's beginning, its keys, the turns of its warps. Blocks beyond those that the
 * multiprocessors hold wait. */
static inline double vt_chunk_cost(int keys, int turns, size_t shared, int processors,
                                   int64_t blocks)
{
    enum { BEGIN = 400, KEY = 2, TURN = 2400, SHARED = 150 << 10, RESIDENT = 4 };
    double held = fmin(RESIDENT, (double)SHARED / (double)shared);
    int rounds = (turns + VT_CHUNK_WARPS - 1) / VT_CHUNK_WARPS;
    return ceil((double)blocks / (held * processors)) * (BEGIN + KEY * keys + TURN * rounds);
}

template <typename M>
static cudaError_t vt_launch_chunks(void (*kernel)(vt_cuda_attention, M), int64_t blocks,
                                    size_t shared, cudaStream_t stream, const vt_cuda_attention &a,
                                    const M &m)
{
    cudaError_t code = vt_cuda_allow_shared((const void *)kernel);
    return code == cudaSuccess
               ? vt_cuda_launch(kernel, vt_grid(blocks, 1), VT_CHUNK_THREADS, shared, stream, a, m)
               : code;
}

/* The pattern GLOBAL of vt_cuda_attention_box, for arguments that it does not refuse. */
cudaError_t vt_cuda_attention_line(const vt_cuda_attention *a, cudaStream_t stream);

#endif
