/* SPDX-License-Identifier: Apache-2.0 */
/* Every network, size and batch that the families' tests compare with other programs on the CPU
 * (tests/fixtures, support/model_fixture.h), on a GPU in each element type: one test for each case
 * and type. Exits with 77 where there is no GPU or no CUDA side. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "support/gpu_model.h"
#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_nano_v2.h"

enum { MOST = 1024, SKIPPED = 77 };

typedef struct model_case {
    const json_t *fixture;
    vt_dtype dtype;
    char name[200];
} model_case;

static vt_context *gpu;
static model_case cases[MOST];
static struct CMUnitTest tests[MOST];
static size_t count;

static void test_model(void **state)
{
    const model_case *k = *state;
    if (!fixture_fits(k->fixture, k->dtype)) {
        print_message("its maps go beyond %s: sums stay f32\n", vt_dtype_name(k->dtype));
    }
    print_message("logits off by %.1e\n", fixture_check(gpu, k->dtype, k->fixture));
}

static void add_file(const json_t *root)
{
    static const vt_dtype types[] = {VT_F32, VT_BF16, VT_F16};
    const json_t *fixture;
    size_t i;
    json_array_foreach(fixture_member(root, "cases"), i, fixture)
    {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            assert_true(count < MOST);
            model_case *k = &cases[count];
            char title[160];
            fixture_title(fixture, title, sizeof title);
            snprintf(k->name, sizeof k->name, "%s %s", vt_dtype_name(types[t]), title);
            k->fixture = fixture;
            k->dtype = types[t];
            tests[count++] = (struct CMUnitTest){k->name, test_model, NULL, NULL, k};
        }
    }
}

/* test_cuda_models [PATTERN]: only the tests whose name fits, such as "f16 swin*" */
int main(int argc, char **argv)
{
    enum { MOST_FILES = 64 };
    json_t *files[MOST_FILES];
    vt_error error = {0};
    glob_t found;
    gpu = gpu_context(gpu_device(), true);
    if (!gpu) {
        puts("no network was run on a GPU");
        return SKIPPED;
    }
    expect_status(vt_context_register(gpu, &nano_v2_family, &error), VT_OK, &error);
    assert_int_equal(glob("tests/fixtures/*/logits.json", 0, NULL, &found), 0);
    assert_true(found.gl_pathc <= MOST_FILES);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        files[i] = fixture_load(found.gl_pathv[i]);
        add_file(files[i]);
    }
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    int failed = _cmocka_run_group_tests("models", tests, count, NULL, NULL);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        json_decref(files[i]);
    }
    globfree(&found);
    vt_context_destroy(&gpu);
    return failed;
}
