/* SPDX-License-Identifier: Apache-2.0 */
/* NumPy arrays in .npy files: one array of numbers per file. */
#ifndef VERTEBRA_NPY_H
#define VERTEBRA_NPY_H

#include <stdint.h>

#include "vertebra/context.h"

VT_BEGIN_DECLS

enum { VT_NPY_MAX_RANK = 8 };

typedef struct vt_npy {
    float *data; /* row-major; never NULL after a successful read */
    int rank;    /* 0: one element */
    int64_t shape[VT_NPY_MAX_RANK];
} vt_npy;

/* Reads an array of float32, float16, float64 or uint8 (little-endian, C order, format version 1
 * to 3) and converts it to f32. Clear `out` with vt_npy_clear; after a failure it is empty.
 * Errors: VT_ERR_IO, VT_ERR_FORMAT, VT_ERR_UNSUPPORTED (element type, byte order, Fortran order),
 * VT_ERR_LIMIT (rank), VT_ERR_MEMORY. */
vt_status vt_npy_read(vt_context *context, const char *path, vt_npy *out, vt_error *error);

/* Writes shape[0..rank) float32 elements, C order, format version 1. The file appears under its
 * name only when it is complete.
 * Errors: VT_ERR_ARGUMENT (rank, negative sizes), VT_ERR_IO, VT_ERR_MEMORY. */
vt_status vt_npy_write_f32(vt_context *context, const char *path, const float *data, int rank,
                           const int64_t *shape, vt_error *error);

/* Frees the data. Accepts an empty array; `context` is the one that read it. */
void vt_npy_clear(vt_context *context, vt_npy *array);

VT_END_DECLS
#endif
