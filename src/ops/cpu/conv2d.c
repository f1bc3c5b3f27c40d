/* SPDX-License-Identifier: Apache-2.0 */
/* Dense convolution as a product: the tile driver of gemm.c, whose rows are the pixels under the
 * kernel as (ky, kx, in), gathered block by block. */
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

typedef struct taps {
    vt_shape src, dst;
    const vt_conv2d *conv;
} taps;

static const float *tap_row(const vt_gemm *g, int64_t r, float *buffer)
{
    const taps *t = g->row_args;
    const vt_conv2d *p = t->conv;
    vt_shape s = t->src;
    int64_t x = r % t->dst.w, y = r / t->dst.w % t->dst.h, n = r / (t->dst.w * t->dst.h);
    float *out = buffer;
    for (int ky = 0; ky < p->kernel_h; ky++) {
        int64_t sy = y * p->stride_h + (int64_t)ky * p->dilation_h - p->pad_top;
        for (int kx = 0; kx < p->kernel_w; kx++, out += s.c) {
            int64_t sx = x * p->stride_w + (int64_t)kx * p->dilation_w - p->pad_left;
            if (sy < 0 || sy >= s.h || sx < 0 || sx >= s.w) {
                memset(out, 0, (size_t)s.c * sizeof *out);
            } else {
                vt_gemm_read(g, ((n * s.h + sy) * s.w + sx) * s.c, s.c, out);
            }
        }
    }
    return buffer;
}

static vt_gemm describe(const vt_backend *backend, const vt_program *program, const vt_record *r,
                        int64_t depth, vt_dtype weight_dtype)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape d = program->maps[r->dst.id].shape;
    bool pixel = p->kernel_h == 1 && p->kernel_w == 1 && p->stride_h == 1 && p->stride_w == 1 &&
                 p->pad_top + p->pad_left + p->pad_bottom + p->pad_right == 0;
    return (vt_gemm){.kernels = vt_cpu_kernels_of(backend),
                     .rows = d.n * d.h * d.w,
                     .cols = d.c,
                     .depth = depth,
                     .weight_dtype = weight_dtype,
                     .act = p->act,
                     .row = pixel ? NULL : tap_row,
                     .src_bf16 = vt_map_is_bf16(program, r->source[0]),
                     .dst_bf16 = vt_map_is_bf16(program, r->dst)};
}

static const char *conv2d_refuse(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    return r->as.conv2d.groups > 1 ? "it has groups" : NULL;
}

static size_t conv2d_scratch(const vt_plan_input *in, const vt_record *r)
{
    vt_gemm g =
        describe(in->backend, in->program, r, in->weights[r->as.conv2d.weight.id].cols, in->dtype);
    return vt_gemm_scratch(&g, in->threads);
}

static void conv2d_run(const vt_exec *exec, const vt_record *r)
{
    const vt_weight_data *weight = &exec->weights[r->as.conv2d.weight.id];
    taps args = {vt_exec_shape(exec, r->source[0]), vt_exec_shape(exec, r->dst), &r->as.conv2d};
    vt_gemm g = describe(exec->backend, exec->program, r, weight->cols, weight->dtype);
    g.panels = weight->data;
    g.bias = vt_exec_vector(exec, r->as.conv2d.bias);
    g.row_args = &args;
    g.src = vt_exec_map(exec, r->source[0]);
    g.dst = vt_exec_map(exec, r->dst);
    vt_gemm_run(&g, exec->scratch, exec->threads);
}

const vt_impl vt_cpu_conv2d = {
    .name = "panels", .refuse = conv2d_refuse, .scratch = conv2d_scratch, .run = conv2d_run};
