/* SPDX-License-Identifier: Apache-2.0 */
/* dst = a + b over dense maps, pixels shared out among the threads. */
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

enum { CHUNK = 1024 };

static void add_run(const vt_exec *exec, const vt_record *r)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    vt_shape s = vt_exec_shape(exec, r->dst);
    int64_t total = s.n * s.h * s.w * s.c;
    bool a_bf16 = vt_map_is_bf16(exec->program, r->source[0]);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t at = 0; at < total; at += CHUNK) {
        int64_t count = total - at < CHUNK ? total - at : CHUNK;
        float wide[CHUNK];
        const float *a = vt_map_at(exec, r->source[0], at);
        if (a_bf16) {
            k->widen(vt_map_at(exec, r->source[0], at), count, wide);
            a = wide;
        }
        k->finish(&(vt_cpu_finish){.rows = 1,
                                   .cols = count,
                                   .src = a,
                                   .residual = vt_map_at(exec, r->source[1], at),
                                   .residual_bf16 = vt_map_is_bf16(exec->program, r->source[1]),
                                   .dst = vt_map_at(exec, r->dst, at),
                                   .dst_bf16 = vt_map_is_bf16(exec->program, r->dst)});
    }
}

const vt_impl vt_cpu_add = {.name = "vector", .run = add_run};
