/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes as a checkpoint, opened and read; its last byte chooses the settings.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -fopenmp -Iinclude -Isrc -D_GNU_SOURCE \
 *     tests/fuzz/fuzz_checkpoint.c LIBRARY_SOURCES -ljansson -lz -lm -o fuzz_checkpoint
 *   ./fuzz_checkpoint -max_len=16384 CORPUS tests/fixtures/checkpoints
 *
 * With -DVT_FUZZ_FILES it is a plain program that runs the files named on its command line.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vertebra/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_some(const vt_checkpoint *checkpoint)
{
    float out[512];
    for (size_t i = 0; i < vt_checkpoint_count(checkpoint); i++) {
        const vt_checkpoint_entry *entry = vt_checkpoint_at(checkpoint, i);
        int64_t n = entry->elements < 512 ? entry->elements : 512;
        vt_checkpoint_read(checkpoint, entry, 0, n, out, NULL);
        vt_checkpoint_read(checkpoint, entry, (entry->elements - n) / 2, n, out, NULL);
        vt_checkpoint_read(checkpoint, entry, entry->elements - n, n, out, NULL);
        if (vt_checkpoint_find(checkpoint, entry->name) != entry) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    vt_context *context;
    vt_checkpoint *checkpoint;
    vt_context_settings device = vt_context_settings_default();
    device.device = "ref";
    if (vt_context_create(&context, &device, NULL) != VT_OK) {
        return 0;
    }
    /* The whole input is the file, so that fixtures serve as seeds; its last byte chooses. */
    uint8_t choice = data[size - 1];
    vt_checkpoint_settings settings = {
        .ema = choice & 1, .verify = choice & 2, .root = choice & 4 ? "model" : NULL};
    char path[64];
    int fd = memfd_create("fuzz", 0);
    if (fd >= 0 && write(fd, data, size) == (ssize_t)size) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (vt_checkpoint_open(&checkpoint, context, path, &settings, NULL) == VT_OK) {
            read_some(checkpoint);
        }
        vt_checkpoint_close(&checkpoint);
    }
    if (fd >= 0) {
        close(fd);
    }
    vt_context_destroy(&context);
    return 0;
}

#ifdef VT_FUZZ_FILES
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        static uint8_t buffer[1 << 20];
        if (file) {
            size_t size = fread(buffer, 1, sizeof buffer, file);
            fclose(file);
            LLVMFuzzerTestOneInput(buffer, size);
        }
    }
    return 0;
}
#endif
