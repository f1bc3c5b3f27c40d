/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a linear layer: dst[r, c] = residual[r, c] + act(src[r, c] + bias[c]).
 *
 * Bound by memory: one thread takes UNROLL chunks of 8 columns, a block apart so that every access
 * of a warp is contiguous; all loads of src are in flight before the first is used. The scalar
 * twin (chunks of 1) serves odd widths and bad alignment. In place is fine: a thread reads only
 * what it writes. No shared memory. */
#include "cuda/activate.cuh"
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"

enum { WIDE = 8, THREADS = 256, UNROLL = 2 };

template <typename S, typename D, int V>
__global__ void __launch_bounds__(THREADS) finish_kernel(vt_cuda_finish a, int64_t chunks)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t first = (int64_t)blockIdx.x * (THREADS * UNROLL) + threadIdx.x;
    const S *src = (const S *)a.src;
    vt_pack<S, V> raw[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        int64_t index = first + u * THREADS;
        if (index < chunks) {
            raw[u] = vt_load<S, V>(src + index * V);
        }
    }
    int per_row = (int)(a.cols / V);
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        int64_t index = first + u * THREADS;
        if (index < chunks) {
            float x[V];
            vt_unpack(raw[u], x);
            if (a.bias) {
                int chunk;
                vt_divide(index, per_row, &chunk);
                vt_add_any(a.bias, VT_F32, (int64_t)chunk * V, x);
            }
            vt_activate<sizeof(D) == 4>(a.act, x);
            if (a.residual) {
                vt_add_any(a.residual, a.residual_dtype, index * V, x);
            }
            vt_store((D *)a.dst + index * V, x);
        }
    }
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_finish *a, bool wide, cudaStream_t stream)
{
    int64_t chunks = a->rows * a->cols / (wide ? WIDE : 1);
    unsigned grid = vt_grid(chunks, THREADS * UNROLL);
    if (wide) {
        return vt_cuda_launch(finish_kernel<S, D, WIDE>, grid, THREADS, 0, stream, *a, chunks);
    } else {
        return vt_cuda_launch(finish_kernel<S, D, 1>, grid, THREADS, 0, stream, *a, chunks);
    }
}

typedef cudaError_t launcher(const vt_cuda_finish *, bool, cudaStream_t);

cudaError_t vt_cuda_finish_rows(const vt_cuda_finish *a, cudaStream_t stream)
{
    static launcher *const table[3][3] = VT_TYPE_TABLE(launch);
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) ||
        (a->residual && !vt_is_float_type(a->residual_dtype)) || a->cols < 1 ||
        a->cols > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    if (a->rows < 1) {
        return cudaSuccess;
    }
    bool wide = a->cols % WIDE == 0 && vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16) &&
                vt_is_aligned(a->residual, 16) && vt_is_aligned(a->bias, 16);
    return table[a->src_dtype][a->dst_dtype](a, wide, stream);
}
