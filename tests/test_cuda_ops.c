/* SPDX-License-Identifier: Apache-2.0 */
/* Every CUDA implementation, the plain ones too, against the reference: the shape table of
 * support/op_cases.c in f32, bf16 and f16, then what f16 can carry. Skipped, and said so, where
 * there is no GPU or no CUDA side. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/blocks.h"
#include "support/op_cases.h"
#include "support/tolerance.h"

static uint64_t seed;
static const char *only; /* VT_TEST_OP: this operation's shapes alone, NULL: all */
static const vt_backend *gpu;
static void *stream;
static int failures; /* of the test that runs: all of them are printed */

static int open_gpu(void **state)
{
    (void)state;
    vt_error error = {0};
    if (vt_backend_cuda(&gpu, "cuda", &plain_allocator, &error) != VT_OK) {
        gpu = NULL;
        print_message("%s\nthe operations of the GPU are not tested\n", error.message);
        return error.status == VT_ERR_UNSUPPORTED || error.status == VT_ERR_DEVICE ? 0 : -1;
    }
    print_message("%s\n", gpu->name);
    return gpu->device->open(gpu, &stream, &error) == VT_OK ? 0 : -1;
}

static int close_gpu(void **state)
{
    (void)state;
    if (gpu) {
        gpu->device->close(gpu, stream);
        gpu->destroy(gpu);
    }
    return 0;
}

/* For the beginning of a test. */
static void begin(void)
{
    failures = 0;
    if (!gpu) {
        skip();
    }
}

static op_where on_gpu(vt_dtype dtype)
{
    return (op_where){gpu, NULL, dtype, 1, stream};
}

/* ---- the shape table ------------------------------------------------------------------------- */

/* How much of its limit an implementation uses, at worst. */
typedef struct tally {
    vt_op_kind kind;
    const vt_impl *impl;
    vt_dtype dtype;
    int runs;
    double share;
    const char *worst;
} tally;

enum { MOST_TALLIES = 128 };
static tally tallies[MOST_TALLIES];
static int tally_count;

static void count_run(vt_op_kind kind, const op_where *where, const char *name, double share)
{
    int i = 0;
    while (i < tally_count &&
           (tallies[i].impl != where->impl || tallies[i].dtype != where->dtype)) {
        i++;
    }
    if (i == tally_count) {
        assert_true(tally_count < MOST_TALLIES);
        tallies[tally_count++] = (tally){kind, where->impl, where->dtype, 0, -1, NULL};
    }
    tallies[i].runs++;
    if (share > tallies[i].share) {
        tallies[i].share = share;
        tallies[i].worst = name;
    }
}

static void check_case(op_case *c, const op_entry *e, vt_dtype dtype)
{
    const vt_impl *impls[OP_MAX_IMPLS];
    op_where where = on_gpu(dtype);
    int64_t count = op_count(c);
    int accepting = op_accepting(c, &where, impls);
    float *want = op_reference(c);
    double limit = op_limit(c, e, dtype, want);
    for (int i = 0; i < accepting; i++) {
        where.impl = impls[i];
        float *got = op_run(c, &where), *again = op_run(c, &where);
        count_run(c->program.records[0].kind, &where, e->name,
                  op_distance(got, want, count) / limit);
        failures += !op_is_close(&where, c, e->name, got, want, limit);
        if (memcmp(got, again, (size_t)count * sizeof *got) != 0) {
            print_error("%s, %s: a second run gives other bits\n", e->name, impls[i]->name);
            failures++;
        }
        free(got);
        free(again);
    }
    free(want);
}

/* Sources and results in the model's type, or one of them in f32: pictures and logits are. */
static void check_entry(const op_entry *e, vt_dtype dtype)
{
    const vt_dtype types[3][2] = {{dtype, dtype}, {VT_F32, dtype}, {dtype, VT_F32}};
    for (int t = 0; t < (dtype == VT_F32 ? 1 : 3); t++) {
        for (int64_t batch = 1; batch <= e->src.n; batch += 2) {
            op_case c;
            op_build(&c, e, seed, batch);
            if (only && strcmp(vt_op_name(c.program.records[0].kind), only) != 0) {
                op_clear(&c);
                return;
            }
            op_set_types(&c, types[t][0], types[t][0], types[t][1]);
            check_case(&c, e, dtype);
            op_clear(&c);
        }
    }
}

static void check_table(vt_dtype dtype)
{
    begin();
    for (int i = 0; i < op_entry_count; i++) {
        check_entry(&op_entries[i], dtype);
    }
    int rows = 0;
    for (int i = 0; i < tally_count; i++) {
        const tally *t = &tallies[i];
        if (t->dtype == dtype) {
            rows++;
            print_message("  %-4s %-14s %-14s %3d runs, at worst %3.0f %% of the limit (%s)\n",
                          vt_dtype_name(dtype), vt_op_name(t->kind), t->impl->name, t->runs,
                          100 * t->share, t->worst);
        }
    }
    assert_int_equal(failures, 0);
    assert_true(rows > 0);
}

static void test_f32(void **state)
{
    (void)state;
    check_table(VT_F32);
}

static void test_bf16(void **state)
{
    (void)state;
    check_table(VT_BF16);
}

static void test_f16(void **state)
{
    (void)state;
    check_table(VT_F16);
}

/* Kinds of records that the table forgets, or that the GPU lacks, are named. */
static void test_complete(void **state)
{
    (void)state;
    begin();
    bool seen[VT_OP_KINDS] = {false};
    for (int i = 0; i < op_entry_count; i++) {
        op_case c;
        op_build(&c, &op_entries[i], seed, 1);
        seen[c.program.records[0].kind] = true;
        op_clear(&c);
    }
    for (vt_op_kind kind = 0; kind < VT_OP_KINDS; kind++) {
        if (!vt_backend_ref.impls[kind]) {
            continue; /* the planner's own */
        }
        if (!gpu->impls[kind]) {
            print_message("%s: not on this GPU yet\n", vt_op_name(kind));
        } else if (!seen[kind]) {
            fail_msg("no case of %s in support/op_cases.c", vt_op_name(kind));
        }
    }
}

/* ---- what f16 can carry ---------------------------------------------------------------------- */

/* Every implementation gives `want` within `limit` of the largest |want|, and something that is
 * not finite exactly where `want` is not. */
static void expect_values(op_case *c, const char *name, const float *want, double limit)
{
    const vt_impl *impls[OP_MAX_IMPLS];
    op_where where = on_gpu(VT_F16);
    int64_t count = op_count(c);
    double largest = 0;
    if (!gpu->impls[c->program.records[0].kind]) {
        return; /* test_complete names it */
    }
    for (int64_t i = 0; i < count; i++) {
        largest = isfinite(want[i]) ? fmax(largest, fabs((double)want[i])) : largest;
    }
    int accepting = op_accepting(c, &where, impls);
    assert_true(accepting > 0);
    for (int k = 0; k < accepting; k++) {
        where.impl = impls[k];
        float *got = op_run(c, &where);
        for (int64_t i = 0; i < count; i++) {
            bool good = isfinite(want[i])
                            ? fabs((double)got[i] - (double)want[i]) <= limit * largest
                            : !isfinite(got[i]);
            if (!good) {
                print_error("%s, %s: [%lld] is %.9g, want %.9g\n", name, impls[k]->name,
                            (long long)i, (double)got[i], (double)want[i]);
                failures++;
                break;
            }
        }
        free(got);
    }
}

static void fill(float *x, int64_t count, float value)
{
    for (int64_t i = 0; i < count; i++) {
        x[i] = value;
    }
}

static float *values_of(const op_case *c, float value)
{
    float *want = malloc((size_t)op_count(c) * sizeof *want);
    assert_non_null(want);
    fill(want, op_count(c), value);
    return want;
}

/* Rows of `first` and, in their second half, of `second`, times a matrix of ones. The sums are
 * whole numbers, and partial sums go far beyond what f16 holds. */
typedef struct large_sum {
    const char *name;
    float first, second;
    vt_activation act;
    float residual; /* 0: none */
    vt_dtype dst;
    float want;
} large_sum;

static const large_sum large_sums[] = {
    {"partial sums of 122880", 60, -45, VT_ACT_NONE, 0, VT_F16, 30720},
    {"negative partial sums", -60, 45, VT_ACT_NONE, 0, VT_F16, -30720},
    {"near the largest", 45, -13.015625f, VT_ACT_NONE, 0, VT_F16, 65504},
    {"with a residual", 60, -45, VT_ACT_NONE, 30016, VT_F16, 60736},
    {"a residual brings it back", 44, 0, VT_ACT_NONE, -40000, VT_F16, 50112},
    {"relu, a residual brings it back", 44, 0, VT_ACT_RELU, -40000, VT_F16, 50112},
    {"gelu, a residual brings it back", 44, 0, VT_ACT_GELU, -40000, VT_F16, 50112},
    {"gelu", 60, -45, VT_ACT_GELU, 0, VT_F16, 30720},
    {"tanh gelu", 60, -45, VT_ACT_GELU_TANH, 0, VT_F16, 30720},
    {"silu", 60, -45, VT_ACT_SILU, 0, VT_F16, 30720},
    {"gelu of a negative", -60, 45, VT_ACT_GELU, 0, VT_F16, 0},
    {"tanh gelu of a negative", -60, 45, VT_ACT_GELU_TANH, 0, VT_F16, 0},
    {"silu of a negative", -60, 45, VT_ACT_SILU, 0, VT_F16, 0},
    {"relu of a negative", -60, 45, VT_ACT_RELU, 0, VT_F16, 0},
    {"too large", 60, 0, VT_ACT_NONE, 0, VT_F16, INFINITY},
    {"too large with a residual", 60, -45, VT_ACT_NONE, 40000, VT_F16, INFINITY},
    {"too large, gelu", 60, 0, VT_ACT_GELU, 0, VT_F16, INFINITY},
    {"too large, relu", 60, 0, VT_ACT_RELU, 0, VT_F16, INFINITY},
    {"fits f32", 60, 0, VT_ACT_NONE, 0, VT_F32, 122880},
};

static void check_large_sum(const large_sum *k, int rows, int out)
{
    enum { DEPTH = 4096 };
    op_case c;
    op_begin(&c, seed);
    vt_value x = op_map(&c, (vt_shape){1, 1, rows, DEPTH}, 0, 0);
    for (int i = 0; i < rows * DEPTH; i++) {
        c.maps[0][i] = i % DEPTH < DEPTH / 2 ? k->first : k->second;
    }
    vt_value residual = VT_NO_VALUE;
    if (k->residual != 0) {
        residual = op_map(&c, (vt_shape){1, 1, rows, out}, k->residual, 0);
    }
    vt_linear p = {.weight = op_matrix(&c, out, DEPTH, 0), .act = k->act};
    fill(c.weights[p.weight.id], out * DEPTH, 1);
    vt_op_linear(&c.builder, x, &p);
    assert_int_equal(c.builder.status, VT_OK);
    c.program.records[0].source[1] = residual;
    op_set_types(&c, VT_F16, VT_F16, k->dst);
    float *want = values_of(&c, k->want);
    expect_values(&c, k->name, want, 0);
    free(want);
    op_clear(&c);
}

/* One row and few outputs invite the library to split the sums. */
static void test_large_products(void **state)
{
    (void)state;
    begin();
    for (size_t i = 0; i < sizeof large_sums / sizeof large_sums[0]; i++) {
        check_large_sum(&large_sums[i], 1, 48);
        check_large_sum(&large_sums[i], 64, 48);
        check_large_sum(&large_sums[i], 1024, 768);
    }
    assert_int_equal(failures, 0);
}

/* 138240 - 103680 inside, less at the edges. */
static void test_large_convolution(void **state)
{
    (void)state;
    enum { SIZE = 6, CHANNELS = 512, OUT = 16 };
    begin();
    op_case c;
    op_begin(&c, seed);
    vt_value x = op_map(&c, (vt_shape){1, SIZE, SIZE, CHANNELS}, 0, 0);
    for (int i = 0; i < SIZE * SIZE * CHANNELS; i++) {
        c.maps[0][i] = i % CHANNELS < CHANNELS / 2 ? 60 : -45;
    }
    vt_conv2d p = {.kernel_h = 3,
                   .kernel_w = 3,
                   .stride_h = 1,
                   .stride_w = 1,
                   .dilation_h = 1,
                   .dilation_w = 1,
                   .pad_top = 1,
                   .pad_left = 1,
                   .pad_bottom = 1,
                   .pad_right = 1};
    p.weight = op_matrix(&c, OUT, 9 * CHANNELS, 0);
    fill(c.weights[p.weight.id], OUT * 9 * CHANNELS, 1);
    vt_op_conv2d(&c.builder, x, &p);
    op_set_types(&c, VT_F16, VT_F16, VT_F16);
    float *want = op_reference(&c);
    assert_true(want[op_count(&c) / 2 + SIZE / 2 * OUT] == 34560);
    expect_values(&c, "large convolution", want, 0);
    for (int i = 0; i < SIZE * SIZE * CHANNELS; i++) {
        c.maps[0][i] = 60;
    }
    fill(want, op_count(&c), INFINITY);
    expect_values(&c, "convolution too large", want, 0);
    free(want);
    op_clear(&c);
    assert_int_equal(failures, 0);
}

/* Scores of +-10000 and a few more or less: q.k is a whole number, so nothing is rounded before the
 * softmax. */
static void check_large_scores(int size, int window, int width)
{
    op_case c;
    op_begin(&c, seed);
    vt_value x = op_map(&c, (vt_shape){1, size, size, 3 * width}, 0, 1);
    for (int i = 0; i < size * size * 2 * width; i++) {
        int pixel = i / (2 * width), ch = i % (2 * width);
        float small = (float)((pixel * 7 + ch * 5) % 5 - 2);
        float sign = pixel % 3 ? 1.0f : -1.0f;
        c.maps[0][pixel * 3 * width + ch] = ch % width == 0 ? 100.0f * sign : small;
    }
    vt_attention p = {.heads = 1,
                      .q = {x, 0, width},
                      .k = {x, width, width},
                      .v = {x, 2 * width, width},
                      .scale = 1.0f,
                      .pattern = {.window_h = window, .window_w = window}};
    vt_op_attention(&c.builder, &p);
    assert_int_equal(c.builder.status, VT_OK);
    op_set_types(&c, VT_F16, VT_F16, VT_F16);
    float *want = op_reference(&c);
    expect_values(&c, "large scores", want, 2 * tolerance_stored(VT_F16));
    c.maps[0][2 * width] = INFINITY; /* a value of the first window */
    for (int64_t pixel = 0; pixel < size * size; pixel++) {
        bool inside = pixel / size < window && pixel % size < window;
        want[pixel * width] = inside ? INFINITY : want[pixel * width];
    }
    expect_values(&c, "an infinite value", want, 2 * tolerance_stored(VT_F16));
    free(want);
    op_clear(&c);
}

static void test_large_scores(void **state)
{
    (void)state;
    begin();
    check_large_scores(14, 7, 32);
    check_large_scores(24, 12, 64);
    check_large_scores(10, 5, 24);
    assert_int_equal(failures, 0);
}

/* Rows far from zero against f64; the last row holds an infinite value. */
static void check_large_rows(int width, float base, float step)
{
    enum { ROWS = 5 };
    op_case c;
    op_begin(&c, seed);
    vt_norm p = {.eps = 1e-5f};
    vt_op_norm(&c.builder, op_map(&c, (vt_shape){1, 1, ROWS, width}, 0, 0), &p);
    float *want = malloc((size_t)(ROWS * width) * sizeof *want);
    assert_non_null(want);
    for (int r = 0; r < ROWS; r++) {
        float *x = c.maps[0] + r * width;
        double mean = 0, variance = 0;
        for (int i = 0; i < width; i++) {
            x[i] = base + step * (float)((i * 5 + r) % 7);
            mean += (double)x[i] / width;
        }
        for (int i = 0; i < width; i++) {
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / width;
        }
        for (int i = 0; i < width; i++) {
            double y = ((double)x[i] - mean) / sqrt(variance + 1e-5);
            want[r * width + i] = r == ROWS - 1 ? NAN : (float)y;
        }
    }
    c.maps[0][(ROWS - 1) * width] = INFINITY;
    op_set_types(&c, VT_F16, VT_F16, VT_F16);
    expect_values(&c, "rows far from zero", want, 2 * tolerance_stored(VT_F16));
    free(want);
    op_clear(&c);
}

static void test_large_rows(void **state)
{
    (void)state;
    begin();
    const int widths[] = {96, 101, 768, 4096, 5000};
    for (int i = 0; i < 5; i++) {
        check_large_rows(widths[i], 1000, 0.5f);
        check_large_rows(widths[i], 60000, 32);
        check_large_rows(widths[i], -60000, 32);
    }
    assert_int_equal(failures, 0);
}

static void test_large_additions(void **state)
{
    (void)state;
    static const float cases[][3] = {{32752, 32752, 65504},   {60000, -49984, 10016},
                                     {-65504, 65504, 0},      {-32752, -32752, -65504},
                                     {65504, 64, INFINITY},   {-65504, -64, -INFINITY},
                                     {INFINITY, 1, INFINITY}, {60000, 5000, 64992}};
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int channels = 7; channels <= 8; channels++) {
            op_case c;
            op_begin(&c, seed);
            vt_shape s = {1, 3, 5, channels};
            vt_value a = op_map(&c, s, cases[i][0], 0), b = op_map(&c, s, cases[i][1], 0);
            fill(c.maps[0], op_elements(s), cases[i][0]); /* infinity + 0 * random is no infinity */
            vt_op_add(&c.builder, a, b);
            op_set_types(&c, VT_F16, VT_F16, VT_F16);
            float *want = values_of(&c, cases[i][2]);
            expect_values(&c, "large additions", want, 0);
            free(want);
            op_clear(&c);
        }
    }
    assert_int_equal(failures, 0);
}

static void test_large_means(void **state)
{
    (void)state;
    begin();
    for (int channels = 7; channels <= 8; channels++) {
        op_case c;
        op_begin(&c, seed);
        vt_op_mean_pool(&c.builder, op_map(&c, (vt_shape){3, 31, 29, channels}, 60000, 0));
        op_set_types(&c, VT_F16, VT_F16, VT_F16);
        float *want = values_of(&c, 60000);
        expect_values(&c, "large means", want, 0);
        c.maps[0][0] = INFINITY;
        want[0] = INFINITY;
        expect_values(&c, "mean of an infinite value", want, 0);
        free(want);
        op_clear(&c);
    }
    assert_int_equal(failures, 0);
}

/* test_cuda_ops [PATTERN]: only the tests whose name fits, such as "*large*" */
int main(int argc, char **argv)
{
    seed = op_seed();
    only = getenv("VT_TEST_OP");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_large_products),
        cmocka_unit_test(test_large_convolution),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_large_rows),
        cmocka_unit_test(test_large_additions),
        cmocka_unit_test(test_large_means),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("cuda ops", tests, open_gpu, close_gpu);
}
