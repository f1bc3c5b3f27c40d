/* SPDX-License-Identifier: Apache-2.0 */
/* What the attentions share: parts of scratch, channels of a head, products of small matrices. */
#ifndef VT_OPS_CPU_HEADS_H
#define VT_OPS_CPU_HEADS_H

#include <string.h>

#include "ops/cpu/gemm.h"

/* Reserves `count` elements behind what is taken already; returns where they begin. */
static inline size_t vt_cpu_take(size_t *at, int64_t count, size_t size)
{
    size_t here = *at;
    *at += ((size_t)count * size + VT_ALIGNMENT - 1) / VT_ALIGNMENT * VT_ALIGNMENT;
    return here;
}

static inline void *vt_cpu_place(char *scratch, size_t at)
{
    return scratch + at;
}

/* Channels [channel, ...) of pixels of an image, in the map that `h` lies in; rows, width, block
 * and what else is wanted are left to the caller. */
static inline vt_cpu_rows vt_cpu_head_rows(const vt_exec *exec, const vt_heads *h, int64_t image,
                                           int64_t channel, const int64_t *pixel)
{
    vt_shape s = vt_exec_shape(exec, h->map);
    return (vt_cpu_rows){.map = vt_exec_map(exec, h->map),
                         .bf16 = vt_map_is_bf16(exec->program, h->map),
                         .pixel = pixel,
                         .first = image * s.h * s.w * s.c + channel,
                         .step = s.c,
                         .factor = 1.0f};
}

/* Asks for the lines that scatter will write: stores that wait for their lines hold up those that
 * follow them. */
static inline void vt_cpu_claim_rows(const vt_cpu_rows *out)
{
    int64_t element = out->bf16 ? 2 : 4;
    for (int64_t i = 0; i < out->rows; i++) {
        const char *row =
            (const char *)out->map + (out->first + out->pixel[i] * out->step) * element;
        for (int64_t at = 0; at < out->width * element; at += VT_ALIGNMENT) {
            __builtin_prefetch(row + at, 1, 3);
        }
    }
}

/* c[rows][cols] = a[rows][depth] x panels + residual + fill; rows <= mr, panels [depth][nr],
 * cols a multiple of nr, `residual` as far apart as c or NULL, `fill` [nr] for the last panel only
 * or NULL. */
typedef struct vt_cpu_product {
    int rows;
    int64_t depth;
    const float *a;
    int64_t a_stride;
    const float *panels;
    int64_t panel_step; /* floats from one panel to the next */
    int64_t cols;
    const float *residual;
    int64_t residual_stride;
    const float *fill;
    float *c;
    int64_t c_stride;
} vt_cpu_product;

static inline void vt_cpu_multiply_panels(const vt_cpu_kernels *k, const vt_cpu_product *p)
{
    static const float nothing[VT_CPU_MAX_NR];
    const float *panel = p->panels;
    for (int64_t i = 0; i < p->cols; i += k->nr, panel += p->panel_step) {
        k->tile_f32(&(vt_cpu_tile){.rows = p->rows,
                                   .k = p->depth,
                                   .a = p->a,
                                   .a_stride = p->a_stride * 4,
                                   .panel = panel,
                                   .bias = p->fill && i + k->nr == p->cols ? p->fill : nothing,
                                   .residual = p->residual ? p->residual + i : NULL,
                                   .residual_stride = p->residual_stride * 4,
                                   .c = p->c + i,
                                   .c_stride = p->c_stride * 4,
                                   .ahead = (const char *)panel});
    }
}

#endif
