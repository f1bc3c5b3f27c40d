/* SPDX-License-Identifier: Apache-2.0 */
/* linear on the GPU: cuBLASLt with bias, tanh GELU and residual in its epilogue; what it cannot do
 * (norms, patches, erf GELU in f32, other activations) runs before or after in kernels of our own.
 *
 * Row-major dst[M, N] = src[M, K] weight[N, K]^T is, for the column-major library, dst^T = weight
 * (transposed) x src^T with leading dimensions K, K, N. */
#include <string.h>

#include "cuda/cuda.h"

enum { LINE = 256 };

/* What is decided once per plan. */
typedef struct choice {
    cublasLtMatmulAlgo_t algo;
    int64_t rows, cols, depth;
    vt_dtype in, product, out; /* operands, result of the product, destination */
    bool gathers;              /* the operand is written to scratch first */
    bool finishes;             /* activation, norm or residual come in a kernel behind */
    bool residual_in_product;
    vt_activation act_in_product;
    size_t product_at, workspace_at, bytes; /* in the scratch */
} choice;

static size_t align_up(size_t bytes)
{
    return (bytes + LINE - 1) & ~(size_t)(LINE - 1);
}

static choice describe(const vt_plan_input *in, const vt_record *r)
{
    const vt_linear *p = &r->as.linear;
    vt_shape d = in->program->maps[r->dst.id].shape;
    choice c = {.rows = d.n * d.h * d.w, .cols = d.c, .depth = in->weights[p->weight.id].cols};
    bool half = in->dtype != VT_F32;
    c.in = in->dtype;
    c.out = vt_map_dtype(in->program, r->dst);
    c.gathers = p->norm_place == VT_NORM_INPUT || p->patch > 1 ||
                vt_map_dtype(in->program, r->source[0]) != c.in;
    bool has_residual = r->source[1].id >= 0 && !p->gated; /* a factor comes last, in gate() */
    bool norm_out = p->norm_place == VT_NORM_OUTPUT;
    /* within a rounding of a half type, but not of f32; and where a kernel behind adds the residual
     * to the activation, that kernel computes the right one at no cost */
    bool tanh_for_erf = half && c.out != VT_F32 && (norm_out || !has_residual);
    bool tanh_ok = p->act == VT_ACT_GELU_TANH || (tanh_for_erf && p->act == VT_ACT_GELU);
    c.act_in_product = tanh_ok                 ? VT_ACT_GELU_TANH
                       : p->act == VT_ACT_RELU ? VT_ACT_RELU
                                               : VT_ACT_NONE;
    bool act_left = p->act != VT_ACT_NONE && c.act_in_product == VT_ACT_NONE;
    c.residual_in_product = has_residual && p->act == VT_ACT_NONE && !norm_out &&
                            vt_map_dtype(in->program, r->source[1]) == c.out;
    c.finishes = act_left || norm_out || (has_residual && !c.residual_in_product);
    /* what a norm or an activation still works on stays f32 */
    c.product = c.finishes ? VT_F32 : c.out;
    size_t at = c.gathers ? align_up((size_t)(c.rows * c.depth) * vt_dtype_size(c.in)) : 0;
    c.product_at = at;
    at += c.finishes ? align_up((size_t)(c.rows * c.cols) * sizeof(float)) : 0;
    c.workspace_at = at;
    c.bytes = at + VT_CUDA_WORKSPACE;
    return c;
}

static size_t linear_scratch(const vt_plan_input *in, const vt_record *r)
{
    return describe(in, r).bytes;
}

static vt_cuda_product product_of(const choice *c, bool bias)
{
    cublasLtEpilogue_t epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (c->act_in_product == VT_ACT_GELU_TANH) {
        epilogue = bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    } else if (c->act_in_product == VT_ACT_RELU) {
        epilogue = bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    }
    return (vt_cuda_product){.rows = c->rows,
                             .cols = c->cols,
                             .depth = c->depth,
                             .in = c->in,
                             .out = c->product,
                             .epilogue = (int)epilogue,
                             .residual = c->residual_in_product};
}

static vt_status linear_choose(const vt_plan_input *in, const vt_record *r,
                               const vt_allocator *allocator, void **out, vt_error *error)
{
    choice *c = vt_alloc(allocator, sizeof *c);
    if (!c) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a plan");
    }
    *c = describe(in, r);
    *out = c;
    vt_cuda_product product = product_of(c, r->as.linear.bias.id > 0);
    product.timed = !in->reproducible;
    vt_cuda_scope scope = vt_cuda_enter(in->backend);
    vt_status status = vt_cuda_tune(vt_cuda_of(in->backend), &product, &c->algo, error);
    vt_cuda_leave(scope);
    return status;
}

/* The operand as the product wants it: patches, norm, type. */
static cudaError_t gather(const vt_exec *exec, const vt_record *r, const choice *c)
{
    const vt_linear *p = &r->as.linear;
    vt_dtype src = vt_map_dtype(exec->program, r->source[0]);
    bool norm = p->norm_place == VT_NORM_INPUT;
    const float *scale = norm ? vt_exec_vector(exec, p->norm.scale) : NULL;
    const float *shift = norm ? vt_exec_vector(exec, p->norm.shift) : NULL;
    if (p->patch == 1 && norm) {
        return vt_cuda_norm_rows(&(vt_cuda_norm){.src = vt_exec_map(exec, r->source[0]),
                                                 .dst = exec->scratch,
                                                 .src_dtype = src,
                                                 .dst_dtype = c->in,
                                                 .rows = c->rows,
                                                 .cols = c->depth,
                                                 .scale = scale,
                                                 .shift = shift,
                                                 .eps = p->norm.eps},
                                 vt_cuda_stream_of(exec)->stream);
    }
    return vt_cuda_gather_patches(&(vt_cuda_patches){.src = vt_exec_map(exec, r->source[0]),
                                                     .dst = exec->scratch,
                                                     .src_dtype = src,
                                                     .dst_dtype = c->in,
                                                     .shape = vt_exec_shape(exec, r->source[0]),
                                                     .patch = p->patch,
                                                     .scale = scale,
                                                     .shift = shift,
                                                     .eps = norm ? p->norm.eps : -1.0f},
                                  vt_cuda_stream_of(exec)->stream);
}

/* Times the map that is a factor, in place. */
static cudaError_t gate(const vt_exec *exec, const vt_record *r, const choice *c)
{
    void *dst = vt_exec_map(exec, r->dst);
    return vt_cuda_scale_rows(&(vt_cuda_scale){.a = dst,
                                               .b = vt_exec_map(exec, r->source[1]),
                                               .dst = dst,
                                               .a_dtype = c->out,
                                               .b_dtype = vt_map_dtype(exec->program, r->source[1]),
                                               .dst_dtype = c->out,
                                               .rows = c->rows,
                                               .cols = c->cols,
                                               .share = 1},
                              vt_cuda_stream_of(exec)->stream);
}

/* Activation, norm and residual that the product could not take. */
static cudaError_t finish(const vt_exec *exec, const vt_record *r, const choice *c, void *result)
{
    const vt_linear *p = &r->as.linear;
    bool norm = p->norm_place == VT_NORM_OUTPUT;
    bool act = p->act != VT_ACT_NONE && c->act_in_product == VT_ACT_NONE;
    const void *residual = p->gated ? NULL : vt_exec_map(exec, r->source[1]);
    cudaError_t code = cudaSuccess;
    if (act || !norm) {
        code = vt_cuda_finish_rows(
            &(vt_cuda_finish){.src = result,
                              .residual = norm ? NULL : residual,
                              .dst = norm ? result : vt_exec_map(exec, r->dst),
                              .src_dtype = c->product,
                              .residual_dtype = vt_map_dtype(exec->program, r->source[1]),
                              .dst_dtype = norm ? c->product : c->out,
                              .rows = c->rows,
                              .cols = c->cols,
                              .act = act ? p->act : VT_ACT_NONE},
            vt_cuda_stream_of(exec)->stream);
    }
    if (norm && code == cudaSuccess) {
        code = vt_cuda_norm_rows(
            &(vt_cuda_norm){.src = result,
                            .residual = residual,
                            .dst = vt_exec_map(exec, r->dst),
                            .src_dtype = c->product,
                            .residual_dtype = vt_map_dtype(exec->program, r->source[1]),
                            .dst_dtype = c->out,
                            .rows = c->rows,
                            .cols = c->cols,
                            .scale = vt_exec_vector(exec, p->norm.scale),
                            .shift = vt_exec_vector(exec, p->norm.shift),
                            .eps = p->norm.eps},
            vt_cuda_stream_of(exec)->stream);
    }
    return code;
}

static void linear_run(const vt_exec *exec, const vt_record *r)
{
    const choice *c = exec->choice;
    const vt_linear *p = &r->as.linear;
    char *scratch = exec->scratch;
    const void *src = vt_exec_map(exec, r->source[0]);
    void *result = c->finishes ? scratch + c->product_at : vt_exec_map(exec, r->dst);
    if (c->gathers) {
        vt_cuda_note(exec, r, gather(exec, r, c));
        src = scratch;
    }
    vt_cuda_product product = product_of(c, p->bias.id > 0);
    vt_cuda_matmul m;
    float one = 1.0f, beta = c->residual_in_product ? 1.0f : 0.0f;
    const void *residual = c->residual_in_product ? vt_exec_map(exec, r->source[1]) : result;
    bool good = vt_cuda_matmul_make(&m, &product, vt_cuda_vector_as(exec, p->bias, c->product));
    if (good) {
        good = cublasLtMatmul(vt_cuda_stream_of(exec)->blas, m.desc, &one,
                              exec->weights[p->weight.id].data, m.weight, src, m.src, &beta,
                              residual, m.dst, result, m.dst, &c->algo, scratch + c->workspace_at,
                              VT_CUDA_WORKSPACE,
                              vt_cuda_stream_of(exec)->stream) == CUBLAS_STATUS_SUCCESS;
        vt_cuda_matmul_clear(&m);
    }
    if (!good) {
        vt_cuda_note(exec, r, cudaErrorLaunchFailure);
        return;
    }
    if (c->finishes) {
        vt_cuda_note(exec, r, finish(exec, r, c, result));
    }
    if (p->gated) {
        vt_cuda_note(exec, r, gate(exec, r, c));
    }
}

const vt_impl vt_impl_cuda_linear = {
    .name = "cublasLt", .scratch = linear_scratch, .run = linear_run, .choose = linear_choose};
