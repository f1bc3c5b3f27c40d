/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution of NHWC maps, all sums in f32.
 *
 * march_kernel, stride 1, kernels of 3, 5 or 7, one type: a thread owns one channel of a strip of X
 * pixels, `dilation` apart, and marches down the map with the channel's weights and the sums of K
 * rows of results in registers. Of each input row it reads the X + K - 1 pixels that the strip sees
 * once, one row ahead, and adds each to up to K * K sums; a row of sums moves up in the
 * multiplication that begins it. Neighbouring lanes own neighbouring channels, so that every access
 * is contiguous. What limits it is the rate of multiply-adds where K is 7 and memory where it is 3.
 * plain_kernel, everything else: a thread owns V channels of one pixel.
 *
 * Both end with bias, activation, scale and shift, residual. */
#include "cuda/activate.cuh"
#include "cuda/convert.cuh"
#include "cuda/launch.cuh"

enum { THREADS = 256, V = 4, MARCH_THREADS = 128, BLOCKS_PER_PROCESSOR = 2 };

/* x = residual + affine(act(x)) for `W` channels from `channel` on of element `index` of dst. */
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

/* The end of X pixels of a row of the result, `step` elements apart from `index` on; the first
 * `count` are inside the map. One branch serves them all. */
template <typename T, int X>
__device__ __forceinline__ void store_strip(const vt_cuda_depthwise &a, int channel, int64_t index,
                                            int step, int count, const float (&sum)[X])
{
    float x[X];
#pragma unroll
    for (int t = 0; t < X; t++) {
        x[t] = sum[t];
    }
    if (a.conv.act != VT_ACT_NONE) {
        vt_activate<sizeof(T) == 4>(a.conv.act, x);
    }
    if (a.scale) {
        float scale = a.scale[channel], shift = a.shift ? a.shift[channel] : 0.0f;
#pragma unroll
        for (int t = 0; t < X; t++) {
            x[t] = x[t] * scale + shift;
        }
    }
    if (a.residual) {
        const T *residual = (const T *)a.residual + index;
#pragma unroll
        for (int t = 0; t < X; t++, residual += step) {
            if (t < count) {
                x[t] += vt_to_float(*residual);
            }
        }
    }
    T *dst = (T *)a.dst + index;
#pragma unroll
    for (int t = 0; t < X; t++, dst += step) {
        if (t < count) {
            *dst = vt_from_float<T>(x[t]);
        }
    }
}

/* How the marches over a map are numbered: columns of one residue (mod dilation) together, likewise
 * rows, so that neighbours in number are neighbours in what they read. */
typedef struct marches {
    int per_residue; /* strips of the columns of one residue */
    int strips;      /* of a row */
    int segments;    /* of the rows of one residue */
    int rows;        /* of a segment */
    int64_t count;   /* channels * strips * images; some strips lie outside */
} marches;

/* The N pixels of an input row that a strip sees, zero outside the map. */
template <typename T, int N>
__device__ __forceinline__ void load_row(const T *src, int step, unsigned inside, T (&row)[N])
{
#pragma unroll
    for (int j = 0; j < N; j++, src += step) {
        row[j] = vt_from_float<T>(0.0f);
        if (inside >> j & 1) {
            row[j] = *src;
        }
    }
}

/* The march: `rows` rows of results from element `index` on. src: where the strip's input begins;
 * rows [begin, end) of it lie in the map, and of its columns those with a bit in `inside`. Of each
 * row of results the first `count` pixels are stored. */
template <typename T, int K, int X>
__device__ __forceinline__ void march(const vt_cuda_depthwise &a, const T *src, int64_t index,
                                      unsigned inside, int count, int begin, int end, int rows,
                                      int channel, const float (&weight)[K * K], float bias)
{
    constexpr int N = X + K - 1;
    int step = a.conv.dilation_w * (int)a.src_shape.c;
    int64_t line = (int64_t)a.conv.dilation_h * a.src_shape.w * a.src_shape.c;
    int64_t dst_line = (int64_t)a.conv.dilation_h * a.dst_shape.w * a.src_shape.c;
    float sum[K][X]; /* of rows o to o + K - 1 of results */
#pragma unroll
    for (int j = 0; j < K; j++) {
#pragma unroll
        for (int t = 0; t < X; t++) {
            sum[j][t] = bias;
        }
    }
    T row[N];
    src += begin * line;
    index += (begin - K + 1) * dst_line;
    load_row<T, N>(src, step, inside, row);
#pragma unroll 1
    for (int o = begin - K + 1; o < rows; o++, index += dst_line) {
        float x[N];
#pragma unroll
        for (int j = 0; j < N; j++) {
            x[j] = vt_to_float(row[j]);
        }
        src += line;
        load_row<T, N>(src, step, o + K < end ? inside : 0, row);
#pragma unroll
        for (int j = 0; j < K; j++) {
            if (o + j < 0 || o + j >= rows) {
                continue;
            }
            if (o + K - 1 >= end) { /* below the map */
#pragma unroll
                for (int t = 0; t < X; t++) {
                    sum[j][t] = j + 1 < K ? sum[j + 1][t] : bias;
                }
                continue;
            }
#pragma unroll
            for (int t = 0; t < X; t++) {
                float s = j + 1 < K ? sum[j + 1][t] : bias;
#pragma unroll
                for (int kx = 0; kx < K; kx++) {
                    s += weight[(K - 1 - j) * K + kx] * x[t + kx];
                }
                sum[j][t] = s;
            }
        }
        if (o >= 0) {
            store_strip<T, X>(a, channel, index, step, count, sum[0]);
        }
    }
}

template <typename T, int K, int X>
__global__ void __launch_bounds__(MARCH_THREADS) march_kernel(vt_cuda_depthwise a, marches g)
{
    vt_let_successor_begin();
    int64_t item = (int64_t)blockIdx.x * MARCH_THREADS + threadIdx.x;
    int channel, strip, c = (int)a.src_shape.c;
    int64_t image = vt_divide(vt_divide(item, c, &channel), g.strips, &strip);
    int step_y = a.conv.dilation_h, step_x = a.conv.dilation_w;
    int h = (int)a.src_shape.h, w = (int)a.src_shape.w;
    int oh = (int)a.dst_shape.h, ow = (int)a.dst_shape.w;
    int y0 = (int)blockIdx.y / g.segments + (int)blockIdx.y % g.segments * g.rows * step_y;
    int x0 = strip / g.per_residue + strip % g.per_residue * X * step_x;
    int rows = min(g.rows, (oh - y0 + step_y - 1) / step_y);
    float weight[K * K], bias = 0.0f;
    if (item < g.count) {
        bias = a.bias ? a.bias[channel] : 0.0f;
#pragma unroll
        for (int k = 0; k < K * K; k++) {
            weight[k] = a.weight[(int64_t)k * c + channel];
        }
    }
    vt_wait_for_predecessor();
    if (item >= g.count || rows <= 0 || x0 >= ow) {
        return;
    }
    int sx0 = x0 - a.conv.pad_left, sy0 = y0 - a.conv.pad_top;
    unsigned inside = 0;
#pragma unroll
    for (int j = 0; j < X + K - 1; j++) {
        inside |= (unsigned)(sx0 + j * step_x >= 0 && sx0 + j * step_x < w) << j;
    }
    int begin = sy0 < 0 ? (-sy0 + step_y - 1) / step_y : 0;
    int end = min(rows + K - 1, (h - sy0 + step_y - 1) / step_y);
    march<T, K, X>(a, (const T *)a.src + ((image * h + sy0) * w + sx0) * c + channel,
                   ((image * oh + y0) * ow + x0) * c + channel, inside,
                   (ow - x0 + step_x - 1) / step_x, begin, end, rows, channel, weight, bias);
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

/* Every result's middle tap lies inside the map, so that every row of results has an input row. */
static bool has_middles(int64_t size, int64_t out, int kernel, int dilation, int pad)
{
    int64_t first = (int64_t)kernel / 2 * dilation - pad;
    return first >= 0 && first + out - 1 < size;
}

static bool can_march(const vt_cuda_depthwise *a)
{
    const vt_conv2d *p = &a->conv;
    int k = p->kernel_h;
    return a->src_dtype == a->dst_dtype && (!a->residual || a->residual_dtype == a->dst_dtype) &&
           p->stride_h == 1 && p->stride_w == 1 && k == p->kernel_w &&
           (k == 3 || k == 5 || k == 7) &&
           has_middles(a->src_shape.h, a->dst_shape.h, k, p->dilation_h, p->pad_top) &&
           has_middles(a->src_shape.w, a->dst_shape.w, k, p->dilation_w, p->pad_left);
}

template <typename T, int K, int X>
static cudaError_t launch_march(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    marches g;
    int dh = a->conv.dilation_h, dw = a->conv.dilation_w, processors;
    cudaError_t e = vt_cuda_multiprocessors(&processors);
    if (e != cudaSuccess) {
        return e;
    }
    int64_t columns = (a->dst_shape.w + dw - 1) / dw, rows = (a->dst_shape.h + dh - 1) / dh;
    g.per_residue = (int)((columns + X - 1) / X);
    g.strips = g.per_residue * dw;
    g.count = a->dst_shape.n * g.strips * a->src_shape.c;
    /* shorter marches where there are few */
    int64_t blocks = (g.count + MARCH_THREADS - 1) / MARCH_THREADS * dh;
    int64_t segments = (BLOCKS_PER_PROCESSOR * processors + blocks - 1) / blocks;
    g.rows = (int)((rows + segments - 1) / segments);
    g.segments = (int)((rows + g.rows - 1) / g.rows);
    dim3 grid(vt_grid(g.count, MARCH_THREADS), (unsigned)(g.segments * dh));
    return vt_cuda_launch(march_kernel<T, K, X>, grid, MARCH_THREADS, 0, stream, *a, g);
}

/* Strips of 7 or 5 pixels: what wastes less of the map's width. */
template <typename T, int K>
static cudaError_t launch_strips(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    int64_t columns = (a->dst_shape.w + a->conv.dilation_w - 1) / a->conv.dilation_w;
    return (columns + 4) / 5 * 5 < (columns + 6) / 7 * 7 ? launch_march<T, K, 5>(a, stream)
                                                         : launch_march<T, K, 7>(a, stream);
}

template <typename T>
static cudaError_t launch_marches(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    switch (a->conv.kernel_h) {
    case 3: return launch_strips<T, 3>(a, stream);
    case 5: return launch_strips<T, 5>(a, stream);
    default: return launch_strips<T, 7>(a, stream);
    }
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_depthwise *a, cudaStream_t stream)
{
    bool quads = a->src_shape.c % V == 0 && vt_is_aligned(a->src, V * sizeof(S)) &&
                 vt_is_aligned(a->dst, V * sizeof(D)) && vt_is_aligned(a->residual, 16);
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
    static launcher *const marches_of[3] = {launch_marches<float>, launch_marches<__nv_bfloat16>,
                                            launch_marches<__half>};
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) ||
        (a->residual && !vt_is_float_type(a->residual_dtype)) || a->src_shape.c > INT32_MAX / 4 ||
        a->src_shape.h * a->src_shape.w > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    if (a->dst_shape.n < 1) {
        return cudaSuccess;
    }
    return can_march(a) ? marches_of[a->src_dtype](a, stream)
                        : table[a->src_dtype][a->dst_dtype](a, stream);
}
