/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: any shape at any time in bounded memory, no allocation once prepared, inputs of any
 * strides, stopping, and errors that leave everything usable. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_memory.h"
#include "support/model_tiny.h"
#include "support/random.h"

static const char *const all_outputs[] = {"logits", "embedding", "cam", "C2", "C3"};

/* What a test works with: both devices go through every test. */
typedef struct fixture {
    const char *device;
    test_memory memory;
    vt_context *context;
    vt_model *model;
    vt_session *session;
    vt_error error;
    uint64_t stop_at; /* the progress callback says no at this step; 0: never */
    char what[64];    /* the callback saw */
    uint64_t steps;
} fixture;

static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    fixture *f = user;
    strncpy(f->what, what, sizeof f->what - 1);
    f->steps++;
    return done < total && !(f->stop_at && f->steps >= f->stop_at);
}

static void open_context(fixture *f, const char *device)
{
    memset(f, 0, sizeof *f);
    f->device = device;
    test_memory_init(&f->memory);
    vt_context_settings settings = vt_context_settings_default();
    settings.device = device;
    settings.threads = 2;
    settings.allocator = test_memory_allocator(&f->memory);
    settings.progress = on_progress;
    settings.progress_user = f;
    f->context = tiny_context(&settings);
}

static void open_session(fixture *f, const char *device, const char *const *outputs, int count)
{
    open_context(f, device);
    f->model = golden_model(f->context, "tiny_v1", VT_WINDOW_PAD, 0, 0);
    vt_session_settings s = {.outputs = outputs, .output_count = count};
    expect_status(vt_session_create(&f->session, f->model, outputs ? &s : NULL, &f->error), VT_OK,
                  &f->error);
}

static void close_all(fixture *f)
{
    vt_session_destroy(&f->session);
    vt_model_destroy(&f->model);
    vt_context_destroy(&f->context);
    assert_null(f->session);
    test_memory_close(&f->memory);
}

#define FOR_EACH_DEVICE(d) for (const char *const *d = test_devices; *d; d++)

/* ---- plans ----------------------------------------------------------------------------------- */

static void test_thousand_shapes(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        uint32_t seed = 7;
        size_t settled = 0;
        open_session(&f, *device, NULL, 0);
        expect_status(vt_session_prepare(f.session, 2, 70, 70, &f.error), VT_OK, &f.error);
        for (int i = 0; i < 1000; i++) {
            int64_t n = random_int(&seed, 1, 2), h = random_int(&seed, 1, 70);
            int64_t w = random_int(&seed, 1, 70);
            expect_status(vt_session_prepare(f.session, n, h, w, &f.error), VT_OK, &f.error);
            if (i % 50 == 0) {
                forward_picture(f.session, n, h, w);
            }
            settled = i == 100 ? f.memory.bytes : settled; /* the arena is as large as it gets */
            assert_true(i <= 100 || f.memory.bytes < settled + settled / 10);
        }
        close_all(&f);
    }
}

static network_output run_shape(fixture *f, int i)
{
    forward_picture(f->session, 1, 3 + 5 * i, 40);
    return take_output(f->session, "logits");
}

/* Shapes come back to the same numbers, whatever ran in between and however the arena moved. */
static void test_shapes_in_turn(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        network_output first[12];
        open_session(&f, *device, NULL, 0);
        for (int i = 0; i < 12; i++) { /* growing: the arena moves, the plan before is kept */
            first[i] = run_shape(&f, i);
            network_output again = run_shape(&f, i ? i - 1 : 0);
            compare_bits(again.data, first[i ? i - 1 : 0].data, again.count, "before shape %d", i);
            free(again.data);
        }
        for (int i = 0; i < 36; i++) { /* more shapes than plans are kept */
            network_output again = run_shape(&f, i % 12);
            compare_bits(again.data, first[i % 12].data, again.count, "shape %d again", i % 12);
            free(again.data);
        }
        for (int i = 0; i < 12; i++) {
            free(first[i].data);
        }
        close_all(&f);
    }
}

static void test_forward_allocates_nothing(void **state)
{
    (void)state;
    static const int64_t shapes[][3] = {{1, 32, 32}, {3, 9, 17}, {1, 1, 1}};
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        open_session(&f, *device, all_outputs, 5);
        for (int i = 0; i < 3; i++) {
            expect_status(
                vt_session_prepare(f.session, shapes[i][0], shapes[i][1], shapes[i][2], &f.error),
                VT_OK, &f.error);
        }
        size_t calls = f.memory.calls;
        f.memory.fail_at = 1;
        for (int i = 0; i < 9; i++) {
            const int64_t *s = shapes[i % 3];
            forward_picture(f.session, s[0], s[1], s[2]);
        }
        assert_int_equal(f.memory.calls, calls);
        close_all(&f);
    }
}

/* vt_session_memory tells what prepare takes, and takes nothing itself. */
static void test_memory_query(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        size_t small, large, before;
        open_session(&f, *device, NULL, 0);
        before = f.memory.bytes;
        expect_status(vt_session_memory(f.session, 1, 64, 64, &small, &f.error), VT_OK, &f.error);
        expect_status(vt_session_memory(f.session, 4, 128, 192, &large, &f.error), VT_OK, &f.error);
        assert_int_equal(f.memory.bytes, before);
        assert_true(large > 6 * small && small >= 64 * 64 * 3 * 4);
        expect_status(vt_session_prepare(f.session, 4, 128, 192, &f.error), VT_OK, &f.error);
        assert_true(f.memory.bytes - before >= large);
        assert_true(f.memory.bytes - before < large + 200 * 1024);
        expect_error(vt_session_memory(f.session, 0, 32, 32, &small, &f.error), VT_ERR_ARGUMENT,
                     &f.error, "0 pictures");
        expect_error(vt_session_memory(NULL, 1, 32, 32, &small, &f.error), VT_ERR_ARGUMENT,
                     &f.error, "NULL");
        close_all(&f);
    }
}

/* ---- inputs ---------------------------------------------------------------------------------- */

enum { N = 2, H = 21, W = 18 };

static float at(const float *nchw, int n, int c, int y, int x)
{
    return nchw[((n * 3 + c) * H + y) * W + x];
}

/* Copies the picture to where the strides of `t` say. */
static void spread(const vt_tensor *t, const float *nchw)
{
    for (int i = 0; i < N * H * W * 3; i++) {
        int n = i / (H * W * 3), y = i / (W * 3) % H, x = i / 3 % W, c = i % 3;
        ((float *)t->data)[n * t->stride_n + y * t->stride_h + x * t->stride_w + c * t->stride_c] =
            at(nchw, n, c, y, x);
    }
}

static void test_strides(void **state)
{
    (void)state;
    enum { ROOM = 4 * N * H * W * 3 };
    float *picture = malloc(N * 3 * H * W * sizeof *picture), *buffer = malloc(ROOM * 4);
    vt_golden_picture(N, H, W, picture);
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        open_session(&f, *device, NULL, 0);
        forward_picture(f.session, N, H, W);
        network_output want = take_output(f.session, "logits");
        vt_tensor views[6];
        views[0] = vt_tensor_nhwc(buffer, VT_F32, N, H, W, 3);
        views[1] = vt_tensor_nchw(buffer, VT_F32, N, 3, H, W);
        /* a window of a larger picture with a fourth channel */
        views[2] =
            (vt_tensor){buffer + 17, VT_F32, N, H, W, 3, (H + 3) * (W + 5) * 4, (W + 5) * 4, 4, 1};
        /* upside down, mirrored, channels the other way round */
        views[3] =
            (vt_tensor){buffer + N * H * W * 3 - 1, VT_F32, N, H, W, 3, -H * W * 3, -W * 3, -3, -1};
        /* columns first */
        views[4] = (vt_tensor){buffer, VT_F32, N, H, W, 3, H * W * 3, 3, H * 3, 1};
        /* every other element */
        views[5] = (vt_tensor){buffer, VT_F32, N, H, W, 3, H * W * 6, W * 6, 6, 2};
        for (int i = 0; i < 6; i++) {
            memset(buffer, 0xFF, ROOM * sizeof *buffer); /* NaN where no picture is */
            spread(&views[i], picture);
            expect_status(vt_session_forward(f.session, &views[i], &f.error), VT_OK, &f.error);
            network_output got = take_output(f.session, "logits");
            compare_bits(got.data, want.data, want.count, "view %d", i);
            free(got.data);
        }
        free(want.data);
        close_all(&f);
    }
    free(picture);
    free(buffer);
}

/* One picture repeated by a stride of 0. */
static void test_stride_zero(void **state)
{
    (void)state;
    fixture f;
    float *picture = malloc(3 * H * W * sizeof *picture);
    vt_golden_picture(1, H, W, picture);
    open_session(&f, "cpu", NULL, 0);
    vt_tensor t = vt_tensor_nchw(picture, VT_F32, 3, 3, H, W);
    t.stride_n = 0;
    expect_status(vt_session_forward(f.session, &t, &f.error), VT_OK, &f.error);
    network_output out = take_output(f.session, "logits");
    compare_bits(out.data + out.c, out.data, (size_t)out.c, "the second picture");
    compare_bits(out.data + 2 * out.c, out.data, (size_t)out.c, "the third picture");
    free(out.data);
    free(picture);
    close_all(&f);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_bad_inputs(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        float one[3 * 64] = {0};
        open_session(&f, *device, NULL, 0);
        vt_tensor good = vt_tensor_nchw(one, VT_F32, 1, 3, 8, 8), t = good;
        expect_status(vt_session_forward(f.session, NULL, &f.error), VT_ERR_ARGUMENT, &f.error);
        t.data = NULL;
        expect_status(vt_session_forward(f.session, &t, &f.error), VT_ERR_ARGUMENT, &f.error);
        t = good;
        t.dtype = VT_F16;
        expect_status(vt_session_forward(f.session, &t, &f.error), VT_ERR_ARGUMENT, &f.error);
        t = good;
        t.c = 4;
        expect_error(vt_session_forward(f.session, &t, &f.error), VT_ERR_ARGUMENT, &f.error,
                     "3 channels");
        int64_t *extents[] = {&t.n, &t.h, &t.w};
        for (int i = 0; i < 6; i++) {
            t = good;
            *extents[i / 2] = i % 2 ? -1 : 0;
            expect_error(vt_session_forward(f.session, &t, &f.error), VT_ERR_ARGUMENT, &f.error,
                         "pictures of");
        }
        expect_status(vt_session_forward(f.session, &good, &f.error), VT_OK, &f.error);
        close_all(&f);
    }
}

/* From "does not fit this machine" to "does not fit in 64 bits". */
static void test_enormous_sizes(void **state)
{
    (void)state;
    static const int64_t big = (int64_t)1 << 31;
    const int64_t shapes[][3] = {{1, big, big},           {big, big, big},   {INT64_MAX, 1, 1},
                                 {1, INT64_MAX, 1},       {1, 1, INT64_MAX}, {1, INT64_MAX / 64, 1},
                                 {1 << 20, big, 1},       {1, big, 1 << 20}, {1, 1 << 24, 1 << 24},
                                 {1, INT64_MAX / 200, 1}, {big, 1, 1 << 16}};
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        open_session(&f, *device, NULL, 0);
        forward_picture(f.session, 1, 9, 9);
        network_output want = take_output(f.session, "logits");
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            const int64_t *s = shapes[i];
            vt_status status = vt_session_prepare(f.session, s[0], s[1], s[2], &f.error);
            if (status != VT_ERR_ARGUMENT && status != VT_ERR_LIMIT && status != VT_ERR_MEMORY) {
                fail_msg("size %zu: %s", i, vt_status_name(status));
            }
            assert_int_equal(f.error.status, status);
        }
        network_output still = take_output(f.session, "logits"); /* as it was before the calls */
        compare_bits(still.data, want.data, want.count, "the result before");
        free(want.data);
        free(still.data);
        forward_picture(f.session, 1, 9, 9);
        close_all(&f);
    }
}

static void test_outputs(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        vt_tensor t;
        open_session(&f, *device, all_outputs, 2);
        expect_error(vt_session_output(f.session, "logits", &t, &f.error), VT_ERR_NOT_FOUND,
                     &f.error, "nothing has run");
        expect_status(vt_session_prepare(f.session, 1, 16, 16, &f.error), VT_OK, &f.error);
        expect_error(vt_session_output(f.session, "logits", &t, &f.error), VT_ERR_NOT_FOUND,
                     &f.error, "nothing has run");
        forward_picture(f.session, 1, 16, 16);
        expect_status(vt_session_output(f.session, "logits", &t, &f.error), VT_OK, &f.error);
        assert_true(t.n == 1 && t.h == 1 && t.w == 1 && t.c == TINY_CLASSES);
        expect_status(vt_session_output(f.session, "embedding", &t, &f.error), VT_OK, &f.error);
        assert_int_equal(t.c, 16);
        expect_error(vt_session_output(f.session, "C3", &t, &f.error), VT_ERR_NOT_FOUND, &f.error,
                     "'C3'");
        close_all(&f);
    }
}

static void test_creation(void **state)
{
    (void)state;
    static const char *const unknown[] = {"logits", "C9"};
    fixture f;
    open_session(&f, "ref", unknown, 2);
    expect_error(vt_session_prepare(f.session, 1, 8, 8, &f.error), VT_ERR_NOT_FOUND, &f.error,
                 "'C9'");
    vt_session_destroy(&f.session);
    vt_session_destroy(&f.session); /* nothing happens */
    vt_session_destroy(NULL);
    vt_session_settings none = {.outputs = unknown, .output_count = 0};
    expect_status(vt_session_create(&f.session, f.model, &none, &f.error), VT_ERR_ARGUMENT,
                  &f.error);
    none.output_count = 17;
    expect_status(vt_session_create(&f.session, f.model, &none, &f.error), VT_ERR_ARGUMENT,
                  &f.error);
    expect_status(vt_session_create(&f.session, NULL, NULL, &f.error), VT_ERR_ARGUMENT, &f.error);
    expect_status(vt_session_create(NULL, f.model, NULL, &f.error), VT_ERR_ARGUMENT, &f.error);
    assert_null(f.session);
    close_all(&f);
}

/* The caller's strings may go away. */
static void test_output_names_are_copied(void **state)
{
    (void)state;
    fixture f;
    char name[] = "C2";
    const char *names[] = {name};
    open_session(&f, "ref", names, 1);
    name[1] = '7';
    names[0] = NULL;
    forward_picture(f.session, 1, 16, 12);
    network_output out = take_output(f.session, "C2");
    assert_true(out.h == 4 && out.w == 3 && out.c == 8);
    free(out.data);
    close_all(&f);
}

/* ---- stopping, profiles ---------------------------------------------------------------------- */

static void test_cancel_forward(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        open_session(&f, *device, NULL, 0);
        f.steps = 0;
        forward_picture(f.session, 1, 20, 20);
        uint64_t steps = f.steps;
        assert_true(steps > 10);
        assert_string_equal(f.what, "forward");
        network_output want = take_output(f.session, "logits");
        float picture[3 * 20 * 20];
        vt_golden_picture(1, 20, 20, picture);
        vt_tensor input = vt_tensor_nchw(picture, VT_F32, 1, 3, 20, 20), t;
        for (uint64_t k = 1; k <= steps; k++) {
            f.steps = 0;
            f.stop_at = k;
            expect_status(vt_session_forward(f.session, &input, &f.error), VT_ERR_CANCELLED,
                          &f.error);
            assert_int_equal(f.steps, k);
            expect_status(vt_session_output(f.session, "logits", &t, &f.error), VT_ERR_NOT_FOUND,
                          &f.error);
        }
        f.stop_at = 0;
        expect_status(vt_session_forward(f.session, &input, &f.error), VT_OK, &f.error);
        network_output got = take_output(f.session, "logits");
        compare_bits(got.data, want.data, want.count, "after it was stopped");
        free(got.data);
        free(want.data);
        close_all(&f);
    }
}

static void test_cancel_loading(void **state)
{
    (void)state;
    fixture f;
    vt_model *model = NULL;
    open_context(&f, "ref");
    size_t blocks = f.memory.blocks;
    uint64_t k = 0;
    vt_status status = VT_ERR_CANCELLED;
    while (status == VT_ERR_CANCELLED) {
        f.steps = 0;
        f.stop_at = ++k;
        status = vt_model_golden(&model, f.context, "tiny_v2", 0, NULL, &f.error);
        assert_true(status == VT_OK || (!model && f.memory.blocks == blocks));
        assert_string_equal(f.what, "loading weights");
    }
    expect_status(status, VT_OK, &f.error);
    assert_true(k > 50);
    vt_model_destroy(&model);
    close_all(&f);
}

static void test_profile(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        vt_op_info info;
        open_session(&f, *device, NULL, 0);
        assert_false(vt_session_op(f.session, 0, &info));
        vt_session_destroy(&f.session);
        vt_session_settings settings = {.profile = true};
        expect_status(vt_session_create(&f.session, f.model, &settings, &f.error), VT_OK, &f.error);
        forward_picture(f.session, 1, 64, 64);
        double seconds = 0;
        size_t i = 0;
        for (; vt_session_op(f.session, i, &info); i++) {
            assert_non_null(info.kind);
            assert_non_null(info.implementation);
            assert_non_null(info.label);
            assert_true(info.bytes > 0 && info.seconds >= 0);
            seconds += info.seconds;
        }
        assert_true(i > 10 && seconds > 0 && seconds < 60);
        assert_false(vt_session_op(f.session, SIZE_MAX, &info));
        close_all(&f);
    }
}

/* A picture that is not finite goes through, unless somebody asked to be told. */
static void test_check_range(void **state)
{
    (void)state;
    FOR_EACH_DEVICE(device)
    {
        fixture f;
        float picture[3 * 16 * 16];
        open_session(&f, *device, NULL, 0);
        vt_golden_picture(1, 16, 16, picture);
        vt_tensor input = vt_tensor_nchw(picture, VT_F32, 1, 3, 16, 16);
        picture[77] = INFINITY;
        expect_status(vt_session_forward(f.session, &input, &f.error), VT_OK, &f.error);
        vt_session_destroy(&f.session);
        vt_session_settings settings = {.check_range = true};
        expect_status(vt_session_create(&f.session, f.model, &settings, &f.error), VT_OK, &f.error);
        expect_status(vt_session_forward(f.session, &input, &f.error), VT_ERR_NUMERIC, &f.error);
        assert_true(f.error.message[0] != '\0');
        picture[77] = 0.5f;
        expect_status(vt_session_forward(f.session, &input, &f.error), VT_OK, &f.error);
        close_all(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thousand_shapes),
        cmocka_unit_test(test_shapes_in_turn),
        cmocka_unit_test(test_forward_allocates_nothing),
        cmocka_unit_test(test_memory_query),
        cmocka_unit_test(test_strides),
        cmocka_unit_test(test_stride_zero),
        cmocka_unit_test(test_bad_inputs),
        cmocka_unit_test(test_enormous_sizes),
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_creation),
        cmocka_unit_test(test_output_names_are_copied),
        cmocka_unit_test(test_cancel_forward),
        cmocka_unit_test(test_cancel_loading),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_check_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
