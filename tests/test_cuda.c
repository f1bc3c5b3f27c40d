/* SPDX-License-Identifier: Apache-2.0 */
/* Networks on the GPU against the reference: every element type, odd sizes, all padding rules,
 * fused and not; memory, several sessions, several GPUs. test_cuda_stream.c has the caller's
 * streams and memory. Skipped, and said so, where there is no GPU or no CUDA side. */
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

#include "support/gpu.h"
#include "support/gpu_model.h"
#include "support/model_compare.h"
#include "vertebra_cuda.h"

#define V2 "swinv2_tiny_window8_256"

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

static const vt_dtype types[] = {VT_F32, VT_BF16, VT_F16};

static void compare_sizes(const char *model, vt_window_rule rule, bool fuse, const int (*sizes)[2],
                          int count)
{
    vt_context *gpu = gpu_context("cuda", fuse), *cpu = gpu_context("cpu", true);
    if (!gpu) {
        vt_context_destroy(&cpu);
        skip();
        return;
    }
    vt_model *want_model = gpu_golden(cpu, model, VT_F32, rule);
    vt_session *want = gpu_session(want_model);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        vt_model *got_model = gpu_golden(gpu, model, types[t], rule);
        vt_session *got = gpu_session(got_model);
        for (int i = 0; i < count; i++) {
            gpu_run(want, 2, sizes[i][0], sizes[i][1]);
            gpu_run(got, 2, sizes[i][0], sizes[i][1]);
            for (int k = 0; k < OUTPUTS; k++) {
                vt_tensor a = gpu_output(got, gpu_outputs[k]), b = gpu_output(want, gpu_outputs[k]);
                double off = difference(&a, &b), bound = tolerance_network(types[t]);
                if (off > bound) {
                    fail_msg("%s %dx%d %s %s: off by %.2e, bound %.0e", model, sizes[i][0],
                             sizes[i][1], vt_dtype_name(types[t]), gpu_outputs[k], off, bound);
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

static size_t free_memory(const vt_context *gpu)
{
    size_t bytes = 0;
    vt_error error = {0};
    if (vt_context_cuda_memory(gpu, &bytes, NULL, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return bytes;
}

enum { MEBI = 1 << 20 };

/* What the driver counts as used between two readings, within what its own allocations vary by. */
static void expect_used(size_t before, size_t after, size_t most, const char *what)
{
    enum { TOLERANCE = 16 * MEBI };
    double used = ((double)before - (double)after) / MEBI;
    print_message("%s: %.1f MiB, bound %.1f\n", what, used, (double)most / MEBI);
    assert_true(used <= (double)(most + TOLERANCE) / MEBI);
}

/* Many shapes: plans and graphs come and go, the answers stay, and so does the memory that is used.
 * `measured`: the library's kernels are loaded already, so that everything comes back in the end.
 */
static void many_shapes(vt_context *gpu, bool measured)
{
    enum { SHAPES = 1000, SETTLED = 100, GRAPHS = 64 * MEBI };
    size_t arena = 0, before = free_memory(gpu), settled = 0;
    vt_error error = {0};
    vt_model *model = gpu_golden(gpu, NANO, VT_F16, VT_WINDOW_PAD);
    vt_session *session = gpu_session(model);
    float first[10];
    assert_int_equal(vt_session_memory(session, 3, 97, 77, &arena, &error), VT_OK);
    gpu_run(session, 3, 97, 77); /* the largest */
    gpu_run(session, 1, 75, 61);
    memcpy(first, gpu_output(session, "logits").data, sizeof first);
    for (int i = 0; i < SHAPES; i++) {
        gpu_run(session, 1 + i % 3, 8 + i * 7 % 90, 8 + i * 13 % 70);
        settled = i == SETTLED ? free_memory(gpu) : settled;
    }
    size_t end = free_memory(gpu);
    gpu_run(session, 1, 75, 61);
    assert_memory_equal(gpu_output(session, "logits").data, first, sizeof first);
    size_t model_bytes = vt_model_bytes(model);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    if (measured) {
        expect_used(before, end, model_bytes + arena + GRAPHS, "weights, one arena, 8 graphs");
        expect_used(settled, end, 0, "after 900 more shapes");
        expect_used(before, free_memory(gpu), 0, "after destroy");
    }
}

static void test_many_shapes(void **state)
{
    (void)state;
    vt_context *gpu = gpu_context("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    many_shapes(gpu, false);
    many_shapes(gpu, true);
    vt_context_destroy(&gpu);
}

/* More than the GPU has: one clear error, and the session goes on as before. */
static void test_out_of_memory(void **state)
{
    (void)state;
    vt_context *gpu = gpu_context("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_error error = {0};
    size_t four = 0, eight = 0, total = 0;
    static const char *const first_stage[] = {"C2"};
    vt_session_settings settings = {.outputs = first_stage, .output_count = 1};
    vt_session *session = NULL;
    vt_model *model = gpu_golden(gpu, NANO, VT_F16, VT_WINDOW_PAD);
    assert_int_equal(vt_session_create(&session, model, &settings, &error), VT_OK);
    gpu_run(session, 1, 75, 61);
    vt_tensor map = gpu_output(session, "C2");
    size_t bytes = (size_t)(map.h * map.w * map.c) * sizeof(float);
    float *want = malloc(bytes);
    memcpy(want, map.data, bytes);
    assert_int_equal(vt_context_cuda_memory(gpu, NULL, &total, &error), VT_OK);
    assert_int_equal(vt_session_memory(session, 4, 224, 224, &four, &error), VT_OK);
    assert_int_equal(vt_session_memory(session, 8, 224, 224, &eight, &error), VT_OK);
    int64_t absurd = (int64_t)(4 * total / ((eight - four) / 4));
    assert_int_equal(vt_session_prepare(session, absurd, 224, 224, &error), VT_ERR_MEMORY);
    print_message("batch %lld: %s\n", (long long)absurd, error.message);
    assert_non_null(strstr(error.message, "out of memory"));
    gpu_run(session, 1, 75, 61);
    assert_memory_equal(gpu_output(session, "C2").data, want, bytes);
    free(want);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&gpu);
}

/* Inputs of any strides: a window of a larger NHWC block, bottom up. */
static void test_strides(void **state)
{
    (void)state;
    enum { H = 40, W = 44, PITCH = 50 };
    vt_context *gpu = gpu_context("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_error error = {0};
    vt_model *model = gpu_golden(gpu, NANO, VT_F32, VT_WINDOW_PAD);
    vt_session *session = gpu_session(model);
    static float picture[3 * H * W], block[H * PITCH * 4];
    float want[10];
    vt_golden_picture(1, H, W, picture);
    gpu_run(session, 1, H, W);
    memcpy(want, gpu_output(session, "logits").data, sizeof want);
    for (int i = 0; i < 3 * H * W; i++) {
        int c = i / (H * W), y = i / W % H, x = i % W;
        block[((H - 1 - y) * PITCH + x) * 4 + c] = picture[i];
    }
    vt_tensor in = vt_tensor_nhwc(block + (H - 1) * PITCH * 4, VT_F32, 1, H, W, 3);
    in.stride_w = 4;
    in.stride_h = -PITCH * 4;
    assert_int_equal(vt_session_forward(session, &in, &error), VT_OK);
    assert_memory_equal(gpu_output(session, "logits").data, want, sizeof want);
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

enum { MOST_THREADS = 8 };

/* A thread for each function, all with the same argument. */
static void run_together(void *(*const *functions)(void *), int count, void *argument,
                         void **results)
{
    pthread_t threads[MOST_THREADS];
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, functions[i], argument), 0);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], &results[i]);
    }
}

static void test_sessions_share_a_model(void **state)
{
    (void)state;
    enum { THREADS = 3 };
    void *(*const functions[THREADS])(void *) = {run_thread, run_thread, run_thread};
    vt_context *gpu = gpu_context("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_model *model = gpu_golden(gpu, NANO, VT_F16, VT_WINDOW_PAD);
    void *results[THREADS];
    run_together(functions, THREADS, model, results);
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

/* Sessions one after the other: the thread's last result, or NULL after a failure. */
static void *run_sessions(void *model)
{
    enum { SESSIONS = 8 };
    void *result = NULL;
    for (int i = 0; i < SESSIONS; i++) {
        free(result);
        result = run_thread(model);
        if (!result) {
            break;
        }
    }
    return result;
}

/* The same with a context and a model of its own each time. */
static void *run_contexts(void *unused)
{
    (void)unused;
    enum { CONTEXTS = 4 };
    void *result = NULL;
    for (int i = 0; i < CONTEXTS; i++) {
        vt_context *gpu = NULL;
        vt_model *model = NULL;
        vt_error error = {0};
        vt_context_settings s = vt_context_settings_default();
        vt_model_settings m = vt_model_settings_default();
        s.device = "cuda";
        m.dtype = VT_F16;
        m.window_rule = VT_WINDOW_PAD;
        free(result);
        result = NULL;
        if (vt_context_create(&gpu, &s, &error) == VT_OK &&
            vt_model_golden(&model, gpu, NANO, 10, &m, &error) == VT_OK) {
            result = run_thread(model);
        } else {
            fprintf(stderr, "%s\n", error.message);
        }
        vt_model_destroy(&model);
        vt_context_destroy(&gpu);
        if (!result) {
            break;
        }
    }
    return result;
}

/* First runs are recorded as graphs; what others open and destroy meanwhile must not spoil them. */
static void test_sessions_come_and_go(void **state)
{
    (void)state;
    enum { THREADS = 5, OWN_CONTEXT = 2 };
    vt_context *gpu = gpu_context("cuda", true);
    if (!gpu) {
        skip();
        return;
    }
    vt_model *model = gpu_golden(gpu, NANO, VT_F16, VT_WINDOW_PAD);
    void *(*const functions[THREADS])(void *) = {run_contexts, run_contexts, run_sessions,
                                                 run_sessions, run_sessions};
    void *results[THREADS];
    run_together(functions, THREADS, model, results);
    for (int i = 0; i < THREADS; i++) {
        assert_non_null(results[i]);
        if (i >= OWN_CONTEXT) { /* another context may choose another algorithm */
            assert_memory_equal(results[i], results[OWN_CONTEXT], 10 * sizeof(float));
        }
    }
    for (int i = 0; i < THREADS; i++) {
        free(results[i]);
    }
    vt_model_destroy(&model);
    vt_context_destroy(&gpu);
}

/* A context and a model of its own per GPU, all at once. */
static void test_several_gpus(void **state)
{
    (void)state;
    enum { MOST = 4 };
    int count = gpu_count() < MOST ? gpu_count() : MOST;
    vt_context *contexts[MOST];
    vt_model *models[MOST];
    pthread_t threads[MOST];
    float *results[MOST] = {0};
    if (count < 2) {
        print_message("%d GPU here: nothing to run in parallel\n", count);
        skip();
        return;
    }
    for (int i = 0; i < count; i++) {
        char device[16];
        snprintf(device, sizeof device, "cuda:%d", i);
        contexts[i] = gpu_context(device, true);
        models[i] = gpu_golden(contexts[i], NANO, VT_F16, VT_WINDOW_PAD);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_thread, models[i]), 0);
    }
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        results[i] = result;
    }
    for (int i = 0; i < count; i++) {
        assert_non_null(results[i]);
        /* another card may take another algorithm */
        vt_tensor got = vt_tensor_nhwc(results[i], VT_F32, 1, 1, 1, 10);
        vt_tensor want = vt_tensor_nhwc(results[0], VT_F32, 1, 1, 1, 10);
        double off = difference(&got, &want);
        print_message("cuda:%d is off by %.1e\n", i, off);
        assert_true(off <= 1e-2);
    }
    for (int i = 0; i < count; i++) {
        free(results[i]);
        vt_model_destroy(&models[i]);
        vt_context_destroy(&contexts[i]);
    }
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
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_strides),
        cmocka_unit_test(test_sessions_share_a_model),
        cmocka_unit_test(test_sessions_come_and_go),
        cmocka_unit_test(test_several_gpus),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
