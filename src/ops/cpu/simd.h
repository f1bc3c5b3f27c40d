/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of the instruction set that a kernel file is compiled for, as GCC/Clang vector types: one
 * C source serves x86, NEON and anything else. Intrinsics stand only where C has no form. */
#ifndef VT_OPS_CPU_SIMD_H
#define VT_OPS_CPU_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "core/half.h"

#if defined(__AVX512F__)
#define VF_BYTES 64
#elif defined(__AVX2__)
#define VF_BYTES 32
#else
#define VF_BYTES 16
#endif
#define VF_LANES (VF_BYTES / 4)

typedef float vf __attribute__((vector_size(VF_BYTES)));
typedef int32_t vi __attribute__((vector_size(VF_BYTES)));
typedef uint32_t vu __attribute__((vector_size(VF_BYTES)));
typedef uint16_t vh __attribute__((vector_size(VF_BYTES / 2))); /* bf16 */

#define VT_INLINE static inline __attribute__((always_inline, unused))

VT_INLINE vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

VT_INLINE void vf_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

VT_INLINE vf vf_all(float x)
{
#if defined(__AVX512F__)
    return (vf)_mm512_set1_ps(x);
#elif defined(__AVX2__)
    return (vf)_mm256_set1_ps(x);
#else
    return (vf){x, x, x, x};
#endif
}

VT_INLINE vi vi_all(int32_t x)
{
    return x - (vi){0};
}

/* mask lanes are all ones or all zeros, as comparisons give them */
VT_INLINE vf vf_select(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

/* The second operand where either is NaN. */
VT_INLINE vf vf_max(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}

VT_INLINE vf vf_min(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return vf_select(a < b, a, b);
#endif
}

VT_INLINE vf vf_abs(vf a)
{
    return (vf)((vi)a & vi_all(0x7fffffff));
}

/* Lanes are folded in halves: a fixed order. */
VT_INLINE float vf_sum(vf v)
{
#if defined(__AVX2__)
#if defined(__AVX512F__)
    __m256 a =
        _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#else
    __m256 a = (__m256)v;
#endif
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

VT_INLINE float vf_largest(vf v)
{
#if defined(__AVX2__)
#if defined(__AVX512F__)
    __m256 a =
        _mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#else
    __m256 a = (__m256)v;
#endif
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
#else
    float x = v[0] > v[1] ? v[0] : v[1], y = v[2] > v[3] ? v[2] : v[3];
    return x > y ? x : y;
#endif
}

/* a0 b0 a1 b1 ... from the lower halves, or from the upper halves */
#if VF_LANES == 16
#define VF_INTERLEAVE(a, b, i)                                                                     \
    __builtin_shufflevector(a, b, i, i + 16, i + 1, i + 17, i + 2, i + 18, i + 3, i + 19, i + 4,   \
                            i + 20, i + 5, i + 21, i + 6, i + 22, i + 7, i + 23)
#elif VF_LANES == 8
#define VF_INTERLEAVE(a, b, i)                                                                     \
    __builtin_shufflevector(a, b, i, i + 8, i + 1, i + 9, i + 2, i + 10, i + 3, i + 11)
#else
#define VF_INTERLEAVE(a, b, i) __builtin_shufflevector(a, b, i, i + 4, i + 1, i + 5)
#endif

VT_INLINE vf vf_interleave_low(vf a, vf b)
{
    return VF_INTERLEAVE(a, b, 0);
}

VT_INLINE vf vf_interleave_high(vf a, vf b)
{
    return VF_INTERLEAVE(a, b, VF_LANES / 2);
}

/* ---- bf16: the upper half of an f32 ---------------------------------------------------------- */

VT_INLINE vf vf_load_bf16(const uint16_t *p)
{
    vh h;
    memcpy(&h, p, sizeof h);
#if defined(__AVX512F__) /* where GCC 12 widens by halves */
    return (vf)((vu)_mm512_cvtepu16_epi32((__m256i)h) << 16);
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

/* Rounds to nearest even; a NaN stays one. */
VT_INLINE void vf_store_bf16(uint16_t *p, vf v)
{
#if defined(__AVX512BF16__)
    __m256bh h = _mm512_cvtneps_pbh((__m512)v);
    memcpy(p, &h, sizeof h);
#else
    vu bits = (vu)v;
    vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    vu quiet = (bits >> 16) | 0x40u;
    vu nan = (vu)(v != v);
    vh h = __builtin_convertvector((quiet & nan) | (rounded & ~nan), vh);
    memcpy(p, &h, sizeof h);
#endif
}

/* The first `count` <= VF_LANES elements of an f32 or bf16 row; the other lanes are 0. */
VT_INLINE vf vf_load_some(const void *src, bool bf16, int64_t at, int64_t count)
{
    if (count == VF_LANES) {
        return bf16 ? vf_load_bf16((const uint16_t *)src + at) : vf_load((const float *)src + at);
    }
    float lanes[VF_LANES] = {0};
    for (int64_t i = 0; i < count; i++) {
        lanes[i] =
            bf16 ? vt_from_bf16(((const uint16_t *)src)[at + i]) : ((const float *)src)[at + i];
    }
    return vf_load(lanes);
}

VT_INLINE void vf_store_some(void *dst, bool bf16, int64_t at, int64_t count, vf x)
{
    if (count == VF_LANES) {
        if (bf16) {
            vf_store_bf16((uint16_t *)dst + at, x);
        } else {
            vf_store((float *)dst + at, x);
        }
    } else if (bf16) {
        uint16_t lanes[VF_LANES];
        vf_store_bf16(lanes, x);
        memcpy((uint16_t *)dst + at, lanes, (size_t)count * sizeof lanes[0]);
    } else {
        float lanes[VF_LANES];
        vf_store(lanes, x);
        memcpy((float *)dst + at, lanes, (size_t)count * sizeof lanes[0]);
    }
}

#if defined(__AVX512BF16__)
/* acc + a0 * b0 + a1 * b1 per lane; each lane of a and b holds two bf16 */
VT_INLINE vf vf_dot_bf16(vf acc, vi a, vi b)
{
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
}
#endif

#endif
