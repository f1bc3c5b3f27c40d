/* SPDX-License-Identifier: Apache-2.0 */
/* The attentions of published models at batch 1: time of one record, best of many; GFLOP/s of the
 * keys that queries see, and their share of the measured peak.
 *   gcc -O2 -fopenmp -Iinclude -Isrc bench/attention.c build/release/libvertebra.a \
 *       -o build/attention -ljansson -lz -lm
 *   build/attention [THREADS [f32|bf16 [NAME]]]   only cases whose name has NAME in it */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
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

/* A record: `size` x `size` queries, `keys` x `keys` keys (0: the same map). */
typedef struct bench_case {
    const char *name;
    vt_op_kind kind;
    int64_t size, keys;
    int heads, width, v_width;
    vt_pattern pattern;
    bool bias, relative;
} bench_case;

#define WINDOW(side, distance)                                                                     \
    {                                                                                              \
        .window_h = side, .window_w = side, .shift_h = distance, .shift_w = distance               \
    }
#define GRID                                                                                       \
    {                                                                                              \
        .kind = VT_PATTERN_GRID, .window_h = 7, .window_w = 7                                      \
    }
#define NEAR(step)                                                                                 \
    {                                                                                              \
        .kind = VT_PATTERN_NEIGHBORHOOD, .window_h = 7, .window_w = 7, .dilation_h = step,         \
        .dilation_w = step                                                                         \
    }
#define HALO(step)                                                                                 \
    {                                                                                              \
        .kind = VT_PATTERN_HALO, .window_h = 8, .window_w = 8, .halo_h = 3, .halo_w = 3,           \
        .stride_h = step, .stride_w = step                                                         \
    }
#define GLOBAL                                                                                     \
    {                                                                                              \
        .kind = VT_PATTERN_GLOBAL                                                                  \
    }
#define SOFTMAX VT_OP_ATTENTION

static const bench_case cases[] = {
    {"Swin-T stage 1", SOFTMAX, 56, 0, 3, 32, 32, WINDOW(7, 0), true, false},
    {"Swin-T stage 2", SOFTMAX, 28, 0, 6, 32, 32, WINDOW(7, 0), true, false},
    {"Swin-T stage 3", SOFTMAX, 14, 0, 12, 32, 32, WINDOW(7, 0), true, false},
    {"Swin-T stage 4", SOFTMAX, 7, 0, 24, 32, 32, WINDOW(7, 0), true, false},
    {"Swin-T stage 1, shifted", SOFTMAX, 56, 0, 3, 32, 32, WINDOW(7, 3), true, false},
    {"Swin-T stage 2, shifted", SOFTMAX, 28, 0, 6, 32, 32, WINDOW(7, 3), true, false},
    {"Swin-T stage 3, shifted", SOFTMAX, 14, 0, 12, 32, 32, WINDOW(7, 3), true, false},
    {"SwinV2-B stage 3", SOFTMAX, 24, 0, 16, 32, 32, WINDOW(24, 0), true, false},
    {"MaxViT-T stage 1, grid", SOFTMAX, 56, 0, 2, 32, 32, GRID, true, false},
    {"NAT-T stage 1", SOFTMAX, 56, 0, 2, 32, 32, NEAR(1), true, false},
    {"NAT-T stage 2", SOFTMAX, 28, 0, 4, 32, 32, NEAR(1), true, false},
    {"NAT-T stage 3", SOFTMAX, 14, 0, 8, 32, 32, NEAR(1), true, false},
    {"NAT-T stage 4", SOFTMAX, 7, 0, 16, 32, 32, NEAR(1), true, false},
    {"DiNAT-T stage 1", SOFTMAX, 56, 0, 2, 32, 32, NEAR(8), true, false},
    {"DiNAT-T stage 2", SOFTMAX, 28, 0, 4, 32, 32, NEAR(4), true, false},
    {"DiNAT-T stage 3", SOFTMAX, 14, 0, 8, 32, 32, NEAR(2), true, false},
    {"HaloNet 8/3", SOFTMAX, 32, 0, 8, 16, 32, HALO(1), false, true},
    {"HaloNet 8/3, stride 2", SOFTMAX, 16, 32, 8, 16, 64, HALO(2), false, true},
    {"HiLo Lo-Fi", SOFTMAX, 14, 7, 6, 32, 32, GLOBAL, false, false},
    {"HiLo Lo-Fi, 1024 px", SOFTMAX, 64, 32, 6, 32, 32, GLOBAL, false, false},
    {"L2ViT-T stage 1", VT_OP_LINEAR_ATTENTION, 56, 0, 3, 32, 32, GLOBAL, false, false},
    {"L2ViT-T stage 3", VT_OP_LINEAR_ATTENTION, 14, 0, 12, 32, 32, GLOBAL, false, false},
    {"DaViT-T stage 1", VT_OP_CHANNEL_ATTENTION, 56, 0, 3, 32, 32, GLOBAL, false, false},
    {"DaViT-T stage 3", VT_OP_CHANNEL_ATTENTION, 14, 0, 12, 32, 32, GLOBAL, false, false},
};

/* Maps 0: queries, 1: keys and values, 2: result; weights 1: bias, 2: rows and columns. */
static vt_record make_record(const bench_case *c)
{
    int keys = c->heads * c->width;
    vt_heads q = {{0}, 0, c->width}, k = {{1}, 0, c->width}, v = {{1}, keys, c->v_width};
    vt_record r = {.kind = c->kind, .source = {q.map, k.map, v.map}, .dst = {2}};
    if (c->kind == VT_OP_LINEAR_ATTENTION) {
        r.as.linear_attention = (vt_linear_attention){c->heads, q, k, v, 100.0f, {0}};
    } else if (c->kind == VT_OP_CHANNEL_ATTENTION) {
        r.as.channel_attention = (vt_channel_attention){c->heads, q, k, v, 0.001f};
    } else {
        r.as.attention = (vt_attention){.heads = c->heads,
                                        .q = q,
                                        .k = k,
                                        .v = v,
                                        .scale = 0.17677669f,
                                        .bias = {c->bias ? 1 : 0},
                                        .rows = {c->relative ? 2 : 0},
                                        .cols = {c->relative ? 2 : 0},
                                        .pattern = c->pattern};
    }
    return r;
}

static void *filled_map(vt_map m)
{
    int64_t count = m.shape.n * m.shape.h * m.shape.w * m.shape.c;
    float *x = filled(count);
    for (int64_t i = 0; m.dtype == VT_BF16 && i < count; i++) {
        ((uint16_t *)(void *)x)[i] = vt_to_bf16(x[i]);
    }
    return x;
}

static void run(const vt_backend *backend, const bench_case *c, int threads, vt_dtype dtype,
                double peak)
{
    int64_t keys = c->keys ? c->keys : c->size;
    vt_map maps[3] = {{{1, c->size, c->size, c->heads * c->width}, dtype},
                      {{1, keys, keys, c->heads * (c->width + c->v_width)}, dtype},
                      {{1, c->size, c->size, c->heads * c->v_width}, dtype}};
    vt_program program = {.maps = maps, .map_count = 3};
    vt_weight_data weights[3] = {{0}};
    vt_weight_shape shapes[3] = {{0}};
    weights[1].data = filled((int64_t)c->heads * 47 * 47);
    weights[2].data = filled(27 * c->width);
    vt_record r = make_record(c);
    void *data[3] = {filled_map(maps[0]), filled_map(maps[1]), filled_map(maps[2])};
    vt_plan_input in = {backend, &program, shapes, dtype, threads, false};
    const vt_impl *impl = backend->impls[r.kind][0];
    for (int i = 1; impl->refuse && impl->refuse(&in, &r); i++) {
        impl = backend->impls[r.kind][i];
    }
    void *scratch = vt_alloc(&plain, impl->scratch(&in, &r));
    vt_exec exec = {.backend = backend,
                    .program = &program,
                    .weights = weights,
                    .maps = data,
                    .scratch = scratch,
                    .threads = threads};
    double best = 1e9, end = omp_get_wtime() + 0.3;
    while (omp_get_wtime() < end) {
        double start = omp_get_wtime();
        impl->run(&exec, &r);
        double t = omp_get_wtime() - start;
        best = t < best ? t : best;
    }
    double rate = vt_record_cost(&program, &r, shapes, dtype).flops / best * 1e-9;
    printf("%-24s %-6s %9.1f us %6.1f GFLOP/s %4.0f %% of peak\n", c->name, impl->name, best * 1e6,
           rate, 100.0 * rate / peak);
    free(scratch);
    for (int i = 0; i < 3; i++) {
        free(data[i]);
        free(weights[i].data);
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    vt_dtype dtype = argc > 2 && strcmp(argv[2], "bf16") == 0 ? VT_BF16 : VT_F32;
    const vt_backend *backend;
    if (vt_backend_cpu(&backend, VT_ISA_AUTO, NULL) != VT_OK) {
        return 1;
    }
    double peak = backend->peak(backend, VT_F32, threads); /* attention multiplies in f32 */
    printf("%s, %d threads, %s maps, peak %.0f GFLOP/s\n", backend->name, threads,
           vt_dtype_name(dtype), peak);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (argc < 4 || strstr(cases[i].name, argv[3])) {
            run(backend, &cases[i], threads, dtype, peak);
        }
    }
    return 0;
}
