/* SPDX-License-Identifier: Apache-2.0 */
/* What the two PyTorch containers share: from an unpickled object to records. */
#ifndef VT_IO_TORCH_CHECKPOINT_H
#define VT_IO_TORCH_CHECKPOINT_H

#include "io/checkpoint.h"
#include "io/torch_zip.h"
#include "io/unpickle.h"

/* A storage class such as torch.FloatStorage. */
typedef struct vt_storage_type {
    const char *name;
    vt_dtype dtype;
    unsigned item; /* bytes */
    bool quantised, untyped;
} vt_storage_type;

/* The persistent id of a storage: ('storage', class, key, location, numel[, view]). */
typedef struct vt_storage_id {
    const vt_storage_type *type;
    vt_pickle_text key;
    int64_t numel;
    const vt_pickle_value *view; /* (key, offset, numel) of a window, or NULL */
} vt_storage_id;

/* Takes a persistent value apart; returns NULL, or why it is no storage. */
const char *vt_storage_id_read(const vt_pickle_value *value, vt_storage_id *id);

/* Where a storage's bytes are in a legacy file. */
typedef struct vt_storage_place {
    vt_storage_id id;
    uint64_t position;
    bool placed;
} vt_storage_place;

/* Where the bytes of storages are looked up: records of a zip, or places sorted by key. */
typedef struct vt_storage_source {
    vt_checkpoint *checkpoint;
    size_t file;
    const vt_zip *zip; /* NULL: use the places */
    const char *prefix;
    bool swap;
    const vt_storage_place *places;
    size_t place_count;
} vt_storage_source;

/* Orders texts by length, then bytes: for the table of places. */
int vt_storage_compare_keys(vt_pickle_text a, vt_pickle_text b);

/* Whether a value is a tensor, or stands for one that cannot be read. */
bool vt_torch_is_tensor(const vt_pickle_value *value);

/* Appends the record of a tensor. What is wrong with the tensor becomes the record's problem; fails
 * only for want of memory, a bad name or too many tensors. */
vt_status vt_torch_add_tensor(const vt_storage_source *source, vt_pickle_text name,
                              const vt_pickle_value *value, vt_error *error);

/* Finds the weights below `top`, as the checkpoint's settings want, and appends their records;
 * notes root and class names. */
vt_status vt_torch_collect(const vt_storage_source *source, const vt_pickle_value *top,
                           vt_error *error);

/* The pool for the values of a pickle of so many bytes. */
vt_pool vt_torch_pool(const vt_checkpoint *checkpoint, uint64_t pickle_size);

#define VT_TORCH_MAX_PICKLE ((uint64_t)256 << 20) /* bytes */

#endif
