/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: no two maps that are alive at once share bytes, outputs survive, element types, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "model/model.h"
#include "support/model_compare.h"
#include "support/model_program.h"
#include "support/random.h"

static vt_context *context;

static int set_up(void **state)
{
    (void)state;
    vt_context_settings settings = vt_context_settings_default();
    settings.device = "ref";
    settings.fuse = false;
    context = test_context_with(&settings);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    vt_context_destroy(&context);
    return 0;
}

/* Whether map `id` holds a value that somebody still wants while record `i` runs; the input is
 * there before record 0. */
static bool alive(const vt_program *p, int32_t id, size_t i)
{
    size_t made = p->record_count;
    if (p->input.id == id) {
        made = 0;
    }
    for (size_t k = 0; k < p->record_count; k++) {
        if (p->records[k].dst.id == id) {
            made = k;
        }
    }
    if (i < made || made == p->record_count) {
        return false;
    }
    for (int k = 0; k < p->output_count; k++) {
        if (p->outputs[k].value.id == id) {
            return true;
        }
    }
    for (size_t k = i; k < p->record_count; k++) {
        for (int s = 0; s < VT_MAX_SOURCES; s++) {
            if (p->records[k].source[s].id == id) {
                return true;
            }
        }
    }
    return i == made; /* a record writes its map even where nobody reads it */
}

static size_t map_bytes(const vt_map *m)
{
    return shape_count(m->shape) * vt_dtype_size(m->dtype);
}

/* Checks every pair of maps at every record; returns the bytes that are needed at the worst one. */
static size_t check_places(const vt_plan *plan)
{
    const vt_program *p = &plan->program;
    size_t worst = 0;
    for (size_t i = 0; i < p->record_count; i++) {
        size_t needed = 0;
        for (size_t a = 0; a < p->map_count; a++) {
            if (!alive(p, (int32_t)a, i)) {
                continue;
            }
            size_t begin = plan->offsets[a], end = begin + map_bytes(&p->maps[a]);
            needed += end - begin;
            assert_int_equal(begin % VT_ALIGNMENT, 0);
            assert_true(end <= plan->map_bytes);
            for (size_t b = 0; b < a; b++) {
                bool apart =
                    plan->offsets[b] >= end || plan->offsets[b] + map_bytes(&p->maps[b]) <= begin;
                if (!apart && alive(p, (int32_t)b, i)) {
                    fail_msg("maps %zu and %zu overlap while record %zu (%s) runs", b, a, i,
                             p->records[i].label);
                }
            }
        }
        worst = needed > worst ? needed : worst;
    }
    return worst;
}

/* ---- made-up programs ------------------------------------------------------------------------ */

/* A random tangle of records over maps of many sizes; some maps are outputs. */
static void record_tangle(test_program *t, uint32_t seed)
{
    enum { RECORDS = 40 };
    vt_value made[RECORDS + 1];
    int count = 1;
    program_begin(t, (vt_shape){1, random_int(&seed, 1, 9), random_int(&seed, 1, 9), 4});
    made[0] = vt_input(&t->builder);
    vt_weight wide = random_matrix(t, 12, 4, seed), narrow = random_matrix(t, 4, 12, seed + 1);
    vt_weight patch = random_matrix(t, 4, 16, seed + 2);
    for (int i = 0; i < RECORDS; i++) {
        vt_value x = made[random_int(&seed, count > 6 ? count - 6 : 0, count - 1)];
        vt_value other = made[random_int(&seed, 0, count - 1)];
        vt_shape s = vt_value_shape(&t->builder, x), o = vt_value_shape(&t->builder, other);
        bool same = s.h == o.h && s.w == o.w && s.c == o.c;
        vt_linear l = {.weight = s.c == 4 ? wide : narrow, .patch = 1};
        if (s.c == 4 && s.h * s.w > 1 && random_int(&seed, 0, 5) == 0) {
            l = (vt_linear){.weight = patch, .patch = 2};
        }
        vt_norm norm = {.eps = 1e-5f};
        int choice = random_int(&seed, 0, 3);
        made[count] = choice == 0 && same ? vt_op_add(&t->builder, x, other)
                      : choice <= 1       ? vt_op_norm(&t->builder, x, &norm)
                                          : vt_op_linear(&t->builder, x, &l);
        if (i % 13 == 5 || i == RECORDS - 1) {
            char name[16] = {'o', (char)('a' + i / 13), (char)('a' + i % 13), '\0'};
            vt_output(&t->builder, name, made[count]);
        }
        count++;
    }
    expect_status(t->builder.status, VT_OK, &t->builder.error);
}

/* Runs in one arena that holds nonsense at first, as a session does. */
static void run_in_arena(const vt_plan *plan, const vt_weight_data *packed, const float *input,
                         const program_result *want)
{
    vt_error error = {0};
    const vt_program *p = &plan->program;
    char *arena = aligned_alloc(64, plan->map_bytes + plan->scratch_bytes / 64 * 64 + 64);
    void **maps = calloc(p->map_count, sizeof *maps);
    assert_non_null(arena);
    memset(arena, 0xFF, plan->map_bytes + plan->scratch_bytes);
    for (size_t i = 0; i < p->map_count; i++) {
        maps[i] = arena + plan->offsets[i];
    }
    memcpy(maps[p->input.id], input, map_bytes(&p->maps[p->input.id]));
    vt_run run = {.weights = packed, .maps = maps, .scratch = arena + plan->map_bytes};
    expect_status(vt_plan_run(plan, context, &run, &error), VT_OK, &error);
    for (int i = 0; i < p->output_count; i++) {
        size_t count;
        const float *values = result_data(want, p->outputs[i].name, &count);
        compare_bits(maps[p->outputs[i].value.id], values, count, "output %s", p->outputs[i].name);
    }
    free(maps);
    free(arena);
}

static void test_tangles(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 60; seed++) {
        test_program t;
        float input[9 * 9 * 4];
        random_fill(input, sizeof input / sizeof input[0], seed, 1.0f, 0.0f);
        record_tangle(&t, seed);
        program_result want = program_run(&t, "ref", 0, input);
        program_end(&t);
        record_tangle(&t, seed);
        vt_error error = {0};
        vt_weight_data packed[PROGRAM_MAX_WEIGHTS];
        program_pack(&t, context, packed);
        expect_status(vt_program_select(&t.program, NULL, 0, &error), VT_OK, &error);
        vt_plan plan;
        expect_status(vt_plan_make(&plan, context, &t.program, t.shapes, VT_F32, false, &error),
                      VT_OK, &error);
        check_places(&plan);
        run_in_arena(&plan, packed, input, &want);
        vt_plan_clear(&plan);
        program_unpack(context, packed);
        program_end(&t);
        result_clear(&want);
    }
}

/* An input that is an output, one that nobody reads, an output that is read later on. */
static void test_outputs_survive(void **state)
{
    (void)state;
    enum { ELEMENTS = 8 * 32 * 4 }; /* 4096 bytes: no alignment adds to that */
    float input[ELEMENTS];
    random_fill(input, ELEMENTS, 3, 1.0f, 0.0f);
    for (int round = 0; round < 2; round++) {
        test_program t;
        vt_error error = {0};
        program_begin(&t, (vt_shape){1, 8, 32, 4});
        vt_norm norm = {.eps = 1e-5f};
        vt_value x = vt_input(&t.builder), y = vt_op_norm(&t.builder, x, &norm);
        vt_output(&t.builder, "x", x);
        vt_output(&t.builder, "y", y);
        for (int i = 0; i < 5; i++) {
            y = vt_op_add(&t.builder, y, y);
        }
        vt_output(&t.builder, "z", y);
        vt_output(&t.builder, "z again", y);
        if (round == 0) {
            program_result r = program_run(&t, "ref", 0, input);
            for (int i = 0; i < ELEMENTS; i++) {
                assert_true(r.data[0][i] == input[i] && r.data[2][i] == 32.0f * r.data[1][i] &&
                            r.data[3][i] == r.data[2][i]);
            }
            result_clear(&r);
        } else {
            vt_plan plan;
            expect_status(vt_plan_make(&plan, context, &t.program, t.shapes, VT_F32, false, &error),
                          VT_OK, &error);
            check_places(&plan);
            assert_int_equal(plan.map_bytes, 4 * sizeof input); /* x, y and two that take turns */
            vt_plan_clear(&plan);
        }
        program_end(&t);
    }
}

/* ---- networks -------------------------------------------------------------------------------- */

static void plan_network(const vt_model *model, vt_shape input, const char *const *outputs,
                         int count, vt_dtype dtype, vt_plan *plan)
{
    vt_program program;
    vt_error error = {0};
    vt_program_init(&program, vt_context_allocator(context));
    vt_builder b = {
        .program = &program, .weights = model->shapes, .weight_count = model->binder.slot_count};
    assert_true(vt_builder_input(&b, input));
    model->family->forward(&b, model->network);
    expect_status(b.status, VT_OK, &b.error);
    expect_status(vt_program_select(&program, outputs, count, &error), VT_OK, &error);
    expect_status(vt_plan_make(plan, model->context, &program, model->shapes, dtype, false, &error),
                  VT_OK, &error);
    vt_program_clear(&program);
}

static void test_networks(void **state)
{
    (void)state;
    static const char *const outputs[] = {"logits", "C2", "C3", "C4", "C5", "cam", "embedding"};
    static const vt_shape inputs[] = {{1, 224, 224, 3}, {3, 75, 61, 3}, {1, 1, 1, 3}};
    for (int fuse = 0; fuse < 2; fuse++) {
        vt_context_settings settings = vt_context_settings_default();
        settings.device = "ref";
        settings.fuse = fuse;
        vt_context *ctx = test_context_with(&settings);
        vt_model *model = golden_model(ctx, "swin_nano_patch4_window7_224", VT_WINDOW_PAD, 0, 0);
        for (int i = 0; i < 3; i++) {
            vt_plan few, all;
            plan_network(model, inputs[i], outputs, 1, VT_F32, &few);
            plan_network(model, inputs[i], outputs, 7, VT_F32, &all);
            size_t needed = check_places(&few);
            check_places(&all);
            assert_true(all.map_bytes >= few.map_bytes);
            if (i == 0) { /* the placement is greedy; it must not waste much of what is needed */
                assert_true(few.map_bytes <= needed + needed / 4);
            }
            vt_plan_clear(&few);
            vt_plan_clear(&all);
        }
        vt_model_destroy(&model);
        vt_context_destroy(&ctx);
    }
}

static vt_plan plan_in_bf16(test_program *t)
{
    vt_plan plan;
    vt_error error = {0};
    expect_status(vt_plan_make(&plan, context, &t->program, t->shapes, VT_BF16, false, &error),
                  VT_OK, &error);
    return plan;
}

static void expect_types(const vt_plan *plan, const vt_value *maps, int count, vt_dtype want)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(plan->program.maps[maps[i].id].dtype, want);
    }
}

/* In a bf16 model what only products read is bf16; the stream, norms and outputs are f32. */
static void test_element_types(void **state)
{
    (void)state;
    test_program t;
    program_begin(&t, (vt_shape){1, 8, 8, 6});
    vt_builder *b = &t.builder;
    vt_linear wide = {.weight = random_matrix(&t, 18, 6, 1)};
    vt_linear square = {.weight = random_matrix(&t, 6, 6, 2)};
    vt_linear back = {.weight = random_matrix(&t, 6, 18, 3)};
    vt_value x = vt_input(b), normed = vt_op_norm(b, x, &(vt_norm){.eps = 1e-5f});
    vt_value qkv = vt_op_linear(b, normed, &wide);
    vt_attention a = {.heads = 1,
                      .q = {qkv, 0, 6},
                      .k = {qkv, 6, 6},
                      .v = {qkv, 12, 6},
                      .scale = 1.0f,
                      .pattern = {.window_h = 4, .window_w = 4, .shift_h = 0, .shift_w = 0}};
    vt_value attended = vt_op_attention(b, &a), proj = vt_op_linear(b, attended, &square);
    vt_value sum = vt_op_add(b, x, proj), hidden = vt_op_linear(b, sum, &wide);
    vt_value shown = vt_op_linear(b, hidden, &back);
    vt_output(b, "y", shown);
    vt_output(b, "hidden", vt_op_mean_pool(b, vt_op_linear(b, shown, &square)));
    vt_value half[] = {qkv, attended, hidden}, full[] = {x, normed, proj, sum, shown};
    vt_plan plan = plan_in_bf16(&t);
    expect_types(&plan, half, 3, VT_BF16);
    expect_types(&plan, full, 5, VT_F32);
    check_places(&plan);
    vt_plan_clear(&plan);
    program_end(&t);
}

/* What goes through a record that computes little on its way to a product is bf16; what is added to
 * the stream or normed is f32, and so is what it is made from. */
static void test_types_on_the_way(void **state)
{
    (void)state;
    test_program t;
    program_begin(&t, (vt_shape){1, 8, 8, 6});
    vt_builder *b = &t.builder;
    vt_linear wide = {.weight = random_matrix(&t, 18, 6, 1)};
    vt_linear back = {.weight = random_matrix(&t, 6, 18, 2)};
    vt_depthwise deep = {.conv = {.kernel_h = 1,
                                  .kernel_w = 1,
                                  .stride_h = 1,
                                  .stride_w = 1,
                                  .dilation_h = 1,
                                  .dilation_w = 1,
                                  .weight = random_vector(&t, 18, 3, 1, 0)}};
    vt_pooling pool = {.kind = VT_POOL_MAX, .kernel = 2, .stride = 1};
    vt_value x = vt_input(b), up = vt_op_linear(b, x, &wide);
    vt_value mixed = vt_op_depthwise(b, up, &deep), gate = vt_op_mul(b, mixed, up);
    vt_value sum = vt_op_add(b, x, vt_op_linear(b, gate, &back));
    vt_value other = vt_op_linear(b, sum, &wide), pooled = vt_op_pool(b, other, &pool);
    vt_value normed = vt_op_norm(b, pooled, &(vt_norm){.eps = 1e-5f});
    vt_value first = vt_op_linear(b, normed, &back), both = vt_op_add(b, first, first);
    vt_output(b, "y", vt_op_linear(b, both, &wide));
    vt_value half[] = {up, mixed, gate}, full[] = {x, sum, other, pooled, first, both};
    vt_plan plan = plan_in_bf16(&t);
    expect_types(&plan, half, 3, VT_BF16);
    expect_types(&plan, full, 6, VT_F32);
    vt_plan_clear(&plan);
    program_end(&t);
}

/* Every attention between products reads and writes bf16; what it makes for the stream is f32. */
static void test_types_of_attentions(void **state)
{
    (void)state;
    test_program t;
    program_begin(&t, (vt_shape){1, 8, 8, 6});
    vt_builder *b = &t.builder;
    vt_linear wide = {.weight = random_matrix(&t, 18, 6, 1)};
    vt_linear back = {.weight = random_matrix(&t, 6, 6, 2)};
    vt_value x = vt_input(b), qkv[4], mixed[4];
    for (int i = 0; i < 4; i++) {
        qkv[i] = vt_op_linear(b, x, &wide);
        vt_heads q = {qkv[i], 0, 3}, k = {qkv[i], 6, 3}, v = {qkv[i], 12, 3};
        vt_pattern near = {.kind = VT_PATTERN_NEIGHBORHOOD, .window_h = 3, .window_w = 3};
        vt_attention softmax = {.heads = 2, .q = q, .k = k, .v = v, .scale = 1, .pattern = near};
        vt_linear_attention linear = {.heads = 2, .q = q, .k = k, .v = v, .floor = 1};
        vt_channel_attention channel = {.heads = 2, .left = q, .right = k, .value = v, .scale = 1};
        mixed[i] = i % 3 == 0 ? vt_op_attention(b, &softmax)
                   : i == 1   ? vt_op_linear_attention(b, &linear)
                              : vt_op_channel_attention(b, &channel);
        x = vt_op_add(b, x, i == 3 ? mixed[i] : vt_op_linear(b, mixed[i], &back));
    }
    vt_output(b, "y", x);
    vt_plan plan = plan_in_bf16(&t);
    expect_types(&plan, qkv, 4, VT_BF16);
    expect_types(&plan, mixed, 3, VT_BF16);
    expect_types(&plan, &mixed[3], 1, VT_F32);
    vt_plan_clear(&plan);
    program_end(&t);
}

/* Maps that exist one by one, but whose places no address reaches. */
static void test_too_much_memory(void **state)
{
    (void)state;
    test_program t;
    vt_error error = {0};
    program_begin(&t, (vt_shape){1, (int64_t)1 << 29, (int64_t)1 << 29, 1});
    vt_norm norm = {.eps = 1e-5f};
    for (int i = 0; i < VT_MAX_OUTPUTS; i++) {
        vt_output(&t.builder, "y", vt_op_norm(&t.builder, vt_input(&t.builder), &norm));
    }
    expect_status(t.builder.status, VT_OK, &t.builder.error);
    vt_plan plan;
    expect_status(vt_plan_make(&plan, context, &t.program, t.shapes, VT_F32, false, &error),
                  VT_ERR_LIMIT, &error);
    assert_null(plan.impls);
    program_end(&t);
}

/* The costs of a plan are those of its records. */
static void test_totals(void **state)
{
    (void)state;
    vt_model *model = golden_model(context, "swin_tiny_patch4_window7_224", VT_WINDOW_PAD, 0, 0);
    static const char *const logits[] = {"logits"};
    vt_plan plan;
    plan_network(model, (vt_shape){1, 224, 224, 3}, logits, 1, VT_F32, &plan);
    double flops = 0, bytes = 0;
    for (size_t i = 0; i < plan.program.record_count; i++) {
        vt_cost cost =
            vt_record_cost(&plan.program, &plan.program.records[i], model->shapes, VT_F32);
        flops += cost.flops;
        bytes += cost.bytes;
    }
    expect_near(plan.flops, flops, 1.0, "flops");
    expect_near(plan.bytes, bytes, 1.0, "bytes");
    assert_true(plan.flops > 8.9e9 && plan.flops < 9.4e9); /* the paper: 4.5 G multiply-adds */
    vt_plan_clear(&plan);
    vt_model_destroy(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tangles),          cmocka_unit_test(test_outputs_survive),
        cmocka_unit_test(test_networks),         cmocka_unit_test(test_element_types),
        cmocka_unit_test(test_types_on_the_way), cmocka_unit_test(test_types_of_attentions),
        cmocka_unit_test(test_too_much_memory),  cmocka_unit_test(test_totals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
