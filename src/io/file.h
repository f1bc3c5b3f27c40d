/* SPDX-License-Identifier: Apache-2.0 */
/* A regular file, read by position. No mapping: a file that shrinks while it is open gives an error
 * instead of a signal. And the new file that a result is written to before it takes its name. */
#ifndef VT_IO_FILE_H
#define VT_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "vertebra/status.h"

/* libvertebra_image uses these. */
VT_BEGIN_DECLS

typedef struct vt_file {
    int fd;
    uint64_t size; /* when it was opened */
} vt_file;

/* Opens for reading. Fails without blocking on folders, pipes and devices. Messages carry no path:
 * the caller adds it. */
vt_status vt_file_open(vt_file *file, const char *path, vt_error *error);

/* Accepts a file that was never opened (fd < 0). */
void vt_file_close(vt_file *file);

/* Reads exactly `size` bytes at `position`, or fails. Thread safe. */
vt_status vt_file_read(const vt_file *file, uint64_t position, void *out, size_t size,
                       vt_error *error);

/* Creates "PATH.PID-N.tmp", which did not exist before, to be renamed to `path`; `name`, which holds
 * strlen(path) + VT_FILE_BESIDE bytes, is what it is called. Returns a descriptor for writing, or -1
 * with errno. */
enum { VT_FILE_BESIDE = 48 };
int vt_file_create_beside(const char *path, char *name);

VT_END_DECLS

#endif
