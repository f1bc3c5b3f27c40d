/* SPDX-License-Identifier: Apache-2.0 */
/* A whole MLP on the GPU as one kernel, where that is faster than its two products. */
#include "cuda/cuda.h"

/* Below, one product per linear map spreads over the GPU better. */
enum { FEWEST_ROWS = 4096 };

/* exec->maps and exec->weights may be NULL: then only shapes and types are filled in. */
static vt_cuda_mlp mlp_args(const vt_exec *exec, const vt_record *r, int64_t hidden)
{
    const vt_linear *up = &r->as.mlp.up, *down = &r->as.mlp.down;
    vt_shape s = vt_exec_shape(exec, r->dst);
    bool norm_in = up->norm_place == VT_NORM_INPUT, norm_out = down->norm_place == VT_NORM_OUTPUT;
    vt_cuda_mlp args = {.dtype = vt_map_dtype(exec->program, r->dst),
                        .rows = s.n * s.h * s.w,
                        .cols = s.c,
                        .hidden = hidden,
                        .in_eps = norm_in ? up->norm.eps : -1.0f,
                        .out_eps = norm_out ? down->norm.eps : -1.0f,
                        .act = up->act};
    if (exec->maps && exec->weights) {
        args.src = vt_exec_map(exec, r->source[0]);
        args.residual = vt_exec_map(exec, r->source[1]);
        args.dst = vt_exec_map(exec, r->dst);
        args.up = exec->weights[up->weight.id].data;
        args.down = exec->weights[down->weight.id].data;
        args.up_bias = vt_exec_vector(exec, up->bias);
        args.down_bias = vt_exec_vector(exec, down->bias);
        args.in_scale = norm_in ? vt_exec_vector(exec, up->norm.scale) : NULL;
        args.in_shift = norm_in ? vt_exec_vector(exec, up->norm.shift) : NULL;
        args.out_scale = norm_out ? vt_exec_vector(exec, down->norm.scale) : NULL;
        args.out_shift = norm_out ? vt_exec_vector(exec, down->norm.shift) : NULL;
    }
    return args;
}

static const char *mlp_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    vt_cuda_mlp args = mlp_args(&shapes, r, in->weights[r->as.mlp.up.weight.id].rows);
    vt_dtype dtype = args.dtype;
    if (!vt_cuda_of(in->backend)->has_wgmma) {
        return "needs a GPU of compute capability 9.0 and code for sm_90a";
    }
    if (in->dtype != dtype || vt_map_dtype(in->program, r->source[0]) != dtype ||
        (r->source[1].id >= 0 && vt_map_dtype(in->program, r->source[1]) != dtype)) {
        return "wants one type for all maps and matrices";
    }
    if (vt_exec_shape(&shapes, r->source[0]).c != args.cols) {
        return "gives as many channels as it takes";
    }
    return args.rows < FEWEST_ROWS ? "there are few rows" : vt_cuda_mlp_refuse(&args);
}

static void mlp_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_mlp args = mlp_args(exec, r, exec->weights[r->as.mlp.up.weight.id].rows);
    vt_cuda_note(exec, r, vt_cuda_mlp_rows(&args, vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_mlp = {.name = "wgmma", .refuse = mlp_refuse, .run = mlp_run};
