/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of a network while it is bound and loaded. */
#ifndef VT_MODEL_BINDER_H
#define VT_MODEL_BINDER_H

#include "ops/program.h"
#include "vertebra/backbone.h"

/* One parameter: stored (name as in canonical checkpoints) or derived. Slot 0 means "none". */
typedef struct vt_slot {
    const char *name; /* full */
    vt_weight_role role;
    int rank;
    int64_t shape[VT_WEIGHT_MAX_RANK];
    int64_t rows, cols;
    bool any_rows, any_size;
    const int32_t *columns;
    vt_derive_fn derive; /* NULL: stored */
    const void *user;
    vt_weight sources[VT_MAX_DERIVE_SOURCES];
    int source_count;
} vt_slot;

struct vt_binder {
    vt_pool pool; /* names, column orders, derive data */
    vt_slot *slots;
    size_t slot_count, slot_capacity;
    char scope[256];
    size_t scope_starts[16];
    int depth;
    /* whether the source of the weights has a canonical key; NULL: no source */
    bool (*has)(const void *user, const char *name);
    const void *has_user;
    vt_status status;
    vt_error error;
};

vt_status vt_binder_init(vt_binder *binder, const vt_allocator *allocator);
void vt_binder_clear(vt_binder *binder);

#endif
