/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ops/ref/ref.h"

static void affine_run(const vt_exec *exec, const vt_record *r)
{
    const vt_affine *p = &r->as.affine;
    vt_shape s = vt_exec_shape(exec, r->dst);
    const float *src = vt_exec_map(exec, r->source[0]);
    const float *scale = vt_exec_vector(exec, p->scale), *shift = vt_exec_vector(exec, p->shift);
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t i = 0; i < s.n * s.h * s.w; i++) {
        for (int64_t c = 0; c < s.c; c++) {
            dst[i * s.c + c] = src[i * s.c + c] * scale[c] + (shift ? shift[c] : 0.0f);
        }
    }
}

static void mul_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst), t = vt_exec_shape(exec, r->source[1]);
    const float *a = vt_exec_map(exec, r->source[0]), *b = vt_exec_map(exec, r->source[1]);
    float *dst = vt_exec_map(exec, r->dst);
    int64_t repeat = s.h * s.w / (t.h * t.w); /* pixels of an image that share one of b */
    for (int64_t i = 0; i < s.n * s.h * s.w; i++) {
        for (int64_t c = 0; c < s.c; c++) {
            dst[i * s.c + c] = a[i * s.c + c] * b[i / repeat * s.c + c];
        }
    }
}

static void concat_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->source[0]), t = vt_exec_shape(exec, r->source[1]);
    const float *a = vt_exec_map(exec, r->source[0]), *b = vt_exec_map(exec, r->source[1]);
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t i = 0; i < s.n * s.h * s.w; i++, dst += s.c + t.c) {
        memcpy(dst, a + i * s.c, (size_t)s.c * sizeof *dst);
        memcpy(dst + s.c, b + i * t.c, (size_t)t.c * sizeof *dst);
    }
}

const vt_impl vt_ref_affine = {.name = "ref", .run = affine_run};
const vt_impl vt_ref_mul = {.name = "ref", .run = mul_run};
const vt_impl vt_ref_concat = {.name = "ref", .run = concat_run};
