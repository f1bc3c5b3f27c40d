/* SPDX-License-Identifier: Apache-2.0 */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checked.h"

/* Linux moves at most 2^31 - 4096 bytes per call; smaller steps cost nothing. */
#define READ_STEP ((size_t)1 << 30)

vt_status vt_file_open(vt_file *file, const char *path, vt_error *error)
{
    *file = (vt_file){.fd = -1};
    /* O_NONBLOCK: opening a pipe that nobody writes to must not wait. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return vt_error_set(error, VT_ERR_IO, "cannot open: %s", strerror(errno));
    }
    struct stat info;
    vt_status status = VT_OK;
    if (fstat(fd, &info) != 0) {
        status = vt_error_set(error, VT_ERR_IO, "cannot look up its size: %s", strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        status = vt_error_set(error, VT_ERR_IO, "is a folder, not a file");
    } else if (!S_ISREG(info.st_mode) || info.st_size < 0) {
        status = vt_error_set(error, VT_ERR_IO, "is not a regular file");
    }
    if (status != VT_OK) {
        close(fd);
        return status;
    }
    *file = (vt_file){.fd = fd, .size = (uint64_t)info.st_size};
    return VT_OK;
}

void vt_file_close(vt_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
}

vt_status vt_file_read(const vt_file *file, uint64_t position, void *out, size_t size,
                       vt_error *error)
{
    uint64_t end;
    if (!vt_add_u64(position, size, &end) || end > file->size) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "file is cut short: wants bytes %llu to %llu, "
                            "has %llu",
                            (unsigned long long)position, (unsigned long long)(position + size),
                            (unsigned long long)file->size);
    }
    unsigned char *at = out;
    while (size > 0) {
        ssize_t got = pread(file->fd, at, size < READ_STEP ? size : READ_STEP, (off_t)position);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return vt_error_set(error, VT_ERR_IO, "cannot read at byte %llu: %s",
                                (unsigned long long)position, strerror(errno));
        }
        if (got == 0) {
            return vt_error_set(error, VT_ERR_IO,
                                "the file shrank while it was open: nothing at "
                                "byte %llu",
                                (unsigned long long)position);
        }
        at += got;
        position += (uint64_t)got;
        size -= (size_t)got;
    }
    return VT_OK;
}

/* Not mkstemp, which would ignore the user's umask. */
int vt_file_create_beside(const char *path, char *name)
{
    enum { TRIES = 1000 };
    int fd = -1;
    for (int i = 0; i < TRIES && fd < 0; i++) {
        snprintf(name, strlen(path) + VT_FILE_BESIDE, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) {
            break;
        }
    }
    return fd;
}
