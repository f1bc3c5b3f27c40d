/* SPDX-License-Identifier: Apache-2.0 */
/* f32 to and from the two half-precision formats, rounding to nearest even. */
#ifndef VT_CORE_HALF_H
#define VT_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t vt_bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float vt_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t vt_to_bf16(float x)
{
    uint32_t bits = vt_bits_of(x);
    if (x != x) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float vt_from_bf16(uint16_t h)
{
    return vt_from_bits((uint32_t)h << 16);
}

static inline uint16_t vt_to_f16(float x)
{
    uint32_t bits = vt_bits_of(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u);
    }
    if (size >= 0x47800000u) { /* 65536 and more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (size < 0x38800000u) { /* below 2^-14: adding 0.5 leaves the rounded steps of 2^-24 */
        return (uint16_t)(sign | (vt_bits_of(vt_from_bits(size) + 0.5f) - 0x3f000000u));
    }
    uint32_t rounded = size + 0xfffu + (size >> 13 & 1u) - (112u << 23);
    return (uint16_t)(sign | rounded >> 13);
}

static inline float vt_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, size = h & 0x7fffu;
    if (size >= 0x7c00u) {
        return vt_from_bits(sign | 0x7f800000u | (size & 0x3ffu) << 13);
    }
    if (size < 0x400u) { /* zero and subnormal: steps of 2^-24 */
        float x = (float)size * 5.9604644775390625e-8f;
        return vt_from_bits(sign | vt_bits_of(x));
    }
    return vt_from_bits(sign | (size + (112u << 10)) << 13);
}

#endif
