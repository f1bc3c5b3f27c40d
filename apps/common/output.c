/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEMPORARY_NAMES = 1000 };

/* Opens a new file beside `path`; `name` holds strlen(path) + 32 bytes. What a killed run of the
 * same process number has left is passed over. */
static int open_temporary(const char *path, char *name)
{
    int fd = -1;
    for (int i = 0; i < TEMPORARY_NAMES && fd < 0; i++) {
        snprintf(name, strlen(path) + 32, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) {
            break;
        }
    }
    return fd;
}

/* Keeps the first reason, which a FILE of the C library forgets. */
static ssize_t write_bytes(void *cookie, const char *bytes, size_t size)
{
    output *out = cookie;
    size_t done = 0;
    while (done < size && !out->problem) {
        ssize_t n = write(out->fd, bytes + done, size - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            out->problem = n == 0 ? EIO : errno;
        }
    }
    return (ssize_t)(out->problem ? 0 : done);
}

static int close_file(void *cookie)
{
    output *out = cookie;
    int result = close(out->fd);
    if (result != 0 && !out->problem) {
        out->problem = errno;
    }
    return result;
}

/* The file itself, or the one beside it. */
static int open_path(output *out, bool beside)
{
    if (!beside) {
        out->fd = open(out->path, O_WRONLY | O_CLOEXEC);
    } else if ((out->temporary = malloc(strlen(out->path) + 32))) {
        out->fd = open_temporary(out->path, out->temporary);
    }
    if (out->fd < 0) {
        return errno;
    }
    const cookie_io_functions_t functions = {.write = write_bytes, .close = close_file};
    out->file = fopencookie(out, "w", functions);
    if (!out->file) {
        close(out->fd);
        unlink(out->temporary ? out->temporary : "");
        return ENOMEM;
    }
    return 0;
}

int output_open(output *out, const cli_options *options, const char *path)
{
    struct stat about;
    *out = (output){.path = path, .fd = -1};
    if (!path) {
        return CLI_OK;
    }
    if (strcmp(path, "-") == 0) {
        out->file = stdout;
        return CLI_OK;
    }
    bool exists = stat(path, &about) == 0;
    if (exists && S_ISDIR(about.st_mode)) {
        return cli_fail(options, "%s: is a folder", path);
    }
    int problem = open_path(out, !exists || S_ISREG(about.st_mode));
    if (problem) {
        free(out->temporary);
        out->temporary = NULL;
        return cli_fail(options, "%s: cannot create: %s", path, strerror(problem));
    }
    return CLI_OK;
}

int output_close(output *out, const cli_options *options, bool keep)
{
    if (!out->file || out->file == stdout) {
        return CLI_OK;
    }
    fclose(out->file);
    if (out->temporary && keep && !out->problem && rename(out->temporary, out->path) != 0) {
        out->problem = errno;
    }
    if (out->temporary && (out->problem || !keep)) {
        unlink(out->temporary);
    }
    free(out->temporary);
    out->file = NULL;
    return out->problem && keep
               ? cli_fail(options, "%s: cannot write: %s", out->path, strerror(out->problem))
               : CLI_OK;
}

/* Where a path's last part begins; `folder` is what it lies in. */
static const char *split(const char *path, struct stat *folder)
{
    const char *slash = strrchr(path, '/');
    char *before = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
    if (stat(before ? before : ".", folder) != 0) {
        *folder = (struct stat){0};
    }
    free(before);
    return slash ? slash + 1 : path;
}

bool output_same(const char *a, const char *b)
{
    struct stat of_a, of_b;
    return a && b && strcmp(split(a, &of_a), split(b, &of_b)) == 0 && of_a.st_ino == of_b.st_ino &&
           of_a.st_dev == of_b.st_dev;
}
