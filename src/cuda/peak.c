/* SPDX-License-Identifier: Apache-2.0 */
/* The ceilings that operations are compared with: a large product of the library and a large copy
 * within the GPU's memory. Both on numbers of full width: products of simple numbers draw less
 * power and run faster than any network does. */
#include <string.h>

#include "core/half.h"
#include "cuda/cuda.h"

/* What is timed, and on what. */
typedef struct bench {
    const vt_cuda *cuda;
    cudaStream_t stream;
    cudaEvent_t begin, end;
    char *src, *dst;
    size_t bytes; /* of each */
    vt_cuda_matmul product;
    cublasLtMatmulAlgo_t algo;
    char *workspace;
} bench;

static void close_bench(bench *b)
{
    vt_cuda_matmul_clear(&b->product);
    cudaFree(b->src);
    cudaFree(b->dst);
    cudaFree(b->workspace);
    if (b->begin) {
        cudaEventDestroy(b->begin);
    }
    if (b->end) {
        cudaEventDestroy(b->end);
    }
    if (b->stream) {
        cudaStreamDestroy(b->stream);
    }
}

static bool open_bench(bench *b, const vt_backend *backend, size_t bytes)
{
    *b = (bench){.cuda = vt_cuda_of(backend), .bytes = bytes};
    return cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking) == cudaSuccess &&
           cudaEventCreate(&b->begin) == cudaSuccess && cudaEventCreate(&b->end) == cudaSuccess &&
           cudaMalloc((void **)&b->src, bytes) == cudaSuccess &&
           cudaMalloc((void **)&b->dst, bytes) == cudaSuccess &&
           cudaMalloc((void **)&b->workspace, VT_CUDA_WORKSPACE) == cudaSuccess;
}

/* Fills src with random numbers in [-1, 1): a block from the host, doubled until it fits. */
static bool fill_random(bench *b, vt_dtype dtype)
{
    enum { ELEMENTS = 1 << 20 };
    size_t size = vt_dtype_size(dtype), done = ELEMENTS * size;
    float *block = vt_alloc(b->cuda->allocator, ELEMENTS * sizeof *block);
    uint32_t state = 1;
    bool good = block && done <= b->bytes;
    for (size_t i = 0; good && i < ELEMENTS; i++) {
        state = state * 1664525u + 1013904223u;
        float x = (float)(state >> 8) / (float)(1 << 23) - 1.0f;
        uint16_t half = dtype == VT_BF16 ? vt_to_bf16(x) : vt_to_f16(x);
        memcpy((char *)block + i * size, size == 4 ? (void *)&x : (void *)&half, size);
    }
    good = good && cudaMemcpy(b->src, block, done, cudaMemcpyHostToDevice) == cudaSuccess;
    for (; good && done < b->bytes; done *= 2) {
        size_t rest = b->bytes - done;
        good = cudaMemcpyAsync(b->src + done, b->src, rest < done ? rest : done,
                               cudaMemcpyDeviceToDevice, b->stream) == cudaSuccess;
    }
    vt_free(b->cuda->allocator, block);
    return good;
}

static bool copy(bench *b)
{
    return cudaMemcpyAsync(b->dst, b->src, b->bytes, cudaMemcpyDeviceToDevice, b->stream) ==
           cudaSuccess;
}

static bool multiply(bench *b)
{
    float one = 1.0f, zero = 0.0f;
    return cublasLtMatmul(b->cuda->blas, b->product.desc, &one, b->src, b->product.weight, b->src,
                          b->product.src, &zero, b->dst, b->product.dst, b->dst, b->product.dst,
                          &b->algo, b->workspace, VT_CUDA_WORKSPACE,
                          b->stream) == CUBLAS_STATUS_SUCCESS;
}

/* Seconds of one call: the median of a few rounds of some calls, after one that is not counted. */
static double time_call(bench *b, bool (*call)(bench *))
{
    enum { ROUNDS = 5, CALLS = 8 };
    float times[ROUNDS];
    for (int i = -1; i < ROUNDS; i++) {
        bool good = cudaEventRecord(b->begin, b->stream) == cudaSuccess;
        for (int k = 0; good && k < CALLS; k++) {
            good = call(b);
        }
        float time = 0;
        if (!good || cudaEventRecord(b->end, b->stream) != cudaSuccess ||
            cudaEventSynchronize(b->end) != cudaSuccess ||
            cudaEventElapsedTime(&time, b->begin, b->end) != cudaSuccess) {
            return 0;
        }
        int at = i;
        for (; at > 0 && times[at - 1] > time; at--) {
            times[at] = times[at - 1];
        }
        if (i >= 0) {
            times[at] = time;
        }
    }
    return 1e-3 * (double)times[ROUNDS / 2] / CALLS;
}

double vt_cuda_peak(const vt_backend *backend, vt_dtype dtype, int threads)
{
    enum { HALF_SIDE = 8192, F32_SIDE = 4096 };
    int64_t side = dtype == VT_F32 ? F32_SIDE : HALF_SIDE;
    vt_cuda_product product = {
        .rows = side, .cols = side, .depth = side, .in = dtype, .out = dtype};
    product.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    product.timed = true;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    bench b;
    (void)threads;
    bool good = open_bench(&b, backend, (size_t)(side * side) * vt_dtype_size(dtype)) &&
                fill_random(&b, dtype) && vt_cuda_matmul_make(&b.product, &product, NULL) &&
                vt_cuda_tune(b.cuda, &product, &b.algo, NULL) == VT_OK;
    double seconds = good ? time_call(&b, multiply) : 0;
    close_bench(&b);
    cudaGetLastError();
    vt_cuda_leave(scope);
    return seconds > 0 ? 2e-9 * (double)side * (double)side * (double)side / seconds : 0;
}

double vt_cuda_copy_rate(const vt_backend *backend, int threads)
{
    const size_t bytes = (size_t)1 << 30;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    bench b;
    (void)threads;
    bool good = open_bench(&b, backend, bytes) && fill_random(&b, VT_F32);
    double seconds = good ? time_call(&b, copy) : 0;
    close_bench(&b);
    cudaGetLastError();
    vt_cuda_leave(scope);
    return seconds > 0 ? 2e-9 * (double)bytes / seconds : 0;
}
