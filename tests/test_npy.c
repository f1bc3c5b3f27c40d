/* SPDX-License-Identifier: Apache-2.0 */
/* .npy: what NumPy writes, what we write, and damaged headers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/checkpoint_support.h"
#include "vertebra/npy.h"

static void check_file(vt_context *context, const char *name, vt_dtype dtype, int rank,
                       int64_t first, int64_t elements)
{
    char path[256];
    vt_npy array;
    vt_error error = {0};
    snprintf(path, sizeof path, CK_FIXTURES "npy/%s.npy", name);
    if (vt_npy_read(context, path, &array, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(array.rank, rank);
    if (rank > 0) {
        assert_int_equal(array.shape[0], first);
    }
    for (int64_t e = 0; e < elements; e++) {
        assert_true(array.data[e] == ck_expected("npy", dtype, e, 0));
    }
    vt_npy_clear(context, &array);
    assert_null(array.data);
    vt_npy_clear(context, &array);
}

static void test_numpy_files(void **state)
{
    (void)state;
    ck_allocations allocations = {0};
    vt_context *context = ck_context(&allocations);
    check_file(context, "f32", VT_F32, 2, 2, 6);
    check_file(context, "f16", VT_F16, 2, 2, 6);
    check_file(context, "f64", VT_F64, 2, 2, 6);
    check_file(context, "u8", VT_U8, 2, 2, 6);
    check_file(context, "version2", VT_F32, 2, 2, 6);
    check_file(context, "version3", VT_F32, 2, 2, 6);
    check_file(context, "scalar", VT_F32, 0, 0, 1);
    check_file(context, "vector", VT_F32, 1, 5, 5);
    check_file(context, "empty", VT_F32, 2, 0, 0);
    static const char *const refused[] = {"i32", "big", "fortran"};
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        vt_npy array;
        snprintf(path, sizeof path, CK_FIXTURES "npy/%s.npy", refused[i]);
        assert_int_equal(vt_npy_read(context, path, &array, NULL), VT_ERR_UNSUPPORTED);
        assert_null(array.data);
    }
    assert_int_equal(allocations.live, 1);
    vt_context_destroy(&context);
}

static void test_round_trip(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    enum { COUNT = 3 * 70001 };
    float *data = malloc(COUNT * sizeof *data);
    for (int i = 0; i < COUNT; i++) {
        data[i] = sinf((float)i) * 1e10f;
    }
    data[0] = NAN;
    data[1] = -INFINITY;
    data[2] = 1e-45f;
    static const int64_t shapes[][VT_NPY_MAX_RANK] = {
        {COUNT}, {3, 70001}, {1, 3, 1, 70001, 1, 1, 1, 1}, {4, 0, 7}};
    static const int ranks[] = {1, 2, 8, 3, 0};
    for (int i = 0; i < 5; i++) {
        const char *path = ck_path("array.npy");
        vt_npy array;
        assert_int_equal(
            vt_npy_write_f32(context, path, data, ranks[i], i < 4 ? shapes[i] : NULL, NULL), VT_OK);
        assert_int_equal(vt_npy_read(context, path, &array, NULL), VT_OK);
        assert_int_equal(array.rank, ranks[i]);
        int64_t count = 1;
        for (int d = 0; d < array.rank; d++) {
            assert_int_equal(array.shape[d], shapes[i][d]);
            count *= array.shape[d];
        }
        assert_memory_equal(array.data, data, (size_t)count * sizeof *data);
        vt_npy_clear(context, &array);
    }
    free(data);
    vt_context_destroy(&context);
}

static void test_write_failures(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    const float data[2] = {1, 2};
    const int64_t shape[9] = {2, 1, 1, 1, 1, 1, 1, 1, 1}, negative[1] = {-1};
    const int64_t huge[3] = {INT64_MAX, INT64_MAX, 2};
    const char *path = ck_path("fails.npy");
    assert_int_equal(vt_npy_write_f32(context, path, data, 9, shape, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_npy_write_f32(context, path, data, -1, shape, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_npy_write_f32(context, path, data, 1, negative, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_npy_write_f32(context, path, data, 3, huge, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_npy_write_f32(context, path, NULL, 1, shape, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_npy_write_f32(context, NULL, data, 1, shape, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_npy_write_f32(context, ck_path("no/such/folder.npy"), data, 1, shape, NULL),
                     VT_ERR_IO);
    /* A folder stands where the file should go: the temporary file is taken away again. */
    assert_int_equal(mkdir(ck_path("taken"), 0777), 0);
    assert_int_equal(mkdir(ck_path("taken/dir"), 0777), 0);
    assert_int_equal(vt_npy_write_f32(context, ck_path("taken/dir"), data, 1, shape, NULL),
                     VT_ERR_IO);
    assert_int_equal(rmdir(ck_path("taken/dir")), 0);
    assert_int_equal(rmdir(ck_path("taken")), 0);
    vt_context_destroy(&context);
}

static void write_npy(const char *path, const char *dictionary, size_t data)
{
    ck_bytes file = {0};
    ck_text(&file, "\x93NUMPY\1");
    ck_number(&file, 0, 1);
    ck_number(&file, strlen(dictionary), 2);
    ck_text(&file, dictionary);
    for (size_t i = 0; i < data; i++) {
        ck_number(&file, 0, 1);
    }
    ck_save(path, file.data, file.size);
    ck_clear(&file);
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t data;
        vt_status status;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 8, VT_OK},
        {"{\"shape\":(2),\"descr\":\"<f4\",\"fortran_order\":False}\n", 8, VT_OK},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,)}", 8, VT_OK},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 4, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 12, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, }", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2, }", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, }", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'shape': (2,), }", 8, VT_ERR_FORMAT},
        {"{'fortran_order': False, 'shape': (2,), }", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8,
         VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, VT_ERR_FORMAT},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", 8, VT_ERR_FORMAT},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8, VT_ERR_UNSUPPORTED},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 8, VT_ERR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2)}", 8, VT_ERR_LIMIT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,4294967296)}", 8,
         VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387906,)}", 8,
         VT_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 8,
         VT_ERR_FORMAT},
        {"", 0, VT_ERR_FORMAT},
        {"{", 0, VT_ERR_FORMAT},
        {"{}", 0, VT_ERR_FORMAT},
        {"{'", 0, VT_ERR_FORMAT},
    };
    vt_context *context = ck_context(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vt_npy array;
        vt_error error = {0};
        const char *path = ck_path("header.npy");
        write_npy(path, cases[i].text, cases[i].data);
        vt_status status = vt_npy_read(context, path, &array, &error);
        if (status != cases[i].status) {
            fail_msg("%s: %s (%s)", cases[i].text, vt_status_name(status), error.message);
        }
        vt_npy_clear(context, &array);
    }
    vt_npy array;
    assert_int_equal(vt_npy_read(context, ck_path("absent.npy"), &array, NULL), VT_ERR_IO);
    assert_int_equal(vt_npy_read(NULL, "x", &array, NULL), VT_ERR_ARGUMENT);
    vt_context_destroy(&context);
}

/* Cut at every byte: an error. Every allocation failing in turn: an error and no leak. */
static void test_cuts_and_memory(void **state)
{
    (void)state;
    ck_allocations allocations = {0};
    vt_context *context = ck_context(&allocations);
    ck_bytes file = ck_load(CK_FIXTURES "npy/version2.npy");
    vt_npy array;
    for (size_t size = 0; size < file.size; size++) {
        const char *path = ck_path("cut.npy");
        ck_save(path, file.data, size);
        assert_int_equal(vt_npy_read(context, path, &array, NULL), VT_ERR_FORMAT);
    }
    vt_status status = VT_ERR_MEMORY;
    for (size_t k = 1; status != VT_OK; k++) {
        assert_true(k < 10);
        allocations.fail_at = allocations.calls + k;
        status = vt_npy_read(context, CK_FIXTURES "npy/f16.npy", &array, NULL);
        assert_true(status == VT_OK || status == VT_ERR_MEMORY);
    }
    allocations.fail_at = allocations.calls + 1;
    const int64_t shape[1] = {6};
    const char *path = ck_path("memory.npy");
    assert_int_equal(vt_npy_write_f32(context, path, array.data, 1, shape, NULL), VT_ERR_MEMORY);
    assert_int_equal(access(path, F_OK), -1);
    vt_npy_clear(context, &array);
    assert_int_equal(allocations.live, 1);
    ck_clear(&file);
    vt_context_destroy(&context);
}

static int remove_files(void **state)
{
    (void)state;
    ck_remove_folder();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numpy_files),     cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_write_failures),  cmocka_unit_test(test_headers),
        cmocka_unit_test(test_cuts_and_memory),
    };
    return cmocka_run_group_tests_name("npy", tests, NULL, remove_files);
}
