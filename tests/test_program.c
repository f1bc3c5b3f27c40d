/* SPDX-License-Identifier: Apache-2.0 */
/* Recording: shapes, errors, labels, costs, and dropping what no wanted output needs. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_program.h"

static test_program t;

static int begin(void **state)
{
    (void)state;
    program_begin(&t, (vt_shape){2, 9, 14, 6});
    return 0;
}

static int end(void **state)
{
    (void)state;
    program_end(&t);
    return 0;
}

static void expect_shape(vt_value value, int64_t n, int64_t h, int64_t w, int64_t c)
{
    vt_shape s = vt_value_shape(&t.builder, value);
    expect_status(t.builder.status, VT_OK, &t.builder.error);
    assert_int_equal(s.n, n);
    assert_int_equal(s.h, h);
    assert_int_equal(s.w, w);
    assert_int_equal(s.c, c);
}

/* The recording has failed with this message; a new one begins. */
static void expect_failure(vt_value value, vt_status status, const char *part)
{
    assert_int_equal(value.id, -1);
    expect_error(t.builder.status, status, &t.builder.error, part);
    program_end(&t);
    program_begin(&t, (vt_shape){2, 9, 14, 6});
}

static vt_conv2d conv3x3(vt_weight weight)
{
    return (vt_conv2d){.weight = weight,
                       .kernel_h = 3,
                       .kernel_w = 3,
                       .stride_h = 1,
                       .stride_w = 1,
                       .dilation_h = 1,
                       .dilation_w = 1};
}

static vt_attention attention_of(vt_value x)
{
    return (vt_attention){.heads = 1,
                          .q = {x, 0, 2},
                          .k = {x, 2, 2},
                          .v = {x, 4, 2},
                          .scale = 1.0f,
                          .pattern = {.window_h = 7, .window_w = 5, .shift_h = 3, .shift_w = 2}};
}

static void test_shapes(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    vt_value x = vt_input(b);
    expect_shape(x, 2, 9, 14, 6);
    vt_linear linear = {.weight = random_matrix(&t, 5, 6, 1)};
    expect_shape(vt_op_linear(b, x, &linear), 2, 9, 14, 5);
    linear = (vt_linear){.weight = random_matrix(&t, 5, 6 * 16, 1), .patch = 4};
    expect_shape(vt_op_linear(b, x, &linear), 2, 3, 4, 5);
    vt_conv2d conv = conv3x3(random_matrix(&t, 8, 54, 1));
    expect_shape(vt_op_conv2d(b, x, &conv), 2, 7, 12, 8);
    conv.stride_h = 2;
    conv.dilation_w = 3;
    conv.pad_bottom = 2;
    conv.pad_left = 1;
    expect_shape(vt_op_conv2d(b, x, &conv), 2, 5, 9, 8);
    expect_shape(vt_op_norm(b, x, &(vt_norm){.eps = 1e-5f}), 2, 9, 14, 6);
    expect_shape(vt_op_add(b, x, x), 2, 9, 14, 6);
    expect_shape(vt_op_space_to_depth(b, x, 2), 2, 5, 7, 24);
    expect_shape(vt_op_space_to_depth(b, x, 1), 2, 9, 14, 6);
    expect_shape(vt_op_mean_pool(b, x), 2, 1, 1, 6);
    vt_attention a = attention_of(x);
    expect_shape(vt_op_attention(b, &a), 2, 9, 14, 2);
    a.v = (vt_heads){x, 1, 5};
    expect_shape(vt_op_attention(b, &a), 2, 9, 14, 5);
    assert_int_equal(t.program.record_count, 11);
    vt_shape none = vt_value_shape(b, VT_NO_VALUE);
    assert_int_equal(none.n + none.h + none.w + none.c, 0);
    none = vt_value_shape(b, (vt_value){1000});
    assert_int_equal(none.n + none.h + none.w + none.c, 0);
}

/* A failed operation's result goes through all others, and the first message stays. */
static void test_failure_is_carried_on(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    vt_label(b, "stages.%d.blocks.%d", 2, 5);
    vt_linear linear = {.weight = random_matrix(&t, 5, 7, 1)};
    vt_value y = vt_op_linear(b, vt_input(b), &linear);
    assert_int_equal(y.id, -1);
    size_t records = t.program.record_count;
    vt_label(b, "head");
    vt_conv2d conv = conv3x3(linear.weight);
    vt_attention a = attention_of(y);
    y = vt_op_norm(b, vt_op_linear(b, y, &linear), &(vt_norm){.eps = 1e-5f});
    y = vt_op_add(b, vt_op_conv2d(b, y, &conv), vt_op_attention(b, &a));
    y = vt_op_add(b, vt_input(b), vt_op_mean_pool(b, vt_op_space_to_depth(b, y, 2)));
    vt_output(b, "logits", y);
    vt_builder_fail(b, VT_ERR_MEMORY, "another");
    assert_int_equal(t.program.record_count, records);
    assert_int_equal(t.program.output_count, 0);
    expect_failure(y, VT_ERR_ARGUMENT, "stages.2.blocks.5: linear: matrix has 7 columns");
}

/* Good operands after a failure do not bring the recording back. */
static void test_nothing_is_recorded_after_a_failure(void **state)
{
    (void)state;
    vt_builder_fail(&t.builder, VT_ERR_UNSUPPORTED, "a layer says %s", "no");
    vt_output(&t.builder, "x", vt_input(&t.builder));
    assert_int_equal(t.program.output_count, 0);
    expect_failure(vt_op_mean_pool(&t.builder, vt_input(&t.builder)), VT_ERR_UNSUPPORTED,
                   "a layer says no");
}

static void test_bad_operands(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    expect_failure(vt_op_mean_pool(b, VT_NO_VALUE), VT_ERR_ARGUMENT, "an operand is missing");
    expect_failure(vt_op_norm(b, (vt_value){77}, &(vt_norm){.eps = 1}), VT_ERR_ARGUMENT,
                   "norm: an operand is missing");
    expect_failure(vt_op_add(b, vt_input(b), vt_op_mean_pool(b, vt_input(b))), VT_ERR_ARGUMENT,
                   "add: the shapes differ");
    vt_linear narrow = {.weight = random_matrix(&t, 5, 6, 1)};
    vt_value five = vt_op_linear(b, vt_input(b), &narrow);
    expect_failure(vt_op_add(b, vt_input(b), five), VT_ERR_ARGUMENT, "add: the shapes differ");
    expect_failure(vt_op_space_to_depth(b, vt_input(b), 0), VT_ERR_ARGUMENT, "block = 0");
    expect_failure(vt_op_space_to_depth(b, vt_input(b), -3), VT_ERR_ARGUMENT, "block = -3");
    vt_linear none = {.act = VT_ACT_NONE};
    expect_failure(vt_op_linear(b, vt_input(b), &none), VT_ERR_ARGUMENT, "weight is missing");
    vt_linear unknown = {.weight = {999}};
    expect_failure(vt_op_linear(b, vt_input(b), &unknown), VT_ERR_ARGUMENT, "weight is missing");
    vt_linear bias = {.weight = random_matrix(&t, 5, 6, 1), .bias = random_vector(&t, 4, 1, 1, 0)};
    expect_failure(vt_op_linear(b, vt_input(b), &bias), VT_ERR_ARGUMENT,
                   "linear: vector has 4 elements, want 5");
    bias = (vt_linear){.weight = random_matrix(&t, 5, 6, 1), .bias = {-2}};
    expect_failure(vt_op_linear(b, vt_input(b), &bias), VT_ERR_ARGUMENT, "unknown weight");
    vt_linear norm = {.weight = random_matrix(&t, 5, 6, 1),
                      .norm_place = VT_NORM_OUTPUT,
                      .norm = {.scale = random_vector(&t, 6, 1, 1, 0)}};
    expect_failure(vt_op_linear(b, vt_input(b), &norm), VT_ERR_ARGUMENT, "want 5");
    vt_norm shift = {.shift = random_vector(&t, 7, 1, 1, 0), .eps = 1e-5f};
    expect_failure(vt_op_norm(b, vt_input(b), &shift), VT_ERR_ARGUMENT, "want 6");
}

static void test_bad_convolutions(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    int *fields[10];
    vt_conv2d c;
    fields[0] = &c.kernel_h, fields[1] = &c.kernel_w, fields[2] = &c.stride_h;
    fields[3] = &c.stride_w, fields[4] = &c.dilation_h, fields[5] = &c.dilation_w;
    fields[6] = &c.pad_top, fields[7] = &c.pad_left, fields[8] = &c.pad_bottom;
    fields[9] = &c.pad_right;
    for (int i = 0; i < 10; i++) {
        c = conv3x3(random_matrix(&t, 8, 54, 1));
        *fields[i] = i < 6 ? 0 : -1;
        expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "conv2d");
    }
    c = conv3x3(random_matrix(&t, 8, 54, 1));
    c.kernel_w = 4;
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "54 columns");
    c = conv3x3(random_matrix(&t, 8, 54, 1));
    c.groups = 4; /* of 6 channels */
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "6 channels in 4 groups");
    c = conv3x3(random_matrix(&t, 8, 27, 1));
    c.groups = 3; /* 6 channels are two each, not three */
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "27 columns");
    c = conv3x3(random_matrix(&t, 8, 18, 1));
    c.groups = 3;
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "8 channels in 3 groups");
    c = conv3x3(random_matrix(&t, 8, 54, 1));
    c.groups = -1;
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "conv2d");
    c = conv3x3(random_matrix(&t, 8, 54, 1));
    c.dilation_h = 5; /* spans 11 of 9 rows */
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "not possible");
}

static void test_bad_attention(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    vt_attention a;
    int *fields[8];
    static const int values[8] = {0, -1, 0, 0, 7, 5, -1, -1};
    fields[0] = &a.heads, fields[1] = &a.heads, fields[2] = &a.pattern.window_h;
    fields[3] = &a.pattern.window_w, fields[4] = &a.pattern.shift_h;
    fields[5] = &a.pattern.shift_w, fields[6] = &a.pattern.shift_h;
    fields[7] = &a.pattern.shift_w;
    for (int i = 0; i < 8; i++) {
        a = attention_of(vt_input(b));
        *fields[i] = values[i];
        expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "attention");
    }
    a = attention_of(vt_input(b));
    a.k.width = 1;
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "attention");
    a = attention_of(vt_input(b));
    a.v.offset = 5;
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "v = channels 5 + 1 x 2");
    a = attention_of(vt_input(b));
    a.q.offset = -1;
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "q = channels -1");
    a = attention_of(vt_input(b));
    a.k.map = VT_NO_VALUE;
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "operand");
    a = attention_of(vt_input(b));
    a.bias = random_vector(&t, 13 * 9 - 1, 1, 1, 0);
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "want 117");
    a = attention_of(vt_input(b));
    a.temperature = random_vector(&t, 2, 1, 1, 0);
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "want 1");
    a = attention_of(vt_input(b));
    a.pad = random_vector(&t, 5, 1, 1, 0);
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "want 6");
}

/* Keys and values of another size than the queries have no place in a window. */
static void test_attention_of_maps_that_differ(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    vt_attention a = attention_of(vt_input(b));
    a.k.map = vt_op_mean_pool(b, vt_input(b));
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "attention");
    a = attention_of(vt_input(b));
    a.v.map = vt_op_mean_pool(b, vt_input(b));
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "attention");
}

/* Numbers so large that products of them overflow: a message, no undefined arithmetic. */
static void test_enormous_parameters(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    vt_linear l = {.weight = random_matrix(&t, 5, 6, 1), .patch = INT_MAX};
    expect_failure(vt_op_linear(b, vt_input(b), &l), VT_ERR_ARGUMENT, "linear");
    vt_conv2d c = conv3x3(random_matrix(&t, 8, 54, 1));
    c.kernel_h = c.kernel_w = INT_MAX;
    expect_failure(vt_op_conv2d(b, vt_input(b), &c), VT_ERR_ARGUMENT, "conv2d");
    expect_failure(vt_op_space_to_depth(b, vt_input(b), INT_MAX), VT_ERR_ARGUMENT, "");
    vt_attention a = attention_of(vt_input(b));
    a.pattern.window_h = a.pattern.window_w = INT_MAX;
    a.bias = random_vector(&t, 9, 1, 1, 0);
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "attention");
    a = attention_of(vt_input(b));
    a.heads = a.q.width = a.k.width = INT_MAX;
    expect_failure(vt_op_attention(b, &a), VT_ERR_ARGUMENT, "attention");
    c = conv3x3(random_matrix(&t, 8, 54, 1)); /* the sum of the pads is more than an int holds */
    c.pad_top = c.pad_bottom = INT_MAX;
    c.stride_h = INT_MAX;
    expect_shape(vt_op_conv2d(b, vt_input(b), &c), 2, 3, 12, 8);
}

static void test_impossible_inputs(void **state)
{
    (void)state;
    /* clang-format off */
    static const vt_shape shapes[] = {
        {0, 1, 1, 1}, {1, -1, 1, 1}, {1, 1, INT64_MIN, 1}, {1, 1, 1, 0},
        {INT64_MAX, 1, 1, 2}, {1, (int64_t)1 << 31, (int64_t)1 << 31, 3},
        {(int64_t)1 << 32, (int64_t)1 << 32, 1, 1}, {1, 1, 1, INT64_MAX / 16 + 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        program_end(&t);
        program_begin(&t, (vt_shape){1, 1, 1, 1});
        assert_false(vt_builder_input(&t.builder, shapes[i]));
        expect_error(t.builder.status, VT_ERR_ARGUMENT, &t.builder.error, "not possible");
    }
}

static void test_labels(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    vt_value x = vt_op_mean_pool(b, vt_input(b));
    vt_label(b, "layers.%d.blocks.%d", 1, 2);
    x = vt_op_add(b, x, x);
    x = vt_op_add(b, x, x);
    vt_label(b, "%0200d", 7); /* cut, not overrun */
    vt_op_add(b, x, x);
    assert_string_equal(t.program.records[0].label, "");
    assert_string_equal(t.program.records[1].label, "layers.1.blocks.2");
    assert_string_equal(t.program.records[2].label, "layers.1.blocks.2");
    assert_int_equal(strlen(t.program.records[3].label), sizeof b->label - 1);
}

static void test_too_many_outputs(void **state)
{
    (void)state;
    for (int i = 0; i <= VT_MAX_OUTPUTS; i++) {
        char name[16];
        snprintf(name, sizeof name, "o%d", i);
        expect_status(t.builder.status, VT_OK, &t.builder.error);
        vt_output(&t.builder, name, vt_input(&t.builder));
    }
    assert_int_equal(t.program.output_count, VT_MAX_OUTPUTS);
    expect_failure(VT_NO_VALUE, VT_ERR_LIMIT, "o16");
}

/* An output is a map of the program or a failure, never something in between. */
static void test_output_of_nothing(void **state)
{
    (void)state;
    vt_output(&t.builder, "logits", (vt_value){55});
    expect_failure(VT_NO_VALUE, VT_ERR_ARGUMENT, "logits");
}

/* ---- cost ------------------------------------------------------------------------------------ */

static void expect_cost(double flops, double bytes)
{
    const vt_record *r = &t.program.records[t.program.record_count - 1];
    vt_cost cost = vt_record_cost(&t.program, r, t.shapes, VT_F32);
    expect_near(cost.flops, flops, 0.5, vt_op_name(r->kind));
    expect_near(cost.bytes, bytes, 0.5, vt_op_name(r->kind));
}

static void test_cost(void **state)
{
    (void)state;
    vt_builder *b = &t.builder;
    const double pixels = 2 * 9 * 14, in = 4 * pixels * 6;
    vt_value x = vt_input(b);
    vt_linear l = {.weight = random_matrix(&t, 5, 6, 1)};
    vt_op_linear(b, x, &l);
    expect_cost(2 * pixels * 5 * 6, in + 4 * pixels * 5 + 4 * 30);
    vt_record half = t.program.records[t.program.record_count - 1];
    expect_near(vt_record_cost(&t.program, &half, t.shapes, VT_BF16).bytes,
                in + 4 * pixels * 5 + 2 * 30, 0.5, "bytes with bf16 weights");
    vt_conv2d c = conv3x3(random_matrix(&t, 8, 54, 1));
    vt_op_conv2d(b, x, &c);
    expect_cost(2.0 * 2 * 7 * 12 * 8 * 54, in + 4.0 * 2 * 7 * 12 * 8 + 4 * 8 * 54);
    vt_op_norm(b, x, &(vt_norm){.eps = 1});
    expect_cost(8 * pixels * 6, 2 * in);
    vt_op_add(b, x, x);
    expect_cost(pixels * 6, 2 * in);
    vt_op_mean_pool(b, x);
    expect_cost(pixels * 6, in + 4 * 2 * 6);
    vt_op_space_to_depth(b, x, 2);
    expect_cost(0, in + 4.0 * 2 * 5 * 7 * 24);
    vt_attention a = attention_of(x); /* three views of one map count once */
    vt_op_attention(b, &a);
    expect_cost(2 * pixels * 35 * (2 + 2), in + 4 * pixels * 2);
}

/* ---- select ---------------------------------------------------------------------------------- */

/* x -> a -> b -> c, a -> d, e on its own; outputs named after the maps. */
static void record_tree(void)
{
    vt_builder *b = &t.builder;
    vt_norm norm = {.eps = 1e-5f};
    vt_value a = vt_op_norm(b, vt_input(b), &norm), mid = vt_op_norm(b, a, &norm);
    vt_value c = vt_op_norm(b, mid, &norm), d = vt_op_add(b, a, vt_input(b));
    vt_output(b, "a", a);
    vt_output(b, "c", c);
    vt_output(b, "d", d);
    vt_output(b, "e", vt_op_mean_pool(b, vt_input(b)));
    vt_op_mean_pool(b, c); /* nobody wants this */
}

static void select_and_expect(const char *const *names, int count, size_t records)
{
    vt_error error = {0};
    record_tree();
    expect_status(vt_program_select(&t.program, names, count, &error), VT_OK, &error);
    assert_int_equal(t.program.record_count, records);
    assert_int_equal(t.program.output_count, names ? count : 4);
    for (int i = 0; names && i < count; i++) {
        assert_string_equal(t.program.outputs[i].name, names[i]);
    }
    program_end(&t);
    program_begin(&t, (vt_shape){2, 9, 14, 6});
}

static void test_select(void **state)
{
    (void)state;
    static const char *const all[] = {"e", "d", "c", "a"}, *const twice[] = {"a", "a"};
    select_and_expect(NULL, 0, 5);
    select_and_expect(all, 4, 5);
    select_and_expect(all, 1, 1);     /* e */
    select_and_expect(all + 1, 1, 2); /* d: a, d */
    select_and_expect(all + 2, 1, 3); /* c: a, b, c */
    select_and_expect(all + 3, 1, 1);
    select_and_expect(all + 1, 2, 4);
    select_and_expect(twice, 2, 1);
}

static void test_select_unknown(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "C9"};
    const char *many[VT_MAX_OUTPUTS + 1];
    vt_error error = {0};
    record_tree();
    expect_error(vt_program_select(&t.program, names, 2, &error), VT_ERR_NOT_FOUND, &error, "C9");
    for (int i = 0; i <= VT_MAX_OUTPUTS; i++) {
        many[i] = "a";
    }
    assert_int_not_equal(vt_program_select(&t.program, many, VT_MAX_OUTPUTS + 1, &error), VT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shapes, begin, end),
        cmocka_unit_test_setup_teardown(test_failure_is_carried_on, begin, end),
        cmocka_unit_test_setup_teardown(test_nothing_is_recorded_after_a_failure, begin, end),
        cmocka_unit_test_setup_teardown(test_bad_operands, begin, end),
        cmocka_unit_test_setup_teardown(test_bad_convolutions, begin, end),
        cmocka_unit_test_setup_teardown(test_bad_attention, begin, end),
        cmocka_unit_test_setup_teardown(test_attention_of_maps_that_differ, begin, end),
        cmocka_unit_test_setup_teardown(test_enormous_parameters, begin, end),
        cmocka_unit_test_setup_teardown(test_impossible_inputs, begin, end),
        cmocka_unit_test_setup_teardown(test_labels, begin, end),
        cmocka_unit_test_setup_teardown(test_too_many_outputs, begin, end),
        cmocka_unit_test_setup_teardown(test_output_of_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_cost, begin, end),
        cmocka_unit_test_setup_teardown(test_select, begin, end),
        cmocka_unit_test_setup_teardown(test_select_unknown, begin, end),
    };
    /* clang-format on */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
