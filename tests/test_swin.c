/* SPDX-License-Identifier: Apache-2.0 */
/* Swin against the publishers' networks (tests/fixtures/swin/logits.json, made in double from timm
 * and torchvision): logits, maps after each stage, pooled vector; batches; parameter counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_nano_v2.h"

/* ---- answers --------------------------------------------------------------------------------- */

/* Multiply-adds of a case, roughly: enough to know how long it takes. */
static double work(const json_t *k)
{
    double width = fixture_number(fixture_member(k, "config"), "embed_dim"), blocks = 0;
    const json_t *depths = fixture_member(fixture_member(k, "config"), "depths");
    for (size_t i = 0; i < 4; i++) {
        blocks += json_number_value(json_array_get(depths, i));
    }
    return fixture_pixels(k) / 16 * width * width * 12 * blocks;
}

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_some("swin", "cpu", work, test_slow_ones() ? 1e99 : 1e9),
                     test_slow_ones() ? 24 : 5);
    assert_int_equal(fixture_check_some("swin", "ref", work, test_slow_ones() ? 3e9 : 2e8),
                     test_slow_ones() ? 6 : 2);
}

/* ---- batches, odd sizes ---------------------------------------------------------------------- */

static const struct {
    const char *model;
    vt_window_rule rule;
    int h, w;
} sizes[] = {
    {"swin_nano_patch4_window7_224", VT_WINDOW_PAD, 37, 53},
    {"swin_nano_patch4_window7_224", VT_WINDOW_MM, 37, 53},
    {"swin_nano_patch4_window7_224", VT_WINDOW_TIMM, 100, 132},
    {"swin_nano_patch4_window7_224", VT_WINDOW_PAD, 1, 1},
    {"swin_nano_patch4_window7_224", VT_WINDOW_PAD, 3, 130},
    {"swinv2_nano_window8_128", VT_WINDOW_PAD, 37, 53},
    {"swinv2_nano_window8_128", VT_WINDOW_MM, 70, 5},
    {"swinv2_nano_window8_128", VT_WINDOW_PAD, 2, 3},
};

/* A batch of three gives the bits of three single runs, and both devices agree. */
static void test_batches(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        network_output first = {NULL, 0, 0, 0, 0, 0};
        int h = sizes[i].h, w = sizes[i].w;
        size_t pixels = (size_t)(3 * h * w);
        float *pictures = malloc(3 * pixels * sizeof *pictures);
        vt_golden_picture(3, h, w, pictures);
        for (int d = 0; test_devices[d]; d++) {
            vt_context *context = test_context(test_devices[d]);
            vt_error error = {0};
            vt_session *session = NULL;
            expect_status(vt_context_register(context, &nano_v2_family, &error), VT_OK, &error);
            vt_model *model = golden_model(context, sizes[i].model, sizes[i].rule, h, w);
            network_output all = run_network(model, "logits", 3, h, w);
            expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
            for (size_t k = 0; k < 3; k++) {
                vt_tensor input = vt_tensor_nchw(pictures + k * pixels, VT_F32, 1, 3, h, w);
                expect_status(vt_session_forward(session, &input, &error), VT_OK, &error);
                network_output one = take_output(session, "logits");
                compare_bits(all.data + k * one.count, one.data, one.count,
                             "%s at %dx%d, picture %zu alone on %s", sizes[i].model, h, w, k,
                             test_devices[d]);
                free(one.data);
            }
            if (d > 0) {
                compare(all.data, first.data, first.count, TOLERANCE_NETWORK_F32,
                        "%s at %dx%d on %s and ref", sizes[i].model, h, w, test_devices[d]);
                free(all.data);
            } else {
                first = all;
            }
            vt_session_destroy(&session);
            vt_model_destroy(&model);
            vt_context_destroy(&context);
        }
        free(first.data);
        free(pictures);
    }
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* As the papers' code counts them, with the published head. */
static const struct {
    const char *model;
    int64_t parameters;
    size_t tensors; /* in timm's files; 0: not known */
} counts[] = {
    {"swin_tiny_patch4_window7_224", 28288354, 173},
    {"swin_small_patch4_window7_224", 49606258, 0},
    {"swin_base_patch4_window7_224", 87768224, 0},
    {"swin_base_patch4_window12_384", 87903584, 0},
    {"swin_large_patch4_window7_224", 196532476, 0},
    {"swin_large_patch4_window12_384", 196735516, 0},
    {"swin_s3_tiny_224", 28328674, 0},
    {"swin_s3_small_224", 49737298, 0},
    {"swin_s3_base_224", 71125762, 0},
    {"swinv2_tiny_window8_256", 28347154, 221},
    {"swinv2_tiny_window16_256", 28347154, 221},
    {"swinv2_small_window8_256", 49728418, 0},
    {"swinv2_base_window16_256", 87918816, 0},
    {"swinv2_base_window12_192", 109280841, 0},
    {"swinv2_large_window12_192", 228772549, 0},
    {"swinv2_base_window12to24_192to384", 87918816, 0},
    {"swinv2_large_window12to16_192to256", 196739932, 0},
};

static void test_parameter_counts(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t tensors;
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters);
        assert_true(counts[i].tensors == 0 || tensors == counts[i].tensors);
    }
    vt_context_destroy(&context);
}

/* The class activation map averages to the logits. */
static void test_cam(void **state)
{
    (void)state;
    for (int d = 0; test_devices[d]; d++) {
        vt_context *context = test_context(test_devices[d]);
        vt_model *model = golden_model(context, sizes[0].model, VT_WINDOW_PAD, 0, 0);
        network_output cam = run_network(model, "cam", 1, 70, 130);
        network_output logits = run_network(model, "logits", 1, 70, 130);
        assert_int_equal(cam.c, logits.c);
        assert_true(cam.h == 3 && cam.w == 5);
        for (int64_t c = 0; c < cam.c; c++) {
            double sum = 0;
            for (int64_t p = 0; p < cam.h * cam.w; p++) {
                sum += (double)cam.data[p * cam.c + c] / (double)(cam.h * cam.w);
            }
            expect_near(sum, (double)logits.data[c], 1e-5, "mean of the map");
        }
        free(cam.data);
        free(logits.data);
        vt_model_destroy(&model);
        vt_context_destroy(&context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_cam),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
