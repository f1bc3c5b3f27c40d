/* SPDX-License-Identifier: Apache-2.0 */
/* The tile driver that linear records and convolutions share. */
#ifndef VT_OPS_CPU_GEMM_H
#define VT_OPS_CPU_GEMM_H

#include "ops/backend.h"
#include "ops/cpu/kernels.h"

typedef struct vt_gemm vt_gemm;

/* Returns row r of the left operand as f32: where it lies, or written to `buffer` [depth]. */
typedef const float *(*vt_gemm_row)(const vt_gemm *g, int64_t r, float *buffer);

/* dst[rows, cols] = residual + norm_out(act(bias + norm_in(row(r)) x weight^T)), or with `gated`
 * the product of both */
struct vt_gemm {
    const vt_cpu_kernels *kernels;
    int64_t rows, cols, depth;
    vt_dtype weight_dtype;
    const void *panels;
    const float *bias; /* [cols] or NULL */
    vt_activation act;
    vt_norm_place norm_place;
    const float *scale, *shift; /* of the norm, or NULL */
    float eps;
    /* The left operand: NULL: row r is src[r * depth ...]. */
    vt_gemm_row row;
    const void *row_args;
    const void *src;
    bool src_bf16;
    const void *residual; /* or NULL */
    bool residual_bf16, gated;
    void *dst;
    bool dst_bf16;
};

/* Bytes of scratch that vt_gemm_run wants; looks at no pointer but `row` and `kernels`. */
size_t vt_gemm_scratch(const vt_gemm *g, int threads);
void vt_gemm_run(const vt_gemm *g, void *scratch, int threads);

/* out[count] = elements [at, at + count) of an f32 or bf16 map. */
void vt_gemm_read(const vt_gemm *g, int64_t at, int64_t count, float *out);

static inline const vt_cpu_kernels *vt_cpu_kernels_of(const vt_backend *backend)
{
    return backend->kernels;
}

/* Element type of a map; true for bf16. */
static inline bool vt_map_is_bf16(const vt_program *program, vt_value v)
{
    return v.id >= 0 && program->maps[v.id].dtype == VT_BF16;
}

/* Where element `at` of a map lies; NULL for no map. */
static inline void *vt_map_at(const vt_exec *exec, vt_value v, int64_t at)
{
    char *map = vt_exec_map(exec, v);
    return map ? map + at * (vt_map_is_bf16(exec->program, v) ? 2 : 4) : NULL;
}

/* Panels that a matrix of `rows` outputs is packed into, and bytes of one. */
static inline int64_t vt_panel_count(const vt_cpu_kernels *k, int64_t rows)
{
    return (rows + k->nr - 1) / k->nr;
}

static inline bool vt_panel_pairs(const vt_cpu_kernels *k, vt_dtype dtype)
{
    return dtype == VT_BF16 && k->bf16_pairs;
}

static inline int64_t vt_panel_bytes(const vt_cpu_kernels *k, int64_t cols, vt_dtype dtype)
{
    int64_t depth = vt_panel_pairs(k, dtype) ? cols + (cols & 1) : cols;
    return depth * k->nr * (dtype == VT_BF16 ? 2 : 4);
}

#endif
