/* SPDX-License-Identifier: Apache-2.0 */
/* Which part of a job this process is. */
#ifndef APPS_COMMON_SHARD_H
#define APPS_COMMON_SHARD_H

#include "cli.h"

/* "I/N" with I from 1 to N, or "auto": from the variables of a Slurm array, of MPI or of Slurm's
 * tasks (an array of parallel jobs: both together). CLI_OK, or CLI_USAGE or CLI_FAILED after a
 * message. */
int shard_read(const cli_options *options, const char *text, int *shard, int *shards);

/* The name of a result, the argument of --`option`, with the number of the shard for every
 * "{shard}" in it; to be freed. `shards` above 1: a name without it, which other shards would
 * write as well, is refused, but for "-". CLI_OK, or CLI_USAGE or CLI_FAILED after a message. */
int shard_name(const cli_options *options, const char *option, const char *name, int shard,
               int shards, char **out);

#endif
