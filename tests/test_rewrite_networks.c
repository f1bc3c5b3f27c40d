/* SPDX-License-Identifier: Apache-2.0 */
/* Whole networks with and without rewrites: all outputs for a picture of an odd size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "support/model_compare.h"

static const char *const outputs[] = {"logits", "embedding", "cam", "C2", "C3", "C4", "C5"};
enum { OUTPUTS = sizeof outputs / sizeof outputs[0] };

/* All outputs of a model for a picture of an odd size; returns the number of records. */
static size_t run_fused(const char *device, bool fuse, const char *name, network_output *results)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.device = device;
    settings.threads = 2;
    settings.fuse = fuse;
    vt_context *context = test_context_with(&settings);
    vt_model *model = golden_model(context, name, VT_WINDOW_PAD, 0, 0);
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings wanted = {.outputs = outputs, .output_count = OUTPUTS};
    expect_status(vt_session_create(&session, model, &wanted, &error), VT_OK, &error);
    forward_picture(session, 1, 75, 61);
    for (int i = 0; i < OUTPUTS; i++) {
        results[i] = take_output(session, outputs[i]);
    }
    size_t records = 0;
    vt_op_info info;
    while (vt_session_op(session, records, &info)) {
        records++;
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return records;
}

static void check_network(const char *name, size_t records, size_t fused)
{
    network_output first[OUTPUTS], results[OUTPUTS];
    assert_int_equal(run_fused("ref", false, name, first), records);
    for (int run = 1; run < 4; run++) {
        const char *device = test_devices[run / 2];
        size_t count = run_fused(device, run % 2, name, results);
        assert_int_equal(count, run % 2 ? fused : records);
        for (int i = 0; i < OUTPUTS; i++) {
            assert_int_equal(results[i].count, first[i].count);
            compare(results[i].data, first[i].data, first[i].count, TOLERANCE_NETWORK_F32,
                    "%s: %s, fuse %d, on %s", name, outputs[i], run % 2, device);
            free(results[i].data);
        }
    }
    for (int i = 0; i < OUTPUTS; i++) {
        free(first[i].data);
    }
}

/* Unfused: embedding 2, merging 3 x 3, block 9 (attention 3, MLP 2, 2 norms, 2 adds), tail: norm,
 * pool, logits, cam. Fused: embedding 1, merging 3, block 5 (qkv, attention, proj, fc1, fc2), tail:
 * the norm is read twice and stays. */
static void test_swin_nano(void **state)
{
    (void)state;
    check_network("swin_nano_patch4_window7_224", 2 + 9 + 10 * 9 + 4, 1 + 3 + 10 * 5 + 4);
}

static void test_swin_v2(void **state)
{
    (void)state;
    check_network("swinv2_tiny_window8_256", 2 + 9 + 12 * 9 + 4, 1 + 3 + 12 * 5 + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_swin_nano),
        cmocka_unit_test(test_swin_v2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
