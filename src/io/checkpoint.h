/* SPDX-License-Identifier: Apache-2.0 */
/* What the readers of the single formats share: the checkpoint object that they fill. */
#ifndef VT_IO_CHECKPOINT_H
#define VT_IO_CHECKPOINT_H

#include "core/context.h"
#include "core/memory.h"
#include "io/file.h"
#include "vertebra/checkpoint.h"

/* Where the elements of one tensor lie. Element (i0, i1, ...) is number
 * offset + i0 stride0 + i1 stride1 + ... of the storage, which is `bytes` bytes at `position`. */
typedef struct vt_stored {
    vt_checkpoint_entry entry; /* stands first: the caller's entry pointer is the record's */
    size_t file;               /* index into the checkpoint's files */
    uint64_t position, bytes;
    int64_t offset;
    int64_t stride[VT_CHECKPOINT_MAX_RANK];
    bool swap; /* stored big-endian */
    /* Why the tensor cannot be read, or NULL. Such a tensor is listed, with rank 0 and no elements
     * where its shape cannot be told, and fails when it is read. */
    const char *problem;
    vt_status problem_status;
} vt_stored;

typedef struct vt_metadata {
    const char *key, *value;
} vt_metadata;

struct vt_checkpoint {
    const vt_context *context;
    const vt_allocator *allocator;
    vt_checkpoint_settings settings; /* for the readers; `root` is only valid while opening */
    vt_pool pool;                    /* names, metadata, messages */
    vt_file *files;
    size_t file_count, file_capacity;
    vt_stored *records;
    size_t count, capacity;
    const vt_stored **by_name; /* sorted */
    vt_metadata *metadata;
    size_t metadata_count, metadata_capacity;
    const char *format, *root;
};

/* ---- readers: append the records of file `file` ---------------------------------------------- */
vt_status vt_safetensors_parse(vt_checkpoint *checkpoint, size_t file, vt_error *error);
vt_status vt_torch_zip_parse(vt_checkpoint *checkpoint, size_t file, vt_error *error);
vt_status vt_torch_legacy_parse(vt_checkpoint *checkpoint, size_t file, vt_error *error);
/* File 0 is a JSON index; opens the shards beside `path` and reads them. */
vt_status vt_shards_parse(vt_checkpoint *checkpoint, const char *path, vt_error *error);

/* ---- for the readers ------------------------------------------------------------------------- */
/* Opens `path` as one more file of the checkpoint. */
vt_status vt_checkpoint_add_file(vt_checkpoint *checkpoint, const char *path, size_t *file,
                                 vt_error *error);
/* Tells the format of a file and runs its reader; sets checkpoint->format. `path` is wanted for an
 * index only; NULL where an index is not welcome. */
vt_status vt_checkpoint_parse_file(vt_checkpoint *checkpoint, size_t file, const char *path,
                                   vt_error *error);
/* Appends a zeroed record named by a copy of name[0..length), or fails. */
vt_status vt_checkpoint_add_record(vt_checkpoint *checkpoint, const char *name, size_t length,
                                   vt_stored **record, vt_error *error);
/* Keeps the first value of a key. */
vt_status vt_checkpoint_add_metadata(vt_checkpoint *checkpoint, const char *key, const char *value,
                                     vt_error *error);
/* Marks a record as unreadable for this reason. */
vt_status vt_stored_refuse(vt_checkpoint *checkpoint, vt_stored *record, vt_status status,
                           vt_error *error, const char *format, ...) VT_PRINTF(5, 6);
/* Strides of a dense row-major tensor of the record's shape. */
void vt_stored_set_dense(vt_stored *record);
vt_status vt_out_of_memory(vt_error *error);

/* A name out of a file, made fit for a one-line message: control characters become '?', and what is
 * too long is cut. */
typedef struct vt_shown {
    char text[160];
} vt_shown;
vt_shown vt_show(const char *text, size_t length);

/* out[i * out_step] = (float)src element i, for i in [0, n); elements lie step_bytes apart at any
 * alignment, in the machine's byte order (little-endian: the only one supported). `dtype` is not
 * VT_DTYPE_OTHER. */
void vt_convert_to_f32(vt_dtype dtype, const unsigned char *src, size_t step_bytes, float *out,
                       size_t out_step, size_t n);

static inline uint16_t vt_le16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t vt_le32(const unsigned char *p)
{
    return vt_le16(p) | (uint32_t)vt_le16(p + 2) << 16;
}

static inline uint64_t vt_le64(const unsigned char *p)
{
    return vt_le32(p) | (uint64_t)vt_le32(p + 4) << 32;
}

#endif
