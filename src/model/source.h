/* SPDX-License-Identifier: Apache-2.0 */
/* Where a model's parameters come from: a checkpoint seen through a dialect, or the golden rule. */
#ifndef VT_MODEL_SOURCE_H
#define VT_MODEL_SOURCE_H

#include "model/binder.h"
#include "vertebra/checkpoint.h"

/* A piece of a canonical parameter: `count` elements from `begin` on (0 count: all of it) of an
 * entry, which become those from `to_part` of `parts` on. */
typedef struct vt_piece {
    const char *name; /* canonical */
    const vt_checkpoint_entry *entry;
    int parts, to_part, from_part; /* as in vt_rename */
    vt_file_order order;
    bool used;
    int32_t next; /* another piece of the same entry or name chain, -1: none */
} vt_piece;

/* A checkpoint whose keys were renamed to canonical ones. */
typedef struct vt_renamed {
    const vt_checkpoint *checkpoint;
    const vt_dialect *dialect;
    vt_pool pool;
    vt_piece *pieces;
    size_t piece_count, piece_capacity;
    int32_t *buckets; /* hash of the name -> first piece */
    size_t bucket_count;
} vt_renamed;

/* Finds the dialect of the file and renames every key. VT_ERR_MISMATCH when no naming fits. */
vt_status vt_renamed_init(vt_renamed *renamed, const vt_allocator *allocator,
                          const vt_checkpoint *checkpoint, const vt_family *family,
                          vt_error *error);
void vt_renamed_clear(vt_renamed *renamed);

/* For vt_binder.has. */
bool vt_renamed_has(const void *renamed, const char *name);

/* The rows of a canonical parameter in the file, or 0 when the file lacks it. */
int64_t vt_renamed_rows(const vt_renamed *renamed, const char *name);

/* The slot with the shape that the file has where the slot leaves it open (any_rows, any_size). */
vt_slot vt_renamed_slot(const vt_renamed *renamed, const vt_slot *slot);

/* Checks every stored slot against the file; reports all missing, mis-shaped and unexpected keys in
 * one message. Unexpected keys alone are no error: `unused` receives how many there are. */
vt_status vt_renamed_check(vt_renamed *renamed, const vt_binder *binder, size_t *unused,
                           vt_error *error);

/* Reads elements [first, first + count) of a stored slot in canonical row-major order. */
vt_status vt_renamed_read(const vt_renamed *renamed, const vt_slot *slot, int64_t first,
                          int64_t count, float *out, vt_error *error);

/* Matches `text` against a pattern and writes the renamed text; false when it does not match.
 * `to` may be NULL (only match). */
bool vt_rename_apply(const char *from, const char *to, const char *text, char *out, size_t size);

/* The golden rule: parameters are a hash of their name (see docs/testing.md). Same contract as
 * vt_renamed_read. */
void vt_golden_read(const vt_slot *slot, int64_t first, int64_t count, float *out);

/* Values [first, first + count) of the golden input picture, NCHW order. */
void vt_golden_input(int64_t first, int64_t count, float *out);

#endif
