/* SPDX-License-Identifier: Apache-2.0 */
/* HaloNet against timm (tests/fixtures/halonet/logits.json): every network, odd pictures, batches;
 * which sizes are taken; parameters; names; the layers that only this family has. */
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
#include "support/model_writer.h"

static json_t *fixtures;
static char path[] = "/tmp/vertebra-halonet-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    int descriptor = mkstemp(path);
    fixtures = fixture_open("halonet");
    return descriptor < 0 ? -1 : close(descriptor);
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(fixtures);
    return unlink(path);
}

static void test_fixtures_cpu(void **state)
{
    (void)state;
    int done = fixture_check_all("halonet", "cpu", test_slow_ones() ? 1e9 : 64e3);
    assert_int_equal(done, test_slow_ones() ? 9 : 1);
}

static void test_fixtures_ref(void **state)
{
    (void)state;
    if (!test_slow_ones()) {
        skip();
    }
    assert_int_equal(fixture_check_all("halonet", "ref", 6.4e4), 1);
}

/* ---- sizes, parameters ----------------------------------------------------------------------- */

/* Of the heights that were tried exactly those that timm takes are taken. */
static void test_sizes(void **state)
{
    (void)state;
    vt_context *context = test_context("cpu");
    vt_error error = {0};
    const json_t *k, *height;
    size_t i, j;
    assert_int_equal(json_array_size(fixture_member(fixtures, "models")), 6);
    json_array_foreach(fixture_member(fixtures, "models"), i, k)
    {
        vt_session *session = NULL;
        vt_model *model = golden_model(context, fixture_text(k, "model"), VT_WINDOW_AUTO, 0, 0);
        int64_t width = (int64_t)fixture_number(k, "width");
        expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
        json_array_foreach(fixture_member(fixtures, "tried"), j, height)
        {
            int64_t h = json_integer_value(height);
            bool taken = vt_session_prepare(session, 1, h, width, &error) == VT_OK;
            if (taken != fixture_lists(fixture_member(k, "heights"), h)) {
                fail_msg("%s at %dx%d: %s", fixture_text(k, "model"), (int)h, (int)width,
                         taken ? "taken, which timm does not" : error.message);
            }
        }
        vt_status status = vt_session_prepare(session, 1, 300, 200, &error);
        expect_error(status, VT_ERR_ARGUMENT, &error, "height 300 and width 200");
        expect_error(status, VT_ERR_ARGUMENT, &error,
                     width == 224 ? "height must be a multiple of 224, the width of 224"
                                  : "height must be a multiple of 256, the width of 256");
        vt_session_destroy(&session);
        vt_model_destroy(&model);
    }
    vt_context_destroy(&context);
}

static void test_parameter_counts(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    const json_t *k;
    size_t i, tensors;
    json_array_foreach(fixture_member(fixtures, "models"), i, k)
    {
        int64_t numbers = variant_parameters(context, fixture_text(k, "model"), &tensors);
        assert_int_equal(numbers, (int64_t)fixture_number(k, "numbers"));
        assert_int_equal(tensors, (size_t)fixture_number(k, "tensors"));
    }
    vt_context_destroy(&context);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Files under timm's names, buffers included, give the golden network bit by bit. */
static void test_files(void **state)
{
    (void)state;
    static const char *const names[] = {"halonet26t", "eca_halonext26ts", "haloregnetz_b", NULL};
    vt_context *context = test_context("cpu");
    vt_error error = {0};
    for (const char *const *name = names; *name; name++) {
        vt_model *want = golden_model(context, *name, VT_WINDOW_AUTO, 0, 0), *got = NULL;
        int side = vt_model_preprocess(want)->height;
        model_writer w = {0};
        writer_add_golden(&w, want);
        writer_add(&w, "stages.3.0.post_attn.num_batches_tracked", 1, (int64_t[]){1},
                   calloc(1, sizeof(float)));
        writer_save(&w, path, NULL);
        writer_clear(&w);
        expect_status(vt_model_load(&got, context, *name, path, NULL, &error), VT_OK, &error);
        assert_string_equal(vt_model_dialect(got), "timm");
        network_output a = run_network(got, "logits", 1, side, side);
        network_output b = run_network(want, "logits", 1, side, side);
        compare_bits(a.data, b.data, b.count, "a file of timm's %s", *name);
        free(a.data);
        free(b.data);
        vt_model_destroy(&got);
        vt_model_destroy(&want);
    }
    vt_context_destroy(&context);
}

static void test_mistakes(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    vt_error error = {0};
    vt_model *model = golden_model(context, "halonet26t", VT_WINDOW_AUTO, 0, 0), *bad = NULL;
    model_writer w = {0};
    writer_add_golden(&w, model);
    writer_remove(&w, "stages.2.1.self_attn.q.weight");
    writer_find(&w, "stages.3.0.self_attn.pos_embed.width_rel")->shape[0] = 21;
    writer_add(&w, "stages.0.0.attn.conv.weight", 1, (int64_t[]){3}, calloc(3, sizeof(float)));
    writer_save(&w, path, NULL);
    vt_status status = vt_model_load(&bad, context, "halonet26t", path, NULL, &error);
    expect_error(status, VT_ERR_MISMATCH, &error, "1 missing: stages.2.1.self_attn.q.weight");
    expect_error(status, VT_ERR_MISMATCH, &error, "want [23,64], file has [21,64]");
    expect_error(status, VT_ERR_MISMATCH, &error, "1 unexpected: stages.0.0.attn.conv.weight");
    writer_clear(&w);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures_cpu), cmocka_unit_test(test_fixtures_ref),
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_files),        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
