/* SPDX-License-Identifier: Apache-2.0 */
/* Dense convolution, any shape: one thread per output element, channels of the output fastest, so
 * that a warp reads the same input pixel. Plain: the path for shapes that nothing faster takes. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/kernels.h"

namespace
{

__device__ float read_as_f32(const void *p, vt_dtype dtype, int64_t i)
{
    switch (dtype) {
    case VT_BF16: return __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i]);
    case VT_F16: return __half2float(static_cast<const __half *>(p)[i]);
    default: return static_cast<const float *>(p)[i];
    }
}

/* dst[n,y,x,o] = bias[o] + sum_{ky,kx,i} weight[o,ky,kx,i] src[n, y', x', first(o) + i], in f32; i
 * counts the channels of o's group, first(o) is where they begin */
__global__ void conv2d_kernel(vt_cuda_conv2d a)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t count = a.dst_shape.n * a.dst_shape.h * a.dst_shape.w * a.dst_shape.c;
    if (index >= count) {
        return;
    }
    int64_t o = index % a.dst_shape.c, x = index / a.dst_shape.c % a.dst_shape.w;
    int64_t y = index / (a.dst_shape.c * a.dst_shape.w) % a.dst_shape.h;
    int64_t n = index / (a.dst_shape.c * a.dst_shape.w * a.dst_shape.h);
    int groups = a.conv.groups > 1 ? a.conv.groups : 1;
    int64_t in = a.src_shape.c / groups, row = o * a.conv.kernel_h * a.conv.kernel_w * in;
    int64_t first = o / (a.dst_shape.c / groups) * in;
    float sum = 0.0f;
    for (int ky = 0; ky < a.conv.kernel_h; ky++) {
        int64_t sy = y * a.conv.stride_h + (int64_t)ky * a.conv.dilation_h - a.conv.pad_top;
        for (int kx = 0; kx < a.conv.kernel_w; kx++) {
            int64_t sx = x * a.conv.stride_w + (int64_t)kx * a.conv.dilation_w - a.conv.pad_left;
            if (sy < 0 || sy >= a.src_shape.h || sx < 0 || sx >= a.src_shape.w) {
                continue;
            }
            int64_t pixel = ((n * a.src_shape.h + sy) * a.src_shape.w + sx) * a.src_shape.c + first;
            int64_t column = row + ((int64_t)ky * a.conv.kernel_w + kx) * in;
            for (int64_t i = 0; i < in; i++) {
                sum += read_as_f32(a.weight, a.weight_dtype, column + i) *
                       read_as_f32(a.src, a.src_dtype, pixel + i);
            }
        }
    }
    static_cast<float *>(a.dst)[index] = sum + (a.bias ? a.bias[o] : 0.0f);
}

} // namespace

cudaError_t vt_cuda_conv2d_plain(const vt_cuda_conv2d *args, cudaStream_t stream)
{
    const int threads = 256;
    vt_shape d = args->dst_shape;
    int64_t blocks = (d.n * d.h * d.w * d.c + threads - 1) / threads;
    if (blocks > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    conv2d_kernel<<<(unsigned)blocks, threads, 0, stream>>>(*args);
    return cudaGetLastError();
}
