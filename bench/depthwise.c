/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolutions of ConvNeXt, DaViT and VAN: time of one record, best and median of many,
 * beside the time that multiply-adds at the measured peak would take and that memory would take to
 * copy as many bytes.
 *   gcc -O2 -fopenmp -Iinclude -Isrc bench/depthwise.c build/release/libvertebra.a \
 *       -o build/depthwise -ljansson -lz -lm
 *   build/depthwise [THREADS [bf16 [ISA]]]     ISA: 1 portable ... 4 avx512_bf16 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "ops/backend.h"

enum { ROUNDS = 200 };

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

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct shape {
    const char *name;
    int64_t size, channels;
    int kernel, dilation, stride;
    vt_activation act;
} shape;

static const shape shapes[] = {
    {"DaViT", 56, 96, 3, 1, 1, 0},
    {"DaViT", 28, 192, 3, 1, 1, 0},
    {"DaViT", 14, 384, 3, 1, 1, 0},
    {"DaViT", 7, 768, 3, 1, 1, 0},
    {"ConvNeXt", 56, 96, 7, 1, 1, 0},
    {"ConvNeXt", 28, 192, 7, 1, 1, 0},
    {"ConvNeXt", 14, 384, 7, 1, 1, 0},
    {"ConvNeXt", 7, 768, 7, 1, 1, 0},
    {"LKA", 56, 64, 5, 1, 1, 0},
    {"LKA", 56, 64, 7, 3, 1, 0},
    {"LKA", 28, 128, 7, 3, 1, 0},
    {"LKA", 14, 320, 7, 3, 1, 0},
    {"LKA", 7, 512, 7, 3, 1, 0},
    {"VAN MLP", 56, 512, 3, 1, 1, VT_ACT_GELU},
    {"MBConv", 112, 256, 3, 1, 2, VT_ACT_GELU_TANH},
};

/* Bytes per second that all threads together copy between blocks of this size. */
static double copy_rate(void *dst, const void *src, size_t bytes, int threads)
{
    double best = 1e9;
    for (int i = 0; i < 50; i++) {
        double start = omp_get_wtime();
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int k = 0; k < threads; k++) {
            size_t first = bytes * (size_t)k / (size_t)threads;
            size_t end = bytes * (size_t)(k + 1) / (size_t)threads;
            memcpy((char *)dst + first, (const char *)src + first, end - first);
        }
        double t = omp_get_wtime() - start;
        best = t < best ? t : best;
    }
    return 2.0 * (double)bytes / best;
}

/* Multiply-adds with taps that lie in the map, along one axis. */
static double taps(const shape *k, int64_t out)
{
    double count = 0;
    int64_t pad = k->dilation * (k->kernel - 1) / 2;
    for (int64_t x = 0; x < out; x++) {
        for (int i = 0; i < k->kernel; i++) {
            int64_t at = x * k->stride + i * k->dilation - pad;
            count += at >= 0 && at < k->size;
        }
    }
    return count;
}

static void run(const vt_backend *backend, const shape *k, int threads, vt_dtype dtype, double peak)
{
    int pad = k->dilation * (k->kernel - 1) / 2;
    int64_t out = (k->size - 1) / k->stride + 1;
    int64_t in_count = k->size * k->size * k->channels, out_count = out * out * k->channels;
    vt_map maps[2] = {{{1, k->size, k->size, k->channels}, dtype},
                      {{1, out, out, k->channels}, dtype}};
    vt_program program = {.maps = maps, .map_count = 2};
    vt_weight_data weights[3] = {{0}};
    weights[1].data = filled(k->kernel * k->kernel * k->channels);
    weights[2].data = filled(k->channels);
    vt_record r = {.kind = VT_OP_DEPTHWISE, .source = {{0}, {-1}, {-1}}, .dst = {1}};
    r.as.depthwise.conv = (vt_conv2d){.weight = {1},
                                      .bias = {2},
                                      .act = k->act,
                                      .kernel_h = k->kernel,
                                      .kernel_w = k->kernel,
                                      .stride_h = k->stride,
                                      .stride_w = k->stride,
                                      .dilation_h = k->dilation,
                                      .dilation_w = k->dilation,
                                      .pad_top = pad,
                                      .pad_left = pad,
                                      .pad_bottom = pad,
                                      .pad_right = pad};
    void *data[2] = {filled(in_count), filled(out_count)};
    if (dtype == VT_BF16) {
        memset(data[0], 0, (size_t)in_count * 2);
    }
    const vt_impl *impl = backend->impls[VT_OP_DEPTHWISE][0];
    vt_exec exec = {.backend = backend,
                    .program = &program,
                    .weights = weights,
                    .maps = data,
                    .threads = threads};
    double times[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double start = omp_get_wtime();
        impl->run(&exec, &r);
        times[i] = omp_get_wtime() - start;
    }
    qsort(times, ROUNDS, sizeof times[0], by_value);
    double bytes = (double)(in_count + out_count) * (dtype == VT_BF16 ? 2 : 4);
    double flops = 2.0 * taps(k, out) * taps(k, out) * (double)k->channels;
    double by_memory = bytes / copy_rate(data[1], data[0],
                                         (size_t)out_count * (dtype == VT_BF16 ? 2 : 4), threads);
    double by_peak = flops / (peak * 1e9), floor = by_peak > by_memory ? by_peak : by_memory;
    printf("%-8s %dx%d d%d s%d %3dx%-3dx%4d %8.1f %8.1f %6.1f %7.0f %7.1f %7.1f %5.0f%%\n", k->name,
           k->kernel, k->kernel, k->dilation, k->stride, (int)k->size, (int)k->size,
           (int)k->channels, times[0] * 1e6, times[ROUNDS / 2] * 1e6, bytes / times[0] * 1e-9,
           flops / times[0] * 1e-9, by_peak * 1e6, by_memory * 1e6, 100 * floor / times[0]);
    free(data[0]);
    free(data[1]);
    free(weights[1].data);
    free(weights[2].data);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    vt_dtype dtype = argc > 2 && strcmp(argv[2], "bf16") == 0 ? VT_BF16 : VT_F32;
    vt_isa isa = argc > 3 ? (vt_isa)atoi(argv[3]) : VT_ISA_AUTO;
    const vt_backend *backend;
    if (vt_backend_cpu(&backend, isa, NULL) != VT_OK) {
        return 1;
    }
    double peak = backend->peak(backend, VT_F32, threads);
    printf("%s, %d thread%s, peak %.0f GFLOP/s; times in us\n", backend->name, threads,
           threads == 1 ? "" : "s", peak);
    printf("%-32s %8s %8s %6s %7s %7s %7s %6s\n", "", "min", "median", "GB/s", "GFLOP/s", "by peak",
           "by copy", "floor");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        run(backend, &shapes[i], threads, dtype, peak);
    }
    return 0;
}
