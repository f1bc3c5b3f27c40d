/* SPDX-License-Identifier: Apache-2.0 */
/* ConvNeXt against timm, torchvision and transformers (tests/fixtures/convnext): logits, maps after
 * each stage, names; the sizes that it takes; what variants declare. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "model/binder.h"
#include "model/source.h"
#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_names.h"

#define SMALLEST "convnext_atto"

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_all("convnext", "cpu", test_slow_ones() ? 1e9 : 1100),
                     test_slow_ones() ? 13 : 2);
    assert_int_equal(fixture_check_all("convnext", "ref", test_slow_ones() ? 6200 : 900),
                     test_slow_ones() ? 6 : 1);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(check_all_names("convnext", 40, 67), 9);
}

static void test_stage_norms(void **state)
{
    (void)state;
    check_stage_norms(SMALLEST, 1e-6, 75, 64);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static vt_status prepare(const char *name, int64_t h, int64_t w, vt_error *error)
{
    vt_context *context = test_context("cpu");
    vt_session *session = NULL;
    vt_model *model = golden_model(context, name, VT_WINDOW_PAD, 0, 0);
    expect_status(vt_session_create(&session, model, NULL, error), VT_OK, error);
    vt_status status = vt_session_prepare(session, 1, h, w, error);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return status;
}

static void test_sizes(void **state)
{
    (void)state;
    vt_error error = {0};
    expect_status(prepare(SMALLEST, 32, 33, &error), VT_OK, &error);
    expect_error(prepare(SMALLEST, 31, 64, &error), VT_ERR_ARGUMENT, &error, "at least 32");
    expect_error(prepare(SMALLEST, 64, 31, &error), VT_ERR_ARGUMENT, &error, "64 x 31");
    expect_status(prepare("convnext_atto_ols", 29, 29, &error), VT_OK, &error);
    expect_error(prepare("convnext_atto_ols", 28, 64, &error), VT_ERR_ARGUMENT, &error,
                 "at least 29");
}

/* A row or column that is over is not read, whatever it holds. */
static void test_rest_is_not_read(void **state)
{
    (void)state;
    enum { H = 67, W = 46 };
    vt_context *context = test_context("cpu");
    vt_model *model = golden_model(context, SMALLEST, VT_WINDOW_PAD, 0, 0);
    vt_session *session = NULL;
    vt_error error = {0};
    float *picture = malloc(3 * H * W * sizeof *picture);
    network_output out[2];
    vt_golden_picture(1, H, W, picture);
    expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
    for (int i = 0; i < 2; i++) {
        vt_tensor input = vt_tensor_nchw(picture, VT_F32, 1, 3, H, W);
        expect_status(vt_session_forward(session, &input, &error), VT_OK, &error);
        out[i] = take_output(session, "logits");
        for (int k = 0; k < 3 * H * W; k++) {
            if (k / W % H >= 64 || k % W >= 44) {
                picture[k] = 7.0f;
            }
        }
    }
    compare_bits(out[0].data, out[1].data, out[0].count, "with another rest");
    free(out[0].data);
    free(out[1].data);
    free(picture);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

/* ---- what variants declare ------------------------------------------------------------------- */

static const struct {
    const char *model;
    int64_t parameters; /* as the publishers count them */
    size_t tensors;
} counts[] = {
    {"convnext_tiny", 28589128, 182},     {"convnext_small", 50223688, 0},
    {"convnext_base", 88591464, 0},       {"convnext_large", 197767336, 0},
    {"convnext_xlarge", 350196968, 0},    {"convnext_large_mlp", 200128168, 0},
    {"convnext_tiny_hnf", 28589128, 182},
};

/* A file without the head's bias and without norms of stages. */
static bool has_no_bias(const void *user, const char *name)
{
    (void)user;
    return strcmp(name, "head.fc.bias") != 0 && (strncmp(name, "norm", 4) != 0 || name[4] == '_');
}

/* Parameters that a variant declares for such a file. */
static int64_t without_bias(vt_context *context, const char *name)
{
    const vt_family *family;
    const vt_variant *v = vt_variant_find(context, name, &family);
    vt_bind_settings s = {.classes = v->classes, .window_rule = VT_WINDOW_PAD};
    vt_binder binder;
    void *network = calloc(1, family->network_size);
    int64_t parameters = 0;
    assert_int_equal(vt_binder_init(&binder, vt_context_allocator(context)), VT_OK);
    binder.has = has_no_bias;
    family->bind(&binder, v, &s, network);
    expect_status(binder.status, VT_OK, &binder.error);
    for (size_t k = 1; k < binder.slot_count; k++) {
        if (!binder.slots[k].derive) {
            parameters += binder.slots[k].rows * binder.slots[k].cols;
        }
    }
    vt_binder_clear(&binder);
    free(network);
    return parameters;
}

static void test_parameter_counts(void **state)
{
    (void)state;
    static const char *const clip = "convnext_base.clip_laion2b";
    vt_context *context = test_context("ref");
    size_t tensors;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters);
        assert_true(counts[i].tensors == 0 || tensors == counts[i].tensors);
        /* a classifier's bias must be there, CLIP's projection may have none */
        assert_int_equal(without_bias(context, counts[i].model), counts[i].parameters);
    }
    assert_int_equal(without_bias(context, clip),
                     variant_parameters(context, clip, &tensors) - 640);
    vt_context_destroy(&context);
}

/* CLIP's files: the head lies beside the trunk. (The networks are too large to write files of.) */
static void test_open_clip_head(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"visual.head.proj.weight", "head.fc.weight"},
        {"visual.head.mlp.fc1.bias", "head.pre_logits.fc.bias"},
        {"visual.head.mlp.fc2.weight", "head.fc.weight"},
        {"visual.trunk.stages.2.blocks.11.gamma", "stages.2.blocks.11.gamma"},
    };
    vt_context *context = test_context("ref");
    const vt_family *family;
    assert_non_null(vt_variant_find(context, SMALLEST, &family));
    const vt_dialect *dialect = family->dialects;
    assert_string_equal(dialect->name, "open clip");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char out[128] = "";
        const vt_rename *rule = dialect->renames;
        while (rule->from && !vt_rename_apply(rule->from, rule->to, names[i][0], out, sizeof out)) {
            rule++;
        }
        assert_string_equal(out, names[i][1]);
    }
    vt_context_destroy(&context);
}

/* A tag of timm stands for weights with a transform of their own. */
static void test_tags(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    const vt_variant *v = vt_variant_find(context, "convnext_tiny.fb_in22k_ft_in1k_384", NULL);
    assert_non_null(v);
    assert_int_equal(v->preprocess.height, 384);
    assert_int_equal(v->preprocess.crop_mode, VT_CROP_SQUASH);
    v = vt_variant_find(context, "convnext_tiny.fb_in1k", NULL);
    assert_non_null(v);
    assert_string_equal(v->name, "convnext_tiny");
    v = vt_variant_find(context, "convnext_base.tv_in1k", NULL);
    assert_int_equal(v->preprocess.resize_shorter, 232);
    vt_context_destroy(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),         cmocka_unit_test(test_names),
        cmocka_unit_test(test_stage_norms),      cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_rest_is_not_read), cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_open_clip_head),   cmocka_unit_test(test_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
