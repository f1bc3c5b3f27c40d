/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts, golden models and sessions for the tests on the GPU; a failure ends the test. */
#ifndef TESTS_SUPPORT_GPU_MODEL_H
#define TESTS_SUPPORT_GPU_MODEL_H

#include "vertebra/vertebra.h"

#define NANO "swin_nano_patch4_window7_224"

enum { OUTPUTS = 7 };
extern const char *const gpu_outputs[OUTPUTS];

/* "cuda", or what VT_TEST_DEVICE names: the emulation runs networks on "cuda:1". */
const char *gpu_device(void);

/* A context, or NULL when the device cannot be had here. */
vt_context *gpu_context(const char *device, bool fuse);

/* With 10 classes. */
vt_model *gpu_golden(vt_context *context, const char *name, vt_dtype dtype, vt_window_rule rule);

/* With all OUTPUTS. */
vt_session *gpu_session(const vt_model *model);

/* One forward of the golden picture of this size. */
void gpu_run(vt_session *session, int64_t n, int64_t h, int64_t w);

vt_tensor gpu_output(const vt_session *session, const char *name);

#endif
