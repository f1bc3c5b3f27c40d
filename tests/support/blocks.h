/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the tests: blocks between guard bands where a backend computes, and arrays as the rows
 * of a weight. */
#ifndef VT_TESTS_BLOCKS_H
#define VT_TESTS_BLOCKS_H

#include "ops/backend.h"

/* The C library's memory, aligned. */
extern const vt_allocator plain_allocator;

/* `bytes` bytes between two guard bands, aligned as in an arena. */
typedef struct test_block {
    const vt_backend *backend;
    void *stream; /* of a device */
    char *base;   /* of the first guard band */
    size_t bytes;
} test_block;

/* The first MiB begins as NaN in every element type, so that what is not written shows. */
test_block block_make(const vt_backend *backend, void *stream, size_t bytes);
/* Where the backend sees the bytes. */
void *block_data(const test_block *block);
void block_write(const test_block *block, const void *src);
/* Waits for the stream. Fails the test, naming `what`, when a guard band was written to. */
void block_read(const test_block *block, void *dst, const char *what);
/* The same check without the bytes, then the end of the block. */
void block_release(test_block *block, const char *what);

/* Rows of a dense array. */
typedef struct array_rows {
    const float *values;
    int64_t cols;
} array_rows;
vt_row_source array_source(const array_rows *rows);

#endif
