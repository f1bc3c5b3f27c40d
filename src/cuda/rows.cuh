/* SPDX-License-Identifier: Apache-2.0 */
/* LayerNorm of a row that lies, as it was read, in the registers of a group of lanes:
 *   m = mean x, v = mean (x - m)^2, y = (x - m) / sqrt(v + eps)
 * Lane l of the group owns chunks l, l + lanes, l + 2 lanes ... of V elements: raw[k] is chunk
 * l + k * lanes. Neighbouring lanes so read neighbouring 16 bytes. */
#ifndef VT_CUDA_ROWS_CUH
#define VT_CUDA_ROWS_CUH

#include "cuda/convert.cuh"
#include "cuda/reduce.cuh"

enum { VT_ROW_THREADS = 128, VT_ROW_MOST_CHUNKS = 32 * 16 };

/* Blocks that share a multiprocessor: more registers for a thread as its share of the row grows,
 * and with the bytes of an element. */
constexpr int vt_row_blocks(int per_lane, int bytes)
{
    int words = per_lane * 2 * bytes;
    return words <= 12 ? 8 : words <= 32 ? 6 : words <= 64 ? 4 : 2;
}

/* How rows of `chunks` chunks are dealt out: lanes * per_lane >= chunks. */
typedef struct vt_row_split {
    int chunks, lanes, log2_lanes;
    int per_lane; /* one of the K that the kernels are built for: 2, 3, 4, 6, 8, 16 */
} vt_row_split;

static inline vt_row_split vt_row_split_make(int64_t chunks)
{
    vt_row_split s = {(int)chunks, 4, 2, 2};
    while (s.lanes < 32 && s.lanes * 4 < s.chunks) {
        s.lanes *= 2;
        s.log2_lanes++;
    }
    int need = (s.chunks + s.lanes - 1) / s.lanes;
    s.per_lane = need <= 2 ? 2 : need <= 4 ? need : need <= 6 ? 6 : need <= 8 ? 8 : 16;
    return s;
}

/* Makes the compiler convert a row of halves anew in each pass: keeping the floats from one pass to
 * the next would take twice the registers. */
template <typename S, int V, int K>
__device__ __forceinline__ void vt_row_keep_raw(vt_pack<S, V> (&raw)[K])
{
    if (sizeof(S) == 2) {
#pragma unroll
        for (int k = 0; k < K; k++) {
            uint32_t *words = reinterpret_cast<uint32_t *>(&raw[k]);
#pragma unroll
            for (int i = 0; i < V / 2; i++) {
                asm volatile("" : "+r"(words[i]));
            }
        }
    }
}

/* Mean and 1 / sqrt(variance + eps); chunks past the end of the row hold zeros. */
template <typename S, int V, int K>
__device__ __forceinline__ void vt_row_moments(vt_pack<S, V> (&raw)[K], const vt_row_split &split,
                                               int lane, float eps, float *mean, float *inverse)
{
    float cols = (float)(split.chunks * V), sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int k = 0; k < K; k++) {
        float x[V];
        vt_unpack(raw[k], x);
#pragma unroll
        for (int i = 0; i < V; i++) {
            sum += x[i];
        }
    }
    vt_row_keep_raw(raw);
    *mean = vt_group_sum(sum, split.lanes) / cols;
#pragma unroll
    for (int k = 0; k < K; k++) {
        float x[V];
        vt_unpack(raw[k], x);
        bool inside = lane + k * split.lanes < split.chunks;
#pragma unroll
        for (int i = 0; i < V; i++) {
            x[i] -= *mean;
            squares += inside ? x[i] * x[i] : 0.0f;
        }
    }
    vt_row_keep_raw(raw);
    *inverse = 1.0f / sqrtf(vt_group_sum(squares, split.lanes) / cols + eps);
}

/* x = (x - mean) * inverse * scale[col + i] + shift[col + i]; scale and shift may be NULL */
template <int V>
__device__ __forceinline__ void vt_row_affine(float (&x)[V], float mean, float inverse,
                                              const float *scale, const float *shift, int col)
{
    float a[V], b[V];
    if (scale) {
        vt_unpack(vt_load<float, V>(scale + col), a);
    }
    if (shift) {
        vt_unpack(vt_load<float, V>(shift + col), b);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] = (x[i] - mean) * inverse * (scale ? a[i] : 1.0f) + (shift ? b[i] : 0.0f);
    }
}

/* Mean and 1 / sqrt(variance + eps) of a row of any length that a whole warp reads twice; `at`
 * gives its elements. */
template <typename At>
__device__ __forceinline__ void vt_row_statistics(const At &at, int64_t cols, int lane, float eps,
                                                  float *mean, float *inverse)
{
    float sum = 0.0f, squares = 0.0f;
    for (int64_t c = lane; c < cols; c += 32) {
        sum += at(c);
    }
    *mean = vt_group_sum(sum, 32) / (float)cols;
    for (int64_t c = lane; c < cols; c += 32) {
        float x = at(c) - *mean;
        squares += x * x;
    }
    *inverse = 1.0f / sqrtf(vt_group_sum(squares, 32) / (float)cols + eps);
}

#endif
