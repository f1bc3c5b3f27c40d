/* SPDX-License-Identifier: Apache-2.0 */
/* linear on the GPU as one kernel with its norm inside, where that is faster than a norm and a
 * product of the library. Patches are gathered by a kernel before it. */
#include "cuda/cuda.h"

/* Below, smaller units of work spread over the GPU better. */
enum { FEWEST_ROWS = 4096 };

/* exec->maps and exec->weights may be NULL: then only shapes and types are filled in. */
static vt_cuda_linear linear_args(const vt_exec *exec, const vt_record *r, int64_t depth)
{
    const vt_linear *p = &r->as.linear;
    vt_shape d = vt_exec_shape(exec, r->dst);
    bool norm_in = p->norm_place == VT_NORM_INPUT, norm_out = p->norm_place == VT_NORM_OUTPUT;
    vt_cuda_linear args = {.dtype = vt_map_dtype(exec->program, r->dst),
                           .rows = d.n * d.h * d.w,
                           .depth = depth,
                           .cols = d.c,
                           .in_eps = norm_in ? p->norm.eps : -1.0f,
                           .out_eps = norm_out ? p->norm.eps : -1.0f,
                           .act = p->act,
                           .gated = p->gated};
    if (exec->maps && exec->weights) {
        const float *scale = vt_exec_vector(exec, p->norm.scale);
        const float *shift = vt_exec_vector(exec, p->norm.shift);
        args.src = p->patch > 1 ? exec->scratch : vt_exec_map(exec, r->source[0]);
        args.residual = vt_exec_map(exec, r->source[1]);
        args.weight = exec->weights[p->weight.id].data;
        args.dst = vt_exec_map(exec, r->dst);
        args.bias = vt_exec_vector(exec, p->bias);
        args.in_scale = norm_in ? scale : NULL;
        args.in_shift = norm_in ? shift : NULL;
        args.out_scale = norm_out ? scale : NULL;
        args.out_shift = norm_out ? shift : NULL;
    }
    return args;
}

static const char *linear_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    const vt_linear *p = &r->as.linear;
    vt_cuda_linear args = linear_args(&shapes, r, in->weights[p->weight.id].cols);
    vt_dtype dtype = args.dtype;
    if (!vt_cuda_of(in->backend)->has_wgmma) {
        return "needs a GPU of compute capability 9.0 and code for sm_90a";
    }
    if (in->dtype != dtype || (p->patch == 1 && vt_map_dtype(in->program, r->source[0]) != dtype) ||
        (r->source[1].id >= 0 && vt_map_dtype(in->program, r->source[1]) != dtype)) {
        return "wants one type for all maps and the matrix";
    }
    return args.rows < FEWEST_ROWS ? "there are few rows" : vt_cuda_linear_refuse(&args);
}

static size_t linear_scratch(const vt_plan_input *in, const vt_record *r)
{
    vt_shape d = in->program->maps[r->dst.id].shape;
    size_t rows = (size_t)(d.n * d.h * d.w);
    size_t depth = (size_t)in->weights[r->as.linear.weight.id].cols;
    return r->as.linear.patch > 1 ? rows * depth * vt_dtype_size(in->dtype) : 0;
}

static void linear_run(const vt_exec *exec, const vt_record *r)
{
    const vt_linear *p = &r->as.linear;
    vt_cuda_linear args = linear_args(exec, r, exec->weights[p->weight.id].cols);
    cudaStream_t stream = vt_cuda_stream_of(exec)->stream;
    if (p->patch > 1) {
        vt_dtype src = vt_map_dtype(exec->program, r->source[0]);
        vt_cuda_note(
            exec, r,
            vt_cuda_gather_patches(&(vt_cuda_patches){.src = vt_exec_map(exec, r->source[0]),
                                                      .dst = exec->scratch,
                                                      .src_dtype = src,
                                                      .dst_dtype = args.dtype,
                                                      .shape = vt_exec_shape(exec, r->source[0]),
                                                      .patch = p->patch,
                                                      .eps = -1.0f},
                                   stream));
    }
    vt_cuda_note(exec, r, vt_cuda_linear_rows(&args, stream));
}

const vt_impl vt_impl_cuda_linear_wgmma = {
    .name = "wgmma", .refuse = linear_refuse, .scratch = linear_scratch, .run = linear_run};
