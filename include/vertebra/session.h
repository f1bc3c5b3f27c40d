/* SPDX-License-Identifier: Apache-2.0 */
/* A session: one thread's execution of a model. Shapes are free per call: each (batch, height,
 * width) is planned once and kept. */
#ifndef VERTEBRA_SESSION_H
#define VERTEBRA_SESSION_H

#include "vertebra/model.h"
#include "vertebra/tensor.h"

VT_BEGIN_DECLS

typedef struct vt_session vt_session;

typedef struct vt_session_settings {
    /* Which outputs to compute, by name: "logits", "embedding", "cam", "C2" ... "C5". Default:
     * "logits", or "C5" for a model without a head. Fewer outputs need less memory. The strings are
     * copied. */
    const char *const *outputs;
    int output_count;
    bool profile;     /* time every operation */
    bool check_range; /* VT_ERR_NUMERIC at the first operation whose result is not finite */
} vt_session_settings;

/* `settings` may be NULL. The model must outlive the session. One thread at a time.
 * Errors: VT_ERR_ARGUMENT, VT_ERR_UNSUPPORTED (check_range on a GPU), VT_ERR_DEVICE,
 * VT_ERR_MEMORY. */
vt_status vt_session_create(vt_session **session, const vt_model *model,
                            const vt_session_settings *settings, vt_error *error);
void vt_session_destroy(vt_session **session);

/* Plans and allocates for pictures of this size; afterwards vt_session_forward on it allocates
 * nothing. Errors: VT_ERR_ARGUMENT (a size below 1), VT_ERR_NOT_FOUND (an output that the network
 * lacks), VT_ERR_MEMORY, VT_ERR_LIMIT. */
vt_status vt_session_prepare(vt_session *session, int64_t n, int64_t h, int64_t w, vt_error *error);

/* Bytes of activations and scratch that this size takes, without allocating them. Errors: those of
 * prepare. */
vt_status vt_session_memory(vt_session *session, int64_t n, int64_t h, int64_t w, size_t *bytes,
                            vt_error *error);

/* Runs the network on `input`: f32, c = 3, any strides (see vt_tensor_nchw), normalised as
 * vt_preprocess_run does. Prepares first when the shape is new.
 * Errors: those of prepare, VT_ERR_CANCELLED, VT_ERR_NUMERIC (check_range). */
vt_status vt_session_forward(vt_session *session, const vt_tensor *input, vt_error *error);

/* A view of an output of the last forward: f32, dense NHWC, owned by the session and valid until
 * its next call. Errors: VT_ERR_ARGUMENT (NULL), VT_ERR_NOT_FOUND (not among this session's
 * outputs, or nothing has run), VT_ERR_DEVICE. */
vt_status vt_session_output(const vt_session *session, const char *name, vt_tensor *out,
                            vt_error *error);

/* How long the network of the last forward took, in seconds, without bringing the input to the
 * device and the outputs back. Waits for the device. Errors: VT_ERR_ARGUMENT (NULL),
 * VT_ERR_NOT_FOUND (nothing has run), VT_ERR_DEVICE. */
vt_status vt_session_elapsed(const vt_session *session, double *seconds, vt_error *error);

/* One operation of the current plan. */
typedef struct vt_op_info {
    const char *kind, *label, *implementation;
    double flops, bytes; /* from shapes: multiply-add = 2; each operand once */
    double seconds;      /* of the last forward; 0 unless profiling */
} vt_op_info;

/* Operation i of the plan of the last prepared or run shape; false when out of range. */
bool vt_session_op(const vt_session *session, size_t i, vt_op_info *info);

VT_END_DECLS
#endif
