/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of single operations write their formulas with, in double. */
#ifndef TESTS_SUPPORT_FORMULA_H
#define TESTS_SUPPORT_FORMULA_H

#include "model_program.h"

/* A map of random numbers, see random_fill; the caller frees it. */
float *random_map(vt_shape s, uint32_t seed, float scale, float offset);

/* Pixel (y, x) of image n of a dense map, or 0 outside. */
double pixel(const float *map, vt_shape s, int64_t n, int64_t y, int64_t x, int64_t c);

double activate(vt_activation act, double x);

/* Runs a program whose output "y" is to be `want`, compares and ends it. */
void run_and_compare(test_program *t, const char *device, unsigned rewrites, const float *input,
                     const float *want, double tolerance, const char *what);

/* A second operand: a linear map of the input with `out` channels, as the output "second". */
vt_value second_map(test_program *t, int64_t out);

/* The formula of an operation: writes what "y" is to be. */
typedef void formula(const test_program *t, const void *with, const float *input,
                     const float *second, float *want);

/* The same where a map of the program, its output "second", may be an operand: it is not checked,
 * and the formula is given what was computed, or NULL where there is none. */
void run_and_compare_formula(test_program *t, const char *device, const float *input,
                             formula *write, const void *with, double tolerance, const char *what);

#endif
