/* SPDX-License-Identifier: Apache-2.0 */
/* Rows times vectors or times another map, and maps put side by side. Bound by memory: a thread
 * moves W neighbouring channels (16 bytes of halves); the scalar twin serves odd widths and bad
 * alignment. No shared memory. */
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"

enum { THREADS = 256, WIDE = 8 };

/* x[i] = src[index + i], for an operand whose type is known at run time only. */
template <int W>
__device__ __forceinline__ void load_any(const void *src, vt_dtype dtype, int64_t index,
                                         float (&x)[W])
{
#pragma unroll
    for (int i = 0; i < W; i++) {
        x[i] = 0.0f;
    }
    vt_add_any<W>(src, dtype, index, x);
}

template <typename S, typename D, int W>
__global__ void __launch_bounds__(THREADS) scale_kernel(vt_cuda_scale a, int chunks, int64_t work)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= work) {
        return;
    }
    int chunk, inside;
    int64_t row = vt_divide(item, chunks, &chunk);
    float x[W], factor[W];
    vt_unpack(vt_load<S, W>((const S *)a.a + item * W), x);
    if (a.b) {
        int64_t shared_row = vt_divide(row, (int)a.share, &inside);
        load_any<W>(a.b, a.b_dtype, shared_row * a.cols + chunk * W, factor);
    } else {
        load_any<W>(a.scale, VT_F32, chunk * W, factor);
    }
#pragma unroll
    for (int i = 0; i < W; i++) {
        x[i] *= factor[i];
    }
    if (!a.b && a.shift) {
        vt_add_any<W>(a.shift, VT_F32, chunk * W, x);
    }
    vt_store((D *)a.dst + item * W, x);
}

template <typename S, typename D, int W>
__global__ void __launch_bounds__(THREADS) place_kernel(vt_cuda_place a, int chunks, int64_t work)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item < work) {
        int chunk;
        int64_t row = vt_divide(item, chunks, &chunk);
        float x[W];
        vt_unpack(vt_load<S, W>((const S *)a.src + item * W), x);
        vt_store((D *)a.dst + row * a.dst_cols + a.first + chunk * W, x);
    }
}

template <typename S, typename D>
static cudaError_t launch_scale(const vt_cuda_scale *a, cudaStream_t stream)
{
    bool wide = a->cols % WIDE == 0 && vt_is_aligned(a->a, 16) && vt_is_aligned(a->dst, 16) &&
                vt_is_aligned(a->b, 16) && vt_is_aligned(a->scale, 16) &&
                vt_is_aligned(a->shift, 16);
    int chunks = (int)(wide ? a->cols / WIDE : a->cols);
    int64_t work = a->rows * chunks;
    unsigned grid = vt_grid(work, THREADS);
    auto *kernel = wide ? scale_kernel<S, D, WIDE> : scale_kernel<S, D, 1>;
    return vt_cuda_launch(kernel, grid, THREADS, 0, stream, *a, chunks, work);
}

template <typename S, typename D>
static cudaError_t launch_place(const vt_cuda_place *a, cudaStream_t stream)
{
    bool wide = a->cols % WIDE == 0 && a->first % WIDE == 0 && a->dst_cols % WIDE == 0 &&
                vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16);
    int chunks = (int)(wide ? a->cols / WIDE : a->cols);
    int64_t work = a->rows * chunks;
    unsigned grid = vt_grid(work, THREADS);
    auto *kernel = wide ? place_kernel<S, D, WIDE> : place_kernel<S, D, 1>;
    return vt_cuda_launch(kernel, grid, THREADS, 0, stream, *a, chunks, work);
}

typedef cudaError_t scale_launcher(const vt_cuda_scale *, cudaStream_t);
typedef cudaError_t place_launcher(const vt_cuda_place *, cudaStream_t);

cudaError_t vt_cuda_scale_rows(const vt_cuda_scale *a, cudaStream_t stream)
{
    static scale_launcher *const table[3][3] = VT_TYPE_TABLE(launch_scale);
    if (!vt_is_float_type(a->a_dtype) || !vt_is_float_type(a->dst_dtype) ||
        (a->b && (!vt_is_float_type(a->b_dtype) || a->share < 1 || a->share > INT32_MAX)) ||
        (!a->b && !a->scale) || a->cols < 1 || a->cols > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return a->rows < 1 ? cudaSuccess : table[a->a_dtype][a->dst_dtype](a, stream);
}

cudaError_t vt_cuda_place_channels(const vt_cuda_place *a, cudaStream_t stream)
{
    static place_launcher *const table[3][3] = VT_TYPE_TABLE(launch_place);
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) || a->cols < 1 ||
        a->cols > INT32_MAX || a->first < 0 || a->first + a->cols > a->dst_cols) {
        return cudaErrorInvalidValue;
    }
    return a->rows < 1 ? cudaSuccess : table[a->src_dtype][a->dst_dtype](a, stream);
}
