/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_formula.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formula.h"
#include "model_golden.h"

/* ---- what belongs to a formula --------------------------------------------------------------- */

static double *keep(layer_formula *f, int64_t count)
{
    assert_true(f->kept_count < FORMULA_MAX_MAPS);
    double *v = calloc((size_t)count, sizeof *v);
    assert_non_null(v);
    return f->kept[f->kept_count++] = v;
}

void formula_clear(layer_formula *f)
{
    while (f->kept_count > 0) {
        free(f->kept[--f->kept_count]);
    }
}

void formula_expect_all_read(const layer_formula *f)
{
    const char *name;
    int rank;
    const int64_t *shape;
    for (size_t i = 0; vt_model_parameter(f->model, i, &name, &rank, &shape); i++) {
        assert_true(i < FORMULA_MAX_PARAMETERS);
        if (!f->read[i]) {
            fail_msg("the formula has no '%s'", name);
        }
    }
}

const double *weight(layer_formula *f, const int shape[4], const char *format, ...)
{
    char key[128];
    const char *name;
    int rank, begin = snprintf(key, sizeof key, "%s", f->scope ? f->scope : "");
    const int64_t *have;
    va_list args;
    va_start(args, format);
    vsnprintf(key + begin, sizeof key - (size_t)begin, format, args);
    va_end(args);
    size_t i = 0;
    do {
        if (!vt_model_parameter(f->model, i, &name, &rank, &have)) {
            fail_msg("the module has no '%s'", key);
        }
    } while (strcmp(name, key) != 0 && ++i < FORMULA_MAX_PARAMETERS);
    assert_true(i < FORMULA_MAX_PARAMETERS);
    f->read[i] = true;
    for (int axis = 0; axis < 4; axis++) {
        if ((axis < rank ? have[axis] : 0) != shape[axis]) {
            fail_msg("%s: axis %d is not %d", key, axis, shape[axis]);
        }
    }
    int64_t count = shape_elements(rank, have);
    float *stored = golden_tensor(key, rank, have);
    double *v = keep(f, count);
    assert_non_null(stored);
    for (int64_t e = 0; e < count; e++) {
        v[e] = (double)stored[e];
    }
    free(stored);
    return v;
}

/* ---- maps ------------------------------------------------------------------------------------ */

map map_new(layer_formula *f, int n, int h, int w, int c)
{
    return (map){n, h, w, c, keep(f, (int64_t)n * h * w * c)};
}

double *pixel_of(map m, int n, int y, int x)
{
    return m.v + ((n * m.h + y) * m.w + x) * m.c;
}

static int elements(map m)
{
    return m.n * m.h * m.w * m.c;
}

static map same_shape(layer_formula *f, map x)
{
    return map_new(f, x.n, x.h, x.w, x.c);
}

map cut(layer_formula *f, map x, int top, int left, int h, int w)
{
    map y = map_new(f, x.n, h, w, x.c);
    for (int n = 0; n < x.n; n++) {
        for (int i = 0; i < h; i++) {
            for (int j = 0; j < w; j++) {
                int from_y = i + top, from_x = j + left;
                if (from_y >= 0 && from_y < x.h && from_x >= 0 && from_x < x.w) {
                    memcpy(pixel_of(y, n, i, j), pixel_of(x, n, from_y, from_x),
                           (size_t)x.c * sizeof *x.v);
                }
            }
        }
    }
    return y;
}

map add(layer_formula *f, map a, map b)
{
    map y = same_shape(f, a);
    assert_int_equal(elements(a), elements(b));
    for (int i = 0; i < elements(a); i++) {
        y.v[i] = a.v[i] + b.v[i];
    }
    return y;
}

map multiply(layer_formula *f, map a, map b)
{
    map y = same_shape(f, a);
    int image = a.h * a.w * a.c;
    bool factors = b.h * b.w == 1;
    for (int i = 0; i < elements(a); i++) {
        y.v[i] = a.v[i] * b.v[factors ? i / image * a.c + i % a.c : i];
    }
    return y;
}

map scale(layer_formula *f, map x, const char *name)
{
    const double *factor = weight(f, (int[4]){x.c}, "%s", name);
    map y = same_shape(f, x);
    for (int i = 0; i < elements(x); i++) {
        y.v[i] = x.v[i] * factor[i % x.c];
    }
    return y;
}

map apply(layer_formula *f, map x, vt_activation act)
{
    map y = same_shape(f, x);
    for (int i = 0; i < elements(x); i++) {
        y.v[i] = activate(act, x.v[i]);
    }
    return y;
}

map means(layer_formula *f, map x, int kernel_h, int kernel_w)
{
    map y = map_new(f, x.n, x.h / kernel_h, x.w / kernel_w, x.c);
    for (int i = 0; i < elements(y); i++) {
        int c = i % y.c, left = i / y.c % y.w, top = i / y.c / y.w % y.h, n = i / y.c / y.w / y.h;
        for (int k = 0; k < kernel_h * kernel_w; k++) {
            y.v[i] +=
                pixel_of(x, n, top * kernel_h + k / kernel_w, left * kernel_w + k % kernel_w)[c] /
                (kernel_h * kernel_w);
        }
    }
    return y;
}

/* ---- linear maps ----------------------------------------------------------------------------- */

/* One output of one pixel: group g of the channels under the kernel, whose corner is at (y, x). */
static double taps(map in, int n, int y, int x, int first, int seen, const conv_form *k,
                   const double *w)
{
    double sum = 0;
    for (int i = 0; i < seen; i++) {
        for (int t = 0; t < k->kernel * k->kernel; t++) {
            int dy = t / k->kernel * k->dilation, dx = t % k->kernel * k->dilation;
            sum += w[i * k->kernel * k->kernel + t] * pixel_of(in, n, y + dy, x + dx)[first + i];
        }
    }
    return sum;
}

static int at_least_1(int value)
{
    return value > 1 ? value : 1;
}

map conv(layer_formula *f, map x, const char *name, conv_form k)
{
    k.stride = at_least_1(k.stride);
    k.dilation = at_least_1(k.dilation);
    k.groups = at_least_1(k.groups);
    int seen = x.c / k.groups, reach = k.dilation * (k.kernel - 1) + 1, row = seen * k.kernel;
    int side = k.kernel > 1 ? k.kernel : 0;
    const double *w = weight(f, (int[4]){k.out, seen, side, side}, "%s.weight", name);
    const double *bias = k.bias ? weight(f, (int[4]){k.out}, "%s.bias", name) : NULL;
    map y = map_new(f, x.n, (x.h - reach) / k.stride + 1, (x.w - reach) / k.stride + 1, k.out);
    for (int i = 0; i < elements(y); i++) {
        int o = i % y.c, left = i / y.c % y.w, top = i / y.c / y.w % y.h, n = i / y.c / y.w / y.h;
        int first = o / (k.out / k.groups) * seen;
        y.v[i] =
            taps(x, n, top * k.stride, left * k.stride, first, seen, &k, w + o * row * k.kernel) +
            (bias ? bias[o] : 0.0);
    }
    return y;
}

map linear(layer_formula *f, map x, const char *name, int out, bool bias)
{
    return conv(f, x, name, (conv_form){.out = out, .kernel = 1, .bias = bias});
}

map depthwise(layer_formula *f, map x, const char *name, int kernel, int dilation)
{
    int pad = kernel / 2 * dilation;
    conv_form form = {
        .out = x.c, .kernel = kernel, .dilation = dilation, .groups = x.c, .bias = true};
    return conv(f, cut(f, x, -pad, -pad, x.h + 2 * pad, x.w + 2 * pad), name, form);
}

/* ---- norms ----------------------------------------------------------------------------------- */

map layer_norm(layer_formula *f, map x, const char *name, double eps)
{
    const double *factor = weight(f, (int[4]){x.c}, "%s.weight", name);
    const double *shift = weight(f, (int[4]){x.c}, "%s.bias", name);
    map y = same_shape(f, x);
    for (int row = 0; row < elements(x); row += x.c) {
        double mean = 0, var = 0;
        for (int c = 0; c < x.c; c++) {
            mean += x.v[row + c] / x.c;
        }
        for (int c = 0; c < x.c; c++) {
            var += (x.v[row + c] - mean) * (x.v[row + c] - mean) / x.c;
        }
        for (int c = 0; c < x.c; c++) {
            y.v[row + c] = (x.v[row + c] - mean) / sqrt(var + eps) * factor[c] + shift[c];
        }
    }
    return y;
}

map batch_norm(layer_formula *f, map x, const char *name, double eps)
{
    const double *factor = weight(f, (int[4]){x.c}, "%s.weight", name);
    const double *shift = weight(f, (int[4]){x.c}, "%s.bias", name);
    const double *mean = weight(f, (int[4]){x.c}, "%s.running_mean", name);
    const double *var = weight(f, (int[4]){x.c}, "%s.running_var", name);
    map y = same_shape(f, x);
    for (int i = 0; i < elements(x); i++) {
        int c = i % x.c;
        y.v[i] = (x.v[i] - mean[c]) / sqrt(var[c] + eps) * factor[c] + shift[c];
    }
    return y;
}
