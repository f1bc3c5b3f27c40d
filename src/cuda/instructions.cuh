/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that CUDA C++ has no name for (sm_80 and later): copies to shared memory that do not
 * wait, 8 x 8 blocks as fragments, tensor-core products. Shared memory is addressed by 32 bits.
 * tests/cuda_emulation has the same functions for the host. */
#ifndef VT_CUDA_INSTRUCTIONS_CUH
#define VT_CUDA_INSTRUCTIONS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

__device__ __forceinline__ uint32_t vt_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void vt_copy_async(uint32_t dst, const void *src)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst), "l"(src) : "memory");
}
/* Zeros where there is nothing to copy; src is an address in global memory then, too. */
__device__ __forceinline__ void vt_copy_async_or_zero(uint32_t dst, const void *src, bool copies)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src),
                 "r"(copies ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void vt_copy_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until all but the last PENDING groups of this thread's copies have landed; a barrier makes them
 * visible to the others. */
template <int PENDING = 0> __device__ __forceinline__ void vt_copy_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void vt_store_shared(uint32_t dst, uint4 x)
{
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(dst), "r"(x.x), "r"(x.y),
                 "r"(x.z), "r"(x.w)
                 : "memory");
}
__device__ __forceinline__ void vt_store_shared(uint32_t dst, uint32_t x)
{
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(dst), "r"(x) : "memory");
}
__device__ __forceinline__ uint4 vt_load_shared(uint32_t src)
{
    uint4 x;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "r"(src)
                 : "memory");
    return x;
}

/* Four 8 x 8 blocks; lane l gives the address of row l % 8 of block l / 8 */
__device__ __forceinline__ void vt_load_blocks(uint32_t src, uint32_t (&r)[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(src)
                 : "memory");
}
__device__ __forceinline__ void vt_load_blocks_transposed(uint32_t src, uint32_t (&r)[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(src)
                 : "memory");
}

/* Two floats as a register of two halves, the first in the low bits. */
template <typename T> __device__ __forceinline__ uint32_t vt_pack2(float low, float high);
template <> __device__ __forceinline__ uint32_t vt_pack2<__half>(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
template <> __device__ __forceinline__ uint32_t vt_pack2<__nv_bfloat16>(float low, float high)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

/* d = a b + c, 16 x 8 x 16 */
template <typename T>
__device__ __forceinline__ void vt_mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                       uint32_t b1, const float (&c)[4]);
#define VT_MMA(type)                                                                               \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                             \
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"                      \
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                                           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]),      \
          "f"(c[2]), "f"(c[3]))
template <>
__device__ __forceinline__ void vt_mma<__half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1, const float (&c)[4])
{
    VT_MMA("f16");
}
template <>
__device__ __forceinline__ void vt_mma<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                      uint32_t b0, uint32_t b1, const float (&c)[4])
{
    VT_MMA("bf16");
}
#undef VT_MMA

/* 2^x */
__device__ __forceinline__ float vt_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
