/* SPDX-License-Identifier: Apache-2.0 */
/* Reading elements of a stored tensor as f32.
 *
 * A run of row-major elements is cut into boxes: ranges in one dimension, whole in those after it.
 * A box is then walked in the order of the storage, not of the tensor, so that a transposed view is
 * still read forward through a small window of the file, and scattered into the caller's memory.
 */
#include <string.h>

#include "core/checked.h"
#include "core/half.h"
#include "io/checkpoint.h"

enum {
    WINDOW = 64 * 1024, /* bytes of the file held at a time, on the stack */
    WINDOW_FIRST = 4096 /* read after a jump; doubles while reading goes on forward */
};

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are read on little-endian machines only"
#endif

/* ---- conversion ------------------------------------------------------------------------------ */
/* One loop per type; `value` is an expression in `x`, the stored element. */
#define CONVERT_RUN(type, value)                                                                   \
    for (size_t i = 0; i < n; i++) {                                                               \
        type x;                                                                                    \
        memcpy(&x, src + i * step_bytes, sizeof x);                                                \
        out[i * out_step] = (value);                                                               \
    }                                                                                              \
    break

void vt_convert_to_f32(vt_dtype dtype, const unsigned char *src, size_t step_bytes, float *out,
                       size_t out_step, size_t n)
{
    switch (dtype) {
    case VT_F32: CONVERT_RUN(float, x);
    case VT_BF16: CONVERT_RUN(uint16_t, vt_from_bf16(x));
    case VT_F16: CONVERT_RUN(uint16_t, vt_from_f16(x));
    case VT_F64: CONVERT_RUN(double, (float)x);
    case VT_I8: CONVERT_RUN(int8_t, (float)x);
    case VT_I16: CONVERT_RUN(int16_t, (float)x);
    case VT_I32: CONVERT_RUN(int32_t, (float)x);
    case VT_I64: CONVERT_RUN(int64_t, (float)x);
    case VT_U8: CONVERT_RUN(uint8_t, (float)x);
    case VT_BOOL: CONVERT_RUN(uint8_t, x ? 1.0f : 0.0f);
    case VT_DTYPE_OTHER: break;
    }
}

static void swap_items(unsigned char *bytes, size_t count, size_t item)
{
    for (size_t i = 0; i < count; i++, bytes += item) {
        for (size_t low = 0, high = item - 1; low < high; low++, high--) {
            unsigned char kept = bytes[low];
            bytes[low] = bytes[high];
            bytes[high] = kept;
        }
    }
}

/* ---- the window ------------------------------------------------------------------------------ */
typedef struct reader {
    const vt_file *file;
    const vt_stored *record;
    size_t item;        /* bytes of an element */
    int64_t begin, end; /* elements of the storage in the window */
    int64_t last;       /* no element after this one is wanted */
    size_t ask;         /* bytes to read next time */
    unsigned char window[WINDOW];
} reader;

static vt_status read_items(const reader *r, int64_t first, size_t count, void *out,
                            vt_error *error)
{
    vt_status status = vt_file_read(r->file, r->record->position + (uint64_t)first * r->item, out,
                                    count * r->item, error);
    if (status == VT_OK && r->record->swap) {
        swap_items(out, count, r->item);
    }
    return status;
}

/* Moves the window so that it begins at storage element `at`. */
static vt_status move_window(reader *r, int64_t at, vt_error *error)
{
    r->ask = at == r->end ? (r->ask * 2 < WINDOW ? r->ask * 2 : WINDOW) : WINDOW_FIRST;
    int64_t count = (int64_t)(r->ask / r->item);
    if (count > r->last - at + 1) {
        count = r->last - at + 1;
    }
    r->begin = r->end = 0;
    vt_status status = read_items(r, at, (size_t)count, r->window, error);
    if (status == VT_OK) {
        r->begin = at;
        r->end = at + count;
    }
    return status;
}

/* ---- boxes ----------------------------------------------------------------------------------- */
typedef struct axis {
    int64_t size, stride; /* of the storage */
    int64_t step;         /* of the output */
} axis;

/* Elements at, at + stride, ... of the storage to out[0], out[step], ... */
static vt_status read_run(reader *r, int64_t at, const axis *a, float *out, vt_error *error)
{
    bool plain = r->record->entry.dtype == VT_F32 && a->stride == 1 && a->step == 1;
    if (plain && a->size >= WINDOW / 4) {
        return read_items(r, at, (size_t)a->size, out, error);
    }
    int64_t left = a->size;
    while (left > 0) {
        if (at < r->begin || at >= r->end) {
            vt_status status = move_window(r, at, error);
            if (status != VT_OK) {
                return status;
            }
        }
        int64_t n = left;
        if (a->stride > 0) {
            int64_t inside = (r->end - 1 - at) / a->stride + 1;
            n = inside < left ? inside : left;
        }
        vt_convert_to_f32(r->record->entry.dtype, r->window + (size_t)(at - r->begin) * r->item,
                          (size_t)a->stride * r->item, out, (size_t)a->step, (size_t)n);
        at += n * a->stride;
        out += n * a->step;
        left -= n;
    }
    return VT_OK;
}

/* Reads the box of `rank` axes (at least one) whose first element is `at`. */
static vt_status read_box(reader *r, int64_t at, axis *axes, int rank, float *out, vt_error *error)
{
    /* Largest stride outermost: the walk then goes forward through the file. */
    for (int i = 1; i < rank; i++) {
        for (int j = i; j > 0 && axes[j - 1].stride < axes[j].stride; j--) {
            axis kept = axes[j];
            axes[j] = axes[j - 1];
            axes[j - 1] = kept;
        }
    }
    r->last = at;
    for (int d = 0; d < rank; d++) {
        r->last += (axes[d].size - 1) * axes[d].stride;
    }
    int64_t index[VT_CHECKPOINT_MAX_RANK] = {0};
    for (;;) {
        vt_status status = read_run(r, at, &axes[rank - 1], out, error);
        if (status != VT_OK) {
            return status;
        }
        int d = rank - 2;
        while (d >= 0 && ++index[d] == axes[d].size) {
            index[d] = 0;
            at -= (axes[d].size - 1) * axes[d].stride;
            out -= (axes[d].size - 1) * axes[d].step;
            d--;
        }
        if (d < 0) {
            return VT_OK;
        }
        at += axes[d].stride;
        out += axes[d].step;
    }
}

/* The record's axes without those of size 1, neighbours joined where they are one run of the
 * storage; `step` is the row-major step of the whole tensor. At least one axis. */
static int simplify_axes(const vt_stored *record, axis axes[VT_CHECKPOINT_MAX_RANK])
{
    axis reversed[VT_CHECKPOINT_MAX_RANK];
    int rank = 0;
    int64_t step = 1;
    for (int d = record->entry.rank - 1; d >= 0; d--) {
        int64_t size = record->entry.shape[d], stride = record->stride[d];
        axis *inner = rank > 0 ? &reversed[rank - 1] : NULL;
        if (size == 1) {
            continue;
        }
        /* The products cannot overflow: every one is the distance of two valid elements, plus one
         * stride. */
        if (inner && inner->stride <= stride && stride % inner->size == 0 &&
            stride / inner->size == inner->stride) {
            inner->size *= size;
        } else {
            reversed[rank++] = (axis){size, stride, step};
        }
        step *= size;
    }
    if (rank == 0) {
        reversed[rank++] = (axis){1, 1, 1};
    }
    for (int d = 0; d < rank; d++) {
        axes[d] = reversed[rank - 1 - d];
    }
    return rank;
}

static vt_status read_range(reader *r, int64_t first, int64_t count, float *out, vt_error *error)
{
    axis axes[VT_CHECKPOINT_MAX_RANK];
    int rank = simplify_axes(r->record, axes);
    while (count > 0) {
        /* The outermost axis at which the range stands at a boundary and has a whole step left. */
        int split = 0;
        while (first % axes[split].step != 0 || count < axes[split].step) {
            split++; /* ends: the last step is 1 */
        }
        int64_t at = r->record->offset;
        axis box[VT_CHECKPOINT_MAX_RANK];
        for (int d = 0; d <= split; d++) {
            at += first / axes[d].step % axes[d].size * axes[d].stride;
        }
        memcpy(box, axes + split, (size_t)(rank - split) * sizeof *box);
        int64_t here = first / box[0].step % box[0].size;
        int64_t steps = count / box[0].step;
        box[0].size = steps < box[0].size - here ? steps : box[0].size - here;
        int64_t done = box[0].size * box[0].step;
        vt_status status = read_box(r, at, box, rank - split, out, error);
        if (status != VT_OK) {
            return status;
        }
        first += done;
        count -= done;
        out += done;
    }
    return VT_OK;
}

vt_status vt_checkpoint_read(const vt_checkpoint *checkpoint, const vt_checkpoint_entry *entry,
                             int64_t first, int64_t count, float *out, vt_error *error)
{
    const vt_stored *record = (const vt_stored *)entry;
    if (!checkpoint || !entry || checkpoint->count == 0 || record < checkpoint->records ||
        record >= checkpoint->records + checkpoint->count) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "vt_checkpoint_read: the entry is not of this checkpoint");
    }
    vt_shown name = vt_show(entry->name, strlen(entry->name));
    if (record->problem) {
        return vt_error_set(error, record->problem_status, "tensor '%s': %s", name.text,
                            record->problem);
    }
    if (entry->dtype == VT_DTYPE_OTHER) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "tensor '%s': its element type is not supported", name.text);
    }
    if (first < 0 || count < 0 || first > entry->elements || count > entry->elements - first ||
        (!out && count > 0)) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "tensor '%s': range %lld + %lld is not inside "
                            "its %lld elements",
                            name.text, (long long)first, (long long)count,
                            (long long)entry->elements);
    }
    if (count == 0) {
        return VT_OK; /* also spares an empty tensor, whose axes have no length */
    }
    reader r; /* the window is left uninitialised on purpose: 64 KiB */
    r.file = &checkpoint->files[record->file];
    r.record = record;
    r.item = vt_dtype_size(entry->dtype);
    r.begin = r.end = r.last = 0;
    r.ask = WINDOW_FIRST;
    vt_status status = read_range(&r, first, count, out, error);
    return status == VT_OK ? VT_OK : vt_error_wrap(error, status, "tensor '%s'", name.text);
}
