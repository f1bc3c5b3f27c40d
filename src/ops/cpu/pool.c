/* SPDX-License-Identifier: Apache-2.0 */
/* Mean or largest value under a kernel, output rows shared out among the threads. */
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

static void pool_run(const vt_exec *exec, const vt_record *r)
{
    const vt_pooling *p = &r->as.pooling;
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < d.n * d.h; i++) {
        int64_t n = i / d.h, top = i % d.h * p->stride - p->pad_top;
        int64_t first = top < 0 ? 0 : top, end = top + p->kernel < s.h ? top + p->kernel : s.h;
        vt_cpu_kernels_of(exec->backend)
            ->maps->pool(&(vt_cpu_pool){
                .src = vt_map_at(exec, r->source[0], (n * s.h + first) * s.w * s.c),
                .src_bf16 = vt_map_is_bf16(exec->program, r->source[0]),
                .src_w = s.w,
                .channels = s.c,
                .row_step = s.w * s.c,
                .rows = (int)(end - first),
                .kernel = p->kernel,
                .stride = p->stride,
                .pad_left = p->pad_left,
                .largest = p->kind == VT_POOL_MAX,
                .dst = vt_map_at(exec, r->dst, i * d.w * d.c),
                .dst_bf16 = vt_map_is_bf16(exec->program, r->dst),
                .dst_w = d.w,
            });
    }
}

const vt_impl vt_cpu_pooling = {.name = "rows", .run = pool_run};
