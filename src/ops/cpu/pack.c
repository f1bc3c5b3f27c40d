/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in the form that the kernels read. A vector is plain f32. A matrix [out, in] becomes
 * panels of NR outputs, the last one filled up with zeros:
 *   f32:                panel[in][NR]
 *   bf16, dot products: panel[in / 2][NR][2], an odd `in` filled up with zeros
 *   bf16 otherwise:     panel[in][NR] */
#include "ops/cpu/pack.h"

#include <string.h>

#include "core/checked.h"
#include "ops/cpu/gemm.h"

/* rows[count][cols] into one zeroed panel */
static void pack_panel(const vt_cpu_kernels *k, const float *rows, int64_t count, int64_t cols,
                       vt_dtype dtype, void *panel, uint16_t *half)
{
    for (int64_t j = 0; j < count; j++, rows += cols) {
        if (dtype == VT_F32) {
            for (int64_t i = 0; i < cols; i++) {
                ((float *)panel)[i * k->nr + j] = rows[i];
            }
            continue;
        }
        k->narrow(rows, cols, half);
        for (int64_t i = 0; i < cols; i++) {
            int64_t at = k->bf16_pairs ? (i / 2 * k->nr + j) * 2 + i % 2 : i * k->nr + j;
            ((uint16_t *)panel)[at] = half[i];
        }
    }
}

static vt_status pack_matrix(const vt_cpu_kernels *k, const vt_allocator *allocator,
                             const vt_row_source *source, vt_weight_data *out, vt_error *error)
{
    size_t elements, bytes;
    if (out->rows < 1 || out->cols < 1 || out->rows > INT64_MAX - k->nr ||
        !vt_mul_size((size_t)(vt_panel_count(k, out->rows) * k->nr), (size_t)(out->cols + 1),
                     &elements) ||
        !vt_mul_size(elements, sizeof(float), &bytes) || bytes > INT64_MAX) {
        return vt_error_set(error, VT_ERR_LIMIT, "the weight is too large");
    }
    int64_t panel_bytes = vt_panel_bytes(k, out->cols, out->dtype);
    bytes = (size_t)(panel_bytes * vt_panel_count(k, out->rows));
    char *data = vt_alloc(allocator, bytes);
    float *rows = vt_alloc(allocator, (size_t)out->cols * (size_t)k->nr * sizeof *rows);
    uint16_t *half = vt_alloc(allocator, (size_t)out->cols * sizeof *half);
    vt_status status = VT_OK;
    if (!data || !rows || !half) {
        status = vt_error_set(error, VT_ERR_MEMORY, "out of memory for a weight");
    } else {
        memset(data, 0, bytes);
    }
    for (int64_t first = 0; status == VT_OK && first < out->rows; first += k->nr) {
        int64_t count = out->rows - first < k->nr ? out->rows - first : k->nr;
        status = source->read(source->user, first, count, rows, error);
        if (status == VT_OK) {
            pack_panel(k, rows, count, out->cols, out->dtype, data + first / k->nr * panel_bytes,
                       half);
        }
    }
    vt_free(allocator, half);
    vt_free(allocator, rows);
    if (status != VT_OK) {
        vt_free(allocator, data);
        return status;
    }
    out->data = data;
    out->bytes = bytes;
    return VT_OK;
}

vt_status vt_cpu_pack(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error)
{
    if (use == VT_USE_VECTOR) {
        return vt_pack_plain(allocator, source, out, error);
    }
    return pack_matrix(vt_cpu_kernels_of(backend), allocator, source, out, error);
}
