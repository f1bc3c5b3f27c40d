/* SPDX-License-Identifier: Apache-2.0 */
#include "op_entry.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tolerance.h"

float op_spread(const op_entry *e)
{
    return e->spread > 0 ? e->spread : 1.0f;
}

void op_build(op_case *c, const op_entry *e, uint64_t seed, int64_t batch)
{
    vt_shape src = e->src;
    src.n = batch;
    op_begin(c, seed);
    e->build(c, e, src);
    if (c->builder.status != VT_OK) {
        fail_msg("%s: %s", e->name, c->builder.error.message);
    }
    assert_int_equal(c->program.record_count, 1);
}

void op_set_types(op_case *c, vt_dtype source, vt_dtype residual, vt_dtype dst)
{
    const vt_record *r = &c->program.records[0];
    for (int i = 0; i < VT_MAX_SOURCES; i++) {
        bool is_residual = i == 1 && (r->kind == VT_OP_LINEAR || r->kind == VT_OP_DEPTHWISE);
        if (r->source[i].id >= 0) {
            op_set_dtype(c, r->source[i], is_residual ? residual : source);
        }
    }
    op_set_dtype(c, r->dst, dst);
}

/* The terms of the longest sum: a row of the matrix, the taps that fall on the map, or as told. */
static int64_t terms_of(const op_case *c, const op_entry *e)
{
    const vt_record *r = &c->program.records[0];
    if (r->kind == VT_OP_DEPTHWISE) {
        vt_shape s = c->program.maps[r->source[0].id].shape;
        const vt_conv2d *p = &r->as.depthwise.conv;
        return (p->kernel_h < s.h ? p->kernel_h : s.h) * (p->kernel_w < s.w ? p->kernel_w : s.w);
    }
    int64_t terms = e->terms;
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        if (c->shapes[i].rows > 1 && c->shapes[i].cols > terms) {
            terms = c->shapes[i].cols;
        }
    }
    return terms;
}

/* The largest |mean| / deviation of a row of a norm's source: what multiplies its roundings. */
static double norm_condition(const op_case *c)
{
    const vt_record *r = &c->program.records[0];
    vt_shape s = c->program.maps[r->source[0].id].shape;
    const float *x = c->maps[r->source[0].id];
    double worst = 0;
    for (int64_t i = 0; i < s.n * s.h * s.w; i++, x += s.c) {
        double sum = 0, squares = 0, count = (double)s.c;
        for (int64_t k = 0; k < s.c; k++) {
            sum += (double)x[k];
            squares += (double)x[k] * (double)x[k];
        }
        double mean = sum / count, variance = fmax(squares / count - mean * mean, 0);
        worst = fmax(worst, fabs(mean) / sqrt(variance + (double)r->as.norm.eps));
    }
    return worst;
}

double op_limit(const op_case *c, const op_entry *e, vt_dtype dtype, const float *want)
{
    const vt_record *r = &c->program.records[0];
    const vt_map *maps = c->program.maps;
    int64_t count = op_count(c);
    double condition =
        r->kind == VT_OP_NORM ? norm_condition(c) : (double)fabsf(e->mean) / (double)op_spread(e);
    double limit = tolerance_f32(terms_of(c, e)) + condition * TOLERANCE_MEAN;
    float *naive = op_naive(c, dtype);
    limit += TOLERANCE_HALF_FACTOR * op_distance(naive, want, count);
    free(naive);
    if (count < 64) { /* among a few values the plain computation may be lucky */
        limit += TOLERANCE_HALF_FACTOR * tolerance_stored(dtype);
    }
    if (r->kind == VT_OP_ATTENTION && maps[r->source[0].id].dtype != VT_F32) {
        limit += 2 * tolerance_stored(dtype); /* the probabilities are rounded, too */
    }
    return limit;
}
