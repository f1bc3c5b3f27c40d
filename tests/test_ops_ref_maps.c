/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on maps against their formulas written out in double, on every device: depthwise
 * convolution, affine maps, products, concatenation, pooling, deformable patches; and every
 * activation in every operation that has one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/formula.h"
#include "support/model_compare.h"
#include "support/tolerance.h"

/* ---- depthwise convolution ------------------------------------------------------------------- */

typedef struct depthwise_case {
    vt_shape in;
    vt_conv2d conv;
    bool bias, scale, shift, residual;
} depthwise_case;

/* clang-format off */
static const depthwise_case depthwise_cases[] = {
    {{2, 1, 1, 1}, {.kernel_h = 1, .kernel_w = 1, .stride_h = 1, .stride_w = 1,
                    .dilation_h = 1, .dilation_w = 1}, false, false, false, false},
    {{2, 7, 5, 13}, {.kernel_h = 3, .kernel_w = 3, .stride_h = 1, .stride_w = 1,
                     .dilation_h = 1, .dilation_w = 1, .pad_top = 1, .pad_left = 1,
                     .pad_bottom = 1, .pad_right = 1, .act = VT_ACT_GELU}, true, true, true, true},
    {{2, 11, 13, 5}, {.kernel_h = 3, .kernel_w = 2, .stride_h = 2, .stride_w = 3,
                      .dilation_h = 2, .dilation_w = 3, .pad_top = 0, .pad_left = 2,
                      .pad_bottom = 3, .pad_right = 1, .act = VT_ACT_TANH}, true, true, false, true},
    {{2, 3, 9, 17}, {.kernel_h = 7, .kernel_w = 7, .stride_h = 1, .stride_w = 1,
                     .dilation_h = 3, .dilation_w = 3, .pad_top = 9, .pad_left = 9,
                     .pad_bottom = 9, .pad_right = 9}, true, false, false, false},
    {{2, 9, 6, 33}, {.kernel_h = 5, .kernel_w = 5, .stride_h = 1, .stride_w = 1,
                     .dilation_h = 1, .dilation_w = 1, .pad_top = 2, .pad_left = 2,
                     .pad_bottom = 2, .pad_right = 2, .act = VT_ACT_SIGMOID},
     false, true, true, false},
    {{2, 5, 8, 3}, {.kernel_h = 5, .kernel_w = 1, .stride_h = 1, .stride_w = 2,
                    .dilation_h = 1, .dilation_w = 1, .pad_top = 4, .pad_bottom = 2,
                    .act = VT_ACT_SILU}, true, false, false, true},
};
/* clang-format on */

typedef struct depthwise_with {
    const depthwise_case *k;
    vt_depthwise op;
    vt_shape out;
} depthwise_with;

static void plain_depthwise(const test_program *t, const void *with, const float *in,
                            const float *second, float *want)
{
    const depthwise_with *u = with;
    const vt_conv2d *c = &u->op.conv;
    const float *w = t->values[c->weight.id], *bias = t->values[c->bias.id];
    const float *scale = t->values[u->op.affine.scale.id];
    const float *shift = t->values[u->op.affine.shift.id];
    vt_shape d = u->out;
    for (int64_t i = 0; i < (int64_t)shape_count(d); i++) {
        int64_t ch = i % d.c, x = i / d.c % d.w, y = i / (d.c * d.w) % d.h;
        double sum = bias ? (double)bias[ch] : 0.0;
        for (int64_t ky = 0; ky < c->kernel_h; ky++) {
            for (int64_t kx = 0; kx < c->kernel_w; kx++) {
                sum += (double)w[(ky * c->kernel_w + kx) * d.c + ch] *
                       pixel(in, u->k->in, i / (d.c * d.w * d.h),
                             y * c->stride_h + ky * c->dilation_h - c->pad_top,
                             x * c->stride_w + kx * c->dilation_w - c->pad_left, ch);
            }
        }
        sum = activate(c->act, sum) * (scale ? (double)scale[ch] : 1.0);
        sum += shift ? (double)shift[ch] : 0.0;
        want[i] = (float)(sum + (u->k->residual ? (double)second[i] : 0.0));
    }
}

/* The residual is what the same kernel makes of the map alone, so that it has the right size. */
static void check_depthwise(const depthwise_case *k, const char *device, uint32_t seed)
{
    test_program t;
    program_begin(&t, k->in);
    int taps = k->conv.kernel_h * k->conv.kernel_w;
    depthwise_with u = {.k = k, .op = {.conv = k->conv}};
    u.op.conv.weight = random_vector(&t, taps * k->in.c, seed, 0.5f, 0.0f);
    vt_value x = vt_input(&t.builder);
    vt_value second = vt_op_depthwise(&t.builder, x, &u.op);
    vt_output(&t.builder, "second", second);
    if (k->bias) {
        u.op.conv.bias = random_vector(&t, k->in.c, seed + 1, 1.0f, 0.0f);
    }
    if (k->scale) {
        u.op.affine.scale = random_vector(&t, k->in.c, seed + 2, 0.5f, 1.0f);
    }
    if (k->shift) {
        u.op.affine.shift = random_vector(&t, k->in.c, seed + 3, 0.5f, 0.0f);
    }
    vt_value y = vt_op_depthwise(&t.builder, x, &u.op);
    u.out = vt_value_shape(&t.builder, y);
    vt_output(&t.builder, "y", k->residual ? vt_op_add(&t.builder, second, y) : y);
    vt_program_rewrite(&t.program, VT_ALL_REWRITES);
    assert_int_equal(t.program.record_count, 2); /* the sum has become the residual */
    float *in = random_map(k->in, seed + 4, 2.0f, 0.25f);
    char what[64];
    snprintf(what, sizeof what, "depthwise case %d", (int)(k - depthwise_cases));
    run_and_compare_formula(&t, device, in, plain_depthwise, &u, 2 * tolerance_f32(taps), what);
    free(in);
}

static void test_depthwise(void **state)
{
    (void)state;
    for (const char *const *device = test_devices; *device; device++) {
        for (size_t i = 0; i < sizeof depthwise_cases / sizeof depthwise_cases[0]; i++) {
            check_depthwise(&depthwise_cases[i], *device, 10 * (uint32_t)i + 1);
        }
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

/* The identity as a linear map, a convolution and a depthwise convolution of 1x1. */
static vt_value identity(test_program *t, vt_op_kind kind, vt_activation act)
{
    enum { WIDTH = 7 };
    float eye[WIDTH * WIDTH] = {0}, ones[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        eye[i * WIDTH + i] = ones[i] = 1.0f;
    }
    vt_value x = vt_input(&t->builder);
    vt_conv2d conv = {.act = act,
                      .kernel_h = 1,
                      .kernel_w = 1,
                      .stride_h = 1,
                      .stride_w = 1,
                      .dilation_h = 1,
                      .dilation_w = 1};
    if (kind == VT_OP_DEPTHWISE) {
        conv.weight = program_vector(t, WIDTH, ones);
        return vt_op_depthwise(&t->builder, x, &(vt_depthwise){.conv = conv});
    }
    conv.weight = program_matrix(t, WIDTH, WIDTH, eye);
    return kind == VT_OP_CONV2D
               ? vt_op_conv2d(&t->builder, x, &conv)
               : vt_op_linear(&t->builder, x, &(vt_linear){.weight = conv.weight, .act = act});
}

/* The fast CPU side's tanh is off by this at most, whatever its argument (src/ops/cpu/vmath.h). */
#define TANH_ERROR 2.4e-7

/* Small arguments and large ones: a sum that cancels shows in the small ones. */
static void test_activations(void **state)
{
    (void)state;
    static const vt_op_kind kinds[] = {VT_OP_LINEAR, VT_OP_CONV2D, VT_OP_DEPTHWISE};
    static const float spreads[] = {0.01f, 1.0f, 12.0f};
    vt_shape s = {2, 5, 3, 7};
    for (int i = 0; i <= (int)VT_ACT_TANH; i++) {
        for (size_t j = 0;
             j < sizeof kinds / sizeof kinds[0] * (sizeof spreads / sizeof spreads[0]) * 2; j++) {
            test_program t;
            program_begin(&t, s);
            vt_output(&t.builder, "y", identity(&t, kinds[j / 2 % 3], (vt_activation)i));
            float *in = random_map(s, 3, spreads[j / 6], 0.0f);
            float *want = malloc(shape_count(s) * sizeof *want);
            for (size_t e = 0; e < shape_count(s); e++) {
                want[e] = (float)activate((vt_activation)i, (double)in[e]);
            }
            char what[64];
            snprintf(what, sizeof what, "activation %d of up to %g in %s", i,
                     (double)spreads[j / 6], vt_op_name(kinds[j / 2 % 3]));
            double tolerance =
                i == VT_ACT_TANH && j % 2 ? TANH_ERROR / tanh((double)spreads[j / 6]) : 0.0;
            run_and_compare(&t, test_devices[j % 2], 0, in, want, fmax(tolerance, tolerance_f32(1)),
                            what);
            free(in);
            free(want);
        }
    }
}

/* ---- of each element ------------------------------------------------------------------------- */

static void test_affine(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        vt_shape s = {2, 5, 3, 19};
        test_program t;
        program_begin(&t, s);
        vt_affine a = {.scale = random_vector(&t, s.c, 1, 0.5f, 1.0f)};
        if (i / 2) {
            a.shift = random_vector(&t, s.c, 2, 0.5f, 0.0f);
        }
        vt_output(&t.builder, "y", vt_op_affine(&t.builder, vt_input(&t.builder), &a));
        float *in = random_map(s, 3, 2.0f, 0.25f), *want = malloc(shape_count(s) * sizeof *want);
        const float *scale = t.values[a.scale.id], *shift = t.values[a.shift.id];
        for (int64_t e = 0; e < (int64_t)shape_count(s); e++) {
            want[e] = (float)((double)in[e] * (double)scale[e % s.c] +
                              (shift ? (double)shift[e % s.c] : 0.0));
        }
        run_and_compare(&t, test_devices[i % 2], 0, in, want, 2e-7, "affine");
        free(in);
        free(want);
    }
}

typedef struct pair_with {
    vt_shape a, b;
} pair_with;

static void plain_mul(const test_program *t, const void *with, const float *in, const float *second,
                      float *want)
{
    (void)t;
    const pair_with *u = with;
    for (int64_t i = 0; i < (int64_t)shape_count(u->a); i++) {
        int64_t c = i % u->a.c, x = i / u->a.c % u->a.w, y = i / (u->a.c * u->a.w) % u->a.h;
        bool one = u->b.h == 1 && u->b.w == 1;
        double b = pixel(second, u->b, i / (u->a.c * u->a.w * u->a.h), one ? 0 : y, one ? 0 : x, c);
        want[i] = (float)((double)in[i] * b);
    }
}

/* A product of two f32 in double is exact, so that its rounding is too. */
static void test_mul(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        vt_shape s = {2, 5, 3, 19};
        test_program t;
        program_begin(&t, s);
        vt_value x = vt_input(&t.builder), b;
        if (i / 2) {
            b = second_map(&t, s.c);
        } else {
            b = vt_op_mean_pool(&t.builder, x);
            vt_output(&t.builder, "second", b);
        }
        pair_with u = {s, vt_value_shape(&t.builder, b)};
        vt_output(&t.builder, "y", vt_op_mul(&t.builder, x, b));
        float *in = random_map(s, 3, 2.0f, 0.25f);
        run_and_compare_formula(&t, test_devices[i % 2], in, plain_mul, &u, 0.0, "mul");
        free(in);
    }
}

static void plain_concat(const test_program *t, const void *with, const float *in,
                         const float *second, float *want)
{
    (void)t;
    const pair_with *u = with;
    int64_t total = u->a.c + u->b.c;
    for (int64_t i = 0; i < u->a.n * u->a.h * u->a.w * total; i++) {
        int64_t p = i / total, c = i % total;
        want[i] = c < u->a.c ? in[p * u->a.c + c] : second[p * u->b.c + c - u->a.c];
    }
}

static void test_concat(void **state)
{
    (void)state;
    static const int channels[] = {1, 5, 32};
    for (size_t i = 0; i < 2 * (sizeof channels / sizeof channels[0]); i++) {
        vt_shape s = {2, 5, 3, 7};
        test_program t;
        program_begin(&t, s);
        vt_value x = vt_input(&t.builder), b = second_map(&t, channels[i / 2]);
        pair_with u = {s, vt_value_shape(&t.builder, b)};
        vt_output(&t.builder, "y", vt_op_concat(&t.builder, x, b));
        float *in = random_map(s, 3, 2.0f, 0.25f);
        run_and_compare_formula(&t, test_devices[i % 2], in, plain_concat, &u, 0.0, "concat");
        free(in);
    }
}

/* ---- pooling --------------------------------------------------------------------------------- */

typedef struct pool_case {
    vt_shape in;
    int kernel, stride, top, left, bottom, right;
} pool_case;

static const pool_case pool_cases[] = {
    {{2, 1, 1, 1}, 1, 1, 0, 0, 0, 0},   {{2, 7, 5, 3}, 3, 2, 1, 1, 1, 1},
    {{2, 9, 11, 6}, 2, 2, 0, 0, 1, 1},  {{2, 10, 7, 17}, 3, 1, 2, 0, 1, 2},
    {{2, 13, 8, 5}, 5, 3, 1, 4, 3, 0},  {{2, 2, 3, 4}, 3, 2, 1, 1, 1, 1},
    {{2, 11, 7, 33}, 2, 3, 0, 1, 0, 1},
};

/* All values are below zero: a place outside must not win. */
static void plain_pool(const pool_case *k, vt_pool_kind kind, vt_shape d, const float *in,
                       float *want)
{
    for (int64_t i = 0; i < (int64_t)shape_count(d); i++) {
        int64_t c = i % d.c, n = i / (d.c * d.w * d.h);
        int64_t x = i / d.c % d.w * k->stride - k->left;
        int64_t y = i / (d.c * d.w) % d.h * k->stride - k->top;
        double sum = 0, largest = -INFINITY;
        for (int64_t sy = y; sy < y + k->kernel; sy++) {
            for (int64_t sx = x; sx < x + k->kernel; sx++) {
                double value = pixel(in, k->in, n, sy, sx, c); /* a zero is outside */
                sum += value;
                largest = value < 0.0 ? fmax(largest, value) : largest;
            }
        }
        want[i] = (float)(kind == VT_POOL_MAX ? largest : sum / (k->kernel * k->kernel));
    }
}

static void test_pool(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * (sizeof pool_cases / sizeof pool_cases[0]); i++) {
        const pool_case *k = &pool_cases[i / 4];
        vt_pooling p = {.kind = i & 2 ? VT_POOL_MAX : VT_POOL_MEAN,
                        .kernel = k->kernel,
                        .stride = k->stride,
                        .pad_top = k->top,
                        .pad_left = k->left,
                        .pad_bottom = k->bottom,
                        .pad_right = k->right};
        test_program t;
        program_begin(&t, k->in);
        vt_value y = vt_op_pool(&t.builder, vt_input(&t.builder), &p);
        vt_shape d = vt_value_shape(&t.builder, y);
        assert_int_equal(d.h, (k->in.h + k->top + k->bottom - k->kernel) / k->stride + 1);
        assert_int_equal(d.w, (k->in.w + k->left + k->right - k->kernel) / k->stride + 1);
        vt_output(&t.builder, "y", y);
        float *in = random_map(k->in, 3, 2.0f, -2.5f);
        float *want = malloc(shape_count(d) * sizeof *want);
        plain_pool(k, p.kind, d, in, want);
        char what[64];
        snprintf(what, sizeof what, "pool case %zu, kind %d", i / 4, (int)p.kind);
        run_and_compare(&t, test_devices[i % 2], 0, in, want,
                        p.kind == VT_POOL_MAX ? 0.0 : tolerance_f32(k->kernel * k->kernel), what);
        free(in);
        free(want);
    }
}

/* ---- deformable patches ---------------------------------------------------------------------- */

typedef struct deform_case {
    vt_shape in;
    int kernel;
    float reach; /* of the offsets, in pixels */
} deform_case;

static const deform_case deform_cases[] = {
    {{2, 7, 5, 6}, 2, 0.5f}, {{2, 9, 11, 5}, 3, 2.0f}, {{2, 5, 3, 19}, 1, 1.5f},
    {{2, 9, 7, 3}, 2, 9.0f}, {{2, 8, 13, 4}, 4, 0.0f},
};

/* The four pixels around a place and how far it is from the first. */
static double between(const float *map, vt_shape s, int64_t n, double y, double x, int64_t c)
{
    int64_t top = (int64_t)floor(y), left = (int64_t)floor(x);
    double down = y - floor(y), right = x - floor(x);
    double upper =
        pixel(map, s, n, top, left, c) * (1 - right) + pixel(map, s, n, top, left + 1, c) * right;
    double lower = pixel(map, s, n, top + 1, left, c) * (1 - right) +
                   pixel(map, s, n, top + 1, left + 1, c) * right;
    return upper * (1 - down) + lower * down;
}

static void plain_deform(const test_program *t, const void *with, const float *in,
                         const float *second, float *want)
{
    (void)t;
    const deform_case *k = with;
    int64_t taps = k->kernel * k->kernel, h = k->in.h / k->kernel, w = k->in.w / k->kernel;
    for (int64_t i = 0; i < k->in.n * h * w * taps * k->in.c; i++) {
        int64_t c = i % k->in.c, tap = i / k->in.c % taps, p = i / (k->in.c * taps);
        double dy = (double)second[(p * taps + tap) * 2];
        double dx = (double)second[(p * taps + tap) * 2 + 1];
        want[i] = (float)between(in, k->in, p / (h * w),
                                 (double)(p / w % h * k->kernel + tap / k->kernel) + dy,
                                 (double)(p % w * k->kernel + tap % k->kernel) + dx, c);
    }
}

/* Offsets of every pixel: a convolution with random numbers as its bias. */
static void check_deform(const deform_case *k, const char *device)
{
    int64_t taps = k->kernel * k->kernel;
    test_program t;
    program_begin(&t, k->in);
    vt_conv2d conv = {.kernel_h = k->kernel,
                      .kernel_w = k->kernel,
                      .stride_h = k->kernel,
                      .stride_w = k->kernel,
                      .dilation_h = 1,
                      .dilation_w = 1};
    conv.weight = random_matrix(&t, 2 * taps, taps * k->in.c, 5);
    conv.bias = random_vector(&t, 2 * taps, 6, k->reach, 0.0f);
    for (int64_t i = 0; k->reach == 0.0f && i < 2 * taps * taps * k->in.c; i++) {
        t.values[conv.weight.id][i] = 0.0f;
    }
    vt_value x = vt_input(&t.builder), offsets = vt_op_conv2d(&t.builder, x, &conv);
    vt_output(&t.builder, "second", offsets);
    vt_output(&t.builder, "y", vt_op_deform_patches(&t.builder, x, offsets, k->kernel));
    float *in = random_map(k->in, 3, 1.0f, 0.25f);
    char what[64];
    snprintf(what, sizeof what, "deform_patches case %d", (int)(k - deform_cases));
    run_and_compare_formula(&t, device, in, plain_deform, k, 1e-5, what);
    free(in);
}

static void test_deform_patches(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof deform_cases / sizeof deform_cases[0]); i++) {
        check_deform(&deform_cases[i / 2], test_devices[i % 2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depthwise),      cmocka_unit_test(test_activations),
        cmocka_unit_test(test_affine),         cmocka_unit_test(test_mul),
        cmocka_unit_test(test_concat),         cmocka_unit_test(test_pool),
        cmocka_unit_test(test_deform_patches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
