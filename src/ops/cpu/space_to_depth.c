/* SPDX-License-Identifier: Apache-2.0 */
/* dst[n, y, x, (dy, dx, c)] = x[n, y * block + dy, x * block + dx, c], zero outside: for each dy
 * the pixels of a block lie side by side, so an output pixel is `block` copies. */
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

void vt_cpu_copy(const vt_exec *exec, vt_value from, int64_t from_at, vt_value to, int64_t to_at,
                 int64_t count)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    bool src_bf16 = vt_map_is_bf16(exec->program, from);
    bool dst_bf16 = vt_map_is_bf16(exec->program, to);
    const void *src = vt_map_at(exec, from, from_at);
    void *dst = vt_map_at(exec, to, to_at);
    if (src_bf16 == dst_bf16) {
        memcpy(dst, src, (size_t)count * (src_bf16 ? 2 : 4));
    } else if (src_bf16) {
        k->widen(src, count, dst);
    } else {
        k->narrow(src, count, dst);
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
                int64_t from = ((n * s.h + sy + dy) * s.w + sx) * s.c;
                vt_cpu_copy(exec, r->source[0], from, r->dst, to, have);
            }
            memset(dst + (size_t)(to + have) * element, 0, (size_t)(line - have) * element);
        }
    }
}

const vt_impl vt_cpu_space_to_depth = {.name = "copy", .run = space_to_depth_run};
