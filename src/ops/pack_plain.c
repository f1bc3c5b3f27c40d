/* SPDX-License-Identifier: Apache-2.0 */
#include "core/checked.h"
#include "ops/backend.h"

vt_status vt_pack_plain(const vt_allocator *allocator, const vt_row_source *source,
                        vt_weight_data *out, vt_error *error)
{
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
