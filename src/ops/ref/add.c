/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

static void add_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst);
    const float *a = vt_exec_map(exec, r->source[0]), *b = vt_exec_map(exec, r->source[1]);
    float *dst = vt_exec_map(exec, r->dst);
    for (int64_t i = 0; i < s.n * s.h * s.w * s.c; i++) {
        dst[i] = a[i] + b[i];
    }
}

const vt_impl vt_ref_add = {.name = "ref", .run = add_run};
