/* SPDX-License-Identifier: Apache-2.0 */
/* Dense convolution through cuDNN's graphs of operations, the only file that knows the library. It
 * is opened when the first convolution is planned; where it is missing, or was when this was built,
 * the plain kernel serves.
 *
 * Maps are NHWC and weights [out, ky, kx, in], as the library calls NHWC and KRSC; groups and any
 * padding are its own. Of what it proposes for a shape the fastest is kept, timed once per shape;
 * where results must not depend on time, the first that fits.
 * Sums are f32, never TF32; nothing is taken that multiplies otherwise than by the matrix of
 * patches (Winograd's and Fourier's ways lose digits, and range in f16), that two runs may tell
 * apart, or that has to be compiled first. Bias and the ReLU behind it are part of the product,
 * other activations a kernel behind it. */
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
    X(BackendCreateDescriptor)                                                                     \
    X(BackendDestroyDescriptor)                                                                    \
    X(BackendSetAttribute)                                                                         \
    X(BackendGetAttribute)                                                                         \
    X(BackendFinalize)                                                                             \
    X(BackendExecute)

typedef struct library {
#define X(name) __typeof__(&cudnn##name) name;
    FUNCTIONS(X)
#undef X
} library;

typedef cudnnBackendDescriptor_t piece;

/* Descriptions that end together. */
enum { MOST_PIECES = 16 };
typedef struct pieces {
    const library *api;
    piece item[MOST_PIECES];
    int count;
    bool bad; /* one could not be made */
} pieces;

/* One convolution: everything that its best algorithm depends on. */
enum { PROBLEM_FIELDS = 21 };
typedef struct problem {
    int64_t field[PROBLEM_FIELDS];
} problem;

/* How it is done. */
typedef struct answer {
    problem of;
    vt_dtype dtype; /* of weights and result */
    piece plan;     /* NULL: the library has none */
    size_t workspace;
    pieces operations; /* what the plan is for */
} answer;

struct vt_cuda_dnn {
    pthread_mutex_t lock;
    bool tried;
    const char *missing; /* why there is no library, or NULL */
    library api;
    cudnnHandle_t handle; /* of all sessions: used under the lock, on the stream of the moment */
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

static void clear_pieces(pieces *p)
{
    while (p->count > 0) {
        p->api->BackendDestroyDescriptor(p->item[--p->count]);
    }
}

void vt_cuda_dnn_close(vt_cuda *cuda)
{
    struct vt_cuda_dnn *dnn = cuda->dnn;
    if (!dnn) {
        return;
    }
    for (size_t i = 0; i < dnn->answer_count; i++) {
        if (dnn->answers[i].plan) {
            dnn->api.BackendDestroyDescriptor(dnn->answers[i].plan);
        }
        clear_pieces(&dnn->answers[i].operations);
    }
    if (dnn->handle) {
        dnn->api.Destroy(dnn->handle);
    }
    pthread_mutex_destroy(&dnn->lock);
    vt_free(cuda->allocator, dnn->answers);
    vt_free(cuda->allocator, dnn);
}

/* The lock is held. The library stays loaded: its threads may outlive the context. */
static void load(struct vt_cuda_dnn *dnn)
{
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
    } else if (dnn->api.Create(&dnn->handle) != CUDNN_STATUS_SUCCESS) {
        dnn->missing = "cuDNN does not start here";
        dnn->handle = NULL;
    }
}

static void load_once(struct vt_cuda_dnn *dnn)
{
    pthread_mutex_lock(&dnn->lock);
    bool tried = dnn->tried;
    pthread_mutex_unlock(&dnn->lock);
    if (!tried) {
        vt_cuda_forbid_recording();
        pthread_mutex_lock(&dnn->lock);
        if (!dnn->tried) {
            load(dnn);
        }
        pthread_mutex_unlock(&dnn->lock);
        vt_cuda_allow_recording();
    }
}

/* ---- descriptions ---------------------------------------------------------------------------- */

static piece make(pieces *p, cudnnBackendDescriptorType_t type)
{
    piece made = NULL;
    if (p->bad || p->count == MOST_PIECES ||
        p->api->BackendCreateDescriptor(type, &made) != CUDNN_STATUS_SUCCESS) {
        p->bad = true;
        return NULL;
    }
    p->item[p->count++] = made;
    return made;
}

static void set(pieces *p, piece of, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *value)
{
    p->bad =
        p->bad || p->api->BackendSetAttribute(of, name, type, count, value) != CUDNN_STATUS_SUCCESS;
}

static void set_piece(pieces *p, piece of, cudnnBackendAttributeName_t name, piece value)
{
    set(p, of, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static piece finished(pieces *p, piece of)
{
    p->bad = p->bad || p->api->BackendFinalize(of) != CUDNN_STATUS_SUCCESS;
    return of;
}

/* What the plan's operands are called; a VALUE lies nowhere. */
enum { SRC = 1, WEIGHT, BIAS, DST, SUM_VALUE, BIASED_VALUE };

static piece tensor(pieces *p, int64_t name, cudnnDataType_t type, vt_shape s)
{
    piece t = make(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    int64_t size[] = {s.n, s.c, s.h, s.w}, stride[] = {s.h * s.w * s.c, 1, s.w * s.c, s.c};
    int64_t alignment = 16;
    bool nowhere = name > DST;
    set(p, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name);
    set(p, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(p, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size);
    set(p, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    set(p, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(p, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &nowhere);
    return finished(p, t);
}

/* y = x + b, or without b: y = max(x, 0) */
static piece pointwise(pieces *p, piece x, piece b, piece y)
{
    cudnnPointwiseMode_t mode = b ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_RELU_FWD;
    cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    piece how = make(p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(p, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(p, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    finished(p, how);
    piece o = make(p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_piece(p, o, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_piece(p, o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b) {
        set_piece(p, o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    }
    set_piece(p, o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return finished(p, o);
}

static piece product(pieces *p, const vt_conv2d *c, piece src, piece weight, piece dst)
{
    cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    int64_t axes = 2, dilation[] = {c->dilation_h, c->dilation_w};
    int64_t stride[] = {c->stride_h, c->stride_w}, before[] = {c->pad_top, c->pad_left};
    int64_t after[] = {c->pad_bottom, c->pad_right};
    float one = 1.0f, zero = 0.0f;
    piece how = make(p, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(p, how, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    set(p, how, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(p, how, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(p, how, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(p, how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(p, how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(p, how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    finished(p, how);
    piece o = make(p, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_piece(p, o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, how);
    set_piece(p, o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, src);
    set_piece(p, o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weight);
    set_piece(p, o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, dst);
    set(p, o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    set(p, o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    return finished(p, o);
}

static bool has_relu(const vt_conv2d *c)
{
    return c->bias.id > 0 && c->act == VT_ACT_RELU;
}

static vt_shape weight_shape(vt_shape src, vt_shape dst, const vt_conv2d *c)
{
    return (vt_shape){dst.c, c->kernel_h, c->kernel_w, src.c / (c->groups > 1 ? c->groups : 1)};
}

/* dst = act(convolution + bias), as far as the library does it. */
static piece describe(pieces *p, vt_dtype dtype, vt_shape s, vt_shape d, const vt_conv2d *c,
                      cudnnHandle_t handle)
{
    cudnnDataType_t type = dtype == VT_BF16  ? CUDNN_DATA_BFLOAT16
                           : dtype == VT_F16 ? CUDNN_DATA_HALF
                                             : CUDNN_DATA_FLOAT;
    piece operations[3];
    int64_t count = 0;
    piece src = tensor(p, SRC, type, s), dst = tensor(p, DST, type, d);
    piece weight = tensor(p, WEIGHT, type, weight_shape(s, d, c));
    piece sum = c->bias.id > 0 ? tensor(p, SUM_VALUE, CUDNN_DATA_FLOAT, d) : dst;
    operations[count++] = product(p, c, src, weight, sum);
    if (c->bias.id > 0) {
        piece bias = tensor(p, BIAS, type, (vt_shape){1, 1, 1, d.c});
        piece biased = has_relu(c) ? tensor(p, BIASED_VALUE, CUDNN_DATA_FLOAT, d) : dst;
        operations[count++] = pointwise(p, sum, bias, biased);
        if (has_relu(c)) {
            operations[count++] = pointwise(p, biased, NULL, dst);
        }
    }
    piece graph = make(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    return finished(p, graph);
}

/* The lock is held. */
static bool execute(const struct vt_cuda_dnn *dnn, const answer *a, const void *src,
                    const void *weight, const void *bias, void *dst, void *workspace,
                    cudaStream_t stream)
{
    pieces p = {.api = &dnn->api};
    int64_t names[] = {SRC, WEIGHT, DST, BIAS};
    const void *at[] = {src, weight, dst, bias};
    piece operands = make(&p, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&p, operands, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, bias ? 4 : 3, names);
    set(&p, operands, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, bias ? 4 : 3, at);
    set(&p, operands, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finished(&p, operands);
    bool good = !p.bad && dnn->api.SetStream(dnn->handle, stream) == CUDNN_STATUS_SUCCESS &&
                dnn->api.BackendExecute(dnn->handle, a->plan, operands) == CUDNN_STATUS_SUCCESS;
    clear_pieces(&p);
    return good;
}

/* ---- proposals ------------------------------------------------------------------------------- */

/* Whether the library says nothing about this proposal that the top of the file excludes. */
static bool is_fit(const library *api, piece config, vt_dtype dtype)
{
    cudnnBackendNumericalNote_t numeric[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t one = 0, numerics = 0, behaviours = 0;
    pieces p = {.api = api};
    piece engine = make(&p, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    bool good =
        engine &&
        api->BackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &one, &engine) == CUDNN_STATUS_SUCCESS &&
        api->BackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                 &numerics, numeric) == CUDNN_STATUS_SUCCESS &&
        api->BackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                 CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &behaviours,
                                 behaviour) == CUDNN_STATUS_SUCCESS &&
        numerics <= CUDNN_NUMERICAL_NOTE_TYPE_COUNT && behaviours <= CUDNN_BEHAVIOR_NOTE_TYPE_COUNT;
    for (int64_t i = 0; good && i < numerics; i++) {
        good = numeric[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP ||
               (numeric[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && dtype != VT_F32);
    }
    for (int64_t i = 0; good && i < behaviours; i++) {
        good = behaviour[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    }
    clear_pieces(&p);
    return good;
}

/* The plan of a proposal whose workspace fits, or NULL. */
static piece plan_of(const struct vt_cuda_dnn *dnn, piece config, size_t *workspace)
{
    int64_t one = 0, bytes = 0;
    pieces p = {.api = &dnn->api};
    piece plan = make(&p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(&p, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn->handle);
    set_piece(&p, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    finished(&p, plan);
    if (p.bad ||
        dnn->api.BackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                     CUDNN_TYPE_INT64, 1, &one, &bytes) != CUDNN_STATUS_SUCCESS ||
        bytes > VT_CUDA_WORKSPACE) {
        clear_pieces(&p);
        return NULL;
    }
    *workspace = (size_t)bytes;
    return plan;
}

/* A trial (without a block: none) and where its operands begin; the weight comes first. */
enum { TRIAL_RUNS = 5 };
typedef struct trial {
    vt_cuda_trial base;
    size_t src, dst, bias, workspace;
} trial;

static int64_t elements(vt_shape s)
{
    return s.n * s.h * s.w * s.c;
}

static void trial_open(trial *t, vt_dtype dtype, vt_shape s, vt_shape d, const vt_conv2d *c)
{
    size_t bytes = 0;
    vt_cuda_trial_place(&bytes, elements(weight_shape(s, d, c)), dtype);
    t->src = vt_cuda_trial_place(&bytes, elements(s), dtype);
    t->dst = vt_cuda_trial_place(&bytes, elements(d), dtype);
    t->bias = vt_cuda_trial_place(&bytes, d.c, dtype);
    t->workspace = bytes;
    vt_cuda_trial_open(&t->base, bytes);
}

static bool run_trial(const struct vt_cuda_dnn *dnn, const trial *t, const answer *a, bool has_bias)
{
    return execute(dnn, a, t->base.block + t->src, t->base.block,
                   has_bias ? t->base.block + t->bias : NULL, t->base.block + t->dst,
                   t->base.block + t->workspace, t->base.stream);
}

/* Milliseconds of TRIAL_RUNS runs as a graph, as a network runs it; negative: it does not work, or
 * its first run, loading included, says that it is far from `best`. */
static float time_answer(const struct vt_cuda_dnn *dnn, const trial *t, const answer *a,
                         bool has_bias, float best)
{
    const float loading = 3.0f, far = 4.0f;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t runs = NULL;
    float least = -1.0f;
    bool good = cudaEventRecord(t->base.begin, t->base.stream) == cudaSuccess &&
                run_trial(dnn, t, a, has_bias);
    float first = good ? vt_cuda_trial_elapsed(&t->base) : -1.0f;
    if (first < 0.0f || (best >= 0.0f && first > loading + far * best / TRIAL_RUNS) ||
        cudaStreamBeginCapture(t->base.stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) {
        return -1.0f;
    }
    for (int i = 0; good && i < TRIAL_RUNS; i++) {
        good = run_trial(dnn, t, a, has_bias);
    }
    good = cudaStreamEndCapture(t->base.stream, &graph) == cudaSuccess && good &&
           cudaGraphInstantiate(&runs, graph, 0) == cudaSuccess;
    for (int i = 0; good && i < 2; i++) {
        good = cudaEventRecord(t->base.begin, t->base.stream) == cudaSuccess &&
               cudaGraphLaunch(runs, t->base.stream) == cudaSuccess;
        float ms = good ? vt_cuda_trial_elapsed(&t->base) : -1.0f;
        good = ms >= 0.0f;
        least = least < 0.0f || ms < least ? ms : least;
    }
    if (runs) {
        cudaGraphExecDestroy(runs);
    }
    if (graph) {
        cudaGraphDestroy(graph);
    }
    return good ? least : -1.0f;
}

/* The fastest of a list of proposals; without trials the first that works. */
static void choose(const struct vt_cuda_dnn *dnn, const piece *configs, int64_t count,
                   const trial *t, bool has_bias, answer *a)
{
    enum { MOST_TRIALS = 12 };
    float best = -1.0f;
    for (int64_t i = 0, tried = 0; i < count && tried < MOST_TRIALS && (t->base.block || !a->plan);
         i++) {
        answer other = *a;
        other.plan = is_fit(&dnn->api, configs[i], a->dtype)
                         ? plan_of(dnn, configs[i], &other.workspace)
                         : NULL;
        if (!other.plan) {
            continue;
        }
        float time = t->base.block ? time_answer(dnn, t, &other, has_bias, best) : 0.0f;
        tried++;
        if (time >= 0.0f && (best < 0.0f || time < best)) {
            piece last = a->plan;
            best = time;
            *a = other;
            other.plan = last;
        }
        if (other.plan) {
            dnn->api.BackendDestroyDescriptor(other.plan);
        }
    }
}

/* What the library proposes for `graph` in one of its ways. */
static void consult(const struct vt_cuda_dnn *dnn, piece graph, cudnnBackendHeurMode_t mode,
                    const trial *t, bool has_bias, answer *a)
{
    enum { MOST_CONFIGS = 48 };
    piece configs[MOST_CONFIGS];
    int made = 0;
    int64_t count = 0;
    pieces p = {.api = &dnn->api};
    piece heuristics = make(&p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_piece(&p, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(&p, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finished(&p, heuristics);
    while (!p.bad && made < MOST_CONFIGS &&
           dnn->api.BackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[made]) ==
               CUDNN_STATUS_SUCCESS) {
        made++;
    }
    if (made > 0 && dnn->api.BackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &count,
                                                 configs) == CUDNN_STATUS_SUCCESS) {
        choose(dnn, configs, count < made ? count : made, t, has_bias, a);
    }
    while (made > 0) {
        dnn->api.BackendDestroyDescriptor(configs[--made]);
    }
    clear_pieces(&p);
}

static vt_shape map_shape(const vt_program *program, vt_value v)
{
    return program->maps[v.id].shape;
}

static problem problem_of(const vt_plan_input *in, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape s = map_shape(in->program, r->source[0]), d = map_shape(in->program, r->dst);
    return (problem){{s.n,
                      s.h,
                      s.w,
                      s.c,
                      d.h,
                      d.w,
                      d.c,
                      p->kernel_h,
                      p->kernel_w,
                      p->stride_h,
                      p->stride_w,
                      p->dilation_h,
                      p->dilation_w,
                      p->pad_top,
                      p->pad_left,
                      p->pad_bottom,
                      p->pad_right,
                      p->groups > 1 ? p->groups : 1,
                      (int64_t)in->dtype,
                      p->bias.id > 0,
                      has_relu(p)}};
}

/* Operations under which the library's first proposal is taken, as in tune.c: runs in a row hide
 * what a short product costs alone. */
#define SHORT 1e9

/* The lock is held. */
static answer ask(const struct vt_cuda_dnn *dnn, const vt_plan_input *in, const vt_record *r)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    const vt_conv2d *c = &r->as.conv2d;
    vt_shape s = map_shape(in->program, r->source[0]), d = map_shape(in->program, r->dst);
    double flops =
        2.0 * (double)elements(d) * (double)elements(weight_shape(s, d, c)) / (double)d.c;
    answer a = {.of = problem_of(in, r), .dtype = in->dtype, .operations = {.api = &dnn->api}};
    trial t = {0};
    piece graph = describe(&a.operations, in->dtype, s, d, c, dnn->handle);
    if (a.operations.bad) {
        return a;
    }
    if (flops >= SHORT && !in->reproducible) {
        trial_open(&t, in->dtype, s, d, c);
    }
    for (int i = 0; i < 4 && !a.plan; i++) {
        if (i == 2) { /* where trials fail, the first proposal may still do */
            vt_cuda_trial_close(&t.base);
        }
        consult(dnn, graph, modes[i % 2], &t, c->bias.id > 0, &a);
    }
    vt_cuda_trial_close(&t.base);
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
    load_once(dnn);
    vt_cuda_begin_recording(); /* proposals are timed as graphs */
    pthread_mutex_lock(&dnn->lock);
    const char *why = dnn->missing;
    for (size_t i = 0; !why && !known && i < dnn->answer_count; i++) {
        known = memcmp(&dnn->answers[i].of, &wanted, sizeof wanted) == 0;
        *out = known ? dnn->answers[i] : *out;
    }
    if (!why && !known) {
        if (vt_array_reserve(cuda->allocator, (void **)&dnn->answers, &dnn->answer_capacity,
                             dnn->answer_count, sizeof *dnn->answers)) {
            *out = dnn->answers[dnn->answer_count++] = ask(dnn, in, r);
        } else {
            why = "out of memory for cuDNN's plan";
        }
    }
    if (!why && !out->plan) {
        why = "cuDNN has no kernel for this shape";
    }
    pthread_mutex_unlock(&dnn->lock);
    vt_cuda_end_recording();
    vt_cuda_leave(scope);
    return why;
}

/* ---- the implementation ---------------------------------------------------------------------- */

static const char *conv_refuse(const vt_plan_input *in, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape s = map_shape(in->program, r->source[0]), d = map_shape(in->program, r->dst);
    answer a = {0};
    if (vt_map_dtype(in->program, r->dst) != in->dtype) {
        return "the result is of another type than the weights";
    }
    if (elements(s) > INT32_MAX || elements(d) > INT32_MAX ||
        elements(weight_shape(s, d, p)) > INT32_MAX) {
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
    *copy = a; /* its pieces stay the backend's */
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

static void conv_run(const vt_exec *exec, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    const answer *a = exec->choice;
    struct vt_cuda_dnn *dnn = vt_cuda_of(exec->backend)->dnn;
    vt_dtype src_dtype = vt_map_dtype(exec->program, r->source[0]);
    const void *src = vt_exec_map(exec, r->source[0]);
    const void *weight = p->groups > 1 ? vt_cuda_vector_as(exec, p->weight, a->dtype)
                                       : exec->weights[p->weight.id].data;
    void *dst = vt_exec_map(exec, r->dst);
    size_t converted = converted_bytes(exec->program, r, a->dtype);
    if (converted) {
        vt_cuda_note(exec, r,
                     finish(exec, src, src_dtype, exec->scratch, a->dtype,
                            vt_exec_shape(exec, r->source[0]), VT_ACT_NONE));
        src = exec->scratch;
    }
    pthread_mutex_lock(&dnn->lock);
    bool good = execute(dnn, a, src, weight, vt_cuda_vector_as(exec, p->bias, a->dtype), dst,
                        (char *)exec->scratch + converted, vt_cuda_stream_of(exec)->stream);
    pthread_mutex_unlock(&dnn->lock);
    if (!good) {
        vt_cuda_note(exec, r, cudaErrorLaunchFailure);
    } else if (p->act != VT_ACT_NONE && !has_relu(p)) {
        vt_cuda_note(
            exec, r,
            finish(exec, dst, a->dtype, dst, a->dtype, vt_exec_shape(exec, r->dst), p->act));
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
