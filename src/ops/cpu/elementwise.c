/* SPDX-License-Identifier: Apache-2.0 */
/* affine: dst = x * scale[c] + shift[c]; mul: dst = a * b, or a * b[n, c]; concat: dst = a, then b.
 * All stream through memory once, pixels shared out among the threads. */
#include "core/checked.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

enum { CHUNK = 4096 }; /* elements of a call, about */

/* Rows `first` ... of dst = source[0] * b + shift. */
static void multiply(const vt_exec *exec, const vt_record *r, const vt_cpu_multiply *operand,
                     int64_t first)
{
    int64_t at = first * operand->cols;
    vt_cpu_multiply m = *operand;
    m.a = vt_map_at(exec, r->source[0], at);
    m.a_bf16 = vt_map_is_bf16(exec->program, r->source[0]);
    m.dst = vt_map_at(exec, r->dst, at);
    m.dst_bf16 = vt_map_is_bf16(exec->program, r->dst);
    vt_cpu_kernels_of(exec->backend)->maps->multiply(&m);
}

static void affine_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst);
    int64_t rows = s.n * s.h * s.w, step = vt_div_up(CHUNK, s.c);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < rows; i += step) {
        multiply(exec, r,
                 &(vt_cpu_multiply){.rows = rows - i < step ? rows - i : step,
                                    .cols = s.c,
                                    .b = vt_exec_vector(exec, r->as.affine.scale),
                                    .shift = vt_exec_vector(exec, r->as.affine.shift)},
                 i);
    }
}

static void mul_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst), t = vt_exec_shape(exec, r->source[1]);
    bool whole = t.h == s.h && t.w == s.w, bf16 = vt_map_is_bf16(exec->program, r->source[1]);
    int64_t pixels = s.h * s.w, step = vt_div_up(CHUNK, s.c), parts = vt_div_up(pixels, step);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < s.n * parts; i++) {
        int64_t n = i / parts, first = i % parts * step;
        int64_t row = n * pixels + first;
        multiply(exec, r,
                 &(vt_cpu_multiply){.rows = pixels - first < step ? pixels - first : step,
                                    .cols = s.c,
                                    .b = vt_map_at(exec, r->source[1], (whole ? row : n) * s.c),
                                    .b_bf16 = bf16,
                                    .b_stride = whole ? s.c : 0},
                 row);
    }
}

static void concat_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]), t = vt_exec_shape(exec, r->source[1]);
#pragma omp parallel for num_threads(exec->threads) schedule(static)
    for (int64_t i = 0; i < s.n * s.h * s.w; i++) {
        int64_t at = i * (s.c + t.c);
        vt_cpu_copy(exec, r->source[0], i * s.c, r->dst, at, s.c);
        vt_cpu_copy(exec, r->source[1], i * t.c, r->dst, at + s.c, t.c);
    }
}

const vt_impl vt_cpu_affine = {.name = "vector", .run = affine_run};
const vt_impl vt_cpu_mul = {.name = "vector", .run = mul_run};
const vt_impl vt_cpu_concat = {.name = "copy", .run = concat_run};
