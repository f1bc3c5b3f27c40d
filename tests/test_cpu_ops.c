/* SPDX-License-Identifier: Apache-2.0 */
/* Every fast CPU implementation, under each instruction set that this processor has, against the
 * reference; then the promises that need no tolerance: the same bits for any number of threads and
 * for a batch or its images one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/cpu/kernels.h"
#include "support/op_cases.h"

static uint64_t seed;

/* Calls `body` once per instruction set that can run here. */
typedef void (*backend_test)(const vt_backend *backend, const void *user);

static void for_each_backend(backend_test body, const void *user)
{
    for (vt_isa isa = VT_ISA_PORTABLE; isa <= VT_ISA_AVX512_BF16; isa++) {
        const vt_backend *backend;
        if (vt_backend_cpu(&backend, isa, NULL) == VT_OK) {
            body(backend, user);
        }
    }
}

/* The same bits with 1, 2 and 3 threads. Returns the result. */
static float *run_all_threads(const op_case *c, op_where where, const char *name)
{
    where.threads = 1;
    float *one = op_run(c, &where);
    for (where.threads = 2; where.threads <= 3; where.threads++) {
        float *more = op_run(c, &where);
        if (memcmp(one, more, (size_t)op_count(c) * sizeof *one) != 0) {
            fail_msg("%s, %s: %d threads give other bits", name, where.backend->name,
                     where.threads);
        }
        free(more);
    }
    return one;
}

/* The images of a batch one by one: `one` is the same case with batch 1. */
static void expect_same_batch(const op_case *c, op_case *one, const op_where *where,
                              const float *batch, const char *name)
{
    int64_t images = c->program.maps[0].shape.n, count = op_count(one);
    for (size_t i = 0; i < c->builder.weight_count; i++) {
        if (c->weights[i]) {
            memcpy(one->weights[i], c->weights[i],
                   (size_t)(c->shapes[i].rows * c->shapes[i].cols) * sizeof(float));
        }
    }
    for (int64_t n = 0; n < images; n++) {
        for (size_t i = 0; i < c->program.map_count; i++) {
            int64_t size = op_elements(one->program.maps[i].shape);
            if (c->maps[i]) {
                memcpy(one->maps[i], c->maps[i] + n * size, (size_t)size * sizeof(float));
            }
        }
        float *got = op_run(one, where);
        if (memcmp(got, batch + n * count, (size_t)count * sizeof *got) != 0) {
            fail_msg("%s, %s: image %d alone gives other bits", name, where->backend->name, (int)n);
        }
        free(got);
    }
}

/* ---- the shape table ------------------------------------------------------------------------- */

static bool has_matrix(const op_case *c)
{
    bool found = false;
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        found = found || c->uses[i] == VT_USE_MATRIX;
    }
    return found;
}

static void check_impls(op_case *c, op_case *one, const op_entry *e, op_where where)
{
    const vt_impl *impls[OP_MAX_IMPLS];
    int count = op_accepting(c, &where, impls);
    float *want = op_reference(c);
    double limit = op_limit(c, e, where.dtype, want);
    for (int i = 0; i < count; i++) {
        where.impl = impls[i];
        float *got = run_all_threads(c, where, e->name);
        assert_true(op_is_close(&where, c, e->name, got, want, limit));
        expect_same_batch(c, one, &where, got, e->name);
        free(got);
    }
    free(want);
}

static void check_entry(const vt_backend *backend, const void *user)
{
    const op_entry *e = user;
    op_case c, one, *both[] = {&c, &one};
    op_build(&c, e, seed, e->src.n);
    op_build(&one, e, seed, 1);
    for (int i = 0; i < 2; i++) {
        op_set_types(both[i], e->src_half ? VT_BF16 : VT_F32, VT_F32,
                     e->dst_half ? VT_BF16 : VT_F32);
    }
    check_impls(&c, &one, e, (op_where){backend, NULL, VT_F32, 2, NULL});
    if (has_matrix(&c)) {
        check_impls(&c, &one, e, (op_where){backend, NULL, VT_BF16, 2, NULL});
    }
    op_clear(&one);
    op_clear(&c);
}

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < op_entry_count; i++) {
        for_each_backend(check_entry, &op_entries[i]);
    }
}

/* A mean a thousand times the spread: against f64, since the reference loses digits there. */
static void check_large_mean(const vt_backend *backend, const void *user)
{
    (void)user;
    enum { ROWS = 7, WIDTH = 101 };
    op_case c;
    op_begin(&c, seed);
    vt_norm p = {.eps = 1e-5f};
    vt_op_norm(&c.builder, op_map(&c, (vt_shape){1, 1, ROWS, WIDTH}, 1000, 1), &p);
    float *got = op_run(&c, &(op_where){backend, NULL, VT_F32, 1, NULL});
    for (int r = 0; r < ROWS; r++) {
        const float *x = c.maps[0] + r * WIDTH;
        double mean = 0, variance = 0;
        for (int i = 0; i < WIDTH; i++) {
            mean += (double)x[i] / WIDTH;
        }
        for (int i = 0; i < WIDTH; i++) {
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / WIDTH;
        }
        for (int i = 0; i < WIDTH; i++) {
            double want = ((double)x[i] - mean) / sqrt(variance + 1e-5);
            assert_true(fabs((double)got[r * WIDTH + i] - want) < 2e-6);
        }
    }
    free(got);
    op_clear(&c);
}

static void test_large_mean(void **state)
{
    (void)state;
    for_each_backend(check_large_mean, NULL);
}

/* ---- activations ----------------------------------------------------------------------------- */

static double exact(vt_activation act, double x)
{
    switch (act) {
    case VT_ACT_GELU: return 0.5 * x * erfc(-x / sqrt(2.0));
    case VT_ACT_GELU_TANH: return x / (1.0 + exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)));
    case VT_ACT_SILU: return x / (1.0 + exp(-x));
    case VT_ACT_RELU: return x > 0.0 ? x : 0.0;
    case VT_ACT_SIGMOID: return 1.0 / (1.0 + exp(-x));
    case VT_ACT_TANH: return tanh(x);
    case VT_ACT_NONE: break;
    }
    return x;
}

/* Off by at most 2.5e-7 |x| everywhere, zero and far tails included, or 2.5e-7 where the result
 * lies in [-1, 1]; NaN stays NaN. */
static void check_activations(const vt_backend *backend, const void *user)
{
    (void)user;
    enum { COUNT = 40007 };
    const vt_cpu_kernels *k = backend->kernels;
    static float x[COUNT], y[COUNT];
    for (int i = 0; i < COUNT - 7; i++) {
        x[i] = (float)(i - 20000) * 1e-3f;
    }
    const float special[7] = {1e30f, -1e30f, 1e-30f, -1e-30f, 88.7f, -104.0f, NAN};
    memcpy(x + COUNT - 7, special, sizeof special);
    for (vt_activation act = VT_ACT_NONE; act <= VT_ACT_TANH; act++) {
        k->finish(&(vt_cpu_finish){.rows = 1, .cols = COUNT, .src = x, .act = act, .dst = y});
        for (int i = 0; i < COUNT - 1; i++) {
            double want = exact(act, (double)x[i]);
            double size = act == VT_ACT_SIGMOID || act == VT_ACT_TANH ? 1 : fabs((double)x[i]);
            if (!(fabs((double)y[i] - want) <= 2.5e-7 * size)) {
                fail_msg("%s, activation %d at %.9g: %.9g, want %.9g", backend->name, (int)act,
                         (double)x[i], (double)y[i], want);
            }
        }
        assert_true(isnan(y[COUNT - 1]));
    }
}

static void test_activations(void **state)
{
    (void)state;
    for_each_backend(check_activations, NULL);
}

/* ---- choosing an instruction set ------------------------------------------------------------- */

static void test_isa(void **state)
{
    (void)state;
    const vt_backend *best = NULL, *portable = NULL;
    assert_int_equal(vt_backend_cpu(&best, VT_ISA_AUTO, NULL), VT_OK);
    assert_int_equal(vt_backend_cpu(&portable, VT_ISA_PORTABLE, NULL), VT_OK);
    assert_string_equal(portable->name, "cpu portable");
    assert_null(best->refuse_dtype(VT_F32));
    assert_null(best->refuse_dtype(VT_BF16));
    assert_string_equal(best->refuse_dtype(VT_F16), "f16 is for GPUs; use f32 or bf16");
    vt_error error = {0};
    assert_int_equal(vt_backend_cpu(&best, (vt_isa)99, &error), VT_ERR_ARGUMENT);
    printf("best: %s\n", best->name);
}

int main(void)
{
    seed = op_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isa),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_large_mean),
    };
    return cmocka_run_group_tests_name("cpu ops", tests, NULL, NULL);
}
