/* SPDX-License-Identifier: Apache-2.0 */
/* Dense convolution of few input channels (the stems: pictures have 3) on the tensor cores, sm_80
 * and later: dst[n,y,x,o] = act(bias[o] + sum weight[o,ky,kx,i] src[n,y',x',i]), as vt_conv2d.
 *
 * A block keeps the weights of N outputs in shared memory, in the order of the products' right
 * fragments, and goes through tiles of the result. The source pixels that a tile sees lie in shared
 * memory too, in the type of the weights, zero outside the map: what one kernel row sees of a pixel
 * is then a run of kernel_w * c neighbours. The depth of the product goes by pairs of neighbours of
 * a run, the two halves of a register; a run that begins at an odd element has one element in front
 * of it. What the pairs hold outside their run is masked, so that it may be anything. A warp takes
 * 16 pixels at a time and all N outputs. The columns of the fragments are numbered such that a
 * thread ends with 8 neighbouring outputs of a pixel: 16 bytes, stored as they are. */
#include "cuda/activate.cuh"
#include "cuda/convert.cuh"
#include "cuda/instructions.cuh"
#include "cuda/launch.cuh"

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    CHUNK = 4,     /* elements that a lane moves to shared memory at a time */
    ALIGN = 8,     /* elements: rows in shared memory begin at multiples of it */
    IN_FLIGHT = 6, /* chunks of a lane */
    MOST_CHANNELS = 8,
    MOST_STEPS = 16,         /* of 16 taps */
    MOST_COLS = 128,         /* pixels of a row of a tile */
    MOST_ROWS = 12,          /* of a tile */
    MOST_SHARED = 216 << 10, /* of the blocks of a processor */
    MOST_BLOCK = 96 << 10,   /* of one block: what every GPU has */
    TILE_COST = 4096,        /* of a tile beside what it moves, in bytes */
};

/* Two neighbouring taps: where they lie relative to the pixel's run, and which of them count. */
struct alignas(8) tap_pair {
    int offset;
    uint32_t mask;
};

typedef struct few_plan {
    int channels, run; /* run: elements that one kernel row sees */
    int phase;         /* 1: pairs begin one element in front of the run */
    int row_pairs, steps;
    int tile_h, tile_w, tiles_y, tiles_x;
    int rows, pitch; /* of the source in shared memory; pitch in elements */
    int64_t tiles;
    bool wide; /* the source can be read by CHUNK */
} few_plan;

/* Where the parts of the dynamic shared memory begin, for N outputs. */
typedef struct few_shared {
    size_t pairs, columns, bias, tile, bytes;
} few_shared;

static __host__ __device__ few_shared shared_of(const few_plan &p, int outputs)
{
    few_shared s;
    s.pairs = (size_t)p.steps * outputs * 32; /* after the weights: 16 taps of 2 bytes each */
    s.columns = s.pairs + (size_t)p.steps * 8 * sizeof(tap_pair);
    s.bias = s.columns + (size_t)p.steps * 8 * sizeof(int);
    s.tile = s.bias + (size_t)outputs * sizeof(float);
    s.bytes = s.tile + (size_t)p.rows * p.pitch * 2;
    return s;
}

/* Which output of its group of 32 column `col` of accumulator `i` of the group is. */
__device__ __forceinline__ int output_of(int i, int col)
{
    return col / 2 * 8 + i * 2 + col % 2;
}

/* ---- what all tiles share -------------------------------------------------------------------- */

__device__ __forceinline__ void describe_pairs(const few_plan &p, int kernel_h, tap_pair *pairs,
                                               int *columns)
{
    for (int i = (int)threadIdx.x; i < p.steps * 8; i += THREADS) {
        int ky = i / p.row_pairs, j = i % p.row_pairs * 2 - p.phase;
        bool real = ky < kernel_h;
        uint32_t low = real && j >= 0 ? 0xffffu : 0u;
        uint32_t high = real && j + 1 < p.run ? 0xffff0000u : 0u;
        pairs[i].offset = real ? ky * p.pitch + j : -p.phase;
        pairs[i].mask = low | high;
        columns[i] = ky * p.run + j;
    }
}

/* Word (step, i / 2, lane, i % 2 * 2 + half) holds pair step * 8 + half * 4 + lane % 4 of the
 * output that is column lane / 4 of accumulator i. */
template <int N>
__device__ __forceinline__ void load_weights(const vt_cuda_conv2d &a, const few_plan &p, int first,
                                             const tap_pair *pairs, const int *columns,
                                             uint32_t *weights)
{
    const unsigned short *src = (const unsigned short *)a.weight;
    int depth = a.conv.kernel_h * p.run, warp = (int)threadIdx.x / 32;
    for (int pair = (int)threadIdx.x % 32; pair < p.steps * 8; pair += 32) {
        uint32_t x[N / WARPS], mask = pairs[pair].mask;
#pragma unroll
        for (int k = 0; k < N / WARPS; k++) {
            int o = first + k * WARPS + warp;
            bool real = o < a.dst_shape.c;
            const unsigned short *at = src + (int64_t)(real ? o : 0) * depth + columns[pair];
            uint32_t low = real && mask & 0xffffu ? at[0] : 0u;
            x[k] = low | (real && mask >> 16 ? (uint32_t)at[1] << 16 : 0u);
        }
#pragma unroll
        for (int k = 0; k < N / WARPS; k++) {
            int o = k * WARPS + warp, within = o % 32;
            int i = o / 32 * 4 + within % 8 / 2, col = within / 8 * 2 + within % 2;
            weights[((pair / 8 * (N / 16) + i / 2) * 32 + col * 4 + pair % 4) * 4 + i % 2 * 2 +
                    pair % 8 / 4] = x[k];
        }
    }
}

/* ---- one tile -------------------------------------------------------------------------------- */

typedef struct few_tile {
    int64_t n;
    int y, x;  /* of its first pixel */
    int start; /* the first element of a source row in shared memory, a multiple of ALIGN */
    int lead;  /* from there to the first pixel's run */
} few_tile;

__device__ __forceinline__ few_tile tile_at(const vt_cuda_conv2d &a, const few_plan &p,
                                            int64_t index)
{
    few_tile t;
    int in_picture, column;
    t.n = vt_divide(index, p.tiles_y * p.tiles_x, &in_picture);
    t.y = (int)vt_divide(in_picture, p.tiles_x, &column) * p.tile_h;
    t.x = column * p.tile_w;
    int run = (t.x * a.conv.stride_w - a.conv.pad_left) * p.channels;
    t.start = (run - p.phase) & ~(ALIGN - 1);
    t.lead = run - t.start;
    return t;
}

template <typename S>
__device__ __forceinline__ vt_pack<S, CHUNK> read_chunk(const S *row, int at, int count, bool wide)
{
    vt_pack<S, CHUNK> pack;
    if (wide && at >= 0 && at < count) {
        return vt_load<S, CHUNK>(row + at);
    }
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        pack.at[i] = !wide && at + i >= 0 && at + i < count ? row[at + i] : vt_from_float<S>(0.0f);
    }
    return pack;
}

/* A warp moves whole rows. */
template <typename S, typename T>
__device__ __forceinline__ void load_tile(const vt_cuda_conv2d &a, const few_plan &p,
                                          const few_tile &t, T *tile)
{
    int count = (int)a.src_shape.w * p.channels, lane = (int)threadIdx.x % 32;
    int first = t.y * a.conv.stride_h - a.conv.pad_top;
    for (int r = (int)threadIdx.x / 32; r < p.rows; r += WARPS) {
        int y = first + r;
        bool inside = y >= 0 && y < a.src_shape.h;
        const S *row = (const S *)a.src + (t.n * a.src_shape.h + (inside ? y : 0)) * count;
        for (int c = lane * CHUNK; c < p.pitch; c += 32 * CHUNK * IN_FLIGHT) {
            vt_pack<S, CHUNK> raw[IN_FLIGHT];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; u++) {
                int at = c + u * 32 * CHUNK;
                raw[u] = read_chunk(row, t.start + at, inside && at < p.pitch ? count : 0, p.wide);
            }
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; u++) {
                int at = c + u * 32 * CHUNK;
                if (at < p.pitch) {
                    float x[CHUNK];
                    vt_unpack(raw[u], x);
                    vt_store(tile + r * p.pitch + at, x);
                }
            }
        }
    }
}

/* Two neighbouring elements; `even`: they begin at a multiple of 4 bytes. */
template <bool EVEN, typename T> __device__ __forceinline__ uint32_t read_pair(const T *at)
{
    if (EVEN) {
        return *(const uint32_t *)at;
    }
    const unsigned short *half = (const unsigned short *)at;
    return half[0] | (uint32_t)half[1] << 16;
}

/* d += the 16 pixels whose runs begin at `run` (rows g and g + 8 of the left fragments) times the
 * weights */
template <typename T, int N, bool EVEN>
__device__ __forceinline__ void multiply(const few_plan &p, const T *const (&run)[2],
                                         const tap_pair *pairs, const uint4 *weights,
                                         float (&d)[N / 8][4])
{
    int lane = (int)threadIdx.x % 32;
    pairs += lane % 4;
    weights += lane;
    for (int step = 0; step < p.steps; step++, pairs += 8, weights += N / 16 * 32) {
        tap_pair low = pairs[0], high = pairs[4];
        uint32_t left[4] = {read_pair<EVEN>(run[0] + low.offset) & low.mask,
                            read_pair<EVEN>(run[1] + low.offset) & low.mask,
                            read_pair<EVEN>(run[0] + high.offset) & high.mask,
                            read_pair<EVEN>(run[1] + high.offset) & high.mask};
#pragma unroll
        for (int i = 0; i < N / 8; i += 2) {
            uint4 right = weights[i / 2 * 32];
            vt_mma<T>(d[i], left, right.x, right.y, d[i]);
            vt_mma<T>(d[i + 1], left, right.z, right.w, d[i + 1]);
        }
    }
}

/* The N outputs of one pixel: of every 32 this thread has 8, in half `half` of 4 accumulators. */
template <typename T, int N>
__device__ __forceinline__ void store_pixel(const vt_cuda_conv2d &a, int first, int64_t pixel,
                                            int half, const float (&d)[N / 8][4])
{
    int lane = (int)threadIdx.x % 32;
    T *dst = (T *)a.dst + pixel * a.dst_shape.c;
#pragma unroll
    for (int group = 0; group < N / 32; group++) {
        int o = first + group * 32 + lane % 4 * 8;
        float x[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            x[i] = d[group * 4 + i / 2][half * 2 + i % 2];
        }
        if (o < a.dst_shape.c) {
            vt_activate<false>(a.conv.act, x);
            vt_store(dst + o, x);
        }
    }
}

/* The 16 pixels from `first_pixel` of the tile. */
template <typename T, int N, bool EVEN>
__device__ __forceinline__ void
convolve(const vt_cuda_conv2d &a, const few_plan &p, const few_tile &t, int first, int first_pixel,
         const T *tile, const tap_pair *pairs, const float *bias, const uint4 *weights)
{
    int lane = (int)threadIdx.x % 32, last = p.tile_h * p.tile_w - 1;
    const T *run[2];
    int64_t pixel[2];
    float d[N / 8][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = first_pixel + half * 8 + lane / 4, real = min(i, last);
        int y = real / p.tile_w, x = real - y * p.tile_w;
        bool inside = i <= last && t.y + y < a.dst_shape.h && t.x + x < a.dst_shape.w;
        run[half] =
            tile + y * a.conv.stride_h * p.pitch + t.lead + x * a.conv.stride_w * p.channels;
        pixel[half] = inside ? (t.n * a.dst_shape.h + t.y + y) * a.dst_shape.w + t.x + x : -1;
    }
#pragma unroll
    for (int i = 0; i < N / 8; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            d[i][j] = bias[i / 4 * 32 + output_of(i % 4, lane % 4 * 2 + j % 2)];
        }
    }
    multiply<T, N, EVEN>(p, run, pairs, weights, d);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (pixel[half] >= 0) {
            store_pixel<T, N>(a, first, pixel[half], half, d);
        }
    }
}

/* grid: (blocks that share the tiles, groups of N outputs) */
template <typename S, typename T, int N, int RESIDENT, bool EVEN>
__global__ void __launch_bounds__(THREADS, RESIDENT) conv_few_kernel(vt_cuda_conv2d a, few_plan p)
{
    extern __shared__ __align__(128) unsigned char shared[];
    few_shared s = shared_of(p, N);
    uint32_t *weights = (uint32_t *)shared;
    tap_pair *pairs = (tap_pair *)(shared + s.pairs);
    int *columns = (int *)(shared + s.columns);
    float *bias = (float *)(shared + s.bias);
    T *tile = (T *)(shared + s.tile);
    int first = (int)blockIdx.y * N, warp = (int)threadIdx.x / 32;
    vt_let_successor_begin();
    describe_pairs(p, a.conv.kernel_h, pairs, columns);
    for (int i = (int)threadIdx.x; i < N; i += THREADS) {
        bias[i] = a.bias && first + i < a.dst_shape.c ? a.bias[first + i] : 0.0f;
    }
    __syncthreads();
    load_weights<N>(a, p, first, pairs, columns, weights);
    vt_wait_for_predecessor();
    for (int64_t index = blockIdx.x; index < p.tiles; index += gridDim.x) {
        few_tile t = tile_at(a, p, index);
        load_tile<S, T>(a, p, t, tile);
        __syncthreads();
        for (int i = warp * 16; i < p.tile_h * p.tile_w; i += WARPS * 16) {
            convolve<T, N, EVEN>(a, p, t, first, i, tile, pairs, bias, (const uint4 *)weights);
        }
        __syncthreads();
    }
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void few_function(vt_cuda_conv2d, few_plan);

/* [f32 source][runs begin at even elements] */
typedef struct few_variant {
    int outputs, resident; /* resident: blocks that a processor has registers for */
    few_function *f16[2][2], *bf16[2][2];
} few_variant;

template <typename T, int N, int RESIDENT, bool EVEN> constexpr few_function *from_half(void)
{
    return conv_few_kernel<T, T, N, RESIDENT, EVEN>;
}
template <typename T, int N, int RESIDENT, bool EVEN> constexpr few_function *from_f32(void)
{
    return conv_few_kernel<float, T, N, RESIDENT, EVEN>;
}

#define FEW_TABLE(T, N, RESIDENT)                                                                  \
    {                                                                                              \
        {from_half<T, N, RESIDENT, false>(), from_half<T, N, RESIDENT, true>()},                   \
        {                                                                                          \
            from_f32<T, N, RESIDENT, false>(), from_f32<T, N, RESIDENT, true>()                    \
        }                                                                                          \
    }
#define FEW_VARIANT(N, RESIDENT)                                                                   \
    {                                                                                              \
        N, RESIDENT, FEW_TABLE(__half, N, RESIDENT), FEW_TABLE(__nv_bfloat16, N, RESIDENT)         \
    }

static const few_variant variants[] = {FEW_VARIANT(32, 3), FEW_VARIANT(64, 3), FEW_VARIANT(96, 2)};

/* The one that needs the fewest groups of outputs, then the narrowest. */
static const few_variant *variant_for(int64_t outputs)
{
    const few_variant *best = &variants[0];
    for (const few_variant &v : variants) {
        if ((outputs + v.outputs - 1) / v.outputs < (outputs + best->outputs - 1) / best->outputs) {
            best = &v;
        }
    }
    return best;
}

static void set_tile(const vt_cuda_conv2d *a, few_plan *p, int tile_h)
{
    int64_t h = a->dst_shape.h, w = a->dst_shape.w;
    p->tile_h = tile_h;
    p->tiles_y = (int)((h + tile_h - 1) / tile_h);
    p->tiles_x = (int)((w + MOST_COLS - 1) / MOST_COLS);
    p->tile_w = (int)((w + p->tiles_x - 1) / p->tiles_x);
    p->rows = (tile_h - 1) * a->conv.stride_h + a->conv.kernel_h;
    int pitch = ALIGN + (p->tile_w - 1) * a->conv.stride_w * p->channels + 2 * p->row_pairs;
    p->pitch = (pitch + ALIGN - 1) / ALIGN * ALIGN;
    p->tiles = a->dst_shape.n * p->tiles_y * p->tiles_x;
}

/* Bytes that the busiest place of `places` moves, those of idle warps with them: the order of
 * measured times. */
static double cost_of(const vt_cuda_conv2d *a, const few_plan &p, int outputs, int places)
{
    int64_t rounds = (p.tiles + places - 1) / places;
    int pixels = (p.tile_h * p.tile_w + 16 * WARPS - 1) / (16 * WARPS) * (16 * WARPS);
    double tile = (double)p.rows * p.pitch * (double)vt_dtype_size(a->src_dtype);
    return (double)rounds * (TILE_COST + tile + (double)pixels * outputs * 2);
}

/* With tiles of one row. */
static few_plan plan_of(const vt_cuda_conv2d *a)
{
    few_plan p = {};
    p.channels = (int)a->src_shape.c;
    p.run = a->conv.kernel_w * p.channels;
    bool even = a->conv.stride_w * p.channels % 2 == 0;
    p.phase = even ? a->conv.pad_left * p.channels % 2 : 0;
    p.row_pairs = (p.run + p.phase + 1) / 2;
    p.steps = (p.row_pairs * a->conv.kernel_h + 7) / 8;
    p.wide = a->src_shape.w * p.channels % CHUNK == 0 &&
             vt_is_aligned(a->src, CHUNK * vt_dtype_size(a->src_dtype));
    set_tile(a, &p, 1);
    return p;
}

/* The cheapest tiles where `processors` work; every block has its share of shared memory. */
static few_plan best_plan(const vt_cuda_conv2d *a, const few_variant *v, int processors)
{
    few_plan best = plan_of(a), p = best;
    int groups = ((int)a->dst_shape.c + v->outputs - 1) / v->outputs;
    int places = max(1, processors * v->resident / groups);
    int most = min((int)MOST_BLOCK, MOST_SHARED / v->resident);
    for (int tile_h = 2; tile_h <= MOST_ROWS && tile_h <= a->dst_shape.h; tile_h++) {
        set_tile(a, &p, tile_h);
        if (shared_of(p, v->outputs).bytes <= (size_t)most &&
            cost_of(a, p, v->outputs, places) < cost_of(a, best, v->outputs, places)) {
            best = p;
        }
    }
    return best;
}

const char *vt_cuda_conv_few_refuse(const vt_cuda_conv2d *a)
{
    const vt_conv2d *c = &a->conv;
    if (a->weight_dtype != VT_F16 && a->weight_dtype != VT_BF16) {
        return "tensor cores multiply bf16 and f16";
    }
    if (a->dst_dtype != a->weight_dtype) {
        return "the result is of another type than the weights";
    }
    if (a->src_dtype != a->weight_dtype && a->src_dtype != VT_F32) {
        return "the source is of another half type than the weights";
    }
    if (c->groups > 1) {
        return "it has groups";
    }
    if (c->dilation_h > 1 || c->dilation_w > 1) {
        return "it is dilated";
    }
    if (a->src_shape.c > MOST_CHANNELS) {
        return "more than 8 input channels";
    }
    if (a->dst_shape.c % 8 || !vt_is_aligned(a->dst, 16)) {
        return "the outputs of a pixel are no multiples of 16 bytes";
    }
    if (c->kernel_h > 64 || c->kernel_w > 64 || c->stride_h > 64 || c->stride_w > 64) {
        return "the kernel or its stride is too large";
    }
    if (a->src_shape.h > 1 << 24 || a->src_shape.w > 1 << 24) {
        return "the map is beyond 2^24 pixels";
    }
    int outputs = variant_for(a->dst_shape.c)->outputs;
    few_plan p = plan_of(a);
    if (p.steps > MOST_STEPS) {
        return "the sums have more than 256 terms";
    }
    return shared_of(p, outputs).bytes > MOST_BLOCK ? "a row does not fit into shared memory"
                                                    : NULL;
}

cudaError_t vt_cuda_conv_few(const vt_cuda_conv2d *a, cudaStream_t stream)
{
    if (vt_cuda_conv_few_refuse(a)) {
        return cudaErrorInvalidValue;
    }
    const few_variant *v = variant_for(a->dst_shape.c);
    int processors = 1, resident = 1;
    cudaError_t e = vt_cuda_multiprocessors(&processors);
    few_plan p = best_plan(a, v, processors);
    if (p.tiles < 1) {
        return e;
    }
    bool even = a->conv.stride_w * p.channels % 2 == 0, f32 = a->src_dtype == VT_F32;
    few_function *kernel = a->weight_dtype == VT_F16 ? v->f16[f32][even] : v->bf16[f32][even];
    size_t shared = shared_of(p, v->outputs).bytes;
    e = e ? e : vt_cuda_allow_shared((const void *)kernel);
    e = e ? e
          : cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, (const void *)kernel, THREADS,
                                                          shared);
    if (e != cudaSuccess) {
        return e;
    }
    unsigned groups = (unsigned)((a->dst_shape.c + v->outputs - 1) / v->outputs);
    int64_t room = max(1, processors * max(1, resident) / (int)groups);
    dim3 grid((unsigned)(p.tiles < room ? p.tiles : room), groups);
    return vt_cuda_launch(kernel, grid, THREADS, shared, stream, *a, p);
}
