/* SPDX-License-Identifier: Apache-2.0 */
/* linear on the GPU for few rows: one kernel of our own; patches are gathered (and normalised) by
 * one before it, a norm of the results is one behind it. */
#include "cuda/cuda.h"

/* From here on the kernels for many rows are looked at. */
enum { TOO_MANY_ROWS = 4096 };

/* The operand that the product reads, and where the results of a product that is normalised lie in
 * the scratch. */
typedef struct places {
    int64_t rows, depth;
    bool gathers, norms_result;
    size_t result_at, bytes;
} places;

static places places_of(const vt_program *program, const vt_record *r)
{
    const vt_linear *p = &r->as.linear;
    vt_shape s = program->maps[r->source[0].id].shape, d = program->maps[r->dst.id].shape;
    int64_t patch = p->patch > 1 ? p->patch : 1;
    places at = {.rows = d.n * d.h * d.w, .depth = patch * patch * s.c};
    at.gathers = patch > 1;
    at.norms_result = p->norm_place == VT_NORM_OUTPUT;
    at.result_at = at.gathers ? ((size_t)(at.rows * at.depth) * 2 + 255) & ~(size_t)255 : 0;
    at.bytes = at.result_at + (at.norms_result ? (size_t)(at.rows * d.c) * sizeof(float) : 0);
    return at;
}

/* exec->maps and exec->weights may be NULL: then only shapes and types are filled in. */
static vt_cuda_linear_small small_args(const vt_exec *exec, const vt_record *r, vt_dtype dtype)
{
    const vt_linear *p = &r->as.linear;
    places at = places_of(exec->program, r);
    bool run = exec->maps && exec->weights;
    bool norm = p->norm_place == VT_NORM_INPUT && !at.gathers;
    char *scratch = exec->scratch;
    return (vt_cuda_linear_small){
        .src = !run         ? NULL
               : at.gathers ? scratch
                            : vt_exec_map(exec, r->source[0]),
        .weight = run ? exec->weights[p->weight.id].data : NULL,
        .residual = run && !at.norms_result ? vt_exec_map(exec, r->source[1]) : NULL,
        .dst = !run              ? NULL
               : at.norms_result ? scratch + at.result_at
                                 : vt_exec_map(exec, r->dst),
        .dtype = dtype,
        .dst_dtype = at.norms_result ? VT_F32 : vt_map_dtype(exec->program, r->dst),
        .rows = at.rows,
        .depth = (int)at.depth,
        .cols = (int)vt_exec_shape(exec, r->dst).c,
        .bias = run ? vt_exec_vector(exec, p->bias) : NULL,
        .scale = run && norm ? vt_exec_vector(exec, p->norm.scale) : NULL,
        .shift = run && norm ? vt_exec_vector(exec, p->norm.shift) : NULL,
        .eps = norm ? p->norm.eps : -1.0f,
        .act = p->act,
        .gated = p->gated,
    };
}

static const char *small_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    places at = places_of(in->program, r);
    if (in->dtype == VT_F32) {
        return "takes f16 or bf16";
    }
    if (at.rows >= TOO_MANY_ROWS || at.depth > INT32_MAX) {
        return "there are many rows";
    }
    if ((!at.gathers && vt_map_dtype(in->program, r->source[0]) != in->dtype) ||
        (r->source[1].id >= 0 && !at.norms_result &&
         vt_map_dtype(in->program, r->source[1]) != in->dtype)) {
        return "wants one type for all maps and matrices";
    }
    vt_cuda_linear_small args = small_args(&shapes, r, in->dtype);
    vt_cuda_scope scope = vt_cuda_enter(in->backend);
    const char *reason = vt_cuda_linear_small_slow(&args);
    vt_cuda_leave(scope);
    return reason;
}

static size_t small_scratch(const vt_plan_input *in, const vt_record *r)
{
    return places_of(in->program, r).bytes;
}

static cudaError_t gather(const vt_exec *exec, const vt_record *r, vt_dtype dtype)
{
    const vt_linear *p = &r->as.linear;
    bool norm = p->norm_place == VT_NORM_INPUT;
    return vt_cuda_gather_patches(
        &(vt_cuda_patches){.src = vt_exec_map(exec, r->source[0]),
                           .dst = exec->scratch,
                           .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                           .dst_dtype = dtype,
                           .shape = vt_exec_shape(exec, r->source[0]),
                           .patch = p->patch,
                           .scale = norm ? vt_exec_vector(exec, p->norm.scale) : NULL,
                           .shift = norm ? vt_exec_vector(exec, p->norm.shift) : NULL,
                           .eps = norm ? p->norm.eps : -1.0f},
        vt_cuda_stream_of(exec)->stream);
}

static cudaError_t norm_result(const vt_exec *exec, const vt_record *r,
                               const vt_cuda_linear_small *args)
{
    const vt_norm *norm = &r->as.linear.norm;
    return vt_cuda_norm_rows(
        &(vt_cuda_norm){.src = args->dst,
                        .residual = vt_exec_map(exec, r->source[1]),
                        .dst = vt_exec_map(exec, r->dst),
                        .src_dtype = VT_F32,
                        .residual_dtype = vt_map_dtype(exec->program, r->source[1]),
                        .dst_dtype = vt_map_dtype(exec->program, r->dst),
                        .rows = args->rows,
                        .cols = args->cols,
                        .scale = vt_exec_vector(exec, norm->scale),
                        .shift = vt_exec_vector(exec, norm->shift),
                        .eps = norm->eps},
        vt_cuda_stream_of(exec)->stream);
}

static void small_run(const vt_exec *exec, const vt_record *r)
{
    vt_dtype dtype = exec->weights[r->as.linear.weight.id].dtype;
    places at = places_of(exec->program, r);
    vt_cuda_linear_small args = small_args(exec, r, dtype);
    if (at.gathers) {
        vt_cuda_note(exec, r, gather(exec, r, dtype));
    }
    vt_cuda_note(exec, r, vt_cuda_linear_small_run(&args, vt_cuda_stream_of(exec)->stream));
    if (at.norms_result) {
        vt_cuda_note(exec, r, norm_result(exec, r, &args));
    }
}

const vt_impl vt_impl_cuda_linear_small = {
    .name = "small", .refuse = small_refuse, .scratch = small_scratch, .run = small_run};
