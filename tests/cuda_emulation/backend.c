/* SPDX-License-Identifier: Apache-2.0 */
/* The device "cuda" with emulated kernels: src/cuda/ops.c as it is, the memory of the GPU is the
 * host's. Kinds that need cuBLASLt, cuDNN or sm_90a are missing. */
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "cuda/cuda.h"

void vt_cuda_note(const vt_exec *exec, const vt_record *record, cudaError_t code)
{
    vt_exec *own = (vt_exec *)(size_t)exec; /* its status is the one field that may be set */
    if (code != cudaSuccess && own->status == VT_OK) {
        own->status = vt_error_set(exec->error, VT_ERR_DEVICE, "%s: error %d of the emulation",
                                   vt_op_name(record->kind), (int)code);
    }
}

static void *device_alloc(const vt_backend *backend, size_t bytes)
{
    (void)backend;
    void *p = NULL;
    return posix_memalign(&p, 256, bytes ? bytes : 1) == 0 ? p : NULL;
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
    free(stream);
}

static size_t map_bytes(const vt_map *map)
{
    vt_shape s = map->shape;
    return (size_t)(s.n * s.h * s.w * s.c) * vt_dtype_size(map->dtype);
}

/* Dense pictures in the map's type only; the same for maps on their way back. */
static vt_status stage(const vt_backend *backend, void *stream, const vt_tensor *input,
                       const vt_map *map, void *dst, vt_error *error)
{
    (void)backend, (void)stream, (void)error;
    memcpy(dst, input->data, map_bytes(map));
    return VT_OK;
}

static vt_status fetch(const vt_backend *backend, void *stream, const vt_map *map, const void *src,
                       float *dst, vt_error *error)
{
    (void)backend, (void)stream, (void)error;
    memcpy(dst, src, map_bytes(map));
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
                                         .stage = stage,
                                         .fetch = fetch};
static const vt_backend emulated = {
    .name = "cuda (emulated on the processor)",
    .impls = {[VT_OP_CONV2D] = IMPLS(&vt_impl_cuda_conv2d),
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
              [VT_OP_LINEAR_ATTENTION] = IMPLS(&vt_impl_cuda_linear_attention),
              [VT_OP_CHANNEL_ATTENTION] = IMPLS(&vt_impl_cuda_channel_attention),
              [VT_OP_DEFORM_PATCHES] = IMPLS(&vt_impl_cuda_deform_patches)},
    .pack = pack,
    .half_maps = true,
    .device = &device_ops,
    .destroy = destroy};

vt_status vt_backend_cuda(const vt_backend **backend, const char *device,
                          const vt_allocator *allocator, vt_error *error)
{
    (void)device, (void)allocator, (void)error;
    *backend = &emulated;
    return VT_OK;
}
