/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels of products over rows share: 64 rows of a warpgroup as a left operand in registers,
 * their norm, activations of an accumulator, and results on their way out.
 *
 * A block of rows lies in shared memory as boxes of B columns, see wgmma.cuh. Thread 32 w + 4 g + t
 * of the warpgroup owns, of rows 16 w + g and 16 w + g + 8, the columns 8 i + 2 t and 8 i + 2 t +
 * 1: in an operand of K columns as the pairs x[i / 2][i % 2 * 2 + h], in an accumulator as d[4 i +
 * 2 h] and the next, h = 0 for the first row and 1 for the second. */
#ifndef VT_CUDA_WGMMA_ROWS_CUH
#define VT_CUDA_WGMMA_ROWS_CUH

#include "cuda/reduce.cuh"
#include "cuda/wgmma.cuh"

enum { VT_GROUP_ROWS = 64 };

/* act(x) = x (1 + tanh(x (a + b x^2 + c x^4))) / 2, or x where it is not below `floor`, else 0. */
struct vt_gate {
    bool gates, has_fifth;
    float a, b, c, floor; /* of y = x / 2 */
};

/* GELU by tanh(x (a + b x^2 + c x^4)) in place of erf(x / sqrt 2), x^2 held at 16, is off by 3e-5
 * at most, apart from the hardware's tanh (5e-4 of its value). */
static inline vt_gate vt_gate_of(vt_activation act)
{
    float a = 0.5f, b = 0, c = 0; /* SiLU: x / (1 + exp(-x)) = x (1 + tanh(x / 2)) / 2 */
    if (act == VT_ACT_GELU) {
        a = 0.79750788f;
        b = 0.037005645f;
        c = -0.00035151667f;
    } else if (act == VT_ACT_GELU_TANH) {
        a = 0.79788456f;
        b = 0.79788456f * 0.044715f;
    }
    bool gates = act == VT_ACT_GELU || act == VT_ACT_GELU_TANH || act == VT_ACT_SILU;
    return {gates, act == VT_ACT_GELU, 2 * a, 8 * b, 32 * c, act == VT_ACT_RELU ? 0.0f : -INFINITY};
}

/* Activations that vt_gate can say. */
static inline bool vt_gate_takes(vt_activation act)
{
    return act == VT_ACT_NONE || act == VT_ACT_GELU || act == VT_ACT_GELU_TANH ||
           act == VT_ACT_SILU || act == VT_ACT_RELU;
}

#if VT_HAS_WGMMA

/* dst = src * factor by all threads of the block, `missing` without src and from `count` on. */
__device__ __forceinline__ void vt_copy_vector(float *dst, const float *src, int count, int room,
                                               float missing, float factor)
{
    for (int i = (int)threadIdx.x; i < room; i += (int)blockDim.x) {
        dst[i] = src && i < count ? src[i] * factor : missing;
    }
}

/* The rows 16 w ... 16 w + 15 of a block as left operands of K / 16 steps. */
template <int K, int B>
__device__ __forceinline__ void vt_read_rows(uint32_t block, uint32_t (&x)[K / 16][4])
{
    int warp = (int)threadIdx.x % 128 / 32, lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < K / 16; k++) {
        int box = 16 * k / B, chunk = 16 * k % B / 8;
        vt_load_blocks(block + (uint32_t)(box * VT_GROUP_ROWS * B * 2) +
                           vt_tile_offset<B>(16 * warp + lane % 16, chunk + lane / 16),
                       x[k]);
    }
}

/* Where the columns 8 i + 2 t of row `row` lie. */
template <int B> __device__ __forceinline__ uint32_t vt_pair_at(uint32_t block, int row, int i)
{
    return block + (uint32_t)(8 * i / B * (VT_GROUP_ROWS * B * 2)) +
           vt_tile_offset<B>(row, i % (B / 8)) + 4 * (threadIdx.x % 4);
}

/* The row of the warpgroup that h = 0 means. */
__device__ __forceinline__ int vt_own_row(void)
{
    return (int)threadIdx.x % 128 / 32 * 16 + (int)threadIdx.x % 32 / 4;
}

/* LayerNorm of rows of `depth` columns (a multiple of 16, at most K) whose other columns are 0 and
 * have scale and shift 0. */
template <typename T, int K>
__device__ __forceinline__ void vt_norm_rows(uint32_t (&x)[K / 16][4], const float *scale,
                                             const float *shift, int depth, float eps)
{
    float mean[2] = {0, 0}, inverse[2] = {0, 0}, share = 1.0f / (float)depth;
    int t = (int)threadIdx.x % 4;
#pragma unroll
    for (int e = 0; e < K / 4; e++) {
        float2 y = vt_unpack2<T>(x[e / 4][e % 4]);
        mean[e % 2] += y.x + y.y;
    }
    mean[0] = vt_group_sum(mean[0], 4) * share;
    mean[1] = vt_group_sum(mean[1], 4) * share;
    vt_pin(x); /* halves wait for the next pass: floats would take twice the registers */
#pragma unroll
    for (int e = 0; e < K / 4; e++) {
        if (e / 4 * 16 < depth) {
            float2 y = vt_unpack2<T>(x[e / 4][e % 4]);
            float a = y.x - mean[e % 2], b = y.y - mean[e % 2];
            inverse[e % 2] += a * a + b * b;
        }
    }
    inverse[0] = rsqrtf(vt_group_sum(inverse[0], 4) * share + eps);
    inverse[1] = rsqrtf(vt_group_sum(inverse[1], 4) * share + eps);
    vt_pin(x);
#pragma unroll
    for (int i = 0; i < K / 8; i++) {
        float2 a = *(const float2 *)(scale + 8 * i + 2 * t);
        float2 b = *(const float2 *)(shift + 8 * i + 2 * t);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t &pair = x[i / 2][i % 2 * 2 + h];
            float2 y = vt_unpack2<T>(pair);
            pair = vt_pack2<T>((y.x - mean[h]) * inverse[h] * a.x + b.x,
                               (y.y - mean[h]) * inverse[h] * a.y + b.y);
        }
    }
}

__device__ __forceinline__ float vt_tanh_fast(float x)
{
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <bool FIFTH, int N>
__device__ __forceinline__ void vt_gate_all(float (&s)[N], const float *half_bias,
                                            const vt_gate &act)
{
#pragma unroll
    for (int e = 0; e < N; e++) {
        float y = fmaf(s[e], 0.5f, half_bias[e / 4 * 8 + e % 2]), square = y * y;
        if (FIFTH) {
            square = fminf(square, 4.0f);
        }
        float factor =
            FIFTH ? fmaf(fmaf(act.c, square, act.b), square, act.a) : fmaf(act.b, square, act.a);
        s[e] = fmaf(y, vt_tanh_fast(y * factor), y);
    }
}

/* s = act(s + bias); half_bias is that of the thread's first column. All is said in y = x / 2, so
 * that the bias takes no instruction of its own. */
template <int N>
__device__ __forceinline__ void vt_activate(float (&s)[N], const float *half_bias,
                                            const vt_gate &act)
{
    if (act.gates && !act.has_fifth) {
        vt_gate_all<false>(s, half_bias, act);
    } else if (act.gates) {
        vt_gate_all<true>(s, half_bias, act);
    } else {
#pragma unroll
        for (int e = 0; e < N; e++) {
            float y = fmaf(s[e], 0.5f, half_bias[e / 4 * 8 + e % 2]);
            s[e] = y < act.floor ? 0.0f : y + y;
        }
    }
}

/* LayerNorm of an accumulator of 2 N columns; scale and shift begin at the thread's first. */
template <int N>
__device__ __forceinline__ void vt_norm_result(float (&o)[N], const float *scale,
                                               const float *shift, float eps)
{
    constexpr float share = 1.0f / (2 * N);
    float mean[2] = {0, 0}, inverse[2] = {0, 0};
#pragma unroll
    for (int e = 0; e < N; e++) {
        mean[e / 2 % 2] += o[e];
    }
    mean[0] = vt_group_sum(mean[0], 4) * share;
    mean[1] = vt_group_sum(mean[1], 4) * share;
#pragma unroll
    for (int e = 0; e < N; e++) {
        o[e] -= mean[e / 2 % 2];
        inverse[e / 2 % 2] += o[e] * o[e];
    }
    inverse[0] = rsqrtf(vt_group_sum(inverse[0], 4) * share + eps);
    inverse[1] = rsqrtf(vt_group_sum(inverse[1], 4) * share + eps);
#pragma unroll
    for (int e = 0; e < N; e++) {
        int c = e / 4 * 8 + e % 2;
        o[e] = o[e] * inverse[e / 2 % 2] * scale[c] + shift[c];
    }
}

/* block = residual + o, or residual * o if `gated`, where the residual (if there is one) is what
 * the block held. */
template <typename T, int B, int N>
__device__ __forceinline__ void vt_write_result(uint32_t block, const float (&o)[N],
                                                bool has_residual, bool gated = false)
{
    int place = vt_own_row();
#pragma unroll
    for (int e = 0; e < N / 2; e++) {
        uint32_t at = vt_pair_at<B>(block, place + e % 2 * 8, e / 2), raw = 0;
        if (has_residual) {
            asm volatile("ld.shared.u32 %0, [%1];" : "=r"(raw) : "r"(at) : "memory");
        }
        float2 r = vt_unpack2<T>(raw);
        float x = gated ? o[2 * e] * r.x : o[2 * e] + r.x;
        float y = gated ? o[2 * e + 1] * r.y : o[2 * e + 1] + r.y;
        vt_store_shared(at, vt_pack2<T>(x, y));
    }
    vt_fence_shared_stores();
}

#endif
#endif
