/* SPDX-License-Identifier: Apache-2.0 */
/* The zip container of PyTorch files: a directory of stored records. */
#ifndef VT_IO_TORCH_ZIP_H
#define VT_IO_TORCH_ZIP_H

#include "core/context.h"
#include "core/memory.h"
#include "io/file.h"

typedef struct vt_zip_entry {
    const char *name;
    uint64_t local;    /* of the local header */
    uint64_t position; /* of the first byte of data */
    uint64_t size;     /* of the data in the file */
    uint64_t unpacked;
    uint32_t crc;
    unsigned method, flags;
} vt_zip_entry;

typedef struct vt_zip {
    const vt_allocator *allocator;
    const vt_file *file;
    vt_pool names;
    vt_zip_entry *entries; /* sorted by name */
    size_t count;
    const char *first_name; /* of the first entry of the directory */
} vt_zip;

/* Reads and checks the central directory and every local header: entries lie inside the file, do
 * not overlap, have different names, and say the same in both places. Compression methods are not
 * judged. Clear the zip whatever is returned. */
vt_status vt_zip_open(vt_zip *zip, const vt_allocator *allocator, const vt_file *file,
                      vt_error *error);
void vt_zip_clear(vt_zip *zip);

/* The entry of exactly that name, or NULL. */
const vt_zip_entry *vt_zip_find(const vt_zip *zip, const char *name);

/* Compares the CRC of every stored entry with the directory's. */
vt_status vt_zip_verify(const vt_zip *zip, const vt_context *context, vt_error *error);

#endif
