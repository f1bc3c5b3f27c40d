/* SPDX-License-Identifier: Apache-2.0 */
/* A forward in two steps, for callers that bring one session's pictures to a device while another
 * session's network runs there. */
#ifndef VT_MODEL_SESSION_H
#define VT_MODEL_SESSION_H

#include "io/packed.h"
#include "vertebra/session.h"

/* The input of the next vt_session_compute, which may be shown to no other call in between; as
 * vt_session_forward takes it. The caller's pictures have been read when it returns. */
vt_status vt_session_bring(vt_session *session, const vt_tensor *input, vt_error *error);

/* The same from packed pictures, on a device that has stage_pictures: `n` pictures, of which the
 * ones that `batch` does not have are zero. */
vt_status vt_session_bring_packed(vt_session *session, const vt_packed_batch *batch, int64_t n,
                                  int64_t h, int64_t w, vt_error *error);

/* Runs the network on what was brought and waits until it is done. */
vt_status vt_session_compute(vt_session *session, vt_error *error);

#endif
