/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the place of src/cuda/launch.cuh: kernels run one after the other, but a block that forgets
 * to wait for its predecessor is noticed. */
#ifndef VT_EMULATION_LAUNCH_CUH
#define VT_EMULATION_LAUNCH_CUH

#include "emulator.h"

static inline void vt_let_successor_begin(void)
{
}

static inline void vt_wait_for_predecessor(void)
{
    vt_emulated_wait_for_predecessor();
}

static inline cudaError_t vt_cuda_allow_shared(const void *kernel)
{
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 99 << 10);
}

template <typename... P, typename... A>
static cudaError_t vt_cuda_launch(void (*kernel)(P...), dim3 grid, unsigned threads, size_t shared,
                                  cudaStream_t stream, const A &...args)
{
    vt_emulated_kernel<P...> k =
        vt_emulated_launch("a kernel of vt_cuda_launch", kernel, grid, threads, shared, stream);
    k.grid.overlaps = true;
    k(P(args)...);
    return cudaGetLastError();
}

#endif
