/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution in groups. The weights of each group are first brought into the order (tap, in, out),
 * so that lanes are outputs; then output rows are shared out among the threads. Pixels whose taps
 * all lie in the map are taken several at a time. */
#include <omp.h>
#include <string.h>

#include "core/checked.h"
#include "core/memory.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

/* Sizes of one group, and where things lie in the scratch, in floats. */
typedef struct layout {
    int64_t groups, in, out, taps;
    int64_t padded; /* outputs, up to whole vectors */
    int64_t bias_at, sums_at, sums_size;
    int threads;
} layout;

static layout layout_of(const vt_backend *backend, const vt_program *program, const vt_record *r,
                        int threads)
{
    const vt_conv2d *p = &r->as.conv2d;
    const vt_cpu_kernels *k = vt_cpu_kernels_of(backend);
    vt_shape s = program->maps[r->source[0].id].shape, d = program->maps[r->dst.id].shape;
    layout l = {.groups = p->groups,
                .in = s.c / p->groups,
                .out = d.c / p->groups,
                .taps = (int64_t)p->kernel_h * p->kernel_w,
                .threads = threads};
    l.padded = vt_div_up(l.out, k->lanes) * k->lanes;
    l.bias_at = l.groups * l.taps * l.in * l.padded;
    l.sums_at = l.bias_at + l.groups * l.padded;
    l.sums_size = vt_div_up(VT_CPU_GROUP_PIXELS * l.padded * 4, VT_ALIGNMENT) * VT_ALIGNMENT / 4;
    return l;
}

static const char *conv2d_groups_refuse(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    return r->as.conv2d.groups > 1 ? NULL : "it has no groups";
}

static size_t conv2d_groups_scratch(const vt_plan_input *in, const vt_record *r)
{
    layout l = layout_of(in->backend, in->program, r, in->threads);
    return (size_t)(l.sums_at + l.sums_size * in->threads) * sizeof(float);
}

/* Weights and bias of group `g` with outputs as lanes, zeros behind them. */
static void transpose_group(const vt_exec *exec, const vt_conv2d *p, const layout *l, int64_t g)
{
    int64_t depth = l->taps * l->in;
    const float *w = vt_exec_vector(exec, p->weight), *bias = vt_exec_vector(exec, p->bias);
    float *out = (float *)exec->scratch + g * depth * l->padded;
    float *out_bias = (float *)exec->scratch + l->bias_at + g * l->padded;
    for (int64_t i = 0; i < depth; i++) {
        for (int64_t o = 0; o < l->padded; o++) {
            out[i * l->padded + o] = o < l->out ? w[(g * l->out + o) * depth + i] : 0.0f;
        }
    }
    for (int64_t o = 0; o < l->padded; o++) {
        out_bias[o] = bias && o < l->out ? bias[g * l->out + o] : 0.0f;
    }
}

/* The taps of one axis that lie in the map, for an output whose first tap is at `first`. */
typedef struct range {
    int64_t begin, end;
} range;

static range taps_inside(int64_t first, int kernel, int dilation, int64_t extent)
{
    int64_t begin = first < 0 ? vt_div_up(-first, dilation) : 0;
    int64_t end = first < extent ? vt_div_up(extent - first, dilation) : 0;
    return (range){begin, end < kernel ? end : kernel};
}

/* One output row of one group. */
static void run_row(const vt_exec *exec, const vt_record *r, const layout *l, int64_t n, int64_t y,
                    int64_t g)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    bool dst_bf16 = vt_map_is_bf16(exec->program, r->dst);
    float *scratch = exec->scratch;
    float *sums = scratch + l->sums_at + l->sums_size * omp_get_thread_num();
    int64_t top = y * p->stride_h - p->pad_top;
    range ky = taps_inside(top, p->kernel_h, p->dilation_h, s.h);
    int64_t pixels = 1;
    for (int64_t x = 0; x < d.w; x += pixels) {
        int64_t left = x * p->stride_w - p->pad_left;
        range kx = taps_inside(left, p->kernel_w, p->dilation_w, s.w);
        int64_t last = s.w - 1 - (int64_t)(p->kernel_w - 1) * p->dilation_w - left;
        pixels = kx.end - kx.begin < p->kernel_w ? 1 : last / p->stride_w + 1;
        pixels = pixels < d.w - x ? pixels : d.w - x;
        pixels = pixels < VT_CPU_GROUP_PIXELS ? pixels : VT_CPU_GROUP_PIXELS;
        int64_t tap = ky.begin * p->kernel_w + kx.begin;
        int64_t sy = top + ky.begin * p->dilation_h, sx = left + kx.begin * p->dilation_w;
        k->maps->group(&(vt_cpu_group){
            .src = vt_map_at(exec, r->source[0], ((n * s.h + sy) * s.w + sx) * s.c + g * l->in),
            .src_bf16 = vt_map_is_bf16(exec->program, r->source[0]),
            .pixel_step = p->stride_w * s.c,
            .row_step = p->dilation_h * s.w * s.c,
            .tap_step = p->dilation_w * s.c,
            .pixels = (int)pixels,
            .rows = (int)(ky.end - ky.begin),
            .taps = (int)(kx.end - kx.begin),
            .in = l->in,
            .out = l->padded,
            .weights = scratch + (g * l->taps + tap) * l->in * l->padded,
            .weight_row = p->kernel_w * l->in * l->padded,
            .bias = scratch + l->bias_at + g * l->padded,
            .dst = sums,
        });
        k->finish(&(vt_cpu_finish){
            .rows = pixels,
            .cols = l->out,
            .src = sums,
            .src_stride = l->padded,
            .act = p->act,
            .dst = vt_map_at(exec, r->dst, ((n * d.h + y) * d.w + x) * d.c + g * l->out),
            .dst_bf16 = dst_bf16,
            .dst_stride = d.c,
        });
    }
}

static void conv2d_groups_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape d = vt_exec_shape(exec, r->dst);
    layout l = layout_of(exec->backend, exec->program, r, exec->threads);
#pragma omp parallel num_threads(exec->threads)
    {
#pragma omp for schedule(static)
        for (int64_t g = 0; g < l.groups; g++) {
            transpose_group(exec, &r->as.conv2d, &l, g);
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < d.n * d.h; i++) {
            for (int64_t g = 0; g < l.groups; g++) {
                run_row(exec, r, &l, i / d.h, i % d.h, g);
            }
        }
    }
}

const vt_impl vt_cpu_conv2d_groups = {.name = "groups",
                                      .refuse = conv2d_groups_refuse,
                                      .scratch = conv2d_groups_scratch,
                                      .run = conv2d_groups_run};
