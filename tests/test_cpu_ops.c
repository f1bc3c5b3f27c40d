/* SPDX-License-Identifier: Apache-2.0 */
/* Every fast CPU implementation, under each instruction set that this processor has, against the
 * reference; then the promises that need no tolerance: the same bits for any number of threads and
 * for a batch or its images one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu/kernels.h"
#include "support/op_check.h"
#include "support/tolerance.h"

static uint64_t seed;

/* Calls `body` once per instruction set that can run here. */
typedef void (*backend_test)(const vt_backend *backend, const void *user);

static void for_each_backend(backend_test body, const void *user)
{
    for (vt_isa isa = VT_ISA_PORTABLE; isa <= VT_ISA_AVX512_BF16; isa++) {
        const vt_backend *backend;
        if (vt_backend_cpu(&backend, isa, NULL) == VT_OK) {
            body(backend, user);
        }
    }
}

static void expect_close(const char *what, const vt_backend *backend, const char *name,
                         const float *got, const float *want, int64_t count, double limit)
{
    double d = op_distance(got, want, count);
    if (!(d <= limit)) {
        int64_t at = 0;
        for (int64_t i = 0; i < count; i++) {
            double e = fabs((double)got[i] - (double)want[i]);
            if (!(e <= fabs((double)got[at] - (double)want[at]))) {
                at = i;
            }
        }
        fail_msg("%s, %s, %s: off by %.3g, limit %.3g; [%lld] is %.9g, reference %.9g", what,
                 backend->name, name, d, limit, (long long)at, (double)got[at], (double)want[at]);
    }
}

/* The same bits with 1, 2 and 3 threads. Returns the result. */
static float *run_all_threads(const op_case *c, const vt_backend *backend, vt_dtype dtype,
                              const char *name)
{
    size_t bytes = (size_t)op_elements(c->program.maps[c->program.records[0].dst.id].shape) * 4;
    float *one = op_run(c, backend, dtype, 1);
    for (int threads = 2; threads <= 3; threads++) {
        float *more = op_run(c, backend, dtype, threads);
        if (memcmp(one, more, bytes) != 0) {
            fail_msg("%s, %s: %d threads give other bits", name, backend->name, threads);
        }
        free(more);
    }
    return one;
}

/* The images of a batch one by one: `one` is the same case with batch 1. */
static void expect_same_batch(const op_case *c, op_case *one, const vt_backend *backend,
                              vt_dtype dtype, const float *batch, const char *name)
{
    int64_t images = c->program.maps[0].shape.n;
    vt_value dst = c->program.records[0].dst;
    int64_t count = op_elements(one->program.maps[dst.id].shape);
    for (size_t i = 0; i < c->builder.weight_count; i++) {
        if (c->weights[i]) {
            memcpy(one->weights[i], c->weights[i],
                   (size_t)(c->shapes[i].rows * c->shapes[i].cols) * sizeof(float));
        }
    }
    for (int64_t n = 0; n < images; n++) {
        for (size_t i = 0; i < c->program.map_count; i++) {
            int64_t size = op_elements(one->program.maps[i].shape);
            if (c->maps[i]) {
                memcpy(one->maps[i], c->maps[i] + n * size, (size_t)size * sizeof(float));
            }
        }
        float *got = op_run(one, backend, dtype, 2);
        if (memcmp(got, batch + n * count, (size_t)count * sizeof *got) != 0) {
            fail_msg("%s, %s: image %d alone gives other bits", name, backend->name, (int)n);
        }
        free(got);
    }
}

/* ---- linear ---------------------------------------------------------------------------------- */

typedef struct linear_case {
    const char *name;
    vt_shape src;
    int64_t out;
    int patch;
    vt_activation act;
    vt_norm_place norm;
    bool bias, affine, residual, src_bf16, dst_bf16;
    float mean, spread;
} linear_case;

static const linear_case linear_cases[] = {
    {"one", {1, 1, 1, 1}, 1, 1, 0, 0, true, false, false, false, false, 0, 1},
    {"plain", {1, 5, 7, 24}, 64, 1, 0, 0, false, false, false, false, false, 0, 1},
    {"primes", {3, 7, 13, 37}, 53, 1, VT_ACT_GELU, 0, true, false, true, false, false, 0, 1},
    {"norm", {1, 14, 14, 96}, 288, 1, 0, VT_NORM_INPUT, true, true, false, false, false, 0, 1},
    {"norm half out",
     {1, 14, 9, 96},
     288,
     1,
     0,
     VT_NORM_INPUT,
     true,
     true,
     false,
     false,
     true,
     0,
     1},
    {"fc1",
     {1, 7, 7, 192},
     768,
     1,
     VT_ACT_GELU,
     VT_NORM_INPUT,
     true,
     true,
     false,
     false,
     true,
     0,
     1},
    {"fc2", {1, 7, 7, 768}, 192, 1, 0, 0, true, false, true, true, false, 0, 1},
    {"row of 4096 bytes", {1, 5, 6, 1024}, 40, 1, 0, 0, true, false, true, false, false, 0, 1},
    {"half row of 4096 bytes", {1, 5, 6, 2048}, 40, 1, 0, 0, true, false, true, true, true, 0, 1},
    {"odd half", {1, 4, 4, 33}, 31, 1, VT_ACT_SILU, 0, true, false, true, true, true, 0, 1},
    {"merge", {3, 9, 11, 12}, 24, 2, 0, VT_NORM_INPUT, false, true, false, false, false, 0, 1},
    {"stem", {1, 30, 41, 3}, 96, 4, 0, 0, true, false, false, false, false, 0, 1},
    {"output norm",
     {3, 5, 7, 48},
     70,
     1,
     VT_ACT_RELU,
     VT_NORM_OUTPUT,
     true,
     true,
     true,
     false,
     false,
     0,
     1},
    {"output norm half",
     {1, 7, 7, 64},
     96,
     1,
     VT_ACT_GELU_TANH,
     VT_NORM_OUTPUT,
     true,
     false,
     true,
     true,
     true,
     0,
     1},
    {"mean 1000", {1, 7, 7, 96}, 64, 1, 0, VT_NORM_INPUT, true, true, false, false, false, 1000, 1},
    {"large", {1, 3, 5, 40}, 40, 1, VT_ACT_GELU, 0, true, false, false, false, false, 0, 1e4f},
    {"tiny", {1, 3, 5, 40}, 40, 1, VT_ACT_SILU, 0, true, false, false, false, false, 0, 1e-18f},
    {"head", {1, 1, 1, 768}, 1000, 1, 0, 0, true, false, false, false, false, 0, 1},
};

static void build_linear(op_case *c, const linear_case *k, int64_t batch)
{
    op_begin(c, seed);
    vt_shape s = k->src;
    s.n = batch;
    int patch = k->patch;
    vt_shape d = {s.n, (s.h + patch - 1) / patch, (s.w + patch - 1) / patch, k->out};
    int64_t in = s.c * patch * patch;
    int64_t width = k->norm == VT_NORM_OUTPUT ? k->out : in;
    vt_value x = op_map(c, s, k->mean, k->spread);
    vt_value residual = k->residual ? op_map(c, d, 0, 1) : VT_NO_VALUE;
    vt_linear p = {.act = k->act, .norm_place = k->norm, .patch = patch, .norm.eps = 1e-5f};
    p.weight = op_matrix(c, k->out, in, 1.0f / sqrtf((float)in));
    p.bias = k->bias ? op_vector(c, k->out, 0, 0.5f * k->spread) : (vt_weight){0};
    p.norm.scale = k->affine ? op_vector(c, width, 1, 0.2f) : (vt_weight){0};
    p.norm.shift = k->affine ? op_vector(c, width, 0, 0.2f) : (vt_weight){0};
    vt_value dst = vt_op_linear(&c->builder, x, &p);
    assert_int_equal(c->builder.status, VT_OK);
    c->program.records[0].source[1] = residual;
    op_set_dtype(c, x, k->src_bf16 ? VT_BF16 : VT_F32);
    op_set_dtype(c, dst, k->dst_bf16 ? VT_BF16 : VT_F32);
}

/* What the case is in f32: the reference on f32 maps. */
static float *reference(op_case *c)
{
    vt_program *p = &c->program;
    vt_dtype types[OP_MAX_MAPS];
    for (size_t i = 0; i < p->map_count; i++) {
        types[i] = p->maps[i].dtype;
        p->maps[i].dtype = VT_F32;
    }
    float *out = op_run(c, &vt_backend_ref, VT_F32, 1);
    for (size_t i = 0; i < p->map_count; i++) {
        p->maps[i].dtype = types[i];
    }
    return out;
}

/* The plainest computation in bf16: operands of the product rounded, sums in f32. */
static float *naive_bf16(const linear_case *k)
{
    op_case c, norm;
    build_linear(&c, k, k->src.n);
    op_begin(&norm, 0);
    vt_linear *p = &c.program.records[0].as.linear;
    vt_shape s = c.program.maps[0].shape;
    if (k->norm == VT_NORM_INPUT && k->patch == 1) {
        /* norm as a record of its own, whose result is rounded */
        vt_value x = op_map(&norm, s, 0, 1);
        memcpy(norm.maps[0], c.maps[0], (size_t)op_elements(s) * sizeof(float));
        vt_norm own = p->norm;
        for (int i = 0; i < 2 && k->affine; i++) {
            int32_t id = i == 0 ? p->norm.scale.id : p->norm.shift.id;
            vt_weight w = op_vector(&norm, s.c, 0, 0);
            memcpy(norm.weights[w.id], c.weights[id], (size_t)s.c * sizeof(float));
            *(i == 0 ? &own.scale : &own.shift) = w;
        }
        vt_op_norm(&norm.builder, x, &own);
        float *rows = op_run(&norm, &vt_backend_ref, VT_F32, 1);
        memcpy(c.maps[0], rows, (size_t)op_elements(s) * sizeof(float));
        free(rows);
        p->norm_place = VT_NORM_NONE;
    }
    op_round_bf16(c.maps[0], op_elements(s));
    op_round_bf16(c.weights[p->weight.id],
                  c.shapes[p->weight.id].rows * c.shapes[p->weight.id].cols);
    float *out = reference(&c);
    if (k->dst_bf16) {
        op_round_bf16(out, op_elements(c.program.maps[c.program.records[0].dst.id].shape));
    }
    op_clear(&norm);
    op_clear(&c);
    return out;
}

static void check_linear(const vt_backend *backend, const void *user)
{
    const linear_case *k = user;
    op_case c, one;
    build_linear(&c, k, k->src.n);
    build_linear(&one, k, 1);
    int64_t count = op_elements(c.program.maps[c.program.records[0].dst.id].shape);
    int64_t depth = k->src.c * k->patch * k->patch;
    float *want = reference(&c), *naive = naive_bf16(k);
    double stored = k->dst_bf16 ? TOLERANCE_BF16_STORED : 0;
    double mean_loss = (double)fabsf(k->mean) / (double)k->spread * TOLERANCE_MEAN;

    float *got = run_all_threads(&c, backend, VT_F32, k->name);
    expect_close("linear f32", backend, k->name, got, want, count,
                 tolerance_f32(depth) + stored + mean_loss);
    expect_same_batch(&c, &one, backend, VT_F32, got, k->name);
    free(got);

    got = run_all_threads(&c, backend, VT_BF16, k->name);
    /* among a few values the plain computation may be lucky */
    double limit = op_distance(naive, want, count) * TOLERANCE_BF16_FACTOR +
                   (count < 64 ? TOLERANCE_BF16_STORED : TOLERANCE_BF16_SLACK);
    expect_close("linear bf16", backend, k->name, got, want, count, limit + mean_loss);
    expect_same_batch(&c, &one, backend, VT_BF16, got, k->name);
    free(got);
    free(naive);
    free(want);
    op_clear(&one);
    op_clear(&c);
}

static void test_linear(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof linear_cases / sizeof linear_cases[0]; i++) {
        for_each_backend(check_linear, &linear_cases[i]);
    }
}

/* ---- the other products and element-wise records --------------------------------------------- */

typedef struct op_test {
    const char *name;
    vt_shape src;
    int which; /* of the kind */
    bool src_bf16, dst_bf16;
    float mean;
    int64_t terms;
    void (*build)(op_case *c, const struct op_test *t, vt_shape src);
} op_test;

static void check_op(const vt_backend *backend, const void *user)
{
    const op_test *t = user;
    op_case c, one;
    op_begin(&c, seed);
    t->build(&c, t, t->src);
    op_begin(&one, seed);
    vt_shape single = t->src;
    single.n = 1;
    t->build(&one, t, single);
    assert_int_equal(c.builder.status, VT_OK);
    op_case *both[] = {&c, &one};
    vt_value dst = c.program.records[0].dst;
    for (int i = 0; i < 2; i++) {
        for (int32_t m = 0; m < dst.id; m++) {
            op_set_dtype(both[i], (vt_value){m}, t->src_bf16 ? VT_BF16 : VT_F32);
        }
        op_set_dtype(both[i], dst, t->dst_bf16 ? VT_BF16 : VT_F32);
    }
    int64_t count = op_elements(c.program.maps[dst.id].shape);
    float *want = reference(&c), *got = run_all_threads(&c, backend, VT_F32, t->name);
    double limit = tolerance_f32(t->terms) + (t->dst_bf16 ? TOLERANCE_BF16_STORED : 0) +
                   (double)t->mean * TOLERANCE_MEAN;
    expect_close(vt_op_name(c.program.records[0].kind), backend, t->name, got, want, count, limit);
    expect_same_batch(&c, &one, backend, VT_F32, got, t->name);
    free(want);
    free(got);
    op_clear(&one);
    op_clear(&c);
}

static void check_ops(const op_test *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for_each_backend(check_op, &tests[i]);
    }
}

static void build_conv(op_case *c, const op_test *t, vt_shape src)
{
    static const vt_conv2d shapes[] = {
        {.kernel_h = 1,
         .kernel_w = 1,
         .stride_h = 1,
         .stride_w = 1,
         .dilation_h = 1,
         .dilation_w = 1},
        {.kernel_h = 3,
         .kernel_w = 3,
         .stride_h = 2,
         .stride_w = 2,
         .dilation_h = 1,
         .dilation_w = 1,
         .pad_top = 1,
         .pad_left = 1,
         .pad_bottom = 1,
         .pad_right = 1,
         .act = VT_ACT_GELU},
        {.kernel_h = 7,
         .kernel_w = 5,
         .stride_h = 4,
         .stride_w = 3,
         .dilation_h = 1,
         .dilation_w = 2,
         .pad_top = 3,
         .pad_left = 2,
         .pad_bottom = 0,
         .pad_right = 4,
         .act = VT_ACT_RELU},
    };
    vt_conv2d p = shapes[t->which];
    vt_value x = op_map(c, src, t->mean, 1);
    p.weight = op_matrix(c, 19, p.kernel_h * p.kernel_w * src.c, 0.2f);
    p.bias = op_vector(c, 19, 0, 1);
    vt_op_conv2d(&c->builder, x, &p);
}

static void build_norm(op_case *c, const op_test *t, vt_shape src)
{
    vt_value x = op_map(c, src, t->mean, 1);
    vt_norm p = {.eps = 1e-5f};
    if (t->which) {
        p.scale = op_vector(c, src.c, 1, 0.3f);
        p.shift = op_vector(c, src.c, 0, 0.3f);
    }
    vt_op_norm(&c->builder, x, &p);
}

static void build_add(op_case *c, const op_test *t, vt_shape src)
{
    vt_value a = op_map(c, src, t->mean, 1), b = op_map(c, src, 0, 1);
    vt_op_add(&c->builder, a, b);
}

static void build_space_to_depth(op_case *c, const op_test *t, vt_shape src)
{
    vt_op_space_to_depth(&c->builder, op_map(c, src, t->mean, 1), t->which);
}

static void build_mean_pool(op_case *c, const op_test *t, vt_shape src)
{
    vt_op_mean_pool(&c->builder, op_map(c, src, t->mean, 1));
}

static const op_test simple_tests[] = {
    {"1x1", {3, 5, 7, 13}, 0, false, false, 0, 13, build_conv},
    {"3x3 stride 2", {3, 9, 12, 5}, 1, false, false, 0, 45, build_conv},
    {"3x3 half", {1, 9, 12, 16}, 1, true, true, 0, 144, build_conv},
    {"7x5 dilated", {1, 23, 31, 3}, 2, false, false, 0, 105, build_conv},
    {"7x5 from 1x1", {1, 4, 5, 3}, 2, false, false, 0, 105, build_conv},
    {"one", {1, 1, 1, 1}, 1, false, false, 0, 1, build_norm},
    {"odd", {3, 5, 3, 37}, 1, false, false, 0, 37, build_norm},
    {"half in", {1, 5, 3, 96}, 1, true, false, 0, 96, build_norm},
    {"half out", {1, 5, 3, 99}, 0, false, true, 0, 96, build_norm},
    {"mean 1000", {1, 7, 7, 96}, 1, false, false, 1000, 96, build_norm},
    {"wide", {1, 2, 3, 1536}, 0, false, false, 0, 1536, build_norm},
    {"one", {1, 1, 1, 1}, 0, false, false, 0, 1, build_add},
    {"odd", {3, 11, 13, 7}, 0, false, false, 0, 1, build_add},
    {"half in", {3, 11, 13, 7}, 0, true, false, 0, 1, build_add},
    {"half out", {1, 11, 13, 17}, 0, false, true, 0, 1, build_add},
    {"2", {3, 8, 6, 5}, 2, false, false, 0, 1, build_space_to_depth},
    {"2 odd", {1, 7, 9, 5}, 2, false, false, 0, 1, build_space_to_depth},
    {"4 half in", {1, 7, 9, 5}, 4, true, false, 0, 1, build_space_to_depth},
    {"3 half", {1, 7, 9, 5}, 3, true, true, 0, 1, build_space_to_depth},
    {"3 half out", {1, 7, 9, 5}, 3, false, true, 0, 1, build_space_to_depth},
    {"one", {1, 1, 1, 1}, 0, false, false, 0, 1, build_mean_pool},
    {"odd", {3, 7, 11, 101}, 0, false, false, 0, 77, build_mean_pool},
    {"mean 1000", {1, 56, 56, 9}, 0, false, false, 1000, 3136, build_mean_pool},
    {"half", {1, 7, 7, 768}, 0, true, true, 0, 49, build_mean_pool},
};

static void test_simple(void **state)
{
    (void)state;
    check_ops(simple_tests, sizeof simple_tests / sizeof simple_tests[0]);
}

/* A mean a thousand times the spread: against f64, since the reference loses digits there. */
static void check_large_mean(const vt_backend *backend, const void *user)
{
    (void)user;
    enum { ROWS = 7, WIDTH = 101 };
    op_case c;
    op_begin(&c, seed);
    vt_norm p = {.eps = 1e-5f};
    vt_op_norm(&c.builder, op_map(&c, (vt_shape){1, 1, ROWS, WIDTH}, 1000, 1), &p);
    float *got = op_run(&c, backend, VT_F32, 1);
    for (int r = 0; r < ROWS; r++) {
        const float *x = c.maps[0] + r * WIDTH;
        double mean = 0, variance = 0;
        for (int i = 0; i < WIDTH; i++) {
            mean += (double)x[i] / WIDTH;
        }
        for (int i = 0; i < WIDTH; i++) {
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / WIDTH;
        }
        for (int i = 0; i < WIDTH; i++) {
            double want = ((double)x[i] - mean) / sqrt(variance + 1e-5);
            assert_true(fabs((double)got[r * WIDTH + i] - want) < 2e-6);
        }
    }
    free(got);
    op_clear(&c);
}

static void test_large_mean(void **state)
{
    (void)state;
    for_each_backend(check_large_mean, NULL);
}

/* ---- attention ------------------------------------------------------------------------------- */

typedef struct attention_case {
    int heads, width, v_width;
    vt_pattern pattern;
    bool bias, cosine, pad, separate;
} attention_case;

static const attention_case attention_cases[] = {
    {1, 1, 1, {0, 1, 1, 0, 0, 0}, false, false, false, false},
    {3, 32, 32, {0, 7, 7, 0, 0, 0}, true, false, true, false},
    {3, 32, 32, {0, 7, 7, 3, 3, 0}, true, false, true, false},
    {3, 32, 32, {0, 7, 7, 3, 3, VT_ROLL_MAP}, true, false, true, false},
    {2, 24, 24, {0, 5, 3, 2, 1, 0}, true, true, true, false},
    {2, 16, 40, {0, 4, 6, 0, 3, 0}, false, false, false, true},
    {2, 33, 19, {0, 3, 5, 1, 0, VT_ROLL_MAP}, true, true, false, true},
    {1, 64, 64, {0, 12, 12, 6, 6, 0}, true, false, true, false},
    {1, 16, 16, {0, 24, 20, 0, 0, 0}, true, false, false, false},
};

static void build_attention(op_case *c, const op_test *t, vt_shape src)
{
    const attention_case *k = &attention_cases[t->which];
    vt_attention p = {.heads = k->heads, .scale = 1.0f / sqrtf((float)k->width)};
    int qk = k->heads * k->width, v = k->heads * k->v_width;
    if (k->separate) {
        src.c = qk + 3;
        p.q = (vt_heads){op_map(c, src, t->mean, 2), 3, k->width};
        src.c = qk;
        p.k = (vt_heads){op_map(c, src, 0, 2), 0, k->width};
        src.c = qk + v;
        p.v = (vt_heads){op_map(c, src, 0, 2), qk, k->v_width};
    } else {
        src.c = 2 * qk + v;
        p.q = (vt_heads){op_map(c, src, t->mean, 2), 0, k->width};
        p.k = (vt_heads){p.q.map, qk, k->width};
        p.v = (vt_heads){p.q.map, 2 * qk, k->v_width};
    }
    p.pattern = k->pattern;
    int table = (2 * k->pattern.window_h - 1) * (2 * k->pattern.window_w - 1);
    p.bias = k->bias ? op_vector(c, k->heads * table, 0, 2) : (vt_weight){0};
    p.temperature = k->cosine ? op_vector(c, k->heads, 3, 2) : (vt_weight){0};
    p.pad = k->pad ? op_vector(c, src.c, 0, 1) : (vt_weight){0};
    vt_op_attention(&c->builder, &p);
}

static const op_test attention_tests[] = {
    {"one", {1, 1, 1, 0}, 0, false, false, 0, 64, build_attention},
    {"7x7", {3, 14, 21, 0}, 1, false, false, 0, 64, build_attention},
    {"7x7 padded", {1, 15, 9, 0}, 1, false, false, 0, 64, build_attention},
    {"7x7 shifted", {1, 28, 14, 0}, 2, false, false, 0, 64, build_attention},
    {"7x7 shifted, padded", {3, 17, 23, 0}, 2, false, false, 0, 64, build_attention},
    {"7x7 map rolled", {1, 17, 23, 0}, 3, false, false, 0, 64, build_attention},
    {"7x7 half", {1, 17, 23, 0}, 2, true, true, 0, 64, build_attention},
    {"7x7 half out", {1, 14, 14, 0}, 2, false, true, 0, 64, build_attention},
    {"smaller than the window", {1, 3, 2, 0}, 2, false, false, 0, 64, build_attention},
    {"cosine 5x3", {3, 11, 7, 0}, 4, false, false, 0, 64, build_attention},
    {"cosine 5x3 half", {1, 11, 7, 0}, 4, true, false, 0, 64, build_attention},
    {"no bias, no pad, wide v", {1, 9, 13, 0}, 5, false, false, 0, 64, build_attention},
    {"odd widths", {3, 8, 9, 0}, 6, false, false, 0, 64, build_attention},
    {"12x12", {1, 24, 13, 0}, 7, false, false, 0, 256, build_attention},
    {"24x20", {1, 25, 20, 0}, 8, false, false, 0, 1024, build_attention},
    {"large scores", {1, 14, 14, 0}, 2, false, false, 30, 1 << 16, build_attention},
};

static void test_attention(void **state)
{
    (void)state;
    check_ops(attention_tests, sizeof attention_tests / sizeof attention_tests[0]);
}

/* ---- activations ----------------------------------------------------------------------------- */

static double exact(vt_activation act, double x)
{
    switch (act) {
    case VT_ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2.0));
    case VT_ACT_GELU_TANH: return x / (1.0 + exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)));
    case VT_ACT_SILU: return x / (1.0 + exp(-x));
    case VT_ACT_RELU: return x > 0.0 ? x : 0.0;
    case VT_ACT_NONE: break;
    }
    return x;
}

/* Off by at most 2.5e-7 |x| everywhere, zero and far tails included; NaN stays NaN. */
static void check_activations(const vt_backend *backend, const void *user)
{
    (void)user;
    enum { COUNT = 40007 };
    const vt_cpu_kernels *k = backend->kernels;
    static float x[COUNT], y[COUNT];
    for (int i = 0; i < COUNT - 7; i++) {
        x[i] = (float)(i - 20000) * 1e-3f;
    }
    const float special[7] = {1e30f, -1e30f, 1e-30f, -1e-30f, 88.7f, -104.0f, NAN};
    memcpy(x + COUNT - 7, special, sizeof special);
    for (vt_activation act = VT_ACT_NONE; act <= VT_ACT_RELU; act++) {
        k->finish(&(vt_cpu_finish){.rows = 1, .cols = COUNT, .src = x, .act = act, .dst = y});
        for (int i = 0; i < COUNT - 1; i++) {
            double want = exact(act, (double)x[i]);
            if (!(fabs((double)y[i] - want) <= 2.5e-7 * fabs((double)x[i]))) {
                fail_msg("%s, activation %d at %.9g: %.9g, want %.9g", backend->name, (int)act,
                         (double)x[i], (double)y[i], want);
            }
        }
        assert_true(isnan(y[COUNT - 1]));
    }
}

static void test_activations(void **state)
{
    (void)state;
    for_each_backend(check_activations, NULL);
}

/* ---- choosing an instruction set ------------------------------------------------------------- */

static void test_isa(void **state)
{
    (void)state;
    const vt_backend *best = NULL, *portable = NULL;
    assert_int_equal(vt_backend_cpu(&best, VT_ISA_AUTO, NULL), VT_OK);
    assert_int_equal(vt_backend_cpu(&portable, VT_ISA_PORTABLE, NULL), VT_OK);
    assert_string_equal(portable->name, "cpu portable");
    assert_null(best->refuse_dtype(VT_F32));
    assert_null(best->refuse_dtype(VT_BF16));
    assert_string_equal(best->refuse_dtype(VT_F16), "f16 is for GPUs; use f32 or bf16");
    vt_error error = {0};
    assert_int_equal(vt_backend_cpu(&best, (vt_isa)99, &error), VT_ERR_ARGUMENT);
    printf("best: %s\n", best->name);
}

int main(void)
{
    seed = op_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isa),        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_linear),     cmocka_unit_test(test_simple),
        cmocka_unit_test(test_large_mean), cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests_name("cpu ops", tests, NULL, NULL);
}
