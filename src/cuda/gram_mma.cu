/* SPDX-License-Identifier: Apache-2.0 */
/* Linear attention and attention among channels on the tensor cores: f16 or bf16, heads of 32
 * channels. For one head of one image, over its pixels i:
 *   S[o][k] = sum_i r_i[o] c_i[k]      r = v, c = relu(k)        r = left, c = right
 *   dst_i[o] = sum_k W[o][k] x_i[k]    W = S, over the sum of    W = softmax_k(scale S),
 *                                      weights, x = relu(q)      x = value
 *
 * No tile goes through shared memory: the order in which a product takes its terms, rows and
 * columns is free, so each is chosen such that a lane's own elements are neighbours in memory.
 * Lane l = 4 g + t of a warp, for 16 pixels:
 *   S    reads channels 4g .. 4g + 3 of r and c of pixels t, t + 4, t + 8, t + 12, pairs them by
 *        pixel, and holds of the sum rows 4g .. 4g + 3, columns 8t .. 8t + 7;
 *   dst  which is what it needs of W as the right operand; it reads channels 8t .. 8t + 7 of x of
 *        pixels g and g + 8, and writes those of dst.
 * The columns' own sums, which linear attention divides by, are one more row of S: r = 1.
 *
 * All sums are f32. W is split into two halves, high + low, so that it loses no more than 2^-16 of
 * the largest element (f16: 2^-22).
 *
 * whole_kernel: a block owns a head of an image; its warps take turns with the pixels, and add
 *   their sums in a fixed order. part_kernel and serve_kernel, for few heads of many pixels: a
 *   block sums a part of the pixels, then a block adds all parts and serves one.
 * Shared: the sums of each warp, 4 or 5 KiB. */
#include <math.h>

#include "cuda/convert.cuh"
#include "cuda/instructions.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"

enum {
    WIDTH = 32, /* channels of a head */
    TILE = 16,  /* pixels of a product */
    WARPS = 8,  /* of a block at most */
    SUM_TILES = 2,
    APPLY_TILES = 4, /* tiles whose loads a warp has under way */
    MOST_PARTS = 16,
    BLOCKS = 132 /* that many parts fill a large GPU */
};

/* ---- arguments ------------------------------------------------------------------------------- */

typedef struct gram_plan {
    int warps, parts; /* parts 1: whole_kernel */
} gram_plan;

/* By the size of the map alone, so that the order of the sums is too. From times on an H100
 * (bench/cuda_kernels --summed): at least three tiles for a warp; parts while the heads fill half
 * of its multiprocessors. */
static gram_plan gram_plan_make(int64_t pairs, int64_t pixels)
{
    int64_t tiles = (pixels + TILE - 1) / TILE, parts = tiles / WARPS, wanted = BLOCKS / pairs;
    gram_plan plan = {WARPS, 1};
    while (plan.warps > 1 && plan.warps * 3 > tiles) {
        plan.warps /= 2;
    }
    parts = parts < wanted ? parts : wanted;
    if (parts > 1) {
        plan.parts = (int)(parts < MOST_PARTS ? parts : MOST_PARTS);
    }
    return plan;
}

/* Both products of a head; strides in elements. */
typedef struct gram_args {
    const void *rows, *cols, *x;
    void *dst;
    int64_t image_rows, image_cols, image_x, image_dst; /* from one image to the next */
    int rows_pixel, cols_pixel, x_pixel, dst_pixel;
    int pixels, heads, parts;
    float4 *partial; /* [pair][part][chunk][lane] */
    const float *temperature;
    float scale, floor;
} gram_args;

/* What a block works for: a head of an image. */
template <typename T> struct gram_head {
    const T *rows, *cols, *x;
    T *dst;
    int head;
};

template <typename T> __device__ __forceinline__ gram_head<T> head_of(const gram_args &a, int pair)
{
    int image = pair / a.heads, head = pair - image * a.heads, channel = head * WIDTH;
    return {(const T *)a.rows + image * a.image_rows + channel,
            (const T *)a.cols + image * a.image_cols + channel,
            (const T *)a.x + image * a.image_x + channel,
            (T *)a.dst + image * a.image_dst + channel, head};
}

/* ---- S --------------------------------------------------------------------------------------- */

typedef vt_pack<uint32_t, 2> four_channels;
typedef vt_pack<uint32_t, 4> eight_channels;

/* The channels at `map` of a pixel; from pixel `end` on those of the one before. */
template <typename P, typename T>
__device__ __forceinline__ P channels_of(const T *map, int stride, int pixel, int end)
{
    return *(const P *)(const void *)(map + (int64_t)min(pixel, end - 1) * stride);
}

/* The larger of each half and 0: none of its bits where the sign is set. */
__device__ __forceinline__ uint32_t relu_pair(uint32_t x)
{
    return x & ~((x >> 15 & 0x00010001u) * 0xffffu);
}

/* Halves `which` (0: the low ones) of two words. */
__device__ __forceinline__ uint32_t pair_halves(uint32_t low, uint32_t high, int which)
{
    return which ? low >> 16 | (high & 0xffff0000u) : (low & 0xffffu) | high << 16;
}

template <typename T> __device__ __forceinline__ uint32_t pair_of_ones(void)
{
    return vt_pack2<T>(1.0f, 1.0f);
}

/* A lane's part of S as accumulators: of row 4g + 2i + e columns 8t + j and 8t + j + 4 are
 * at[i][j][2e] and at[i][j][2e + 1]; i = 2 are the sums of the columns, twice. */
template <bool LINEAR> struct gram_sums {
    static constexpr int CHUNKS = LINEAR ? 10 : 8;
    float at[2 + LINEAR][4][4];
};

/* Adds 16 pixels. */
template <typename T, bool LINEAR>
__device__ __forceinline__ void add_tile(const four_channels (&r)[4], const four_channels (&c)[4],
                                         gram_sums<LINEAR> &s)
{
    uint32_t a[3][4];
#pragma unroll
    for (int e = 0; e < 4; e++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            a[i][e] = pair_halves(r[e / 2 * 2].at[i], r[e / 2 * 2 + 1].at[i], e % 2);
        }
        a[2][e] = pair_of_ones<T>();
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        uint32_t b0 = pair_halves(c[0].at[j / 2], c[1].at[j / 2], j % 2);
        uint32_t b1 = pair_halves(c[2].at[j / 2], c[3].at[j / 2], j % 2);
#pragma unroll
        for (int i = 0; i < 2 + LINEAR; i++) {
            vt_mma<T>(s.at[i][j], a[i], b0, b1, s.at[i][j]);
        }
    }
}

/* Adds this warp's tiles of the pixels from `begin` to `end`. */
template <typename T, bool LINEAR>
__device__ __forceinline__ void add_pixels(const gram_args &a, const gram_head<T> &h, int begin,
                                           int end, gram_sums<LINEAR> &s)
{
    int lane = (int)threadIdx.x % 32, step = (int)blockDim.x / 32 * TILE;
    const T *rows = h.rows + lane / 4 * 4, *cols = h.cols + lane / 4 * 4;
    for (int first = begin + (int)threadIdx.x / 32 * TILE; first < end; first += SUM_TILES * step) {
        four_channels r[SUM_TILES][4], c[SUM_TILES][4];
#pragma unroll
        for (int i = 0; i < 4 * SUM_TILES; i++) {
            int pixel = first + i / 4 * step + i % 4 * 4 + lane % 4;
            r[i / 4][i % 4] = channels_of<four_channels>(rows, a.rows_pixel, pixel, end);
            c[i / 4][i % 4] = channels_of<four_channels>(cols, a.cols_pixel, pixel, end);
        }
#pragma unroll
        for (int i = 0; i < SUM_TILES; i++) {
#pragma unroll
            for (int k = 0; k < 8; k++) { /* past the end: products with 0 */
                uint32_t x = c[i][k / 2].at[k % 2];
                bool inside = first + i * step + k / 2 * 4 + lane % 4 < end;
                c[i][k / 2].at[k % 2] = inside ? LINEAR ? relu_pair(x) : x : 0;
            }
            add_tile<T>(r[i], c[i], s);
        }
    }
}

/* A part of S as it is stored: chunk 2j + h of a lane are columns 8t + 4h ... of row 4g + j, and of
 * the sums of the columns for j = 4. */
template <bool LINEAR>
__device__ __forceinline__ void store_sums(const gram_sums<LINEAR> &s, float4 *part)
{
#pragma unroll
    for (int chunk = 0; chunk < gram_sums<LINEAR>::CHUNKS; chunk++) {
        const float(&row)[4][4] = s.at[chunk / 4];
        part[chunk * 32 + (int)threadIdx.x % 32] = {row[0][chunk % 4], row[1][chunk % 4],
                                                    row[2][chunk % 4], row[3][chunk % 4]};
    }
}

/* sum = the parts in their order, by all threads of the block; may be the first part. */
template <int CHUNKS>
__device__ __forceinline__ void add_parts(const float4 *parts, int count, float4 *sum)
{
    constexpr int SIZE = CHUNKS * 32, AHEAD = 8;
    for (int i = (int)threadIdx.x; i < SIZE; i += (int)blockDim.x) {
        float4 x = parts[i];
        for (int p = 1; p < count; p += AHEAD) {
            float4 y[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                y[k] = parts[min(p + k, count - 1) * SIZE + i];
            }
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                if (p + k < count) {
                    x = {x.x + y[k].x, x.y + y[k].y, x.z + y[k].z, x.w + y[k].w};
                }
            }
        }
        sum[i] = x;
    }
}

/* ---- W --------------------------------------------------------------------------------------- */

/* x as a sum of two halves each. */
template <typename T>
__device__ __forceinline__ void split_pair(float x0, float x1, uint32_t *high, uint32_t *low)
{
    vt_pack<T, 2> h;
    h.at[0] = vt_from_float<T>(x0);
    h.at[1] = vt_from_float<T>(x1);
    *high = *reinterpret_cast<const uint32_t *>(&h);
    *low = vt_pack2<T>(x0 - vt_to_float(h.at[0]), x1 - vt_to_float(h.at[1]));
}

/* The right operands: word [j][m] are columns 8t + 2m, 8t + 2m + 1 of row 4g + j. */
template <bool LINEAR> struct gram_weights {
    uint32_t high[4 + LINEAR][4], low[4 + LINEAR][4];
    float factor, weight; /* of the products with rows and with the sums of the columns */
};

/* w *= 2^e such that the largest finite element is about 2^14; returns 2^-e */
template <int ROWS> __device__ __forceinline__ float normalise(float (*w)[8])
{
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < ROWS * 8; i++) {
        float x = fabsf(w[i / 8][i % 8]);
        largest = x < INFINITY ? fmaxf(largest, x) : largest;
    }
    largest = vt_group_max(largest, 32);
    int exponent;
    frexpf(largest, &exponent);
    exponent = max(14 - exponent, -100);
    exponent = min(exponent, 100);
    float factor = ldexpf(1.0f, exponent);
#pragma unroll
    for (int i = 0; i < ROWS * 8; i++) {
        w[i / 8][i % 8] *= factor;
    }
    return ldexpf(1.0f, -exponent);
}

/* w[j] = softmax(scale w[j]) over the row that four lanes share */
__device__ __forceinline__ void softmax_rows(float scale, float (*w)[8])
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        float largest = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            w[j][k] *= scale;
            largest = fmaxf(largest, w[j][k]);
        }
        largest = vt_group_max(largest, 4);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            w[j][k] = expf(w[j][k] - largest);
            sum += w[j][k];
        }
        sum = __fdividef(1.0f, vt_group_sum(sum, 4));
#pragma unroll
        for (int k = 0; k < 8; k++) {
            w[j][k] *= sum;
        }
    }
}

/* W from S, every warp for itself. */
template <typename T, bool LINEAR>
__device__ __forceinline__ gram_weights<LINEAR> weights_of(const gram_args &a, int head,
                                                           const float4 *sums)
{
    gram_weights<LINEAR> out;
    float w[4 + LINEAR][8];
#pragma unroll
    for (int chunk = 0; chunk < gram_sums<LINEAR>::CHUNKS; chunk++) {
        float4 x = sums[chunk * 32 + (int)threadIdx.x % 32];
        float *to = &w[chunk / 2][chunk % 2 * 4];
        to[0] = x.x;
        to[1] = x.y;
        to[2] = x.z;
        to[3] = x.w;
    }
    out.factor = out.weight = 1.0f;
    if (LINEAR) {
        out.factor = normalise<4>(w) * (a.temperature ? a.temperature[head] : 1.0f);
        out.weight = normalise<1>(w + 3 + LINEAR);
    } else {
        softmax_rows(a.scale, w);
    }
#pragma unroll
    for (int i = 0; i < 4 * (4 + LINEAR); i++) {
        split_pair<T>(w[i / 4][i % 4 * 2], w[i / 4][i % 4 * 2 + 1], &out.high[i / 4][i % 4],
                      &out.low[i / 4][i % 4]);
    }
    return out;
}

/* ---- dst ------------------------------------------------------------------------------------- */

/* Eight channels of two pixels for each of a warp's next tiles. */
struct gram_batch {
    eight_channels x[APPLY_TILES][2];
};

template <typename T>
__device__ __forceinline__ gram_batch load_batch(const gram_args &a, const gram_head<T> &h,
                                                 int first, int end)
{
    gram_batch b;
    int lane = (int)threadIdx.x % 32, step = (int)blockDim.x / 32 * TILE;
#pragma unroll
    for (int i = 0; i < 2 * APPLY_TILES; i++) {
        int pixel = first + i / 2 * step + i % 2 * 8 + lane / 4;
        b.x[i / 2][i % 2] = channels_of<eight_channels>(h.x + lane % 4 * 8, a.x_pixel, pixel, end);
    }
    return b;
}

/* o[j] = rows 4n + j of W, times x */
template <typename T, bool LINEAR>
__device__ __forceinline__ void multiply(const eight_channels (&x)[2],
                                         const gram_weights<LINEAR> &w, float (&o)[4 + LINEAR][4])
{
#pragma unroll
    for (int s = 0; s < 2; s++) {
        uint32_t left[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            left[i] = x[i % 2].at[2 * s + i / 2];
            left[i] = LINEAR ? relu_pair(left[i]) : left[i];
        }
#pragma unroll
        for (int j = 0; j < 4 + LINEAR; j++) {
            vt_mma<T>(o[j], left, w.low[j][2 * s], w.low[j][2 * s + 1], o[j]);
            vt_mma<T>(o[j], left, w.high[j][2 * s], w.high[j][2 * s + 1], o[j]);
        }
    }
}

template <typename T, bool LINEAR>
__device__ __forceinline__ void serve_tile(const gram_args &a, const gram_head<T> &h,
                                           const gram_weights<LINEAR> &w,
                                           const eight_channels (&x)[2], int first, int end)
{
    int lane = (int)threadIdx.x % 32;
    float o[4 + LINEAR][4] = {};
    multiply<T>(x, w, o);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int pixel = first + 8 * i + lane / 4;
        float f =
            LINEAR ? __fdividef(w.factor, fmaxf(o[3 + LINEAR][2 * i] * w.weight, a.floor)) : 1.0f;
        float y[8];
#pragma unroll
        for (int k = 0; k < 8; k++) {
            y[k] = o[k % 4][2 * i + k / 4] * f;
        }
        if (pixel < end) {
            vt_store<T, 8>(h.dst + (int64_t)pixel * a.dst_pixel + lane % 4 * 8, y);
        }
    }
}

/* This warp's tiles of the pixels from `begin` to `end`, the first of which are in `b`. */
template <typename T, bool LINEAR>
__device__ __forceinline__ void serve_pixels(const gram_args &a, const gram_head<T> &h,
                                             const gram_weights<LINEAR> &w, gram_batch &b,
                                             int begin, int end)
{
    int step = (int)blockDim.x / 32 * TILE, first = begin + (int)threadIdx.x / 32 * TILE;
    while (first < end) {
#pragma unroll
        for (int i = 0; i < APPLY_TILES; i++) {
            serve_tile<T>(a, h, w, b.x[i], first + i * step, end);
        }
        first += APPLY_TILES * step;
        if (first < end) {
            b = load_batch(a, h, first, end);
        }
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* Part `part` of `parts` of the pixels, whole tiles. */
__device__ __forceinline__ int part_begin(int pixels, int part, int parts)
{
    int tiles = (pixels + TILE - 1) / TILE;
    return min((int)((int64_t)tiles * part / parts) * TILE, pixels);
}

template <typename T, bool LINEAR>
__global__ void __launch_bounds__(WARPS * 32, 2) whole_kernel(gram_args a)
{
    extern __shared__ __align__(16) unsigned char shared[];
    float4 *sums = reinterpret_cast<float4 *>(shared);
    constexpr int CHUNKS = gram_sums<LINEAR>::CHUNKS;
    int warp = (int)threadIdx.x / 32;
    vt_let_successor_begin();
    gram_head<T> h = head_of<T>(a, (int)blockIdx.x);
    gram_sums<LINEAR> s = {};
    vt_wait_for_predecessor();
    add_pixels(a, h, 0, a.pixels, s);
    gram_batch b = load_batch(a, h, warp * TILE, a.pixels);
    store_sums(s, sums + warp * CHUNKS * 32);
    __syncthreads();
    add_parts<CHUNKS>(sums, (int)blockDim.x / 32, sums);
    __syncthreads();
    gram_weights<LINEAR> w = weights_of<T, LINEAR>(a, h.head, sums);
    serve_pixels(a, h, w, b, 0, a.pixels);
}

template <typename T, bool LINEAR>
__global__ void __launch_bounds__(WARPS * 32, 2) part_kernel(gram_args a)
{
    extern __shared__ __align__(16) unsigned char shared[];
    float4 *sums = reinterpret_cast<float4 *>(shared);
    constexpr int CHUNKS = gram_sums<LINEAR>::CHUNKS;
    int pair = (int)blockIdx.x / a.parts, part = (int)blockIdx.x - pair * a.parts;
    vt_let_successor_begin();
    gram_head<T> h = head_of<T>(a, pair);
    gram_sums<LINEAR> s = {};
    vt_wait_for_predecessor();
    add_pixels(a, h, part_begin(a.pixels, part, a.parts), part_begin(a.pixels, part + 1, a.parts),
               s);
    store_sums(s, sums + (int)threadIdx.x / 32 * CHUNKS * 32);
    __syncthreads();
    add_parts<CHUNKS>(sums, (int)blockDim.x / 32, a.partial + (int64_t)blockIdx.x * CHUNKS * 32);
}

template <typename T, bool LINEAR>
__global__ void __launch_bounds__(WARPS * 32, 2) serve_kernel(gram_args a)
{
    extern __shared__ __align__(16) unsigned char shared[];
    float4 *sums = reinterpret_cast<float4 *>(shared);
    constexpr int CHUNKS = gram_sums<LINEAR>::CHUNKS;
    int pair = (int)blockIdx.x / a.parts, part = (int)blockIdx.x - pair * a.parts;
    int begin = part_begin(a.pixels, part, a.parts);
    int end = part_begin(a.pixels, part + 1, a.parts);
    vt_let_successor_begin();
    gram_head<T> h = head_of<T>(a, pair);
    vt_wait_for_predecessor();
    gram_batch b = load_batch(a, h, begin + (int)threadIdx.x / 32 * TILE, end);
    add_parts<CHUNKS>(a.partial + (int64_t)pair * a.parts * CHUNKS * 32, a.parts, sums);
    __syncthreads();
    gram_weights<LINEAR> w = weights_of<T, LINEAR>(a, h.head, sums);
    serve_pixels(a, h, w, b, begin, end);
}

/* ---- launch ---------------------------------------------------------------------------------- */

static size_t part_bytes(bool linear)
{
    return sizeof(float4) * 32 *
           (size_t)(linear ? gram_sums<true>::CHUNKS : gram_sums<false>::CHUNKS);
}

size_t vt_cuda_gram_mma_bytes(const vt_cuda_gram *g)
{
    gram_plan plan = gram_plan_make(g->n * g->heads, g->pixels);
    return plan.parts > 1 ? (size_t)(g->n * g->heads * plan.parts) * part_bytes(g->relu) : 0;
}

static bool is_vector_map(const void *map, int64_t pixel)
{
    return vt_is_aligned(map, 16) && pixel % 8 == 0 && pixel <= INT32_MAX;
}

const char *vt_cuda_gram_mma_refuse(const vt_cuda_gram *g, const vt_cuda_apply *use)
{
    if ((g->dtype != VT_F16 && g->dtype != VT_BF16) || use->dtype != g->dtype ||
        use->dst_dtype != g->dtype) {
        return "tensor cores take f16 or bf16, the same in and out";
    }
    if (g->left_width != WIDTH || g->right_width != WIDTH || use->x_width != WIDTH ||
        use->dst_width != WIDTH) {
        return "the head width is not 32";
    }
    if (!is_vector_map(g->left, g->left_pixel) || !is_vector_map(g->right, g->right_pixel) ||
        !is_vector_map(use->x, use->x_pixel) || !is_vector_map(use->dst, use->dst_pixel)) {
        return "a map is not aligned to 16 bytes";
    }
    if (g->pixels < 1 || g->pixels > 1 << 30 || g->heads < 1 ||
        g->n * g->heads > INT32_MAX / MOST_PARTS) {
        return "the map is empty or beyond 2^30 pixels";
    }
    return NULL;
}

template <typename T, bool LINEAR>
static cudaError_t launch(const gram_args *a, const gram_plan *plan, int64_t pairs,
                          cudaStream_t stream)
{
    unsigned threads = 32 * (unsigned)plan->warps;
    size_t part = part_bytes(LINEAR), shared = part * (size_t)plan->warps;
    if (plan->parts == 1) {
        return vt_cuda_launch(whole_kernel<T, LINEAR>, (unsigned)pairs, threads, shared, stream,
                              *a);
    }
    cudaError_t e = vt_cuda_launch(part_kernel<T, LINEAR>, (unsigned)(pairs * plan->parts), threads,
                                   shared, stream, *a);
    return e ? e
             : vt_cuda_launch(serve_kernel<T, LINEAR>, (unsigned)(pairs * plan->parts), threads,
                              part, stream, *a);
}

cudaError_t vt_cuda_gram_mma(const vt_cuda_gram *g, const vt_cuda_apply *use, cudaStream_t stream)
{
    if (vt_cuda_gram_mma_refuse(g, use)) {
        return cudaErrorInvalidValue;
    }
    if (g->n < 1) {
        return cudaSuccess;
    }
    int64_t pairs = g->n * g->heads;
    gram_plan plan = gram_plan_make(pairs, g->pixels);
    /* linear attention sums the other way round, so that S has the sums of its columns */
    const void *rows = g->relu ? g->right : g->left, *cols = g->relu ? g->left : g->right;
    int64_t rows_pixel = g->relu ? g->right_pixel : g->left_pixel;
    int64_t cols_pixel = g->relu ? g->left_pixel : g->right_pixel;
    gram_args a = {.rows = rows,
                   .cols = cols,
                   .x = use->x,
                   .dst = use->dst,
                   .image_rows = g->pixels * rows_pixel,
                   .image_cols = g->pixels * cols_pixel,
                   .image_x = g->pixels * use->x_pixel,
                   .image_dst = g->pixels * use->dst_pixel,
                   .rows_pixel = (int)rows_pixel,
                   .cols_pixel = (int)cols_pixel,
                   .x_pixel = (int)use->x_pixel,
                   .dst_pixel = (int)use->dst_pixel,
                   .pixels = (int)g->pixels,
                   .heads = g->heads,
                   .parts = plan.parts,
                   .partial = (float4 *)(void *)g->partial,
                   .temperature = use->temperature,
                   .scale = use->scale,
                   .floor = use->floor};
    if (g->dtype == VT_F16) {
        return g->relu ? launch<__half, true>(&a, &plan, pairs, stream)
                       : launch<__half, false>(&a, &plan, pairs, stream);
    }
    return g->relu ? launch<__nv_bfloat16, true>(&a, &plan, pairs, stream)
                   : launch<__nv_bfloat16, false>(&a, &plan, pairs, stream);
}
