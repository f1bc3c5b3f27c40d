/* SPDX-License-Identifier: Apache-2.0 */
#include "model_compare.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *const test_devices[] = {"ref", "cpu", NULL};

double tolerance_network(vt_dtype dtype)
{
    return dtype == VT_F32 ? TOLERANCE_NETWORK_F32 : dtype == VT_F16 ? 1e-2 : 4e-2;
}

bool test_slow_ones(void)
{
#ifdef __SANITIZE_ADDRESS__
    return false;
#else
    return true;
#endif
}

vt_context *test_context_with(const vt_context_settings *settings)
{
    vt_context *context = NULL;
    vt_error error = {0};
    if (vt_context_create(&context, settings, &error) != VT_OK) {
        fail_msg("device %s: %s", settings->device, error.message);
    }
    return context;
}

vt_context *test_context(const char *device)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.device = device;
    settings.threads = 2;
    return test_context_with(&settings);
}

double compare(const float *got, const float *want, size_t count, double tolerance,
               const char *format, ...)
{
    double largest = 0, worst = -1;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        double d = fabs((double)got[i] - (double)want[i]);
        d = isnan(d) ? INFINITY : d;
        if (d > worst) {
            worst = d;
            at = i;
        }
    }
    if (count && !(worst <= tolerance * largest)) {
        char what[256];
        va_list args;
        va_start(args, format);
        vsnprintf(what, sizeof what, format, args);
        va_end(args);
        fail_msg("%s: element %zu of %zu is %.9g, want %.9g: off by %.2g of the largest, %.9g",
                 what, at, count, (double)got[at], (double)want[at], worst / largest, largest);
    }
    return worst > 0 ? worst / largest : 0;
}

void compare_bits(const float *got, const float *want, size_t count, const char *format, ...)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) != 0) {
            char what[256];
            va_list args;
            va_start(args, format);
            vsnprintf(what, sizeof what, format, args);
            va_end(args);
            fail_msg("%s: element %zu of %zu is %.9g, want %.9g in every bit", what, i, count,
                     (double)got[i], (double)want[i]);
        }
    }
}

void expect_near(double got, double want, double slack, const char *what)
{
    if (!(fabs(got - want) <= slack)) {
        fail_msg("%s is %.12g, want %.12g within %.3g", what, got, want, slack);
    }
}

void expect_status(vt_status status, vt_status want, const vt_error *error)
{
    if (status != want) {
        fail_msg("status '%s', want '%s': %s", vt_status_name(status), vt_status_name(want),
                 error->message);
    }
}

void expect_error(vt_status status, vt_status want, const vt_error *error, const char *part)
{
    expect_status(status, want, error);
    assert_int_equal(error->status, want);
    if (!strstr(error->message, part)) {
        fail_msg("the message lacks '%s': %s", part, error->message);
    }
}

vt_model *golden_model(vt_context *context, const char *name, vt_window_rule rule, int image_height,
                       int image_width)
{
    vt_model *model = NULL;
    vt_error error = {0};
    vt_model_settings settings = vt_model_settings_default();
    settings.window_rule = rule;
    settings.image_height = image_height;
    settings.image_width = image_width;
    expect_status(vt_model_golden(&model, context, name, 0, &settings, &error), VT_OK, &error);
    return model;
}

network_output take_output(const vt_session *session, const char *name)
{
    vt_error error = {0};
    vt_tensor t;
    expect_status(vt_session_output(session, name, &t, &error), VT_OK, &error);
    assert_int_equal(t.dtype, VT_F32);
    network_output out = {NULL, t.n, t.h, t.w, t.c, (size_t)(t.n * t.h * t.w * t.c)};
    assert_true(t.stride_c == 1 && t.stride_w == t.c && t.stride_h == t.w * t.c &&
                t.stride_n == t.h * t.w * t.c);
    out.data = malloc(out.count * sizeof *out.data);
    assert_non_null(out.data);
    memcpy(out.data, t.data, out.count * sizeof *out.data);
    return out;
}

void forward_picture(vt_session *session, int64_t n, int64_t h, int64_t w)
{
    vt_error error = {0};
    float *picture = malloc((size_t)(n * 3 * h * w) * sizeof *picture);
    assert_non_null(picture);
    vt_golden_picture(n, h, w, picture);
    vt_tensor input = vt_tensor_nchw(picture, VT_F32, n, 3, h, w);
    vt_status status = vt_session_forward(session, &input, &error);
    free(picture);
    expect_status(status, VT_OK, &error);
}

network_output run_network(const vt_model *model, const char *output, int64_t n, int64_t h,
                           int64_t w)
{
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings settings = {.outputs = &output, .output_count = 1};
    expect_status(vt_session_create(&session, model, &settings, &error), VT_OK, &error);
    forward_picture(session, n, h, w);
    network_output out = take_output(session, output);
    vt_session_destroy(&session);
    return out;
}
