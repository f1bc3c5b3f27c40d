/* SPDX-License-Identifier: Apache-2.0 */
/* Any strides to dense NHWC: dst[n, h, w, c] = src[n * sn + h * sh + w * sw + c * sc].
 *
 * Planar pictures (stride_w = 1, up to 4 channels, NCHW above all) are bound by memory: a thread
 * takes 8 neighbouring pixels, reads them from each plane and writes its 8 * C neighbours in
 * pieces of 16 bytes. Everything else goes element by element in the order of dst. No shared
 * memory. */
#include "cuda/convert.cuh"

enum { PIXELS = 8, THREADS = 256, MOST_PLANES = 4 };

template <typename S, typename D, int C>
__global__ void __launch_bounds__(THREADS) planar_kernel(vt_cuda_layout a, int64_t strips)
{
    int64_t strip = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (strip >= strips) {
        return;
    }
    int x, y;
    int64_t line = vt_divide(strip, (int)(a.shape.w / PIXELS), &x);
    int64_t n = vt_divide(line, (int)a.shape.h, &y);
    const S *src = (const S *)a.src + n * a.stride_n + y * a.stride_h + (int64_t)x * PIXELS;
    vt_pack<S, PIXELS> plane[C];
#pragma unroll
    for (int c = 0; c < C; c++) {
        plane[c] = vt_load<S, PIXELS>(src + c * a.stride_c);
    }
    float pixels[PIXELS * C];
#pragma unroll
    for (int i = 0; i < PIXELS * C; i++) {
        pixels[i] = vt_to_float(plane[i % C].at[i / C]);
    }
    vt_store((D *)a.dst + strip * (PIXELS * C), pixels);
}

template <typename S, typename D>
__global__ void __launch_bounds__(THREADS) strided_kernel(vt_cuda_layout a, int64_t elements)
{
    int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (index >= elements) {
        return;
    }
    int c, x, y;
    int64_t rest = vt_divide(index, (int)a.shape.c, &c);
    rest = vt_divide(rest, (int)a.shape.w, &x);
    int64_t n = vt_divide(rest, (int)a.shape.h, &y);
    int64_t source = n * a.stride_n + y * a.stride_h + x * a.stride_w + c * a.stride_c;
    ((D *)a.dst)[index] = vt_from_float<D>(vt_to_float(((const S *)a.src)[source]));
}

/* Whether every strip of every plane begins where 16 bytes may be loaded. */
static bool is_planar(const vt_cuda_layout *a, int64_t element_bytes)
{
    int64_t piece = 16 / element_bytes;
    return a->shape.c <= MOST_PLANES && a->stride_w == 1 && a->shape.w % PIXELS == 0 &&
           a->stride_n % piece == 0 && a->stride_h % piece == 0 && a->stride_c % piece == 0 &&
           vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16);
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_layout *a, cudaStream_t stream)
{
    int64_t pixels = a->shape.n * a->shape.h * a->shape.w, strips = pixels / PIXELS;
    if (!is_planar(a, sizeof(S))) {
        int64_t elements = pixels * a->shape.c;
        strided_kernel<S, D><<<vt_grid(elements, THREADS), THREADS, 0, stream>>>(*a, elements);
        return cudaGetLastError();
    }
    unsigned grid = vt_grid(strips, THREADS);
    switch (a->shape.c) {
    case 1: planar_kernel<S, D, 1><<<grid, THREADS, 0, stream>>>(*a, strips); break;
    case 2: planar_kernel<S, D, 2><<<grid, THREADS, 0, stream>>>(*a, strips); break;
    case 3: planar_kernel<S, D, 3><<<grid, THREADS, 0, stream>>>(*a, strips); break;
    default: planar_kernel<S, D, 4><<<grid, THREADS, 0, stream>>>(*a, strips); break;
    }
    return cudaGetLastError();
}

template <typename S> static cudaError_t launch_to(const vt_cuda_layout *a, cudaStream_t stream)
{
    switch (a->dst_dtype) {
    case VT_F32: return launch<S, float>(a, stream);
    case VT_BF16: return launch<S, __nv_bfloat16>(a, stream);
    case VT_F16: return launch<S, __half>(a, stream);
    default: return cudaErrorInvalidValue;
    }
}

cudaError_t vt_cuda_to_nhwc(const vt_cuda_layout *a, cudaStream_t stream)
{
    const vt_shape *s = &a->shape;
    if (s->h > INT32_MAX || s->w > INT32_MAX || s->c > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    if (s->n < 1 || s->h < 1 || s->w < 1 || s->c < 1) {
        return cudaSuccess;
    }
    switch (a->src_dtype) {
    case VT_F32: return launch_to<float>(a, stream);
    case VT_BF16: return launch_to<__nv_bfloat16>(a, stream);
    case VT_F16: return launch_to<__half>(a, stream);
    default: return cudaErrorInvalidValue;
    }
}
