/* SPDX-License-Identifier: Apache-2.0 */
#include "formula.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_compare.h"
#include "random.h"

float *random_map(vt_shape s, uint32_t seed, float scale, float offset)
{
    float *map = malloc(shape_count(s) * sizeof *map);
    assert_non_null(map);
    random_fill(map, shape_count(s), seed, scale, offset);
    return map;
}

double pixel(const float *map, vt_shape s, int64_t n, int64_t y, int64_t x, int64_t c)
{
    bool inside = y >= 0 && y < s.h && x >= 0 && x < s.w;
    return inside ? (double)map[((n * s.h + y) * s.w + x) * s.c + c] : 0.0;
}

double activate(vt_activation act, double x)
{
    switch (act) {
    case VT_ACT_GELU: return x * 0.5 * erfc(-x / sqrt(2.0));
    case VT_ACT_GELU_TANH:
        return x / (1.0 + exp(-2.0 * sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case VT_ACT_SILU: return x / (1.0 + exp(-x));
    case VT_ACT_RELU: return fmax(x, 0.0);
    case VT_ACT_SIGMOID: return 1.0 / (1.0 + exp(-x));
    case VT_ACT_TANH: return tanh(x);
    case VT_ACT_NONE: break;
    }
    return x;
}

void run_and_compare(test_program *t, const char *device, unsigned rewrites, const float *input,
                     const float *want, double tolerance, const char *what)
{
    size_t count;
    program_result result = program_run(t, device, rewrites, input);
    const float *got = result_data(&result, "y", &count);
    compare(got, want, count, tolerance, "%s on %s", what, device);
    result_clear(&result);
    program_end(t);
}

vt_value second_map(test_program *t, int64_t out)
{
    vt_value x = vt_input(&t->builder);
    vt_linear l = {.weight = random_matrix(t, out, vt_value_shape(&t->builder, x).c, 77)};
    vt_value second = vt_op_linear(&t->builder, x, &l);
    vt_output(&t->builder, "second", second);
    return second;
}

void run_and_compare_formula(test_program *t, const char *device, const float *input,
                             formula *write, const void *with, double tolerance, const char *what)
{
    size_t count;
    program_result result = program_run(t, device, 0, input);
    const float *second = result.count > 1 ? result_data(&result, "second", &count) : NULL;
    const float *got = result_data(&result, "y", &count);
    float *want = malloc(count * sizeof *want);
    assert_non_null(want);
    write(t, with, input, second, want);
    compare(got, want, count, tolerance, "%s on %s", what, device);
    free(want);
    result_clear(&result);
    program_end(t);
}
