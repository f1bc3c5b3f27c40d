/* SPDX-License-Identifier: Apache-2.0 */
#include "op_builders.h"

#include <math.h>

/* ---- parts ----------------------------------------------------------------------------------- */

static vt_value source_map(op_case *c, const op_entry *e, vt_shape s)
{
    return op_map(c, s, e->mean, op_spread(e));
}

static vt_weight vector_if(op_case *c, bool wanted, int64_t count, float mean, float spread)
{
    return wanted ? op_vector(c, count, mean, spread) : VT_NO_WEIGHT;
}

/* Only the planner gives records a residual, so there is no function that records one. */
static void add_residual(op_case *c, vt_value dst)
{
    if (dst.id >= 0) {
        vt_value residual = op_map(c, vt_value_shape(&c->builder, dst), 0, 1);
        c->program.records[0].source[1] = residual;
    }
}

/* ---- products and convolutions --------------------------------------------------------------- */

void build_linear(op_case *c, const op_entry *e, vt_shape s)
{
    const linear_with *k = e->with;
    vt_linear p = k->op;
    int64_t in = s.c * (p.patch > 1 ? p.patch * p.patch : 1);
    int64_t width = p.norm_place == VT_NORM_OUTPUT ? k->out : in;
    vt_value x = source_map(c, e, s);
    p.weight = op_matrix(c, k->out, in, 1.0f / sqrtf((float)in));
    p.bias = vector_if(c, k->bias, k->out, 0, 0.5f * op_spread(e));
    p.norm.eps = 1e-5f;
    p.norm.scale = vector_if(c, k->affine, width, 1, 0.2f);
    p.norm.shift = vector_if(c, k->affine, width, 0, 0.2f);
    vt_value dst = vt_op_linear(&c->builder, x, &p);
    if (k->residual && dst.id >= 0) {
        add_residual(c, dst);
        c->program.records[0].as.linear.gated = k->op.gated;
    }
}

void build_conv(op_case *c, const op_entry *e, vt_shape s)
{
    const conv_with *k = e->with;
    vt_conv2d p = k->op;
    bool grouped = p.groups > 1;
    int64_t depth = (int64_t)p.kernel_h * p.kernel_w * s.c / (grouped ? p.groups : 1);
    float spread = 1.0f / sqrtf((float)depth);
    vt_value x = source_map(c, e, s);
    p.weight =
        grouped ? op_vector_rows(c, k->out, depth, spread) : op_matrix(c, k->out, depth, spread);
    p.bias = vector_if(c, !k->no_bias, k->out, 0, 0.5f);
    vt_op_conv2d(&c->builder, x, &p);
}

void build_depthwise(op_case *c, const op_entry *e, vt_shape s)
{
    const depthwise_with *k = e->with;
    vt_depthwise p = {.conv = k->op};
    int taps = p.conv.kernel_h * p.conv.kernel_w;
    vt_value x = source_map(c, e, s);
    p.conv.weight = op_vector(c, taps * s.c, 0, 1.0f / sqrtf((float)taps));
    p.conv.bias = vector_if(c, !k->no_bias, s.c, 0, 0.5f);
    p.affine.scale = vector_if(c, k->scale, s.c, 1, 0.5f);
    p.affine.shift = vector_if(c, k->shift, s.c, 0, 0.5f);
    vt_value dst = vt_op_depthwise(&c->builder, x, &p);
    if (k->residual) {
        add_residual(c, dst);
    }
}

/* ---- map by map ------------------------------------------------------------------------------ */

void build_norm(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value x = source_map(c, e, s);
    vt_norm p = {.eps = 1e-5f};
    p.scale = vector_if(c, e->with, s.c, 1, 0.3f);
    p.shift = vector_if(c, e->with, s.c, 0, 0.3f);
    vt_op_norm(&c->builder, x, &p);
}

void build_affine(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value x = source_map(c, e, s);
    vt_affine p = {.scale = op_vector(c, s.c, 1, 0.5f)};
    p.shift = vector_if(c, e->with, s.c, 0, 0.5f);
    vt_op_affine(&c->builder, x, &p);
}

void build_add(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value a = source_map(c, e, s), b = op_map(c, s, 0, 1);
    vt_op_add(&c->builder, a, b);
}

void build_mul(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value a = source_map(c, e, s);
    vt_shape t = e->with ? (vt_shape){s.n, 1, 1, s.c} : s;
    vt_op_mul(&c->builder, a, op_map(c, t, 0, 1));
}

void build_concat(op_case *c, const op_entry *e, vt_shape s)
{
    const int *channels = e->with;
    vt_value a = source_map(c, e, s);
    s.c = *channels;
    vt_op_concat(&c->builder, a, op_map(c, s, 0, 1));
}

void build_space_to_depth(op_case *c, const op_entry *e, vt_shape s)
{
    const int *block = e->with;
    vt_op_space_to_depth(&c->builder, source_map(c, e, s), *block);
}

void build_mean_pool(op_case *c, const op_entry *e, vt_shape s)
{
    vt_op_mean_pool(&c->builder, source_map(c, e, s));
}

void build_pool(op_case *c, const op_entry *e, vt_shape s)
{
    const pool_with *k = e->with;
    vt_op_pool(&c->builder, source_map(c, e, s), &k->op);
}

void build_deform(op_case *c, const op_entry *e, vt_shape s)
{
    const deform_with *k = e->with;
    vt_value x = source_map(c, e, s);
    vt_shape t = {s.n, s.h / k->kernel, s.w / k->kernel, 2 * k->kernel * k->kernel};
    vt_op_deform_patches(&c->builder, x, op_map(c, t, 0, k->spread), k->kernel);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Makes the maps of q, k and v; returns the channels of the last one, which holds k or v or both:
 * of two maps where the keys' size is another than the queries', of three, or all in one. */
static int64_t place_heads(op_case *c, const op_entry *e, vt_shape s, vt_attention *p)
{
    const attention_with *k = e->with;
    int v_width = k->v_width > 0 ? k->v_width : k->width;
    int qk = k->heads * k->width, v = k->heads * v_width;
    if (k->keys[0]) {
        s.c = qk + 8;
        p->q = (vt_heads){op_map(c, s, e->mean, 2), 8, k->width};
        s = (vt_shape){s.n, k->keys[0], k->keys[1], qk + v};
        p->k = (vt_heads){op_map(c, s, 0, 2), 0, k->width};
        p->v = (vt_heads){p->k.map, qk, v_width};
    } else if (k->separate) {
        s.c = qk + 3;
        p->q = (vt_heads){op_map(c, s, e->mean, 2), 3, k->width};
        s.c = qk;
        p->k = (vt_heads){op_map(c, s, 0, 2), 0, k->width};
        s.c = qk + v;
        p->v = (vt_heads){op_map(c, s, 0, 2), qk, v_width};
    } else {
        s.c = 2 * qk + v;
        p->q = (vt_heads){op_map(c, s, e->mean, 2), 0, k->width};
        p->k = (vt_heads){p->q.map, qk, k->width};
        p->v = (vt_heads){p->q.map, 2 * qk, v_width};
    }
    return s.c;
}

void build_attention(op_case *c, const op_entry *e, vt_shape s)
{
    const attention_with *k = e->with;
    vt_attention p = {.heads = k->heads, .scale = 1.0f / sqrtf((float)k->width)};
    p.pattern = k->pattern;
    int64_t pad_width = place_heads(c, e, s, &p);
    int64_t rows = 2 * (p.pattern.window_h + 2 * p.pattern.halo_h) - 1;
    int64_t cols = 2 * (p.pattern.window_w + 2 * p.pattern.halo_w) - 1;
    p.rows = vector_if(c, k->relative, rows * k->width, 0, 0.5f);
    p.cols = vector_if(c, k->relative, cols * k->width, 0, 0.5f);
    p.bias = vector_if(c, k->bias, k->heads * rows * cols, 0, 2);
    p.temperature = vector_if(c, k->cosine, k->heads, 3, 2);
    p.pad = vector_if(c, k->pad, pad_width, 0, 1);
    vt_op_attention(&c->builder, &p);
}

void build_linear_attention(op_case *c, const op_entry *e, vt_shape s)
{
    const heads_with *k = e->with;
    int v_width = k->v_width > 0 ? k->v_width : k->width;
    s.c = k->heads * (2 * k->width + v_width);
    vt_value x = op_map(c, s, e->mean, 2);
    vt_linear_attention p = {.heads = k->heads,
                             .q = {x, 0, k->width},
                             .k = {x, k->heads * k->width, k->width},
                             .v = {x, 2 * k->heads * k->width, v_width},
                             .floor = k->limit};
    p.temperature = vector_if(c, k->temperature, k->heads, 1, 0.5f);
    vt_op_linear_attention(&c->builder, &p);
}

void build_channel_attention(op_case *c, const op_entry *e, vt_shape s)
{
    const heads_with *k = e->with;
    s.c = 3 * k->heads * k->width;
    vt_value x = op_map(c, s, e->mean, 1);
    vt_channel_attention p = {.heads = k->heads,
                              .left = {x, k->heads * k->width, k->width},
                              .right = {x, 2 * k->heads * k->width, k->width},
                              .value = {x, 0, k->width},
                              .scale = k->limit};
    vt_op_channel_attention(&c->builder, &p);
}
