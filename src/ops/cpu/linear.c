/* SPDX-License-Identifier: Apache-2.0 */
/* dst = residual +|* norm_out(act(bias + norm_in(row) x weight^T)), row = a pixel or a patch: the
 * tile driver of gemm.c with rows gathered here. */
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

typedef struct patches {
    vt_shape src, dst;
    int patch;
} patches;

/* The patch x patch pixels under output pixel r as (dy, dx, c), zero outside the map. */
static const float *patch_row(const vt_gemm *g, int64_t r, float *buffer)
{
    const patches *p = g->row_args;
    int64_t x = r % p->dst.w, y = r / p->dst.w % p->dst.h, n = r / (p->dst.w * p->dst.h);
    int64_t line = p->patch * p->src.c, sx = x * p->patch;
    int64_t inside = (p->src.w - sx < p->patch ? p->src.w - sx : p->patch) * p->src.c;
    float *out = buffer;
    for (int dy = 0; dy < p->patch; dy++, out += line) {
        int64_t sy = y * p->patch + dy, have = sy < p->src.h ? inside : 0;
        if (have) {
            vt_gemm_read(g, ((n * p->src.h + sy) * p->src.w + sx) * p->src.c, have, out);
        }
        memset(out + have, 0, (size_t)(line - have) * sizeof *out);
    }
    return buffer;
}

static vt_gemm describe(const vt_backend *backend, const vt_program *program, const vt_record *r,
                        int64_t depth, vt_dtype weight_dtype)
{
    const vt_linear *p = &r->as.linear;
    vt_shape d = program->maps[r->dst.id].shape;
    return (vt_gemm){.kernels = vt_cpu_kernels_of(backend),
                     .rows = d.n * d.h * d.w,
                     .cols = d.c,
                     .depth = depth,
                     .weight_dtype = weight_dtype,
                     .act = p->act,
                     .norm_place = p->norm_place,
                     .eps = p->norm.eps,
                     .row = p->patch > 1 ? patch_row : NULL,
                     .src_bf16 = vt_map_is_bf16(program, r->source[0]),
                     .residual_bf16 = vt_map_is_bf16(program, r->source[1]),
                     .gated = p->gated,
                     .dst_bf16 = vt_map_is_bf16(program, r->dst)};
}

static size_t linear_scratch(const vt_plan_input *in, const vt_record *r)
{
    vt_gemm g =
        describe(in->backend, in->program, r, in->weights[r->as.linear.weight.id].cols, in->dtype);
    return vt_gemm_scratch(&g, in->threads);
}

static void linear_run(const vt_exec *exec, const vt_record *r)
{
    const vt_linear *p = &r->as.linear;
    const vt_weight_data *weight = &exec->weights[p->weight.id];
    patches args = {vt_exec_shape(exec, r->source[0]), vt_exec_shape(exec, r->dst), p->patch};
    vt_gemm g = describe(exec->backend, exec->program, r, weight->cols, weight->dtype);
    g.panels = weight->data;
    g.bias = vt_exec_vector(exec, p->bias);
    g.scale = vt_exec_vector(exec, p->norm.scale);
    g.shift = vt_exec_vector(exec, p->norm.shift);
    g.row_args = &args;
    g.src = vt_exec_map(exec, r->source[0]);
    g.residual = vt_exec_map(exec, r->source[1]);
    g.dst = vt_exec_map(exec, r->dst);
    vt_gemm_run(&g, exec->scratch, exec->threads);
}

const vt_impl vt_cpu_linear = {.name = "panels", .scratch = linear_scratch, .run = linear_run};
