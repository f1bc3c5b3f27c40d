/* SPDX-License-Identifier: Apache-2.0 */
/* dst[n, y, x, (dy, dx, c)] = x[n, y * block + dy, x * block + dx, c], zero outside: for each dy
 * the pixels of a block lie side by side, so an output pixel is `block` copies. */
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

static void copy_elements(const vt_exec *exec, const vt_record *r, int64_t from, int64_t to,
                          int64_t count)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    bool src_bf16 = vt_map_is_bf16(exec->program, r->source[0]);
    bool dst_bf16 = vt_map_is_bf16(exec->program, r->dst);
    const char *src = vt_exec_map(exec, r->source[0]);
    char *dst = vt_exec_map(exec, r->dst);
    src += from * (src_bf16 ? 2 : 4);
    dst += to * (dst_bf16 ? 2 : 4);
    if (src_bf16 == dst_bf16) {
        memcpy(dst, src, (size_t)count * (src_bf16 ? 2 : 4));
    } else if (src_bf16) {
        k->widen((const void *)src, count, (void *)dst);
    } else {
        k->narrow((const void *)src, count, (void *)dst);
    }
}

static void space_to_depth_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    int64_t block = r->as.block, line = block * s.c;
    size_t element = vt_map_is_bf16(exec->program, r->dst) ? 2 : 4;
    char *dst = vt_exec_map(exec, r->dst);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t pixel = 0; pixel < d.n * d.h * d.w; pixel++) {
        int64_t sx = pixel % d.w * block, sy = pixel / d.w % d.h * block, n = pixel / (d.w * d.h);
        int64_t inside = (s.w - sx < block ? s.w - sx : block) * s.c;
        for (int64_t dy = 0; dy < block; dy++) {
            int64_t to = pixel * d.c + dy * line, have = sy + dy < s.h ? inside : 0;
            if (have) {
                copy_elements(exec, r, ((n * s.h + sy + dy) * s.w + sx) * s.c, to, have);
            }
            memset(dst + (size_t)(to + have) * element, 0, (size_t)(line - have) * element);
        }
    }
}

const vt_impl vt_cpu_space_to_depth = {.name = "copy", .run = space_to_depth_run};
