/* SPDX-License-Identifier: Apache-2.0 */
/* A forward in two steps, for callers that bring one session's pictures to a device while another
 * session's network runs there. */
#ifndef VT_MODEL_SESSION_H
#define VT_MODEL_SESSION_H

#include "io/packed.h"
#include "vertebra/session.h"

/* The input of the next vt_session_start, as vt_session_forward takes it; no other call in between.
 * The caller's pictures have been read when it returns. */
vt_status vt_session_bring(vt_session *session, const vt_tensor *input, vt_error *error);

/* The same from packed pictures, on a device that has stage_pictures: `n` pictures, of which the
 * ones that `batch` does not have are zero. */
vt_status vt_session_bring_packed(vt_session *session, const vt_packed_batch *batch, int64_t n,
                                  int64_t h, int64_t w, vt_error *error);

/* Starts the network on what was brought; vt_session_elapsed waits for it. On a device it begins
 * when the last run of `after`, a session of the same model, has ended (NULL: at once), so that
 * both take the time that they take alone and the device never waits for the host in between. */
vt_status vt_session_start(vt_session *session, const vt_session *after, vt_error *error);

#endif
