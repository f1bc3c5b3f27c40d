/* SPDX-License-Identifier: Apache-2.0 */
/* NAT, DiNAT and their relatives against networks written from the formulas in Python
 * (tests/fixtures/dinat, made by tools/fixtures/dinat.py), parameter counts, published namings, and
 * the sizes that the networks with a global position table take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_naming.h"

/* ---- answers --------------------------------------------------------------------------------- */

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_all("dinat", "cpu", test_slow_ones() ? 1e9 : 2e4),
                     test_slow_ones() ? 21 : 7);
    assert_int_equal(fixture_check_all("dinat", "ref", test_slow_ones() ? 1.1e4 : 3e2),
                     test_slow_ones() ? 3 : 1);
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* As the authors' modules count them. */
static const struct {
    const char *model;
    int64_t parameters;
} counts[] = {
    {"nat_mini", 19984174},
    {"dinat_mini", 19984174},
    {"nat_tiny", 27901582},
    {"dinat_tiny", 27901582},
    {"nat_small", 50743297},
    {"dinat_small", 50719681},
    {"nat_base", 89769652},
    {"dinat_base", 89769652},
    {"dinat_large", 200943514},
    {"dinat_large_384", 200943514},
    {"dinat_large_384_11x11", 201144250},
    {"dinat_large_21k", 232976131},
    {"dinat_s_tiny", 28288354},
    {"dinat_s_small", 49606258},
    {"dinat_s_base", 87768224},
    {"dinat_s_large", 196532476},
    {"dinat_s_large_384", 196532476},
    {"nat_isotropic_small", 21999736},
    {"dinat_isotropic_small", 21999736},
    {"nat_isotropic_base", 86465800},
    {"dinat_isotropic_base", 86465800},
    {"vitrpb_small", 22080376},
    {"vitrpb_base", 86627080},
};

static void test_parameter_counts(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t tensors;
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters);
    }
    vt_context_destroy(&context);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static void test_global_table(void **state)
{
    (void)state;
    static const struct {
        int h, w;
        bool fits;
    } sizes[] = {{224, 224, true},
                 {209, 224, true},
                 {208, 224, false},
                 {224, 225, false},
                 {112, 448, false}};
    vt_context *context = test_context("cpu");
    vt_model *model = golden_model(context, "vitrpb_small", VT_WINDOW_PAD, 0, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        vt_session *session = NULL;
        vt_error error = {0};
        expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
        vt_status status = vt_session_prepare(session, 1, sizes[i].h, sizes[i].w, &error);
        if (sizes[i].fits) {
            expect_status(status, VT_OK, &error);
        } else {
            expect_error(status, VT_ERR_ARGUMENT, &error, "209 to 224");
        }
        vt_session_destroy(&session);
    }
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

/* ---- namings --------------------------------------------------------------------------------- */

static const char *const classifier[] = {"logits", "C2", "C5", NULL};
static const char *const dense[] = {"C2", "C3", "C4", "C5", NULL};
static const char *const tail[] = {"norm.", "head.", NULL};
static const char *const nothing[] = {NULL};

static void test_authors(void **state)
{
    (void)state;
    static const char *const isotropic[] = {"logits", "C4", NULL};
    static const naming_case cases[] = {
        {"nat_mini", "authors", "levels.1.blocks.3.attn.rpb", "levels.1.blocks.3.attn.rpb",
         classifier, 45, 60},
        {"dinat_s_tiny", "authors", "layers.0.downsample.norm.bias",
         "layers.0.downsample.norm.bias", classifier, 45, 60},
        {"dinat_isotropic_small", "authors", "layers.3.attn.qkv.bias", "layers.3.attn.qkv.bias",
         isotropic, 45, 60},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_writer w = naming_canonical(cases[i].model), file = naming_prefixed(&w, "", nothing);
        check_naming(&cases[i], &file, &w);
        writer_clear(&file);
        writer_clear(&w);
    }
}

/* A segmenter's file: "backbone." in front, a norm for each stage, heads that nobody wants. */
static void test_dense(void **state)
{
    (void)state;
    static const naming_case cases[] = {
        {"dinat_mini_upernet", "authors", "backbone.norm2.bias", "norm2.bias", dense, 75, 61},
        {"nat_mini", "authors", "backbone.levels.0.blocks.0.mlp.fc1.bias",
         "levels.0.blocks.0.mlp.fc1.bias", dense, 75, 61},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_writer w = naming_canonical(cases[i].model);
        model_writer plain = naming_prefixed(&w, "", tail);
        if (i == 1) {
            naming_add_norms(&plain, "", 64);
        }
        model_writer file = naming_prefixed(&plain, "backbone.", nothing);
        writer_add(&file, "decode_head.conv_seg.weight", 1, (int64_t[]){1}, calloc(1, 4));
        writer_add(&file, "auxiliary_head.conv_seg.bias", 1, (int64_t[]){1}, calloc(1, 4));
        check_naming(&cases[i], &file, &plain);
        writer_clear(&file);
        writer_clear(&plain);
        writer_clear(&w);
    }
}

/* Puts another beginning in the place of "dinat." in a list of keys. */
static void set_prefix(json_t *list, const char *prefix)
{
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(list, "keys"), i, row)
    {
        const char *key = fixture_text(row, "key");
        if (strncmp(key, "dinat.", 6) == 0) {
            json_object_set_new(row, "key", json_sprintf("%s%s", prefix, key + 6));
        }
    }
}

/* transformers' names for a classifier. */
static void test_hugging_face(void **state)
{
    (void)state;
    static const naming_case cases[] = {
        {"dinat_mini", "hugging face", "nat.encoder.levels.2.layers.5.output.dense.weight",
         "levels.2.blocks.5.mlp.fc2.weight", classifier, 45, 60},
        {"dinat_mini", "hugging face", "dinat.encoder.levels.0.layers.1.attention.self.key.bias",
         "levels.0.blocks.1.attn.qkv.bias", classifier, 45, 60},
    };
    model_writer w = naming_canonical("dinat_mini");
    for (size_t i = 0; i < 2; i++) {
        json_t *list = fixture_load("tests/fixtures/dinat/hf_dinat_mini_keys.json");
        model_writer file = {0};
        set_prefix(list, i ? "dinat." : "nat.");
        fixture_rename(&file, &w, list);
        check_naming(&cases[i], &file, &w);
        writer_clear(&file);
        json_decref(list);
    }
    writer_clear(&w);
}

/* A backbone of transformers: no "dinat.", norms for its outputs; both layer scales are one
 * tensor. */
static void test_hugging_face_backbone(void **state)
{
    (void)state;
    if (!test_slow_ones()) {
        skip();
    }
    json_t *list = fixture_load("tests/fixtures/dinat/hf_nat_small_keys.json");
    static const naming_case k = {"nat_small",
                                  "hugging face",
                                  "encoder.levels.2.layers.7.layer_scale_parameters",
                                  "levels.2.blocks.7.gamma1",
                                  dense,
                                  45,
                                  60};
    model_writer w = naming_canonical("nat_small"), file = {0};
    model_writer plain = naming_prefixed(&w, "", tail);
    naming_add_norms(&plain, "", 96);
    set_prefix(list, "");
    fixture_rename(&file, &w, list);
    writer_remove(&file, "layernorm.weight");
    writer_remove(&file, "layernorm.bias");
    writer_remove(&file, "classifier.weight");
    writer_remove(&file, "classifier.bias");
    for (int i = 0; i < 8; i++) {
        char from[32], to[64];
        snprintf(from, sizeof from, "norm%d.%s", i / 2, i % 2 ? "bias" : "weight");
        snprintf(to, sizeof to, "hidden_states_norms.stage%d.%s", i / 2 + 1,
                 i % 2 ? "bias" : "weight");
        const written_tensor *t = writer_find(&plain, from);
        writer_add(&file, to, 1, t->shape,
                   memcpy(malloc((size_t)t->shape[0] * 4), t->data, (size_t)t->shape[0] * 4));
    }
    check_naming(&k, &file, &plain);
    writer_clear(&file);
    writer_clear(&plain);
    writer_clear(&w);
    json_decref(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_global_table),
        cmocka_unit_test(test_authors),
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_hugging_face),
        cmocka_unit_test(test_hugging_face_backbone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
