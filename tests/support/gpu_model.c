/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

const char *const gpu_outputs[OUTPUTS] = {"logits", "embedding", "C2", "C3", "C4", "C5", "cam"};

const char *gpu_device(void)
{
    const char *name = getenv("VT_TEST_DEVICE");
    return name ? name : "cuda";
}

vt_context *gpu_context(const char *device, bool fuse)
{
    vt_context *context = NULL;
    vt_error error = {0};
    vt_context_settings s = vt_context_settings_default();
    s.device = device;
    s.fuse = fuse;
    if (vt_context_create(&context, &s, &error) != VT_OK) {
        assert_true(error.status == VT_ERR_UNSUPPORTED || error.status == VT_ERR_DEVICE);
        print_message("%s\n", error.message);
    }
    return context;
}

vt_model *gpu_golden(vt_context *context, const char *name, vt_dtype dtype, vt_window_rule rule)
{
    vt_model *model = NULL;
    vt_error error = {0};
    vt_model_settings s = vt_model_settings_default();
    s.dtype = dtype;
    s.window_rule = rule;
    if (vt_model_golden(&model, context, name, 10, &s, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return model;
}

vt_session *gpu_session(const vt_model *model)
{
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings s = {.outputs = gpu_outputs, .output_count = OUTPUTS};
    if (vt_session_create(&session, model, &s, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return session;
}

void gpu_run(vt_session *session, int64_t n, int64_t h, int64_t w)
{
    vt_error error = {0};
    float *picture = malloc((size_t)(3 * n * h * w) * sizeof *picture);
    assert_non_null(picture);
    vt_golden_picture(n, h, w, picture);
    vt_tensor in = vt_tensor_nchw(picture, VT_F32, n, 3, h, w);
    if (vt_session_forward(session, &in, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    free(picture);
}

vt_tensor gpu_output(const vt_session *session, const char *name)
{
    vt_tensor t;
    vt_error error = {0};
    if (vt_session_output(session, name, &t, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return t;
}
