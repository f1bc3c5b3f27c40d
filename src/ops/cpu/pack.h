/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VT_OPS_CPU_PACK_H
#define VT_OPS_CPU_PACK_H

#include "ops/backend.h"

/* Brings a weight into the form that the kernels read: see pack.c. */
vt_status vt_cpu_pack(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error);

#endif
