/* SPDX-License-Identifier: Apache-2.0 */
/* Networks on the GPU against the reference: every element type, odd sizes, all padding rules,
 * fused and not. Skipped, and said so, where there is no GPU or no CUDA side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vertebra/vertebra.h"

#define NANO "swin_nano_patch4_window7_224"
#define V2   "swinv2_tiny_window8_256"

static const char *const outputs[] = {"logits", "embedding", "C2", "C3", "C4", "C5", "cam"};
enum { OUTPUTS = sizeof outputs / sizeof outputs[0] };

/* A context, or NULL when the device cannot be had here. */
static vt_context *open_device(const char *device, bool fuse)
{
    vt_context *context = NULL;
    vt_error error = {0};
    vt_context_settings s = vt_context_settings_default();
    s.device = device;
    s.fuse = fuse;
    if (vt_context_create(&context, &s, &error) != VT_OK) {
        assert_true(error.status == VT_ERR_UNSUPPORTED || error.status == VT_ERR_DEVICE);
        print_message("%s\n", error.message);
    }
    return context;
}

static vt_model *golden(vt_context *context, const char *name, vt_dtype dtype, vt_window_rule rule)
{
    vt_model *model = NULL;
    vt_error error = {0};
    vt_model_settings s = vt_model_settings_default();
    s.dtype = dtype;
    s.window_rule = rule;
    if (vt_model_golden(&model, context, name, 10, &s, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return model;
}

static vt_session *open_session(const vt_model *model)
{
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings s = {.outputs = outputs, .output_count = OUTPUTS};
    if (vt_session_create(&session, model, &s, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return session;
}

static void run(vt_session *session, int64_t n, int64_t h, int64_t w)
{
    vt_error error = {0};
    float *picture = malloc((size_t)(3 * n * h * w) * sizeof *picture);
    assert_non_null(picture);
    vt_golden_picture(n, h, w, picture);
    vt_tensor in = vt_tensor_nchw(picture, VT_F32, n, 3, h, w);
    if (vt_session_forward(session, &in, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    free(picture);
}

static vt_tensor output(const vt_session *session, const char *name)
{
    vt_tensor t;
    vt_error error = {0};
    if (vt_session_output(session, name, &t, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return t;
}

/* max |got - want| / max |want| */
static double difference(const vt_tensor *got, const vt_tensor *want)
{
    const float *a = got->data, *b = want->data;
    double largest = 0, off = 0;
    assert_true(got->n == want->n && got->h == want->h && got->w == want->w && got->c == want->c);
    for (int64_t i = 0; i < want->n * want->h * want->w * want->c; i++) {
        assert_true(isfinite(a[i]));
        largest = fmax(largest, fabs((double)b[i]));
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    }
    return off / largest;
}

static const struct {
    vt_dtype dtype;
    double bound; /* of max |value|, see docs/testing.md */
} types[] = {{VT_F32, 1e-5}, {VT_BF16, 4e-2}, {VT_F16, 1e-2}};

static void compare_sizes(const char *model, vt_window_rule rule, bool fuse, const int (*sizes)[2],
                          int count)
{
    vt_context *gpu = open_device("cuda", fuse), *cpu = open_device("cpu", true);
    if (!gpu) {
        vt_context_destroy(&cpu);
        skip();
        return;
    }
    vt_model *want_model = golden(cpu, model, VT_F32, rule);
    vt_session *want = open_session(want_model);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        vt_model *got_model = golden(gpu, model, types[t].dtype, rule);
        vt_session *got = open_session(got_model);
        for (int i = 0; i < count; i++) {
            run(want, 2, sizes[i][0], sizes[i][1]);
            run(got, 2, sizes[i][0], sizes[i][1]);
            for (int k = 0; k < OUTPUTS; k++) {
                vt_tensor a = output(got, outputs[k]), b = output(want, outputs[k]);
                double off = difference(&a, &b);
                if (off > types[t].bound) {
                    fail_msg("%s %dx%d %s %s: off by %.2e, bound %.0e", model, sizes[i][0],
                             sizes[i][1], vt_dtype_name(types[t].dtype), outputs[k], off,
                             types[t].bound);
                }
            }
        }
        vt_session_destroy(&got);
        vt_model_destroy(&got_model);
    }
    vt_session_destroy(&want);
    vt_model_destroy(&want_model);
    vt_context_destroy(&gpu);
    vt_context_destroy(&cpu);
}

static const int odd_sizes[][2] = {{224, 224}, {75, 61}, {37, 53},  {28, 20},
                                   {4, 4},     {1, 1},   {160, 300}};

static void test_sizes(void **state)
{
    (void)state;
    compare_sizes(NANO, VT_WINDOW_PAD, true, odd_sizes, 7);
}

static void test_rules(void **state)
{
    (void)state;
    compare_sizes(NANO, VT_WINDOW_MM, true, odd_sizes, 3);
    compare_sizes(NANO, VT_WINDOW_TIMM, true, odd_sizes, 3);
}

static void test_v2(void **state)
{
    (void)state;
    compare_sizes(V2, VT_WINDOW_PAD, true, odd_sizes, 4);
    compare_sizes("swinv2_tiny_window16_256", VT_WINDOW_PAD, true, odd_sizes, 2);
}

/* Without rewrites the plain kernels run: conv2d, norm, add, space_to_depth. */
static void test_unfused(void **state)
{
    (void)state;
    compare_sizes(NANO, VT_WINDOW_PAD, false, odd_sizes, 4);
    compare_sizes(V2, VT_WINDOW_PAD, false, odd_sizes, 2);
}

/* Many shapes: plans and graphs come and go, the answers stay. */
static void test_many_shapes(void **state)
{
    (void)state;
    enum { SHAPES = 1000 };
    vt_context *gpu = open_device("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_model *model = golden(gpu, NANO, VT_F16, VT_WINDOW_PAD);
    vt_session *session = open_session(model);
    float first[10];
    run(session, 1, 75, 61);
    memcpy(first, output(session, "logits").data, sizeof first);
    for (int i = 0; i < SHAPES; i++) {
        run(session, 1 + i % 3, 8 + i * 7 % 90, 8 + i * 13 % 70);
    }
    run(session, 1, 75, 61);
    assert_memory_equal(output(session, "logits").data, first, sizeof first);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&gpu);
}

/* Inputs of any strides: a window of a larger NHWC block, bottom up. */
static void test_strides(void **state)
{
    (void)state;
    enum { H = 40, W = 44, PITCH = 50 };
    vt_context *gpu = open_device("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_error error = {0};
    vt_model *model = golden(gpu, NANO, VT_F32, VT_WINDOW_PAD);
    vt_session *session = open_session(model);
    static float picture[3 * H * W], block[H * PITCH * 4];
    float want[10];
    vt_golden_picture(1, H, W, picture);
    run(session, 1, H, W);
    memcpy(want, output(session, "logits").data, sizeof want);
    for (int i = 0; i < 3 * H * W; i++) {
        int c = i / (H * W), y = i / W % H, x = i % W;
        block[((H - 1 - y) * PITCH + x) * 4 + c] = picture[i];
    }
    vt_tensor in = vt_tensor_nhwc(block + (H - 1) * PITCH * 4, VT_F32, 1, H, W, 3);
    in.stride_w = 4;
    in.stride_h = -PITCH * 4;
    assert_int_equal(vt_session_forward(session, &in, &error), VT_OK);
    assert_memory_equal(output(session, "logits").data, want, sizeof want);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&gpu);
}

/* The logits of the last of many runs, or NULL after a failure (cmocka fails in its own thread). */
static void *run_thread(void *model)
{
    enum { H = 75, W = 61, RUNS = 20 };
    vt_session *session = NULL;
    vt_error error = {0};
    vt_tensor logits;
    float *copy = malloc(10 * sizeof *copy), *picture = malloc(3 * H * W * sizeof *picture);
    vt_status status = vt_session_create(&session, model, NULL, &error);
    vt_golden_picture(1, H, W, picture);
    for (int i = 0; status == VT_OK && i <= RUNS; i++) {
        int64_t h = i == RUNS ? H : H - 4 * (i % 3), w = W;
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, 1, 3, h, w);
        status = vt_session_forward(session, &in, &error);
        status = status == VT_OK ? vt_session_output(session, "logits", &logits, &error) : status;
    }
    if (status == VT_OK) {
        memcpy(copy, logits.data, 10 * sizeof *copy);
    } else {
        fprintf(stderr, "%s\n", error.message);
        free(copy);
        copy = NULL;
    }
    vt_session_destroy(&session);
    free(picture);
    return copy;
}

static void test_sessions_share_a_model(void **state)
{
    (void)state;
    enum { THREADS = 3 };
    vt_context *gpu = open_device("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_model *model = golden(gpu, NANO, VT_F16, VT_WINDOW_PAD);
    pthread_t threads[THREADS];
    void *results[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_thread, model), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &results[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_non_null(results[i]);
        assert_memory_equal(results[i], results[0], 10 * sizeof(float));
    }
    for (int i = 0; i < THREADS; i++) {
        free(results[i]);
    }
    vt_model_destroy(&model);
    vt_context_destroy(&gpu);
}

/* test_cuda [PATTERN]: only the tests whose name fits, such as "*share*" */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_v2),
        cmocka_unit_test(test_unfused),
        cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_strides),
        cmocka_unit_test(test_sessions_share_a_model),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
