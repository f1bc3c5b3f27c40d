/* SPDX-License-Identifier: Apache-2.0 */
/* DaViT against timm (tests/fixtures/davit): logits, maps after each stage; its namings and those
 * of Florence-2; parameter counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_names.h"

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_all("davit", "cpu", test_slow_ones() ? 1e9 : 1100),
                     test_slow_ones() ? 9 : 2);
    assert_int_equal(fixture_check_all("davit", "ref", test_slow_ones() ? 2000 : 900),
                     test_slow_ones() ? 3 : 1);
}

/* Files of 28 million parameters. */
static void test_names(void **state)
{
    (void)state;
    if (!test_slow_ones()) {
        skip();
    }
    assert_int_equal(check_all_names("davit", 9, 14), 4);
}

static void test_stage_norms(void **state)
{
    (void)state;
    check_stage_norms("davit_tiny", 1e-5, 33, 64);
}

static const struct {
    const char *model;
    int64_t parameters; /* as timm counts them */
    size_t tensors;
} counts[] = {
    {"davit_tiny", 28360168, 212},    {"davit_small", 49745896, 404},
    {"davit_base", 87954408, 404},    {"davit_large", 196811752, 404},
    {"davit_huge", 348922856, 404},   {"davit_large_window12_384", 196811752, 404},
    {"davit_base_fl", 90370048, 402}, {"davit_huge_fl", 360636416, 402},
};

static void test_parameter_counts(void **state)
{
    (void)state;
    vt_context *context = test_context("ref");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t tensors;
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters);
        assert_int_equal(tensors, counts[i].tensors);
    }
    vt_context_destroy(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_stage_norms),
        cmocka_unit_test(test_parameter_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
