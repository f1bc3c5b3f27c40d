/* SPDX-License-Identifier: Apache-2.0 */
/* A result file that appears whole or not at all: written beside, then renamed. */
#ifndef APPS_COMMON_OUTPUT_H
#define APPS_COMMON_OUTPUT_H

#include <stdio.h>

#include "cli.h"

typedef struct output { /* stays where it is while it is open: `file` knows its address */
    const char *path;
    char *temporary; /* NULL: written directly (stdout, a device) */
    FILE *file;      /* NULL: not open */
    int fd;
    int problem; /* errno of what failed first; 0: nothing */
} output;

/* Opens `path` for writing, so that a long run fails before it begins; "-" is stdout. A NULL path
 * opens nothing. CLI_OK, or CLI_FAILED after a message. */
int output_open(output *out, const cli_options *options, const char *path);

/* Closes; `keep` says whether the file is to appear. Accepts what is not open. */
int output_close(output *out, const cli_options *options, bool keep);

/* Whether two paths (NULL: none) are one file, which need not exist yet. */
bool output_same(const char *a, const char *b);

#endif
