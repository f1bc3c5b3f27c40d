/* SPDX-License-Identifier: Apache-2.0 */
/* The samples that a deformable convolution multiplies: each is a blend of the one, two or four
 * pixels around its place that lie in the map. Pixels are shared out among the threads. */
#include <math.h>
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

/* Adds the corners that lie in the map to `b`. */
static void find_corners(vt_cpu_blend *b, vt_shape s, int64_t n, float y, float x)
{
    b->corners = 0;
    if (!(y > -1.0f && x > -1.0f && y < (float)s.h && x < (float)s.w)) {
        return;
    }
    float top = floorf(y), left = floorf(x), dy = y - top, dx = x - left;
    for (int i = 0; i < 4; i++) {
        int64_t row = (int64_t)top + i / 2, col = (int64_t)left + i % 2;
        if (row >= 0 && row < s.h && col >= 0 && col < s.w) {
            b->at[b->corners] = ((n * s.h + row) * s.w + col) * s.c;
            b->factor[b->corners++] = (i / 2 ? dy : 1.0f - dy) * (i % 2 ? dx : 1.0f - dx);
        }
    }
}

static void deform_patches_run(const vt_exec *exec, const vt_record *r)
{
    const vt_cpu_kernels *k = vt_cpu_kernels_of(exec->backend);
    vt_shape s = vt_exec_shape(exec, r->source[0]), d = vt_exec_shape(exec, r->dst);
    int64_t kernel = r->as.block, taps = kernel * kernel;
    bool offsets_bf16 = vt_map_is_bf16(exec->program, r->source[1]);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < d.n * d.h * d.w; i++) {
        vt_cpu_blend b = {.src = vt_exec_map(exec, r->source[0]),
                          .src_bf16 = vt_map_is_bf16(exec->program, r->source[0]),
                          .channels = s.c,
                          .dst_bf16 = vt_map_is_bf16(exec->program, r->dst)};
        int64_t y = i / d.w % d.h * kernel, x = i % d.w * kernel;
        for (int64_t t = 0; t < taps; t++) {
            const void *place = vt_map_at(exec, r->source[1], (i * taps + t) * 2);
            float offset[2];
            if (offsets_bf16) {
                k->widen(place, 2, offset);
            } else {
                memcpy(offset, place, sizeof offset);
            }
            find_corners(&b, s, i / (d.h * d.w), (float)(y + t / kernel) + offset[0],
                         (float)(x + t % kernel) + offset[1]);
            b.dst = vt_map_at(exec, r->dst, (i * taps + t) * s.c);
            k->maps->blend(&b);
        }
    }
}

const vt_impl vt_cpu_deform_patches = {.name = "blend", .run = deform_patches_run};
