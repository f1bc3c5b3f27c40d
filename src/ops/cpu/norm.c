/* SPDX-License-Identifier: Apache-2.0 */
/* LayerNorm over the channels of each pixel, rows shared out among the threads:
 *   dst = (x - mean) / sqrt(variance + eps) * scale + shift */
#include <omp.h>

#include "core/memory.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

/* A row of floats per thread, for maps in bf16. */
static size_t row_bytes(const vt_program *program, const vt_record *r)
{
    size_t bytes = (size_t)program->maps[r->dst.id].shape.c * sizeof(float);
    return (bytes + VT_ALIGNMENT - 1) / VT_ALIGNMENT * VT_ALIGNMENT;
}

static size_t norm_scratch(const vt_plan_input *in, const vt_record *r)
{
    return row_bytes(in->program, r) * (size_t)in->threads;
}

static void norm_run(const vt_exec *exec, const vt_record *r)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    const vt_norm *p = &r->as.norm;
    vt_shape s = vt_exec_shape(exec, r->dst);
    const float *scale = vt_exec_vector(exec, p->scale), *shift = vt_exec_vector(exec, p->shift);
    bool src_bf16 = vt_map_is_bf16(exec->program, r->source[0]);
    bool dst_bf16 = vt_map_is_bf16(exec->program, r->dst);
    const void *src = vt_exec_map(exec, r->source[0]);
    void *dst = vt_exec_map(exec, r->dst);
    size_t bytes = row_bytes(exec->program, r);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < s.n * s.h * s.w; i++) {
        char *own = (char *)exec->scratch + bytes * (size_t)omp_get_thread_num();
        float *buffer = (float *)(void *)own;
        const float *row = (const float *)src + i * s.c;
        if (src_bf16) {
            k->widen((const uint16_t *)src + i * s.c, s.c, buffer);
            row = buffer;
        }
        float *out = dst_bf16 ? buffer : (float *)dst + i * s.c;
        k->norm_row(row, s.c, scale, shift, p->eps, out);
        if (dst_bf16) {
            k->narrow(out, s.c, (uint16_t *)dst + i * s.c);
        }
    }
}

const vt_impl vt_cpu_norm = {.name = "rows", .scratch = norm_scratch, .run = norm_run};
