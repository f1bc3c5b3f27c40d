/* SPDX-License-Identifier: Apache-2.0 */
/* A model inside a program that has its own CUDA streams and device memory: nothing is copied
 * through the host and nothing waits. Needs no CUDA header: a cudaStream_t or a CUstream is a
 * `struct CUstream_st *`.
 *
 *     vt_tensor in = vt_tensor_nchw(device_pointer, VT_F16, n, 3, h, w), logits;
 *     vt_session_prepare(session, n, h, w, &error);                  (once per size)
 *     vt_session_forward_cuda(session, &in, stream, &error);         (enqueued on `stream`)
 *     vt_session_output_cuda(session, "logits", &logits, &error);    (device pointer, dtype)
 *     my_kernel<<<..., stream>>>(logits.data);                       (on the same stream)
 *
 * The contexts, models and sessions are those of vertebra.h, of a context whose device is "cuda" or
 * "cuda:N". Every call, failing ones too, leaves the calling thread's current device as it was. A
 * session is used by one thread at a time; several sessions may work on several streams at once. */
#ifndef VERTEBRA_CUDA_H
#define VERTEBRA_CUDA_H

#include "vertebra/context.h"
#include "vertebra/session.h"

struct CUstream_st;

VT_BEGIN_DECLS

/* Enqueues the network on the caller's stream and returns without waiting.
 *
 * input    device memory of this session's GPU (or managed, or pinned host memory): f32 or the
 *          model's own dtype, c = 3, any strides (in elements), normalised as vt_preprocess_run
 *          does. Read when the stream gets there: keep it unchanged until then.
 * stream   of this session's GPU. NULL is the legacy default stream, with its usual order against
 *          the program's blocking streams; cudaStreamPerThread may be given as well.
 *
 * Order: the network starts after everything enqueued on `stream` before the call and, whichever
 * streams they used, after the session's earlier forwards. The one thing that is not waited for is
 * the caller's own reading of earlier outputs on another stream: order that with an event.
 *
 * A size that was not prepared is planned first, which allocates and may wait for the device. A
 * session that profiles waits after each operation.
 *
 * A stream that is being captured gets the network's operations as nodes of the caller's graph. The
 * size must be prepared by vt_session_prepare before (after every larger one). The graph uses the
 * session's memory: launch it as long as the session lives and no larger size has been prepared,
 * and order its launches against other forwards of the session. Nothing has run when this returns,
 * so that only vt_session_output_cuda answers afterwards. While any stream is being captured, other
 * sessions may be made, prepared and run; destroying a session or context then spoils the capture,
 * because cuBLASLt waits for the device.
 *
 * Errors: VT_ERR_UNSUPPORTED (the context's device is not a GPU; capturing while profiling),
 * VT_ERR_ARGUMENT (type, channels, memory that the GPU cannot read or another GPU's, another GPU's
 * stream, capturing a size that is not prepared), those of vt_session_prepare, VT_ERR_DEVICE. */
vt_status vt_session_forward_cuda(vt_session *session, const vt_tensor *input,
                                  struct CUstream_st *stream, vt_error *error);

/* An output of the last forward where it lies in device memory: dense NHWC, f32 or the model's own
 * dtype as out->dtype says (f32 where only the caller reads it, as with logits), owned by the
 * session. After vt_session_forward_cuda it is written when that call's stream gets
 * there: read it on that stream, or on one that waits for it. (After vt_session_forward this waits
 * until it is written.) Valid until the session's next forward, prepare or destroy.
 * Errors: VT_ERR_UNSUPPORTED (not a GPU), VT_ERR_NOT_FOUND (not among this session's outputs, or
 * nothing has run). */
vt_status vt_session_output_cuda(const vt_session *session, const char *name, vt_tensor *out,
                                 vt_error *error);

/* What the driver counts on this context's GPU, all programs together, in bytes. Either pointer may
 * be NULL. Errors: VT_ERR_UNSUPPORTED (not a GPU), VT_ERR_DEVICE. */
vt_status vt_context_cuda_memory(const vt_context *context, size_t *free_bytes, size_t *total_bytes,
                                 vt_error *error);

VT_END_DECLS
#endif
