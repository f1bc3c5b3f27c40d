/* SPDX-License-Identifier: Apache-2.0 */
/* Published checkpoint files: .safetensors (one file or a sharded index), PyTorch zip and PyTorch
 * legacy pickles. The format is told by content, never by the file's name. Nothing in a file is
 * ever executed; everything is validated while opening. */
#ifndef VERTEBRA_CHECKPOINT_H
#define VERTEBRA_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vertebra/context.h"
#include "vertebra/tensor.h"

VT_BEGIN_DECLS

enum { VT_CHECKPOINT_MAX_RANK = 16 };

typedef struct vt_checkpoint vt_checkpoint;

typedef struct vt_checkpoint_settings {
    bool ema;         /* take the exponential moving average; VT_ERR_NOT_FOUND without one */
    bool verify;      /* check stored CRCs of a PyTorch zip while opening (reads the whole file) */
    const char *root; /* key of the dictionary that holds the weights; NULL: found by itself */
} vt_checkpoint_settings;

vt_checkpoint_settings vt_checkpoint_settings_default(void);

/* One stored tensor: what the file says of it. Valid until the checkpoint is closed. */
typedef struct vt_checkpoint_entry {
    const char *name; /* as in the file, less a common "module." or "_orig_mod." prefix */
    vt_dtype dtype;
    int rank; /* 0: one element */
    int64_t shape[VT_CHECKPOINT_MAX_RANK];
    int64_t elements; /* product of the shape */
} vt_checkpoint_entry;

/* Opens a checkpoint: reads and checks its directory, not its tensors. `settings` may be NULL.
 * `path` may name a `*.index.json` of a sharded checkpoint; its shards must lie beside it.
 * Errors: VT_ERR_IO, VT_ERR_FORMAT (damaged; the message says where), VT_ERR_UNSUPPORTED (named
 * format that is refused), VT_ERR_LIMIT, VT_ERR_NOT_FOUND (`root`, `ema`), VT_ERR_CANCELLED (while
 * verifying), VT_ERR_MEMORY. */
vt_status vt_checkpoint_open(vt_checkpoint **checkpoint, vt_context *context, const char *path,
                             const vt_checkpoint_settings *settings, vt_error *error);

/* Closes and sets *checkpoint to NULL. Accepts NULL. */
void vt_checkpoint_close(vt_checkpoint **checkpoint);

/* "safetensors", "safetensors (sharded)", "pytorch zip", "pytorch legacy", "pytorch (sharded)". */
const char *vt_checkpoint_format(const vt_checkpoint *checkpoint);

/* Where the weights were found, such as "model" or "state_dict_ema"; "" for the file's top. */
const char *vt_checkpoint_root(const vt_checkpoint *checkpoint);

size_t vt_checkpoint_count(const vt_checkpoint *checkpoint);

/* Entry i in file order, or NULL when i is out of range. */
const vt_checkpoint_entry *vt_checkpoint_at(const vt_checkpoint *checkpoint, size_t i);

/* Entry of that name, or NULL. */
const vt_checkpoint_entry *vt_checkpoint_find(const vt_checkpoint *checkpoint, const char *name);

/* Reads elements [first, first + count) of an entry in row-major order of its shape, converted to
 * f32 (integers exactly up to 2^24, f64 rounded to nearest). `out` holds `count` floats. Views with
 * any strides are gathered. Thread safe.
 * Errors: VT_ERR_ARGUMENT (range), VT_ERR_IO (the file shrank), VT_ERR_UNSUPPORTED (dtype),
 * VT_ERR_FORMAT (the tensor's storage is missing, quantised or out of bounds), VT_ERR_LIMIT (too
 * many dimensions, expanded too far). count = 0 only asks whether the tensor can be read. */
vt_status vt_checkpoint_read(const vt_checkpoint *checkpoint, const vt_checkpoint_entry *entry,
                             int64_t first, int64_t count, float *out, vt_error *error);

/* Text stored beside the tensors: safetensors `__metadata__` values; for PyTorch files "classes"
 * (newline separated) where a training framework stored class names. NULL when absent. */
const char *vt_checkpoint_metadata(const vt_checkpoint *checkpoint, const char *key);

VT_END_DECLS
#endif
