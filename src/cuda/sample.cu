/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling of small squares, and the sampling of a deformable convolution. Bound by memory: a thread
 * owns W neighbouring channels of one output pixel (or of one tap of it), so that every access is
 * contiguous; the scalar twin serves odd widths and bad alignment. No shared memory. */
#include <math.h>

#include "cuda/convert.cuh"
#include "cuda/launch.cuh"

enum { THREADS = 256, WIDE = 8 };

template <typename S, typename D, int W>
__global__ void __launch_bounds__(THREADS) pool_kernel(vt_cuda_pooling a, int chunks, int64_t work)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= work) {
        return;
    }
    const vt_pooling &p = a.pooling;
    int chunk, x, y, h = (int)a.src_shape.h, w = (int)a.src_shape.w;
    int64_t rest = vt_divide(item, chunks, &chunk);
    rest = vt_divide(rest, (int)a.dst_shape.w, &x);
    int64_t image = vt_divide(rest, (int)a.dst_shape.h, &y);
    const S *src = (const S *)a.src + image * h * w * a.src_shape.c + chunk * W;
    bool most = p.kind == VT_POOL_MAX;
    float result[W];
#pragma unroll
    for (int i = 0; i < W; i++) {
        result[i] = most ? -INFINITY : 0.0f;
    }
    for (int ky = 0; ky < p.kernel; ky++) {
        int sy = y * p.stride - p.pad_top + ky;
        for (int kx = 0; sy >= 0 && sy < h && kx < p.kernel; kx++) {
            int sx = x * p.stride - p.pad_left + kx;
            if (sx >= 0 && sx < w) {
                float value[W];
                vt_unpack(vt_load<S, W>(src + ((int64_t)sy * w + sx) * a.src_shape.c), value);
#pragma unroll
                for (int i = 0; i < W; i++) {
                    result[i] = most ? fmaxf(result[i], value[i]) : result[i] + value[i];
                }
            }
        }
    }
    float divisor = most ? 1.0f : (float)(p.kernel * p.kernel);
#pragma unroll
    for (int i = 0; i < W; i++) {
        result[i] /= divisor;
    }
    vt_store((D *)a.dst + item * W, result);
}

/* x += weight * the channels at pixel (row, col), nothing outside the map */
template <typename S, int W>
__device__ __forceinline__ void add_pixel(const S *src, const vt_shape &s, int row, int col,
                                          float weight, float (&x)[W])
{
    if (row >= 0 && row < s.h && col >= 0 && col < s.w) {
        float value[W];
        vt_unpack(vt_load<S, W>(src + ((int64_t)row * s.w + col) * s.c), value);
#pragma unroll
        for (int i = 0; i < W; i++) {
            x[i] += weight * value[i];
        }
    }
}

template <typename S, typename D, int W>
__global__ void __launch_bounds__(THREADS) deform_kernel(vt_cuda_deform a, int chunks, int64_t work)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= work) {
        return;
    }
    int chunk, tap, px, py;
    int64_t place = vt_divide(item, chunks, &chunk); /* tap of a pixel */
    int64_t rest = vt_divide(place, a.kernel * a.kernel, &tap);
    rest = vt_divide(rest, (int)a.dst_shape.w, &px);
    int64_t image = vt_divide(rest, (int)a.dst_shape.h, &py);
    float offset[2] = {};
    vt_add_any<1>(a.offsets, a.offsets_dtype, place * 2, reinterpret_cast<float(&)[1]>(offset[0]));
    vt_add_any<1>(a.offsets, a.offsets_dtype, place * 2 + 1,
                  reinterpret_cast<float(&)[1]>(offset[1]));
    float y = (float)(py * a.kernel + tap / a.kernel) + offset[0];
    float x = (float)(px * a.kernel + tap % a.kernel) + offset[1];
    float result[W] = {};
    if (y > -1.0f && x > -1.0f && y < (float)a.src_shape.h && x < (float)a.src_shape.w) {
        const S *src =
            (const S *)a.src + image * a.src_shape.h * a.src_shape.w * a.src_shape.c + chunk * W;
        float top = floorf(y), left = floorf(x), dy = y - top, dx = x - left;
        int row = (int)top, col = (int)left;
        add_pixel(src, a.src_shape, row, col, (1.0f - dy) * (1.0f - dx), result);
        add_pixel(src, a.src_shape, row, col + 1, (1.0f - dy) * dx, result);
        add_pixel(src, a.src_shape, row + 1, col, dy * (1.0f - dx), result);
        add_pixel(src, a.src_shape, row + 1, col + 1, dy * dx, result);
    }
    vt_store((D *)a.dst + item * W, result);
}

/* Whether W channels can be moved at once. */
static bool is_wide(const void *src, const void *dst, int64_t c)
{
    return c % WIDE == 0 && vt_is_aligned(src, 16) && vt_is_aligned(dst, 16);
}

template <typename S, typename D>
static cudaError_t launch_pool(const vt_cuda_pooling *a, cudaStream_t stream)
{
    bool wide = is_wide(a->src, a->dst, a->src_shape.c);
    int chunks = (int)(wide ? a->src_shape.c / WIDE : a->src_shape.c);
    int64_t work = a->dst_shape.n * a->dst_shape.h * a->dst_shape.w * chunks;
    unsigned grid = vt_grid(work, THREADS);
    auto *kernel = wide ? pool_kernel<S, D, WIDE> : pool_kernel<S, D, 1>;
    return vt_cuda_launch(kernel, grid, THREADS, 0, stream, *a, chunks, work);
}

template <typename S, typename D>
static cudaError_t launch_deform(const vt_cuda_deform *a, cudaStream_t stream)
{
    bool wide = is_wide(a->src, a->dst, a->src_shape.c);
    int chunks = (int)(wide ? a->src_shape.c / WIDE : a->src_shape.c);
    int64_t work =
        a->dst_shape.n * a->dst_shape.h * a->dst_shape.w * a->kernel * a->kernel * chunks;
    unsigned grid = vt_grid(work, THREADS);
    auto *kernel = wide ? deform_kernel<S, D, WIDE> : deform_kernel<S, D, 1>;
    return vt_cuda_launch(kernel, grid, THREADS, 0, stream, *a, chunks, work);
}

typedef cudaError_t pool_launcher(const vt_cuda_pooling *, cudaStream_t);
typedef cudaError_t deform_launcher(const vt_cuda_deform *, cudaStream_t);

cudaError_t vt_cuda_pool_map(const vt_cuda_pooling *a, cudaStream_t stream)
{
    static pool_launcher *const table[3][3] = VT_TYPE_TABLE(launch_pool);
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) ||
        a->src_shape.c > INT32_MAX || a->src_shape.h > INT32_MAX || a->src_shape.w > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return a->dst_shape.n < 1 ? cudaSuccess : table[a->src_dtype][a->dst_dtype](a, stream);
}

cudaError_t vt_cuda_deform_gather(const vt_cuda_deform *a, cudaStream_t stream)
{
    static deform_launcher *const table[3][3] = VT_TYPE_TABLE(launch_deform);
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) ||
        !vt_is_float_type(a->offsets_dtype) || a->src_shape.c > INT32_MAX ||
        a->src_shape.h > INT32_MAX || a->src_shape.w > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return a->dst_shape.n < 1 ? cudaSuccess : table[a->src_dtype][a->dst_dtype](a, stream);
}
