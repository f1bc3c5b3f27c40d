/* SPDX-License-Identifier: Apache-2.0 */
/* The device "cuda" with emulated kernels: src/cuda/ops.c as it is, the memory of the GPU is the
 * host's. Kinds that need cuBLASLt, cuDNN or sm_90a are missing; on "cuda:1" linear maps are the
 * reference's, in f32, so that whole networks run. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "cuda/cuda.h"
#include "ops/plan.h"

void vt_cuda_note(const vt_exec *exec, const vt_record *record, cudaError_t code)
{
    vt_exec *own = (vt_exec *)(size_t)exec; /* its status is the one field that may be set */
    if (code != cudaSuccess && own->status == VT_OK) {
        own->status = vt_error_set(exec->error, VT_ERR_DEVICE, "%s: error %d of the emulation",
                                   vt_op_name(record->kind), (int)code);
    }
}

/* ---- what src/cuda/pictures.c asks of CUDA --------------------------------------------------- */

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    *pointer = NULL;
    return posix_memalign(pointer, 256, bytes ? bytes : 1) == 0 ? cudaSuccess
                                                                : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void *pointer)
{
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags)
{
    return flags == cudaHostAllocPortable ? cudaMalloc(pointer, bytes) : cudaErrorInvalidValue;
}

cudaError_t cudaFreeHost(void *pointer)
{
    return cudaFree(pointer);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)kind, (void)stream;
    memcpy(dst, src, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(dst, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

vt_cuda_scope vt_cuda_enter(const vt_backend *backend)
{
    (void)backend;
    return (vt_cuda_scope){0};
}

void vt_cuda_leave(vt_cuda_scope scope)
{
    (void)scope;
}

vt_status vt_cuda_check(const vt_backend *backend, cudaError_t code, const char *what,
                        vt_error *error)
{
    return code == cudaSuccess ? VT_OK
                               : vt_error_set(error, VT_ERR_DEVICE, "%s: %s: error %d",
                                              backend->name, what, (int)code);
}

/* ---- the device ------------------------------------------------------------------------------ */

static void *device_alloc(const vt_backend *backend, size_t bytes)
{
    (void)backend;
    void *p = NULL;
    return cudaMalloc(&p, bytes) == cudaSuccess ? p : NULL;
}

static void device_release(const vt_backend *backend, void *pointer)
{
    (void)backend;
    free(pointer);
}

static vt_status open_stream(const vt_backend *backend, void **stream, vt_error *error)
{
    (void)backend;
    *stream = calloc(1, sizeof(vt_cuda_stream));
    return *stream ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "out of memory for a stream");
}

static void close_stream(const vt_backend *backend, void *stream)
{
    (void)backend;
    free(((vt_cuda_stream *)stream)->staging);
    free(stream);
}

static vt_status follow(const vt_backend *backend, void *stream, void *const *callers,
                        bool *capturing, vt_error *error)
{
    (void)backend, (void)stream, (void)capturing;
    return callers ? vt_error_set(error, VT_ERR_UNSUPPORTED, "no streams in the emulation") : VT_OK;
}

/* The emulator runs one kernel at a time. */
static pthread_mutex_t one_kernel = PTHREAD_MUTEX_INITIALIZER;

static size_t map_bytes(const vt_map *map)
{
    vt_shape s = map->shape;
    return (size_t)(s.n * s.h * s.w * s.c) * vt_dtype_size(map->dtype);
}

/* What lies as in the map is copied, for speed; NCHW goes through the kernel. */
static vt_status stage(const vt_backend *backend, void *stream, const vt_tensor *input,
                       const vt_map *map, void *dst, vt_error *error)
{
    (void)stream;
    if (map->dtype == VT_F32 && (map->shape.c == 1 || input->stride_c == 1)) {
        memcpy(dst, input->data, map_bytes(map));
        return VT_OK;
    }
    const vt_cuda_layout layout = {input->data,     dst,
                                   map->dtype,      map->shape,
                                   input->stride_n, input->stride_h,
                                   input->stride_w, input->stride_c,
                                   VT_F32};
    pthread_mutex_lock(&one_kernel);
    cudaError_t code = vt_cuda_to_nhwc(&layout, NULL);
    pthread_mutex_unlock(&one_kernel);
    return vt_cuda_check(backend, code, "copying the input", error);
}

static vt_status stage_pictures(const vt_backend *backend, void *stream,
                                const struct vt_packed_batch *batch, const vt_map *map, void *dst,
                                vt_error *error)
{
    pthread_mutex_lock(&one_kernel);
    vt_status status = vt_cuda_stage_pictures(backend, stream, batch, map, dst, error);
    pthread_mutex_unlock(&one_kernel);
    return status;
}

/* Maps in f32, as they lie. */
static vt_status fetch(const vt_backend *backend, void *stream, const vt_map *map, const void *src,
                       float *dst, vt_error *error)
{
    (void)backend, (void)stream, (void)error;
    memcpy(dst, src, map_bytes(map));
    return VT_OK;
}

static vt_status run(const vt_backend *backend, const struct vt_plan *plan, vt_exec *exec,
                     void **replay, vt_error *error)
{
    (void)backend, (void)replay, (void)error;
    pthread_mutex_lock(&one_kernel);
    for (size_t i = 0; i < plan->program.record_count && exec->status == VT_OK; i++) {
        exec->choice = plan->choices[i];
        plan->impls[i]->run(exec, &plan->program.records[i]);
    }
    pthread_mutex_unlock(&one_kernel);
    return exec->status;
}

static vt_status run_after(const vt_backend *backend, void *stream, void *other, vt_error *error)
{
    (void)backend, (void)stream, (void)other, (void)error;
    return VT_OK; /* runs have ended when they return */
}

static vt_status elapsed(const vt_backend *backend, void *stream, double *seconds, vt_error *error)
{
    (void)backend, (void)stream, (void)error;
    *seconds = 1e-9; /* of a device that is as good as infinitely fast */
    return VT_OK;
}

static vt_status pack(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error)
{
    (void)backend;
    vt_dtype dtype = use == VT_USE_MATRIX ? out->dtype : VT_F32;
    vt_status status = vt_pack_plain(allocator, source, out, error);
    for (int64_t i = 0; status == VT_OK && dtype != VT_F32 && i < out->rows * out->cols; i++) {
        float x = ((const float *)out->data)[i];
        ((uint16_t *)out->data)[i] = dtype == VT_BF16 ? vt_to_bf16(x) : vt_to_f16(x);
    }
    out->dtype = dtype;
    return status;
}

#define IMPLS(...) ((const vt_impl *const[]){__VA_ARGS__, NULL})

static void destroy(const vt_backend *backend)
{
    (void)backend;
}

static const vt_device_ops device_ops = {.alloc = device_alloc,
                                         .release = device_release,
                                         .open = open_stream,
                                         .close = close_stream,
                                         .follow = follow,
                                         .stage = stage,
                                         .fetch = fetch,
                                         .run = run,
                                         .run_after = run_after,
                                         .elapsed = elapsed,
                                         .host_alloc = vt_cuda_host_alloc,
                                         .host_release = vt_cuda_host_release,
                                         .stage_pictures = stage_pictures};
static const vt_backend emulated = {
    .name = "cuda (emulated on the processor)",
    .impls = {[VT_OP_CONV2D] = IMPLS(&vt_impl_cuda_conv_few, &vt_impl_cuda_conv2d),
              [VT_OP_NORM] = IMPLS(&vt_impl_cuda_norm),
              [VT_OP_ATTENTION] = IMPLS(&vt_impl_cuda_attention, &vt_impl_cuda_attention_box,
                                        &vt_impl_cuda_attention_plain),
              [VT_OP_ADD] = IMPLS(&vt_impl_cuda_add),
              [VT_OP_SPACE_TO_DEPTH] = IMPLS(&vt_impl_cuda_space_to_depth),
              [VT_OP_MEAN_POOL] = IMPLS(&vt_impl_cuda_mean_pool),
              [VT_OP_DEPTHWISE] = IMPLS(&vt_impl_cuda_depthwise),
              [VT_OP_AFFINE] = IMPLS(&vt_impl_cuda_affine),
              [VT_OP_MUL] = IMPLS(&vt_impl_cuda_mul),
              [VT_OP_CONCAT] = IMPLS(&vt_impl_cuda_concat),
              [VT_OP_POOL] = IMPLS(&vt_impl_cuda_pool),
              [VT_OP_LINEAR_ATTENTION] =
                  IMPLS(&vt_impl_cuda_linear_attention_mma, &vt_impl_cuda_linear_attention),
              [VT_OP_CHANNEL_ATTENTION] =
                  IMPLS(&vt_impl_cuda_channel_attention_mma, &vt_impl_cuda_channel_attention),
              [VT_OP_DEFORM_PATCHES] = IMPLS(&vt_impl_cuda_deform_patches)},
    .pack = pack,
    .half_maps = true,
    .device = &device_ops,
    .destroy = destroy};

static const char *refuse_half(vt_dtype dtype)
{
    return dtype == VT_F32 ? NULL : "the emulation runs networks in f32";
}

vt_status vt_backend_cuda(const vt_backend **backend, const char *device,
                          const vt_allocator *allocator, vt_error *error)
{
    static vt_backend with_linear;
    (void)allocator, (void)error;
    with_linear = emulated;
    with_linear.impls[VT_OP_LINEAR] = vt_backend_ref.impls[VT_OP_LINEAR];
    with_linear.refuse_dtype = refuse_half;
    *backend = strcmp(device, "cuda:1") == 0 ? &with_linear : &emulated;
    return VT_OK;
}
