/* SPDX-License-Identifier: Apache-2.0 */
/* The fast kernels of records that are no large products: depthwise convolution, convolution in
 * groups, multiplication, pooling, sampling. Compiled once per instruction set like kernels.c;
 * lanes are channels.
 *
 * Depthwise. GROUP output pixels of a row times a block of channels are summed in registers. For
 * each kernel row its weights are loaded once, then the pixels under it one by one, and each is
 * multiplied into every output that it touches: no operand is loaded twice. An output meets its
 * taps in the order of the kernel whatever the group, the threads and the batch. At the ends of a
 * row the pixels outside the map are left out. */
#include <math.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/simd.h"
#include "ops/cpu/vmath.h"

enum { LANES = VF_LANES, GROUP = 7 /* divides the widths of 224 x 224 pictures */ };

/* Vectors of channels in a block: with GROUP sums and seven weights each they fill the registers.
 * Or ROWS output rows of one vector under a 3 x 3 kernel. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { BLOCK = 2, ROWS = 3 };
#else
enum { BLOCK = 1, ROWS = 1 };
#endif

/* ---- depthwise ------------------------------------------------------------------------------- */

/* Sums of `pixels` output pixels, `step` apart, with `block` vectors of channels from `channel` on;
 * only `lanes` of the last vector exist. */
typedef struct dw_sums {
    const float *sums;
    int64_t row, pixels, first, step, channel;
    int block;
    int64_t lanes;
} dw_sums;

VT_INLINE void finish_sums(const vt_activation act, const vt_cpu_depthwise *p, const dw_sums *q)
{
    const vt_cpu_depthwise d = *p; /* what is stored below can't change it */
    const dw_sums g = *q;
    for (int j = 0; j < g.block; j++) {
        int64_t c = g.channel + j * LANES, count = j + 1 < g.block ? LANES : g.lanes;
        vf scale = d.scale ? vf_load_some(d.scale, false, c, count) : vf_all(1.0f);
        vf shift = d.shift ? vf_load_some(d.shift, false, c, count) : (vf){0};
        for (int64_t i = 0; i < g.pixels; i++) {
            int64_t at = g.row * d.dst_row + (g.first + i * g.step) * d.pixel + c;
            vf x = vf_activate(act, vf_load(g.sums + (i * g.block + j) * LANES));
            if (d.scale) {
                x = x * scale + shift;
            }
            if (d.residual) {
                x += vf_load_some(d.residual, d.residual_bf16, at, count);
            }
            vf_store_some(d.dst, d.dst_bf16, at, count, x);
        }
    }
}

static __attribute__((noinline)) void finish(const vt_cpu_depthwise *d, const dw_sums *g)
{
    switch (d->act) {
    case VT_ACT_NONE: finish_sums(VT_ACT_NONE, d, g); break;
    case VT_ACT_GELU: finish_sums(VT_ACT_GELU, d, g); break;
    case VT_ACT_GELU_TANH: finish_sums(VT_ACT_GELU_TANH, d, g); break;
    case VT_ACT_SILU: finish_sums(VT_ACT_SILU, d, g); break;
    case VT_ACT_RELU: finish_sums(VT_ACT_RELU, d, g); break;
    case VT_ACT_SIGMOID: finish_sums(VT_ACT_SIGMOID, d, g); break;
    case VT_ACT_TANH: finish_sums(VT_ACT_TANH, d, g); break;
    }
}

VT_INLINE bool needs_finish(const vt_cpu_depthwise *d)
{
    return d->act != VT_ACT_NONE || d->scale;
}

/* Outputs first_out, first_out + step, ...: `outputs` of them. Input i of a group is source pixel
 * first_in + i * step; only [begin, end) of them lie in the map and are wanted. */
typedef struct dw_group {
    int64_t first_out, first_in, step;
    int outputs, begin, end;
} dw_group;

/* Stops the compiler from turning one pointer and a step into many pointers on the stack. */
#define KEEP_IN_REGISTER(x) __asm__("" : "+r"(x))

/* One kernel row: the inputs from `x` on, meeting the weights at `w`. */
VT_INLINE void group_row(const int width, const int stride, const int block, const bool edge,
                         const bool bf16, const dw_group *g, const char *x, int64_t x_step,
                         const char *w, int64_t w_step, vf sum[GROUP][BLOCK])
{
    vf weight[7][BLOCK];
#pragma GCC unroll 7
    for (int k = 0; k < width; k++) {
#pragma GCC unroll 2
        for (int j = 0; j < block; j++) {
            weight[k][j] = vf_load((const float *)(const void *)w + j * LANES);
        }
        w += w_step;
        KEEP_IN_REGISTER(w);
    }
#pragma GCC unroll 20
    for (int i = 0; i < (GROUP - 1) * stride + width; i++) {
        if (!edge || (i >= g->begin && i < g->end)) {
            vf in[BLOCK];
#pragma GCC unroll 2
            for (int j = 0; j < block; j++) {
                in[j] = bf16 ? vf_load_bf16((const uint16_t *)(const void *)x + j * LANES)
                             : vf_load((const float *)(const void *)x + j * LANES);
            }
#pragma GCC unroll 7
            for (int p = 0; p < GROUP; p++) {
                int k = i - p * stride;
                if (k >= 0 && k < width) {
#pragma GCC unroll 2
                    for (int j = 0; j < block; j++) {
                        sum[p][j] += in[j] * weight[k][j];
                    }
                }
            }
        }
        x += x_step;
        KEEP_IN_REGISTER(x);
    }
}

/* The sums of an output row, and the residual where there is one, on their way to memory. */
VT_INLINE void store_row(const int block, const bool edge, const bool added,
                         const vt_cpu_depthwise *d, const dw_group *g, int row, int64_t channel,
                         vf sum[GROUP][BLOCK])
{
    int64_t at = row * d->dst_row + g->first_out * d->pixel + channel;
#pragma GCC unroll 7
    for (int p = 0; p < GROUP; p++) {
        if (!edge || p < g->outputs) {
#pragma GCC unroll 2
            for (int j = 0; j < block; j++) {
                vf x = sum[p][j];
                if (added) {
                    x += vf_load_some(d->residual, d->residual_bf16, at + j * LANES, LANES);
                }
                vf_store_some(d->dst, d->dst_bf16, at + j * LANES, LANES, x);
            }
        }
        at += g->step * d->pixel;
        KEEP_IN_REGISTER(at);
    }
}

/* Ends an output row. */
VT_INLINE void end_row(const int block, const bool edge, const vt_cpu_depthwise *d,
                       const dw_group *g, int row, int64_t channel, vf sum[GROUP][BLOCK])
{
    if (needs_finish(d)) {
        float buffer[GROUP * BLOCK * LANES];
#pragma GCC unroll 7
        for (int p = 0; p < GROUP; p++) {
#pragma GCC unroll 2
            for (int j = 0; j < block; j++) {
                vf_store(buffer + (p * block + j) * LANES, sum[p][j]);
            }
        }
        finish(d,
               &(dw_sums){buffer, row, g->outputs, g->first_out, g->step, channel, block, LANES});
        return;
    }
    if (d->residual) {
        store_row(block, edge, true, d, g, row, channel, sum);
    } else {
        store_row(block, edge, false, d, g, row, channel, sum);
    }
}

VT_INLINE void group_block(const int width, const int stride, const int block, const bool edge,
                           const bool bf16, const vt_cpu_depthwise *d, const dw_group *g,
                           int64_t channel)
{
    vf sum[GROUP][BLOCK];
#pragma GCC unroll 2
    for (int j = 0; j < block; j++) {
        vf bias = d->bias ? vf_load(d->bias + channel + j * LANES) : (vf){0};
#pragma GCC unroll 7
        for (int p = 0; p < GROUP; p++) {
            sum[p][j] = bias;
        }
    }
    const int64_t element = bf16 ? 2 : 4;
    const char *x = (const char *)d->src + (g->first_in * d->pixel + channel) * element;
    int64_t x_step = g->step * d->pixel * element, w_step = d->pixel * 4;
    const char *w = (const char *)(d->weights + channel) + d->first_row * width * w_step;
    for (int ky = d->first_row; ky < d->end_row; ky++) {
        group_row(width, stride, block, edge, bf16, g, x, x_step, w, w_step, sum);
        x += d->row_step * element;
        w += width * w_step;
    }
    end_row(block, edge, d, g, 0, channel, sum);
}

/* ROWS output rows of one vector of channels under a 3 x 3 kernel, whose weights stay in registers
 * while every source row is read once. */
VT_INLINE void rows_block(const bool edge, const bool bf16, const vt_cpu_depthwise *d,
                          const dw_group *g, int64_t channel)
{
    vf sum[ROWS][GROUP][BLOCK], weight[3][3];
    vf bias = d->bias ? vf_load(d->bias + channel) : (vf){0};
#pragma GCC unroll 3
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 7
        for (int p = 0; p < GROUP; p++) {
            sum[r][p][0] = bias;
        }
    }
#pragma GCC unroll 9
    for (int k = 0; k < 9; k++) {
        weight[k / 3][k % 3] = vf_load(d->weights + k * d->pixel + channel);
    }
    const int64_t element = bf16 ? 2 : 4, step = g->step * d->pixel * element;
    const char *row = (const char *)d->src + (g->first_in * d->pixel + channel) * element;
#pragma GCC unroll 5
    for (int y = 0; y < ROWS + 2; y++) {
        const char *x = row;
        if (y < d->first_row || y >= d->end_row) {
            continue;
        }
#pragma GCC unroll 9
        for (int i = 0; i < GROUP + 2; i++) {
            if (!edge || (i >= g->begin && i < g->end)) {
                vf in = bf16 ? vf_load_bf16((const uint16_t *)(const void *)x)
                             : vf_load((const float *)(const void *)x);
#pragma GCC unroll 21
                for (int k = 0; k < ROWS * GROUP; k++) {
                    int r = k / GROUP, p = k % GROUP, ky = y - r, kx = i - p;
                    if (ky >= 0 && ky < 3 && kx >= 0 && kx < 3) {
                        sum[r][p][0] += in * weight[ky][kx];
                    }
                }
            }
            x += step;
            KEEP_IN_REGISTER(x);
        }
        row += d->row_step * element;
    }
#pragma GCC unroll 3
    for (int r = 0; r < ROWS; r++) {
        if (r < d->out_rows) {
            end_row(1, edge, d, g, r, channel, sum[r]);
        }
    }
}

/* All channels of a group. The last block may overlap the one before it. */
VT_INLINE void group_channels(const int width, const int stride, const bool edge, const bool bf16,
                              const vt_cpu_depthwise *d, const dw_group *g)
{
    int64_t c = 0;
    if (ROWS > 1 && width == 3 && stride == 1 && d->out_rows > 1) {
        for (; c < d->channels; c += LANES) {
            int64_t last = d->channels - LANES;
            rows_block(edge, bf16, d, g, c < last ? c : last);
        }
    }
    for (; c + BLOCK * LANES <= d->channels; c += BLOCK * LANES) {
        group_block(width, stride, BLOCK, edge, bf16, d, g, c);
    }
    for (; c < d->channels; c += LANES) {
        int64_t last = d->channels - LANES;
        group_block(width, stride, 1, edge, bf16, d, g, c < last ? c : last);
    }
}

/* With a dilation, outputs `dilation` apart share their inputs, as neighbours do without. */
VT_INLINE void row_groups(const int width, const int stride, const bool bf16,
                          const vt_cpu_depthwise *d)
{
    const int inputs = (GROUP - 1) * stride + width;
    int64_t step = d->dilation_w;
    for (int64_t first = 0; first < step && first < d->dst_w; first++) {
        for (int64_t out = first; out < d->dst_w; out += GROUP * step) {
            dw_group g = {.first_out = out, .first_in = out * stride - d->pad_left, .step = step};
            int64_t outputs = (d->dst_w - out + step - 1) / step;
            g.outputs = outputs < GROUP ? (int)outputs : GROUP;
            int64_t end = g.first_in < d->src_w ? (d->src_w - g.first_in + step - 1) / step : 0;
            int wanted = (g.outputs - 1) * stride + width;
            g.begin = g.first_in < 0 ? (int)((-g.first_in + step - 1) / step) : 0;
            g.end = end < wanted ? (int)end : wanted;
            if (g.begin == 0 && g.end == inputs) {
                group_channels(width, stride, false, bf16, d, &g);
            } else {
                group_channels(width, stride, true, bf16, d, &g);
            }
        }
    }
}

/* Any kernel, any number of channels: one output pixel after the other. */
VT_INLINE void pixel_block(const int block, const vt_cpu_depthwise *d, int64_t out, int64_t channel,
                           int64_t lanes)
{
    vf sum[4];
    float buffer[4 * LANES];
    int64_t first = out * d->stride_w - d->pad_left;
    for (int j = 0; j < block; j++) {
        int64_t count = j + 1 < block ? LANES : lanes;
        sum[j] = d->bias ? vf_load_some(d->bias, false, channel + j * LANES, count) : (vf){0};
    }
    for (int ky = d->first_row; ky < d->end_row; ky++) {
        for (int kx = 0; kx < d->kernel_w; kx++) {
            int64_t x = first + (int64_t)kx * d->dilation_w;
            if (x < 0 || x >= d->src_w) {
                continue;
            }
            int64_t at = (ky - d->first_row) * d->row_step + x * d->pixel + channel;
            int64_t tap = ((int64_t)ky * d->kernel_w + kx) * d->pixel + channel;
            for (int j = 0; j < block; j++) {
                int64_t count = j + 1 < block ? LANES : lanes;
                sum[j] += vf_load_some(d->src, d->src_bf16, at + j * LANES, count) *
                          vf_load_some(d->weights, false, tap + j * LANES, count);
            }
        }
    }
    for (int j = 0; j < block; j++) {
        vf_store(buffer + j * LANES, sum[j]);
    }
    finish(d, &(dw_sums){buffer, 0, 1, out, 1, channel, block, lanes});
}

static void row_pixels(const vt_cpu_depthwise *d)
{
    for (int64_t out = 0; out < d->dst_w; out++) {
        int64_t c = 0;
        for (; c + 4 * LANES <= d->channels; c += 4 * LANES) {
            pixel_block(4, d, out, c, LANES);
        }
        for (; c + LANES <= d->channels; c += LANES) {
            pixel_block(1, d, out, c, LANES);
        }
        if (c < d->channels) {
            pixel_block(1, d, out, c, d->channels - c);
        }
    }
}

#define DEPTHWISE_FUNCTION(width, stride)                                                          \
    static __attribute__((noinline)) void row_##width##_##stride(const vt_cpu_depthwise *d)        \
    {                                                                                              \
        if (d->src_bf16) {                                                                         \
            row_groups(width, stride, true, d);                                                    \
        } else {                                                                                   \
            row_groups(width, stride, false, d);                                                   \
        }                                                                                          \
    }

DEPTHWISE_FUNCTION(3, 1)
DEPTHWISE_FUNCTION(5, 1)
DEPTHWISE_FUNCTION(7, 1)
DEPTHWISE_FUNCTION(3, 2)
DEPTHWISE_FUNCTION(5, 2)
DEPTHWISE_FUNCTION(7, 2)

static void depthwise(const vt_cpu_depthwise *d)
{
    int stride = d->stride_w == 2 && d->dilation_w > 1 ? 0 : d->stride_w;
    switch (d->channels < LANES ? 0 : stride * 100 + d->kernel_w) {
    case 103: row_3_1(d); break;
    case 105: row_5_1(d); break;
    case 107: row_7_1(d); break;
    case 203: row_3_2(d); break;
    case 205: row_5_2(d); break;
    case 207: row_7_2(d); break;
    default: row_pixels(d);
    }
}

/* ---- convolution in groups ------------------------------------------------------------------- */

VT_INLINE void group_vector(const int pixels, const bool bf16, const vt_cpu_group *g, int64_t o)
{
    vf sum[VT_CPU_GROUP_PIXELS];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; p++) {
        sum[p] = vf_load(g->bias + o);
    }
    const int64_t element = bf16 ? 2 : 4, step = g->pixel_step * element;
    for (int ky = 0; ky < g->rows; ky++) {
        const float *w = g->weights + ky * g->weight_row + o;
        for (int kx = 0; kx < g->taps; kx++) {
            const char *x = (const char *)g->src + (ky * g->row_step + kx * g->tap_step) * element;
            for (int64_t i = 0; i < g->in; i++, x += element, w += g->out) {
                vf weight = vf_load(w);
                const char *at = x;
#pragma GCC unroll 8
                for (int p = 0; p < pixels; p++) {
                    uint16_t half;
                    float value;
                    memcpy(bf16 ? (void *)&half : (void *)&value, at, bf16 ? 2 : 4);
                    sum[p] += vf_all(bf16 ? vt_from_bf16(half) : value) * weight;
                    at += step;
                    KEEP_IN_REGISTER(at);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < pixels; p++) {
        vf_store(g->dst + p * g->out + o, sum[p]);
    }
}

VT_INLINE void group_pixels(const int pixels, const bool bf16, const vt_cpu_group *q)
{
    const vt_cpu_group g = *q; /* what is stored below can't change it */
    for (int64_t o = 0; o < g.out; o += LANES) {
        group_vector(pixels, bf16, &g, o);
    }
}

VT_INLINE void group_any(const bool bf16, const vt_cpu_group *g)
{
    if (g->pixels == VT_CPU_GROUP_PIXELS) {
        group_pixels(VT_CPU_GROUP_PIXELS, bf16, g);
        return;
    }
    vt_cpu_group one = *g;
    for (int p = 0; p < g->pixels; p++) {
        one.src = (const char *)g->src + p * g->pixel_step * (bf16 ? 2 : 4);
        one.dst = g->dst + p * g->out;
        group_pixels(1, bf16, &one);
    }
}

static void group(const vt_cpu_group *g)
{
    if (g->src_bf16) {
        group_any(true, g);
    } else {
        group_any(false, g);
    }
}

/* ---- element-wise ---------------------------------------------------------------------------- */

VT_INLINE void multiply_vector(const vt_cpu_multiply *m, const bool a_bf16, const bool dst_bf16,
                               int64_t r, int64_t c, int64_t count)
{
    vf x = vf_load_some(m->a, a_bf16, r * m->cols + c, count) *
           vf_load_some(m->b, m->b_bf16, r * m->b_stride + c, count);
    if (m->shift) {
        x += vf_load_some(m->shift, false, c, count);
    }
    vf_store_some(m->dst, dst_bf16, r * m->cols + c, count, x);
}

VT_INLINE void multiply_rows(const vt_cpu_multiply *p, const bool a_bf16, const bool dst_bf16)
{
    const vt_cpu_multiply m = *p; /* what is stored below can't change it */
    for (int64_t r = 0; r < m.rows; r++) {
        int64_t c = 0;
        for (; c + LANES <= m.cols; c += LANES) {
            multiply_vector(&m, a_bf16, dst_bf16, r, c, LANES);
        }
        if (c < m.cols) {
            multiply_vector(&m, a_bf16, dst_bf16, r, c, m.cols - c);
        }
    }
}

static void multiply(const vt_cpu_multiply *m)
{
    if (m->a_bf16) {
        m->dst_bf16 ? multiply_rows(m, true, true) : multiply_rows(m, true, false);
    } else {
        m->dst_bf16 ? multiply_rows(m, false, true) : multiply_rows(m, false, false);
    }
}

/* ---- pooling --------------------------------------------------------------------------------- */

VT_INLINE void pool_vector(const bool largest, const vt_cpu_pool *p, int64_t out, int64_t c,
                           int64_t count)
{
    int64_t first = out * p->stride - p->pad_left;
    int64_t begin = first < 0 ? 0 : first;
    int64_t end = first + p->kernel < p->src_w ? first + p->kernel : p->src_w;
    vf x = largest ? vf_all(-INFINITY) : (vf){0};
    for (int ky = 0; ky < p->rows; ky++) {
        for (int64_t i = begin; i < end; i++) {
            vf in =
                vf_load_some(p->src, p->src_bf16, ky * p->row_step + i * p->channels + c, count);
            x = largest ? vf_max(in, x) : x + in;
        }
    }
    x = largest ? x : x / (float)(p->kernel * p->kernel);
    vf_store_some(p->dst, p->dst_bf16, out * p->channels + c, count, x);
}

VT_INLINE void pool_row(const bool largest, const vt_cpu_pool *q)
{
    const vt_cpu_pool p = *q; /* what is stored below can't change it */
    for (int64_t out = 0; out < p.dst_w; out++) {
        int64_t c = 0;
        for (; c + LANES <= p.channels; c += LANES) {
            pool_vector(largest, &p, out, c, LANES);
        }
        if (c < p.channels) {
            pool_vector(largest, &p, out, c, p.channels - c);
        }
    }
}

static void pool(const vt_cpu_pool *p)
{
    if (p->largest) {
        pool_row(true, p);
    } else {
        pool_row(false, p);
    }
}

/* ---- sampling -------------------------------------------------------------------------------- */

VT_INLINE void blend_rows(const int corners, const vt_cpu_blend *q)
{
    const vt_cpu_blend b = *q;
    for (int64_t c = 0; c < b.channels; c += LANES) {
        int64_t count = b.channels - c < LANES ? b.channels - c : LANES;
        vf x = {0};
#pragma GCC unroll 4
        for (int i = 0; i < corners; i++) {
            x += vf_load_some(b.src, b.src_bf16, b.at[i] + c, count) * b.factor[i];
        }
        vf_store_some(b.dst, b.dst_bf16, c, count, x);
    }
}

static void blend(const vt_cpu_blend *b)
{
    switch (b->corners) {
    case 0: blend_rows(0, b); break;
    case 1: blend_rows(1, b); break;
    case 2: blend_rows(2, b); break;
    default: blend_rows(4, b); break;
    }
}

/* ---- sums of channels ------------------------------------------------------------------------ */

enum { SUMS = 8 };

/* `vectors` of channels from c on; only `lanes` of the last one exist. */
VT_INLINE void sum_vectors(const int vectors, const bool bf16, const vt_cpu_sums *p, int64_t c,
                           int64_t lanes)
{
    vf sum[SUMS] = {{0}};
    for (int64_t i = 0; i < p->rows; i++) {
        int64_t at = i * p->stride + c;
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) {
            sum[j] += vf_load_some(p->src, bf16, at + j * LANES, j + 1 < vectors ? LANES : lanes);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
        int64_t count = j + 1 < vectors ? LANES : lanes, at = c + j * LANES;
        vf_store_some(p->sum, false, at, count, vf_load_some(p->sum, false, at, count) + sum[j]);
    }
}

VT_INLINE void sum_rows(const bool bf16, const vt_cpu_sums *p)
{
    int64_t c = 0;
    for (; c + SUMS * LANES <= p->channels; c += SUMS * LANES) {
        sum_vectors(SUMS, bf16, p, c, LANES);
    }
    for (; c + LANES <= p->channels; c += LANES) {
        sum_vectors(1, bf16, p, c, LANES);
    }
    if (c < p->channels) {
        sum_vectors(1, bf16, p, c, p->channels - c);
    }
}

static void sum(const vt_cpu_sums *p)
{
    if (p->src_bf16) {
        sum_rows(true, p);
    } else {
        sum_rows(false, p);
    }
}

const vt_cpu_map_kernels VT_CPU_TABLE(vt_cpu_map_kernels_, VT_ISA_NAME) = {
    .depthwise_rows = ROWS,
    .depthwise = depthwise,
    .group = group,
    .multiply = multiply,
    .pool = pool,
    .blend = blend,
    .sum = sum,
};
