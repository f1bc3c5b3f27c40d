/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention of windows on the tensor cores; f16 and bf16, heads of 16, 32 or 64.
 * See vt_attention for the formula. Two kernels, both reading NHWC in place through the pattern:
 *
 * window_kernel, up to 64 tokens: a block of one warp per 16 queries owns one head and loops over
 *   windows, while the next window's q, k and v travel to the other half of its shared memory. S
 *   stays in registers, softmax works within quads of lanes, P goes from the accumulators of S
 *   straight into the product with V. The bias of a lane's own elements of S is read once per
 *   block and waits in registers, as the start of the accumulators; it is -inf past the last
 *   token, which settles the padding of 49 to 56. Shared: 2 x 3 tiles of 64 rows, 24 KiB for
 *   D = 32.
 *
 * stream_kernel, more tokens: a block owns up to 128 queries of one window and head and streams the
 *   keys past them in tiles of 64 with a running maximum and sum. The bias comes from the table of
 *   the head in shared memory, at offset(key) - offset(query).
 *
 * Scores are kept in units of the score's factor f (scale, or exp(temperature) for cosine):
 *   s / f = q.k + bias / f + mask / f, and p = 2^(f log2(e) (s / f - max)).
 * For cosine the product is divided by the lengths of q and k, in f32 from shared memory. */
#include <math.h>

#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/pattern.cuh"
#include "cuda/reduce.cuh"

enum {
    TILE = 64,        /* keys of a tile, queries of a small window */
    WINDOW_WARPS = 4, /* at most */
    STREAM_WARPS = 8, /* at most */
    MOST_TOKENS = VT_WINDOW_ROW_TOKENS,
    TABLE_ENTRIES = 8192
};

/* What a block knows of the scores of its head. */
typedef struct head_scores {
    float factor, inverse; /* f and 1 / f */
    const float *bias;     /* of the head, or NULL */
} head_scores;

__device__ __forceinline__ head_scores head_scores_of(const vt_cuda_attention &a,
                                                      const vt_window_map &m, int head)
{
    float f = a.scale;
    if (a.temperature) {
        f = expf(fminf(a.temperature[head], 4.6051702f)); /* ln 100 */
    }
    int table = (2 * m.rows.window - 1) * (2 * m.cols.window - 1);
    return {f, 1.0f / f, a.bias ? a.bias + (int64_t)head * table : NULL};
}

/* Offset of a token in the bias table: entry(query, key) = centre + of(key) - of(query). */
__device__ __forceinline__ int bias_offset(const vt_window_map &m, int token)
{
    int y = vt_window_row(m, token);
    return y * (2 * m.cols.window - 1) + token - y * m.cols.window;
}
__device__ __forceinline__ int bias_centre(const vt_window_map &m)
{
    return (m.rows.window - 1) * (2 * m.cols.window - 1) + m.cols.window - 1;
}

/* The first byte of chunk `channel / 8` of a pixel. */
template <typename T>
__device__ __forceinline__ const T *chunk_of(const void *map, int64_t stride, int64_t pixel,
                                             int channel)
{
    return (const T *)map + pixel * stride + channel;
}

/* inverse[r] = 1 / max(|row r|, 1e-12) for `rows` rows of a tile; the whole block */
template <typename T, int D>
__device__ __forceinline__ void row_lengths(uint32_t tile, int rows, float *inverse)
{
    constexpr int chunks = D / 8;
    for (int item = (int)threadIdx.x; item < rows * chunks; item += (int)blockDim.x) {
        uint4 raw = vt_load_shared(tile + vt_tile_offset<D>(item / chunks, item % chunks));
        float x[8], squares = 0.0f;
        vt_unpack(*reinterpret_cast<const vt_pack<T, 8> *>(&raw), x);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            squares += x[i] * x[i];
        }
        squares = vt_group_sum(squares, chunks);
        if (item % chunks == 0) {
            inverse[item / chunks] = 1.0f / fmaxf(sqrtf(squares), 1e-12f);
        }
    }
}

/* s *= 1 / (|q| |k|); `keys` are the inverse lengths from the first key on */
template <int N>
__device__ __forceinline__ void to_cosine(float (&s)[N][4], float low, float high,
                                          const float *keys, int t)
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        float2 k = *reinterpret_cast<const float2 *>(keys + 8 * i + 2 * t);
        s[i][0] *= low * k.x;
        s[i][1] *= low * k.y;
        s[i][2] *= high * k.x;
        s[i][3] *= high * k.y;
    }
}

/* Adds `mask` where query and key are of different regions. */
template <int N>
__device__ __forceinline__ void add_mask(float (&s)[N][4], int low, int high, float mask,
                                         const unsigned char *keys, int t)
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        uchar2 k = *reinterpret_cast<const uchar2 *>(keys + 8 * i + 2 * t);
        s[i][0] += k.x == low ? 0.0f : mask;
        s[i][1] += k.y == low ? 0.0f : mask;
        s[i][2] += k.x == high ? 0.0f : mask;
        s[i][3] += k.y == high ? 0.0f : mask;
    }
}

/* Maximum over the keys for the two rows of a lane, joined with what is there. */
template <int N>
__device__ __forceinline__ void row_maxima(const float (&s)[N][4], float *low, float *high)
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        *low = fmaxf(*low, fmaxf(s[i][0], s[i][1]));
        *high = fmaxf(*high, fmaxf(s[i][2], s[i][3]));
    }
    *low = vt_group_max(*low, 4);
    *high = vt_group_max(*high, 4);
}

/* s = 2^(factor s - offset); adds a lane's own part of the sums */
template <int N>
__device__ __forceinline__ void exponentials(float (&s)[N][4], float factor, float low, float high,
                                             float *low_sum, float *high_sum)
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        s[i][0] = vt_exp2(fmaf(s[i][0], factor, -low));
        s[i][1] = vt_exp2(fmaf(s[i][1], factor, -low));
        s[i][2] = vt_exp2(fmaf(s[i][2], factor, -high));
        s[i][3] = vt_exp2(fmaf(s[i][3], factor, -high));
        *low_sum += s[i][0] + s[i][1];
        *high_sum += s[i][2] + s[i][3];
    }
}

/* ---- up to 64 tokens ------------------------------------------------------------------------- */

/* A window on its way through a block. */
template <int ROWS> struct visit {
    int64_t image;   /* first pixel of its image */
    int pixel[ROWS]; /* of the rows this lane copies: in the image, or -1 */
    bool seam;
};

/* Starts copying a window's q, k and v to three tiles from `tile` on; `place` is y << 16 | x of the
 * lane's rows within a window, -1 past the last token. */
template <typename T, int D>
__device__ __forceinline__ visit<D / 16> fetch(const vt_cuda_attention &a, const vt_window_map &m,
                                               int64_t window, int head, const int (&place)[D / 16],
                                               uint32_t tile, unsigned char *region)
{
    constexpr int chunks = D / 8;
    int lane = (int)threadIdx.x % 32, chunk = lane % chunks, wx, wy;
    int row = (int)threadIdx.x / 32 * 16 + lane / chunks, channel = head * D + chunk * 8;
    int64_t n = vt_divide(vt_divide(window, m.cols.windows, &wx), m.rows.windows, &wy);
    int zy = wy * m.rows.window, zx = wx * m.cols.window;
    visit<D / 16> v;
    v.image = n * a.h * a.w;
    v.seam = vt_window_at_seam(m, zy, zx);
#pragma unroll
    for (int i = 0; i < D / 16; i++, row += 32 / chunks) {
        v.pixel[i] = -1;
        if (place[i] < 0) {
            continue;
        }
        int y = zy + (place[i] >> 16), x = zx + (place[i] & 0xffff);
        uint32_t dst = tile + vt_tile_offset<D>(row, chunk);
        v.pixel[i] = vt_window_pixel(m, y, x);
        if (v.pixel[i] >= 0) {
            int64_t pixel = v.image + v.pixel[i];
            vt_copy_async(dst, chunk_of<T>(a.q, a.q_pixel, pixel, channel));
            vt_copy_async(dst + TILE * D * 2, chunk_of<T>(a.k, a.k_pixel, pixel, channel));
            vt_copy_async(dst + 2 * TILE * D * 2, chunk_of<T>(a.v, a.v_pixel, pixel, channel));
        } else {
            vt_store_shared(dst + TILE * D * 2, vt_pad_chunk<T>(a.pad_k, channel));
            vt_store_shared(dst + 2 * TILE * D * 2, vt_pad_chunk<T>(a.pad_v, channel));
        }
        if (v.seam && chunk == 0) {
            region[row] = (unsigned char)vt_window_region(m, y, x);
        }
    }
    return v;
}

/* The bias of this lane's elements of S, over f; -inf past the last key. */
template <int N>
__device__ __forceinline__ void load_bias(const vt_window_map &m, const head_scores &h, int row,
                                          int lane, float (&bias)[N][4])
{
    int low = row + lane / 4, centre = bias_centre(m);
    int low_offset = bias_offset(m, min(low, m.tokens - 1));
    int high_offset = bias_offset(m, min(low + 8, m.tokens - 1));
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int key = 8 * i + 2 * (lane % 4) + e;
            bool inside = key < m.tokens;
            int offset = centre + bias_offset(m, inside ? key : 0);
            bias[i][e] = !inside  ? -INFINITY
                         : h.bias ? h.bias[offset - low_offset] * h.inverse
                                  : 0.0f;
            bias[i][e + 2] = !inside  ? -INFINITY
                             : h.bias ? h.bias[offset - high_offset] * h.inverse
                                      : 0.0f;
        }
    }
}

/* o = softmax(s) v for the 16 rows of a warp, then to rows `row` of the tile of q. */
template <typename T, int D, int N>
__device__ __forceinline__ void finish_window(float (&s)[N][4], float factor, uint32_t tile,
                                              int row, int lane)
{
    float low = -INFINITY, high = -INFINITY, low_sum = 0.0f, high_sum = 0.0f;
    row_maxima(s, &low, &high);
    exponentials(s, factor, low * factor, high * factor, &low_sum, &high_sum);
    float o[D / 8][4] = {};
#pragma unroll
    for (int i = 0; i < N; i += 2) {
        uint32_t p[4] = {vt_pack2<T>(s[i][0], s[i][1]), vt_pack2<T>(s[i][2], s[i][3]), 0, 0};
        if (i + 1 < N) {
            p[2] = vt_pack2<T>(s[i + 1][0], s[i + 1][1]);
            p[3] = vt_pack2<T>(s[i + 1][2], s[i + 1][3]);
        }
        vt_multiply_values<T, D>(p, tile + 2 * TILE * D * 2, i * 8, lane, o);
    }
    low_sum = vt_group_sum(low_sum, 4);
    high_sum = vt_group_sum(high_sum, 4);
    __syncwarp();
    vt_store_rows<T, D>(tile, row, lane, 1.0f / low_sum, 1.0f / high_sum, o);
    __syncwarp();
}

/* Shared: 2 halves of tiles q, k, v; then for cosine 1 / |row| of q and k; then 2 halves of the
 * regions. N: tiles of 8 keys. */
template <typename T, int D, int N, bool COSINE>
__global__ void __launch_bounds__(WINDOW_WARPS * 32, D == 64 || N == 8 ? 3 : 4)
    window_kernel(vt_cuda_attention a, vt_window_map m, int64_t windows, int per_head)
{
    constexpr int chunks = D / 8, rows = D / 16, half_bytes = 3 * TILE * D * 2;
    extern __shared__ __align__(128) unsigned char shared[];
    float *lengths = reinterpret_cast<float *>(shared + 2 * half_bytes);
    unsigned char *regions = shared + 2 * half_bytes + (COSINE ? 2 * TILE * sizeof(float) : 0);
    uint32_t tiles = vt_shared_address(shared);
    vt_let_successor_begin();
    int lane = (int)threadIdx.x % 32, first_row = (int)threadIdx.x / 32 * 16, g = lane / 4;
    int head = (int)(blockIdx.x % (unsigned)a.heads);
    int64_t window = blockIdx.x / (unsigned)a.heads; /* < windows */
    int place[rows];
#pragma unroll
    for (int i = 0; i < rows; i++) {
        int token = first_row + lane / chunks + i * (32 / chunks);
        int y = vt_window_row(m, token);
        place[i] = token < m.tokens ? y << 16 | (token - y * m.cols.window) : -1;
    }
    for (int item = m.tokens * chunks + (int)threadIdx.x; item < TILE * chunks;
         item += (int)blockDim.x) { /* rows of k and v past the last token: zeros for good */
        uint32_t dst = tiles + vt_tile_offset<D>(item / chunks, item % chunks);
        for (int tile = 1; tile <= 2; tile++) {
            vt_store_shared(dst + tile * TILE * D * 2, make_uint4(0, 0, 0, 0));
            vt_store_shared(dst + half_bytes + tile * TILE * D * 2, make_uint4(0, 0, 0, 0));
        }
    }
    head_scores h = head_scores_of(a, m, head);
    float bias[N][4];
    load_bias(m, h, first_row, lane, bias);
    vt_wait_for_predecessor();
    visit<rows> now = fetch<T, D>(a, m, window, head, place, tiles, regions), next = now;
    vt_copy_async_commit();
    for (int half = 0; window < windows; half ^= 1) {
        uint32_t tile = tiles + half * half_bytes;
        unsigned char *region = regions + half * TILE;
        vt_copy_async_wait();
        __syncthreads();
        window += per_head;
        if (window < windows) {
            next = fetch<T, D>(a, m, window, head, place, tiles + (half ^ 1) * half_bytes,
                               regions + (half ^ 1) * TILE);
            vt_copy_async_commit();
        }
        if (COSINE) {
            row_lengths<T, D>(tile, 2 * TILE, lengths);
            __syncthreads();
        }
        uint32_t q[D / 16][4];
        vt_load_left<D>(tile, first_row, lane, q);
        float s[N][4] = {};
        if (COSINE) {
            vt_multiply_keys<T, D, N>(q, tile + TILE * D * 2, lane, s, s);
            to_cosine(s, lengths[first_row + g], lengths[first_row + g + 8], lengths + TILE,
                      lane % 4);
#pragma unroll
            for (int i = 0; i < 4 * N; i++) {
                s[i / 4][i % 4] += bias[i / 4][i % 4];
            }
        } else {
            vt_multiply_keys<T, D, N>(q, tile + TILE * D * 2, lane, bias, s);
        }
        if (now.seam) {
            add_mask(s, region[first_row + g], region[first_row + g + 8],
                     VT_CUDA_MASK_VALUE * h.inverse, region, lane % 4);
        }
        finish_window<T, D, N>(s, h.factor * VT_LOG2_E, tile, first_row, lane);
#pragma unroll
        for (int i = 0; i < rows; i++) {
            int row = first_row + lane / chunks + i * (32 / chunks);
            if (now.pixel[i] >= 0) {
                T *dst = (T *)a.dst + (now.image + now.pixel[i]) * a.dst_pixel + head * D;
                *reinterpret_cast<uint4 *>(dst + lane % chunks * 8) =
                    vt_load_shared(tile + vt_tile_offset<D>(row, lane % chunks));
            }
        }
        now = next;
    }
}

/* ---- more tokens: keys stream by ------------------------------------------------------------- */

/* What a block knows of the tokens of its window, and where its shared memory goes. */
typedef struct stream_slices {
    uint32_t q, keys; /* tile of the block's queries; 2 halves of a tile of k and one of v */
    int *pixel;       /* [tokens up to a multiple of 64]: in the image, -1: padding, -2: none */
    float *table;     /* bias of the head over f */
    float *lengths;   /* cosine: inverse lengths of the queries, then of a tile of keys */
    unsigned short *offset; /* [tokens ...]: in the table */
    unsigned char *region;  /* [tokens ...] */
} stream_slices;

static inline __host__ __device__ int round_up(int x, int to)
{
    return (x + to - 1) / to * to;
}

static inline __host__ __device__ int table_entries(const vt_window_map &m)
{
    return (2 * m.rows.window - 1) * (2 * m.cols.window - 1);
}

static size_t stream_shared(const vt_window_map *m, int width, int queries)
{
    size_t tokens = (size_t)round_up(m->tokens, TILE);
    return ((size_t)queries + 4 * TILE) * (size_t)width * 2 + tokens * (4 + 2 + 1) +
           sizeof(float) * ((size_t)round_up(table_entries(*m), 4) + (size_t)queries + TILE);
}

template <int D>
__device__ __forceinline__ stream_slices stream_slices_of(unsigned char *shared,
                                                          const vt_window_map &m, int queries)
{
    int tokens = round_up(m.tokens, TILE);
    stream_slices s;
    s.q = vt_shared_address(shared);
    s.keys = s.q + (uint32_t)(queries * D * 2);
    s.pixel = reinterpret_cast<int *>(shared + (queries + 4 * TILE) * D * 2);
    s.table = reinterpret_cast<float *>(s.pixel + tokens);
    s.lengths = s.table + round_up(table_entries(m), 4);
    s.offset = reinterpret_cast<unsigned short *>(s.lengths + queries + TILE);
    s.region = reinterpret_cast<unsigned char *>(s.offset + tokens);
    return s;
}

/* The tables of the window at (zy, zx); the whole block, no barrier. */
__device__ __forceinline__ void stream_tables(const vt_window_map &m, const head_scores &h, int zy,
                                              int zx, const stream_slices &s)
{
    for (int token = (int)threadIdx.x; token < round_up(m.tokens, TILE); token += (int)blockDim.x) {
        int y = vt_window_row(m, token), x = token - y * m.cols.window;
        bool inside = token < m.tokens;
        s.pixel[token] = inside ? vt_window_pixel(m, zy + y, zx + x) : -2;
        s.offset[token] = (unsigned short)(inside ? bias_offset(m, token) : 0);
        s.region[token] = (unsigned char)(inside ? vt_window_region(m, zy + y, zx + x) : 0);
    }
    for (int i = (int)threadIdx.x; i < table_entries(m); i += (int)blockDim.x) {
        s.table[i] = h.bias ? h.bias[i] * h.inverse : 0.0f;
    }
}

/* Starts copying the keys and values from token `first` on; the whole block. */
template <typename T, int D>
__device__ __forceinline__ void stream_fetch(const vt_cuda_attention &a, const stream_slices &s,
                                             int64_t image, int head, int first, uint32_t tile)
{
    constexpr int chunks = D / 8;
    for (int item = (int)threadIdx.x; item < TILE * chunks; item += (int)blockDim.x) {
        int row = item / chunks, channel = head * D + item % chunks * 8,
            pixel = s.pixel[first + row];
        uint32_t dst = tile + vt_tile_offset<D>(row, item % chunks);
        if (pixel >= 0) {
            vt_copy_async(dst, chunk_of<T>(a.k, a.k_pixel, image + pixel, channel));
            vt_copy_async(dst + TILE * D * 2, chunk_of<T>(a.v, a.v_pixel, image + pixel, channel));
        } else {
            vt_store_shared(dst, vt_pad_chunk<T>(pixel == -1 ? a.pad_k : NULL, channel));
            vt_store_shared(dst + TILE * D * 2,
                            vt_pad_chunk<T>(pixel == -1 ? a.pad_v : NULL, channel));
        }
    }
}

/* What a lane keeps of its two queries, low and high, from one tile of keys to the next. */
template <int D> struct stream_rows {
    float low, high, low_sum, high_sum; /* running maxima and this lane's part of the sums */
    int low_offset, high_offset, low_region, high_region;
    float o[D / 8][4];
};

/* s = bias / f (ADD: added to it) of the lane's queries and the 64 keys from token `first` on */
template <int D, bool ADD>
__device__ __forceinline__ void stream_bias(const stream_slices &slices, const stream_rows<D> &rows,
                                            int first, int t, float (&s)[8][4])
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        ushort2 k = *reinterpret_cast<const ushort2 *>(slices.offset + first + 8 * i + 2 * t);
        const float *low = slices.table + rows.low_offset, *high = slices.table + rows.high_offset;
        s[i][0] = low[k.x] + (ADD ? s[i][0] : 0.0f);
        s[i][1] = low[k.y] + (ADD ? s[i][1] : 0.0f);
        s[i][2] = high[k.x] + (ADD ? s[i][2] : 0.0f);
        s[i][3] = high[k.y] + (ADD ? s[i][3] : 0.0f);
    }
}

/* One tile of keys: `left` of its 64 are tokens. */
template <typename T, int D>
__device__ __forceinline__ void stream_step(float (&s)[8][4], stream_rows<D> &rows, float factor,
                                            int left, uint32_t values, int lane)
{
    if (left < TILE) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int key = 8 * i + 2 * (lane % 4);
            s[i][0] = key < left ? s[i][0] : -INFINITY;
            s[i][1] = key + 1 < left ? s[i][1] : -INFINITY;
            s[i][2] = key < left ? s[i][2] : -INFINITY;
            s[i][3] = key + 1 < left ? s[i][3] : -INFINITY;
        }
    }
    float low = rows.low, high = rows.high;
    row_maxima(s, &rows.low, &rows.high);
    float low_shrink = vt_exp2((low - rows.low) * factor);
    float high_shrink = vt_exp2((high - rows.high) * factor);
    rows.low_sum *= low_shrink;
    rows.high_sum *= high_shrink;
    exponentials(s, factor, rows.low * factor, rows.high * factor, &rows.low_sum, &rows.high_sum);
#pragma unroll
    for (int c = 0; c < D / 8; c++) {
        rows.o[c][0] *= low_shrink;
        rows.o[c][1] *= low_shrink;
        rows.o[c][2] *= high_shrink;
        rows.o[c][3] *= high_shrink;
    }
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        if (8 * i < left) {
            uint32_t p[4] = {vt_pack2<T>(s[i][0], s[i][1]), vt_pack2<T>(s[i][2], s[i][3]),
                             vt_pack2<T>(s[i + 1][0], s[i + 1][1]),
                             vt_pack2<T>(s[i + 1][2], s[i + 1][3])};
            vt_multiply_values<T, D>(p, values, 8 * i, lane, rows.o);
        }
    }
}

/* Starts copying the queries of a warp into the tile of q, or writes its results out from there. */
template <typename T, int D>
__device__ __forceinline__ void stream_queries(const vt_cuda_attention &a, const vt_window_map &m,
                                               const stream_slices &s, int64_t image, int head,
                                               int first_query, bool out)
{
    constexpr int chunks = D / 8;
    int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 16 + lane / chunks;
    int channel = head * D + lane % chunks * 8;
#pragma unroll
    for (int i = 0; i < D / 16; i++, row += 32 / chunks) {
        int token = first_query + row, pixel = token < m.tokens ? s.pixel[token] : -2;
        uint32_t at = s.q + vt_tile_offset<D>(row, lane % chunks);
        if (pixel >= 0 && out) {
            T *dst = (T *)a.dst + (image + pixel) * a.dst_pixel + channel;
            *reinterpret_cast<uint4 *>(dst) = vt_load_shared(at);
        } else if (pixel >= 0) {
            vt_copy_async(at, chunk_of<T>(a.q, a.q_pixel, image + pixel, channel));
        }
    }
}

template <typename T, int D, bool COSINE>
__global__ void __launch_bounds__(STREAM_WARPS * 32, D == 64 ? 1 : 2)
    stream_kernel(vt_cuda_attention a, vt_window_map m, int parts)
{
    extern __shared__ __align__(128) unsigned char shared[];
    int queries = (int)blockDim.x / 2, part, head, wx, wy;
    stream_slices slices = stream_slices_of<D>(shared, m, queries);
    vt_let_successor_begin();
    int64_t rest = vt_divide(vt_divide(blockIdx.x, parts, &part), a.heads, &head);
    rest = vt_divide(vt_divide(rest, m.cols.windows, &wx), m.rows.windows, &wy);
    int64_t image = rest * a.h * a.w;
    int zy = wy * m.rows.window, zx = wx * m.cols.window, first_query = part * queries;
    int lane = (int)threadIdx.x % 32, first_row = (int)threadIdx.x / 32 * 16;
    head_scores h = head_scores_of(a, m, head);
    bool seam = vt_window_at_seam(m, zy, zx);
    stream_tables(m, h, zy, zx, slices);
    __syncthreads();
    vt_wait_for_predecessor();
    stream_queries<T, D>(a, m, slices, image, head, first_query, false);
    stream_fetch<T, D>(a, slices, image, head, 0, slices.keys);
    vt_copy_async_commit();
    int low = min(first_query + first_row + lane / 4, m.tokens - 1),
        high = min(low + 8, m.tokens - 1);
    stream_rows<D> rows = {-INFINITY, -INFINITY, 0.0f, 0.0f};
    rows.low_offset = bias_centre(m) - slices.offset[low];
    rows.high_offset = bias_centre(m) - slices.offset[high];
    rows.low_region = slices.region[low];
    rows.high_region = slices.region[high];
    uint32_t q[D / 16][4];
    for (int first = 0, half = 0; first < m.tokens; first += TILE, half ^= 1) {
        uint32_t tile = slices.keys + (uint32_t)(half * 2 * TILE * D * 2);
        vt_copy_async_wait();
        __syncthreads();
        if (first + TILE < m.tokens) {
            stream_fetch<T, D>(a, slices, image, head, first + TILE,
                               slices.keys + (uint32_t)((half ^ 1) * 2 * TILE * D * 2));
            vt_copy_async_commit();
        }
        if (COSINE) {
            if (first == 0) {
                row_lengths<T, D>(slices.q, queries, slices.lengths);
            }
            row_lengths<T, D>(tile, TILE, slices.lengths + queries);
            __syncthreads();
        }
        if (first == 0) {
            vt_load_left<D>(slices.q, first_row, lane, q);
        }
        float s[8][4] = {};
        if (COSINE) {
            const float *mine = slices.lengths + first_row + lane / 4;
            vt_multiply_keys<T, D, 8>(q, tile, lane, s, s);
            to_cosine(s, mine[0], mine[8], slices.lengths + queries, lane % 4);
            stream_bias<D, true>(slices, rows, first, lane % 4, s);
        } else {
            stream_bias<D, false>(slices, rows, first, lane % 4, s);
            vt_multiply_keys<T, D, 8>(q, tile, lane, s, s);
        }
        if (seam) {
            add_mask(s, rows.low_region, rows.high_region, VT_CUDA_MASK_VALUE * h.inverse,
                     slices.region + first, lane % 4);
        }
        stream_step<T, D>(s, rows, h.factor * VT_LOG2_E, m.tokens - first, tile + TILE * D * 2,
                          lane);
    }
    float low_sum = vt_group_sum(rows.low_sum, 4), high_sum = vt_group_sum(rows.high_sum, 4);
    __syncwarp();
    vt_store_rows<T, D>(slices.q, first_row, lane, 1.0f / low_sum, 1.0f / high_sum, rows.o);
    __syncwarp();
    stream_queries<T, D>(a, m, slices, image, head, first_query, true);
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void window_function(vt_cuda_attention, vt_window_map, int64_t, int);
typedef void stream_function(vt_cuda_attention, vt_window_map, int);

/* The kernels of one type and head width, with the dot and with the cosine score. */
typedef struct variants {
    int width;
    window_function *window_56[2], *window_64[2]; /* up to so many tokens */
    stream_function *stream[2];
} variants;

template <typename T, int D> static constexpr variants variants_of(void)
{
    return {D,
            {window_kernel<T, D, 7, false>, window_kernel<T, D, 7, true>},
            {window_kernel<T, D, 8, false>, window_kernel<T, D, 8, true>},
            {stream_kernel<T, D, false>, stream_kernel<T, D, true>}};
}

static const variants bf16_variants[] = {variants_of<__nv_bfloat16, 16>(),
                                         variants_of<__nv_bfloat16, 32>(),
                                         variants_of<__nv_bfloat16, 64>()};
static const variants f16_variants[] = {variants_of<__half, 16>(), variants_of<__half, 32>(),
                                        variants_of<__half, 64>()};

const char *vt_cuda_attention_mma_refuse(const vt_cuda_attention *a)
{
    const char *reason = vt_window_refuse(a);
    if (reason) {
        return reason;
    }
    reason = vt_tensor_core_refuse(a);
    if (reason) {
        return reason;
    }
    if (a->qk_width != a->v_width ||
        (a->qk_width != 16 && a->qk_width != 32 && a->qk_width != 64)) {
        return "the head width is not 16, 32 or 64";
    }
    if (!a->temperature && !(a->scale > 0.0f)) {
        return "the scale is not positive";
    }
    vt_window_map map = vt_window_map_make(a);
    if (map.tokens > MOST_TOKENS || table_entries(map) > TABLE_ENTRIES) {
        return "the window is too large";
    }
    return NULL;
}

/* Blocks that the device holds at a time. */
static cudaError_t resident_blocks(const void *kernel, int threads, size_t shared, int *blocks)
{
    int processors, per_processor;
    cudaError_t e = vt_cuda_multiprocessors(&processors);
    if (e == cudaSuccess) {
        e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, threads, shared);
    }
    if (e == cudaSuccess) {
        *blocks = processors * (per_processor > 0 ? per_processor : 1);
    }
    return e;
}

/* A block of a head visits the same number of windows as the others, give or take one. */
static cudaError_t launch_window(const vt_cuda_attention *a, const vt_window_map *map,
                                 window_function *kernel, cudaStream_t stream)
{
    int threads = (map->tokens + 15) / 16 * 32, blocks;
    size_t shared = (size_t)(6 * TILE * a->qk_width * 2) + 2 * TILE +
                    (a->temperature ? 2 * TILE * sizeof(float) : 0);
    cudaError_t e = vt_cuda_allow_shared((const void *)kernel);
    if (e == cudaSuccess) {
        e = resident_blocks((const void *)kernel, threads, shared, &blocks);
    }
    if (e != cudaSuccess) {
        return e;
    }
    int64_t windows = vt_window_count(a, map), most = blocks / a->heads > 0 ? blocks / a->heads : 1;
    int64_t visits = (windows + most - 1) / most;
    int64_t per_head = (windows + visits - 1) / visits;
    return vt_cuda_launch(kernel, vt_grid(per_head * a->heads, 1), threads, shared, stream, *a,
                          *map, windows, (int)per_head);
}

static cudaError_t launch_stream(const vt_cuda_attention *a, const vt_window_map *map,
                                 stream_function *kernel, cudaStream_t stream)
{
    int warps = (map->tokens + 15) / 16, parts = (warps + STREAM_WARPS - 1) / STREAM_WARPS;
    warps = (warps + parts - 1) / parts;
    size_t shared = stream_shared(map, a->qk_width, warps * 16);
    cudaError_t e = vt_cuda_allow_shared((const void *)kernel);
    if (e != cudaSuccess) {
        return e;
    }
    unsigned grid = vt_grid(vt_window_count(a, map) * a->heads * parts, 1);
    return vt_cuda_launch(kernel, grid, warps * 32, shared, stream, *a, *map, parts);
}

cudaError_t vt_cuda_attention_mma(const vt_cuda_attention *a, cudaStream_t stream)
{
    if (vt_cuda_attention_mma_refuse(a)) {
        return cudaErrorInvalidValue;
    }
    if (a->n < 1) {
        return cudaSuccess;
    }
    const variants *table = a->dtype == VT_F16 ? f16_variants : bf16_variants;
    while (table->width != a->qk_width) {
        table++;
    }
    vt_window_map map = vt_window_map_make(a);
    bool cosine = a->temperature != NULL;
    if (map.tokens > TILE) {
        return launch_stream(a, &map, table->stream[cosine], stream);
    }
    return launch_window(
        a, &map, map.tokens <= 56 ? table->window_56[cosine] : table->window_64[cosine], stream);
}
