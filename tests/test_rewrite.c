/* SPDX-License-Identifier: Apache-2.0 */
/* Every rewrite against the program without it: the same numbers, the expected records, and nothing
 * at all where joining would change the result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_program.h"
#include "support/random.h"

#define LN (&(vt_norm){.eps = 1e-5f})

enum { CHANNELS = 8 };

/* The bits of vt_rewrites in its order. */
enum {
    CONV_TO_PATCH = 1 << 0,
    NORM_INTO_LINEAR = 1 << 1,
    PATCHES_INTO_LINEAR = 1 << 2,
    NORM_AFTER_LINEAR = 1 << 3,
    ADD_INTO_LINEAR = 1 << 4,
    AFFINE_INTO_DEPTHWISE = 1 << 5,
    ADD_INTO_DEPTHWISE = 1 << 6,
    MUL_INTO_LINEAR = 1 << 7
};

static void test_order_of_bits(void **state)
{
    (void)state;
    static const char *const names[] = {
        "conv_to_patch_linear", "norm_into_linear",      "patches_into_linear", "norm_after_linear",
        "add_into_linear",      "affine_into_depthwise", "add_into_depthwise",  "mul_into_linear"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_string_equal(vt_rewrites[i].name, names[i]);
    }
    assert_null(vt_rewrites[8].name); /* a new rewrite wants cases below */
}

/* ---- pieces of programs; each names its outputs itself --------------------------------------- */

static vt_value linear(test_program *t, vt_value x, int out, uint32_t seed)
{
    int64_t in = vt_value_shape(&t->builder, x).c;
    vt_linear l = {.weight = random_matrix(t, out, in, seed),
                   .bias = random_vector(t, out, seed + 50, 1.0f, 0.0f)};
    return vt_op_linear(&t->builder, x, &l);
}

static vt_value norm(test_program *t, vt_value x, uint32_t seed)
{
    int64_t c = vt_value_shape(&t->builder, x).c;
    vt_norm n = {.eps = 1e-5f,
                 .scale = random_vector(t, c, seed, 0.5f, 1.0f),
                 .shift = random_vector(t, c, seed + 1, 0.5f, 0.0f)};
    return vt_op_norm(&t->builder, x, &n);
}

static vt_conv2d conv(test_program *t, int kernel, int stride, int dilation)
{
    return (vt_conv2d){.weight = random_matrix(t, 6, kernel * kernel * CHANNELS, 3),
                       .bias = random_vector(t, 6, 4, 1.0f, 0.0f),
                       .act = VT_ACT_GELU,
                       .kernel_h = kernel,
                       .kernel_w = kernel,
                       .stride_h = stride,
                       .stride_w = stride,
                       .dilation_h = dilation,
                       .dilation_w = dilation};
}

static void out(test_program *t, const char *name, vt_value value)
{
    vt_output(&t->builder, name, value);
}

static void out_conv(test_program *t, const vt_conv2d *c)
{
    out(t, "y", vt_op_conv2d(&t->builder, vt_input(&t->builder), c));
}

/* The input is 10 x 7. */
static void conv_that_tiles(test_program *t)
{
    vt_conv2d c = conv(t, 4, 4, 1);
    c.pad_bottom = 2;
    c.pad_right = 1;
    out_conv(t, &c);
}

static void conv_of_one_pixel(test_program *t)
{
    vt_conv2d c = conv(t, 1, 1, 1);
    out_conv(t, &c);
}

static void conv_that_crops(test_program *t)
{
    vt_conv2d c = conv(t, 4, 4, 1);
    out_conv(t, &c);
}

static void conv_that_pads_too_much(test_program *t)
{
    vt_conv2d c = conv(t, 4, 4, 1);
    c.pad_bottom = 6;
    c.pad_right = 1;
    out_conv(t, &c);
}

static void conv_padded_at_the_top(test_program *t)
{
    vt_conv2d c = conv(t, 4, 4, 1);
    c.pad_top = 2;
    c.pad_right = 1;
    out_conv(t, &c);
}

static void conv_padded_at_the_left(test_program *t)
{
    vt_conv2d c = conv(t, 4, 4, 1);
    c.pad_bottom = 2;
    c.pad_left = 1;
    out_conv(t, &c);
}

static void conv_that_overlaps(test_program *t)
{
    vt_conv2d c = conv(t, 3, 2, 1);
    c.pad_bottom = c.pad_right = 1;
    out_conv(t, &c);
}

static void conv_with_gaps(test_program *t)
{
    vt_conv2d c = conv(t, 2, 2, 2);
    c.pad_bottom = 1;
    c.pad_right = 2;
    out_conv(t, &c);
}

static void conv_in_groups(test_program *t)
{
    vt_conv2d c = conv(t, 2, 2, 1);
    c.weight = random_matrix(t, 6, 2 * 2 * CHANNELS / 2, 3);
    c.groups = 2;
    c.pad_bottom = c.pad_right = 1;
    t->matrix[c.weight.id] = false;
    out_conv(t, &c);
}

static void conv_that_is_no_square(test_program *t)
{
    vt_conv2d c = conv(t, 2, 2, 1);
    c.kernel_h = 4;
    c.kernel_w = 1;
    c.stride_w = 1;
    c.stride_h = 4;
    c.pad_bottom = 2;
    out_conv(t, &c);
}

static void norm_then_linear(test_program *t)
{
    out(t, "y", linear(t, norm(t, vt_input(&t->builder), 1), 6, 3));
}

static void norm_read_twice(test_program *t)
{
    vt_value x = norm(t, vt_input(&t->builder), 1);
    out(t, "y", linear(t, x, 6, 3));
    out(t, "z", linear(t, x, 5, 4));
}

static void norm_that_is_an_output(test_program *t)
{
    vt_value x = norm(t, vt_input(&t->builder), 1);
    out(t, "x", x);
    out(t, "y", linear(t, x, 6, 3));
}

/* Padding comes after the norm here, and before it in a joined record. */
static void norm_then_patches(test_program *t)
{
    vt_linear l = {.weight = random_matrix(t, 6, 4 * CHANNELS, 5), .patch = 2};
    out(t, "y", vt_op_linear(&t->builder, norm(t, vt_input(&t->builder), 1), &l));
}

static void two_norms_then_linear(test_program *t)
{
    out(t, "y", linear(t, norm(t, norm(t, vt_input(&t->builder), 1), 7), 6, 3));
}

static void patches_then_linear(test_program *t)
{
    out(t, "y", linear(t, vt_op_space_to_depth(&t->builder, vt_input(&t->builder), 3), 6, 3));
}

static void patches_then_norm_then_linear(test_program *t)
{
    vt_value x = vt_op_space_to_depth(&t->builder, vt_input(&t->builder), 2);
    out(t, "y", linear(t, norm(t, x, 1), 6, 3));
}

static void patches_read_twice(test_program *t)
{
    vt_value x = vt_op_space_to_depth(&t->builder, vt_input(&t->builder), 2);
    out(t, "y", linear(t, x, 6, 3));
    out(t, "z", linear(t, x, 5, 4));
}

static void patches_that_are_an_output(test_program *t)
{
    vt_value x = vt_op_space_to_depth(&t->builder, vt_input(&t->builder), 2);
    out(t, "x", x);
    out(t, "y", linear(t, x, 6, 3));
}

static void patches_of_patches(test_program *t)
{
    vt_value x = vt_op_space_to_depth(&t->builder, vt_input(&t->builder), 2);
    vt_linear l = {.weight = random_matrix(t, 6, 16 * CHANNELS, 5), .patch = 2};
    out(t, "y", vt_op_linear(&t->builder, x, &l));
}

static void linear_then_norm(test_program *t)
{
    out(t, "y", norm(t, linear(t, vt_input(&t->builder), 6, 3), 1));
}

static void linear_then_two_norms(test_program *t)
{
    out(t, "y", norm(t, norm(t, linear(t, vt_input(&t->builder), 6, 3), 1), 7));
}

static void linear_read_twice_then_norm(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), 6, 3);
    out(t, "y", norm(t, x, 1));
    out(t, "z", vt_op_mean_pool(&t->builder, x));
}

static void linear_that_is_an_output_then_norm(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), 6, 3);
    out(t, "x", x);
    out(t, "y", norm(t, x, 1));
}

static void norm_linear_norm(test_program *t)
{
    out(t, "y", norm(t, linear(t, norm(t, vt_input(&t->builder), 1), 6, 3), 7));
}

/* The norm is of the sum: it may not slip in before the residual. */
static void linear_add_norm(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", norm(t, vt_op_add(&t->builder, x, linear(t, x, CHANNELS, 3)), 1));
}

static void add_linear(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_add(&t->builder, x, linear(t, x, CHANNELS, 3)));
}

static void linear_add(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_add(&t->builder, linear(t, x, CHANNELS, 3), x));
}

static void add_to_itself(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    out(t, "y", vt_op_add(&t->builder, x, x));
}

static void add_of_linear_read_twice(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    out(t, "y", vt_op_add(&t->builder, vt_input(&t->builder), x));
    out(t, "z", vt_op_mean_pool(&t->builder, x));
}

static void add_of_linear_that_is_an_output(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    out(t, "x", x);
    out(t, "y", vt_op_add(&t->builder, vt_input(&t->builder), x));
}

static void add_of_something_made_later(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    vt_value later = norm(t, vt_input(&t->builder), 1);
    out(t, "y", vt_op_add(&t->builder, x, later));
}

static void add_of_two_linears(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    vt_value later = linear(t, vt_input(&t->builder), CHANNELS, 4);
    out(t, "y", vt_op_add(&t->builder, x, later));
}

static void add_of_three(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value sum = vt_op_add(&t->builder, x, linear(t, x, CHANNELS, 3));
    out(t, "y", vt_op_add(&t->builder, sum, x));
}

static void add_of_norm_of_linear(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_add(&t->builder, x, norm(t, linear(t, x, CHANNELS, 3), 1)));
}

static void mul_linear(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_mul(&t->builder, x, linear(t, x, CHANNELS, 3)));
}

static void linear_mul(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_mul(&t->builder, linear(t, norm(t, x, 1), CHANNELS, 3), x));
}

static void mul_of_linear_read_twice(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    out(t, "y", vt_op_mul(&t->builder, x, x));
}

static void mul_of_norm_of_linear(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_mul(&t->builder, x, norm(t, linear(t, x, CHANNELS, 3), 1)));
}

static void mul_by_one_pixel(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value factor = linear(t, vt_op_mean_pool(&t->builder, x), CHANNELS, 3);
    out(t, "y", vt_op_mul(&t->builder, x, factor));
}

static void mul_then_add(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value y = vt_op_mul(&t->builder, x, linear(t, x, CHANNELS, 3));
    out(t, "y", vt_op_add(&t->builder, x, y));
}

static void add_then_mul(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value y = vt_op_add(&t->builder, x, linear(t, x, CHANNELS, 3));
    out(t, "y", vt_op_mul(&t->builder, x, y));
}

static vt_value depthwise(test_program *t, vt_value x, uint32_t seed)
{
    int64_t c = vt_value_shape(&t->builder, x).c;
    vt_depthwise d = {.conv = conv(t, 3, 1, 1)};
    d.conv.weight = random_vector(t, 9 * c, seed, 1.0f, 0.0f);
    d.conv.bias = random_vector(t, c, seed + 1, 1.0f, 0.0f);
    d.conv.act = VT_ACT_GELU;
    d.conv.pad_top = d.conv.pad_left = d.conv.pad_bottom = d.conv.pad_right = 1;
    return vt_op_depthwise(&t->builder, x, &d);
}

static vt_value affine(test_program *t, vt_value x, uint32_t seed)
{
    int64_t c = vt_value_shape(&t->builder, x).c;
    vt_affine a = {.scale = random_vector(t, c, seed, 0.5f, 1.0f),
                   .shift = random_vector(t, c, seed + 1, 0.5f, 0.0f)};
    return vt_op_affine(&t->builder, x, &a);
}

static void depthwise_add(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_add(&t->builder, depthwise(t, x, 3), x));
}

static void depthwise_affine(test_program *t)
{
    out(t, "y", affine(t, depthwise(t, vt_input(&t->builder), 3), 5));
}

static void depthwise_two_affines(test_program *t)
{
    out(t, "y", affine(t, affine(t, depthwise(t, vt_input(&t->builder), 3), 5), 7));
}

static void depthwise_affine_add(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", vt_op_add(&t->builder, x, affine(t, depthwise(t, x, 3), 5)));
}

/* The affine map is of the sum: it may not slip in before the residual. */
static void depthwise_add_affine(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    out(t, "y", affine(t, vt_op_add(&t->builder, x, depthwise(t, x, 3)), 5));
}

static void depthwise_read_twice(test_program *t)
{
    vt_value x = vt_input(&t->builder), y = depthwise(t, x, 3);
    out(t, "y", vt_op_add(&t->builder, x, y));
    out(t, "z", affine(t, y, 5));
}

/* A whole MLP of both kinds, one after the other. */
static void blocks(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value y = linear(t, linear(t, norm(t, x, 1), 16, 3), CHANNELS, 4);
    x = vt_op_add(&t->builder, x, y);
    y = norm(t, linear(t, linear(t, x, 16, 5), CHANNELS, 6), 7);
    out(t, "y", vt_op_add(&t->builder, x, y));
}

/* ---- the table ------------------------------------------------------------------------------- */

typedef struct rewrite_case {
    const char *name;
    void (*record)(test_program *t);
    unsigned mask;
    size_t before, after; /* records */
    size_t linears;       /* linear records afterwards */
} rewrite_case;

#define ALL VT_ALL_REWRITES
#define CASE(record, mask, before, after, linears)                                                 \
    {                                                                                              \
#record, record, mask, before, after, linears                                              \
    }

static const rewrite_case cases[] = {
    CASE(conv_that_tiles, CONV_TO_PATCH, 1, 1, 1),
    CASE(conv_of_one_pixel, CONV_TO_PATCH, 1, 1, 1),
    CASE(conv_that_crops, ALL, 1, 1, 0),
    CASE(conv_that_pads_too_much, ALL, 1, 1, 0),
    CASE(conv_padded_at_the_top, ALL, 1, 1, 0),
    CASE(conv_padded_at_the_left, ALL, 1, 1, 0),
    CASE(conv_that_overlaps, ALL, 1, 1, 0),
    CASE(conv_with_gaps, ALL, 1, 1, 0),
    CASE(conv_in_groups, ALL, 1, 1, 0),
    CASE(conv_that_is_no_square, ALL, 1, 1, 0),
    CASE(norm_then_linear, NORM_INTO_LINEAR, 2, 1, 1),
    CASE(norm_then_linear, ALL & ~(unsigned)NORM_INTO_LINEAR, 2, 2, 1),
    CASE(norm_read_twice, ALL, 3, 3, 2),
    CASE(norm_that_is_an_output, ALL, 2, 2, 1),
    CASE(norm_then_patches, ALL, 2, 2, 1),
    CASE(two_norms_then_linear, ALL, 3, 2, 1),
    CASE(patches_then_linear, PATCHES_INTO_LINEAR, 2, 1, 1),
    CASE(patches_then_norm_then_linear, ALL, 3, 1, 1),
    CASE(patches_then_norm_then_linear, PATCHES_INTO_LINEAR, 3, 3, 1),
    CASE(patches_read_twice, ALL, 3, 3, 2),
    CASE(patches_that_are_an_output, ALL, 2, 2, 1),
    CASE(patches_of_patches, ALL, 2, 2, 1),
    CASE(linear_then_norm, NORM_AFTER_LINEAR, 2, 1, 1),
    CASE(linear_then_two_norms, ALL, 3, 2, 1),
    CASE(linear_read_twice_then_norm, ALL, 3, 3, 1),
    CASE(linear_that_is_an_output_then_norm, ALL, 2, 2, 1),
    CASE(norm_linear_norm, ALL, 3, 2, 1),
    CASE(linear_add_norm, ALL, 3, 2, 1),
    CASE(add_linear, ADD_INTO_LINEAR, 2, 1, 1),
    CASE(linear_add, ADD_INTO_LINEAR, 2, 1, 1),
    CASE(add_to_itself, ALL, 2, 2, 1),
    CASE(add_of_linear_read_twice, ALL, 3, 3, 1),
    CASE(add_of_linear_that_is_an_output, ALL, 2, 2, 1),
    CASE(add_of_something_made_later, ALL, 3, 3, 1),
    CASE(add_of_two_linears, ALL, 3, 2, 2),
    CASE(add_of_three, ALL, 3, 2, 1),
    CASE(add_of_norm_of_linear, ALL, 3, 1, 1),
    CASE(add_of_norm_of_linear, ADD_INTO_LINEAR, 3, 3, 1),
    CASE(mul_linear, MUL_INTO_LINEAR, 2, 1, 1),
    CASE(linear_mul, ALL, 3, 1, 1),
    CASE(mul_of_linear_read_twice, ALL, 2, 2, 1),
    CASE(mul_of_norm_of_linear, ALL, 3, 2, 1),
    CASE(mul_by_one_pixel, ALL, 3, 3, 1),
    CASE(mul_then_add, ALL, 3, 2, 1),
    CASE(add_then_mul, ALL, 3, 2, 1),
    CASE(depthwise_add, ADD_INTO_DEPTHWISE, 2, 1, 0),
    CASE(depthwise_affine, AFFINE_INTO_DEPTHWISE, 2, 1, 0),
    CASE(depthwise_two_affines, ALL, 3, 2, 0),
    CASE(depthwise_affine_add, ALL, 3, 1, 0),
    CASE(depthwise_affine_add, ADD_INTO_DEPTHWISE, 3, 3, 0),
    CASE(depthwise_add_affine, ALL, 3, 2, 0),
    CASE(depthwise_read_twice, ALL, 3, 3, 0),
    CASE(blocks, ALL, 8, 4, 4),
};

static void begin_case(test_program *t, const rewrite_case *k)
{
    program_begin(t, (vt_shape){2, 10, 7, CHANNELS});
    k->record(t);
    expect_status(t->builder.status, VT_OK, &t->builder.error);
}

static void check_counts(const rewrite_case *k)
{
    test_program t;
    begin_case(&t, k);
    assert_int_equal(t.program.record_count, k->before);
    vt_program_rewrite(&t.program, k->mask);
    size_t linears = 0;
    for (size_t i = 0; i < t.program.record_count; i++) {
        linears += t.program.records[i].kind == VT_OP_LINEAR;
        assert_true(t.program.records[i].dst.id >= 0);
    }
    if (t.program.record_count != k->after || linears != k->linears) {
        fail_msg("%s: %zu records, %zu of them linear, want %zu and %zu", k->name,
                 t.program.record_count, linears, k->after, k->linears);
    }
    program_end(&t);
}

static void check_values(const rewrite_case *k, const char *device, const float *input)
{
    test_program t;
    begin_case(&t, k);
    program_result want = program_run(&t, device, 0, input);
    program_end(&t);
    begin_case(&t, k);
    program_result got = program_run(&t, device, k->mask, input);
    program_end(&t);
    assert_int_equal(got.count, want.count);
    for (int i = 0; i < want.count; i++) {
        size_t count, other;
        const float *a = result_data(&want, want.names[i], &count);
        const float *b = result_data(&got, want.names[i], &other);
        assert_int_equal(count, other);
        compare(b, a, count, 2e-6, "%s, mask %#x, output %s on %s", k->name, k->mask, want.names[i],
                device);
    }
    result_clear(&want);
    result_clear(&got);
}

static void test_cases(void **state)
{
    (void)state;
    float input[2 * 10 * 7 * CHANNELS];
    random_fill(input, sizeof input / sizeof input[0], 17, 1.5f, 0.2f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_counts(&cases[i]);
        for (const char *const *device = test_devices; *device; device++) {
            check_values(&cases[i], *device, input);
        }
    }
}

/* A residual keeps a later norm out: the norm is of the sum. */
static void test_norm_after_residual(void **state)
{
    (void)state;
    test_program t;
    begin_case(&t, &(rewrite_case){.record = linear_add_norm});
    vt_program_rewrite(&t.program, ADD_INTO_LINEAR);
    assert_int_equal(t.program.record_count, 2);
    vt_program_rewrite(&t.program, ALL);
    assert_int_equal(t.program.record_count, 2);
    assert_int_equal(t.program.records[1].kind, VT_OP_NORM);
    program_end(&t);
}

/* ---- fusions that a backend may take --------------------------------------------------------- */

static const char *refuse_all(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    assert_int_equal(r->kind, VT_OP_MLP);
    return "never";
}

static const char *refuse_wide(const vt_plan_input *in, const vt_record *r)
{
    return in->weights[r->as.mlp.up.weight.id].rows > 16 ? "too wide" : NULL;
}

static void sum_between_linears(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value y = vt_op_add(&t->builder, x, linear(t, x, CHANNELS, 3));
    out(t, "y", linear(t, y, 6, 4));
}

static void norm_between_linears(test_program *t)
{
    out(t, "y", linear(t, norm(t, linear(t, vt_input(&t->builder), 16, 3), 1), 6, 4));
}

static void patches_between_linears(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), CHANNELS, 3);
    vt_linear l = {.weight = random_matrix(t, 6, 4 * CHANNELS, 5), .patch = 2};
    out(t, "y", vt_op_linear(&t->builder, x, &l));
}

static void hidden_map_is_an_output(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), 16, 3);
    out(t, "x", x);
    out(t, "y", linear(t, x, 6, 4));
}

static void act_after_both(test_program *t)
{
    vt_value x = linear(t, vt_input(&t->builder), 16, 3);
    vt_linear l = {.weight = random_matrix(t, 6, 16, 5), .act = VT_ACT_RELU};
    out(t, "y", vt_op_linear(&t->builder, x, &l));
}

static void gate_of_linears(test_program *t)
{
    vt_value x = vt_input(&t->builder);
    vt_value y = linear(t, linear(t, x, 16, 3), CHANNELS, 4);
    out(t, "y", vt_op_mul(&t->builder, x, y));
}

static void wide_linears(test_program *t)
{
    out(t, "y", linear(t, linear(t, vt_input(&t->builder), 17, 3), 6, 4));
}

static void check_fusion(void (*record)(test_program *t), const vt_impl *impl, size_t records,
                         size_t mlps)
{
    test_program t;
    begin_case(&t, &(rewrite_case){.record = record});
    const vt_impl *const list[] = {impl, NULL};
    vt_backend backend = {.name = "fake"};
    backend.impls[VT_OP_MLP] = impl ? list : NULL;
    vt_plan_input in = {.backend = &backend, .program = &t.program, .weights = t.shapes};
    vt_program_rewrite(&t.program, ALL);
    vt_program_fuse(&t.program, &in);
    size_t found = 0;
    for (size_t i = 0; i < t.program.record_count; i++) {
        found += t.program.records[i].kind == VT_OP_MLP;
    }
    assert_int_equal(t.program.record_count, records);
    assert_int_equal(found, mlps);
    program_end(&t);
}

static void test_fusions(void **state)
{
    (void)state;
    assert_string_equal(vt_fusions[0].name, "mlp_into_one");
    assert_null(vt_fusions[1].name); /* a new fusion wants cases here */
    vt_impl takes = {.name = "takes"}, never = {.name = "never", .refuse = refuse_all};
    vt_impl narrow = {.name = "narrow", .refuse = refuse_wide};
    check_fusion(blocks, &takes, 2, 2);
    check_fusion(blocks, NULL, 4, 0);
    check_fusion(blocks, &never, 4, 0);
    check_fusion(blocks, &narrow, 2, 2);
    check_fusion(wide_linears, &narrow, 2, 0);
    check_fusion(wide_linears, &takes, 1, 1);
    check_fusion(sum_between_linears, &takes, 2, 0);
    check_fusion(norm_between_linears, &takes, 2, 0);
    check_fusion(patches_between_linears, &takes, 2, 0);
    check_fusion(hidden_map_is_an_output, &takes, 2, 0);
    check_fusion(act_after_both, &takes, 2, 0);
    check_fusion(gate_of_linears, &takes, 2, 0);
}

/* What the record of a whole MLP says: the rows and the residual are those of the two products. */
static void test_fused_record(void **state)
{
    (void)state;
    test_program t;
    begin_case(&t, &(rewrite_case){.record = blocks});
    vt_impl takes = {.name = "takes"};
    const vt_impl *const list[] = {&takes, NULL};
    vt_backend backend = {.name = "fake"};
    backend.impls[VT_OP_MLP] = list;
    vt_plan_input in = {.backend = &backend, .program = &t.program, .weights = t.shapes};
    vt_program_rewrite(&t.program, ALL);
    vt_record before[4];
    assert_int_equal(t.program.record_count, 4);
    memcpy(before, t.program.records, sizeof before);
    vt_program_fuse(&t.program, &in);
    for (size_t i = 0; i < 2; i++) {
        const vt_record *r = &t.program.records[i];
        const vt_record *up = &before[2 * i], *down = &before[2 * i + 1];
        assert_int_equal(r->source[0].id, up->source[0].id);
        assert_int_equal(r->source[1].id, down->source[1].id);
        assert_int_equal(r->dst.id, down->dst.id);
        assert_memory_equal(&r->as.mlp.up, &up->as.linear, sizeof(vt_linear));
        assert_memory_equal(&r->as.mlp.down, &down->as.linear, sizeof(vt_linear));
        double pixels = 2 * 10 * 7;
        vt_cost cost = vt_record_cost(&t.program, r, t.shapes, VT_F16);
        assert_true(cost.flops == pixels * 4 * CHANNELS * 16);
        /* the same map is rows and residual; both matrices in half precision */
        assert_true(cost.bytes == pixels * 4 * (2 * CHANNELS) + 2 * 2 * CHANNELS * 16);
    }
    program_end(&t);
}

static void test_uses(void **state)
{
    (void)state;
    test_program t;
    program_begin(&t, (vt_shape){1, 2, 2, CHANNELS});
    vt_value x = vt_input(&t.builder), y = vt_op_norm(&t.builder, x, LN);
    vt_value z = vt_op_add(&t.builder, y, y);
    vt_attention a = {.heads = 1,
                      .q = {y, 0, 2},
                      .k = {y, 2, 2},
                      .v = {z, 4, 2},
                      .scale = 1.0f,
                      .pattern = {.window_h = 2, .window_w = 2, .shift_h = 0, .shift_w = 0}};
    vt_value last = vt_op_attention(&t.builder, &a);
    out(&t, "z", z);
    out(&t, "again", z);
    assert_int_equal(vt_program_uses(&t.program, x), 1);
    assert_int_equal(vt_program_uses(&t.program, y), 4);
    assert_int_equal(vt_program_uses(&t.program, z), 3);
    assert_int_equal(vt_program_uses(&t.program, last), 0);
    program_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_bits),       cmocka_unit_test(test_cases),
        cmocka_unit_test(test_norm_after_residual), cmocka_unit_test(test_fusions),
        cmocka_unit_test(test_fused_record),        cmocka_unit_test(test_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
