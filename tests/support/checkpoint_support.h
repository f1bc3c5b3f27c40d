/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the checkpoint tests: contexts with a counting allocator, small writers of the file
 * formats, and the formula behind the fixtures (tools/fixtures/checkpoints.py). */
#ifndef VT_TEST_CHECKPOINT_SUPPORT_H
#define VT_TEST_CHECKPOINT_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vertebra/checkpoint.h"

#define CK_FIXTURES "tests/fixtures/checkpoints/"

/* ---- contexts -------------------------------------------------------------------------------- */
/* Counts allocations; the one with number fail_at (from 1) and all after it fail; 0: none. */
typedef struct ck_allocations {
    size_t calls, live, fail_at;
} ck_allocations;

vt_context *ck_context(ck_allocations *allocations); /* NULL: the default allocator */

/* ---- files ----------------------------------------------------------------------------------- */
typedef struct ck_bytes {
    unsigned char *data;
    size_t size, capacity;
} ck_bytes;

void ck_put(ck_bytes *bytes, const void *data, size_t size);
void ck_text(ck_bytes *bytes, const char *text);
void ck_number(ck_bytes *bytes, uint64_t number, int width); /* little-endian */
void ck_patch(ck_bytes *bytes, size_t at, uint64_t number, int width);
void ck_clear(ck_bytes *bytes);
ck_bytes ck_load(const char *path);
void ck_save(const char *path, const void *data, size_t size);

/* A path in the test's own temporary folder; good until the next call. */
const char *ck_path(const char *name);
void ck_remove_folder(void);

/* Opens a file of these bytes. */
vt_status ck_open(vt_checkpoint **checkpoint, vt_context *context, const ck_bytes *bytes,
                  const vt_checkpoint_settings *settings, vt_error *error);

/* Opens the bytes and reads what there is; fails the test unless that succeeds (message NULL) or
 * fails with a message that holds `message`. `what` and `number` name the case. */
void ck_check_open(vt_context *context, const ck_bytes *bytes, const char *what, size_t number,
                   const char *message);

/* ---- formats --------------------------------------------------------------------------------- */
/* u64 length, header, data_size bytes of data. */
void ck_safetensors(ck_bytes *out, const char *header, size_t data_size);

/* A zip of stored records, in the order of ck_zip_add. Offsets of headers stay readable. */
typedef struct ck_zip {
    ck_bytes bytes, directory;
    size_t count, local[64], central[64]; /* central: final after ck_zip_end */
    size_t end;                           /* of the end record */
    bool wide; /* directory entries leave sizes and offset to a ZIP64 field */
} ck_zip;

void ck_zip_add(ck_zip *zip, const char *name, const void *data, size_t size);
void ck_zip_end(ck_zip *zip);
void ck_zip_clear(ck_zip *zip);

/* A tensor of a PyTorch file over storage `key`; storage NULL: FloatStorage. */
typedef struct ck_tensor {
    const char *name, *storage, *key;
    int64_t numel, offset;
    int rank;
    int64_t shape[20], stride[20];
} ck_tensor;

extern const ck_tensor ck_weight; /* "w": 16 elements of the storage '0' */

void ck_pickle_string(ck_bytes *pickle, const char *text);
void ck_pickle_integer(ck_bytes *pickle, int64_t value);
void ck_pickle_tensor(ck_bytes *pickle, const ck_tensor *tensor);

/* A PyTorch zip: a dictionary of the tensors, and one record data/0 of these bytes. */
void ck_torch(ck_bytes *out, const ck_tensor *tensors, size_t count, const void *storage,
              size_t storage_size);
/* A PyTorch zip with this data.pkl and a record data/0 of 64 zero bytes. */
void ck_torch_pickle(ck_bytes *out, const void *pickle, size_t size);

/* ---- values ---------------------------------------------------------------------------------- */
/* Element e of a fixture's tensor. */
float ck_expected(const char *name, vt_dtype dtype, int64_t e, float plus);
/* Reads every tensor, whole and in pieces, and compares; cmocka assertions inside. */
void ck_check_values(const vt_checkpoint *checkpoint, float plus);
/* Reads what can be read of every tensor and ignores the values. */
void ck_read_all(const vt_checkpoint *checkpoint);

#endif
