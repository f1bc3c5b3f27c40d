/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution of NHWC maps, all sums in f32.
 *
 * strip_kernel, stride 1, kernels of 3, 5 or 7, 4 | channels: a thread owns 4 channels of a strip
 * of STRIP pixels of one row, `dilation` apart. Of each kernel row it reads the STRIP + K - 1
 * pixels that the strip sees once, and uses each for up to K sums; the weights of the block's
 * channels lie in shared memory. Neighbouring lanes own neighbouring channels, so that every access
 * is contiguous; the K rows that a pixel belongs to meet it in the first-level cache, because a
 * block owns neighbouring rows. Shared: K^2 x 4 SLICE floats, 12.5 KiB at most. plain_kernel,
 * everything else: a thread owns V channels of one pixel.
 *
 * Both end with bias, activation, scale and shift, residual. */
#include "cuda/activate.cuh"
#include "cuda/convert.cuh"

enum { THREADS = 256, STRIP = 7, V = 4 };

/* x = residual + affine(act(x)) for `W` channels from `channel` on of destination element `index`
 */
template <bool EXACT, int W>
__device__ __forceinline__ void finish(const vt_cuda_depthwise &a, int channel, int64_t index,
                                       float (&x)[W])
{
    vt_activate<EXACT>(a.conv.act, x);
    if (a.scale) {
        float scale[W], shift[W] = {};
        vt_unpack(vt_load<float, W>(a.scale + channel), scale);
        if (a.shift) {
            vt_unpack(vt_load<float, W>(a.shift + channel), shift);
        }
#pragma unroll
        for (int i = 0; i < W; i++) {
            x[i] = x[i] * scale[i] + shift[i];
        }
    }
    if (a.residual) {
        vt_add_any<W>(a.residual, a.residual_dtype, index, x);
    }
}

/* How the strips of a map are numbered: columns of one residue (mod dilation) together, likewise
 * rows, so that neighbours in number are neighbours in what they read. */
typedef struct strips {
    int quads;        /* of channels */
    int per_residue;  /* strips of the columns of one residue */
    int row_strips;   /* strips of a row: dilation * per_residue */
    int residue_rows; /* rows of one residue, rounded up */
    int64_t count;    /* of all images; some lie outside */
} strips;

template <typename S, typename D, int K, int SLICE>
__global__ void __launch_bounds__(THREADS) strip_kernel(vt_cuda_depthwise a, strips g)
{
    __shared__ float4 weights[K * K * SLICE];
    int quad = (int)threadIdx.x % SLICE, first = (int)blockIdx.y * SLICE;
    int64_t c = a.src_shape.c;
    for (int i = (int)threadIdx.x; i < K * K * SLICE; i += THREADS) {
        int q = first + i % SLICE;
        if (q < g.quads) {
            weights[i] = *reinterpret_cast<const float4 *>(a.weight + i / SLICE * c + q * V);
        }
    }
    __syncthreads();
    int64_t number = (int64_t)blockIdx.x * (THREADS / SLICE) + threadIdx.x / SLICE;
    if (number >= g.count || first + quad >= g.quads) {
        return;
    }
    int strip, row, channel = (first + quad) * V;
    int step_y = a.conv.dilation_h, step_x = a.conv.dilation_w;
    int h = (int)a.src_shape.h, w = (int)a.src_shape.w;
    int oh = (int)a.dst_shape.h, ow = (int)a.dst_shape.w;
    int64_t rest = vt_divide(number, g.row_strips, &strip);
    int64_t image = vt_divide(rest, g.residue_rows * step_y, &row);
    int y = row / g.residue_rows + step_y * (row % g.residue_rows);
    int x0 = strip / g.per_residue + step_x * STRIP * (strip % g.per_residue);
    if (y >= oh || x0 >= ow) {
        return;
    }
    float sum[STRIP][V];
#pragma unroll
    for (int t = 0; t < STRIP; t++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            sum[t][i] = a.bias ? a.bias[channel + i] : 0.0f;
        }
    }
    const S *src = (const S *)a.src + image * h * w * c + channel;
    int sx0 = x0 - a.conv.pad_left;
#pragma unroll 1
    for (int ky = 0; ky < K; ky++) {
        int sy = y + ky * step_y - a.conv.pad_top;
        if (sy < 0 || sy >= h) {
            continue;
        }
        const S *line = src + (int64_t)sy * w * c;
        vt_pack<S, V> raw[STRIP + K - 1];
#pragma unroll
        for (int j = 0; j < STRIP + K - 1; j++) {
            int sx = sx0 + j * step_x;
            raw[j] = {};
            if (sx >= 0 && sx < w) {
                raw[j] = vt_load<S, V>(line + (int64_t)sx * c);
            }
        }
        float4 k[K];
#pragma unroll
        for (int kx = 0; kx < K; kx++) {
            k[kx] = weights[(ky * K + kx) * SLICE + quad];
        }
#pragma unroll
        for (int j = 0; j < STRIP + K - 1; j++) {
            float x[V];
            vt_unpack(raw[j], x);
#pragma unroll
            for (int kx = 0; kx < K; kx++) {
                int t = j - kx;
                if (t >= 0 && t < STRIP) {
                    sum[t][0] += k[kx].x * x[0];
                    sum[t][1] += k[kx].y * x[1];
                    sum[t][2] += k[kx].z * x[2];
                    sum[t][3] += k[kx].w * x[3];
                }
            }
        }
    }
#pragma unroll
    for (int t = 0; t < STRIP; t++) {
        int x = x0 + t * step_x;
        if (x < ow) {
            int64_t index = ((image * oh + y) * ow + x) * c + channel;
            finish<sizeof(D) == 4>(a, channel, index, sum[t]);
            vt_store((D *)a.dst + index, sum[t]);
        }
    }
}

template <typename S, typename D, int W>
__global__ void __launch_bounds__(THREADS)
    plain_kernel(vt_cuda_depthwise a, int chunks, int64_t work)
{
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (item >= work) {
        return;
    }
    int chunk, x, y;
    int64_t rest = vt_divide(item, chunks, &chunk);
    rest = vt_divide(rest, (int)a.dst_shape.w, &x);
    int64_t image = vt_divide(rest, (int)a.dst_shape.h, &y);
    int channel = chunk * W, h = (int)a.src_shape.h, w = (int)a.src_shape.w;
    int64_t c = a.src_shape.c;
    const S *src = (const S *)a.src + image * h * w * c + channel;
    float sum[W];
#pragma unroll
    for (int i = 0; i < W; i++) {
        sum[i] = a.bias ? a.bias[channel + i] : 0.0f;
    }
    for (int ky = 0; ky < a.conv.kernel_h; ky++) {
        int sy = y * a.conv.stride_h + ky * a.conv.dilation_h - a.conv.pad_top;
        for (int kx = 0; sy >= 0 && sy < h && kx < a.conv.kernel_w; kx++) {
            int sx = x * a.conv.stride_w + kx * a.conv.dilation_w - a.conv.pad_left;
            if (sx >= 0 && sx < w) {
                float value[W], k[W];
                vt_unpack(vt_load<S, W>(src + ((int64_t)sy * w + sx) * c), value);
                vt_unpack(vt_load<float, W>(a.weight + (ky * a.conv.kernel_w + kx) * c + channel),
                          k);
#pragma unroll
                for (int i = 0; i < W; i++) {
                    sum[i] += k[i] * value[i];
                }
            }
        }
    }
    finish<sizeof(D) == 4>(a, channel, item * W, sum);
    vt_store((D *)a.dst + item * W, sum);
}

template <typename S, typename D, int K>
static cudaError_t launch_strips(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    strips g;
    int dh = a->conv.dilation_h, dw = a->conv.dilation_w;
    int64_t columns = (a->dst_shape.w + dw - 1) / dw;
    g.quads = (int)(a->src_shape.c / V);
    g.per_residue = (int)((columns + STRIP - 1) / STRIP);
    g.row_strips = g.per_residue * dw;
    g.residue_rows = (int)((a->dst_shape.h + dh - 1) / dh);
    g.count = a->dst_shape.n * g.residue_rows * dh * g.row_strips;
    bool wide = g.quads % 16 == 0;
    int slice = wide ? 16 : 8;
    dim3 grid(vt_grid(g.count, THREADS / slice), (unsigned)((g.quads + slice - 1) / slice));
    if (wide) {
        strip_kernel<S, D, K, 16><<<grid, THREADS, 0, stream>>>(*a, g);
    } else {
        strip_kernel<S, D, K, 8><<<grid, THREADS, 0, stream>>>(*a, g);
    }
    return cudaGetLastError();
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    const vt_conv2d *p = &a->conv;
    bool quads = a->src_shape.c % V == 0 && vt_is_aligned(a->src, V * sizeof(S)) &&
                 vt_is_aligned(a->dst, V * sizeof(D)) && vt_is_aligned(a->residual, 16);
    if (quads && p->stride_h == 1 && p->stride_w == 1 && p->kernel_h == p->kernel_w) {
        switch (p->kernel_h) {
        case 3: return launch_strips<S, D, 3>(a, stream);
        case 5: return launch_strips<S, D, 5>(a, stream);
        case 7: return launch_strips<S, D, 7>(a, stream);
        }
    }
    int chunks = (int)(quads ? a->src_shape.c / V : a->src_shape.c);
    int64_t work = a->dst_shape.n * a->dst_shape.h * a->dst_shape.w * chunks;
    unsigned grid = vt_grid(work, THREADS);
    if (quads) {
        plain_kernel<S, D, V><<<grid, THREADS, 0, stream>>>(*a, chunks, work);
    } else {
        plain_kernel<S, D, 1><<<grid, THREADS, 0, stream>>>(*a, chunks, work);
    }
    return cudaGetLastError();
}

typedef cudaError_t launcher(const vt_cuda_depthwise *, cudaStream_t);

cudaError_t vt_cuda_depthwise_conv(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    static launcher *const table[3][3] = VT_TYPE_TABLE(launch);
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) ||
        (a->residual && !vt_is_float_type(a->residual_dtype)) || a->src_shape.c > INT32_MAX / 4 ||
        a->src_shape.h * a->src_shape.w > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    return a->dst_shape.n < 1 ? cudaSuccess : table[a->src_dtype][a->dst_dtype](a, stream);
}
