/* SPDX-License-Identifier: Apache-2.0 */
/* Starting kernels that follow each other closely (programmatic dependent launch, from compute
 * capability 9.0 on; elsewhere all of this is an ordinary launch).
 *
 * A kernel started by vt_cuda_launch may begin while its predecessor still runs. The rule that
 * makes this right, for every kernel that is started so:
 *   - each thread that has not exited calls vt_wait_for_predecessor before the block's first access
 *     to a map or to scratch, reading or writing; before it, only parameters are touched. No block
 *     ends without the call.
 *   - vt_cuda_launch is used for no other kernel.
 * vt_let_successor_begin may come anywhere, best at the top: the next kernel then starts beside
 * this one, as soon as all blocks of this one have started, and waits there with its parameters
 * read.
 *
 * A kernel then completes only after its predecessor has, so after the call everything that ran
 * before in the stream is complete and visible, however many kernels are under way. Kernels that
 * are launched in the ordinary way (those of a library) and copies wait for their predecessor as a
 * whole, and a kernel behind one of them is let go when it has completed. */
#ifndef VT_CUDA_LAUNCH_CUH
#define VT_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

/* Lets the next kernel begin once every block has come here. */
__device__ __forceinline__ void vt_let_successor_begin(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Waits until all kernels before this one have completed. */
__device__ __forceinline__ void vt_wait_for_predecessor(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets the blocks of a kernel have as much shared memory as there is: as much for all its launches,
 * because another thread may launch it, with other shapes, between this call and its own launch. */
static inline cudaError_t vt_cuda_allow_shared(const void *kernel)
{
    int device, most;
    cudaFuncAttributes has;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess) {
        e = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    }
    if (e == cudaSuccess) {
        e = cudaFuncGetAttributes(&has, kernel);
    }
    return e == cudaSuccess
               ? cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      most - (int)has.sharedSizeBytes)
               : e;
}

/* `cluster` blocks see each other's shared memory (more than 1: compute capability 9.0). */
template <typename... P, typename... A>
static cudaError_t vt_cuda_launch_cluster(int cluster, void (*kernel)(P...), dim3 grid,
                                          unsigned threads, size_t shared, cudaStream_t stream,
                                          const A &...args)
{
    int device, major = 0;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess) {
        e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    }
    if (e != cudaSuccess) {
        return e;
    }
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = attributes;
    if (major >= 9) {
        attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config.numAttrs].val.clusterDim.x = (unsigned)cluster;
        attributes[config.numAttrs].val.clusterDim.y = 1;
        attributes[config.numAttrs++].val.clusterDim.z = 1;
    }
    return cudaLaunchKernelEx(&config, kernel, P(args)...);
}

template <typename... P, typename... A>
static cudaError_t vt_cuda_launch(void (*kernel)(P...), dim3 grid, unsigned threads, size_t shared,
                                  cudaStream_t stream, const A &...args)
{
    return vt_cuda_launch_cluster(1, kernel, grid, threads, shared, stream, args...);
}

#endif
