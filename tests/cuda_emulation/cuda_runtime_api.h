/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for CUDA's header: what src/cuda/kernels.h, cuda.h and the launchers name. */
#ifndef VT_EMULATION_CUDA_RUNTIME_API_H
#define VT_EMULATION_CUDA_RUNTIME_API_H

#include <stddef.h>

typedef enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorInvalidConfiguration,
    cudaErrorMemoryAllocation
} cudaError_t;
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed };

enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

enum { cudaHostAllocPortable = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1 };

#ifdef __cplusplus
extern "C" {
#endif
cudaError_t cudaGetLastError(void);

/* The GPU's memory is the host's: backend.c. */
cudaError_t cudaMalloc(void **pointer, size_t bytes);
cudaError_t cudaFree(void *pointer);
cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *pointer);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
#ifdef __cplusplus
}

cudaError_t cudaGetDevice(int *device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel,
                                                          int threads, size_t shared);
template <typename... P>
static inline cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute,
                                               int value)
{
    return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}
#endif

#endif
