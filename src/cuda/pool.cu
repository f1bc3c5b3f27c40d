/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over the pixels of each image: dst[n, c] = sum over h, w of src[n, h, w, c] / (h * w).
 *
 * A block owns 16 neighbouring chunks of channels of one image: thread (chunk, strip) adds pixels
 * strip, strip + 16, ... in f32, then one strip adds the 16 partial sums in order. The order is
 * fixed, so the result is too. Shared: 16 strips x 16 chunks x V floats (8 KiB for V = 8). */
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"

enum { WIDE = 8, CHUNKS = 16, STRIPS = 16, THREADS = CHUNKS * STRIPS };

template <typename S, typename D, int V>
__global__ void __launch_bounds__(THREADS) mean_kernel(vt_cuda_mean a, int groups)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    __shared__ float partial[STRIPS][V][CHUNKS];
    int column = (int)threadIdx.x % CHUNKS, strip = (int)threadIdx.x / CHUNKS, group;
    int64_t n = vt_divide(blockIdx.x, groups, &group), pixels = a.shape.h * a.shape.w;
    int64_t channel = ((int64_t)group * CHUNKS + column) * V;
    bool live = channel < a.shape.c;
    float sum[V] = {};
    if (live) {
        const S *src = (const S *)a.src + n * pixels * a.shape.c + channel;
#pragma unroll 4
        for (int64_t i = strip; i < pixels; i += STRIPS) {
            float x[V];
            vt_unpack(vt_load<S, V>(src + i * a.shape.c), x);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum[k] += x[k];
            }
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        partial[strip][k][column] = sum[k];
    }
    __syncthreads();
    if (strip == 0 && live) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            for (int s = 1; s < STRIPS; s++) {
                sum[k] += partial[s][k][column];
            }
            sum[k] /= (float)pixels;
        }
        vt_store((D *)a.dst + n * a.shape.c + channel, sum);
    }
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_mean *a, bool wide, cudaStream_t stream)
{
    int64_t groups = (a->shape.c + CHUNKS * (wide ? WIDE : 1) - 1) / (CHUNKS * (wide ? WIDE : 1));
    unsigned grid = vt_grid(groups * a->shape.n, 1);
    if (wide) {
        return vt_cuda_launch(mean_kernel<S, D, WIDE>, grid, THREADS, 0, stream, *a, (int)groups);
    } else {
        return vt_cuda_launch(mean_kernel<S, D, 1>, grid, THREADS, 0, stream, *a, (int)groups);
    }
}

typedef cudaError_t launcher(const vt_cuda_mean *, bool, cudaStream_t);

cudaError_t vt_cuda_mean_pool(const vt_cuda_mean *a, cudaStream_t stream)
{
    static launcher *const table[3][3] = VT_TYPE_TABLE(launch);
    const vt_shape *s = &a->shape;
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) || s->h < 1 ||
        s->w < 1 || s->c < 1 || s->c > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    if (s->n < 1) {
        return cudaSuccess;
    }
    bool wide = s->c % WIDE == 0 && vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16);
    return table[a->src_dtype][a->dst_dtype](a, wide, stream);
}
