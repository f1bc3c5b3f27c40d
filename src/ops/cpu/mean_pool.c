/* SPDX-License-Identifier: Apache-2.0 */
/* dst[n, 0, 0, c] = mean over h, w. Pixels are summed in order within groups of GROUP and the
 * groups in order, per channel: the order depends on h * w alone. Threads share out images and
 * chunks of channels. */
#include "core/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

enum { CHANNELS = 64, GROUP = 64 };

/* sum[count] = sum over all pixels of channels [c, c + count) of image n */
static void sum_pixels(const vt_exec *exec, const vt_record *r, int64_t n, int64_t c, int64_t count,
                       float *sum)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    vt_shape s = vt_exec_shape(exec, r->source[0]);
    bool bf16 = vt_map_is_bf16(exec->program, r->source[0]);
    const void *src = vt_exec_map(exec, r->source[0]);
    int64_t pixels = s.h * s.w;
    for (int64_t first = 0; first < pixels; first += GROUP) {
        float group[CHANNELS] = {0}, wide[CHANNELS];
        int64_t end = pixels - first < GROUP ? pixels : first + GROUP;
        for (int64_t i = first; i < end; i++) {
            int64_t at = (n * pixels + i) * s.c + c;
            const float *row = (const float *)src + at;
            if (bf16) {
                k->widen((const uint16_t *)src + at, count, wide);
                row = wide;
            }
            k->add(group, row, count, group);
        }
        k->add(sum, group, count, sum);
    }
}

static void mean_pool_run(const vt_exec *exec, const vt_record *r)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    vt_shape s = vt_exec_shape(exec, r->source[0]);
    bool bf16 = vt_map_is_bf16(exec->program, r->dst);
    void *dst = vt_exec_map(exec, r->dst);
    int64_t chunks = vt_div_up(s.c, CHANNELS);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < s.n * chunks; i++) {
        float sum[CHANNELS] = {0};
        int64_t n = i / chunks, c = i % chunks * CHANNELS;
        int64_t count = s.c - c < CHANNELS ? s.c - c : CHANNELS;
        sum_pixels(exec, r, n, c, count, sum);
        k->scale(sum, count, 1.0f / (float)(s.h * s.w), sum);
        k->finish(&(vt_cpu_finish){
            .rows = 1,
            .cols = count,
            .src = sum,
            .dst = bf16 ? (void *)((uint16_t *)dst + n * s.c + c)
                        : (void *)((float *)dst + n * s.c + c),
            .dst_bf16 = bf16,
        });
    }
}

const vt_impl vt_cpu_mean_pool = {.name = "channels", .run = mean_pool_run};
