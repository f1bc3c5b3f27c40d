/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures from the host: memory that copies fast, and batches that the GPU prepares itself. */
#include "cuda/cuda.h"
#include "io/packed.h"

void *vt_cuda_host_alloc(const vt_backend *backend, size_t bytes)
{
    void *p = NULL;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    /* portable: pinned for every GPU of the process */
    if (cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocPortable) != cudaSuccess) {
        cudaGetLastError();
        p = NULL;
    }
    vt_cuda_leave(scope);
    return p;
}

void vt_cuda_host_release(const vt_backend *backend, void *pointer)
{
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaFreeHost(pointer);
    vt_cuda_leave(scope);
}

cudaError_t vt_cuda_grow_staging(vt_cuda_stream *s, size_t bytes)
{
    if (bytes <= s->staging_bytes) {
        return cudaSuccess;
    }
    cudaError_t code = cudaStreamSynchronize(s->stream);
    cudaFree(s->staging);
    s->staging = NULL;
    s->staging_bytes = 0;
    code = code == cudaSuccess ? cudaMalloc(&s->staging, bytes) : code;
    s->staging_bytes = code == cudaSuccess ? bytes : 0;
    s->staging = code == cudaSuccess ? s->staging : NULL;
    return code;
}

/* The blocks, each as far as it is filled; *most is the largest map between the passes. */
static cudaError_t upload(const vt_packed_batch *batch, const vt_cuda_stream *s, int64_t *most)
{
    cudaError_t code = cudaSuccess;
    *most = 0;
    for (int64_t i = 0; i < batch->n && code == cudaSuccess; i++) {
        const size_t at = (size_t)i * batch->packing->room;
        const vt_packed_picture *p = (const void *)(batch->places + at);
        *most = p->middle > *most ? p->middle : *most;
        code = cudaMemcpyAsync((char *)s->staging + at, p, p->bytes, cudaMemcpyHostToDevice,
                               s->stream);
    }
    return code;
}

vt_status vt_cuda_stage_pictures(const vt_backend *backend, void *stream,
                                 const vt_packed_batch *batch, const vt_map *map, void *dst,
                                 vt_error *error)
{
    vt_cuda_stream *s = stream;
    const vt_packing *packing = batch->packing;
    const vt_shape shape = map->shape;
    const size_t blocks = (size_t)batch->n * packing->room;
    const size_t picture = (size_t)(shape.h * shape.w * shape.c) * vt_dtype_size(map->dtype);
    int64_t most = 0;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaError_t code = vt_cuda_grow_staging(s, 2 * blocks);
    code = code == cudaSuccess ? upload(batch, s, &most) : code;
    if (code == cudaSuccess) {
        vt_cuda_pictures args = {.places = s->staging,
                                 .middles = (char *)s->staging + blocks,
                                 .place_bytes = packing->room,
                                 .most_middle = most,
                                 .n = batch->n,
                                 .dst = dst,
                                 .dst_dtype = map->dtype,
                                 .h = (int)shape.h,
                                 .w = (int)shape.w};
        for (int c = 0; c < 3; c++) {
            args.mean[c] = packing->mean[c];
            args.std[c] = packing->std[c];
            args.fill[c] = packing->fill[c];
        }
        code = vt_cuda_resize_pictures(&args, s->stream);
    }
    if (code == cudaSuccess && batch->n < shape.n) {
        code = cudaMemsetAsync((char *)dst + (size_t)batch->n * picture, 0,
                               (size_t)(shape.n - batch->n) * picture, s->stream);
    }
    cudaError_t waited = cudaStreamSynchronize(s->stream); /* the blocks are the caller's again */
    vt_status status =
        vt_cuda_check(backend, code == cudaSuccess ? waited : code, "preparing pictures", error);
    vt_cuda_leave(scope);
    return status;
}
