/* SPDX-License-Identifier: Apache-2.0 */
/* Which algorithm of cuBLASLt a product runs with. The library proposes several by heuristics;
 * their times differ for the thin products of vision networks, so each proposal is run a few times
 * on this GPU and the fastest is kept for every plan of the context. Where results must not depend
 * on time, the first proposal is taken. */
#include <pthread.h>

#include "cuda/cuda.h"

typedef struct tuned {
    vt_cuda_product product;
    cublasLtMatmulAlgo_t algo;
} tuned;

struct vt_cuda_tuned {
    pthread_mutex_t lock;
    tuned *items;
    size_t count, capacity;
};

vt_status vt_cuda_tune_open(vt_cuda *cuda, vt_error *error)
{
    cuda->tuned = vt_alloc_zero(cuda->allocator, 1, sizeof *cuda->tuned);
    if (!cuda->tuned || pthread_mutex_init(&cuda->tuned->lock, NULL) != 0) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the backend");
    }
    return VT_OK;
}

void vt_cuda_tune_close(vt_cuda *cuda)
{
    if (cuda->tuned) {
        pthread_mutex_destroy(&cuda->tuned->lock);
        vt_free(cuda->allocator, cuda->tuned->items);
        vt_free(cuda->allocator, cuda->tuned);
    }
}

/* ---- the library's descriptions -------------------------------------------------------------- */

void vt_cuda_matmul_clear(vt_cuda_matmul *m)
{
    if (m->desc) {
        cublasLtMatmulDescDestroy(m->desc);
    }
    if (m->weight) {
        cublasLtMatrixLayoutDestroy(m->weight);
    }
    if (m->src) {
        cublasLtMatrixLayoutDestroy(m->src);
    }
    if (m->dst) {
        cublasLtMatrixLayoutDestroy(m->dst);
    }
}

static cudaDataType_t library_type(vt_dtype dtype)
{
    return dtype == VT_BF16 ? CUDA_R_16BF : dtype == VT_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static bool has_bias(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS ||
           epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
}

bool vt_cuda_matmul_make(vt_cuda_matmul *m, const vt_cuda_product *p, const void *bias)
{
    cublasOperation_t transpose = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = (cublasLtEpilogue_t)p->epilogue;
    uint64_t cols = (uint64_t)p->cols, rows = (uint64_t)p->rows, depth = (uint64_t)p->depth;
    cudaDataType_t in = library_type(p->in), out = library_type(p->out);
    *m = (vt_cuda_matmul){0};
    bool good = cublasLtMatmulDescCreate(&m->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == 0 &&
                cublasLtMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                               sizeof transpose) == 0 &&
                cublasLtMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                               sizeof epilogue) == 0 &&
                cublasLtMatrixLayoutCreate(&m->weight, in, depth, cols, p->depth) == 0 &&
                cublasLtMatrixLayoutCreate(&m->src, in, depth, rows, p->depth) == 0 &&
                cublasLtMatrixLayoutCreate(&m->dst, out, cols, rows, p->cols) == 0;
    if (good && has_bias(epilogue)) {
        good = cublasLtMatmulDescSetAttribute(m->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                              sizeof bias) == 0;
    }
    if (!good) {
        vt_cuda_matmul_clear(m);
    }
    return good;
}

/* ---- timing ---------------------------------------------------------------------------------- */

enum { PROPOSALS = 12, RUNS = 5 };

/* Operations under which the library's first proposal is taken: runs in a row hide what a short
 * product costs alone (split sums need a second kernel), so their times mislead. The bias is left
 * NULL for them: the library's first proposal is then the faster one. */
#define SHORT 1e9

size_t vt_cuda_trial_place(size_t *at, int64_t elements, vt_dtype dtype)
{
    size_t here = *at;
    *at += ((size_t)elements * vt_dtype_size(dtype) + 255) & ~(size_t)255;
    return here;
}

bool vt_cuda_trial_open(vt_cuda_trial *t, size_t bytes)
{
    *t = (vt_cuda_trial){0};
    /* any bits will do, but no NaN: 0x11 bytes are small numbers in every type */
    if (cudaMalloc((void **)&t->block, bytes + VT_CUDA_WORKSPACE) == cudaSuccess &&
        cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking) == cudaSuccess &&
        cudaEventCreate(&t->begin) == cudaSuccess && cudaEventCreate(&t->end) == cudaSuccess &&
        cudaMemsetAsync(t->block, 0x11, bytes, t->stream) == cudaSuccess) {
        return true;
    }
    vt_cuda_trial_close(t);
    return false;
}

void vt_cuda_trial_close(vt_cuda_trial *t)
{
    if (t->stream) {
        cudaStreamSynchronize(t->stream);
        cudaStreamDestroy(t->stream);
    }
    if (t->begin) {
        cudaEventDestroy(t->begin);
    }
    if (t->end) {
        cudaEventDestroy(t->end);
    }
    cudaFree(t->block);
    cudaGetLastError(); /* what failed is no error of what comes next */
    *t = (vt_cuda_trial){0};
}

float vt_cuda_trial_elapsed(const vt_cuda_trial *t)
{
    float milliseconds = -1.0f;
    bool good = cudaEventRecord(t->end, t->stream) == cudaSuccess &&
                cudaEventSynchronize(t->end) == cudaSuccess &&
                cudaEventElapsedTime(&milliseconds, t->begin, t->end) == cudaSuccess;
    return good ? milliseconds : -1.0f;
}

/* Where a trial's operands lie in its block; the weight comes first. */
typedef struct operands {
    size_t src, dst, residual, bias, workspace;
} operands;

static operands operands_of(const vt_cuda_product *p)
{
    operands o;
    size_t bytes = 0;
    vt_cuda_trial_place(&bytes, p->cols * p->depth, p->in);
    o.src = vt_cuda_trial_place(&bytes, p->rows * p->depth, p->in);
    o.dst = vt_cuda_trial_place(&bytes, p->rows * p->cols, p->out);
    o.residual = p->residual ? vt_cuda_trial_place(&bytes, p->rows * p->cols, p->out) : o.dst;
    o.bias = vt_cuda_trial_place(&bytes, p->cols, VT_F32);
    o.workspace = bytes;
    return o;
}

/* Milliseconds of RUNS runs, or a negative number when the proposal does not work. */
static float time_algo(const vt_cuda *cuda, const vt_cuda_product *p, const vt_cuda_matmul *m,
                       const vt_cuda_trial *t, const cublasLtMatmulAlgo_t *algo)
{
    float one = 1.0f, beta = p->residual ? 1.0f : 0.0f;
    operands o = operands_of(p);
    for (int i = -1; i < RUNS; i++) { /* the first run loads the kernel */
        if (i == 0 && cudaEventRecord(t->begin, t->stream) != cudaSuccess) {
            return -1.0f;
        }
        if (cublasLtMatmul(cuda->blas, m->desc, &one, t->block, m->weight, t->block + o.src, m->src,
                           &beta, t->block + o.residual, m->dst, t->block + o.dst, m->dst, algo,
                           t->block + o.workspace, VT_CUDA_WORKSPACE,
                           t->stream) != CUBLAS_STATUS_SUCCESS) {
            return -1.0f;
        }
    }
    return vt_cuda_trial_elapsed(t);
}

/* Split sums may be joined in f32 only: in the type of a half-precision result they lose digits,
 * and partial sums may overflow where their sum does not. */
static int propose(const vt_cuda *cuda, const vt_cuda_matmul *m, int most,
                   cublasLtMatmulHeuristicResult_t *results)
{
    uint32_t joins = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreference_t preference;
    size_t workspace = VT_CUDA_WORKSPACE;
    int found = 0;
    if (cublasLtMatmulPreferenceCreate(&preference) != 0) {
        return 0;
    }
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace, sizeof workspace);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                         &joins, sizeof joins);
    if (cublasLtMatmulAlgoGetHeuristic(cuda->blas, m->desc, m->weight, m->src, m->dst, m->dst,
                                       preference, most, results, &found) != 0) {
        found = 0;
    }
    cublasLtMatmulPreferenceDestroy(preference);
    return found;
}

/* Without memory for a trial the first proposal is taken as it is. */
static bool find_algo(const vt_cuda *cuda, const vt_cuda_product *p, cublasLtMatmulAlgo_t *algo)
{
    vt_cuda_matmul m;
    vt_cuda_trial t = {0};
    operands o = operands_of(p);
    cublasLtMatmulHeuristicResult_t results[PROPOSALS];
    bool is_short = 2.0 * (double)p->rows * (double)p->cols * (double)p->depth < SHORT;
    bool can_try = p->timed && !is_short && vt_cuda_trial_open(&t, o.workspace);
    bool good = vt_cuda_matmul_make(&m, p, can_try ? t.block + o.bias : NULL);
    int found = good ? propose(cuda, &m, can_try ? PROPOSALS : 1, results) : 0;
    float best = -1.0f;
    if (found > 0) {
        *algo = results[0].algo;
    }
    for (int i = 0; can_try && i < found; i++) {
        float time = time_algo(cuda, p, &m, &t, &results[i].algo);
        if (time > 0.0f && (best < 0.0f || time < best)) {
            best = time;
            *algo = results[i].algo;
        }
    }
    if (good) {
        vt_cuda_matmul_clear(&m);
    }
    vt_cuda_trial_close(&t);
    return found > 0;
}

static bool same(const vt_cuda_product *a, const vt_cuda_product *b)
{
    return a->rows == b->rows && a->cols == b->cols && a->depth == b->depth && a->in == b->in &&
           a->out == b->out && a->epilogue == b->epilogue && a->residual == b->residual &&
           a->timed == b->timed;
}

vt_status vt_cuda_tune(const vt_cuda *cuda, const vt_cuda_product *product,
                       cublasLtMatmulAlgo_t *algo, vt_error *error)
{
    struct vt_cuda_tuned *t = cuda->tuned;
    bool known = false;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->count && !known; i++) {
        known = same(&t->items[i].product, product);
        if (known) {
            *algo = t->items[i].algo;
        }
    }
    bool good = known || find_algo(cuda, product, algo);
    if (good && !known &&
        vt_array_reserve(cuda->allocator, (void **)&t->items, &t->capacity, t->count,
                         sizeof *t->items)) {
        t->items[t->count++] = (tuned){*product, *algo};
    }
    pthread_mutex_unlock(&t->lock);
    return good ? VT_OK
                : vt_error_set(error, VT_ERR_DEVICE,
                               "cuBLASLt has no product for %lld x %lld x %lld",
                               (long long)product->rows, (long long)product->cols,
                               (long long)product->depth);
}
