/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend: one per context, for one GPU. */
#ifndef VT_CUDA_CUDA_H
#define VT_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "cuda/kernels.h"
#include "ops/backend.h"

typedef struct vt_cuda {
    vt_backend base; /* first, so that a vt_backend * is a vt_cuda * */
    const vt_allocator *allocator;
    vt_allocator allocator_copy;
    int device;
    bool has_wgmma; /* sm_90a, and this library holds code for it */
    char name[96];
    cublasLtHandle_t blas;
    struct vt_cuda_tuned *tuned; /* algorithms found by timing, see tune.c; guarded by a lock */
    struct vt_cuda_dnn *dnn;     /* see conv_cudnn.c; guarded by a lock */
} vt_cuda;

/* One product: everything that its best algorithm depends on. */
typedef struct vt_cuda_product {
    int64_t rows, cols, depth;
    vt_dtype in, out;
    int epilogue; /* cublasLtEpilogue_t */
    bool residual;
    bool timed; /* the fastest is looked for; else the library's first proposal is taken, which
                 * depends on the type of GPU and the library alone */
} vt_cuda_product;

/* The library's descriptions of one product; `bias` may be NULL while a kernel is looked for. */
typedef struct vt_cuda_matmul {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t weight, src, dst;
} vt_cuda_matmul;
bool vt_cuda_matmul_make(vt_cuda_matmul *m, const vt_cuda_product *product, const void *bias);
void vt_cuda_matmul_clear(vt_cuda_matmul *m);

enum { VT_CUDA_WORKSPACE = 32 << 20 };

/* For timing a library's proposals (tune.c): a stream, two events, and operands in one block of the
 * GPU's memory with VT_CUDA_WORKSPACE behind them. */
typedef struct vt_cuda_trial {
    char *block; /* NULL: no trial */
    cudaStream_t stream;
    cudaEvent_t begin, end;
} vt_cuda_trial;
/* Where an operand begins in a block that has `at` bytes so far. */
size_t vt_cuda_trial_place(size_t *at, int64_t elements, vt_dtype dtype);
/* Operands are small numbers; false: there is nothing to close. */
bool vt_cuda_trial_open(vt_cuda_trial *t, size_t bytes);
void vt_cuda_trial_close(vt_cuda_trial *t);
/* Milliseconds since `begin` was recorded on the stream, waiting for what it has; < 0: failed. */
float vt_cuda_trial_elapsed(const vt_cuda_trial *t);

/* Which of the library's proposals a product takes; timed on this GPU once per product. */
vt_status vt_cuda_tune(const vt_cuda *cuda, const vt_cuda_product *product,
                       cublasLtMatmulAlgo_t *algo, vt_error *error);
vt_status vt_cuda_tune_open(vt_cuda *cuda, vt_error *error);
void vt_cuda_tune_close(vt_cuda *cuda);

/* vt_backend.peak and copy_rate. */
double vt_cuda_peak(const vt_backend *backend, vt_dtype dtype, int threads);
double vt_cuda_copy_rate(const vt_backend *backend, int threads);

static inline const vt_cuda *vt_cuda_of(const vt_backend *backend)
{
    return (const vt_cuda *)(const void *)backend;
}

/* What one session has; calls of several sessions share no library state but cuDNN's, which is
 * behind a lock. */
typedef struct vt_cuda_stream {
    cudaStream_t own;
    cudaStream_t stream;     /* what is enqueued now goes here: own, or the caller's */
    unsigned long long id;   /* of `stream`, never used twice in a process */
    unsigned long long last; /* of the stream of the last run; 0: none yet */
    bool capturing;          /* `stream` is recorded into the caller's graph */
    cublasLtHandle_t blas;
    cudaEvent_t begin, end; /* of the last run */
    void *staging;          /* on the GPU: the caller's pictures as they come */
    size_t staging_bytes;
} vt_cuda_stream;

static inline const vt_cuda_stream *vt_cuda_stream_of(const vt_exec *exec)
{
    return exec->stream;
}

/* Waits for the stream when the block must grow. */
cudaError_t vt_cuda_grow_staging(vt_cuda_stream *stream, size_t bytes);

/* vt_device_ops.host_alloc, host_release and stage_pictures. */
void *vt_cuda_host_alloc(const vt_backend *backend, size_t bytes);
void vt_cuda_host_release(const vt_backend *backend, void *pointer);
vt_status vt_cuda_stage_pictures(const vt_backend *backend, void *stream,
                                 const struct vt_packed_batch *batch, const vt_map *map, void *dst,
                                 vt_error *error);

/* Makes the backend's GPU current and remembers the caller's; vt_cuda_leave puts it back. In
 * between, captures that go on elsewhere in the program forbid this thread nothing. */
typedef struct vt_cuda_scope {
    int previous;
    enum cudaStreamCaptureMode mode;
} vt_cuda_scope;
vt_cuda_scope vt_cuda_enter(const vt_backend *backend);
void vt_cuda_leave(vt_cuda_scope scope);

/* A lock of the whole process, as recordings are the driver's. Between the first two a stream is
 * recorded, by any number of threads. cuBLASLt waits for the whole device when a handle is destroyed,
 * which would spoil that, and cuDNN may when it starts or ends: this is done between the other two, by
 * one thread at a time and while nobody records. Take other locks after this one. */
void vt_cuda_begin_recording(void);
void vt_cuda_end_recording(void);
void vt_cuda_forbid_recording(void);
void vt_cuda_allow_recording(void);

/* VT_OK, or a message that names the device and what was being done. */
vt_status vt_cuda_check(const vt_backend *backend, cudaError_t code, const char *what,
                        vt_error *error);

/* For implementations: remembers the first failure of a run. */
void vt_cuda_note(const vt_exec *exec, const vt_record *record, cudaError_t code);

/* A vector in the type of a product's result: every vector is kept as f32, bf16 and f16. */
const void *vt_cuda_vector_as(const vt_exec *exec, vt_weight w, vt_dtype dtype);

static inline vt_dtype vt_map_dtype(const vt_program *program, vt_value v)
{
    return v.id < 0 ? VT_F32 : program->maps[v.id].dtype;
}

/* The implementations; vt_impl_cuda_attention uses tensor cores, the other one takes any shape. */
extern const vt_impl vt_impl_cuda_linear, vt_impl_cuda_norm, vt_impl_cuda_attention,
    vt_impl_cuda_attention_plain, vt_impl_cuda_attention_box, vt_impl_cuda_add,
    vt_impl_cuda_space_to_depth, vt_impl_cuda_mean_pool, vt_impl_cuda_depthwise,
    vt_impl_cuda_affine, vt_impl_cuda_mul, vt_impl_cuda_concat, vt_impl_cuda_pool,
    vt_impl_cuda_deform_patches, vt_impl_cuda_linear_attention, vt_impl_cuda_channel_attention,
    vt_impl_cuda_linear_attention_mma, vt_impl_cuda_channel_attention_mma, vt_impl_cuda_conv_few,
    vt_impl_cuda_conv2d, vt_impl_cuda_mlp, vt_impl_cuda_linear_wgmma, vt_impl_cuda_linear_small;

#endif
