/* SPDX-License-Identifier: Apache-2.0 */
/* Operations against their formulas written out again in double, on every device: linear maps,
 * convolutions, norms, windows, space to depth, mean, sum. The attention is compared with the
 * papers' way of computing it (support/model_attention.c). The other operations are in
 * test_ops_ref_maps.c and test_ops_ref_attention.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/formula.h"
#include "support/model_attention.h"
#include "support/model_compare.h"
#include "support/random.h"
#include "support/tolerance.h"

/* (x - mean) / sqrt(var + eps) * scale + shift of one row */
static void normalise(double *x, int64_t count, const float *scale, const float *shift, double eps)
{
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; i++) {
        mean += x[i] / (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
        variance += (x[i] - mean) * (x[i] - mean) / (double)count;
    }
    for (int64_t i = 0; i < count; i++) {
        x[i] = (x[i] - mean) / sqrt(variance + eps);
        x[i] = x[i] * (scale ? (double)scale[i] : 1.0) + (shift ? (double)shift[i] : 0.0);
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

/* What the result is joined with: the rows themselves, which then are as wide as it. */
typedef enum linear_join { ALONE, ADDED, FACTOR } linear_join;

typedef struct linear_case {
    vt_shape in;
    int out, patch;
    vt_activation act;
    vt_norm_place place;
    bool bias, affine;
    linear_join join;
} linear_case;

static const linear_case linear_cases[] = {
    {{1, 1, 1, 1}, 1, 1, VT_ACT_NONE, VT_NORM_NONE, false, false, ALONE},
    {{3, 5, 7, 13}, 17, 1, VT_ACT_GELU, VT_NORM_NONE, true, false, ALONE},
    {{1, 5, 7, 13}, 33, 1, VT_ACT_GELU_TANH, VT_NORM_INPUT, true, true, ALONE},
    {{1, 3, 2, 48}, 19, 1, VT_ACT_SILU, VT_NORM_OUTPUT, true, true, ALONE},
    {{2, 1, 9, 31}, 31, 1, VT_ACT_RELU, VT_NORM_NONE, false, false, ADDED},
    {{1, 4, 4, 8}, 8, 1, VT_ACT_NONE, VT_NORM_OUTPUT, true, true, ADDED},
    {{1, 4, 4, 8}, 8, 1, VT_ACT_NONE, VT_NORM_INPUT, true, false, ADDED},
    {{2, 7, 5, 6}, 11, 2, VT_ACT_NONE, VT_NORM_INPUT, false, true, ALONE},
    {{1, 9, 10, 3}, 12, 4, VT_ACT_NONE, VT_NORM_OUTPUT, true, true, ALONE},
    {{1, 2, 3, 3}, 5, 4, VT_ACT_GELU, VT_NORM_NONE, true, false, ALONE},
    {{1, 1, 1, 3}, 16, 7, VT_ACT_NONE, VT_NORM_NONE, true, false, ALONE},
    {{2, 5, 3, 7}, 9, 1, VT_ACT_SIGMOID, VT_NORM_INPUT, true, true, ALONE},
    {{2, 3, 7, 5}, 11, 3, VT_ACT_TANH, VT_NORM_OUTPUT, true, true, ALONE},
    {{2, 7, 5, 3}, 13, 2, VT_ACT_SILU, VT_NORM_NONE, true, false, ALONE},
    {{2, 7, 5, 3}, 12, 2, VT_ACT_TANH, VT_NORM_OUTPUT, true, true, ADDED},
    {{2, 3, 5, 13}, 13, 1, VT_ACT_NONE, VT_NORM_NONE, true, false, FACTOR},
    {{2, 5, 3, 9}, 9, 1, VT_ACT_SIGMOID, VT_NORM_INPUT, false, true, FACTOR},
    {{2, 5, 7, 3}, 27, 3, VT_ACT_SILU, VT_NORM_NONE, true, false, FACTOR},
};

/* Element i of the row that output pixel p of a map of h x w reads. */
static double row_at(const linear_case *k, const float *in, int64_t h, int64_t w, int64_t p,
                     int64_t i)
{
    int64_t place = i / k->in.c;
    return pixel(in, k->in, p / (h * w), p / w % h * k->patch + place / k->patch,
                 p % w * k->patch + place % k->patch, i % k->in.c);
}

/* y[pixel][:] of the formula in vertebra/ops.h. */
static void plain_linear(const test_program *t, const linear_case *k, const vt_linear *l,
                         const float *in, float *out)
{
    int64_t h = (k->in.h + k->patch - 1) / k->patch, w = (k->in.w + k->patch - 1) / k->patch;
    int64_t cols = k->in.c * k->patch * k->patch;
    const float *scale = t->values[l->norm.scale.id], *shift = t->values[l->norm.shift.id];
    double *row = malloc((size_t)cols * sizeof *row), *y = malloc((size_t)k->out * sizeof *y);
    for (int64_t p = 0; p < k->in.n * h * w; p++) {
        for (int64_t i = 0; i < cols; i++) {
            row[i] = row_at(k, in, h, w, p, i);
        }
        if (k->place == VT_NORM_INPUT) {
            normalise(row, cols, scale, shift, (double)l->norm.eps);
        }
        for (int64_t o = 0; o < k->out; o++) {
            y[o] = l->bias.id ? (double)t->values[l->bias.id][o] : 0.0;
            for (int64_t i = 0; i < cols; i++) {
                y[o] += (double)t->values[l->weight.id][o * cols + i] * row[i];
            }
            y[o] = activate(k->act, y[o]);
        }
        if (k->place == VT_NORM_OUTPUT) {
            normalise(y, k->out, scale, shift, (double)l->norm.eps);
        }
        for (int64_t o = 0; o < k->out; o++) {
            double other = k->join == ALONE ? 0.0 : row_at(k, in, h, w, p, o);
            out[p * k->out + o] = (float)(k->join == FACTOR ? other * y[o] : other + y[o]);
        }
    }
    free(row);
    free(y);
}

static void check_linear(const linear_case *k, const char *device, uint32_t seed)
{
    test_program t;
    program_begin(&t, k->in);
    int64_t cols = k->in.c * k->patch * k->patch;
    int64_t width = k->place == VT_NORM_OUTPUT ? k->out : cols;
    vt_linear l = {
        .act = k->act, .norm_place = k->place, .patch = k->patch, .norm = {.eps = 1e-5f}};
    l.weight = random_matrix(&t, k->out, cols, seed);
    if (k->bias) {
        l.bias = random_vector(&t, k->out, seed + 1, 1.0f, 0.0f);
    }
    if (k->affine) {
        l.norm.scale = random_vector(&t, width, seed + 2, 0.5f, 1.0f);
        l.norm.shift = random_vector(&t, width, seed + 3, 0.5f, 0.0f);
    }
    vt_value x = vt_input(&t.builder);
    vt_value rows = x; /* as a map of their own */
    if (k->join != ALONE && k->patch > 1) {
        rows = vt_op_space_to_depth(&t.builder, x, k->patch);
    }
    vt_value y = vt_op_linear(&t.builder, x, &l);
    vt_shape out = vt_value_shape(&t.builder, y);
    if (k->join != ALONE) {
        y = (k->join == FACTOR ? vt_op_mul : vt_op_add)(&t.builder, rows, y);
    }
    vt_output(&t.builder, "y", y);
    vt_program_rewrite(&t.program, VT_ALL_REWRITES);
    const vt_record *last = &t.program.records[t.program.record_count - 1];
    assert_true(last->kind == VT_OP_LINEAR && last->as.linear.gated == (k->join == FACTOR));
    float *in = random_map(k->in, seed + 4, 2.0f, 0.25f);
    float *want = malloc(shape_count(out) * sizeof *want);
    plain_linear(&t, k, &l, in, want);
    char what[64];
    snprintf(what, sizeof what, "linear case %d", (int)(k - linear_cases));
    run_and_compare(&t, device, 0, in, want, 4 * tolerance_f32(cols), what);
    free(in);
    free(want);
}

static void test_linear(void **state)
{
    (void)state;
    for (const char *const *device = test_devices; *device; device++) {
        for (size_t i = 0; i < sizeof linear_cases / sizeof linear_cases[0]; i++) {
            check_linear(&linear_cases[i], *device, (uint32_t)(100 * i + 1));
        }
    }
}

/* ---- convolution ----------------------------------------------------------------------------- */

typedef struct conv_case {
    vt_shape in;
    int out;
    vt_conv2d conv;
} conv_case;

/* clang-format off */
static const conv_case conv_cases[] = {
    {{1, 1, 1, 1}, 1, {.kernel_h = 1, .kernel_w = 1, .stride_h = 1, .stride_w = 1,
                       .dilation_h = 1, .dilation_w = 1}},
    {{2, 7, 5, 3}, 9, {.kernel_h = 3, .kernel_w = 3, .stride_h = 1, .stride_w = 1,
                       .dilation_h = 1, .dilation_w = 1, .pad_top = 1, .pad_left = 1,
                       .pad_bottom = 1, .pad_right = 1, .act = VT_ACT_GELU}},
    {{1, 11, 13, 5}, 7, {.kernel_h = 3, .kernel_w = 2, .stride_h = 2, .stride_w = 3,
                         .dilation_h = 2, .dilation_w = 3, .pad_top = 0, .pad_left = 2,
                         .pad_bottom = 3, .pad_right = 1, .act = VT_ACT_RELU}},
    {{1, 2, 9, 4}, 6, {.kernel_h = 5, .kernel_w = 1, .stride_h = 1, .stride_w = 2,
                       .dilation_h = 1, .dilation_w = 1, .pad_top = 4, .pad_bottom = 2}},
    {{3, 4, 4, 2}, 33, {.kernel_h = 7, .kernel_w = 7, .stride_h = 3, .stride_w = 3,
                        .dilation_h = 1, .dilation_w = 1, .pad_top = 3, .pad_left = 2,
                        .pad_bottom = 3, .pad_right = 4, .act = VT_ACT_SILU}},
    {{1, 9, 6, 3}, 16, {.kernel_h = 4, .kernel_w = 4, .stride_h = 4, .stride_w = 4,
                        .dilation_h = 1, .dilation_w = 1, .pad_bottom = 3, .pad_right = 2}},
    {{2, 7, 5, 12}, 9, {.kernel_h = 3, .kernel_w = 3, .stride_h = 1, .stride_w = 2,
                        .dilation_h = 1, .dilation_w = 1, .pad_top = 1, .pad_left = 1,
                        .pad_bottom = 1, .pad_right = 1, .groups = 3, .act = VT_ACT_SILU}},
    {{1, 6, 6, 8}, 16, {.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2,
                        .dilation_h = 1, .dilation_w = 1, .groups = 8}},
};
/* clang-format on */

static void plain_conv(const conv_case *k, const float *w, const float *bias, vt_shape out,
                       const float *in, float *dst)
{
    const vt_conv2d *c = &k->conv;
    int64_t groups = c->groups > 1 ? c->groups : 1, channels = k->in.c / groups;
    for (int64_t i = 0; i < (int64_t)shape_count(out); i++) {
        int64_t o = i % out.c, first = o / (out.c / groups) * channels;
        int64_t x = i / out.c % out.w, y = i / (out.c * out.w) % out.h;
        double sum = (double)bias[o];
        for (int64_t j = 0; j < c->kernel_h * c->kernel_w * channels; j++) {
            int64_t ch = first + j % channels, kx = j / channels % c->kernel_w;
            int64_t ky = j / channels / c->kernel_w;
            sum += (double)w[o * c->kernel_h * c->kernel_w * channels + j] *
                   pixel(in, k->in, i / (out.c * out.w * out.h),
                         y * c->stride_h + ky * c->dilation_h - c->pad_top,
                         x * c->stride_w + kx * c->dilation_w - c->pad_left, ch);
        }
        dst[i] = (float)activate(c->act, sum);
    }
}

/* With the rewrites on and off: a convolution that tiles the map becomes a linear one. */
static void test_conv2d(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * (sizeof conv_cases / sizeof conv_cases[0]); i++) {
        const conv_case *k = &conv_cases[i / 4];
        test_program t;
        program_begin(&t, k->in);
        vt_conv2d c = k->conv;
        int64_t cols = c.kernel_h * c.kernel_w * k->in.c / (c.groups > 1 ? c.groups : 1);
        c.weight = random_matrix(&t, k->out, cols, (uint32_t)i + 1);
        t.matrix[c.weight.id] = c.groups <= 1;
        c.bias = random_vector(&t, k->out, (uint32_t)i + 2, 1.0f, 0.0f);
        vt_value y = vt_op_conv2d(&t.builder, vt_input(&t.builder), &c);
        vt_output(&t.builder, "y", y);
        vt_shape out = vt_value_shape(&t.builder, y);
        float *in = random_map(k->in, (uint32_t)i + 3, 2.0f, 0.0f);
        float *want = malloc(shape_count(out) * sizeof *want);
        plain_conv(k, t.values[c.weight.id], t.values[c.bias.id], out, in, want);
        char what[64];
        snprintf(what, sizeof what, "conv2d case %zu", i / 4);
        run_and_compare(&t, test_devices[i % 2], i & 2 ? VT_ALL_REWRITES : 0, in, want,
                        2 * tolerance_f32(cols), what);
        free(in);
        free(want);
    }
}

/* ---- norm ------------------------------------------------------------------------------------ */

typedef struct norm_case {
    vt_shape in;
    float scale, offset, eps; /* of the rows */
    bool affine;
    double tolerance;
} norm_case;

/* Rows of tiny variance show the epsilon; rows far from zero show a one-pass variance. */
static const norm_case norm_cases[] = {
    {{1, 1, 1, 1}, 1.0f, 0.5f, 1e-5f, true, 1e-6},
    {{3, 5, 3, 7}, 2.0f, 0.0f, 1e-5f, true, 3e-6},
    {{1, 2, 9, 97}, 2.0f, 0.3f, 1e-6f, false, 3e-6},
    {{1, 2, 3, 64}, 2e-3f, 0.0f, 1e-5f, true, 3e-6},
    {{1, 2, 3, 33}, 2e-3f, 0.0f, 1e-6f, false, 3e-6},
    {{1, 4, 1, 31}, 1.0f, 1e3f, 1e-5f, true, 1e-3},
    {{1, 1, 5, 384}, 6e4f, 0.0f, 1e-5f, false, 3e-6},
};

static void test_norm(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof norm_cases / sizeof norm_cases[0]); i++) {
        const norm_case *k = &norm_cases[i / 2];
        test_program t;
        program_begin(&t, k->in);
        vt_norm norm = {.eps = k->eps};
        if (k->affine) {
            norm.scale = random_vector(&t, k->in.c, 1, 0.5f, 1.0f);
            norm.shift = random_vector(&t, k->in.c, 2, 0.5f, 0.0f);
        }
        vt_output(&t.builder, "y", vt_op_norm(&t.builder, vt_input(&t.builder), &norm));
        float *in = random_map(k->in, (uint32_t)i / 2 + 7, k->scale, k->offset);
        float *want = malloc(shape_count(k->in) * sizeof *want);
        double *row = malloc((size_t)k->in.c * sizeof *row);
        for (int64_t p = 0; p < k->in.n * k->in.h * k->in.w; p++) {
            for (int64_t c = 0; c < k->in.c; c++) {
                row[c] = (double)in[p * k->in.c + c];
            }
            normalise(row, k->in.c, t.values[norm.scale.id], t.values[norm.shift.id],
                      (double)k->eps);
            for (int64_t c = 0; c < k->in.c; c++) {
                want[p * k->in.c + c] = (float)row[c];
            }
        }
        char what[64];
        snprintf(what, sizeof what, "norm case %zu", i / 2);
        run_and_compare(&t, test_devices[i % 2], 0, in, want, k->tolerance, what);
        free(in);
        free(want);
        free(row);
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

typedef struct attention_case {
    const char *name;
    int n, h, w, heads, q_width, v_width, window_h, window_w, shift_h, shift_w;
    bool cosine, bias, pad;
    float spread; /* of q and k */
} attention_case;

/* Each runs under both roll rules. The last ones make scores so different that a mask of -100 does
 * not hide every key: minus infinity in its place would show. */
static const attention_case attention_cases[] = {
    {"plain window", 1, 14, 14, 3, 8, 8, 7, 7, 0, 0, false, true, true, 1},
    {"shifted", 2, 14, 21, 3, 8, 8, 7, 7, 3, 3, false, true, true, 1},
    {"one token", 3, 1, 1, 2, 4, 4, 7, 7, 3, 3, false, true, true, 1},
    {"smaller than a window", 1, 3, 5, 2, 4, 4, 7, 7, 3, 3, false, true, true, 1},
    {"shorter than the shift", 1, 2, 8, 1, 4, 4, 7, 7, 3, 3, false, true, true, 1},
    {"windows do not divide", 1, 13, 9, 2, 5, 5, 4, 4, 2, 2, false, true, true, 1},
    {"uneven window", 1, 11, 10, 2, 6, 6, 3, 5, 1, 2, false, true, true, 1},
    {"shift on one axis", 2, 9, 13, 2, 6, 6, 4, 5, 0, 2, false, true, true, 1},
    {"shift on the other", 1, 9, 13, 2, 6, 6, 4, 5, 3, 0, false, true, true, 1},
    {"window of one", 1, 3, 4, 2, 6, 6, 1, 1, 0, 0, false, true, true, 1},
    {"no bias, no pad rows", 1, 10, 10, 2, 4, 4, 4, 4, 2, 2, false, false, false, 1},
    {"values of another width", 1, 9, 8, 3, 4, 7, 4, 4, 2, 2, false, true, true, 1},
    {"32 channels", 1, 10, 8, 3, 32, 32, 7, 7, 3, 3, false, true, true, 0.5f},
    {"window 12", 1, 13, 24, 2, 32, 32, 12, 12, 6, 6, false, true, true, 0.5f},
    {"cosine", 2, 13, 9, 3, 8, 8, 4, 4, 2, 2, true, true, true, 1},
    {"cosine, pad rows of zeros", 1, 5, 6, 3, 8, 8, 4, 4, 2, 2, true, true, false, 1},
    {"cosine, window 8", 1, 16, 15, 3, 32, 32, 8, 8, 4, 4, true, true, true, 1},
    {"mask leaks", 1, 12, 8, 2, 4, 4, 4, 4, 2, 2, false, true, true, 12},
    {"saturated", 1, 8, 8, 2, 8, 8, 4, 4, 0, 0, false, true, true, 30},
};

/* The input holds q, k and v of every head after one another, then channels that nobody reads. */
static void slice(const float *in, size_t pixels, int from, int width, int total, float *out)
{
    for (size_t p = 0; p < pixels; p++) {
        memcpy(out + p * (size_t)width, in + p * (size_t)total + from, (size_t)width * sizeof *out);
    }
}

/* A table as checkpoints have it (query minus key, [offsets, heads]) and as the record wants it
 * (key minus query, [heads, offsets]). */
static vt_weight bias_table(test_program *t, const attention_case *k, const float *table)
{
    int offsets = (2 * k->window_h - 1) * (2 * k->window_w - 1);
    float *turned = malloc((size_t)(offsets * k->heads) * sizeof *turned);
    for (int i = 0; i < offsets * k->heads; i++) {
        turned[i] = table[(offsets - 1 - i % offsets) * k->heads + i / offsets];
    }
    vt_weight w = program_vector(t, (int64_t)offsets * k->heads, turned);
    free(turned);
    return w;
}

static void check_attention(const attention_case *k, vt_roll roll, const char *device)
{
    enum { EXTRA = 3, MAX_TABLE = 23 * 23 * 4 };
    int qw = k->heads * k->q_width, vw = k->heads * k->v_width, total = 2 * qw + vw + EXTRA;
    vt_shape shape = {k->n, k->h, k->w, total};
    size_t pixels = (size_t)(k->n * k->h * k->w);
    float table[MAX_TABLE], temperature[4] = {-1.0f, 2.5f, 7.0f, 0.0f};
    random_fill(table, MAX_TABLE, 5, 1.5f, 0.0f);
    float *in = random_map(shape, (uint32_t)(k->h * 31 + k->w), k->spread, 0.0f);
    memset(in, 0, (size_t)k->q_width * sizeof *in); /* a query of length zero */
    float *q = malloc(pixels * (size_t)qw * sizeof *q), *key = malloc(pixels * (size_t)qw * 4);
    float *v = malloc(pixels * (size_t)vw * sizeof *v), *want = malloc(pixels * (size_t)vw * 4);
    slice(in, pixels, 0, qw, total, q);
    slice(in, pixels, qw, qw, total, key);
    slice(in, pixels, 2 * qw, vw, total, v);
    test_program t;
    program_begin(&t, shape);
    vt_value x = vt_input(&t.builder);
    vt_attention a = {
        .heads = k->heads,
        .q = {x, 0, k->q_width},
        .k = {x, qw, k->q_width},
        .v = {x, 2 * qw, k->v_width},
        .scale = 0.37f,
        .pattern = {VT_PATTERN_WINDOW, k->window_h, k->window_w, k->shift_h, k->shift_w, roll}};
    plain_attention p = {.n = k->n,
                         .h = k->h,
                         .w = k->w,
                         .heads = k->heads,
                         .q_width = k->q_width,
                         .v_width = k->v_width,
                         .window_h = k->window_h,
                         .window_w = k->window_w,
                         .shift_h = k->shift_h,
                         .shift_w = k->shift_w,
                         .roll = roll,
                         .scale = a.scale,
                         .temperature = k->cosine ? temperature : NULL,
                         .table = k->bias ? table : NULL,
                         .q = q,
                         .k = key,
                         .v = v};
    if (k->cosine) {
        a.temperature = program_vector(&t, k->heads, temperature);
    }
    if (k->bias) {
        a.bias = bias_table(&t, k, table);
    }
    if (k->pad) {
        a.pad = random_vector(&t, total, 9, 1.0f, 0.0f);
        p.k_pad = t.values[a.pad.id] + qw;
        p.v_pad = t.values[a.pad.id] + 2 * qw;
    }
    vt_output(&t.builder, "y", vt_op_attention(&t.builder, &a));
    plain_attention_run(&p, want);
    char what[96];
    snprintf(what, sizeof what, "attention '%s', roll rule %d", k->name, (int)roll);
    double tolerance = 1e-5 * (k->spread > 5 ? 20 : k->cosine ? 5 : 1);
    run_and_compare(&t, device, 0, in, want, tolerance, what);
    free(in);
    free(q);
    free(key);
    free(v);
    free(want);
}

static void test_attention(void **state)
{
    (void)state;
    for (const char *const *device = test_devices; *device; device++) {
        for (size_t i = 0; i < sizeof attention_cases / sizeof attention_cases[0]; i++) {
            check_attention(&attention_cases[i], VT_ROLL_PADDED, *device);
            check_attention(&attention_cases[i], VT_ROLL_MAP, *device);
        }
    }
}

/* q, k and v in three maps. */
static void test_attention_of_three_maps(void **state)
{
    (void)state;
    vt_shape shape = {1, 9, 7, 8};
    float *in = random_map(shape, 3, 1.0f, 0.0f), *maps[3], want[9 * 7 * 8];
    for (int d = 0; test_devices[d]; d++) {
        test_program t;
        program_begin(&t, shape);
        vt_value x = vt_input(&t.builder), value[3];
        for (int i = 0; i < 3; i++) {
            vt_linear l = {.weight = random_matrix(&t, 8, 8, (uint32_t)i + 1)};
            linear_case k = {shape, 8, 1, VT_ACT_NONE, VT_NORM_NONE, false, false, ALONE};
            value[i] = vt_op_linear(&t.builder, x, &l);
            maps[i] = malloc(shape_count(shape) * sizeof(float));
            plain_linear(&t, &k, &l, in, maps[i]);
        }
        vt_attention a = {.heads = 2,
                          .q = {value[0], 0, 4},
                          .k = {value[1], 0, 4},
                          .v = {value[2], 0, 4},
                          .scale = 0.5f,
                          .pattern = {.window_h = 4, .window_w = 4, .shift_h = 2, .shift_w = 2}};
        plain_attention p = {.n = 1,
                             .h = 9,
                             .w = 7,
                             .heads = 2,
                             .q_width = 4,
                             .v_width = 4,
                             .window_h = 4,
                             .window_w = 4,
                             .shift_h = 2,
                             .shift_w = 2,
                             .roll = VT_ROLL_PADDED,
                             .scale = 0.5f,
                             .q = maps[0],
                             .k = maps[1],
                             .v = maps[2]};
        vt_output(&t.builder, "y", vt_op_attention(&t.builder, &a));
        plain_attention_run(&p, want);
        run_and_compare(&t, test_devices[d], 0, in, want, 1e-5, "attention of three maps");
        for (int i = 0; i < 3; i++) {
            free(maps[i]);
        }
    }
    free(in);
}

/* ---- the small ones -------------------------------------------------------------------------- */

static void test_space_to_depth(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        vt_shape s = {2, 5, 7, 3}, d;
        int block = 1 + i / 2;
        test_program t;
        program_begin(&t, s);
        vt_value y = vt_op_space_to_depth(&t.builder, vt_input(&t.builder), block);
        vt_output(&t.builder, "y", y);
        d = vt_value_shape(&t.builder, y);
        float *in = random_map(s, 3, 1.0f, 0.0f), *want = calloc(shape_count(d), sizeof *want);
        for (int64_t k = 0; k < (int64_t)shape_count(s); k++) { /* scatter, not gather */
            int64_t c = k % s.c, x = k / s.c % s.w, row = k / (s.c * s.w) % s.h;
            int64_t n = k / (s.c * s.w * s.h);
            int64_t place = (row % block) * block + x % block;
            want[((n * d.h + row / block) * d.w + x / block) * d.c + place * s.c + c] = in[k];
        }
        run_and_compare(&t, test_devices[i % 2], 0, in, want, 0.0, "space_to_depth");
        free(in);
        free(want);
    }
}

/* A long sum of nearly equal numbers: the reference adds them in double. */
static void test_mean_pool(void **state)
{
    (void)state;
    for (int i = 0; test_devices[i]; i++) {
        vt_shape s = {2, 97, 101, 5};
        test_program t;
        program_begin(&t, s);
        vt_output(&t.builder, "y", vt_op_mean_pool(&t.builder, vt_input(&t.builder)));
        float *in = random_map(s, 3, 0.01f, 1000.3f), want[10];
        for (int k = 0; k < 10; k++) {
            double sum = 0;
            for (int64_t p = 0; p < s.h * s.w; p++) {
                sum += (double)in[(k / 5 * s.h * s.w + p) * s.c + k % 5];
            }
            want[k] = (float)(sum / (double)(s.h * s.w));
        }
        double tolerance = i == 0 ? 2e-7 : tolerance_f32(s.h * s.w) / 10; /* fast: f32 */
        run_and_compare(&t, test_devices[i], 0, in, want, tolerance, "mean_pool");
        free(in);
    }
}

static void test_add(void **state)
{
    (void)state;
    for (int i = 0; test_devices[i]; i++) {
        vt_shape s = {3, 5, 1, 7};
        test_program t;
        program_begin(&t, s);
        vt_value x = vt_input(&t.builder);
        vt_value y = vt_op_norm(&t.builder, x, &(vt_norm){.eps = 1e-5f});
        vt_output(&t.builder, "x2", vt_op_add(&t.builder, x, x));
        vt_output(&t.builder, "norm", y);
        vt_output(&t.builder, "y", vt_op_add(&t.builder, x, y));
        float *in = random_map(s, 3, 1.0f, 0.0f);
        size_t count;
        program_result result = program_run(&t, test_devices[i], 0, in);
        const float *sum = result_data(&result, "y", &count);
        const float *norm = result_data(&result, "norm", &count);
        const float *twice = result_data(&result, "x2", &count);
        for (size_t k = 0; k < count; k++) {
            assert_true(sum[k] == in[k] + norm[k] && twice[k] == 2.0f * in[k]);
        }
        result_clear(&result);
        program_end(&t);
        free(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_of_three_maps),
        cmocka_unit_test(test_space_to_depth),
        cmocka_unit_test(test_mean_pool),
        cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
