/* SPDX-License-Identifier: Apache-2.0 */
/* Element types and vector access: every kernel computes in f32 and moves V elements at a time. */
#ifndef VT_CUDA_CONVERT_CUH
#define VT_CUDA_CONVERT_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/kernels.h"

__device__ __forceinline__ float vt_to_float(float x)
{
    return x;
}
__device__ __forceinline__ float vt_to_float(__half x)
{
    return __half2float(x);
}
__device__ __forceinline__ float vt_to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <typename T> __device__ __forceinline__ T vt_from_float(float x);
template <> __device__ __forceinline__ float vt_from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ __half vt_from_float<__half>(float x)
{
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ __nv_bfloat16 vt_from_float<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* V neighbours in memory, moved in pieces of at most 16 bytes. */
template <typename T, int V> struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) vt_pack {
    T at[V];
};

template <typename T, int V> __device__ __forceinline__ vt_pack<T, V> vt_load(const T *src)
{
    return *reinterpret_cast<const vt_pack<T, V> *>(src);
}

template <typename T, int V>
__device__ __forceinline__ void vt_unpack(const vt_pack<T, V> &pack, float (&x)[V])
{
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] = vt_to_float(pack.at[i]);
    }
}

template <typename T, int V> __device__ __forceinline__ void vt_store(T *dst, const float (&x)[V])
{
    vt_pack<T, V> pack;
#pragma unroll
    for (int i = 0; i < V; i++) {
        pack.at[i] = vt_from_float<T>(x[i]);
    }
    *reinterpret_cast<vt_pack<T, V> *>(dst) = pack;
}

/* x[i] += src[index + i], for an operand whose type is known at run time only. */
template <int V>
__device__ __forceinline__ void vt_add_any(const void *src, vt_dtype dtype, int64_t index,
                                           float (&x)[V])
{
    float y[V];
    if (dtype == VT_F32) {
        vt_unpack(vt_load<float, V>((const float *)src + index), y);
    } else if (dtype == VT_F16) {
        vt_unpack(vt_load<__half, V>((const __half *)src + index), y);
    } else {
        vt_unpack(vt_load<__nv_bfloat16, V>((const __nv_bfloat16 *)src + index), y);
    }
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] += y[i];
    }
}

/* a / b and a % b for a, b > 0; mostly in 32 bits, where division is several times cheaper */
__device__ __forceinline__ int64_t vt_divide(int64_t a, int b, int *rest)
{
    if (a >> 32 == 0) {
        uint32_t quotient = (uint32_t)a / (uint32_t)b;
        *rest = (int)((uint32_t)a - quotient * (uint32_t)b);
        return quotient;
    }
    int64_t quotient = a / b;
    *rest = (int)(a - quotient * b);
    return quotient;
}

/* Host side: a launcher per [type of source][type of destination], in the order of vt_dtype. */
#define VT_TYPE_TABLE(f)                                                                           \
    {                                                                                              \
        {f<float, float>, f<float, __nv_bfloat16>, f<float, __half>},                              \
            {f<__nv_bfloat16, float>, f<__nv_bfloat16, __nv_bfloat16>, f<__nv_bfloat16, __half>},  \
            {f<__half, float>, f<__half, __nv_bfloat16>, f<__half, __half>},                       \
    }

/* What a launcher asks of its arguments. */
static inline bool vt_is_aligned(const void *p, size_t bytes)
{
    return ((uintptr_t)p & (bytes - 1)) == 0;
}

static inline bool vt_is_float_type(vt_dtype dtype)
{
    return dtype == VT_F32 || dtype == VT_BF16 || dtype == VT_F16;
}

static inline cudaError_t vt_cuda_multiprocessors(int *count)
{
    int device;
    cudaError_t code = cudaGetDevice(&device);
    return code == cudaSuccess
               ? cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device)
               : code;
}

/* Blocks of a grid, or 0 where there are more than a grid takes. */
static inline unsigned vt_grid(int64_t work, int64_t per_block)
{
    int64_t blocks = (work + per_block - 1) / per_block;
    return blocks > 0x7fffffff ? 0 : (unsigned)blocks;
}

#endif
