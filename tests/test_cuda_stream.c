/* SPDX-License-Identifier: Apache-2.0 */
/* vertebra_cuda.h: the caller's device memory, streams, graphs and current device. What needs a GPU
 * is skipped, and says so, where there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "support/gpu.h"
#include "support/gpu_model.h"
#include "vertebra_cuda.h"

enum { CLASSES = 10, MOST = 4, SIDE = 96 };

/* ---- what the tests share -------------------------------------------------------------------- */

typedef struct fixture {
    vt_context *context;
    vt_model *model;
    vt_session *session;
    struct CUstream_st *stream;
    vt_error error;
} fixture;

/* False, after skipping, where there is no GPU. GPU 0 is current afterwards. */
static bool open_all(fixture *f, vt_dtype dtype)
{
    *f = (fixture){.context = gpu_context("cuda:0", true)};
    if (!f->context) {
        return false;
    }
    f->model = gpu_golden(f->context, NANO, dtype, VT_WINDOW_PAD);
    f->session = gpu_session(f->model);
    assert_true(gpu_count() > 0);
    gpu_make_current(0);
    f->stream = gpu_stream_open();
    return true;
}

static void close_all(fixture *f)
{
    gpu_stream_close(f->stream);
    vt_session_destroy(&f->session);
    vt_model_destroy(&f->model);
    vt_context_destroy(&f->context);
}

#define OPEN_OR_SKIP(f, dtype)                                                                     \
    if (!open_all(f, dtype)) {                                                                     \
        skip();                                                                                    \
        return;                                                                                    \
    }

static void expect(const fixture *f, vt_status got, vt_status want)
{
    if (got != want) {
        fail_msg("status %s, want %s: %s", vt_status_name(got), vt_status_name(want),
                 f->error.message);
    }
}

/* Golden pictures that differ by `seed`, dense NCHW; the caller frees. */
static float *picture(int64_t n, int64_t h, int64_t w, int seed)
{
    size_t count = (size_t)(3 * n * h * w);
    float *out = malloc(count * sizeof *out);
    assert_non_null(out);
    vt_golden_picture(n, h, w, out);
    for (size_t i = 0; i < count; i++) {
        out[i] *= 1.0f - 0.125f * (float)seed;
    }
    return out;
}

/* The logits of n pictures by way of the host. */
static void host_logits(fixture *f, const float *pixels, int64_t n, int64_t h, int64_t w,
                        float *logits)
{
    vt_tensor in = vt_tensor_nchw((void *)(size_t)pixels, VT_F32, n, 3, h, w);
    expect(f, vt_session_forward(f->session, &in, &f->error), VT_OK);
    memcpy(logits, gpu_output(f->session, "logits").data, (size_t)n * CLASSES * sizeof *logits);
}

static float widen(const void *data, vt_dtype dtype, size_t i)
{
    return dtype == VT_F32    ? ((const float *)data)[i]
           : dtype == VT_BF16 ? vt_from_bf16(((const uint16_t *)data)[i])
                              : vt_from_f16(((const uint16_t *)data)[i]);
}

/* Compares device memory that holds logits, bit by bit. */
static void expect_logits(const void *device, vt_dtype dtype, const float *want, int64_t n)
{
    float block[MOST * CLASSES];
    size_t count = (size_t)n * CLASSES;
    gpu_download(block, device, count * vt_dtype_size(dtype));
    for (size_t i = 0; i < count; i++) {
        float got = widen(block, dtype, i);
        if (memcmp(&got, &want[i], sizeof got) != 0) {
            fail_msg("logit %zu is %g, want %g", i, (double)got, (double)want[i]);
        }
    }
}

/* Waits for the fixture's stream and compares the session's logits. */
static void expect_output(fixture *f, const float *want, int64_t n)
{
    vt_tensor logits;
    expect(f, vt_session_output_cuda(f->session, "logits", &logits, &f->error), VT_OK);
    assert_true(logits.n == n && logits.h == 1 && logits.w == 1 && logits.c == CLASSES);
    gpu_wait(f->stream);
    expect_logits(logits.data, logits.dtype, want, n);
}

/* A device copy of pictures in another type and layout, `shift` elements into its block. */
static void *device_pictures(const float *pixels, vt_tensor *view, int shift, void **block)
{
    size_t size = vt_dtype_size(view->dtype);
    size_t count = (size_t)(view->n * view->h * view->w * 3) + (size_t)shift;
    char *host = calloc(count, size);
    assert_non_null(host);
    for (int64_t i = 0; i < view->n * view->h * view->w * 3; i++) {
        int64_t x = i % view->w, y = i / view->w % view->h, c = i / view->w / view->h % 3;
        int64_t n = i / view->w / view->h / 3;
        int64_t at = n * view->stride_n + y * view->stride_h + x * view->stride_w +
                     c * view->stride_c + shift;
        if (view->dtype == VT_F32) {
            ((float *)(void *)host)[at] = pixels[i];
        } else {
            ((uint16_t *)(void *)host)[at] =
                view->dtype == VT_BF16 ? vt_to_bf16(pixels[i]) : vt_to_f16(pixels[i]);
        }
    }
    *block = gpu_alloc(count * size);
    gpu_upload(*block, host, count * size);
    free(host);
    return (char *)*block + (size_t)shift * size;
}

/* f32, SIDE x SIDE, one picture in device memory. */
static vt_tensor upload_one(const float *pixels)
{
    void *block;
    vt_tensor view = vt_tensor_nchw(NULL, VT_F32, 1, 3, SIDE, SIDE);
    view.data = device_pictures(pixels, &view, 0, &block);
    return view;
}

/* ---- where there is no GPU ------------------------------------------------------------------- */

static void test_not_a_gpu(void **state)
{
    (void)state;
    fixture f = {.context = gpu_context("cpu", true)};
    f.model = gpu_golden(f.context, NANO, VT_F32, VT_WINDOW_PAD);
    f.session = gpu_session(f.model);
    float pixels[3 * 8 * 8] = {0};
    size_t bytes = 77;
    vt_tensor in = vt_tensor_nchw(pixels, VT_F32, 1, 3, 8, 8), out;
    expect(&f, vt_session_forward_cuda(f.session, &in, NULL, &f.error), VT_ERR_UNSUPPORTED);
    expect(&f, vt_session_forward(f.session, &in, &f.error), VT_OK);
    expect(&f, vt_session_output_cuda(f.session, "logits", &out, &f.error), VT_ERR_UNSUPPORTED);
    expect(&f, vt_context_cuda_memory(f.context, &bytes, NULL, &f.error), VT_ERR_UNSUPPORTED);
    assert_int_equal(bytes, 77);
    expect(&f, vt_session_forward_cuda(NULL, &in, NULL, &f.error), VT_ERR_ARGUMENT);
    expect(&f, vt_session_output_cuda(f.session, NULL, &out, &f.error), VT_ERR_ARGUMENT);
    vt_session_destroy(&f.session);
    vt_model_destroy(&f.model);
    vt_context_destroy(&f.context);
}

/* ---- device memory --------------------------------------------------------------------------- */

/* One size in one type: NHWC and NCHW, aligned and not, against the host path. */
static void check_layouts(fixture *f, vt_dtype in_dtype, int64_t n, int64_t h, int64_t w)
{
    float want[MOST * CLASSES], *pixels = picture(n, h, w, 0);
    host_logits(f, pixels, n, h, w, want);
    for (int i = 0; i < 4; i++) {
        void *block;
        vt_tensor in = i % 2 ? vt_tensor_nhwc(NULL, in_dtype, n, h, w, 3)
                             : vt_tensor_nchw(NULL, in_dtype, n, 3, h, w);
        in.data = device_pictures(pixels, &in, i / 2, &block);
        expect(f, vt_session_forward_cuda(f->session, &in, f->stream, &f->error), VT_OK);
        expect_output(f, want, n);
        vt_tensor fetched = gpu_output(f->session, "logits"); /* the host may ask as well */
        assert_memory_equal(fetched.data, want, (size_t)n * CLASSES * sizeof *want);
        gpu_free(block);
    }
    free(pixels);
}

static void test_device_input(void **state)
{
    (void)state;
    static const vt_dtype types[] = {VT_F32, VT_BF16, VT_F16};
    for (int i = 0; i < 3; i++) {
        fixture f;
        OPEN_OR_SKIP(&f, types[i]);
        check_layouts(&f, VT_F32, 2, 224, 224);
        check_layouts(&f, VT_F32, 3, 75, 61);
        check_layouts(&f, types[i], 2, 224, 224);
        check_layouts(&f, types[i], 1, 75, 61);
        close_all(&f);
    }
}

static void test_bad_input(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    float want[CLASSES], *pixels = picture(1, SIDE, SIDE, 0);
    vt_tensor good = upload_one(pixels), bad = good;
    host_logits(&f, pixels, 1, SIDE, SIDE, want);
    bad.data = pixels;
    expect(&f, vt_session_forward_cuda(f.session, &bad, f.stream, &f.error), VT_ERR_ARGUMENT);
    assert_non_null(strstr(f.error.message, "not memory of a GPU"));
    bad.data = (char *)good.data + 2;
    expect(&f, vt_session_forward_cuda(f.session, &bad, f.stream, &f.error), VT_ERR_ARGUMENT);
    assert_non_null(strstr(f.error.message, "not aligned"));
    bad = good;
    bad.dtype = VT_BF16; /* neither f32 nor the model's */
    expect(&f, vt_session_forward_cuda(f.session, &bad, f.stream, &f.error), VT_ERR_ARGUMENT);
    bad = good;
    bad.c = 4;
    expect(&f, vt_session_forward_cuda(f.session, &bad, f.stream, &f.error), VT_ERR_ARGUMENT);
    bad = good;
    bad.h = 0;
    expect(&f, vt_session_forward_cuda(f.session, &bad, f.stream, &f.error), VT_ERR_ARGUMENT);
    expect(&f, vt_session_forward_cuda(f.session, &good, f.stream, &f.error), VT_OK);
    expect(&f, vt_session_output_cuda(f.session, "nonsense", &bad, &f.error), VT_ERR_NOT_FOUND);
    expect_output(&f, want, 1);
    gpu_free(good.data);
    free(pixels);
    close_all(&f);
}

/* ---- streams --------------------------------------------------------------------------------- */

/* The network starts after what was enqueued before it, and nobody waits. */
static void test_stream_order(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    float want[CLASSES], *pixels = picture(1, SIDE, SIDE, 0), *other = picture(1, SIDE, SIDE, 3);
    vt_tensor source = upload_one(pixels), in = upload_one(other), logits;
    void *copy = gpu_alloc(CLASSES * sizeof(float));
    host_logits(&f, pixels, 1, SIDE, SIDE, want);
    gpu_delay(f.stream);
    gpu_copy(in.data, source.data, 3 * SIDE * SIDE * sizeof *pixels, f.stream);
    expect(&f, vt_session_forward_cuda(f.session, &in, f.stream, &f.error), VT_OK);
    expect(&f, vt_session_output_cuda(f.session, "logits", &logits, &f.error), VT_OK);
    gpu_copy(copy, logits.data, CLASSES * vt_dtype_size(logits.dtype), f.stream);
    assert_true(gpu_is_busy(f.stream));
    gpu_wait(f.stream);
    expect_logits(copy, logits.dtype, want, 1);
    gpu_free(copy);
    gpu_free(source.data);
    gpu_free(in.data);
    free(pixels);
    free(other);
    close_all(&f);
}

/* One session: a delayed run on one stream, then on another, on the default stream, on the host's.
 * Each answer is that of its own input. */
static void test_streams_in_turn(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    struct CUstream_st *first = gpu_stream_open();
    float want[CLASSES], wrong[CLASSES], host[CLASSES];
    float *pixels = picture(1, SIDE, SIDE, 0), *other = picture(1, SIDE, SIDE, 3);
    vt_tensor in = upload_one(pixels), before = upload_one(other);
    host_logits(&f, pixels, 1, SIDE, SIDE, want);
    host_logits(&f, other, 1, SIDE, SIDE, wrong);
    assert_memory_not_equal(want, wrong, sizeof want);
    struct CUstream_st *second = f.stream, *const streams[] = {second, NULL};
    for (int i = 0; i < 2; i++) {
        gpu_delay(first);
        expect(&f, vt_session_forward_cuda(f.session, &before, first, &f.error), VT_OK);
        expect(&f, vt_session_forward_cuda(f.session, &in, streams[i], &f.error), VT_OK);
        f.stream = streams[i];
        expect_output(&f, want, 1);
        gpu_wait(first);
        expect_output(&f, want, 1);
        f.stream = second;
    }
    gpu_delay(first);
    expect(&f, vt_session_forward_cuda(f.session, &before, first, &f.error), VT_OK);
    assert_true(gpu_is_busy(first));
    host_logits(&f, pixels, 1, SIDE, SIDE, host);
    assert_memory_equal(host, want, sizeof want);
    /* the stream is gone before the answer is fetched */
    expect(&f, vt_session_forward_cuda(f.session, &before, first, &f.error), VT_OK);
    gpu_stream_close(first);
    assert_memory_equal(gpu_output(f.session, "logits").data, wrong, sizeof wrong);
    gpu_free(in.data);
    gpu_free(before.data);
    free(pixels);
    free(other);
    close_all(&f);
}

/* Two sessions of a model on two streams at the same time. */
static void test_two_streams(void **state)
{
    (void)state;
    enum { ROUNDS = 30 };
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    fixture g = f;
    g.session = gpu_session(f.model);
    g.stream = gpu_stream_open();
    float want[2][CLASSES], *pixels[2];
    vt_tensor in[2];
    for (int i = 0; i < 2; i++) {
        pixels[i] = picture(1, SIDE, SIDE, i);
        in[i] = upload_one(pixels[i]);
        host_logits(&f, pixels[i], 1, SIDE, SIDE, want[i]);
    }
    for (int i = 0; i < ROUNDS; i++) {
        expect(&f, vt_session_forward_cuda(f.session, &in[0], f.stream, &f.error), VT_OK);
        expect(&g, vt_session_forward_cuda(g.session, &in[1], g.stream, &g.error), VT_OK);
    }
    expect_output(&f, want[0], 1);
    expect_output(&g, want[1], 1);
    for (int i = 0; i < 2; i++) {
        gpu_free(in[i].data);
        free(pixels[i]);
    }
    gpu_stream_close(g.stream);
    vt_session_destroy(&g.session);
    close_all(&f);
}

/* ---- the caller's graph ---------------------------------------------------------------------- */

static void test_capture(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    float want[2][CLASSES], *pixels[2];
    vt_tensor in[2], out;
    double seconds;
    for (int i = 0; i < 2; i++) {
        pixels[i] = picture(1, SIDE, SIDE, i);
        in[i] = upload_one(pixels[i]);
        host_logits(&f, pixels[i], 1, SIDE, SIDE, want[i]);
    }
    vt_session_destroy(&f.session);
    f.session = gpu_session(f.model);

    gpu_capture_begin(f.stream);
    expect(&f, vt_session_forward_cuda(f.session, &in[0], f.stream, &f.error), VT_ERR_ARGUMENT);
    assert_non_null(strstr(f.error.message, "vt_session_prepare"));
    gpu_graph_close(gpu_capture_end(f.stream)); /* the caller's capture goes on */

    expect(&f, vt_session_prepare(f.session, 1, SIDE, SIDE, &f.error), VT_OK);
    gpu_capture_begin(f.stream);
    expect(&f, vt_session_forward_cuda(f.session, &in[0], f.stream, &f.error), VT_OK);
    expect(&f, vt_session_output_cuda(f.session, "logits", &out, &f.error), VT_OK);
    expect(&f, vt_session_output(f.session, "logits", &out, &f.error), VT_ERR_NOT_FOUND);
    expect(&f, vt_session_elapsed(f.session, &seconds, &f.error), VT_ERR_NOT_FOUND);
    void *graph = gpu_capture_end(f.stream);

    gpu_graph_launch(graph, f.stream);
    expect_output(&f, want[0], 1);
    gpu_copy(in[0].data, in[1].data, 3 * SIDE * SIDE * sizeof(float), f.stream);
    gpu_graph_launch(graph, f.stream);
    expect_output(&f, want[1], 1);

    /* outside of the graph everything is as before */
    expect(&f, vt_session_forward_cuda(f.session, &in[1], f.stream, &f.error), VT_OK);
    expect_output(&f, want[1], 1);
    expect(&f, vt_session_elapsed(f.session, &seconds, &f.error), VT_OK);
    assert_true(seconds > 0 && seconds < 10);
    gpu_graph_close(graph);
    for (int i = 0; i < 2; i++) {
        gpu_free(in[i].data);
        free(pixels[i]);
    }
    close_all(&f);
}

/* While one stream is captured, in the mode that forbids the program most, other sessions load,
 * plan and run. */
static void test_work_beside_a_capture(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    float want[CLASSES], got[CLASSES], *pixels = picture(1, SIDE, SIDE, 0);
    host_logits(&f, pixels, 1, SIDE, SIDE, want);
    gpu_capture_begin(f.stream);
    fixture g = {.context = gpu_context("cuda:0", true)};
    assert_non_null(g.context);
    g.model = gpu_golden(g.context, NANO, VT_F16, VT_WINDOW_PAD);
    g.session = gpu_session(g.model);
    for (int64_t i = 0; i < 20; i++) { /* plans come and go */
        gpu_run(g.session, 1, 8 + 4 * i, 64);
    }
    host_logits(&g, pixels, 1, SIDE, SIDE, got);
    gpu_graph_close(gpu_capture_end(f.stream));
    vt_session_destroy(&g.session);
    vt_model_destroy(&g.model);
    vt_context_destroy(&g.context);
    assert_memory_equal(got, want, sizeof want);
    free(pixels);
    close_all(&f);
}

static void test_profile(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    float want[CLASSES], *pixels = picture(1, SIDE, SIDE, 0);
    vt_tensor in = upload_one(pixels);
    vt_session_settings settings = {.profile = true};
    vt_op_info info;
    host_logits(&f, pixels, 1, SIDE, SIDE, want);
    vt_session_destroy(&f.session);
    expect(&f, vt_session_create(&f.session, f.model, &settings, &f.error), VT_OK);
    expect(&f, vt_session_forward_cuda(f.session, &in, f.stream, &f.error), VT_OK);
    expect_output(&f, want, 1);
    assert_true(vt_session_op(f.session, 0, &info) && info.seconds > 0);
    gpu_capture_begin(f.stream);
    expect(&f, vt_session_forward_cuda(f.session, &in, f.stream, &f.error), VT_ERR_UNSUPPORTED);
    gpu_graph_close(gpu_capture_end(f.stream));
    gpu_free(in.data);
    free(pixels);
    close_all(&f);
}

/* ---- the caller's current device ------------------------------------------------------------- */

/* Every call with another GPU current (where there is one): it stays so. */
static void test_current_device(void **state)
{
    (void)state;
    fixture f;
    OPEN_OR_SKIP(&f, VT_F16);
    int last = gpu_count() - 1;
    if (last == 0) {
        print_message("one GPU here: the streams and memory of another are not tried\n");
    }
    float want[CLASSES], got[CLASSES], *pixels = picture(1, SIDE, SIDE, 0);
    vt_tensor in = upload_one(pixels), out;
    size_t bytes;
    double seconds;
    host_logits(&f, pixels, 1, SIDE, SIDE, want);
    gpu_make_current(last);
    fixture g = {.context = gpu_context("cuda:0", true)};
    assert_int_equal(gpu_current(), last);
    g.model = gpu_golden(g.context, NANO, VT_F16, VT_WINDOW_PAD);
    g.session = gpu_session(g.model);
    g.stream = f.stream;
    assert_int_equal(gpu_current(), last);
    host_logits(&g, pixels, 1, SIDE, SIDE, got);
    assert_memory_equal(got, want, sizeof want);
    expect(&g, vt_session_forward_cuda(g.session, &in, g.stream, &g.error), VT_OK);
    expect(&g, vt_session_elapsed(g.session, &seconds, &g.error), VT_OK);
    expect(&g, vt_context_cuda_memory(g.context, &bytes, NULL, &g.error), VT_OK);
    expect(&g, vt_session_output(g.session, "logits", &out, &g.error), VT_OK);
    assert_memory_equal(out.data, want, sizeof want);
    assert_int_equal(gpu_current(), last);
    out = vt_tensor_nchw(pixels, VT_F32, 1, 3, SIDE, SIDE);
    expect(&g, vt_session_forward_cuda(g.session, &out, g.stream, &g.error), VT_ERR_ARGUMENT);
    assert_int_equal(gpu_current(), last);
    if (last > 0) {
        struct CUstream_st *elsewhere = gpu_stream_open();
        vt_tensor far = upload_one(pixels);
        expect(&g, vt_session_forward_cuda(g.session, &in, elsewhere, &g.error), VT_ERR_ARGUMENT);
        print_message("%s\n", g.error.message);
        assert_non_null(strstr(g.error.message, "the stream belongs to cuda:"));
        expect(&g, vt_session_forward_cuda(g.session, &far, g.stream, &g.error), VT_ERR_ARGUMENT);
        print_message("%s\n", g.error.message);
        assert_non_null(strstr(g.error.message, "the input lies on cuda:"));
        assert_int_equal(gpu_current(), last);
        gpu_free(far.data);
        gpu_stream_close(elsewhere);
    }
    expect(&g, vt_session_forward_cuda(g.session, &in, g.stream, &g.error), VT_OK);
    vt_session_destroy(&g.session);
    vt_model_destroy(&g.model);
    vt_context_destroy(&g.context);
    assert_int_equal(gpu_current(), last);
    gpu_make_current(0);
    gpu_free(in.data);
    free(pixels);
    close_all(&f);
}

/* test_cuda_stream [PATTERN]: only the tests whose name fits, such as "*capture*" */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_a_gpu),       cmocka_unit_test(test_device_input),
        cmocka_unit_test(test_bad_input),       cmocka_unit_test(test_stream_order),
        cmocka_unit_test(test_streams_in_turn), cmocka_unit_test(test_two_streams),
        cmocka_unit_test(test_capture),         cmocka_unit_test(test_work_beside_a_capture),
        cmocka_unit_test(test_profile),         cmocka_unit_test(test_current_device),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
