/* SPDX-License-Identifier: Apache-2.0 */
/* The one symbol that libvertebra looks up in libvertebra_cuda. Its name changes with the structs
 * of ops/backend.h, so that libraries of different versions refuse each other. */
#ifndef VT_OPS_CUDA_ENTRY_H
#define VT_OPS_CUDA_ENTRY_H

#include "ops/backend.h"

#define VT_CUDA_OPEN      vt_cuda_open_4
#define VT_CUDA_OPEN_NAME "vt_cuda_open_4"

typedef vt_status vt_cuda_open_fn(const vt_backend **backend, int index,
                                  const vt_allocator *allocator, vt_error *error);

#endif
