/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax attention in f32 for every pattern, shape and type; see vt_attention for the formula.
 *
 * attention_kernel, windows and grids: a block owns one head of one window and a tile of its
 * queries, and streams the window's keys past them in tiles of the same length t, with the running
 * maximum m and sum l of each query: m' = max(m, max_j s_j), p_j = exp(s_j - m'), l = l exp(m - m')
 * + sum_j p_j, o = o exp(m - m') + sum_j p_j v_j, at the end o / l. Rows come straight from the
 * map: one warp reads a row, and a cosine score divides it by its length there. t is 32, or less
 * for wide heads. Shared, in floats, with rows of q and k padded by one against bank conflicts: t
 * (2 (qk_width + 1) + 2 v_width + t + 7), at most 48 KiB.
 *
 * pattern_kernel, the other patterns: a warp owns one head of one query and takes 32 keys at a
 * time, a lane each for the scores, then all lanes a channel each for the sums. Shared, in floats,
 * for each warp: 64 + qk_width + v_width. */
#include <math.h>

#include "cuda/convert.cuh"
#include "cuda/pattern.cuh"
#include "cuda/reduce.cuh"
#include "ops/pattern.h"

enum { THREADS = 256, WARPS = THREADS / 32, MOST_TILE = 32, SHARE = 4, MOST_SHARED = 48 * 1024 };

/* The place of a block, and the slices of its shared memory. */
typedef struct place {
    int64_t image; /* first pixel of the image */
    int head, first_query, zy, zx;
} place;

typedef struct slices {
    float *q, *k, *v, *o;                  /* [t][qk + 1], [t][qk + 1], [t][v], [t][v] */
    float *score, *largest, *sum, *shrink; /* [t][t], [t], [t], [t] */
    int *key_region, *key_offset;          /* [t], [t]; offset: in the bias table */
    int *query_region, *query_offset;
} slices;

static size_t shared_bytes(int t, int qk_width, int v_width)
{
    return sizeof(float) * (size_t)t *
           (2 * ((size_t)qk_width + 1) + 2 * (size_t)v_width + (size_t)t + 7);
}

__device__ slices slices_of(float *shared, const vt_cuda_attention &a, int t)
{
    slices s;
    s.q = shared;
    s.k = s.q + t * (a.qk_width + 1);
    s.v = s.k + t * (a.qk_width + 1);
    s.o = s.v + t * a.v_width;
    s.score = s.o + t * a.v_width;
    s.largest = s.score + t * t;
    s.sum = s.largest + t;
    s.shrink = s.sum + t;
    s.key_region = (int *)(s.shrink + t);
    s.key_offset = s.key_region + t;
    s.query_region = s.key_offset + t;
    s.query_offset = s.query_region + t;
    return s;
}

/* One warp: dst[c] = the channels of `pixel`, or of `pad` (NULL: zeros) where pixel < 0; divided by
 * their length if `unit`. */
template <typename T>
__device__ void load_row(const void *map, int64_t stride, int64_t image, int pixel, int channel,
                         const float *pad, int width, bool unit, float *dst)
{
    int lane = (int)threadIdx.x % 32;
    const T *src = (const T *)map + (image + pixel) * stride + channel;
    float squares = 0.0f;
    for (int c = lane; c < width; c += 32) {
        float x = pixel >= 0 ? vt_to_float(src[c]) : pad ? pad[channel + c] : 0.0f;
        squares += x * x;
        dst[c] = x;
    }
    if (unit) {
        float length = fmaxf(sqrtf(vt_group_sum(squares, 32)), 1e-12f);
        for (int c = lane; c < width; c += 32) {
            dst[c] /= length;
        }
    }
}

/* One token of the block's window. */
typedef struct token {
    int pixel, region, offset; /* pixel -1: padding, or beyond the window */
} token;

__device__ token token_of(const vt_window_map &m, const place &p, int index)
{
    if (index >= m.tokens) {
        return {-1, 0, 0};
    }
    int y = index / m.cols.window, x = index % m.cols.window;
    return {vt_window_pixel(m, p.zy + y, p.zx + x), vt_window_region(m, p.zy + y, p.zx + x),
            y * (2 * m.cols.window - 1) + x};
}

/* Queries of the block; rows of zeros where there is none. */
template <typename T>
__device__ void load_queries(const vt_cuda_attention &a, const vt_window_map &m, const place &p,
                             const slices &s, int t)
{
    for (int i = (int)threadIdx.x / 32; i < t; i += WARPS) {
        token query = token_of(m, p, p.first_query + i);
        load_row<T>(a.q, a.q_pixel, p.image, query.pixel, p.head * a.qk_width, NULL, a.qk_width,
                    a.temperature != NULL, s.q + i * (a.qk_width + 1));
        if (threadIdx.x % 32 == 0) {
            s.query_region[i] = query.region;
            s.query_offset[i] = query.offset;
        }
    }
}

/* Keys [first, first + t) of the window and their values; beyond the window rows of zeros. */
template <typename T>
__device__ void load_keys(const vt_cuda_attention &a, const vt_window_map &m, const place &p,
                          const slices &s, int first, int t)
{
    for (int j = (int)threadIdx.x / 32; j < t; j += WARPS) {
        bool inside = first + j < m.tokens;
        token key = token_of(m, p, first + j);
        load_row<T>(a.k, a.k_pixel, p.image, key.pixel, p.head * a.qk_width,
                    inside ? a.pad_k : NULL, a.qk_width, a.temperature != NULL,
                    s.k + j * (a.qk_width + 1));
        load_row<T>(a.v, a.v_pixel, p.image, key.pixel, p.head * a.v_width, inside ? a.pad_v : NULL,
                    a.v_width, false, s.v + j * a.v_width);
        if (threadIdx.x % 32 == 0) {
            s.key_region[j] = key.region;
            s.key_offset[j] = key.offset;
        }
    }
}

/* score[i][j] of the query tile and the key tile at `first`; -inf beyond the window. A thread takes
 * one key and up to SHARE queries, so that each element of k is read once for all of them. */
__device__ void scores(const vt_cuda_attention &a, const vt_window_map &m, const place &p,
                       const slices &s, int first, int t, float scale)
{
    int j = (int)threadIdx.x % t, first_i = (int)threadIdx.x / t, step = THREADS / t;
    int stride = a.qk_width + 1;
    const float *bias = NULL;
    if (a.bias) {
        int table_w = 2 * m.cols.window - 1, table = table_w * (2 * m.rows.window - 1);
        bias = a.bias + (int64_t)p.head * table + (m.rows.window - 1) * table_w + m.cols.window - 1;
    }
    float dot[SHARE] = {};
    for (int c = 0; c < a.qk_width; c++) {
        float k = s.k[j * stride + c];
#pragma unroll
        for (int u = 0; u < SHARE; u++) {
            int i = min(first_i + u * step, t - 1);
            dot[u] += s.q[i * stride + c] * k;
        }
    }
#pragma unroll
    for (int u = 0; u < SHARE; u++) {
        int i = first_i + u * step;
        if (i < t) {
            float value = -INFINITY;
            if (p.first_query + i < m.tokens && first + j < m.tokens) {
                value = scale * dot[u] + (bias ? bias[s.key_offset[j] - s.query_offset[i]] : 0.0f);
                value += s.query_region[i] == s.key_region[j] ? 0.0f : VT_CUDA_MASK_VALUE;
            }
            s.score[i * t + j] = value;
        }
    }
}

/* o = o exp(m - m') + p v: a thread takes one channel of SHARE queries at a time. */
__device__ void add_values(const vt_cuda_attention &a, const slices &s, int queries, int t)
{
    int items = (t + SHARE - 1) / SHARE * a.v_width;
    for (int item = (int)threadIdx.x; item < items; item += THREADS) {
        int c = item % a.v_width, first_i = item / a.v_width * SHARE;
        float sum[SHARE] = {};
        for (int j = 0; j < t; j++) {
            float v = s.v[j * a.v_width + c];
#pragma unroll
            for (int u = 0; u < SHARE; u++) {
                sum[u] += s.score[min(first_i + u, t - 1) * t + j] * v;
            }
        }
#pragma unroll
        for (int u = 0; u < SHARE; u++) {
            int i = first_i + u;
            if (i < queries) {
                float *o = s.o + i * a.v_width + c;
                *o = *o * s.shrink[i] + sum[u];
            }
        }
    }
}

/* One warp per query: scores become p, and m, l and exp(m - m') move on. */
__device__ void soften(const vt_window_map &m, const place &p, const slices &s, int t)
{
    int lane = (int)threadIdx.x % 32;
    for (int i = (int)threadIdx.x / 32; i < t && p.first_query + i < m.tokens; i += WARPS) {
        float value = lane < t ? s.score[i * t + lane] : -INFINITY;
        float before = s.largest[i], largest = fmaxf(before, vt_group_max(value, 32));
        float weight = expf(value - largest), total = vt_group_sum(weight, 32);
        if (lane < t) {
            s.score[i * t + lane] = weight;
        }
        __syncwarp();
        if (lane == 0) {
            float shrink = expf(before - largest);
            s.largest[i] = largest;
            s.shrink[i] = shrink;
            s.sum[i] = s.sum[i] * shrink + total;
        }
    }
}

template <typename T, typename D>
__global__ void __launch_bounds__(THREADS, 3)
    attention_kernel(vt_cuda_attention a, vt_window_map m, int tiles, int t)
{
    extern __shared__ float shared[];
    slices s = slices_of(shared, a, t);
    int tile, wx, wy;
    place p;
    int64_t rest = vt_divide(vt_divide(blockIdx.x, tiles, &tile), a.heads, &p.head);
    rest = vt_divide(vt_divide(rest, m.cols.windows, &wx), m.rows.windows, &wy);
    p.image = rest * a.h * a.w;
    p.first_query = tile * t;
    p.zy = wy * m.rows.window;
    p.zx = wx * m.cols.window;
    float scale = a.scale;
    if (a.temperature) {
        scale = expf(fminf(a.temperature[p.head], 4.6051702f)); /* ln 100 */
    }
    load_queries<T>(a, m, p, s, t);
    for (int i = (int)threadIdx.x; i < t * a.v_width; i += THREADS) {
        s.o[i] = 0.0f;
    }
    for (int i = (int)threadIdx.x; i < t; i += THREADS) {
        s.largest[i] = -INFINITY;
        s.sum[i] = 0.0f;
    }
    for (int first = 0; first < m.tokens; first += t) {
        __syncthreads();
        load_keys<T>(a, m, p, s, first, t);
        __syncthreads();
        scores(a, m, p, s, first, t, scale);
        __syncthreads();
        soften(m, p, s, t);
        __syncthreads();
        add_values(a, s, min(t, m.tokens - p.first_query), t);
    }
    __syncthreads();
    for (int index = (int)threadIdx.x; index < t * a.v_width; index += THREADS) {
        int i = index / a.v_width, c = index % a.v_width;
        int pixel = token_of(m, p, p.first_query + i).pixel;
        if (pixel >= 0) {
            ((D *)a.dst)[(p.image + pixel) * a.dst_pixel + p.head * a.v_width + c] =
                vt_from_float<D>(s.o[index] / s.sum[i]);
        }
    }
}

template <typename T, typename D>
static cudaError_t launch(const vt_cuda_attention *a, cudaStream_t stream)
{
    vt_window_map map = vt_window_map_make(a);
    int t = MOST_TILE;
    while (t > 1 && shared_bytes(t, a->qk_width, a->v_width) > MOST_SHARED) {
        t /= 2;
    }
    size_t shared = shared_bytes(t, a->qk_width, a->v_width);
    if (shared > MOST_SHARED) {
        return cudaErrorInvalidValue;
    }
    int tiles = (map.tokens + t - 1) / t;
    unsigned grid = vt_grid(vt_window_count(a, &map) * a->heads * tiles, 1);
    attention_kernel<T, D><<<grid, THREADS, shared, stream>>>(*a, map, tiles, t);
    return cudaGetLastError();
}

/* ---- the other patterns ---------------------------------------------------------------------- */

/* The score of one key; -inf past the last. *pixel: where its v row is in the image, or -1. */
template <typename T>
__device__ float key_score(const vt_cuda_attention &a, const vt_axis &rows, const vt_axis &cols,
                           int64_t image, int y, int x, int head, int j, const float *q,
                           float q_length, int *pixel)
{
    if (j >= rows.span * cols.span) {
        return -INFINITY;
    }
    vt_axis_key ky = vt_axis_key_of(&rows, y, j / cols.span);
    vt_axis_key kx = vt_axis_key_of(&cols, x, j % cols.span);
    bool inside = ky.source >= 0 && kx.source >= 0;
    *pixel = inside ? (int)(ky.source * a.key_w + kx.source) : -1;
    int64_t channel = (int64_t)head * a.qk_width;
    const T *row = (const T *)a.k + (image * a.key_h * a.key_w + *pixel) * a.k_pixel + channel;
    float dot = 0.0f, squares = 0.0f, sum = 0.0f;
    for (int c = 0; c < a.qk_width; c++) {
        float k = inside ? vt_to_float(row[c]) : a.pad_k ? a.pad_k[channel + c] : 0.0f;
        dot += q[c] * k;
        squares += k * k;
        if (a.position_rows) {
            sum += q[c] * (a.position_rows[(int64_t)ky.offset * a.qk_width + c] +
                           a.position_cols[(int64_t)kx.offset * a.qk_width + c]);
        }
    }
    if (a.temperature) {
        sum += expf(fminf(a.temperature[head], 4.6051702f)) * dot /
               (q_length * fmaxf(sqrtf(squares), 1e-12f)); /* ln 100 */
    } else {
        sum += a.scale * dot;
    }
    if (a.bias) {
        int table_w = 2 * cols.span - 1, table = table_w * (2 * rows.span - 1);
        sum += a.bias[(int64_t)head * table + ky.offset * table_w + kx.offset];
    }
    return sum + (ky.masked || kx.masked ? VT_MASK_VALUE : 0.0f);
}

/* Floats of shared memory of a warp: the weights and pixels of 32 keys, the query, its sums. */
static __host__ __device__ int pattern_floats(const vt_cuda_attention &a)
{
    return 64 + a.qk_width + a.v_width;
}

template <typename T, typename D>
__global__ void __launch_bounds__(THREADS)
    pattern_kernel(vt_cuda_attention a, vt_axis rows, vt_axis cols, int64_t work)
{
    extern __shared__ float shared[];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, head, y, x;
    int64_t item = (int64_t)blockIdx.x * WARPS + warp;
    if (item >= work) {
        return; /* the whole warp */
    }
    float *weights = shared + warp * pattern_floats(a), *q = weights + 64, *o = q + a.qk_width;
    int *pixels = (int *)weights + 32;
    int64_t query = vt_divide(item, a.heads, &head);
    int64_t image = vt_divide(vt_divide(query, a.w, &x), a.h, &y);
    float squares = 0.0f, largest = -INFINITY, sum = 0.0f;
    for (int c = lane; c < a.qk_width; c += 32) {
        q[c] = vt_to_float(((const T *)a.q)[query * a.q_pixel + (int64_t)head * a.qk_width + c]);
        squares += q[c] * q[c];
    }
    float q_length = fmaxf(sqrtf(vt_group_sum(squares, 32)), 1e-12f);
    for (int c = lane; c < a.v_width; c += 32) {
        o[c] = 0.0f;
    }
    __syncwarp();
    for (int first = 0; first < rows.span * cols.span; first += 32) {
        int pixel = -1;
        float s = key_score<T>(a, rows, cols, image, y, x, head, first + lane, q, q_length, &pixel);
        float before = largest;
        largest = fmaxf(largest, vt_group_max(s, 32));
        float weight = expf(s - largest), shrink = expf(before - largest);
        sum = sum * shrink + vt_group_sum(weight, 32);
        weights[lane] = weight;
        pixels[lane] = pixel;
        __syncwarp();
        int keys = min(32, rows.span * cols.span - first);
        for (int c = lane; c < a.v_width; c += 32) {
            int64_t channel = (int64_t)head * a.v_width + c;
            const T *v = (const T *)a.v + image * a.key_h * a.key_w * a.v_pixel + channel;
            float value = o[c] * shrink, pad = a.pad_v ? a.pad_v[channel] : 0.0f;
            for (int j = 0; j < keys; j++) {
                int at = pixels[j];
                value += weights[j] * (at >= 0 ? vt_to_float(v[at * a.v_pixel]) : pad);
            }
            o[c] = value;
        }
        __syncwarp();
    }
    for (int c = lane; c < a.v_width; c += 32) {
        ((D *)a.dst)[query * a.dst_pixel + (int64_t)head * a.v_width + c] =
            vt_from_float<D>(o[c] / sum);
    }
}

template <typename T, typename D>
static cudaError_t launch_pattern(const vt_cuda_attention *a, cudaStream_t stream)
{
    vt_axis rows = vt_axis_rows(&a->pattern, a->h, a->key_h);
    vt_axis cols = vt_axis_cols(&a->pattern, a->w, a->key_w);
    int64_t work = a->n * a->h * a->w * a->heads;
    size_t shared = sizeof(float) * WARPS * (size_t)pattern_floats(*a);
    if (shared > MOST_SHARED || (int64_t)a->key_h * a->key_w > INT32_MAX) {
        return cudaErrorInvalidValue;
    }
    pattern_kernel<T, D><<<vt_grid(work, WARPS), THREADS, shared, stream>>>(*a, rows, cols, work);
    return cudaGetLastError();
}

typedef cudaError_t launcher(const vt_cuda_attention *, cudaStream_t);

cudaError_t vt_cuda_attention_plain(const vt_cuda_attention *a, cudaStream_t stream)
{
    static launcher *const windows[3][3] = VT_TYPE_TABLE(launch);
    static launcher *const others[3][3] = VT_TYPE_TABLE(launch_pattern);
    if (!vt_is_float_type(a->dtype) || !vt_is_float_type(a->dst_dtype)) {
        return cudaErrorInvalidValue;
    }
    if (a->n < 1) {
        return cudaSuccess;
    }
    launcher *const(*table)[3] = vt_window_refuse(a) ? others : windows;
    return table[a->dtype][a->dst_dtype](a, stream);
}
