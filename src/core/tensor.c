/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/tensor.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [VT_F32] = {"f32", 4},
    [VT_BF16] = {"bf16", 2},
    [VT_F16] = {"f16", 2},
    [VT_F64] = {"f64", 8},
    [VT_I8] = {"i8", 1},
    [VT_I16] = {"i16", 2},
    [VT_I32] = {"i32", 4},
    [VT_I64] = {"i64", 8},
    [VT_U8] = {"u8", 1},
    [VT_BOOL] = {"bool", 1},
    [VT_DTYPE_OTHER] = {"other", 0},
};

size_t vt_dtype_size(vt_dtype dtype)
{
    return (unsigned)dtype <= VT_DTYPE_OTHER ? dtypes[dtype].size : 0;
}

const char *vt_dtype_name(vt_dtype dtype)
{
    return (unsigned)dtype <= VT_DTYPE_OTHER ? dtypes[dtype].name : "unknown";
}

vt_tensor vt_tensor_nhwc(void *data, vt_dtype dtype, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (vt_tensor){data, dtype, n, h, w, c, h * w * c, w * c, c, 1};
}

vt_tensor vt_tensor_nchw(void *data, vt_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return (vt_tensor){data, dtype, n, h, w, c, c * h * w, w, 1, h * w};
}
