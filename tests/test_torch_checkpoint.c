/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch files as torch and training frameworks write them: values through every kind of view,
 * where the weights are found, and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/checkpoint_support.h"

typedef struct fixture {
    const char *name, *format, *root;
    size_t count;
    const char *classes;
} fixture;

static const fixture fixtures[] = {
    {"zip_p2.pth", "pytorch zip", "", 25, NULL},
    {"zip_p3.pth", "pytorch zip", "", 25, NULL},
    {"zip_p4.pth", "pytorch zip", "", 25, NULL},
    {"zip_p5.pth", "pytorch zip", "", 25, NULL},
    {"legacy_p2.pth", "pytorch legacy", "", 25, NULL},
    {"legacy_p3.pth", "pytorch legacy", "", 25, NULL},
    {"legacy_p4.pth", "pytorch legacy", "", 25, NULL},
    {"legacy_p5.pth", "pytorch legacy", "", 25, NULL},
    {"python2.pth", "pytorch legacy", "", 2, NULL},
    {"big_endian.pth", "pytorch zip", "", 4, NULL},
    {"swin.pth", "pytorch zip", "model", 2, NULL},
    {"timm.pth.tar", "pytorch zip", "state_dict", 2, NULL},
    {"nested_ema.pth", "pytorch zip", "model", 2, NULL},
    {"mmcv.pth", "pytorch zip", "state_dict", 2, "wall\nsky"},
    {"mmengine.pth", "pytorch zip", "state_dict", 2, "tench\ngoldfish\nshark"},
    {"cyclic.pth", "pytorch zip", "state_dict", 2, NULL},
    {"parameters.pth", "pytorch zip", "", 2, NULL},
    {"mixed.pth", "pytorch zip", "", 2, NULL},
};
enum { FIXTURES = sizeof fixtures / sizeof *fixtures };

static const char *fixture_path(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, CK_FIXTURES "%s", name);
    return path;
}

static void test_fixtures(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    for (size_t i = 0; i < FIXTURES; i++) {
        const fixture *f = &fixtures[i];
        vt_checkpoint *cp;
        vt_error error = {0};
        vt_checkpoint_settings settings = vt_checkpoint_settings_default();
        settings.verify = true;
        if (vt_checkpoint_open(&cp, context, fixture_path(f->name), &settings, &error) != VT_OK) {
            fail_msg("%s", error.message);
        }
        assert_string_equal(vt_checkpoint_format(cp), f->format);
        assert_string_equal(vt_checkpoint_root(cp), f->root);
        assert_int_equal(vt_checkpoint_count(cp), f->count);
        const char *classes = vt_checkpoint_metadata(cp, "classes");
        assert_true(!classes == !f->classes);
        if (classes) {
            assert_string_equal(classes, f->classes);
        }
        ck_check_values(cp, 0);
        vt_checkpoint_close(&cp);
    }
    vt_context_destroy(&context);
}

static void test_stored_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        vt_dtype dtype;
        int rank;
        int64_t shape[4];
    } cases[] = {
        {"patch.weight", VT_F32, 4, {4, 3, 2, 2}},
        {"norm.f16", VT_F16, 1, {7}},
        {"norm.bf16", VT_BF16, 2, {3, 3}},
        {"norm.f64", VT_F64, 1, {5}},
        {"index.i64", VT_I64, 2, {4, 4}},
        {"index.i32", VT_I32, 1, {3}},
        {"index.i16", VT_I16, 1, {3}},
        {"index.i8", VT_I8, 1, {3}},
        {"mask.u8", VT_U8, 1, {9}},
        {"mask.bool", VT_BOOL, 1, {6}},
        {"scalar", VT_F32, 0, {0}},
        {"empty", VT_F32, 2, {0, 3}},
        {"transposed", VT_F32, 2, {3, 4}},
        {"channels_last", VT_F32, 4, {2, 3, 4, 2}},
        {"expand5.rows", VT_F32, 2, {3, 5}},
    };
    vt_context *context = ck_context(NULL);
    for (int legacy = 0; legacy < 2; legacy++) {
        vt_checkpoint *cp;
        const char *path = fixture_path(legacy ? "legacy_p2.pth" : "zip_p2.pth");
        assert_int_equal(vt_checkpoint_open(&cp, context, path, NULL, NULL), VT_OK);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const vt_checkpoint_entry *e = vt_checkpoint_find(cp, cases[i].name);
            assert_non_null(e);
            assert_int_equal(e->dtype, cases[i].dtype);
            assert_int_equal(e->rank, cases[i].rank);
            assert_memory_equal(e->shape, cases[i].shape, (size_t)e->rank * sizeof *e->shape);
        }
        /* File order is the dictionary's. */
        assert_string_equal(vt_checkpoint_at(cp, 0)->name, "patch.weight");
        assert_string_equal(vt_checkpoint_at(cp, 24)->name, "num_batches_tracked");
        vt_checkpoint_close(&cp);
    }
    vt_context_destroy(&context);
}

static void test_roots(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool ema;
        const char *root;
        vt_status status;
        const char *found; /* root, or part of the message */
        float plus;
    } cases[] = {
        {"timm.pth.tar", true, NULL, VT_OK, "state_dict_ema", 64},
        {"nested_ema.pth", true, NULL, VT_OK, "ema.module", 64},
        {"nested_ema.pth", false, "ema.module", VT_OK, "ema.module", 64},
        {"nested_ema.pth", true, "model", VT_OK, "model", 0},
        {"timm.pth.tar", false, "state_dict_ema", VT_OK, "state_dict_ema", 64},
        {"zip_p2.pth", false, "", VT_OK, "", 0},
        {"swin.pth", true, NULL, VT_ERR_NOT_FOUND, "moving average", 0},
        {"zip_p2.pth", true, NULL, VT_ERR_NOT_FOUND, "moving average", 0},
        {"swin.pth", false, "modell", VT_ERR_NOT_FOUND, "'modell'", 0},
        {"swin.pth", false, "optimizer", VT_ERR_NOT_FOUND, "'optimizer'", 0},
        {"swin.pth", false, "model.head.weight", VT_ERR_NOT_FOUND, "dictionary", 0},
        {"swin.pth", false, "model.", VT_ERR_NOT_FOUND, "dictionary", 0},
        {"swin.pth", false, ".", VT_ERR_NOT_FOUND, "dictionary", 0},
        {"cyclic.pth", false, "self.self.self.state_dict", VT_OK, "self.self.self.state_dict", 0},
        {"nothing.pth", false, NULL, VT_ERR_FORMAT, "'optimizer' (a dictionary)", 0},
        {"standard.safetensors", true, NULL, VT_ERR_NOT_FOUND, "one set of weights", 0},
        {"standard.safetensors", false, "model", VT_ERR_NOT_FOUND, "one set of weights", 0},
        {"module.pth", false, NULL, VT_ERR_UNSUPPORTED, "torch.nn.modules.linear.Linear", 0},
        {"bare.pkl", false, NULL, VT_ERR_UNSUPPORTED, "bare pickle", 0},
    };
    vt_context *context = ck_context(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vt_checkpoint *cp;
        vt_error error = {0};
        vt_checkpoint_settings settings = {.ema = cases[i].ema, .root = cases[i].root};
        vt_status status =
            vt_checkpoint_open(&cp, context, fixture_path(cases[i].name), &settings, &error);
        if (status != cases[i].status || (status && !strstr(error.message, cases[i].found))) {
            fail_msg("%s, root %s: %s (%s)", cases[i].name, cases[i].root ? cases[i].root : "-",
                     vt_status_name(status), error.message);
        }
        if (status == VT_OK) {
            assert_string_equal(vt_checkpoint_root(cp), cases[i].found);
            ck_check_values(cp, cases[i].plus);
        } else {
            assert_null(cp);
            assert_ptr_equal(strstr(error.message, CK_FIXTURES), error.message);
            assert_null(strstr(error.message + 1, CK_FIXTURES)); /* the path stands there once */
            assert_null(strchr(error.message, '\n'));
        }
        vt_checkpoint_close(&cp);
    }
    vt_context_destroy(&context);
}

static void test_odd_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *name, *message;
        vt_status status;
    } cases[] = {
        {"sparse", "tensor 'sparse': it is not a plain dense tensor", VT_ERR_FORMAT},
        {"quantised", "_rebuild_qtensor", VT_ERR_FORMAT},
        {"meta", "not a plain dense tensor", VT_ERR_FORMAT},
        {"complex", "element type", VT_ERR_UNSUPPORTED},
        {"f8", "element type", VT_ERR_UNSUPPORTED},
        {"u16", "element type", VT_ERR_UNSUPPORTED},
    };
    vt_context *context = ck_context(NULL);
    vt_checkpoint *cp;
    assert_int_equal(vt_checkpoint_open(&cp, context, fixture_path("odd.pth"), NULL, NULL), VT_OK);
    assert_int_equal(vt_checkpoint_count(cp), 7);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vt_error error = {0};
        const vt_checkpoint_entry *e = vt_checkpoint_find(cp, cases[i].name);
        assert_int_equal(vt_checkpoint_read(cp, e, 0, 0, NULL, &error), cases[i].status);
        if (!strstr(error.message, cases[i].message)) {
            fail_msg("%s: %s", cases[i].name, error.message);
        }
    }
    float out[6];
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "good"), 0, 6, out, NULL),
                     VT_OK);
    assert_true(out[5] == ck_expected("good", VT_F32, 5, 0));
    vt_checkpoint_close(&cp);
    vt_context_destroy(&context);
}

/* Views larger than the reader's window: every order of the axes, gaps, repeats, any range. */
static void test_large_views(void **state)
{
    (void)state;
    enum { N = 210000 };
    float *storage = malloc(N * sizeof *storage);
    for (int i = 0; i < N; i++) {
        storage[i] = (float)i;
    }
    const ck_tensor tensors[] = {
        {"plain", NULL, NULL, N, 0, 1, {N}, {1}},
        {"transposed", NULL, NULL, N, 0, 2, {420, 500}, {1, 420}},
        {"slice", NULL, NULL, N, 7, 2, {400, 3}, {525, 1}},
        {"wide slice", NULL, NULL, N, 100, 2, {2, 90001}, {100000, 1}},
        {"step", NULL, NULL, N, 1, 1, {9999}, {21}},
        {"sparse step", NULL, NULL, N, 5, 1, {11}, {20000}},
        {"permuted", NULL, NULL, N, 0, 4, {25, 60, 14, 10}, {14, 3500, 1, 350}},
        {"ones", NULL, NULL, N, 3, 5, {1, 300, 1, 700, 1}, {7, 699, 9, 1, 999999}},
        {"expand", NULL, NULL, N, 11, 3, {3, 1000, 4}, {0, 200, 0}},
        {"overlap", NULL, NULL, N, 0, 2, {300, 400}, {1, 1}},
        {"last", NULL, NULL, N, N - 1, 0, {0}, {0}},
    };
    enum { COUNT = sizeof tensors / sizeof *tensors };
    ck_bytes file = {0};
    ck_torch(&file, tensors, COUNT, storage, N * sizeof *storage);
    vt_context *context = ck_context(NULL);
    vt_checkpoint *cp;
    vt_error error = {0};
    if (ck_open(&cp, context, &file, NULL, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    float *out = malloc(N * sizeof *out);
    for (size_t i = 0; i < COUNT; i++) {
        const ck_tensor *t = &tensors[i];
        const vt_checkpoint_entry *e = vt_checkpoint_find(cp, t->name);
        for (int64_t part = 0; part < 5; part++) {
            int64_t first = e->elements * part / 7, count = e->elements - first - first / 2;
            if (vt_checkpoint_read(cp, e, first, count, out, &error) != VT_OK) {
                fail_msg("%s", error.message);
            }
            for (int64_t k = 0; k < count; k++) {
                int64_t rest = first + k, want = t->offset;
                for (int d = t->rank - 1; d >= 0; d--) {
                    want += rest % t->shape[d] * t->stride[d];
                    rest /= t->shape[d];
                }
                if (out[k] != (float)want) {
                    fail_msg("%s[%lld]: %g, want %lld", t->name, (long long)(first + k),
                             (double)out[k], (long long)want);
                }
            }
        }
    }
    /* Several threads on one checkpoint. */
    int wrong = 0;
#pragma omp parallel for num_threads(4) reduction(+ : wrong)
    for (int i = 0; i < 64; i++) {
        float mine[1000];
        const vt_checkpoint_entry *e = vt_checkpoint_at(cp, 1);
        wrong += vt_checkpoint_read(cp, e, i * 3000, 1000, mine, NULL) != VT_OK;
        for (int k = 0; k < 1000; k++) {
            int at = i * 3000 + k;
            wrong += mine[k] != (float)(at % 500 * 420 + at / 500);
        }
    }
    assert_int_equal(wrong, 0);
    vt_checkpoint_close(&cp);
    free(storage);
    free(out);
    ck_clear(&file);
    vt_context_destroy(&context);
}

static void test_verify(void **state)
{
    (void)state;
    const float storage[4] = {1, 2, 3, 4};
    const ck_tensor tensor = {"a", NULL, NULL, 4, 0, 1, {4}, {1}};
    ck_bytes file = {0};
    ck_torch(&file, &tensor, 1, storage, sizeof storage);
    vt_context *context = ck_context(NULL);
    vt_checkpoint *cp;
    vt_checkpoint_settings settings = {.verify = true};
    assert_int_equal(ck_open(&cp, context, &file, &settings, NULL), VT_OK);
    vt_checkpoint_close(&cp);
    for (size_t i = 0; i + sizeof storage <= file.size; i++) {
        if (memcmp(file.data + i, storage, sizeof storage) == 0) {
            file.data[i] ^= 1;
            break;
        }
    }
    vt_error error = {0};
    assert_int_equal(ck_open(&cp, context, &file, &settings, &error), VT_ERR_FORMAT);
    assert_non_null(strstr(error.message, "CRC of 'archive/data/0'"));
    assert_int_equal(ck_open(&cp, context, &file, NULL, NULL), VT_OK);
    vt_checkpoint_close(&cp);
    ck_clear(&file);
    vt_context_destroy(&context);
}

/* The k-th allocation fails, for every k: an honest error and no leak. */
static void test_memory(void **state)
{
    (void)state;
    static const char *const others[] = {"standard.safetensors", "model.safetensors.index.json",
                                         "pytorch_model.bin.index.json"};
    ck_allocations allocations = {0};
    vt_context *context = ck_context(&allocations);
    for (size_t i = 0; i < FIXTURES + 3; i++) {
        const char *path = fixture_path(i < FIXTURES ? fixtures[i].name : others[i - FIXTURES]);
        vt_status status = VT_ERR_MEMORY;
        for (size_t k = 1; status != VT_OK; k++) {
            vt_checkpoint *cp;
            vt_error error = {0};
            allocations.fail_at = allocations.calls + k;
            status = vt_checkpoint_open(&cp, context, path, NULL, &error);
            if (status != VT_OK && status != VT_ERR_MEMORY) {
                fail_msg("allocation %zu: %s", k, error.message);
            }
            vt_checkpoint_close(&cp);
            assert_int_equal(allocations.live, 1);
            assert_true(k < 1000);
        }
    }
    allocations.fail_at = 0;
    vt_context_destroy(&context);
    assert_int_equal(allocations.live, 0);
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
        cmocka_unit_test(test_fixtures),    cmocka_unit_test(test_stored_types),
        cmocka_unit_test(test_roots),       cmocka_unit_test(test_odd_tensors),
        cmocka_unit_test(test_large_views), cmocka_unit_test(test_verify),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("torch checkpoints", tests, NULL, remove_files);
}
