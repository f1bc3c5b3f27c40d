/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

#include "core/checked.h"

#define ONLY(impl) ((const vt_impl *const[]){&impl, NULL})

static const char *refuse_dtype(vt_dtype dtype)
{
    return dtype == VT_F32 ? NULL : "the reference computes in f32 only";
}

/* Plain row-major f32. */
static vt_status pack(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error)
{
    (void)backend;
    (void)use;
    size_t bytes;
    if (!vt_mul_size((size_t)out->rows, (size_t)out->cols, &bytes) ||
        !vt_mul_size(bytes, sizeof(float), &bytes)) {
        return vt_error_set(error, VT_ERR_LIMIT, "the weight is too large");
    }
    float *data = vt_alloc(allocator, bytes);
    if (!data) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a weight");
    }
    vt_status status = source->read(source->user, 0, out->rows, data, error);
    if (status != VT_OK) {
        vt_free(allocator, data);
        return status;
    }
    out->dtype = VT_F32;
    out->data = data;
    out->bytes = bytes;
    return VT_OK;
}

const vt_backend vt_backend_ref = {
    .name = "reference",
    .impls =
        {
            [VT_OP_LINEAR] = ONLY(vt_ref_linear),
            [VT_OP_CONV2D] = ONLY(vt_ref_conv2d),
            [VT_OP_NORM] = ONLY(vt_ref_norm),
            [VT_OP_ATTENTION] = ONLY(vt_ref_attention),
            [VT_OP_ADD] = ONLY(vt_ref_add),
            [VT_OP_SPACE_TO_DEPTH] = ONLY(vt_ref_space_to_depth),
            [VT_OP_MEAN_POOL] = ONLY(vt_ref_mean_pool),
        },
    .refuse_dtype = refuse_dtype,
    .pack = pack,
};
