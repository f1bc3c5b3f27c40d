/* SPDX-License-Identifier: Apache-2.0 */
/* Dense convolution through cuDNN, the only file that knows it. The library is opened when the
 * first convolution is planned; where it is missing, or was when this was built, the plain kernel
 * serves.
 *
 * Maps are NHWC and weights [out, ky, kx, in], as the library calls NHWC and KRSC. Sums are f32,
 * never TF32; only algorithms that multiply the matrix of patches are taken: Winograd's and
 * Fourier's lose digits, and range in f16. Bias and ReLU are part of the product, other activations
 * a kernel behind it. Padding is the same on both sides for this library: a record whose result
 * would differ is refused. */
#include "cuda/conv_cudnn.h"

#if __has_include(<cudnn.h>)

#include <cudnn.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* ---- the library ----------------------------------------------------------------------------- */

#define FUNCTIONS(X)                                                                               \
    X(Create)                                                                                      \
    X(Destroy)                                                                                     \
    X(SetStream)                                                                                   \
    X(CreateTensorDescriptor)                                                                      \
    X(SetTensor4dDescriptor)                                                                       \
    X(DestroyTensorDescriptor)                                                                     \
    X(CreateFilterDescriptor)                                                                      \
    X(SetFilter4dDescriptor)                                                                       \
    X(DestroyFilterDescriptor)                                                                     \
    X(CreateConvolutionDescriptor)                                                                 \
    X(SetConvolution2dDescriptor)                                                                  \
    X(SetConvolutionMathType)                                                                      \
    X(DestroyConvolutionDescriptor)                                                                \
    X(CreateActivationDescriptor)                                                                  \
    X(SetActivationDescriptor)                                                                     \
    X(DestroyActivationDescriptor)                                                                 \
    X(GetConvolutionForwardAlgorithm_v7)                                                           \
    X(GetConvolutionForwardWorkspaceSize)                                                          \
    X(ConvolutionForward)                                                                          \
    X(ConvolutionBiasActivationForward)

typedef struct library {
#define X(name) __typeof__(&cudnn##name) name;
    FUNCTIONS(X)
#undef X
} library;

/* One convolution: everything that its algorithm depends on. */
enum { PROBLEM_FIELDS = 18 };
typedef struct problem {
    int64_t field[PROBLEM_FIELDS];
} problem;

/* What the library proposes for it. */
typedef struct answer {
    problem of;
    bool found;
    cudnnConvolutionFwdAlgo_t algo;
    cudnnMathType_t math;
    size_t workspace;
} answer;

struct vt_cuda_dnn {
    pthread_mutex_t lock;
    bool tried;
    const char *missing; /* why there is no library, or NULL */
    library api;
    cudnnHandle_t asked; /* for questions */
    /* One handle per session, made while nothing is being recorded: as many as there are streams,
     * taken by a stream when it first convolves. */
    cudnnHandle_t *spare;
    size_t spare_count, spare_capacity, handles, streams;
    answer *answers;
    size_t answer_count, answer_capacity;
};

vt_status vt_cuda_dnn_open(vt_cuda *cuda, vt_error *error)
{
    cuda->dnn = vt_alloc_zero(cuda->allocator, 1, sizeof *cuda->dnn);
    if (!cuda->dnn || pthread_mutex_init(&cuda->dnn->lock, NULL) != 0) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the backend");
    }
    return VT_OK;
}

void vt_cuda_dnn_close(vt_cuda *cuda)
{
    struct vt_cuda_dnn *dnn = cuda->dnn;
    if (!dnn) {
        return;
    }
    for (size_t i = 0; i < dnn->spare_count; i++) {
        dnn->api.Destroy(dnn->spare[i]);
    }
    if (dnn->asked) {
        dnn->api.Destroy(dnn->asked);
    }
    pthread_mutex_destroy(&dnn->lock);
    vt_free(cuda->allocator, dnn->spare);
    vt_free(cuda->allocator, dnn->answers);
    vt_free(cuda->allocator, dnn);
}

void vt_cuda_dnn_stream_opened(const vt_cuda *cuda)
{
    pthread_mutex_lock(&cuda->dnn->lock);
    cuda->dnn->streams++;
    pthread_mutex_unlock(&cuda->dnn->lock);
}

void vt_cuda_dnn_stream_closed(const vt_cuda *cuda, void *handle)
{
    struct vt_cuda_dnn *dnn = cuda->dnn;
    pthread_mutex_lock(&dnn->lock);
    dnn->streams--;
    if (handle) {
        dnn->api.Destroy(handle);
        dnn->handles--;
    }
    pthread_mutex_unlock(&dnn->lock);
}

/* The lock is held. The library stays loaded: its threads may outlive the context. */
static void load(struct vt_cuda_dnn *dnn)
{
    if (dnn->tried) {
        return;
    }
    dnn->tried = true;
    void *so = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    bool complete = so != NULL;
#define X(name)                                                                                    \
    dnn->api.name = so ? (__typeof__(dnn->api.name))(size_t)dlsym(so, "cudnn" #name) : NULL;       \
    complete = complete && dnn->api.name;
    FUNCTIONS(X)
#undef X
    if (!so) {
        dnn->missing = "libcudnn.so.9 is not installed";
    } else if (!complete) {
        dnn->missing = "libcudnn.so.9 lacks functions of cuDNN 9";
    } else if (dnn->api.Create(&dnn->asked) != CUDNN_STATUS_SUCCESS) {
        dnn->missing = "cuDNN does not start here";
        dnn->asked = NULL;
    }
}

/* The lock is held. */
static bool make_handles(const vt_cuda *cuda)
{
    struct vt_cuda_dnn *dnn = cuda->dnn;
    while (dnn->handles < dnn->streams) {
        if (!vt_array_reserve(cuda->allocator, (void **)&dnn->spare, &dnn->spare_capacity,
                              dnn->spare_count, sizeof *dnn->spare) ||
            dnn->api.Create(&dnn->spare[dnn->spare_count]) != CUDNN_STATUS_SUCCESS) {
            return false;
        }
        dnn->spare_count++;
        dnn->handles++;
    }
    return true;
}

/* The handle of the session that runs, on the stream it runs on, or NULL. */
static cudnnHandle_t handle_of(const vt_exec *exec)
{
    struct vt_cuda_dnn *dnn = vt_cuda_of(exec->backend)->dnn;
    vt_cuda_stream *s = exec->stream;
    pthread_mutex_lock(&dnn->lock);
    if (!s->dnn && dnn->spare_count > 0) {
        s->dnn = dnn->spare[--dnn->spare_count];
    }
    pthread_mutex_unlock(&dnn->lock);
    bool good = s->dnn && dnn->api.SetStream(s->dnn, s->stream) == CUDNN_STATUS_SUCCESS;
    return good ? s->dnn : NULL;
}

/* ---- descriptions ---------------------------------------------------------------------------- */

typedef struct descriptors {
    cudnnTensorDescriptor_t src, dst, bias;
    cudnnFilterDescriptor_t weight;
    cudnnConvolutionDescriptor_t conv;
    cudnnActivationDescriptor_t act;
} descriptors;

static void clear_descriptors(const library *api, descriptors *d)
{
    api->DestroyTensorDescriptor(d->src);
    api->DestroyTensorDescriptor(d->dst);
    api->DestroyTensorDescriptor(d->bias);
    api->DestroyFilterDescriptor(d->weight);
    api->DestroyConvolutionDescriptor(d->conv);
    api->DestroyActivationDescriptor(d->act);
}

static cudnnDataType_t library_type(vt_dtype dtype)
{
    return dtype == VT_BF16  ? CUDNN_DATA_BFLOAT16
           : dtype == VT_F16 ? CUDNN_DATA_HALF
                             : CUDNN_DATA_FLOAT;
}

static int set_tensor(const library *api, cudnnTensorDescriptor_t t, vt_dtype dtype, vt_shape s)
{
    return (int)api->SetTensor4dDescriptor(t, CUDNN_TENSOR_NHWC, library_type(dtype), (int)s.n,
                                           (int)s.c, (int)s.h, (int)s.w);
}

/* True, or nothing is left to clear. */
static bool make_descriptors(const library *api, descriptors *d, vt_dtype dtype, vt_shape src,
                             vt_shape dst, const vt_conv2d *p, cudnnMathType_t math)
{
    *d = (descriptors){0};
    int bad =
        (int)api->CreateTensorDescriptor(&d->src) | (int)api->CreateTensorDescriptor(&d->dst) |
        (int)api->CreateTensorDescriptor(&d->bias) | (int)api->CreateFilterDescriptor(&d->weight) |
        (int)api->CreateConvolutionDescriptor(&d->conv) |
        (int)api->CreateActivationDescriptor(&d->act);
    bad = bad ? bad
              : set_tensor(api, d->src, dtype, src) | set_tensor(api, d->dst, dtype, dst) |
                    set_tensor(api, d->bias, dtype, (vt_shape){1, 1, 1, dst.c}) |
                    (int)api->SetFilter4dDescriptor(d->weight, library_type(dtype),
                                                    CUDNN_TENSOR_NHWC, (int)dst.c, (int)src.c,
                                                    p->kernel_h, p->kernel_w) |
                    (int)api->SetConvolution2dDescriptor(
                        d->conv, p->pad_top, p->pad_left, p->stride_h, p->stride_w, p->dilation_h,
                        p->dilation_w, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) |
                    (int)api->SetConvolutionMathType(d->conv, math) |
                    (int)api->SetActivationDescriptor(
                        d->act,
                        p->act == VT_ACT_RELU ? CUDNN_ACTIVATION_RELU : CUDNN_ACTIVATION_IDENTITY,
                        CUDNN_PROPAGATE_NAN, 0.0);
    if (bad) {
        clear_descriptors(api, d);
    }
    return bad == 0;
}

/* ---- questions ------------------------------------------------------------------------------- */

static vt_shape map_shape(const vt_program *program, vt_value v)
{
    return program->maps[v.id].shape;
}

static problem problem_of(const vt_plan_input *in, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape s = map_shape(in->program, r->source[0]), d = map_shape(in->program, r->dst);
    return (problem){{s.n, s.h, s.w, s.c, d.h, d.w, d.c, p->kernel_h, p->kernel_w, p->stride_h,
                      p->stride_w, p->dilation_h, p->dilation_w, p->pad_top, p->pad_left,
                      (int64_t)in->dtype, p->bias.id > 0, p->act == VT_ACT_RELU}};
}

/* Whether bias (and ReLU) are part of the product: without a ReLU the library wants one algorithm
 * for that. */
static bool fits(const vt_conv2d *p, cudnnConvolutionFwdAlgo_t algo)
{
    return algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM ||
           (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM &&
            (p->bias.id <= 0 || p->act == VT_ACT_RELU));
}

/* The lock is held. */
static answer ask(struct vt_cuda_dnn *dnn, const vt_plan_input *in, const vt_record *r)
{
    enum { MOST = 16 };
    cudnnConvolutionFwdAlgoPerf_t proposals[MOST];
    const vt_conv2d *p = &r->as.conv2d;
    answer a = {.of = problem_of(in, r)};
    descriptors d;
    int count = 0;
    cudnnMathType_t math = in->dtype == VT_F32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
    if (!make_descriptors(&dnn->api, &d, in->dtype, map_shape(in->program, r->source[0]),
                          map_shape(in->program, r->dst), p, math)) {
        return a;
    }
    if (dnn->api.GetConvolutionForwardAlgorithm_v7(dnn->asked, d.src, d.weight, d.conv, d.dst, MOST,
                                                   &count, proposals) != CUDNN_STATUS_SUCCESS) {
        count = 0;
    }
    for (int i = 0; i < count && !a.found; i++) {
        bool good = proposals[i].status == CUDNN_STATUS_SUCCESS && fits(p, proposals[i].algo) &&
                    proposals[i].determinism == CUDNN_DETERMINISTIC &&
                    (in->dtype != VT_F32 || proposals[i].mathType == CUDNN_FMA_MATH);
        if (good &&
            dnn->api.SetConvolutionMathType(d.conv, proposals[i].mathType) ==
                CUDNN_STATUS_SUCCESS &&
            dnn->api.GetConvolutionForwardWorkspaceSize(dnn->asked, d.src, d.weight, d.conv, d.dst,
                                                        proposals[i].algo,
                                                        &a.workspace) == CUDNN_STATUS_SUCCESS &&
            a.workspace <= VT_CUDA_WORKSPACE) {
            a.found = true;
            a.algo = proposals[i].algo;
            a.math = proposals[i].mathType;
        }
    }
    clear_descriptors(&dnn->api, &d);
    return a;
}

/* NULL and the answer, or the reason why there is none. */
static const char *find(const vt_plan_input *in, const vt_record *r, answer *out)
{
    const vt_cuda *cuda = vt_cuda_of(in->backend);
    struct vt_cuda_dnn *dnn = cuda->dnn;
    problem wanted = problem_of(in, r);
    bool known = false;
    vt_cuda_scope scope = vt_cuda_enter(in->backend);
    pthread_mutex_lock(&dnn->lock);
    load(dnn);
    const char *why = dnn->missing;
    for (size_t i = 0; !why && !known && i < dnn->answer_count; i++) {
        known = memcmp(&dnn->answers[i].of, &wanted, sizeof wanted) == 0;
        *out = known ? dnn->answers[i] : *out;
    }
    if (!why && !known) {
        *out = ask(dnn, in, r);
        if (vt_array_reserve(cuda->allocator, (void **)&dnn->answers, &dnn->answer_capacity,
                             dnn->answer_count, sizeof *dnn->answers)) {
            dnn->answers[dnn->answer_count++] = *out;
        }
    }
    if (!why) {
        why = !out->found           ? "cuDNN has no kernel for this shape"
              : !make_handles(cuda) ? "cuDNN gives no handle"
                                    : NULL;
    }
    pthread_mutex_unlock(&dnn->lock);
    vt_cuda_leave(scope);
    return why;
}

/* ---- the implementation ---------------------------------------------------------------------- */

/* What padding of `pad` on both sides makes of an axis. */
static int64_t even_extent(int64_t size, int64_t pad, int kernel, int dilation, int stride)
{
    return (size + 2 * pad - (int64_t)dilation * (kernel - 1) - 1) / stride + 1;
}

static int64_t elements(vt_shape s)
{
    return s.n * s.h * s.w * s.c;
}

static const char *conv_refuse(const vt_plan_input *in, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape s = map_shape(in->program, r->source[0]), d = map_shape(in->program, r->dst);
    answer a = {0};
    if (p->groups > 1) {
        return "it has groups";
    }
    if (vt_map_dtype(in->program, r->dst) != in->dtype) {
        return "the result is of another type than the weights";
    }
    if (even_extent(s.h, p->pad_top, p->kernel_h, p->dilation_h, p->stride_h) != d.h ||
        even_extent(s.w, p->pad_left, p->kernel_w, p->dilation_w, p->stride_w) != d.w) {
        return "the padding differs between the sides";
    }
    if (elements(s) > INT32_MAX || elements(d) > INT32_MAX ||
        d.c * p->kernel_h * p->kernel_w * s.c > INT32_MAX) {
        return "a map is beyond 2^31 elements";
    }
    return find(in, r, &a);
}

/* Bytes of the source in the type of the weights, in front of the workspace. */
static size_t converted_bytes(const vt_program *program, const vt_record *r, vt_dtype dtype)
{
    bool converts = vt_map_dtype(program, r->source[0]) != dtype;
    size_t bytes = (size_t)elements(map_shape(program, r->source[0])) * vt_dtype_size(dtype);
    return converts ? (bytes + 255) & ~(size_t)255 : 0;
}

static size_t conv_scratch(const vt_plan_input *in, const vt_record *r)
{
    answer a = {0};
    return find(in, r, &a) ? 0 : converted_bytes(in->program, r, in->dtype) + a.workspace;
}

static vt_status conv_choose(const vt_plan_input *in, const vt_record *r,
                             const vt_allocator *allocator, void **choice, vt_error *error)
{
    answer a = {0}, *copy = vt_alloc(allocator, sizeof *copy);
    if (!copy) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a plan");
    }
    *choice = copy;
    const char *why = find(in, r, &a);
    *copy = a;
    return why ? vt_error_set(error, VT_ERR_DEVICE, "conv2d: %s", why) : VT_OK;
}

/* dst = act(src), both of any type; in place is fine */
static cudaError_t finish(const vt_exec *exec, const void *src, vt_dtype src_dtype, void *dst,
                          vt_dtype dst_dtype, vt_shape s, vt_activation act)
{
    return vt_cuda_finish_rows(&(vt_cuda_finish){.src = src,
                                                 .dst = dst,
                                                 .src_dtype = src_dtype,
                                                 .dst_dtype = dst_dtype,
                                                 .rows = s.n * s.h * s.w,
                                                 .cols = s.c,
                                                 .act = act},
                               vt_cuda_stream_of(exec)->stream);
}

/* Convolution, with the bias and its ReLU if there is one. */
static bool multiply(const vt_exec *exec, const vt_record *r, const void *src, char *workspace)
{
    const library *api = &vt_cuda_of(exec->backend)->dnn->api;
    const vt_conv2d *p = &r->as.conv2d;
    const answer *a = exec->choice;
    const vt_weight_data *weight = &exec->weights[p->weight.id];
    const void *bias = vt_cuda_vector_as(exec, p->bias, weight->dtype);
    cudnnHandle_t handle = handle_of(exec);
    void *dst = vt_exec_map(exec, r->dst);
    float one = 1.0f, zero = 0.0f;
    descriptors d;
    if (!handle || !make_descriptors(api, &d, weight->dtype, vt_exec_shape(exec, r->source[0]),
                                     vt_exec_shape(exec, r->dst), p, a->math)) {
        return false;
    }
    cudnnStatus_t status =
        bias ? api->ConvolutionBiasActivationForward(
                   handle, &one, d.src, src, d.weight, weight->data, d.conv, a->algo, workspace,
                   a->workspace, &zero, d.dst, dst, d.bias, bias, d.act, d.dst, dst)
             : api->ConvolutionForward(handle, &one, d.src, src, d.weight, weight->data, d.conv,
                                       a->algo, workspace, a->workspace, &zero, d.dst, dst);
    clear_descriptors(api, &d);
    return status == CUDNN_STATUS_SUCCESS;
}

static void conv_run(const vt_exec *exec, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_dtype src_dtype = vt_map_dtype(exec->program, r->source[0]);
    vt_dtype dtype = exec->weights[p->weight.id].dtype;
    const void *src = vt_exec_map(exec, r->source[0]);
    size_t converted = converted_bytes(exec->program, r, dtype);
    if (converted) {
        vt_cuda_note(exec, r,
                     finish(exec, src, src_dtype, exec->scratch, dtype,
                            vt_exec_shape(exec, r->source[0]), VT_ACT_NONE));
        src = exec->scratch;
    }
    if (!multiply(exec, r, src, (char *)exec->scratch + converted)) {
        vt_cuda_note(exec, r, cudaErrorLaunchFailure);
        return;
    }
    bool fused = p->act == VT_ACT_NONE || (p->act == VT_ACT_RELU && p->bias.id > 0);
    if (!fused) {
        void *dst = vt_exec_map(exec, r->dst);
        vt_cuda_note(exec, r,
                     finish(exec, dst, dtype, dst, dtype, vt_exec_shape(exec, r->dst), p->act));
    }
}

const vt_impl vt_impl_cuda_conv2d_cudnn = {.name = "cudnn",
                                           .refuse = conv_refuse,
                                           .scratch = conv_scratch,
                                           .run = conv_run,
                                           .choose = conv_choose};

#else /* built without the library's header */

vt_status vt_cuda_dnn_open(vt_cuda *cuda, vt_error *error)
{
    (void)cuda;
    (void)error;
    return VT_OK;
}

void vt_cuda_dnn_close(vt_cuda *cuda)
{
    (void)cuda;
}

void vt_cuda_dnn_stream_opened(const vt_cuda *cuda)
{
    (void)cuda;
}

void vt_cuda_dnn_stream_closed(const vt_cuda *cuda, void *handle)
{
    (void)cuda;
    (void)handle;
}

static const char *conv_refuse(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    (void)r;
    return "built without cudnn.h";
}

static void conv_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_note(exec, r, cudaErrorNotSupported);
}

const vt_impl vt_impl_cuda_conv2d_cudnn = {.name = "cudnn", .refuse = conv_refuse, .run = conv_run};

#endif
