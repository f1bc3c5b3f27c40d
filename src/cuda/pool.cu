/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over the pixels of each image: dst[n, c] = sum over h, w of src[n, h, w, c] / (h * w).
 *
 * A block owns 16 neighbouring chunks of channels of one image: thread (chunk, strip) adds pixels
 * strip, strip + STRIPS, ... in f32, then a thread per channel adds the partial sums in order. The
 * order is fixed, so the result is too. More strips where there are many pixels. Shared: STRIPS x
 * 16 chunks x V floats (16 KiB for 32 strips of V = 8). */
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"

enum { WIDE = 8, CHUNKS = 16, STRIPS = 16, MORE_STRIPS = 32, MANY_PIXELS = 1024, AHEAD = 8 };

/* sum += AHEAD pixels from `i` on, STRIPS apart; without ALL only those before `pixels`. */
template <int STRIPS, bool ALL, typename S, int V>
__device__ __forceinline__ void add_ahead(const S *src, int64_t stride, int i, int pixels,
                                          float (&sum)[V])
{
    vt_pack<S, V> pack[AHEAD];
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
        int pixel = i + a * STRIPS;
        pack[a] = vt_load<S, V>(src + (ALL ? pixel : min(pixel, pixels - 1)) * stride);
    }
#pragma unroll
    for (int a = 0; a < AHEAD; a++) {
        float x[V];
        vt_unpack(pack[a], x);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum[k] += ALL || i + a * STRIPS < pixels ? x[k] : 0.0f;
        }
    }
}

template <typename S, typename D, int V, int STRIPS>
__global__ void __launch_bounds__(CHUNKS *STRIPS) mean_kernel(vt_cuda_mean a, int groups)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    __shared__ float partial[STRIPS][V][CHUNKS];
    int column = (int)threadIdx.x % CHUNKS, strip = (int)threadIdx.x / CHUNKS, group;
    int64_t n = vt_divide(blockIdx.x, groups, &group), pixels = a.shape.h * a.shape.w;
    int64_t channel = ((int64_t)group * CHUNKS + column) * V;
    float sum[V] = {};
    if (channel < a.shape.c) {
        const S *src = (const S *)a.src + n * pixels * a.shape.c + channel;
        int i = strip, end = (int)pixels;
        for (; i + (AHEAD - 1) * STRIPS < end; i += AHEAD * STRIPS) {
            add_ahead<STRIPS, true>(src, a.shape.c, i, end, sum);
        }
        if (i < end) {
            add_ahead<STRIPS, false>(src, a.shape.c, i, end, sum);
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        partial[strip][k][column] = sum[k];
    }
    __syncthreads();
    channel += strip; /* thread (chunk, k) ends with one channel */
    if (strip < V && channel < a.shape.c) {
        float total = 0.0f;
#pragma unroll
        for (int s = 0; s < STRIPS; s++) {
            total += partial[s][strip][column];
        }
        ((D *)a.dst)[n * a.shape.c + channel] = vt_from_float<D>(total / (float)pixels);
    }
}

template <typename S, typename D, int V, int STRIPS>
static cudaError_t launch_strips(const vt_cuda_mean *a, cudaStream_t stream)
{
    int64_t groups = (a->shape.c + CHUNKS * V - 1) / (CHUNKS * V);
    return vt_cuda_launch(mean_kernel<S, D, V, STRIPS>, vt_grid(groups * a->shape.n, 1),
                          CHUNKS * STRIPS, 0, stream, *a, (int)groups);
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_mean *a, bool wide, cudaStream_t stream)
{
    return !wide ? launch_strips<S, D, 1, STRIPS>(a, stream)
           : a->shape.h * a->shape.w < MANY_PIXELS
               ? launch_strips<S, D, WIDE, STRIPS>(a, stream)
               : launch_strips<S, D, WIDE, MORE_STRIPS>(a, stream);
}

typedef cudaError_t launcher(const vt_cuda_mean *, bool, cudaStream_t);

cudaError_t vt_cuda_mean_pool(const vt_cuda_mean *a, cudaStream_t stream)
{
    static launcher *const table[3][3] = VT_TYPE_TABLE(launch);
    const vt_shape *s = &a->shape;
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) || s->h < 1 ||
        s->w < 1 || s->c < 1 || s->c > INT32_MAX || s->h > INT32_MAX / 2 / s->w) {
        return cudaErrorInvalidValue;
    }
    if (s->n < 1) {
        return cudaSuccess;
    }
    bool wide = s->c % WIDE == 0 && vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16);
    return table[a->src_dtype][a->dst_dtype](a, wide, stream);
}
