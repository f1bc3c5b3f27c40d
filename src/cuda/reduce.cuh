/* SPDX-License-Identifier: Apache-2.0 */
/* Sums and maxima over groups of neighbouring lanes. Every lane of the warp takes part; every lane
 * of a group gets the result; the order of the additions is fixed. */
#ifndef VT_CUDA_REDUCE_CUH
#define VT_CUDA_REDUCE_CUH

/* lanes: a power of two up to 32 */
__device__ __forceinline__ float vt_group_sum(float x, int lanes)
{
    for (int step = lanes / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}

__device__ __forceinline__ float vt_group_max(float x, int lanes)
{
    for (int step = lanes / 2; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    return x;
}

#endif
