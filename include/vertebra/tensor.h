/* SPDX-License-Identifier: Apache-2.0 */
/* Element types and strided views. */
#ifndef VERTEBRA_TENSOR_H
#define VERTEBRA_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "vertebra/status.h"

VT_BEGIN_DECLS

/* Element types. Networks compute in F32, BF16 or F16; the others occur in checkpoints. */
typedef enum vt_dtype {
    VT_F32 = 0,
    VT_BF16,
    VT_F16,
    VT_F64,
    VT_I8,
    VT_I16,
    VT_I32,
    VT_I64,
    VT_U8,
    VT_BOOL,
    VT_DTYPE_OTHER /* known to the file format, but not readable here (complex, f8, u16 ...) */
} vt_dtype;

/* Bytes of one element; 0 for VT_DTYPE_OTHER. */
size_t vt_dtype_size(vt_dtype dtype);

/* "f32", "bf16", ...; never NULL. */
const char *vt_dtype_name(vt_dtype dtype);

/* A borrowed view of a feature map [n, h, w, c]. Strides are in elements, so that NHWC, NCHW and
 * windows of larger buffers are the same thing. A token sequence is a map with its tokens as
 * pixels; a vector has h = w = 1. Views never own memory. */
typedef struct vt_tensor {
    void *data;
    vt_dtype dtype;
    int64_t n, h, w, c;
    int64_t stride_n, stride_h, stride_w, stride_c;
} vt_tensor;

/* Dense views: NHWC has stride_c = 1, NCHW has stride_w = 1. */
vt_tensor vt_tensor_nhwc(void *data, vt_dtype dtype, int64_t n, int64_t h, int64_t w, int64_t c);
vt_tensor vt_tensor_nchw(void *data, vt_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w);

VT_END_DECLS
#endif
