/* SPDX-License-Identifier: Apache-2.0 */
/* dst[n, 0, 0, c] = mean over h, w. Pixels are summed in order within groups of GROUP and the
 * groups in order, per channel: the order depends on h * w alone. Threads share out images and
 * chunks of channels. */
#include "core/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

enum { FEWEST = 64, MOST = 512, GROUP = 64 }; /* channels of a chunk; pixels */

/* sum[count] = sum over all pixels of channels [c, c + count) of image n */
static void sum_pixels(const vt_exec *exec, const vt_record *r, int64_t n, int64_t c, int64_t count,
                       float *sum)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    vt_shape s = vt_exec_shape(exec, r->source[0]);
    int64_t pixels = s.h * s.w;
    for (int64_t first = 0; first < pixels; first += GROUP) {
        k->maps->sum(&(vt_cpu_sums){
            .src = vt_map_at(exec, r->source[0], (n * pixels + first) * s.c + c),
            .src_bf16 = vt_map_is_bf16(exec->program, r->source[0]),
            .rows = pixels - first < GROUP ? pixels - first : GROUP,
            .stride = s.c,
            .channels = count,
            .sum = sum,
        });
    }
}

/* Channels of a chunk: whole rows are read at once where the images occupy the threads. */
static int64_t chunk_of(vt_shape s, int threads)
{
    int64_t chunks = vt_div_up(threads, s.n);
    int64_t chunk = vt_div_up(vt_div_up(s.c, chunks), FEWEST) * FEWEST;
    return chunk < MOST ? chunk : MOST;
}

static void mean_pool_run(const vt_exec *exec, const vt_record *r)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    vt_shape s = vt_exec_shape(exec, r->source[0]);
    int64_t chunk = chunk_of(s, exec->threads), chunks = vt_div_up(s.c, chunk);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < s.n * chunks; i++) {
        float sum[MOST] = {0};
        int64_t n = i / chunks, c = i % chunks * chunk;
        int64_t count = s.c - c < chunk ? s.c - c : chunk;
        sum_pixels(exec, r, n, c, count, sum);
        k->scale(sum, count, 1.0f / (float)(s.h * s.w), sum);
        k->finish(&(vt_cpu_finish){
            .rows = 1,
            .cols = count,
            .src = sum,
            .dst = vt_map_at(exec, r->dst, n * s.c + c),
            .dst_bf16 = vt_map_is_bf16(exec->program, r->dst),
        });
    }
}

const vt_impl vt_cpu_mean_pool = {.name = "channels", .run = mean_pool_run};
