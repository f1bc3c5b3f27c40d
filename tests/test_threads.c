/* SPDX-License-Identifier: Apache-2.0 */
/* The number of threads never changes a bit; sessions on several threads share one model; the
 * instruction sets agree to rounding. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_tiny.h"

static const char *const outputs[] = {"logits", "cam", "C2", "C3"};
enum { OUTPUTS = 4 };

typedef struct result {
    network_output data[OUTPUTS];
} result;

static void free_result(result *r)
{
    for (int i = 0; i < OUTPUTS; i++) {
        free(r->data[i].data);
    }
}

static void same_bits(const result *got, const result *want, const char *what)
{
    for (int i = 0; i < OUTPUTS; i++) {
        assert_int_equal(got->data[i].count, want->data[i].count);
        compare_bits(got->data[i].data, want->data[i].data, want->data[i].count, "%s: %s", what,
                     outputs[i]);
    }
}

static result run(const vt_model *model, int64_t n, int64_t h, int64_t w)
{
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings settings = {.outputs = outputs, .output_count = OUTPUTS};
    expect_status(vt_session_create(&session, model, &settings, &error), VT_OK, &error);
    forward_picture(session, n, h, w);
    result r;
    for (int i = 0; i < OUTPUTS; i++) {
        r.data[i] = take_output(session, outputs[i]);
    }
    vt_session_destroy(&session);
    return r;
}

static result run_with(const char *name, int threads, vt_isa isa, bool fuse, int64_t n, int64_t h,
                       int64_t w)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.threads = threads;
    settings.isa = isa;
    settings.fuse = fuse;
    vt_context *context = tiny_context(&settings);
    vt_model *model = golden_model(context, name, VT_WINDOW_PAD, 0, 0);
    result r = run(model, n, h, w);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return r;
}

static const struct {
    const char *model;
    int64_t n, h, w;
} cases[] = {
    {"swin_nano_patch4_window7_224", 1, 75, 61},
    {"swin_nano_patch4_window7_224", 3, 130, 98},
    {"swin_nano_patch4_window7_224", 1, 9, 9},
    {"tiny_v1", 2, 71, 33},
    {"tiny_v2", 5, 37, 53},
    {"tiny_v2", 1, 1, 1},
};

static void test_thread_counts(void **state)
{
    (void)state;
    static const int counts[] = {2, 3, 7};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int fuse = 0; fuse < 2; fuse++) {
            int64_t n = cases[i].n, h = cases[i].h, w = cases[i].w;
            result want = run_with(cases[i].model, 1, VT_ISA_AUTO, fuse, n, h, w);
            for (int k = 0; k < 3; k++) {
                char what[96];
                snprintf(what, sizeof what, "%s, %d threads, fuse %d", cases[i].model, counts[k],
                         fuse);
                result got = run_with(cases[i].model, counts[k], VT_ISA_AUTO, fuse, n, h, w);
                same_bits(&got, &want, what);
                free_result(&got);
            }
            free_result(&want);
        }
    }
}

/* ---- instruction sets ------------------------------------------------------------------------ */

static bool offered(vt_isa isa)
{
    vt_context *context = NULL;
    vt_error error = {0};
    vt_context_settings settings = vt_context_settings_default();
    settings.isa = isa;
    vt_status status = vt_context_create(&context, &settings, &error);
    vt_context_destroy(&context);
    if (status != VT_OK) {
        expect_error(status, VT_ERR_UNSUPPORTED, &error, "this processor has no");
    }
    return status == VT_OK;
}

static void test_instruction_sets(void **state)
{
    (void)state;
    assert_true(offered(VT_ISA_PORTABLE));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t n = cases[i].n, h = cases[i].h, w = cases[i].w;
        result want = run_with(cases[i].model, 2, VT_ISA_PORTABLE, true, n, h, w);
        for (int isa = VT_ISA_AVX2; isa <= VT_ISA_AVX512_BF16; isa++) {
            if (!offered((vt_isa)isa)) {
                continue;
            }
            result got = run_with(cases[i].model, 2, (vt_isa)isa, true, n, h, w);
            for (int k = 0; k < OUTPUTS; k++) {
                compare(got.data[k].data, want.data[k].data, want.data[k].count,
                        TOLERANCE_NETWORK_F32, "%s: %s, instruction set %d", cases[i].model,
                        outputs[k], isa);
            }
            free_result(&got);
        }
        free_result(&want);
    }
}

/* ---- several threads of the caller ----------------------------------------------------------- */

typedef struct worker {
    const vt_model *model;
    int64_t size;
    result results[4];
    bool failed;
} worker;

/* No cmocka in here: only the main thread may fail a test. */
static void *work(void *user)
{
    worker *w = user;
    vt_session *session = NULL;
    vt_session_settings settings = {.outputs = outputs, .output_count = OUTPUTS};
    w->failed = vt_session_create(&session, w->model, &settings, NULL) != VT_OK;
    for (int round = 0; round < 4 && !w->failed; round++) {
        int64_t size = w->size + 7 * round;
        float *picture = malloc((size_t)(2 * 3 * size * size) * sizeof *picture);
        vt_golden_picture(2, size, size, picture);
        vt_tensor input = vt_tensor_nchw(picture, VT_F32, 2, 3, size, size), out;
        w->failed = vt_session_forward(session, &input, NULL) != VT_OK;
        for (int i = 0; i < OUTPUTS && !w->failed; i++) {
            w->failed = vt_session_output(session, outputs[i], &out, NULL) != VT_OK;
            size_t count = (size_t)(out.n * out.h * out.w * out.c);
            w->results[round].data[i] =
                (network_output){malloc(count * sizeof(float)), out.n, out.h, out.w, out.c, count};
            memcpy(w->results[round].data[i].data, out.data, count * sizeof(float));
        }
        free(picture);
    }
    vt_session_destroy(&session);
    return NULL;
}

static void check_sharing(const char *device, const char *name)
{
    enum { WORKERS = 4 };
    vt_context_settings settings = vt_context_settings_default();
    settings.device = device;
    settings.threads = 2;
    vt_context *context = tiny_context(&settings);
    vt_model *model = golden_model(context, name, VT_WINDOW_PAD, 0, 0);
    worker workers[WORKERS] = {{0}};
    pthread_t threads[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i].model = model;
        workers[i].size = 20 + 7 * (i % 2); /* the same sizes twice */
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < WORKERS; i++) {
        assert_false(workers[i].failed);
        for (int round = 0; round < 4; round++) {
            int64_t size = workers[i].size + 7 * round;
            result want = run(model, 2, size, size);
            same_bits(&workers[i].results[round], &want, name);
            free_result(&want);
            free_result(&workers[i].results[round]);
        }
    }
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

static void test_sessions_share_a_model(void **state)
{
    (void)state;
    for (const char *const *device = test_devices; *device; device++) {
        check_sharing(*device, "tiny_v1");
        check_sharing(*device, "tiny_v2");
    }
    check_sharing("cpu", "swin_nano_patch4_window7_224");
}

/* ---- settings -------------------------------------------------------------------------------- */

static void test_settings(void **state)
{
    (void)state;
    static const struct {
        const char *device;
        int threads;
        vt_isa isa;
        vt_status status;
    } bad[] = {{"gpu", 0, VT_ISA_AUTO, VT_ERR_ARGUMENT},
               {"", 0, VT_ISA_AUTO, VT_ERR_ARGUMENT},
               {"cpu", -1, VT_ISA_AUTO, VT_ERR_ARGUMENT},
               {"cpu", 1 << 20, VT_ISA_AUTO, VT_ERR_ARGUMENT},
               {"cpu", 1, (vt_isa)77, VT_ERR_ARGUMENT}};
    vt_context *context;
    vt_error error = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        vt_context_settings settings = vt_context_settings_default();
        settings.device = bad[i].device;
        settings.threads = bad[i].threads;
        settings.isa = bad[i].isa;
        context = (vt_context *)&error;
        expect_status(vt_context_create(&context, &settings, &error), bad[i].status, &error);
        assert_null(context);
        assert_true(error.message[0] != '\0');
    }
    expect_status(vt_context_create(NULL, NULL, &error), VT_ERR_ARGUMENT, &error);
    expect_status(vt_context_create(&context, NULL, &error), VT_OK, &error);
    assert_non_null(strstr(vt_context_description(context), "cpu"));
    assert_non_null(strstr(vt_context_description(context), "thread"));
    vt_context_destroy(&context);
    vt_context_destroy(&context);
    vt_context_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_counts),
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_sessions_share_a_model),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
