/* SPDX-License-Identifier: Apache-2.0 */
/* VAN against a network written from the formulas in Python (tests/fixtures/van, made by
 * tools/fixtures/van.py), which reproduces the authors' logits: logits, maps after each stage,
 * names, the eps of the authors' segmentation code, parameter counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_names.h"

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_all("van", "cpu", test_slow_ones() ? 1e9 : 1100),
                     test_slow_ones() ? 9 : 2);
    assert_int_equal(fixture_check_all("van", "ref", test_slow_ones() ? 2000 : 900),
                     test_slow_ones() ? 3 : 1);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(check_all_names("van", 40, 67), 4);
}

static const struct {
    const char *model;
    int64_t parameters;  /* as the authors count them */
    int64_t batch_norms; /* channels: a file has two numbers more for each, mean and variance */
} counts[] = {
    {"van_b0", 4105800, 3712},    {"van_b1", 13861800, 6400},         {"van_b2", 26578472, 12928},
    {"van_b3", 44765608, 23040},  {"van_b4", 60283176, 31616},        {"van_b5", 89967688, 30912},
    {"van_b6", 199829416, 83232}, {"van_b6.in22k", 215856145, 83232},
};

static void test_parameter_counts(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t tensors;
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters + 2 * counts[i].batch_norms);
    }
    vt_context_destroy(&context);
}

/* The norms have the eps of the file's publisher: mmpretrain's and the dense code's differ. */
static void test_eps(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    const vt_family *family;
    assert_non_null(vt_variant_find(context, "van_b0", &family));
    for (const vt_dialect *d = family->dialects; d->name; d++) {
        bool dense = strncmp(d->probe, "backbone.", 9) == 0;
        assert_float_equal(d->norm_eps, dense ? 1e-5f : 0.0f, 1e-12f);
    }
    vt_context_destroy(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_eps),
        cmocka_unit_test(test_parameter_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
