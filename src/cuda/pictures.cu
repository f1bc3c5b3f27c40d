/* SPDX-License-Identifier: Apache-2.0 */
/* A batch of packed pictures (io/packed.h) to the network's input: two launches for all of them.
 * blockIdx.y is the picture, a thread makes one pixel. Sums are in integers, and subtraction and
 * division round as the processor's do: the same bits as vt_preprocess_run's. Neighbouring threads
 * read overlapping samples, which the first-level cache serves; no shared memory. */
#include "cuda/convert.cuh"
#include "io/packed.h"

enum { THREADS = 256 };

template <typename T>
__device__ __forceinline__ const T *at(const vt_packed_picture *p, uint32_t position)
{
    return (const T *)((const uint8_t *)p + position);
}

/* Three neighbouring samples of output `o` of an axis whose samples are `step` bytes apart. */
__device__ __forceinline__ void filter_pixel(const vt_packed_picture *p, const vt_packed_axis *axis,
                                             int o, const uint8_t *src, int64_t step, int (&out)[3])
{
    vt_packed_span span = at<vt_packed_span>(p, axis->spans)[o];
    const int32_t *weights = at<int32_t>(p, axis->weights) + (int64_t)o * axis->taps;
    src += span.first * step;
    int32_t sum[3] = {1 << (VT_PACKED_WEIGHT_BITS - 1), 1 << (VT_PACKED_WEIGHT_BITS - 1),
                      1 << (VT_PACKED_WEIGHT_BITS - 1)};
    for (int j = 0; j < span.count; j++, src += step) {
        int32_t weight = weights[j];
#pragma unroll
        for (int c = 0; c < 3; c++) {
            sum[c] += src[c] * weight;
        }
    }
#pragma unroll
    for (int c = 0; c < 3; c++) {
        out[c] = min(max(sum[c] >> VT_PACKED_WEIGHT_BITS, 0), 255);
    }
}

__device__ __forceinline__ const vt_packed_picture *picture_of(const vt_cuda_pictures &a)
{
    return (const vt_packed_picture *)((const uint8_t *)a.places + blockIdx.y * a.place_bytes);
}

/* pixels -> middle */
__global__ void __launch_bounds__(THREADS) first_pass_kernel(vt_cuda_pictures a)
{
    const vt_packed_picture *p = picture_of(a);
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p->middle) {
        return;
    }
    const uint8_t *pixels = at<uint8_t>(p, p->pixels);
    int64_t row_bytes = 3 * (int64_t)p->across.samples;
    int x, rgb[3];
    if (p->down_first) {
        int y = (int)vt_divide(i, p->across.samples, &x);
        filter_pixel(p, &p->down, y, pixels + 3 * (int64_t)x, row_bytes, rgb);
    } else {
        int64_t y = vt_divide(i, p->across.outputs, &x);
        filter_pixel(p, &p->across, x, pixels + y * row_bytes, 3, rgb);
    }
    uint8_t *dst = (uint8_t *)a.middles + blockIdx.y * a.place_bytes + 3 * i;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        dst[c] = (uint8_t)rgb[c];
    }
}

/* middle -> the network's input */
template <typename D>
__global__ void __launch_bounds__(THREADS) second_pass_kernel(vt_cuda_pictures a)
{
    const vt_packed_picture *p = picture_of(a);
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, pixels = (int64_t)a.h * a.w;
    if (i >= pixels) {
        return;
    }
    int column, rgb[3] = {a.fill[0], a.fill[1], a.fill[2]};
    int y = (int)vt_divide(i, a.w, &column) - p->top, x = column - p->left;
    if (x >= 0 && x < p->across.outputs && y >= 0 && y < p->down.outputs) {
        const uint8_t *middle = (const uint8_t *)a.middles + blockIdx.y * a.place_bytes;
        int found[3];
        if (p->down_first) {
            filter_pixel(p, &p->across, x, middle + 3 * (int64_t)y * p->across.samples, 3, found);
        } else {
            filter_pixel(p, &p->down, y, middle + 3 * (int64_t)x, 3 * (int64_t)p->across.outputs,
                         found);
        }
#pragma unroll
        for (int c = 0; c < 3; c++) {
            rgb[c] = p->bgr ? found[2 - c] : found[c];
        }
    }
    D *dst = (D *)a.dst + (blockIdx.y * pixels + i) * 3;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        float level = __fsub_rn(__fdiv_rn((float)rgb[c], 255.0f), a.mean[c]);
        dst[c] = vt_from_float<D>(__fdiv_rn(level, a.std[c]));
    }
}

template <typename D>
static void second_pass(const vt_cuda_pictures *a, dim3 grid, cudaStream_t stream)
{
    second_pass_kernel<D><<<grid, THREADS, 0, stream>>>(*a);
}

cudaError_t vt_cuda_resize_pictures(const vt_cuda_pictures *a, cudaStream_t stream)
{
    unsigned first = vt_grid(a->most_middle, THREADS),
             pixels = vt_grid((int64_t)a->h * a->w, THREADS);
    if (a->n > 65535 || pixels == 0 || (first == 0 && a->most_middle > 0)) {
        return cudaErrorInvalidValue;
    }
    unsigned n = (unsigned)a->n;
    if (n == 0) {
        return cudaSuccess;
    }
    if (first > 0) {
        first_pass_kernel<<<dim3(first, n), THREADS, 0, stream>>>(*a);
    }
    switch (a->dst_dtype) {
    case VT_F32: second_pass<float>(a, dim3(pixels, n), stream); break;
    case VT_BF16: second_pass<__nv_bfloat16>(a, dim3(pixels, n), stream); break;
    case VT_F16: second_pass<__half>(a, dim3(pixels, n), stream); break;
    default: return cudaErrorInvalidValue;
    }
    return cudaGetLastError();
}
