/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution. A task is a band of output rows of one image and a chunk of channels whose
 * weights stay in L1; kernel rows outside the map are left out here, pixels by the kernel. */
#include "core/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

enum {
    CHUNK_BYTES = 8 * 1024, /* of weights in one task */
    MIN_CHUNK = 32,         /* channels: whole lines of every pixel */
    BAND_ROWS = 8
};

/* How a record is cut: bands are whole calls of `rows` output rows, chunks begin at multiples of
 * MIN_CHUNK channels. */
typedef struct cut {
    int64_t rows, calls, bands, chunks;
} cut;

static cut cut_of(const vt_cpu_kernels *k, vt_shape d, const vt_conv2d *p)
{
    int64_t tap_bytes = (int64_t)p->kernel_h * p->kernel_w * 4;
    int64_t chunk = CHUNK_BYTES / tap_bytes / MIN_CHUNK * MIN_CHUNK;
    chunk = chunk < MIN_CHUNK ? MIN_CHUNK : chunk;
    bool small = p->kernel_h == 3 && p->kernel_w == 3 && p->stride_h == 1 && p->stride_w == 1 &&
                 p->dilation_h == 1 && d.c >= k->lanes;
    cut c = {.rows = small ? k->maps->depthwise_rows : 1, .chunks = d.c / chunk};
    c.calls = vt_div_up(d.h, c.rows);
    c.bands = vt_div_up(d.h, BAND_ROWS);
    c.chunks = c.chunks > 1 ? c.chunks : 1;
    return c;
}

static int64_t chunk_start(vt_shape d, cut c, int64_t i)
{
    return i == c.chunks ? d.c : d.c / MIN_CHUNK * i / c.chunks * MIN_CHUNK;
}

/* Everything of a row that does not depend on where it is. */
static vt_cpu_depthwise describe(const vt_exec *exec, const vt_record *r)
{
    const vt_conv2d *p = &r->as.depthwise.conv;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    return (vt_cpu_depthwise){
        .src_bf16 = vt_map_is_bf16(exec->program, r->source[0]),
        .src_w = s.w,
        .pixel = s.c,
        .row_step = p->dilation_h * s.w * s.c,
        .kernel_w = p->kernel_w,
        .stride_w = p->stride_w,
        .dilation_w = p->dilation_w,
        .pad_left = p->pad_left,
        .act = p->act,
        .residual_bf16 = vt_map_is_bf16(exec->program, r->source[1]),
        .dst_bf16 = vt_map_is_bf16(exec->program, r->dst),
        .dst_w = d.w,
        .dst_row = d.w * d.c,
    };
}

static const float *vector_at(const vt_exec *exec, vt_weight w, int64_t at)
{
    const float *vector = vt_exec_vector(exec, w);
    return vector ? vector + at : NULL;
}

/* Channels [channel, channel + count) of output rows [y, y + rows->out_rows) of image n. */
static void run_rows(const vt_exec *exec, const vt_record *r, vt_cpu_depthwise *rows, int64_t n,
                     int64_t y, int64_t channel)
{
    const vt_depthwise *p = &r->as.depthwise;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    int64_t top = y * p->conv.stride_h - p->conv.pad_top, dilation = p->conv.dilation_h;
    int64_t first = top < 0 ? vt_div_up(-top, dilation) : 0;
    int64_t end = top < s.h ? vt_div_up(s.h - top, dilation) : 0;
    int64_t wanted = p->conv.kernel_h + rows->out_rows - 1;
    end = end < wanted ? end : wanted;
    rows->first_row = first < end ? (int)first : 0;
    rows->end_row = first < end ? (int)end : 0;
    int64_t line = first < end ? top + first * dilation : 0;
    int64_t at = (n * d.h + y) * d.w * d.c + channel;
    rows->src = vt_map_at(exec, r->source[0], (n * s.h + line) * s.w * s.c + channel);
    rows->weights = vector_at(exec, p->conv.weight, channel);
    rows->bias = vector_at(exec, p->conv.bias, channel);
    rows->scale = vector_at(exec, p->affine.scale, channel);
    rows->shift = vector_at(exec, p->affine.shift, channel);
    rows->residual = vt_map_at(exec, r->source[1], at);
    rows->dst = vt_map_at(exec, r->dst, at);
    vt_cpu_kernels_of(exec->backend)->maps->depthwise(rows);
}

static void depthwise_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape d = vt_exec_shape(exec, r->dst);
    cut c = cut_of(vt_cpu_kernels_of(exec->backend), d, &r->as.depthwise.conv);
#pragma omp parallel for num_threads(exec->threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < d.n * c.bands * c.chunks; i++) {
        int64_t chunk = i % c.chunks, band = i / c.chunks % c.bands, n = i / c.chunks / c.bands;
        vt_cpu_depthwise rows = describe(exec, r);
        int64_t channel = chunk_start(d, c, chunk);
        rows.channels = chunk_start(d, c, chunk + 1) - channel;
        for (int64_t k = c.calls * band / c.bands; k < c.calls * (band + 1) / c.bands; k++) {
            int64_t y = k * c.rows;
            rows.out_rows = (int)(d.h - y < c.rows ? d.h - y : c.rows);
            run_rows(exec, r, &rows, n, y, channel);
        }
    }
}

const vt_impl vt_cpu_depthwise_rows = {.name = "rows", .run = depthwise_run};
