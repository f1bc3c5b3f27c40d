/* SPDX-License-Identifier: Apache-2.0 */
/* LITv2 against a network written from the formulas in Python (tests/fixtures/litv2, made by
 * tools/fixtures/litv2.py), parameter counts, published namings, sizes; the samples of a deformable
 * convolution against sums over all pixels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_naming.h"
#include "support/model_program.h"
#include "support/random.h"

/* ---- deformable patches ---------------------------------------------------------------------- */

enum { MAX_OFFSETS = 2 * 3 * 3 };

typedef struct deform_case {
    int n, h, w, c, kernel;
    float reach; /* of the offsets */
} deform_case;

/* Every pixel counts with the tent of its distance: the same as bilinear with zeros outside. */
static double sample(const float *image, const deform_case *k, double y, double x, int c)
{
    double sum = 0;
    for (int i = 0; i < k->h; i++) {
        for (int j = 0; j < k->w; j++) {
            double tent = fmax(0, 1 - fabs(y - i)) * fmax(0, 1 - fabs(x - j));
            sum += tent * (double)image[(i * k->w + j) * k->c + c];
        }
    }
    return sum;
}

/* The offsets come from a convolution, and what it gave is what the samples are checked with. */
static void check_deform(const deform_case *k, const char *device)
{
    int taps = k->kernel * k->kernel, h = k->h / k->kernel, w = k->w / k->kernel;
    vt_shape shape = {k->n, k->h, k->w, k->c};
    size_t pixels = (size_t)(k->n * h * w), count;
    float *in = malloc(shape_count(shape) * sizeof *in), bias[MAX_OFFSETS];
    float *want = malloc(pixels * (size_t)(taps * k->c) * sizeof *want);
    random_fill(in, shape_count(shape), (uint32_t)(k->h * 7 + k->kernel), 1.0f, 0.0f);
    random_fill(bias, MAX_OFFSETS, 5, k->reach, 0.0f);
    test_program t;
    program_begin(&t, shape);
    vt_value x = vt_input(&t.builder);
    vt_conv2d conv = {.weight = random_matrix(&t, 2 * taps, (int64_t)taps * k->c, 3),
                      .bias = program_vector(&t, 2 * taps, bias),
                      .kernel_h = k->kernel,
                      .kernel_w = k->kernel,
                      .stride_h = k->kernel,
                      .stride_w = k->kernel,
                      .dilation_h = 1,
                      .dilation_w = 1};
    vt_value offsets = vt_op_conv2d(&t.builder, x, &conv);
    vt_output(&t.builder, "offsets", offsets);
    vt_output(&t.builder, "y", vt_op_deform_patches(&t.builder, x, offsets, k->kernel));
    program_result result = program_run(&t, device, 0, in);
    const float *d = result_data(&result, "offsets", &count);
    assert_int_equal(count, pixels * (size_t)(2 * taps));
    for (size_t i = 0; i < pixels * (size_t)taps; i++) {
        int tap = (int)i % taps, pixel = (int)i / taps;
        const float *image = in + pixel / (h * w) * k->h * k->w * k->c;
        double y = pixel / w % h * k->kernel + tap / k->kernel + (double)d[2 * i];
        double at = pixel % w * k->kernel + tap % k->kernel + (double)d[2 * i + 1];
        for (int c = 0; c < k->c; c++) {
            want[i * (size_t)k->c + (size_t)c] = (float)sample(image, k, y, at, c);
        }
    }
    const float *got = result_data(&result, "y", &count);
    assert_int_equal(count, pixels * (size_t)(taps * k->c));
    compare(got, want, count, 1e-5, "deformable patches of %dx%d on %s", k->h, k->w, device);
    result_clear(&result);
    program_end(&t);
    free(in);
    free(want);
}

static void test_deform_patches(void **state)
{
    (void)state;
    static const deform_case cases[] = {
        {2, 8, 6, 5, 2, 1.5f},  {1, 9, 7, 3, 2, 4.0f}, /* the odd row and column by offsets only */
        {1, 9, 10, 4, 3, 2.0f}, {1, 2, 2, 1, 2, 3.0f}, {1, 6, 6, 2, 2, 0.0f},
    };
    for (const char *const *device = test_devices; *device; device++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            check_deform(&cases[i], *device);
        }
    }
}

/* ---- the networks ---------------------------------------------------------------------------- */

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_all("litv2", "cpu", test_slow_ones() ? 1e9 : 7e3),
                     test_slow_ones() ? 10 : 4);
    assert_int_equal(fixture_check_all("litv2", "ref", test_slow_ones() ? 7e3 : 2e3),
                     test_slow_ones() ? 4 : 1);
}

/* As the authors' modules count them. */
static void test_parameter_counts(void **state)
{
    (void)state;
    enum { NORMED_96 = 192 + 384 + 768, NORMED_128 = 256 + 512 + 1024 };
    static const struct {
        const char *model;
        int64_t parameters;
        int64_t normed; /* channels of batch norms, whose means and variances are not counted */
    } counts[] = {
        {"litv2_s", 27844000, NORMED_96},           {"litv2_m", 48830368, NORMED_96},
        {"litv2_b", 86520704, NORMED_128},          {"litv2_b_384", 86520704, NORMED_128},
        {"litv2_s_alpha_0", 28089760, NORMED_96},   {"litv2_s_alpha_0.2", 27844000, NORMED_96},
        {"litv2_s_alpha_0.4", 27696544, NORMED_96}, {"litv2_s_alpha_0.5", 27647392, NORMED_96},
        {"litv2_s_alpha_0.7", 27696544, NORMED_96}, {"litv2_s_alpha_0.9", 27844000, NORMED_96},
        {"litv2_s_alpha_1", 28089760, NORMED_96},
    };
    vt_context *context = test_context("ref");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t tensors;
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters + 2 * counts[i].normed);
    }
    vt_context_destroy(&context);
}

static void test_sizes(void **state)
{
    (void)state;
    vt_context *context = test_context("cpu");
    vt_model *model = golden_model(context, "litv2_s", VT_WINDOW_PAD, 0, 0);
    vt_session *session = NULL;
    vt_error error = {0};
    expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
    expect_status(vt_session_prepare(session, 1, 29, 40, &error), VT_OK, &error);
    expect_error(vt_session_prepare(session, 1, 28, 40, &error), VT_ERR_ARGUMENT, &error,
                 "at least 29");
    expect_error(vt_session_prepare(session, 1, 224, 3, &error), VT_ERR_ARGUMENT, &error,
                 "at least 29");
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const classifier[] = {"logits", "C2", "C5", NULL};
    static const char *const dense[] = {"C2", "C3", "C4", "C5", NULL};
    static const char *const tail[] = {"norm.", "head.", NULL};
    static const char *const nothing[] = {NULL};
    static const naming_case plain = {"litv2_s",
                                      "authors",
                                      "layers.2.blocks.5.attn.l_kv.weight",
                                      "layers.2.blocks.5.attn.l_kv.weight",
                                      classifier,
                                      45,
                                      60};
    static const naming_case segmenter = {"litv2_s",
                                          "authors",
                                          "backbone.layers.1.downsample.dconv.conv_offset.bias",
                                          "layers.1.downsample.dconv.conv_offset.bias",
                                          dense,
                                          45,
                                          60};
    static const naming_case detector = {
        "litv2_s_ws_4", "authors", "backbone.norm3.bias", "norm3.bias", dense, 45, 60};
    model_writer w = naming_canonical("litv2_s"), file = naming_prefixed(&w, "", nothing);
    writer_add(&file, "layers.0.downsample.norm_layer.num_batches_tracked", 1, (int64_t[]){1},
               calloc(1, sizeof(float)));
    check_naming(&plain, &file, &w);
    writer_clear(&file);

    model_writer headless = naming_prefixed(&w, "", tail);
    naming_add_norms(&headless, "", 96);
    file = naming_prefixed(&headless, "backbone.", nothing);
    writer_add(&file, "decode_head.conv_seg.bias", 1, (int64_t[]){1}, calloc(1, sizeof(float)));
    check_naming(&segmenter, &file, &headless);
    writer_clear(&file);
    writer_clear(&headless);
    writer_clear(&w);

    w = naming_canonical("litv2_s_ws_4"); /* norm1 ... norm3 only */
    file = naming_prefixed(&w, "backbone.", nothing);
    writer_add(&file, "neck.fpn_convs.0.conv.bias", 1, (int64_t[]){1}, calloc(1, sizeof(float)));
    check_naming(&detector, &file, &w);
    writer_clear(&file);
    writer_clear(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deform_patches), cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_fixtures),       cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
