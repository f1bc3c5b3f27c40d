/* SPDX-License-Identifier: Apache-2.0 */
/* What the library's own files may ask of a context. */
#ifndef VT_CORE_CONTEXT_H
#define VT_CORE_CONTEXT_H

#include "core/memory.h"
#include "vertebra/context.h"

VT_BEGIN_DECLS /* libvertebra_image uses these */

    /* Sends one line to the caller's log callback, if there is one. */
    void
    vt_log(const vt_context *context, vt_log_level level, const char *format, ...) VT_PRINTF(3, 4);

/* Reports progress; false when the caller wants to stop. */
bool vt_progress(const vt_context *context, const char *what, uint64_t done, uint64_t total);

int vt_context_threads(const vt_context *context);
bool vt_context_fuses(const vt_context *context);
bool vt_context_reproducible(const vt_context *context);

struct vt_family;
/* Family i that was registered with this context, or NULL; and adding one (false: no memory). */
const struct vt_family *vt_context_registered(const vt_context *context, size_t i);
bool vt_context_add_family(vt_context *context, const struct vt_family *family);

/* The side that computes: see ops/backend.h. Never NULL. */
const struct vt_backend *vt_context_backend(const vt_context *context);

VT_END_DECLS

#endif
