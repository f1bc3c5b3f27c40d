/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, streams, graphs and weights of the CUDA backend. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/checked.h"
#include "core/half.h"
#include "cuda/conv_cudnn.h"
#include "cuda/cuda.h"
#include "ops/cuda_entry.h"
#include "ops/plan.h"

/* ---- errors, current device ------------------------------------------------------------------ */

vt_cuda_scope vt_cuda_enter(const vt_backend *backend)
{
    vt_cuda_scope scope = {-1, cudaStreamCaptureModeRelaxed};
    cudaThreadExchangeStreamCaptureMode(&scope.mode);
    cudaGetDevice(&scope.previous);
    if (scope.previous != vt_cuda_of(backend)->device) {
        cudaSetDevice(vt_cuda_of(backend)->device);
    }
    return scope;
}

void vt_cuda_leave(vt_cuda_scope scope)
{
    int current;
    if (scope.previous >= 0 && cudaGetDevice(&current) == cudaSuccess &&
        current != scope.previous) {
        cudaSetDevice(scope.previous);
    }
    cudaThreadExchangeStreamCaptureMode(&scope.mode);
}

static pthread_rwlock_t recordings = PTHREAD_RWLOCK_INITIALIZER;

void vt_cuda_begin_recording(void)
{
    pthread_rwlock_rdlock(&recordings);
}

void vt_cuda_end_recording(void)
{
    pthread_rwlock_unlock(&recordings);
}

void vt_cuda_forbid_recording(void)
{
    pthread_rwlock_wrlock(&recordings);
}

void vt_cuda_allow_recording(void)
{
    pthread_rwlock_unlock(&recordings);
}

vt_status vt_cuda_check(const vt_backend *backend, cudaError_t code, const char *what,
                        vt_error *error)
{
    if (code == cudaSuccess) {
        return VT_OK;
    }
    cudaGetLastError(); /* clears what can be cleared */
    const char *advice = code == cudaErrorNoKernelImageForDevice
                             ? "; rebuild for this GPU: make CUDA_ARCHS=..."
                         : code == cudaErrorMemoryAllocation ? "; use a smaller batch"
                                                             : "";
    return vt_error_set(error, code == cudaErrorMemoryAllocation ? VT_ERR_MEMORY : VT_ERR_DEVICE,
                        "%s: %s: %s%s", backend->name, what, cudaGetErrorString(code), advice);
}

void vt_cuda_note(const vt_exec *exec, const vt_record *record, cudaError_t code)
{
    /* run functions see a const exec; its status is the one field that they may set */
    vt_exec *own = (vt_exec *)(size_t)exec;
    if (code != cudaSuccess && own->status == VT_OK) {
        char what[160];
        snprintf(what, sizeof what, "%s: %s", record->label, vt_op_name(record->kind));
        own->status = vt_cuda_check(exec->backend, code, what, exec->error);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void *device_alloc(const vt_backend *backend, size_t bytes)
{
    void *p = NULL;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError();
        p = NULL;
    }
    vt_cuda_leave(scope);
    return p;
}

static vt_status memory(const vt_backend *backend, size_t *free_bytes, size_t *total_bytes,
                        vt_error *error)
{
    vt_cuda_scope scope = vt_cuda_enter(backend);
    vt_status status = vt_cuda_check(backend, cudaMemGetInfo(free_bytes, total_bytes),
                                     "asking for its free memory", error);
    vt_cuda_leave(scope);
    return status;
}

static void device_release(const vt_backend *backend, void *pointer)
{
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaFree(pointer);
    vt_cuda_leave(scope);
}

/* Rows converted and uploaded a bounded block at a time. */
enum { UPLOAD_ELEMENTS = 1 << 20 };

static void convert_block(const float *in, int64_t count, vt_dtype dtype, void *out)
{
    for (int64_t i = 0; i < count; i++) {
        if (dtype == VT_BF16) {
            ((uint16_t *)out)[i] = vt_to_bf16(in[i]);
        } else if (dtype == VT_F16) {
            ((uint16_t *)out)[i] = vt_to_f16(in[i]);
        } else {
            ((float *)out)[i] = in[i];
        }
    }
}

/* Where the copy of a vector in another type begins: f32, then bf16, then f16. */
static size_t vector_offset(int64_t count, vt_dtype dtype)
{
    size_t wide = ((size_t)count * 4 + 255) & ~(size_t)255;
    size_t half = ((size_t)count * 2 + 255) & ~(size_t)255;
    return dtype == VT_F32 ? 0 : dtype == VT_BF16 ? wide : wide + half;
}

const void *vt_cuda_vector_as(const vt_exec *exec, vt_weight w, vt_dtype dtype)
{
    if (w.id <= 0) {
        return NULL;
    }
    const vt_weight_data *d = &exec->weights[w.id];
    return (const char *)d->data + vector_offset(d->rows * d->cols, dtype);
}

static vt_status upload(const vt_backend *backend, const vt_row_source *source, vt_weight_use use,
                        vt_weight_data *out, float *block, void *converted, vt_error *error)
{
    int64_t most = out->cols < UPLOAD_ELEMENTS ? UPLOAD_ELEMENTS / out->cols : 1;
    vt_status status = VT_OK;
    for (int64_t row = 0; status == VT_OK && row < out->rows; row += most) {
        int64_t rows = out->rows - row < most ? out->rows - row : most, count = rows * out->cols;
        status = source->read(source->user, row, rows, block, error);
        for (int k = 0; status == VT_OK && k < (use == VT_USE_VECTOR ? 3 : 1); k++) {
            static const vt_dtype copies[] = {VT_F32, VT_BF16, VT_F16};
            vt_dtype dtype = use == VT_USE_VECTOR ? copies[k] : out->dtype;
            size_t base = use == VT_USE_VECTOR ? vector_offset(out->rows * out->cols, dtype) : 0;
            size_t size = vt_dtype_size(dtype), at = base + (size_t)(row * out->cols) * size;
            convert_block(block, count, dtype, converted);
            status = vt_cuda_check(backend,
                                   cudaMemcpy((char *)out->data + at, converted,
                                              (size_t)count * size, cudaMemcpyHostToDevice),
                                   "uploading a weight", error);
        }
    }
    return status;
}

static vt_status pack(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error)
{
    size_t count, bytes;
    if (!vt_mul_size((size_t)out->rows, (size_t)out->cols, &count) ||
        !vt_mul_size(count, vt_dtype_size(out->dtype), &bytes) || count > SIZE_MAX / 16) {
        return vt_error_set(error, VT_ERR_LIMIT, "the weight is too large");
    }
    if (use == VT_USE_VECTOR) {
        bytes = vector_offset((int64_t)count, VT_F16) + count * 2;
    }
    size_t block_elements =
        (size_t)out->cols < UPLOAD_ELEMENTS ? UPLOAD_ELEMENTS : (size_t)out->cols;
    block_elements = block_elements < count ? block_elements : count;
    float *block = vt_alloc(allocator, block_elements * sizeof *block);
    void *converted = vt_alloc(allocator, block_elements * sizeof *block);
    out->data = block && converted ? device_alloc(backend, bytes) : NULL;
    vt_status status =
        out->data ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "out of memory for a weight");
    if (status == VT_OK) {
        vt_cuda_scope scope = vt_cuda_enter(backend);
        status = upload(backend, source, use, out, block, converted, error);
        vt_cuda_leave(scope);
    }
    vt_free(allocator, block);
    vt_free(allocator, converted);
    out->bytes = bytes;
    if (status != VT_OK && out->data) {
        device_release(backend, out->data);
        out->data = NULL;
    }
    return status;
}

/* ---- a session's stream ---------------------------------------------------------------------- */

static void close_stream(const vt_backend *backend, void *stream)
{
    vt_cuda_stream *s = stream;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    if (s->own) {
        cudaStreamSynchronize(s->own);
    }
    vt_cuda_forbid_recording();
    if (s->own) {
        cudaStreamDestroy(s->own);
    }
    if (s->blas) {
        cublasLtDestroy(s->blas);
    }
    if (s->begin) {
        cudaEventDestroy(s->begin);
    }
    if (s->end) {
        cudaEventSynchronize(s->end);
        cudaEventDestroy(s->end);
    }
    cudaFree(s->staging);
    vt_cuda_allow_recording();
    vt_cuda_leave(scope);
    vt_free(vt_cuda_of(backend)->allocator, s);
}

static vt_status open_stream(const vt_backend *backend, void **stream, vt_error *error)
{
    const vt_cuda *cuda = vt_cuda_of(backend);
    vt_cuda_stream *s = vt_alloc_zero(cuda->allocator, 1, sizeof *s);
    if (!s) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a stream");
    }
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaError_t code = cudaStreamCreateWithFlags(&s->own, cudaStreamNonBlocking);
    s->stream = s->own;
    code = code == cudaSuccess ? cudaEventCreate(&s->begin) : code;
    code = code == cudaSuccess ? cudaEventCreate(&s->end) : code;
    if (code == cudaSuccess && cublasLtCreate(&s->blas) != CUBLAS_STATUS_SUCCESS) {
        code = cudaErrorInitializationError;
    }
    vt_status status = vt_cuda_check(backend, code, "opening a stream", error);
    vt_cuda_leave(scope);
    if (status != VT_OK) {
        close_stream(backend, s);
        return status;
    }
    *stream = s;
    return VT_OK;
}

static vt_status elapsed(const vt_backend *backend, void *stream, double *seconds, vt_error *error)
{
    vt_cuda_stream *s = stream;
    float milliseconds = 0;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaError_t code = cudaEventSynchronize(s->end);
    code = code == cudaSuccess ? cudaEventElapsedTime(&milliseconds, s->begin, s->end) : code;
    vt_status status = vt_cuda_check(backend, code, "running the network", error);
    vt_cuda_leave(scope);
    *seconds = 1e-3 * (double)milliseconds;
    return status;
}

/* A stream of another GPU would fail later and less clearly. Not for streams that are captured:
 * the question would end the capture. */
static vt_status check_stream(const vt_backend *backend, cudaStream_t stream, vt_error *error)
{
#if CUDART_VERSION >= 12080
    int device = -1;
    cudaError_t code = cudaStreamGetDevice(stream, &device);
    if (code == cudaSuccess && device != vt_cuda_of(backend)->device) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "%s: the stream belongs to cuda:%d",
                            backend->name, device);
    }
    return vt_cuda_check(backend, code, "looking at the caller's stream", error);
#else
    (void)backend, (void)stream, (void)error;
    return VT_OK;
#endif
}

/* Runs of a session follow each other, whichever streams they are on. */
static vt_status wait_for_last(const vt_backend *backend, vt_cuda_stream *s, vt_error *error)
{
    cudaError_t code = cudaStreamGetId(s->stream, &s->id);
    if (code == cudaSuccess && s->last && s->last != s->id) {
        code = cudaStreamWaitEvent(s->stream, s->end, 0);
    }
    return vt_cuda_check(backend, code, "waiting for the last run", error);
}

static vt_status follow(const vt_backend *backend, void *stream, void *const *callers,
                        bool *capturing, vt_error *error)
{
    vt_cuda_stream *s = stream;
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cudaError_t code = cudaSuccess;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    s->stream = callers ? *callers : s->own;
    if (callers) {
        code = cudaStreamIsCapturing(s->stream, &capture);
        *capturing = capture != cudaStreamCaptureStatusNone;
    }
    s->capturing = capture != cudaStreamCaptureStatusNone;
    if (code == cudaSuccess && capture == cudaStreamCaptureStatusInvalidated) {
        code = cudaErrorStreamCaptureInvalidated;
    }
    vt_status status = vt_cuda_check(backend, code, "looking at the caller's stream", error);
    if (status == VT_OK && !s->capturing) { /* a graph cannot wait for what is outside */
        status = callers ? check_stream(backend, s->stream, error) : VT_OK;
        status = status == VT_OK ? wait_for_last(backend, s, error) : status;
    }
    vt_cuda_leave(scope);
    return status;
}

/* Pictures of any strides as a dense NCHW block in `out`. */
static void gather_nchw(const vt_tensor *in, float *out)
{
    const float *data = in->data;
    for (int64_t n = 0; n < in->n; n++) {
        for (int64_t c = 0; c < in->c; c++) {
            for (int64_t y = 0; y < in->h; y++) {
                const float *row = data + n * in->stride_n + c * in->stride_c + y * in->stride_h;
                for (int64_t x = 0; x < in->w; x++) {
                    *out++ = row[x * in->stride_w];
                }
            }
        }
    }
}

static bool is_dense(const vt_tensor *t, vt_tensor as)
{
    return t->stride_n == as.stride_n && t->stride_h == as.stride_h && t->stride_w == as.stride_w &&
           t->stride_c == as.stride_c;
}

static cudaError_t to_input_map(const vt_cuda_stream *s, const vt_tensor *view, const void *src,
                                const vt_map *map, void *dst)
{
    return vt_cuda_to_nhwc(&(vt_cuda_layout){.src = src,
                                             .dst = dst,
                                             .src_dtype = view->dtype,
                                             .dst_dtype = map->dtype,
                                             .shape = map->shape,
                                             .stride_n = view->stride_n,
                                             .stride_h = view->stride_h,
                                             .stride_w = view->stride_w,
                                             .stride_c = view->stride_c},
                           s->stream);
}

/* Memory that the driver knows is copied after the call returns, other memory before. */
static bool is_read_later(const void *host)
{
    struct cudaPointerAttributes at = {0};
    bool known = cudaPointerGetAttributes(&at, host) == cudaSuccess;
    cudaGetLastError();
    return known && at.type != cudaMemoryTypeUnregistered;
}

static vt_status stage(const vt_backend *backend, void *stream, const vt_tensor *input,
                       const vt_map *map, void *dst, vt_error *error)
{
    const vt_allocator *allocator = vt_cuda_of(backend)->allocator;
    vt_cuda_stream *s = stream;
    size_t bytes = (size_t)(input->n * input->h * input->w * input->c) * sizeof(float);
    vt_tensor view = *input;
    float *gathered = NULL;
    bool dense =
        is_dense(input, vt_tensor_nchw(NULL, VT_F32, input->n, input->c, input->h, input->w)) ||
        is_dense(input, vt_tensor_nhwc(NULL, VT_F32, input->n, input->h, input->w, input->c));
    if (!dense) {
        gathered = vt_alloc(allocator, bytes);
        if (!gathered) {
            return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the input");
        }
        gather_nchw(input, gathered);
        view = vt_tensor_nchw(gathered, VT_F32, input->n, input->c, input->h, input->w);
    }
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaError_t code = vt_cuda_grow_staging(s, bytes);
    if (code == cudaSuccess) {
        code = cudaMemcpyAsync(s->staging, view.data, bytes, cudaMemcpyHostToDevice, s->stream);
    }
    if (code == cudaSuccess) {
        code = to_input_map(s, &view, s->staging, map, dst);
    }
    if (gathered || is_read_later(view.data)) {
        cudaError_t waited = cudaStreamSynchronize(s->stream);
        code = code == cudaSuccess ? waited : code;
    }
    vt_free(allocator, gathered);
    vt_status status = vt_cuda_check(backend, code, "copying the input", error);
    vt_cuda_leave(scope);
    return status;
}

/* Whether this GPU can read the caller's input; *data is then where. */
static vt_status check_input(const vt_backend *backend, const vt_tensor *input, const void **data,
                             vt_error *error)
{
    struct cudaPointerAttributes at = {0};
    cudaError_t code = cudaPointerGetAttributes(&at, input->data);
    *data = at.devicePointer;
    if (code == cudaSuccess && at.type == cudaMemoryTypeDevice &&
        at.device != vt_cuda_of(backend)->device) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "%s: the input lies on cuda:%d", backend->name,
                            at.device);
    }
    if (code == cudaSuccess && !at.devicePointer) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "%s: the input is not memory of a GPU; vt_session_forward takes the "
                            "host's",
                            backend->name);
    }
    if (code == cudaSuccess && (size_t)at.devicePointer % vt_dtype_size(input->dtype)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "%s: the input is not aligned to its elements",
                            backend->name);
    }
    return vt_cuda_check(backend, code, "looking at the input", error);
}

static vt_status take(const vt_backend *backend, void *stream, const vt_tensor *input,
                      const vt_map *map, void *dst, vt_error *error)
{
    const void *data;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    vt_status status = check_input(backend, input, &data, error);
    if (status == VT_OK) {
        status = vt_cuda_check(backend, to_input_map(stream, input, data, map, dst),
                               "reading the input", error);
    }
    vt_cuda_leave(scope);
    return status;
}

static vt_status fetch(const vt_backend *backend, void *stream, const vt_map *map, const void *src,
                       float *dst, vt_error *error)
{
    vt_cuda_stream *s = stream;
    vt_shape shape = map->shape;
    int64_t count = shape.n * shape.h * shape.w * shape.c;
    size_t size = vt_dtype_size(map->dtype);
    /* half types land in the upper half of dst and are widened from the front */
    char *land = (char *)dst + (size_t)count * (sizeof *dst - size);
    vt_cuda_scope scope = vt_cuda_enter(backend);
    /* on the session's own stream: the caller's may be gone */
    cudaError_t code = cudaStreamWaitEvent(s->own, s->end, 0);
    code = code == cudaSuccess
               ? cudaMemcpyAsync(land, src, (size_t)count * size, cudaMemcpyDeviceToHost, s->own)
               : code;
    code = code == cudaSuccess ? cudaStreamSynchronize(s->own) : code;
    vt_status status = vt_cuda_check(backend, code, "running the network", error);
    vt_cuda_leave(scope);
    for (int64_t i = 0; map->dtype != VT_F32 && i < count; i++) {
        uint16_t h;
        memcpy(&h, land + 2 * i, sizeof h);
        dst[i] = map->dtype == VT_BF16 ? vt_from_bf16(h) : vt_from_f16(h);
    }
    return status;
}

/* ---- running a plan -------------------------------------------------------------------------- */

/* The records from `first` up to `end`. */
static void run_records(const struct vt_plan *plan, vt_exec *exec, size_t first, size_t end)
{
    for (size_t i = first; i < end && exec->status == VT_OK; i++) {
        exec->choice = plan->choices[i];
        plan->impls[i]->run(exec, &plan->program.records[i]);
    }
}

/* The first run of a plan is recorded as a graph; later ones replay it. The relaxed mode lets other
 * sessions allocate and copy meanwhile, and the library load its kernels. The session's own stream
 * is recorded: the caller's may be one that cannot be. */
static cudaError_t record_graph(const struct vt_plan *plan, vt_exec *exec, vt_cuda_stream *s,
                                size_t first, size_t end, cudaGraphExec_t *graph_exec)
{
    cudaGraph_t graph = NULL;
    cudaStream_t stream = s->stream;
    vt_cuda_begin_recording();
    cudaError_t code = cudaStreamBeginCapture(s->own, cudaStreamCaptureModeRelaxed);
    if (code == cudaSuccess) {
        s->stream = s->own;
        run_records(plan, exec, first, end);
        s->stream = stream;
        code = cudaStreamEndCapture(s->own, &graph);
    }
    vt_cuda_end_recording();
    if (code == cudaSuccess && exec->status == VT_OK) {
        code = cudaGraphInstantiate(graph_exec, graph, 0);
    }
    if (graph) {
        cudaGraphDestroy(graph);
    }
    return code;
}

static cudaError_t launch_graph(vt_cuda_stream *s, cudaGraphExec_t graph_exec)
{
    cudaError_t code = cudaEventRecord(s->begin, s->stream);
    code = code == cudaSuccess ? cudaGraphLaunch(graph_exec, s->stream) : code;
    return code == cudaSuccess ? cudaEventRecord(s->end, s->stream) : code;
}

/* One record after the other, each timed. It is a graph of its own, so that what a library does on
 * the host before it starts a kernel does not count: it is no part of a run of the network. */
static vt_status run_timed(const struct vt_plan *plan, vt_exec *exec, vt_cuda_stream *s,
                           vt_error *error)
{
    cudaError_t code = cudaSuccess;
    for (size_t i = 0; i < plan->program.record_count; i++) {
        float milliseconds = 0;
        cudaGraphExec_t graph_exec = NULL;
        code = record_graph(plan, exec, s, i, i + 1, &graph_exec);
        if (code == cudaSuccess && exec->status == VT_OK) {
            code = cudaGraphUpload(graph_exec, s->stream);
            code = code == cudaSuccess ? launch_graph(s, graph_exec) : code;
            code = code == cudaSuccess ? cudaEventSynchronize(s->end) : code;
            code =
                code == cudaSuccess ? cudaEventElapsedTime(&milliseconds, s->begin, s->end) : code;
        }
        if (graph_exec) {
            cudaGraphExecDestroy(graph_exec);
        }
        if (code != cudaSuccess || exec->status != VT_OK) {
            break;
        }
        exec->seconds[i] = 1e-3 * (double)milliseconds;
    }
    return exec->status != VT_OK ? exec->status
                                 : vt_cuda_check(exec->backend, code, "timing the network", error);
}

static vt_status run(const vt_backend *backend, const struct vt_plan *plan, vt_exec *exec,
                     void **replay, vt_error *error)
{
    vt_cuda_stream *s = exec->stream;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    vt_exec inner = *exec;
    cudaError_t code = cudaSuccess;
    if (s->capturing) { /* into the caller's graph, without a graph or events of our own */
        run_records(plan, &inner, 0, plan->program.record_count);
    } else if (exec->seconds) {
        inner.status = run_timed(plan, &inner, s, error);
    } else {
        cudaGraphExec_t graph_exec = *replay;
        code = graph_exec
                   ? cudaSuccess
                   : record_graph(plan, &inner, s, 0, plan->program.record_count, &graph_exec);
        if (code == cudaSuccess && inner.status == VT_OK) {
            *replay = graph_exec;
            code = launch_graph(s, graph_exec);
        }
    }
    if (!s->capturing) {
        s->last = s->id;
    }
    vt_status status = inner.status != VT_OK
                           ? inner.status
                           : vt_cuda_check(backend, code, "starting the network", error);
    vt_cuda_leave(scope);
    return status;
}

static vt_status run_after(const vt_backend *backend, void *stream, void *other, vt_error *error)
{
    const vt_cuda_stream *s = stream, *o = other;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    vt_status status = vt_cuda_check(backend, cudaStreamWaitEvent(s->stream, o->end, 0),
                                     "waiting for another session", error);
    vt_cuda_leave(scope);
    return status;
}

static void drop(const vt_backend *backend, void *stream, void *replay)
{
    vt_cuda_stream *s = stream;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    cudaEventSynchronize(s->end); /* runs wait for the ones before them */
    cudaGraphExecDestroy(replay);
    vt_cuda_leave(scope);
}

/* ---- opening --------------------------------------------------------------------------------- */

static const char *refuse_dtype(vt_dtype dtype)
{
    return dtype == VT_F32 || dtype == VT_BF16 || dtype == VT_F16
               ? NULL
               : "GPUs compute in f32, bf16 or f16";
}

static void destroy(const vt_backend *backend)
{
    vt_cuda *cuda = (vt_cuda *)(size_t)backend;
    vt_cuda_scope scope = vt_cuda_enter(backend);
    vt_cuda_forbid_recording();
    vt_cuda_tune_close(cuda);
    vt_cuda_dnn_close(cuda);
    if (cuda->blas) {
        cublasLtDestroy(cuda->blas);
    }
    vt_cuda_allow_recording();
    vt_cuda_leave(scope);
    vt_allocator allocator = cuda->allocator_copy;
    vt_free(&allocator, cuda);
}

static const vt_device_ops device_ops = {.alloc = device_alloc,
                                         .release = device_release,
                                         .open = open_stream,
                                         .close = close_stream,
                                         .follow = follow,
                                         .stage = stage,
                                         .take = take,
                                         .fetch = fetch,
                                         .run = run,
                                         .run_after = run_after,
                                         .drop = drop,
                                         .elapsed = elapsed,
                                         .memory = memory,
                                         .host_alloc = vt_cuda_host_alloc,
                                         .host_release = vt_cuda_host_release,
                                         .stage_pictures = vt_cuda_stage_pictures};

static const vt_impl *const linear_impls[] = {
    &vt_impl_cuda_linear_small, &vt_impl_cuda_linear_wgmma, &vt_impl_cuda_linear, NULL};
static const vt_impl *const conv2d_impls[] = {&vt_impl_cuda_conv_few, &vt_impl_cuda_conv2d_cudnn,
                                              &vt_impl_cuda_conv2d, NULL};
static const vt_impl *const norm_impls[] = {&vt_impl_cuda_norm, NULL};
static const vt_impl *const attention_impls[] = {
    &vt_impl_cuda_attention, &vt_impl_cuda_attention_box, &vt_impl_cuda_attention_plain, NULL};
static const vt_impl *const add_impls[] = {&vt_impl_cuda_add, NULL};
static const vt_impl *const space_to_depth_impls[] = {&vt_impl_cuda_space_to_depth, NULL};
static const vt_impl *const mean_pool_impls[] = {&vt_impl_cuda_mean_pool, NULL};
static const vt_impl *const depthwise_impls[] = {&vt_impl_cuda_depthwise, NULL};
static const vt_impl *const affine_impls[] = {&vt_impl_cuda_affine, NULL};
static const vt_impl *const mul_impls[] = {&vt_impl_cuda_mul, NULL};
static const vt_impl *const concat_impls[] = {&vt_impl_cuda_concat, NULL};
static const vt_impl *const pool_impls[] = {&vt_impl_cuda_pool, NULL};
static const vt_impl *const linear_attention_impls[] = {&vt_impl_cuda_linear_attention_mma,
                                                        &vt_impl_cuda_linear_attention, NULL};
static const vt_impl *const channel_attention_impls[] = {&vt_impl_cuda_channel_attention_mma,
                                                         &vt_impl_cuda_channel_attention, NULL};
static const vt_impl *const deform_patches_impls[] = {&vt_impl_cuda_deform_patches, NULL};
static const vt_impl *const mlp_impls[] = {&vt_impl_cuda_mlp, NULL};

static void describe(vt_cuda *cuda)
{
    struct cudaDeviceProp p;
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (cudaGetDeviceProperties(&p, cuda->device) == cudaSuccess) {
        snprintf(cuda->name, sizeof cuda->name, "cuda:%d (%.48s, sm_%d%d, driver CUDA %d.%d)",
                 cuda->device, p.name, p.major, p.minor, driver / 1000, driver % 1000 / 10);
    }
}

__attribute__((visibility("default"))) vt_cuda_open_fn VT_CUDA_OPEN;

vt_status VT_CUDA_OPEN(const vt_backend **backend, int index, const vt_allocator *allocator,
                       vt_error *error)
{
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0) {
        cudaGetLastError();
        const char *why = code == cudaErrorInsufficientDriver
                              ? "there is no NVIDIA driver, or one too old for this library"
                          : code == cudaSuccess ? "the driver lists none"
                                                : cudaGetErrorString(code);
        return vt_error_set(error, VT_ERR_DEVICE, "no GPU can be used (%s); use --device cpu", why);
    }
    if (index >= count) {
        return vt_error_set(error, VT_ERR_DEVICE, "there is no cuda:%d: %d GPU%s found", index,
                            count, count == 1 ? "" : "s");
    }
    vt_cuda *cuda = vt_alloc_zero(allocator, 1, sizeof *cuda);
    if (!cuda) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the backend");
    }
    cuda->allocator_copy = *allocator;
    cuda->allocator = &cuda->allocator_copy;
    cuda->device = index;
    snprintf(cuda->name, sizeof cuda->name, "cuda:%d", index);
    cuda->base = (vt_backend){.name = cuda->name,
                              .impls = {[VT_OP_LINEAR] = linear_impls,
                                        [VT_OP_CONV2D] = conv2d_impls,
                                        [VT_OP_NORM] = norm_impls,
                                        [VT_OP_ATTENTION] = attention_impls,
                                        [VT_OP_ADD] = add_impls,
                                        [VT_OP_SPACE_TO_DEPTH] = space_to_depth_impls,
                                        [VT_OP_MEAN_POOL] = mean_pool_impls,
                                        [VT_OP_DEPTHWISE] = depthwise_impls,
                                        [VT_OP_AFFINE] = affine_impls,
                                        [VT_OP_MUL] = mul_impls,
                                        [VT_OP_CONCAT] = concat_impls,
                                        [VT_OP_POOL] = pool_impls,
                                        [VT_OP_LINEAR_ATTENTION] = linear_attention_impls,
                                        [VT_OP_CHANNEL_ATTENTION] = channel_attention_impls,
                                        [VT_OP_DEFORM_PATCHES] = deform_patches_impls,
                                        [VT_OP_MLP] = mlp_impls},
                              .refuse_dtype = refuse_dtype,
                              .pack = pack,
                              .half_maps = true,
                              .peak = vt_cuda_peak,
                              .copy_rate = vt_cuda_copy_rate,
                              .device = &device_ops,
                              .destroy = destroy};
    vt_cuda_scope scope = vt_cuda_enter(&cuda->base);
    code = cudaSetDevice(index);
    if (code == cudaSuccess) {
        code = cudaFree(NULL); /* makes the context, so that a bad driver is known now */
    }
    if (code == cudaSuccess && cublasLtCreate(&cuda->blas) != CUBLAS_STATUS_SUCCESS) {
        code = cudaErrorInitializationError;
    }
    vt_status status = vt_cuda_check(&cuda->base, code, "opening the GPU", error);
    status = status == VT_OK ? vt_cuda_tune_open(cuda, error) : status;
    status = status == VT_OK ? vt_cuda_dnn_open(cuda, error) : status;
    describe(cuda);
    cuda->has_wgmma = status == VT_OK && vt_cuda_has_wgmma(index);
    vt_cuda_leave(scope);
    if (status != VT_OK) {
        destroy(&cuda->base);
        return status;
    }
    *backend = &cuda->base;
    return VT_OK;
}
