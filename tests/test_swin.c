/* SPDX-License-Identifier: Apache-2.0 */
/* Swin against the publishers' networks (tests/fixtures/swin/logits.json, made in double from timm
 * and torchvision): logits, maps after each stage, pooled vector; batches; parameter counts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "backbones/family.h"
#include "core/context.h"
#include "model/binder.h"
#include "support/model_compare.h"
#include "support/model_nano_v2.h"

static json_t *fixtures;

static int set_up(void **state)
{
    (void)state;
    json_error_t why;
    fixtures = json_load_file("tests/fixtures/swin/logits.json", 0, &why);
    return fixtures ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    json_decref(fixtures);
    return 0;
}

static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!value) {
        fail_msg("logits.json: '%s' is missing", key);
    }
    return value;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(member(object, key));
}

static void floats(const json_t *array, float *out, size_t count)
{
    assert_true(json_array_size(array) >= count);
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)json_number_value(json_array_get(array, i));
    }
}

/* ---- one case -------------------------------------------------------------------------------- */

/* Names of the fixtures that differ from the library's. */
static const char *library_name(const char *name)
{
    static const char *const names[][2] = {
        {"swin_nano", "swin_nano_patch4_window7_224"},
        {"swin_tiny_c24_window8_256", "swin_tiny_c24_patch4_window8_256"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i][0], name) == 0) {
            return names[i][1];
        }
    }
    return name;
}

/* False for the rule that the library does not offer: timm since 1.0.31 rounds map sizes up. */
static bool rule_of(const char *name, vt_window_rule *rule)
{
    if (strcmp(name, "timm") == 0) {
        return false;
    }
    *rule = strcmp(name, "mm") == 0           ? VT_WINDOW_MM
            : strcmp(name, "timm-exact") == 0 ? VT_WINDOW_TIMM
                                              : VT_WINDOW_PAD;
    return true;
}

static void check_row(const json_t *row, const float *logits, size_t classes, const float *pooled,
                      const char *what)
{
    enum { FIRST = 32, POOLED = 8 };
    float want[FIRST + 2], got[FIRST + 2], want_pooled[POOLED];
    double l2 = 0, sum = 0;
    size_t argmax = 0;
    for (size_t i = 0; i < classes; i++) {
        l2 += (double)logits[i] * (double)logits[i];
        sum += (double)logits[i];
        argmax = logits[i] > logits[argmax] ? i : argmax;
    }
    floats(member(row, "logits"), want, FIRST);
    memcpy(got, logits, FIRST * sizeof *got);
    want[FIRST] = (float)number(row, "max");
    got[FIRST] = logits[argmax];
    want[FIRST + 1] = (float)number(row, "max_abs"); /* the tolerance is relative to it */
    got[FIRST + 1] = want[FIRST + 1];
    compare(got, want, FIRST + 2, TOLERANCE_NETWORK_F32, "%s: logits", what);
    assert_int_equal(argmax, (size_t)number(row, "argmax"));
    expect_near(sqrt(l2), number(row, "l2"), 1e-5 * number(row, "l2"), what);
    expect_near(sum, number(row, "sum"), 1e-6 * (double)classes * number(row, "max_abs"), what);
    floats(member(row, "pooled"), want_pooled, POOLED);
    compare(pooled, want_pooled, POOLED, 2 * TOLERANCE_NETWORK_F32, "%s: pooled", what);
}

/* Map after a stage of the first picture. */
static void check_stage(const json_t *stage, const network_output *got, const char *what)
{
    const json_t *shape = member(stage, "shape");
    assert_int_equal(got->h, json_integer_value(json_array_get(shape, 0)));
    assert_int_equal(got->w, json_integer_value(json_array_get(shape, 1)));
    assert_int_equal(got->c, json_integer_value(json_array_get(shape, 2)));
    size_t count = (size_t)(got->h * got->w * got->c);
    double sum = 0, magnitude = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)got->data[i];
        magnitude += fabs((double)got->data[i]);
        largest = fmax(largest, fabs((double)got->data[i]));
    }
    double slack = TOLERANCE_NETWORK_F32 * largest;
    const double pairs[4][2] = {{sum / (double)count, number(stage, "mean")},
                                {magnitude / (double)count, number(stage, "mean_abs")},
                                {(double)got->data[0], number(stage, "first")},
                                {(double)got->data[count - 1], number(stage, "last")}};
    for (int i = 0; i < 4; i++) {
        expect_near(pairs[i][0], pairs[i][1], slack, what);
    }
}

static void check_case(const vt_model *model, const json_t *k, const char *device)
{
    static const char *const outputs[] = {"logits", "embedding", "C2", "C3", "C4", "C5"};
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings settings = {.outputs = outputs, .output_count = 6};
    int64_t batch = (int64_t)number(k, "batch");
    char what[160];
    snprintf(what, sizeof what, "%s, rule %s, %dx%d on %s", json_string_value(member(k, "model")),
             json_string_value(member(k, "rule")), (int)number(k, "h"), (int)number(k, "w"),
             device);
    expect_status(vt_session_create(&session, model, &settings, &error), VT_OK, &error);
    forward_picture(session, batch, (int64_t)number(k, "h"), (int64_t)number(k, "w"));
    network_output logits = take_output(session, "logits");
    network_output pooled = take_output(session, "embedding");
    assert_int_equal(logits.n, batch);
    for (int64_t i = 0; i < batch; i++) {
        check_row(json_array_get(member(k, "rows"), (size_t)i), logits.data + i * logits.c,
                  (size_t)logits.c, pooled.data + i * pooled.c, what);
    }
    for (size_t i = 0; i < 4; i++) {
        network_output map = take_output(session, outputs[2 + i]);
        char stage[200];
        snprintf(stage, sizeof stage, "%s: stage %zu", what, i);
        check_stage(json_array_get(member(k, "stages"), i), &map, stage);
        free(map.data);
    }
    free(logits.data);
    free(pooled.data);
    vt_session_destroy(&session);
}

/* Multiply-adds of a case, roughly: enough to know how long it takes. */
static double work(const json_t *k)
{
    double width = number(member(k, "config"), "embed_dim"), blocks = 0;
    const json_t *depths = member(member(k, "config"), "depths");
    for (size_t i = 0; i < 4; i++) {
        blocks += json_number_value(json_array_get(depths, i));
    }
    return number(k, "h") * number(k, "w") * number(k, "batch") / 16 * width * width * 12 * blocks;
}

/* Cases of at most `most` multiply-adds. */
static int check_cases(const char *device, double most)
{
    vt_context *context = test_context(device);
    vt_error error = {0};
    size_t i;
    json_t *k;
    int done = 0;
    expect_status(vt_context_register(context, &nano_v2_family, &error), VT_OK, &error);
    json_array_foreach(member(fixtures, "cases"), i, k) {
        vt_window_rule rule;
        if (work(k) > most || !rule_of(json_string_value(member(k, "rule")), &rule)) {
            continue;
        }
        vt_model *model = golden_model(context, library_name(json_string_value(member(k, "model"))),
                                       rule, (int)number(k, "h"), (int)number(k, "w"));
        check_case(model, k, device);
        vt_model_destroy(&model);
        done++;
    }
    vt_context_destroy(&context);
    return done;
}

static void test_fixtures_cpu(void **state)
{
    (void)state;
    int done = check_cases("cpu", test_slow_ones() ? 1e99 : 1e9);
    assert_true(done >= (test_slow_ones() ? 24 : 3));
}

static void test_fixtures_ref(void **state)
{
    (void)state;
    int done = check_cases("ref", test_slow_ones() ? 3e9 : 2e8);
    assert_true(done >= (test_slow_ones() ? 6 : 2));
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
        const vt_family *family;
        const vt_variant *v = vt_variant_find(context, counts[i].model, &family);
        assert_non_null(v);
        vt_bind_settings s = {.classes = v->classes, .image_height = v->preprocess.height,
                              .image_width = v->preprocess.width, .window_rule = VT_WINDOW_PAD};
        vt_binder binder;
        void *network = calloc(1, family->network_size);
        assert_int_equal(vt_binder_init(&binder, vt_context_allocator(context)), VT_OK);
        family->bind(&binder, v, &s, network);
        expect_status(binder.status, VT_OK, &binder.error);
        int64_t parameters = 0;
        size_t tensors = 0;
        for (size_t k = 1; k < binder.slot_count; k++) {
            if (!binder.slots[k].derive) {
                parameters += binder.slots[k].rows * binder.slots[k].cols;
                tensors++;
            }
        }
        assert_int_equal(parameters, counts[i].parameters);
        assert_true(counts[i].tensors == 0 || tensors == counts[i].tensors);
        vt_binder_clear(&binder);
        free(network);
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
        cmocka_unit_test(test_parameter_counts), cmocka_unit_test(test_fixtures_cpu),
        cmocka_unit_test(test_fixtures_ref),     cmocka_unit_test(test_batches),
        cmocka_unit_test(test_cam),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
