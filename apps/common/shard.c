/* SPDX-License-Identifier: Apache-2.0 */
#include "shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 1 << 20 };

static bool variable(const char *name, int *out)
{
    const char *text = getenv(name);
    return text && cli_number(text, 0, 1 << 30, out);
}

/* The place in a Slurm array, from 0 on; false: this is none. */
static bool slurm_array(int *place, int *count)
{
    int id, first, step;
    if (!variable("SLURM_ARRAY_TASK_ID", &id) || !variable("SLURM_ARRAY_TASK_COUNT", count) ||
        !variable("SLURM_ARRAY_TASK_MIN", &first)) {
        return false;
    }
    if (!variable("SLURM_ARRAY_TASK_STEP", &step) || step < 1) {
        step = 1;
    }
    *place = (id - first) / step;
    return true;
}

static bool mpi_rank(int *rank, int *size)
{
    static const char *const pairs[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"},
                                           {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},
                                           {"SLURM_PROCID", "SLURM_NTASKS"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (variable(pairs[i][0], rank) && variable(pairs[i][1], size)) {
            return true;
        }
    }
    return false;
}

static int shard_auto(const cli_options *options, int *shard, int *shards)
{
    int place = 0, count = 1, rank = 0, size = 1;
    bool array = slurm_array(&place, &count), parallel = mpi_rank(&rank, &size);
    if (!array && !parallel) {
        return cli_fail(options, "--shard auto: no variables of a Slurm array or of MPI are set");
    }
    if (place < 0 || place >= count || rank >= size || count > MAX_SHARDS / size) {
        return cli_fail(options,
                        "--shard auto: task %d of %d and rank %d of %d make no shard; give I/N",
                        place + 1, count, rank + 1, size);
    }
    *shard = place * size + rank + 1;
    *shards = count * size;
    return CLI_OK;
}

int shard_read(const cli_options *options, const char *text, int *shard, int *shards)
{
    if (strcmp(text, "auto") == 0) {
        return shard_auto(options, shard, shards);
    }
    char first[16];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : 0;
    bool good = slash && length < sizeof first;
    if (good) {
        memcpy(first, text, length);
        first[length] = '\0';
        good = cli_number(slash + 1, 1, MAX_SHARDS, shards) && cli_number(first, 1, *shards, shard);
    }
    return good ? CLI_OK
                : cli_usage(options, "--shard %s: want I/N with I from 1 to N, or auto", text);
}

int shard_name(const cli_options *options, const char *option, const char *name, int shard,
               int shards, char **out)
{
    static const char place[] = "{shard}";
    if (shards > 1 && !strstr(name, place) && strcmp(name, "-") != 0) {
        const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
        const int before = (int)(dot ? dot - name : (ptrdiff_t)strlen(name));
        return cli_usage(options,
                         "--%s %s: %d shards would write it; {shard} stands for the number: "
                         "--%s '%.*s.%s%s'",
                         option, name, shards, option, before, name, place, name + before);
    }
    size_t size;
    FILE *stream = open_memstream(out, &size);
    for (const char *at; stream && (at = strstr(name, place)); name = at + strlen(place)) {
        fprintf(stream, "%.*s%d", (int)(at - name), name, shard);
    }
    if (stream) {
        fputs(name, stream);
    }
    return stream && fclose(stream) == 0 ? CLI_OK : cli_fail(options, "out of memory");
}
