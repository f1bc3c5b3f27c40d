/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int output_open(output *out, const cli_options *options, const char *path)
{
    struct stat about;
    *out = (output){.path = path};
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
    if ((!exists || S_ISREG(about.st_mode)) &&
        asprintf(&out->temporary, "%s.%ld.tmp", path, (long)getpid()) < 0) {
        out->temporary = NULL;
        return cli_fail(options, "out of memory");
    }
    out->file = fopen(out->temporary ? out->temporary : path, out->temporary ? "wx" : "w");
    if (!out->file) {
        int reason = errno;
        free(out->temporary);
        out->temporary = NULL;
        return cli_fail(options, "%s: cannot create: %s", path, strerror(reason));
    }
    return CLI_OK;
}

int output_close(output *out, const cli_options *options, bool keep)
{
    if (!out->file || out->file == stdout) {
        return CLI_OK;
    }
    errno = 0;
    bool lost = ferror(out->file) != 0;
    lost |= fclose(out->file) != 0;
    lost = lost || (out->temporary && keep && rename(out->temporary, out->path) != 0);
    int reason = errno;
    if (out->temporary && (lost || !keep)) {
        unlink(out->temporary);
    }
    free(out->temporary);
    out->file = NULL;
    return lost && keep ? cli_fail(options, "%s: cannot write: %s", out->path,
                                   reason ? strerror(reason) : "unknown reason")
                        : CLI_OK;
}
