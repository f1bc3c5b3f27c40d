/* SPDX-License-Identifier: Apache-2.0 */
/* A linear map of few rows, where the latency of a launch and of the first bytes counts more than
 * any rate: dst = residual +|* act(bias + weight norm(row)) in one kernel, for f16 and bf16.
 *
 * A block of 4 or 8 warps owns a tile of 32 or 64 rows by 32 or 64 columns, in parts of 32 x 32,
 * and keeps both operands in shared memory as a whole, so there is no pipeline to fill and drain:
 * all copies are in flight at once, those of the weight already while the predecessor runs. The
 * warps that are left over share the steps of the inner dimension of a part. Where the inner
 * dimension is long or the tiles are few, a cluster of 2, 4 or 8 blocks shares it too: each sends
 * its sums to the block that owns a stripe of the rows of the tile.
 *
 * Rows that are normalised go through registers: 16 or 32 lanes own a row; every block does so for
 * its own rows, read from the L2. Other rows are copied, in four groups along the inner dimension,
 * and multiplied as they arrive.
 *
 * Shared: panels of 64 columns of the tile's rows, then of the weight's (128 bytes a row, swizzled
 * as in mma.cuh); later the sums of the warps in their place. Behind them, in a cluster, a slot for
 * each block's sums of the stripe. */
#include <math.h>

#include "cuda/activate.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

enum {
    PART = 32,  /* rows and columns of a warp's accumulators */
    PITCH = 40, /* floats from row to row of a part's sums, without bank conflicts */
    PART_FLOATS = PART * PITCH,
    PANEL = 64,
    PANEL_LINE = PANEL * 2, /* bytes */
    WIDE = 8,               /* columns of a chunk of the operands */
    ITEM = 4,               /* columns of the result that a thread finishes together */
    GROUPS = 4              /* of copies, along the inner dimension */
};

/* How rows get into shared memory: copied, or normalised by 16 or 32 lanes with 1 to 4 chunks each.
 */
typedef enum way { COPY, NORM_16, NORM_1, NORM_2, NORM_3, NORM_4 } way;

constexpr int lanes_of(way w)
{
    return w == NORM_16 ? 16 : 32;
}
constexpr int chunks_of(way w)
{
    return w == NORM_2 ? 2 : w == NORM_3 ? 3 : w == NORM_4 ? 4 : 1;
}

/* Warps of a tile: at most 4 share a part. */
constexpr int threads_of(int rows, int cols)
{
    return rows * cols == PART * PART ? 128 : 256;
}

/* How the work is dealt out. */
typedef struct layout {
    int tile_rows, tile_cols, split, log2_split;
    int row_tiles, col_tiles;
    int slice, panels;         /* columns of the inner dimension of a block, and panels they fill */
    uint32_t slots_at, shared; /* bytes */
    way how;
} layout;

/* ---- clusters -------------------------------------------------------------------------------- */

/* Every block of the cluster has begun; arrive early, wait before touching another's memory. */
__device__ __forceinline__ void cluster_arrive_begun(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_arrive(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* Stores at the place of another block that has the address `at` in this one. */
__device__ __forceinline__ void store_to_block(uint32_t at, int block, const float (&x)[ITEM])
{
#if __CUDA_ARCH__ >= 900
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(block));
    asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(x[0]),
                 "f"(x[1]), "f"(x[2]), "f"(x[3])
                 : "memory");
#endif
}

/* ---- operands -------------------------------------------------------------------------------- */

/* Starts copying panels [first, last) of rows of `stride` elements; rows past `live` and columns
 * past `count` are left as they are: the ones reach no result that is stored, the others are not
 * multiplied. */
template <typename T, int ROWS, int THREADS>
__device__ __forceinline__ void copy_panels(const T *src, unsigned stride, int live, int count,
                                            int first, int last, uint32_t tile)
{
    constexpr unsigned apart = THREADS / 8;
    unsigned row = threadIdx.x / 8, chunk = threadIdx.x % 8;
    src += row * stride + chunk * WIDE;
    tile += vt_tile_offset<PANEL>((int)row, (int)chunk);
    live -= (int)row;
    count -= (int)chunk * WIDE;
    for (int panel = first; panel < last; panel++) {
        if (panel * PANEL >= count) {
            break;
        }
#pragma unroll
        for (unsigned r = 0; r < ROWS; r += apart) {
            if ((int)r < live) {
                vt_copy_async(tile + (uint32_t)panel * (ROWS * PANEL_LINE) + r * PANEL_LINE,
                              src + r * stride + panel * PANEL);
            }
        }
    }
}

/* Scale and shift of a lane's columns. */
template <int C> struct affine {
    float scale[C][WIDE], shift[C][WIDE];

    __device__ __forceinline__ void load(const vt_cuda_linear_small &a, unsigned lane,
                                         unsigned lanes, unsigned chunks)
    {
#pragma unroll
        for (int c = 0; c < C; c++) {
            unsigned chunk = lane + (unsigned)c * lanes;
            chunk = chunk < chunks ? chunk : 0;
            if (a.scale) {
                vt_unpack(vt_load<float, WIDE>(a.scale + chunk * WIDE), scale[c]);
            }
            if (a.shift) {
                vt_unpack(vt_load<float, WIDE>(a.shift + chunk * WIDE), shift[c]);
            }
#pragma unroll
            for (int i = 0; i < WIDE; i++) {
                scale[c][i] = a.scale ? scale[c][i] : 1.0f;
                shift[c][i] = a.shift ? shift[c][i] : 0.0f;
            }
        }
    }
};

/* This lane's chunks of row `row` of the map, zeros past its end. */
template <typename T, int LANES, int C>
__device__ __forceinline__ void load_row(const vt_cuda_linear_small &a, unsigned row, unsigned lane,
                                         vt_pack<T, WIDE> (&raw)[C])
{
    bool live = row < (unsigned)a.rows;
    const T *src = (const T *)a.src + (row * (unsigned)a.depth + lane * WIDE);
#pragma unroll
    for (int c = 0; c < C; c++) {
        raw[c] = {};
        if (live && lane + (unsigned)(c * LANES) < (unsigned)a.depth / WIDE) {
            raw[c] = vt_load<T, WIDE>(src + c * LANES * WIDE);
        }
    }
}

/* (x - center) * slope is the row normalised: of equal values exactly 0, however large they are.
 * Its moments come from one pass over x - x[0]: mean = x[0] + m, variance = mean of (x - x[0])^2 -
 * m^2, m = mean of (x - x[0]). One element lies at most sqrt(cols - 1) deviations from the mean, so
 * the difference loses at most log2(cols) bits of f32, whatever the mean. */
template <int R> struct moments {
    float first[R], sum[R], squares[R];

    template <typename T, int LANES, int C>
    __device__ __forceinline__ void add(int r, const vt_pack<T, WIDE> (&raw)[C], unsigned lane,
                                        unsigned chunks)
    {
        first[r] = __shfl_sync(0xffffffffu, vt_to_float(raw[0].at[0]), 0, LANES);
        float part[2] = {}, square[2] = {};
#pragma unroll
        for (int c = 0; c < C; c++) {
            if (lane + (unsigned)(c * LANES) < chunks) {
#pragma unroll
                for (int i = 0; i < WIDE; i++) {
                    float x = vt_to_float(raw[c].at[i]) - first[r];
                    part[i % 2] += x;
                    square[i % 2] += x * x;
                }
            }
        }
        sum[r] = part[0] + part[1];
        squares[r] = square[0] + square[1];
    }
    template <int LANES>
    __device__ __forceinline__ void finish(float cols, float eps, float (&center)[R],
                                           float (&slope)[R])
    {
#pragma unroll
        for (int step = LANES / 2; step > 0; step /= 2) {
#pragma unroll
            for (int r = 0; r < R; r++) {
                sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], step);
                squares[r] += __shfl_xor_sync(0xffffffffu, squares[r], step);
            }
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            float mean = __fdividef(sum[r], cols);
            float variance = fmaxf(__fdividef(squares[r], cols) - mean * mean, 0.0f);
            slope[r] = rsqrtf(variance + eps);
            center[r] = first[r] + mean;
        }
    }
};

/* The rows of a tile through registers: normalised, then columns [begin, begin + count) to shared
 * memory. */
template <typename T, int ROWS, int THREADS, way HOW, int C>
__device__ __forceinline__ void normalise_rows(const vt_cuda_linear_small &a, unsigned first_row,
                                               unsigned begin, unsigned count, uint32_t tile,
                                               const affine<C> &scaling)
{
    constexpr int lanes = lanes_of(HOW), apart = THREADS / lanes, each = ROWS / apart;
    constexpr int most = C == 1 ? 8 : C == 4 ? 2 : 4, R = each < most ? each : most;
    unsigned lane = threadIdx.x % lanes, first = threadIdx.x / lanes;
    unsigned chunks = (unsigned)a.depth / WIDE;
#pragma unroll 1
    for (int i = 0; i < each; i += R) {
        unsigned row = first + (unsigned)(i * apart);
        vt_pack<T, WIDE> raw[R][C];
        float center[R], slope[R];
        moments<R> m;
#pragma unroll
        for (int r = 0; r < R; r++) {
            load_row<T, lanes>(a, first_row + row + (unsigned)(r * apart), lane, raw[r]);
        }
#pragma unroll
        for (int r = 0; r < R; r++) {
            m.template add<T, lanes>(r, raw[r], lane, chunks);
        }
        m.template finish<lanes>((float)a.depth, a.eps, center, slope);
#pragma unroll
        for (int c = 0; c < C; c++) {
            unsigned col = (lane + (unsigned)(c * lanes)) * WIDE - begin;
            if (col >= count) {
                continue;
            }
            uint32_t at = tile + col / PANEL * (ROWS * PANEL_LINE);
#pragma unroll
            for (int r = 0; r < R; r++) {
                float x[WIDE];
                vt_unpack(raw[r][c], x);
#pragma unroll
                for (int e = 0; e < WIDE; e++) {
                    x[e] =
                        (x[e] - center[r]) * slope[r] * scaling.scale[c][e] + scaling.shift[c][e];
                }
                vt_store_shared(
                    at + vt_tile_offset<PANEL>((int)row + r * apart, (int)(col / WIDE % 8)),
                    make_uint4(vt_pack2<T>(x[0], x[1]), vt_pack2<T>(x[2], x[3]),
                               vt_pack2<T>(x[4], x[5]), vt_pack2<T>(x[6], x[7])));
            }
        }
    }
}

/* ---- product --------------------------------------------------------------------------------- */

/* sums += the 32 rows at `left` times the 32 rows at `right` over 16 columns; both are this lane's
 * ldmatrix addresses. */
template <typename T>
__device__ __forceinline__ void multiply_step(uint32_t left, uint32_t right, float (&sums)[2][4][4])
{
    uint32_t a[2][4], b[2][4];
    vt_load_blocks(left, a[0]);
    vt_load_blocks(left + 16 * PANEL_LINE, a[1]);
    vt_load_blocks(right, b[0]);
    vt_load_blocks(right + 16 * PANEL_LINE, b[1]);
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            vt_mma<T>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1], sums[i][j]);
        }
    }
}

/* Until group `group` of GROUPS has landed. */
__device__ __forceinline__ void wait_for_group(int group)
{
    switch (group) {
    case 0: vt_copy_async_wait<3>(); break;
    case 1: vt_copy_async_wait<2>(); break;
    case 2: vt_copy_async_wait<1>(); break;
    default: vt_copy_async_wait<0>(); break;
    }
}

/* A warp's share of the product of its part; `steps` of 16 columns, copied in GROUPS groups. */
template <typename T, int ROWS, int COLS, int THREADS, bool COPIED>
__device__ __forceinline__ void multiply(uint32_t rows, uint32_t weight, unsigned steps,
                                         unsigned group_steps, float (&sums)[2][4][4])
{
    constexpr unsigned across = COLS / PART, parts = ROWS / PART * across;
    constexpr unsigned sharing = THREADS / 32 / parts;
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned part = warp % parts, down = part / across * PART, right = part % across * PART;
    uint32_t left_base = rows + vt_tile_offset<PANEL>((int)(down + lane % 16), (int)(lane / 16));
    uint32_t right_base = weight + vt_tile_offset<PANEL>((int)(right + lane / 16 * 8 + lane % 8),
                                                         (int)(lane / 8 % 2));
    unsigned step = warp / parts;
#pragma unroll 1
    for (int group = COPIED ? 0 : GROUPS - 1; group < GROUPS; group++) {
        unsigned last = COPIED ? min((unsigned)(group + 1) * group_steps, steps) : steps;
        wait_for_group(group);
        __syncthreads();
#pragma unroll 2
        for (; step < last; step += sharing) {
            uint32_t panel = step / 4, within = step % 4 << 5;
            multiply_step<T>((left_base ^ within) + panel * (ROWS * PANEL_LINE),
                             (right_base ^ within) + panel * (COLS * PANEL_LINE), sums);
        }
    }
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* A warp's sums to its place behind those of the warps before it. */
__device__ __forceinline__ void store_part(float *partial, const float (&sums)[2][4][4])
{
    unsigned lane = threadIdx.x % 32;
    float *at = partial + threadIdx.x / 32 * PART_FLOATS + lane / 4 * PITCH + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float *to = at + i * 16 * PITCH + j * 8;
            *reinterpret_cast<float2 *>(to) = make_float2(sums[i][j][0], sums[i][j][1]);
            *reinterpret_cast<float2 *>(to + 8 * PITCH) = make_float2(sums[i][j][2], sums[i][j][3]);
        }
    }
}

/* x += 4 floats */
__device__ __forceinline__ void add_four(const float *from, float (&x)[ITEM])
{
    float4 y = *reinterpret_cast<const float4 *>(from);
    x[0] += y.x;
    x[1] += y.y;
    x[2] += y.z;
    x[3] += y.w;
}

/* Item `item` of a tile: 4 columns of the row item / (COLS / 4), from the parts of all warps. */
template <int ROWS, int COLS, int THREADS>
__device__ __forceinline__ void add_parts(const float *partial, unsigned item, float (&x)[ITEM])
{
    constexpr unsigned parts = (ROWS / PART) * (COLS / PART);
    unsigned row = item / (COLS / ITEM), col = item % (COLS / ITEM) * ITEM;
    unsigned part = row / PART * (COLS / PART) + col / PART;
    const float *from = partial + part * PART_FLOATS + row % PART * PITCH + col % PART;
#pragma unroll
    for (unsigned i = 0; i < THREADS / 32 / parts; i++) {
        add_four(from + i * (parts * PART_FLOATS), x);
    }
}

/* Sends this block's sums to the owners of their rows and waits for theirs. */
template <int ROWS, int COLS, int THREADS>
__device__ __forceinline__ void exchange(const float *partial, uint32_t slots, unsigned rank,
                                         int log2_split)
{
    constexpr unsigned items = ROWS * COLS / ITEM;
    unsigned owned = items >> log2_split;
    cluster_wait(); /* the others have begun */
#pragma unroll
    for (unsigned item = threadIdx.x; item < items; item += THREADS) {
        float x[ITEM] = {};
        add_parts<ROWS, COLS, THREADS>(partial, item, x);
        unsigned place = rank * owned + (item & (owned - 1));
        store_to_block(slots + place * (uint32_t)sizeof x, (int)(item / owned), x);
    }
    cluster_arrive();
    cluster_wait();
}

/* ---- kernel ---------------------------------------------------------------------------------- */

/* What a thread finishes: item j is 4 columns of row `row` + j * APART. */
template <typename T, int ROWS, int COLS, int THREADS> struct finisher {
    static constexpr int ITEMS = ROWS * COLS / ITEM / THREADS, APART = THREADS / (COLS / ITEM);
    unsigned at; /* index in dst */
    int rows;    /* that are left from `row` on, of the block's stripe and of the map */
    float bias[ITEM];
    vt_pack<T, ITEM> residual[ITEMS];

    /* Before the predecessor is waited for: the parameters. */
    __device__ __forceinline__ void begin(const vt_cuda_linear_small &a, const layout &l,
                                          unsigned first_row, unsigned first_col, unsigned rank)
    {
        unsigned within = threadIdx.x / (COLS / ITEM), stripe = (unsigned)ROWS >> l.log2_split;
        unsigned row = first_row + rank * stripe + within;
        unsigned col = first_col + threadIdx.x % (COLS / ITEM) * ITEM;
        at = row * (unsigned)a.cols + col;
        rows = min((int)(stripe - within), (int)a.rows - (int)row);
        rows = col < (unsigned)a.cols ? rows : 0;
        vt_pack<float, ITEM> b = {};
        if (a.bias && rows > 0) {
            b = vt_load<float, ITEM>(a.bias + col);
        }
        vt_unpack(b, bias);
    }
    __device__ __forceinline__ void load_residual(const vt_cuda_linear_small &a)
    {
#pragma unroll
        for (int j = 0; j < ITEMS; j++) {
            residual[j] = {};
            if (a.residual && j * APART < rows) {
                residual[j] = vt_load<T, ITEM>((const T *)a.residual +
                                               (at + (unsigned)(j * APART) * (unsigned)a.cols));
            }
        }
    }
    __device__ __forceinline__ void store(const vt_cuda_linear_small &a, int j, float (&x)[ITEM])
    {
        float r[ITEM];
#pragma unroll
        for (int i = 0; i < ITEM; i++) {
            x[i] += bias[i];
        }
        if (a.act != VT_ACT_NONE) {
            vt_activate<false>(a.act, x);
        }
        vt_unpack(residual[j], r);
#pragma unroll
        for (int i = 0; i < ITEM; i++) {
            x[i] = a.gated ? x[i] * r[i] : x[i] + r[i];
        }
        unsigned index = at + (unsigned)(j * APART) * (unsigned)a.cols;
        if (a.dst_dtype == VT_F32) {
            vt_store((float *)a.dst + index, x);
        } else {
            vt_store((T *)a.dst + index, x);
        }
    }
};

/* Grid: blocks of a cluster, tiles down, tiles across. */
template <typename T, int ROWS, int COLS, way HOW>
__global__ void __launch_bounds__(threads_of(ROWS, COLS), 512 / threads_of(ROWS, COLS))
    small_kernel(const __grid_constant__ vt_cuda_linear_small a, const __grid_constant__ layout l)
{
    constexpr int THREADS = threads_of(ROWS, COLS), C = chunks_of(HOW);
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned rank = blockIdx.x, first_row = blockIdx.y * ROWS, first_col = blockIdx.z * COLS;
    unsigned depth = (unsigned)a.depth, begin = rank * (unsigned)l.slice;
    int count = max(min(l.slice, (int)depth - (int)begin), 0);
    uint32_t rows = vt_shared_address(shared);
    uint32_t weight = rows + (uint32_t)(l.panels * ROWS * PANEL_LINE);
    float *partial = reinterpret_cast<float *>(shared);
    vt_let_successor_begin();
    if (l.split > 1) {
        cluster_arrive_begun();
    }
    copy_panels<T, COLS, THREADS>((const T *)a.weight + (first_col * depth + begin), depth,
                                  a.cols - (int)first_col, count, 0, l.panels, weight);
    vt_copy_async_commit();
    finisher<T, ROWS, COLS, THREADS> end;
    end.begin(a, l, first_row, first_col, rank);
    affine<C> scaling;
    if (HOW != COPY) {
        scaling.load(a, threadIdx.x % lanes_of(HOW), lanes_of(HOW), depth / WIDE);
    }
    unsigned group_panels = (unsigned)(l.panels + GROUPS - 1) / GROUPS;
    vt_wait_for_predecessor();
    if constexpr (HOW == COPY) {
        const T *src = (const T *)a.src + (first_row * depth + begin);
#pragma unroll 1
        for (int group = 0; group < GROUPS; group++) {
            copy_panels<T, ROWS, THREADS>(src, depth, (int)a.rows - (int)first_row, count,
                                          group * (int)group_panels,
                                          min((group + 1) * (int)group_panels, l.panels), rows);
            vt_copy_async_commit();
        }
    } else {
        normalise_rows<T, ROWS, THREADS, HOW>(a, first_row, begin, (unsigned)count, rows, scaling);
    }
    end.load_residual(a);
    float sums[2][4][4] = {};
    multiply<T, ROWS, COLS, THREADS, HOW == COPY>(rows, weight, (unsigned)count / 16,
                                                  group_panels * (PANEL / 16), sums);
    __syncthreads();
    store_part(partial, sums);
    __syncthreads();
    if (l.split > 1) {
        exchange<ROWS, COLS, THREADS>(partial, rows + l.slots_at, rank, l.log2_split);
    }
#pragma unroll
    for (int j = 0; j < end.ITEMS; j++) {
        if (j * end.APART < end.rows) {
            float x[ITEM] = {};
            unsigned item = threadIdx.x + (unsigned)(j * THREADS);
            if (l.split > 1) {
                const float *slots = reinterpret_cast<const float *>(shared + l.slots_at);
                for (int i = 0; i < l.split; i++) {
                    add_four(slots + (i * (ROWS * COLS) >> l.log2_split) + item * ITEM, x);
                }
            } else {
                add_parts<ROWS, COLS, THREADS>(partial, item, x);
            }
            end.store(a, j, x);
        }
    }
}

/* ---- launch ---------------------------------------------------------------------------------- */

typedef void small_function(vt_cuda_linear_small, layout);

/* The ways of one tile. */
template <typename T, int ROWS, int COLS> static small_function *kernel_of(way how)
{
    switch (how) {
    case COPY: return small_kernel<T, ROWS, COLS, COPY>;
    case NORM_16: return small_kernel<T, ROWS, COLS, NORM_16>;
    case NORM_1: return small_kernel<T, ROWS, COLS, NORM_1>;
    case NORM_2: return small_kernel<T, ROWS, COLS, NORM_2>;
    case NORM_3: return small_kernel<T, ROWS, COLS, NORM_3>;
    default: return small_kernel<T, ROWS, COLS, NORM_4>;
    }
}

template <typename T> static small_function *kernel_for(const layout *l)
{
    if (l->tile_rows == 32) {
        return l->tile_cols == 32 ? kernel_of<T, 32, 32>(l->how) : kernel_of<T, 32, 64>(l->how);
    }
    return l->tile_cols == 32 ? kernel_of<T, 64, 32>(l->how) : kernel_of<T, 64, 64>(l->how);
}

typedef struct limits {
    int processors, block_shared, processor_shared;
    bool clusters;
} limits;

static cudaError_t read_limits(limits *out)
{
    int device, major = 0;
    cudaError_t e = cudaGetDevice(&device);
    e = e ? e : cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    e = e ? e : cudaDeviceGetAttribute(&out->processors, cudaDevAttrMultiProcessorCount, device);
    e = e ? e
          : cudaDeviceGetAttribute(&out->block_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                   device);
    e = e ? e
          : cudaDeviceGetAttribute(&out->processor_shared,
                                   cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
    out->clusters = major >= 9;
    return e;
}

static way way_of(const vt_cuda_linear_small *a)
{
    int chunks = a->depth / WIDE;
    return a->eps < 0.0f  ? COPY
           : chunks <= 16 ? NORM_16
           : chunks <= 32 ? NORM_1
           : chunks <= 64 ? NORM_2
           : chunks <= 96 ? NORM_3
                          : NORM_4;
}

static layout layout_of(const vt_cuda_linear_small *a, int tile_rows, int tile_cols, int log2_split)
{
    layout l = {tile_rows, tile_cols, 1 << log2_split, log2_split};
    l.how = way_of(a);
    l.row_tiles = (int)((a->rows + tile_rows - 1) / tile_rows);
    l.col_tiles = (a->cols + tile_cols - 1) / tile_cols;
    l.slice = (a->depth / 16 + l.split - 1) / l.split * 16;
    l.panels = (l.slice + PANEL - 1) / PANEL;
    uint32_t operands = (uint32_t)((tile_rows + tile_cols) * l.panels * PANEL_LINE);
    uint32_t warps = (uint32_t)threads_of(tile_rows, tile_cols) / 32;
    uint32_t sums = warps * PART_FLOATS * (uint32_t)sizeof(float);
    l.slots_at = operands > sums ? operands : sums;
    l.shared = l.slots_at + (l.split > 1 ? (uint32_t)(tile_rows * tile_cols) * 4 : 0);
    return l;
}

/* How often the blocks fill the device. */
static double waves_of(const layout *l, const limits *d)
{
    int by_threads = 512 / threads_of(l->tile_rows, l->tile_cols);
    int by_shared = d->processor_shared / (int)(l->shared + 1024);
    int together = by_threads < by_shared ? by_threads : by_shared;
    double blocks = (double)l->row_tiles * l->col_tiles * l->split;
    return l->shared > (uint32_t)d->block_shared ? INFINITY : blocks / d->processors / together;
}

/* What was the fastest of all layouts on an H100 for the products of Swin at one picture (see
 * bench/cuda_kernels --small): 32 x 64, smaller tiles where these are few, larger ones where they
 * are more than fit at a time, and a cluster where the inner dimension is long and the rows few. */
static layout choose(const vt_cuda_linear_small *a, const limits *d)
{
    if (a->tile_rows) {
        int log2 = a->split >= 8 ? 3 : a->split / 2;
        return layout_of(a, a->tile_rows, a->tile_cols, log2);
    }
    if (d->clusters && a->rows <= 64 && a->depth > 1024) {
        return layout_of(a, 64, 32, 3);
    }
    layout l = layout_of(a, 32, 64, 0);
    if (waves_of(&l, d) > 1.0) {
        return layout_of(a, 64, 64, 0);
    }
    bool few = l.how == COPY && 2 * l.row_tiles * l.col_tiles < d->processors;
    return few ? layout_of(a, 32, 32, 0) : l;
}

/* Also says how the work is dealt out. */
static const char *refuse(const vt_cuda_linear_small *a, limits *device, layout *out)
{
    if ((a->dtype != VT_F16 && a->dtype != VT_BF16) ||
        (a->dst_dtype != a->dtype && a->dst_dtype != VT_F32)) {
        return "it takes f16 or bf16";
    }
    if (a->rows < 1 || a->depth < 1 || a->cols < 1 || a->cols % WIDE || a->depth % 16) {
        return "the width is no multiple of 8, or the inner dimension none of 16";
    }
    if (a->eps >= 0.0f && a->depth > 32 * chunks_of(NORM_4) * WIDE) {
        return "the rows to normalise are too long";
    }
    const int64_t most = INT32_MAX - (1 << 26);
    if (a->rows > 1 << 20 || a->rows * a->depth > most || a->rows * a->cols > most ||
        (int64_t)a->depth * a->cols > most) {
        return "there are too many rows";
    }
    if (!vt_is_aligned(a->src, 16) || !vt_is_aligned(a->weight, 16) ||
        !vt_is_aligned(a->residual, 16) || !vt_is_aligned(a->dst, 16) ||
        !vt_is_aligned(a->bias, 16) || !vt_is_aligned(a->scale, 16) ||
        !vt_is_aligned(a->shift, 16)) {
        return "a map is not aligned to 16 bytes";
    }
    if (read_limits(device) != cudaSuccess) {
        return "the device does not answer";
    }
    *out = choose(a, device);
    return out->shared > (uint32_t)device->block_shared || (out->split > 1 && !device->clusters)
               ? "the rows do not fit into shared memory"
               : NULL;
}

const char *vt_cuda_linear_small_refuse(const vt_cuda_linear_small *a)
{
    limits device;
    layout l;
    return refuse(a, &device, &l);
}

const char *vt_cuda_linear_small_slow(const vt_cuda_linear_small *a)
{
    limits device;
    layout l;
    const char *reason = refuse(a, &device, &l);
    if (reason) {
        return reason;
    }
    if (waves_of(&l, &device) > 1.0) {
        return "the blocks do not fit the GPU at a time";
    }
    if (a->depth > 3072 || (l.how == COPY && a->rows > 256 && a->depth > 512) ||
        (l.how != COPY && l.tile_rows == 64 && a->depth > 256)) {
        return "the library brings long rows in less often";
    }
    return NULL;
}

cudaError_t vt_cuda_linear_small_run(const vt_cuda_linear_small *a, cudaStream_t stream)
{
    limits device;
    layout l;
    if (refuse(a, &device, &l)) {
        return cudaErrorInvalidValue;
    }
    small_function *kernel =
        a->dtype == VT_F16 ? kernel_for<__half>(&l) : kernel_for<__nv_bfloat16>(&l);
    cudaError_t e = vt_cuda_allow_shared((const void *)kernel);
    if (e != cudaSuccess) {
        return e;
    }
    dim3 grid((unsigned)l.split, (unsigned)l.row_tiles, (unsigned)l.col_tiles);
    return vt_cuda_launch_cluster(l.split, kernel, grid,
                                  (unsigned)threads_of(l.tile_rows, l.tile_cols), l.shared, stream,
                                  *a, l);
}
