/* SPDX-License-Identifier: Apache-2.0 */
/* MaxViT against timm (tests/fixtures/maxvit/logits.json): networks built for several image sizes,
 * odd pictures, position tables of other windows; which sizes are taken; parameters; names. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_naming.h"

#define TINY "maxvit_tiny_tf_224"

static json_t *fixtures;
static char path[] = "/tmp/vertebra-maxvit-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    int descriptor = mkstemp(path);
    fixtures = fixture_open("maxvit");
    return descriptor < 0 ? -1 : close(descriptor);
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(fixtures);
    return unlink(path);
}

static int at(const json_t *k, const char *key, size_t i)
{
    return (int)json_integer_value(json_array_get(fixture_member(k, key), i));
}

/* The stored parameters of a golden network built for 64x64, written to `path`. */
static model_writer save_golden(void)
{
    model_writer w = naming_canonical_for(TINY, 64, 64);
    writer_save(&w, path, NULL);
    return w;
}

/* Sanitized, the smallest network only. */
static double cost(const json_t *k)
{
    bool wanted = test_slow_ones() || strcmp(fixture_text(k, "model"), TINY) == 0;
    return wanted ? fixture_pixels(k) : INFINITY;
}

static void test_fixtures_cpu(void **state)
{
    (void)state;
    int done = fixture_check_some("maxvit", "cpu", cost, test_slow_ones() ? 1e9 : 3e4);
    assert_int_equal(done, test_slow_ones() ? 10 : 4);
}

static void test_fixtures_ref(void **state)
{
    (void)state;
    int done = fixture_check_some("maxvit", "ref", cost, test_slow_ones() ? 1.3e4 : 7e3);
    assert_int_equal(done, test_slow_ones() ? 4 : 1);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Every height and width that timm takes is taken, no other; the message names possible ones. */
static void test_sizes(void **state)
{
    (void)state;
    const json_t *sizes = fixture_member(fixtures, "sizes");
    vt_context *context = test_context("cpu");
    vt_error error = {0};
    vt_session *session = NULL;
    int height = at(sizes, "built", 0), width = at(sizes, "built", 1);
    vt_model *model = golden_model(context, TINY, VT_WINDOW_AUTO, height, width);
    expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
    for (int h = 1; h < 140; h++) {
        bool taken = vt_session_prepare(session, 1, h, width, &error) == VT_OK;
        assert_int_equal(taken, fixture_lists(fixture_member(sizes, "heights"), h));
    }
    for (int w = 1; w < 200; w++) {
        bool taken = vt_session_prepare(session, 1, height, w, &error) == VT_OK;
        assert_int_equal(taken, fixture_lists(fixture_member(sizes, "widths"), w));
    }
    vt_status status = vt_session_prepare(session, 1, 100, 60, &error);
    expect_error(status, VT_ERR_ARGUMENT, &error, "height 100 and width 60");
    expect_error(status, VT_ERR_ARGUMENT, &error,
                 "height must be a multiple of 64, the width of 96");
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

static void test_image_too_small(void **state)
{
    (void)state;
    vt_context *context = test_context("cpu");
    vt_model *model = NULL;
    vt_error error = {0};
    vt_model_settings settings = vt_model_settings_default();
    settings.image_height = 31;
    expect_error(vt_model_golden(&model, context, TINY, 0, &settings, &error), VT_ERR_ARGUMENT,
                 &error, "31 x 224 (height x width)");
    assert_null(model);
    vt_context_destroy(&context);
}

/* ---- parameters, names ----------------------------------------------------------------------- */

/* As timm counts what a file holds. */
static void test_parameter_counts(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    const json_t *k;
    size_t i, tensors;
    assert_int_equal(json_array_size(fixture_member(fixtures, "counts")), 15);
    json_array_foreach(fixture_member(fixtures, "counts"), i, k)
    {
        int64_t numbers = variant_parameters(context, fixture_text(k, "model"), &tensors);
        assert_int_equal(numbers, (int64_t)fixture_number(k, "numbers"));
        assert_int_equal(tensors, (size_t)fixture_number(k, "tensors"));
    }
    vt_context_destroy(&context);
}

/* A file under timm's names, buffers included, gives the golden network bit by bit; what is missing
 * or does not fit is named. */
static void test_file(void **state)
{
    (void)state;
    vt_context *context = test_context("cpu");
    vt_error error = {0};
    vt_model *want = golden_model(context, TINY, VT_WINDOW_AUTO, 64, 64), *got, *bad = NULL;
    vt_model_settings settings = vt_model_settings_default();
    settings.image_height = settings.image_width = 64;
    model_writer w = save_golden();
    writer_add(&w, "stem.norm1.num_batches_tracked", 1, (int64_t[]){1}, calloc(1, sizeof(float)));
    writer_save(&w, path, NULL);
    expect_status(vt_model_load(&got, context, TINY, path, &settings, &error), VT_OK, &error);
    assert_string_equal(vt_model_dialect(got), "timm");
    network_output a = run_network(got, "logits", 1, 64, 64);
    network_output b = run_network(want, "logits", 1, 64, 64);
    compare_bits(a.data, b.data, b.count, "a file of timm");
    writer_remove(&w, "stages.2.blocks.3.conv.se.fc1.bias");
    written_tensor *table =
        writer_find(&w, "stages.0.blocks.1.attn_grid.attn.rel_pos.relative_position_bias_table");
    table->shape[0] = 1;
    writer_save(&w, path, NULL);
    vt_status status = vt_model_load(&bad, context, TINY, path, NULL, &error);
    expect_error(status, VT_ERR_MISMATCH, &error, "1 missing: stages.2.blocks.3.conv.se.fc1.bias");
    expect_error(status, VT_ERR_MISMATCH, &error, "want [2,13,13], file has [1,3,3]");
    writer_clear(&w);
    free(a.data);
    free(b.data);
    vt_model_destroy(&got);
    vt_model_destroy(&want);
    vt_context_destroy(&context);
}

/* Tables that belong to no window. */
static void test_even_table(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    vt_error error = {0};
    vt_model *model = NULL;
    model_writer w = save_golden();
    const char *key = "stages.1.blocks.0.attn_block.attn.rel_pos.relative_position_bias_table";
    writer_remove(&w, key);
    writer_add(&w, key, 3, (int64_t[]){4, 6, 5}, calloc(120, sizeof(float)));
    writer_save(&w, path, NULL);
    expect_error(vt_model_load(&model, context, TINY, path, NULL, &error), VT_ERR_MISMATCH, &error,
                 "6x5 positions");
    assert_null(model);
    writer_clear(&w);
    vt_context_destroy(&context);
}

/* Names with a tag are variants of their own where the tag says more than the name. */
static void test_tags(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    const vt_variant *plain = vt_variant_find(context, "maxvit_base_tf_224.in1k", NULL);
    const vt_variant *large = vt_variant_find(context, "maxvit_base_tf_224.in21k", NULL);
    assert_string_equal(plain->name, "maxvit_base_tf_224");
    assert_int_equal(plain->classes, 1000);
    assert_string_equal(large->name, "maxvit_base_tf_224.in21k");
    assert_int_equal(large->classes, 21843);
    vt_context_destroy(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures_cpu),
        cmocka_unit_test(test_fixtures_ref),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_image_too_small),
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_even_table),
        cmocka_unit_test(test_tags),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
