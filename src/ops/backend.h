/* SPDX-License-Identifier: Apache-2.0 */
/* What a device must offer: weights in its own packed form, and for each kind of record an ordered
 * list of implementations. */
#ifndef VT_OPS_BACKEND_H
#define VT_OPS_BACKEND_H

#include "core/context.h"
#include "ops/program.h"

/* What a weight is used for; decides its packed form, so that one copy serves every shape. */
typedef enum vt_weight_use {
    VT_USE_VECTOR, /* plain f32, whatever the model's dtype */
    VT_USE_MATRIX  /* [rows = out, cols = in], right operand of a product */
} vt_weight_use;

/* A weight in the device's form. */
typedef struct vt_weight_data {
    int64_t rows, cols;
    vt_dtype dtype;
    void *data;
    size_t bytes;
} vt_weight_data;

/* Delivers rows [first, first + count) of a weight as f32, dense. */
typedef struct vt_row_source {
    vt_status (*read)(void *user, int64_t first, int64_t count, float *out, vt_error *error);
    void *user;
} vt_row_source;

typedef struct vt_backend vt_backend;

/* What an implementation is given to run. */
typedef struct vt_exec {
    const vt_backend *backend;
    const vt_program *program;
    const vt_weight_data *weights; /* indexed by weight id */
    void *const *maps;             /* indexed by map id: where each map lies */
    void *scratch;                 /* as many bytes as the implementation asked for */
    int threads;
    void *stream;       /* of a device, else NULL */
    double *seconds;    /* a device's run is to time each record, or NULL */
    const void *choice; /* what vt_impl.choose made for this record, else NULL */
    vt_status status;   /* set by an implementation that fails (devices only) */
    vt_error *error;
} vt_exec;

/* What an implementation may look at when it decides. */
typedef struct vt_plan_input {
    const vt_backend *backend;
    const vt_program *program;
    const vt_weight_shape *weights;
    vt_dtype dtype; /* of the model's matrices */
    int threads;
    bool reproducible; /* what is chosen must not depend on time */
} vt_plan_input;

typedef struct vt_impl {
    const char *name;
    /* NULL: accepts, or a short reason why it cannot serve this record. */
    const char *(*refuse)(const vt_plan_input *in, const vt_record *record);
    /* Bytes of scratch wanted; NULL: none. */
    size_t (*scratch)(const vt_plan_input *in, const vt_record *record);
    void (*run)(const vt_exec *exec, const vt_record *record);
    /* Makes, once per plan, what running this record needs (an algorithm, descriptors): a block
     * from `allocator`, freed with the plan, for vt_exec.choice. NULL function: nothing. */
    vt_status (*choose)(const vt_plan_input *in, const vt_record *record,
                        const vt_allocator *allocator, void **choice, vt_error *error);
} vt_impl;

struct vt_plan;
struct vt_packed_batch; /* see io/packed.h */

/* What a device adds whose memory the host cannot address. All pointers to weights, maps and
 * scratch are then device pointers. */
typedef struct vt_device_ops {
    void *(*alloc)(const vt_backend *backend, size_t bytes);
    void (*release)(const vt_backend *backend, void *pointer);
    /* What one session needs besides memory: a stream. */
    vt_status (*open)(const vt_backend *backend, void **stream, vt_error *error);
    void (*close)(const vt_backend *backend, void *stream);
    /* Where the following stage, take and run go: to the stream that *callers is, or with NULL to
     * the session's own, in either case after the session's earlier runs. *capturing (not
     * looked at without callers) says whether that stream is recorded into a graph: then only what
     * is prepared may be enqueued. */
    vt_status (*follow)(const vt_backend *backend, void *stream, void *const *callers,
                        bool *capturing, vt_error *error);
    /* The caller's pictures (host memory, any strides) into the input map. They have been read when
     * it returns, and memory of host_alloc has then also arrived. */
    vt_status (*stage)(const vt_backend *backend, void *stream, const vt_tensor *input,
                       const vt_map *map, void *dst, vt_error *error);
    /* The same from the device's own memory, f32 or the map's type; does not wait. */
    vt_status (*take)(const vt_backend *backend, void *stream, const vt_tensor *input,
                      const vt_map *map, void *dst, vt_error *error);
    /* Waits for the last run and brings a map to host memory as dense f32. */
    vt_status (*fetch)(const vt_backend *backend, void *stream, const vt_map *map, const void *src,
                       float *dst, vt_error *error);
    /* Starts all records of a plan. *replay is NULL at first and may be set to whatever makes the
     * next run of the same plan on the same memory faster. */
    vt_status (*run)(const vt_backend *backend, const struct vt_plan *plan, vt_exec *exec,
                     void **replay, vt_error *error);
    /* The next run of this stream begins when the last one of another stream has ended. */
    vt_status (*run_after)(const vt_backend *backend, void *stream, void *other, vt_error *error);
    /* Waits for the session's runs and frees it. */
    void (*drop)(const vt_backend *backend, void *stream, void *replay);
    /* Waits; how long the last run took on the device. */
    vt_status (*elapsed)(const vt_backend *backend, void *stream, double *seconds, vt_error *error);
    /* What the driver counts as free and as all, in bytes. */
    vt_status (*memory)(const vt_backend *backend, size_t *free_bytes, size_t *total_bytes,
                        vt_error *error);
    /* Host memory that every device of this kind copies from at its full speed, or NULL. */
    void *(*host_alloc)(const vt_backend *backend, size_t bytes);
    void (*host_release)(const vt_backend *backend, void *pointer);
    /* Resizes, crops and normalises packed pictures into the first of the input map, the same bits
     * as vt_preprocess_run's in the map's type; the others become zero. Waits until it is done. */
    vt_status (*stage_pictures)(const vt_backend *backend, void *stream,
                                const struct vt_packed_batch *batch, const vt_map *map, void *dst,
                                vt_error *error);
} vt_device_ops;

struct vt_backend {
    const char *name;
    /* Best first; the last accepts everything that the builder lets through. NULL ends a list. */
    const vt_impl *const *impls[VT_OP_KINDS];
    /* NULL: the dtype is computed in here; otherwise the reason why not. */
    const char *(*refuse_dtype)(vt_dtype dtype);
    /* Reads a weight into the packed form; rows, cols and dtype of `out` are set by the caller,
     * data and bytes by this. The block comes from vt_backend_alloc. */
    vt_status (*pack)(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error);
    const void *kernels; /* the backend's own */
    /* Every map, the residual stream too, is kept in the model's dtype. */
    bool half_maps;
    const vt_device_ops *device;                /* NULL: maps and weights lie in host memory */
    void (*destroy)(const vt_backend *backend); /* NULL: static */
    /* Measures the highest rate of multiply-adds in GFLOP/s (a fraction of a second); NULL:
     * unknown. */
    double (*peak)(const vt_backend *backend, vt_dtype dtype, int threads);
    /* Measures at what rate memory is copied, in GB/s read and written together; NULL: unknown. */
    double (*copy_rate)(const vt_backend *backend, int threads);
};

/* Packs as row-major f32 in host memory: all of the reference, the vectors of the fast CPU side. */
vt_status vt_pack_plain(const vt_allocator *allocator, const vt_row_source *source,
                        vt_weight_data *out, vt_error *error);

extern const vt_backend vt_backend_ref;

/* The fast CPU side for an instruction set; AUTO takes the best that the processor has. */
vt_status vt_backend_cpu(const vt_backend **backend, vt_isa isa, vt_error *error);

/* A GPU: "cuda" or "cuda:N". Loads libvertebra_cuda.so.0, so that programs run where there is no
 * GPU and no driver. VT_ERR_UNSUPPORTED when it is not there, VT_ERR_DEVICE when there is no such
 * GPU. */
vt_status vt_backend_cuda(const vt_backend **backend, const char *device,
                          const vt_allocator *allocator, vt_error *error);

/* Blocks for weights and maps, where the backend computes. */
static inline void *vt_backend_alloc(const vt_backend *backend, const vt_allocator *allocator,
                                     size_t bytes)
{
    return backend->device ? backend->device->alloc(backend, bytes) : vt_alloc(allocator, bytes);
}

static inline void vt_backend_release(const vt_backend *backend, const vt_allocator *allocator,
                                      void *pointer)
{
    if (backend->device && pointer) {
        backend->device->release(backend, pointer);
    } else {
        vt_free(allocator, pointer);
    }
}

/* Helpers for implementations. */
static inline vt_shape vt_exec_shape(const vt_exec *exec, vt_value v)
{
    return exec->program->maps[v.id].shape;
}

static inline void *vt_exec_map(const vt_exec *exec, vt_value v)
{
    return v.id < 0 ? NULL : exec->maps[v.id];
}

/* A vector's elements, or NULL when there is none. */
static inline const float *vt_exec_vector(const vt_exec *exec, vt_weight w)
{
    return w.id > 0 ? exec->weights[w.id].data : NULL;
}

#endif
