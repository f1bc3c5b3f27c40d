/* SPDX-License-Identifier: Apache-2.0 */
/* Window attention of Swin-T's four stages at batch 1: time of one record, best of many.
 *   gcc -O2 -fopenmp -Iinclude -Isrc bench/attention.c build/release/libvertebra.a \
 *       -o build/attention -ljansson -lz -lm
 *   build/attention [THREADS [bf16]] */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "ops/backend.h"

static void *plain_alloc(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *p = NULL;
    return posix_memalign(&p, alignment, size) == 0 ? p : NULL;
}

static void plain_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static const vt_allocator plain = {plain_alloc, plain_free, NULL};

static float *filled(int64_t count)
{
    float *x = vt_alloc(&plain, (size_t)count * sizeof *x);
    for (int64_t i = 0; x && i < count; i++) {
        x[i] = (float)(i * 7919 % 1000) / 500.0f - 1.0f;
    }
    return x;
}

static void run(const vt_backend *backend, int64_t size, int heads, int shift, int threads,
                vt_dtype dtype)
{
    int64_t channels = heads * 32;
    vt_map maps[2] = {{{1, size, size, 3 * channels}, dtype}, {{1, size, size, channels}, dtype}};
    vt_program program = {.maps = maps, .map_count = 2};
    vt_weight_data weights[3] = {{0}};
    weights[1].data = filled((int64_t)heads * 169);
    weights[2].data = filled(3 * channels);
    vt_weight_shape shapes[3] = {{0}};
    vt_record r = {.kind = VT_OP_ATTENTION, .dst = {1}};
    vt_value qkv = {0};
    r.as.attention = (vt_attention){
        .heads = heads,
        .q = {qkv, 0, 32},
        .k = {qkv, (int)channels, 32},
        .v = {qkv, 2 * (int)channels, 32},
        .scale = 0.17677669f,
        .bias = {1},
        .pad = {2},
        .pattern = {.window_h = 7, .window_w = 7, .shift_h = shift, .shift_w = shift},
    };
    void *data[2] = {filled(size * size * 3 * channels), filled(size * size * channels)};
    if (dtype == VT_BF16) {
        for (int64_t i = 0; i < size * size * 3 * channels; i++) {
            uint32_t bits;
            memcpy(&bits, (float *)data[0] + i, 4);
            ((uint16_t *)data[0])[i] = (uint16_t)(bits >> 16);
        }
    }
    vt_plan_input in = {backend, &program, shapes, dtype, threads};
    const vt_impl *impl = backend->impls[VT_OP_ATTENTION][0];
    void *scratch = vt_alloc(&plain, impl->scratch(&in, &r));
    vt_exec exec = {.backend = backend,
                    .program = &program,
                    .weights = weights,
                    .maps = data,
                    .scratch = scratch,
                    .threads = threads};
    double best = 1e9;
    for (int i = 0; i < 200; i++) {
        double start = omp_get_wtime();
        impl->run(&exec, &r);
        double t = omp_get_wtime() - start;
        best = t < best ? t : best;
    }
    double items = (double)((size / 7) * (size / 7) * heads) / threads;
    printf("%2dx%-2d %2d heads shift %d: %7.1f us, %5.0f ns per window and head, %4.0f GFLOP/s\n",
           (int)size, (int)size, heads, shift, best * 1e6, best * 1e9 / items,
           4e-9 * (double)(size * size) * 49 * (double)channels / best);
    free(scratch);
    free(data[0]);
    free(data[1]);
    free(weights[1].data);
    free(weights[2].data);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    vt_dtype dtype = argc > 2 ? VT_BF16 : VT_F32;
    const vt_backend *backend;
    if (vt_backend_cpu(&backend, VT_ISA_AUTO, NULL) != VT_OK) {
        return 1;
    }
    for (int shift = 0; shift <= 3; shift += 3) {
        run(backend, 56, 3, shift, threads, dtype);
        run(backend, 28, 6, shift, threads, dtype);
        run(backend, 14, 12, shift, threads, dtype);
        run(backend, 7, 24, shift, threads, dtype);
    }
    return 0;
}
