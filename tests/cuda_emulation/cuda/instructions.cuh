/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the place of src/cuda/instructions.cuh. */
#ifndef VT_EMULATION_INSTRUCTIONS_CUH
#define VT_EMULATION_INSTRUCTIONS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "emulator.h"

static inline uint32_t vt_shared_address(const void *p)
{
    return vt_emulated_address(p);
}

static inline void vt_copy_async(uint32_t dst, const void *src)
{
    vt_emulated_copy(dst, src);
}
static inline void vt_copy_async_or_zero(uint32_t dst, const void *src, bool copies)
{
    alignas(16) static const unsigned char zeros[16] = {};
    vt_emulated_copy(dst, copies ? src : zeros);
}
static inline void vt_copy_async_commit(void)
{
    vt_emulated_copy_commit();
}
template <int PENDING = 0> static inline void vt_copy_async_wait(void)
{
    vt_emulated_copy_wait(PENDING);
}

template <typename T> static inline void vt_store_shared(uint32_t dst, T x)
{
    memcpy(vt_emulated_at(dst, sizeof x), &x, sizeof x);
}
static inline uint4 vt_load_shared(uint32_t src)
{
    return *static_cast<const uint4 *>(vt_emulated_at(src, sizeof(uint4)));
}

/* Blocks as fragments: block b is 8 rows of 8 halves at the addresses of lanes 8 b ... */
template <bool TRANSPOSED>
static void vt_emulated_blocks(const uint32_t (*in)[VT_EMULATED_IN],
                               uint32_t (*out)[VT_EMULATED_OUT])
{
    for (int b = 0; b < 4; b++) {
        uint16_t block[8][8];
        for (int row = 0; row < 8; row++) {
            memcpy(block[row], vt_emulated_at(in[8 * b + row][0], 16), 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4 * 2;
            uint32_t low = TRANSPOSED ? block[t][g] : block[g][t];
            uint32_t high = TRANSPOSED ? block[t + 1][g] : block[g][t + 1];
            out[lane][b] = low | high << 16;
        }
    }
}
static inline void vt_load_blocks(uint32_t src, uint32_t (&r)[4])
{
    memcpy(r, vt_emulated_together(vt_emulated_blocks<false>, &src, 1), sizeof r);
}
static inline void vt_load_blocks_transposed(uint32_t src, uint32_t (&r)[4])
{
    memcpy(r, vt_emulated_together(vt_emulated_blocks<true>, &src, 1), sizeof r);
}

template <typename T> static inline uint32_t vt_pack2(float low, float high);
template <> inline uint32_t vt_pack2<__half>(float low, float high)
{
    return vt_to_f16(low) | (uint32_t)vt_to_f16(high) << 16;
}
template <> inline uint32_t vt_pack2<__nv_bfloat16>(float low, float high)
{
    return vt_to_bf16(low) | (uint32_t)vt_to_bf16(high) << 16;
}

template <typename T> static inline float vt_emulated_half(uint32_t bits);
template <> inline float vt_emulated_half<__half>(uint32_t bits)
{
    return vt_from_f16((uint16_t)bits);
}
template <> inline float vt_emulated_half<__nv_bfloat16>(uint32_t bits)
{
    return vt_from_bf16((uint16_t)bits);
}

/* m16n8k16; in: four words of a, two of b, four of c */
template <typename T>
static void vt_emulated_mma(const uint32_t (*in)[VT_EMULATED_IN], uint32_t (*out)[VT_EMULATED_OUT])
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4 * 2;
        for (int e = 0; e < 2; e++) {
            for (int i = 0; i < 4; i++) {
                a[g + i % 2 * 8][t + i / 2 * 8 + e] = vt_emulated_half<T>(in[lane][i] >> 16 * e);
            }
            b[t + e][g] = vt_emulated_half<T>(in[lane][4] >> 16 * e);
            b[t + 8 + e][g] = vt_emulated_half<T>(in[lane][5] >> 16 * e);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        float d[4];
        memcpy(d, in[lane] + 6, sizeof d);
        for (int i = 0; i < 4; i++) {
            for (int k = 0; k < 16; k++) {
                d[i] += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
            }
        }
        memcpy(out[lane], d, sizeof d);
    }
}
template <typename T>
static inline void vt_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                          const float (&c)[4])
{
    uint32_t in[10] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(in + 6, c, sizeof c);
    memcpy(d, vt_emulated_together(vt_emulated_mma<T>, in, 10), sizeof d);
}

static inline float vt_exp2(float x)
{
    return exp2f(x);
}

#endif
