/* SPDX-License-Identifier: Apache-2.0 */
/* Linear attention and attention among channels: a small matrix per head from all pixels of an
 * image, then a product of every pixel with it. All sums in f32, in an order that depends on the
 * size of the map alone.
 *
 * gram_kernel: a block owns SPLIT pixels of one image and a TILE x TILE part of one head's matrix.
 *   Each of its warps takes every eighth group of GROUP pixels: lane d keeps the TILE sums of
 *   column d in registers, and reads left_i[c] from shared memory, the same address for all lanes.
 *   The warps' sums are added through shared memory, and sum_kernel adds the parts of an image.
 *   Shared: 8 x GROUP x 2 TILE floats (16 KiB), which also hold TILE x TILE sums (4 KiB).
 * apply_kernel: a block keeps the head's matrix in shared memory; a warp takes PIXELS pixels at a
 *   time, lane o makes output o of each. */
#include <math.h>

#include "cuda/convert.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    TILE = 32,
    SPLIT = 256,
    GROUP = 8,
    PIXELS = 8,
    MOST_SHARED = 99 << 10 /* what every GPU from sm_80 on has */
};

/* ---- the matrix ------------------------------------------------------------------------------ */

typedef struct gram_plan {
    int tiles_c, tiles_d, splits;
} gram_plan;

static gram_plan gram_plan_make(const vt_cuda_gram *a)
{
    return {(a->left_width + TILE - 1) / TILE, (a->right_width + TILE - 1) / TILE,
            (int)((a->pixels + SPLIT - 1) / SPLIT)};
}

/* Floats of one part of one head's sums: the matrix, then the totals. */
static __host__ __device__ int64_t part_size(const vt_cuda_gram &a)
{
    return (int64_t)a.left_width * (a.right_width + 1);
}

size_t vt_cuda_gram_bytes(const vt_cuda_gram *a)
{
    return (size_t)(a->n * a->heads * gram_plan_make(a).splits * part_size(*a)) * sizeof(float);
}

/* Channel `c` of pixel `i` or 0 outside. */
template <typename T>
__device__ __forceinline__ float element(const void *map, int64_t pixel, int64_t first, int64_t i,
                                         int64_t end, int c, int width, int head)
{
    return i < end && c < width
               ? vt_to_float(((const T *)map)[(first + i) * pixel + (int64_t)head * width + c])
               : 0.0f;
}

template <typename T>
__global__ void __launch_bounds__(THREADS) gram_kernel(vt_cuda_gram a, gram_plan g)
{
    __shared__ float4 left[WARPS][GROUP][TILE / 4];
    __shared__ float right[WARPS][GROUP][TILE];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, split, d0, c0, head;
    int64_t rest = vt_divide(blockIdx.x, g.splits, &split);
    rest = vt_divide(vt_divide(rest, g.tiles_d, &d0), g.tiles_c, &c0);
    int64_t image = vt_divide(rest, a.heads, &head), first = image * a.pixels;
    int64_t begin = (int64_t)split * SPLIT, end = min(begin + SPLIT, a.pixels);
    float sum[TILE] = {}, total = 0.0f;
    c0 *= TILE;
    d0 *= TILE;
    for (int64_t i = begin + warp * GROUP; i < end; i += WARPS * GROUP) {
#pragma unroll
        for (int k = 0; k < GROUP; k++) {
            float x =
                element<T>(a.left, a.left_pixel, first, i + k, end, c0 + lane, a.left_width, head);
            x = a.relu ? fmaxf(x, 0.0f) : x;
            total += x;
            ((float *)left[warp][k])[lane] = x;
            right[warp][k][lane] = element<T>(a.right, a.right_pixel, first, i + k, end, d0 + lane,
                                              a.right_width, head);
        }
        __syncwarp();
#pragma unroll
        for (int k = 0; k < GROUP; k++) {
            float y = right[warp][k][lane];
#pragma unroll
            for (int c = 0; c < TILE / 4; c++) {
                float4 x = left[warp][k][c];
                sum[4 * c] += x.x * y;
                sum[4 * c + 1] += x.y * y;
                sum[4 * c + 2] += x.z * y;
                sum[4 * c + 3] += x.w * y;
            }
        }
        __syncwarp();
    }
    /* warp after warp adds its sums, so that the order is fixed */
    float *sums = (float *)left, *totals = (float *)right;
    for (int w = 0; w < WARPS; w++) {
        __syncthreads();
        if (warp == w) {
#pragma unroll
            for (int c = 0; c < TILE; c++) {
                sums[c * TILE + lane] = (w ? sums[c * TILE + lane] : 0.0f) + sum[c];
            }
            totals[lane] = (w ? totals[lane] : 0.0f) + total;
        }
    }
    __syncthreads();
    float *out = a.partial + ((image * a.heads + head) * g.splits + split) * part_size(a);
    for (int i = (int)threadIdx.x; i < TILE * TILE; i += THREADS) {
        int c = c0 + i / TILE, d = d0 + i % TILE;
        if (c < a.left_width && d < a.right_width) {
            out[c * a.right_width + d] = sums[i];
        }
    }
    if (threadIdx.x < TILE && d0 == 0 && c0 + (int)threadIdx.x < a.left_width) {
        out[a.left_width * a.right_width + c0 + threadIdx.x] = totals[threadIdx.x];
    }
}

/* Adds the parts of each head's sums. */
__global__ void __launch_bounds__(THREADS) sum_kernel(vt_cuda_gram a, int splits)
{
    int64_t size = part_size(a), item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= a.n * a.heads * size) {
        return;
    }
    int at;
    int64_t head = vt_divide(item, (int)size, &at);
    const float *part = a.partial + head * splits * size + at;
    float sum = 0.0f;
    for (int s = 0; s < splits; s++) {
        sum += part[s * size];
    }
    int matrix = a.left_width * a.right_width;
    if (at < matrix) {
        a.state[head * matrix + at] = sum;
    } else if (a.total) {
        a.total[head * a.left_width + at - matrix] = sum;
    }
}

template <typename T> static cudaError_t launch_gram(const vt_cuda_gram *a, cudaStream_t stream)
{
    gram_plan g = gram_plan_make(a);
    unsigned grid = vt_grid(a->n * a->heads * g.tiles_c * g.tiles_d * g.splits, 1);
    gram_kernel<T><<<grid, THREADS, 0, stream>>>(*a, g);
    cudaError_t code = cudaGetLastError();
    if (code == cudaSuccess) {
        sum_kernel<<<vt_grid(a->n * a->heads * part_size(*a), THREADS), THREADS, 0, stream>>>(
            *a, g.splits);
        code = cudaGetLastError();
    }
    return code;
}

cudaError_t vt_cuda_gram_matrix(const vt_cuda_gram *a, cudaStream_t stream)
{
    if (!vt_is_float_type(a->dtype) || a->heads < 1 || a->left_width < 1 || a->right_width < 1 ||
        a->pixels < 1 || part_size(*a) > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    if (a->n < 1) {
        return cudaSuccess;
    }
    return a->dtype == VT_F32   ? launch_gram<float>(a, stream)
           : a->dtype == VT_F16 ? launch_gram<__half>(a, stream)
                                : launch_gram<__nv_bfloat16>(a, stream);
}

/* ---- its use --------------------------------------------------------------------------------- */

/* weights[k][o] = state[k][o] */
__device__ void load_state(const vt_cuda_apply &a, const float *state, float *weights)
{
    for (int i = (int)threadIdx.x; i < a.x_width * a.dst_width; i += THREADS) {
        weights[i] = state[i];
    }
}

/* weights[k][o] = softmax_k(scale * state[o][k]), a warp per output */
__device__ void load_softmax(const vt_cuda_apply &a, const float *state, float *weights)
{
    int lane = (int)threadIdx.x % 32;
    for (int o = (int)threadIdx.x / 32; o < a.dst_width; o += WARPS) {
        const float *row = state + o * a.x_width;
        float largest = -INFINITY, sum = 0.0f;
        for (int k = lane; k < a.x_width; k += 32) {
            largest = fmaxf(largest, a.scale * row[k]);
        }
        largest = vt_group_max(largest, 32);
        for (int k = lane; k < a.x_width; k += 32) {
            sum += expf(a.scale * row[k] - largest);
        }
        sum = vt_group_sum(sum, 32);
        for (int k = lane; k < a.x_width; k += 32) {
            weights[k * a.dst_width + o] = expf(a.scale * row[k] - largest) / sum;
        }
    }
}

template <typename T, typename D>
__global__ void __launch_bounds__(THREADS) apply_kernel(vt_cuda_apply a, int splits)
{
    extern __shared__ float shared[];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, split, head;
    float *weights = shared, *totals = weights + a.x_width * a.dst_width;
    float *x = totals + a.x_width + warp * PIXELS * a.x_width; /* [channel][pixel] */
    int64_t rest = vt_divide(blockIdx.x, splits, &split), image = vt_divide(rest, a.heads, &head);
    const float *state = a.state + rest * a.x_width * a.dst_width;
    if (a.total) {
        load_state(a, state, weights);
        for (int i = (int)threadIdx.x; i < a.x_width; i += THREADS) {
            totals[i] = a.total[rest * a.x_width + i];
        }
    } else {
        load_softmax(a, state, weights);
    }
    __syncthreads();
    int64_t begin = (int64_t)split * SPLIT, end = min(begin + SPLIT, a.pixels);
    float temperature = a.temperature ? a.temperature[head] : 1.0f;
    for (int64_t i = begin + warp * PIXELS; i < end; i += WARPS * PIXELS) {
        __syncwarp();
        for (int k = lane; k < a.x_width; k += 32) {
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
                float value =
                    element<T>(a.x, a.x_pixel, image * a.pixels, i + p, end, k, a.x_width, head);
                x[k * PIXELS + p] = a.total ? fmaxf(value, 0.0f) : value;
            }
        }
        __syncwarp();
        float factor[PIXELS];
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            factor[p] = a.total ? 0.0f : 1.0f;
        }
        for (int k = 0; a.total && k < a.x_width; k++) {
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
                factor[p] += x[k * PIXELS + p] * totals[k];
            }
        }
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            factor[p] = a.total ? temperature / fmaxf(factor[p], a.floor) : 1.0f;
        }
        for (int o = lane; o < a.dst_width; o += 32) {
            float sum[PIXELS] = {};
            for (int k = 0; k < a.x_width; k++) {
                float weight = weights[k * a.dst_width + o];
#pragma unroll
                for (int p = 0; p < PIXELS; p++) {
                    sum[p] += x[k * PIXELS + p] * weight;
                }
            }
#pragma unroll
            for (int p = 0; p < PIXELS; p++) {
                if (i + p < end) {
                    ((D *)a.dst)[(image * a.pixels + i + p) * a.dst_pixel +
                                 (int64_t)head * a.dst_width + o] =
                        vt_from_float<D>(sum[p] * factor[p]);
                }
            }
        }
    }
}

static size_t apply_shared(int x_width, int dst_width)
{
    return sizeof(float) * (size_t)x_width * ((size_t)dst_width + 1 + (size_t)WARPS * PIXELS);
}

const char *vt_cuda_apply_refuse(int x_width, int dst_width)
{
    return apply_shared(x_width, dst_width) > MOST_SHARED
               ? "the matrix of a head does not fit into shared memory"
               : NULL;
}

template <typename T, typename D>
static cudaError_t launch_apply(const vt_cuda_apply *a, cudaStream_t stream)
{
    int splits = (int)((a->pixels + SPLIT - 1) / SPLIT);
    size_t shared = apply_shared(a->x_width, a->dst_width);
    cudaError_t code = vt_cuda_allow_shared((const void *)apply_kernel<T, D>);
    if (code != cudaSuccess) {
        return code;
    }
    apply_kernel<T, D>
        <<<vt_grid(a->n * a->heads * splits, 1), THREADS, shared, stream>>>(*a, splits);
    return cudaGetLastError();
}

typedef cudaError_t apply_launcher(const vt_cuda_apply *, cudaStream_t);

cudaError_t vt_cuda_apply_state(const vt_cuda_apply *a, cudaStream_t stream)
{
    static apply_launcher *const table[3][3] = VT_TYPE_TABLE(launch_apply);
    if (!vt_is_float_type(a->dtype) || !vt_is_float_type(a->dst_dtype) || a->heads < 1 ||
        a->x_width < 1 || a->dst_width < 1 || a->pixels < 1 ||
        vt_cuda_apply_refuse(a->x_width, a->dst_width)) {
        return cudaErrorInvalidValue;
    }
    return a->n < 1 ? cudaSuccess : table[a->dtype][a->dst_dtype](a, stream);
}
