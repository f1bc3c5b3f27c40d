/* SPDX-License-Identifier: Apache-2.0 */
#include "op_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tolerance.h"

static float spread_of(const op_entry *e)
{
    return e->spread > 0 ? e->spread : 1.0f;
}

/* ---- builders -------------------------------------------------------------------------------- */

typedef struct linear_with {
    int64_t out;
    int patch; /* 0: 1 */
    vt_activation act;
    vt_norm_place norm;
    bool bias, affine, residual;
} linear_with;

static void build_linear(op_case *c, const op_entry *e, vt_shape s)
{
    const linear_with *k = e->with;
    int patch = k->patch > 1 ? k->patch : 1;
    vt_shape d = {s.n, (s.h + patch - 1) / patch, (s.w + patch - 1) / patch, k->out};
    int64_t in = s.c * patch * patch;
    int64_t width = k->norm == VT_NORM_OUTPUT ? k->out : in;
    vt_value x = op_map(c, s, e->mean, spread_of(e));
    vt_value residual = k->residual ? op_map(c, d, 0, 1) : VT_NO_VALUE;
    vt_linear p = {.act = k->act, .norm_place = k->norm, .patch = patch, .norm.eps = 1e-5f};
    p.weight = op_matrix(c, k->out, in, 1.0f / sqrtf((float)in));
    p.bias = k->bias ? op_vector(c, k->out, 0, 0.5f * spread_of(e)) : (vt_weight){0};
    p.norm.scale = k->affine ? op_vector(c, width, 1, 0.2f) : (vt_weight){0};
    p.norm.shift = k->affine ? op_vector(c, width, 0, 0.2f) : (vt_weight){0};
    vt_op_linear(&c->builder, x, &p);
    if (c->program.record_count == 1) {
        c->program.records[0].source[1] = residual;
    }
}

typedef struct conv_with {
    int64_t out;
    int kernel[2], stride[2], dilation[2]; /* h, w */
    int pad[4];                            /* top, left, bottom, right */
    vt_activation act;
    bool no_bias;
    int groups;
} conv_with;

static void build_conv(op_case *c, const op_entry *e, vt_shape s)
{
    const conv_with *k = e->with;
    vt_conv2d p = {.act = k->act,
                   .kernel_h = k->kernel[0],
                   .kernel_w = k->kernel[1],
                   .stride_h = k->stride[0],
                   .stride_w = k->stride[1],
                   .dilation_h = k->dilation[0],
                   .dilation_w = k->dilation[1],
                   .pad_top = k->pad[0],
                   .pad_left = k->pad[1],
                   .pad_bottom = k->pad[2],
                   .pad_right = k->pad[3],
                   .groups = k->groups};
    vt_value x = op_map(c, s, e->mean, spread_of(e));
    int64_t depth = (int64_t)p.kernel_h * p.kernel_w * s.c / (k->groups > 1 ? k->groups : 1);
    float spread = 1.0f / sqrtf((float)depth);
    p.weight = k->groups > 1 ? op_vector_rows(c, k->out, depth, spread)
                             : op_matrix(c, k->out, depth, spread);
    p.bias = k->no_bias ? (vt_weight){0} : op_vector(c, k->out, 0, 0.5f);
    vt_op_conv2d(&c->builder, x, &p);
}

static const bool affine = true; /* `with` of a norm that has scale and shift */

static void build_norm(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value x = op_map(c, s, e->mean, spread_of(e));
    vt_norm p = {.eps = 1e-5f};
    if (e->with) {
        p.scale = op_vector(c, s.c, 1, 0.3f);
        p.shift = op_vector(c, s.c, 0, 0.3f);
    }
    vt_op_norm(&c->builder, x, &p);
}

static void build_add(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value a = op_map(c, s, e->mean, spread_of(e)), b = op_map(c, s, 0, 1);
    vt_op_add(&c->builder, a, b);
}

static void build_space_to_depth(op_case *c, const op_entry *e, vt_shape s)
{
    const int *block = e->with;
    vt_op_space_to_depth(&c->builder, op_map(c, s, e->mean, spread_of(e)), *block);
}

static void build_mean_pool(op_case *c, const op_entry *e, vt_shape s)
{
    vt_op_mean_pool(&c->builder, op_map(c, s, e->mean, spread_of(e)));
}

typedef struct attention_with {
    int heads, width, v_width; /* v_width 0: width */
    int window[2], shift[2];   /* h, w */
    vt_roll roll;
    bool bias, cosine, pad;
    bool separate; /* three maps, channels that nobody reads */
    vt_pattern_kind kind;
    int dilation[2], stride[2], halo[2];
    int keys[2];   /* size of the key map where it is another one */
    bool relative; /* tables of rows and columns */
} attention_with;

/* Two maps: the keys may be of another size than the queries. */
static void build_two_maps(op_case *c, const op_entry *e, vt_shape s, vt_attention *p)
{
    const attention_with *k = e->with;
    int v_width = k->v_width > 0 ? k->v_width : k->width;
    s.c = k->heads * k->width + 8;
    p->q = (vt_heads){op_map(c, s, e->mean, 2), 8, k->width};
    s.h = k->keys[0];
    s.w = k->keys[1];
    s.c = k->heads * (k->width + v_width);
    p->k = (vt_heads){op_map(c, s, 0, 2), 0, k->width};
    p->v = (vt_heads){p->k.map, k->heads * k->width, v_width};
    p->pad = k->pad ? op_vector(c, s.c, 0, 1) : (vt_weight){0};
}

static void build_attention(op_case *c, const op_entry *e, vt_shape s)
{
    const attention_with *k = e->with;
    int v_width = k->v_width > 0 ? k->v_width : k->width;
    vt_attention p = {.heads = k->heads, .scale = 1.0f / sqrtf((float)k->width)};
    int qk = k->heads * k->width, v = k->heads * v_width;
    if (k->keys[0]) {
        build_two_maps(c, e, s, &p);
    } else if (k->separate) {
        s.c = qk + 3;
        p.q = (vt_heads){op_map(c, s, e->mean, 2), 3, k->width};
        s.c = qk;
        p.k = (vt_heads){op_map(c, s, 0, 2), 0, k->width};
        s.c = qk + v;
        p.v = (vt_heads){op_map(c, s, 0, 2), qk, v_width};
    } else {
        s.c = 2 * qk + v;
        p.q = (vt_heads){op_map(c, s, e->mean, 2), 0, k->width};
        p.k = (vt_heads){p.q.map, qk, k->width};
        p.v = (vt_heads){p.q.map, 2 * qk, v_width};
    }
    p.pattern = (vt_pattern){.kind = k->kind,
                             .window_h = k->window[0],
                             .window_w = k->window[1],
                             .shift_h = k->shift[0],
                             .shift_w = k->shift[1],
                             .dilation_h = k->dilation[0],
                             .dilation_w = k->dilation[1],
                             .stride_h = k->stride[0],
                             .stride_w = k->stride[1],
                             .halo_h = k->halo[0],
                             .halo_w = k->halo[1],
                             .roll = k->roll};
    int rows = 2 * (k->window[0] + 2 * k->halo[0]) - 1;
    int cols = 2 * (k->window[1] + 2 * k->halo[1]) - 1, table = rows * cols;
    p.rows = k->relative ? op_vector(c, (int64_t)rows * k->width, 0, 0.5f) : (vt_weight){0};
    p.cols = k->relative ? op_vector(c, (int64_t)cols * k->width, 0, 0.5f) : (vt_weight){0};
    p.bias = k->bias ? op_vector(c, k->heads * table, 0, 2) : (vt_weight){0};
    p.temperature = k->cosine ? op_vector(c, k->heads, 3, 2) : (vt_weight){0};
    if (!k->keys[0]) {
        p.pad = k->pad ? op_vector(c, s.c, 0, 1) : (vt_weight){0};
    }
    vt_op_attention(&c->builder, &p);
}

typedef struct heads_with {
    int heads, width, v_width; /* v_width 0: width */
    float limit;               /* floor of a linear attention, scale among channels */
    bool temperature;
} heads_with;

static void build_linear_attention(op_case *c, const op_entry *e, vt_shape s)
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
    p.temperature = k->temperature ? op_vector(c, k->heads, 1, 0.5f) : (vt_weight){0};
    vt_op_linear_attention(&c->builder, &p);
}

static void build_channel_attention(op_case *c, const op_entry *e, vt_shape s)
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

typedef struct depthwise_with {
    int kernel[2], stride[2], dilation[2]; /* h, w */
    int pad[4];                            /* top, left, bottom, right */
    vt_activation act;
    bool no_bias, scale, shift, residual;
} depthwise_with;

static int64_t window_count(int64_t extent, int pad, int kernel, int dilation, int stride)
{
    return (extent + pad - (int64_t)dilation * (kernel - 1) - 1) / stride + 1;
}

static void build_depthwise(op_case *c, const op_entry *e, vt_shape s)
{
    const depthwise_with *k = e->with;
    vt_depthwise p = {.conv = {.act = k->act,
                               .kernel_h = k->kernel[0],
                               .kernel_w = k->kernel[1],
                               .stride_h = k->stride[0],
                               .stride_w = k->stride[1],
                               .dilation_h = k->dilation[0],
                               .dilation_w = k->dilation[1],
                               .pad_top = k->pad[0],
                               .pad_left = k->pad[1],
                               .pad_bottom = k->pad[2],
                               .pad_right = k->pad[3]}};
    vt_value x = op_map(c, s, e->mean, spread_of(e));
    vt_shape d = s;
    d.h = window_count(s.h, k->pad[0] + k->pad[2], k->kernel[0], k->dilation[0], k->stride[0]);
    d.w = window_count(s.w, k->pad[1] + k->pad[3], k->kernel[1], k->dilation[1], k->stride[1]);
    vt_value residual = k->residual ? op_map(c, d, 0, 1) : VT_NO_VALUE;
    int taps = k->kernel[0] * k->kernel[1];
    p.conv.weight = op_vector(c, taps * s.c, 0, 1.0f / sqrtf((float)taps));
    p.conv.bias = k->no_bias ? (vt_weight){0} : op_vector(c, s.c, 0, 0.5f);
    p.affine.scale = k->scale ? op_vector(c, s.c, 1, 0.5f) : (vt_weight){0};
    p.affine.shift = k->shift ? op_vector(c, s.c, 0, 0.5f) : (vt_weight){0};
    vt_op_depthwise(&c->builder, x, &p);
    if (c->program.record_count == 1) {
        c->program.records[0].source[1] = residual;
    }
}

static const bool shift = true; /* `with` of an affine that has a shift */

static void build_affine(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value x = op_map(c, s, e->mean, spread_of(e));
    vt_affine p = {.scale = op_vector(c, s.c, 1, 0.5f)};
    p.shift = e->with ? op_vector(c, s.c, 0, 0.5f) : (vt_weight){0};
    vt_op_affine(&c->builder, x, &p);
}

static const bool per_image = true; /* `with` of a mul whose right side is a vector per image */

static void build_mul(op_case *c, const op_entry *e, vt_shape s)
{
    vt_value a = op_map(c, s, e->mean, spread_of(e));
    vt_shape t = e->with ? (vt_shape){s.n, 1, 1, s.c} : s;
    vt_op_mul(&c->builder, a, op_map(c, t, 0, 1));
}

static void build_concat(op_case *c, const op_entry *e, vt_shape s)
{
    const int *channels = e->with;
    vt_value a = op_map(c, s, e->mean, spread_of(e));
    s.c = *channels;
    vt_op_concat(&c->builder, a, op_map(c, s, 0, 1));
}

static void build_pool(op_case *c, const op_entry *e, vt_shape s)
{
    vt_op_pool(&c->builder, op_map(c, s, e->mean, spread_of(e)), e->with);
}

typedef struct deform_with {
    int kernel;
    float spread; /* of the offsets, in pixels */
} deform_with;

static void build_deform(op_case *c, const op_entry *e, vt_shape s)
{
    const deform_with *k = e->with;
    vt_value x = op_map(c, s, e->mean, spread_of(e));
    vt_shape t = {s.n, s.h / k->kernel, s.w / k->kernel, 2 * k->kernel * k->kernel};
    vt_op_deform_patches(&c->builder, x, op_map(c, t, 0, k->spread), k->kernel);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define PAIR(y, x)                                                                                 \
    {                                                                                              \
        y, x                                                                                       \
    }
#define EACH(x)                                                                                    \
    {                                                                                              \
        x, x                                                                                       \
    }
#define AROUND(x)         .pad = {x, x, x, x}
#define SHIFTED(y, x)     .shift = {y, x}
#define SIDES(t, l, b, r) .pad_top = t, .pad_left = l, .pad_bottom = b, .pad_right = r
#define LINEAR(outputs, ...)                                                                       \
    .build = build_linear, .with = &(const linear_with)                                            \
    {                                                                                              \
        .out = outputs, __VA_ARGS__                                                                \
    }
#define CONV(outputs, size, step, spread, ...)                                                     \
    .build = build_conv, .with = &(const conv_with)                                                \
    {                                                                                              \
        .out = outputs, .kernel = size, .stride = step, .dilation = spread, __VA_ARGS__            \
    }
#define ATTENTION(count, qk, v, size, ...)                                                         \
    .build = build_attention, .with = &(const attention_with)                                      \
    {                                                                                              \
        .heads = count, .width = qk, .v_width = v, .window = size, __VA_ARGS__                     \
    }
#define DEPTHWISE(size, step, spread, ...)                                                         \
    .build = build_depthwise, .with = &(const depthwise_with)                                      \
    {                                                                                              \
        .kernel = size, .stride = step, .dilation = spread, __VA_ARGS__                            \
    }
#define CONCAT(channels)                                                                           \
    .build = build_concat, .with = &(const int)                                                    \
    {                                                                                              \
        channels                                                                                   \
    }
#define POOL(which, size, step, ...)                                                               \
    .build = build_pool, .with = &(const vt_pooling)                                               \
    {                                                                                              \
        .kind = which, .kernel = size, .stride = step, __VA_ARGS__                                 \
    }
#define DEFORM(size, distance)                                                                     \
    .build = build_deform, .with = &(const deform_with)                                            \
    {                                                                                              \
        size, distance                                                                             \
    }
#define HEADS(which, count, qk, ...)                                                               \
    .build = which, .with = &(const heads_with)                                                    \
    {                                                                                              \
        .heads = count, .width = qk, __VA_ARGS__                                                   \
    }
#define LINEAR_ATTENTION(...)  HEADS(build_linear_attention, __VA_ARGS__)
#define CHANNEL_ATTENTION(...) HEADS(build_channel_attention, __VA_ARGS__)
#define GRID                   .kind = VT_PATTERN_GRID
#define NEAR(step, share)      .kind = VT_PATTERN_NEIGHBORHOOD, .dilation = step, .stride = share
#define HALO(border)           .kind = VT_PATTERN_HALO, .halo = border
#define GLOBAL                 .kind = VT_PATTERN_GLOBAL
#define RELATIVE               .relative = true
#define BLOCK(size)                                                                                \
    .build = build_space_to_depth, .with = &(const int)                                            \
    {                                                                                              \
        size                                                                                       \
    }
#define NORM      .build = build_norm
#define AFFINE    .build = build_norm, .with = &affine
#define ADD       .build = build_add
#define MEAN_POOL .build = build_mean_pool
#define SCALED    .build = build_affine
#define SHIFT_TOO .build = build_affine, .with = &shift
#define MUL       .build = build_mul
#define MUL_IMAGE .build = build_mul, .with = &per_image

#define GELU       .act = VT_ACT_GELU
#define GELU_TANH  .act = VT_ACT_GELU_TANH
#define SILU       .act = VT_ACT_SILU
#define RELU       .act = VT_ACT_RELU
#define NORM_IN    .norm = VT_NORM_INPUT, .affine = true
#define NORM_OUT   .norm = VT_NORM_OUTPUT, .affine = true
#define BIAS       .bias = true
#define NO_BIAS    .no_bias = true
#define RESIDUAL   .residual = true
#define SCALE      .scale = true
#define SHIFT      .shift = true
#define PAD        .pad = true
#define COSINE     .cosine = true
#define SEPARATE   .separate = true
#define MAP_ROLLED .roll = VT_ROLL_MAP
#define HALF_IN    .src_half = true
#define HALF_OUT   .dst_half = true

const op_entry op_entries[] = {
    {"one", {1, 1, 1, 1}, LINEAR(1, BIAS)},
    {"plain", {1, 5, 7, 24}, LINEAR(64)},
    {"primes", {3, 7, 13, 37}, LINEAR(53, GELU, BIAS, RESIDUAL)},
    {"one row, odd", {1, 1, 1, 37}, LINEAR(53, BIAS)},
    {"one row, odd, everything", {1, 1, 1, 61}, LINEAR(43, GELU, BIAS, NORM_IN, RESIDUAL)},
    {"rows of 8", {3, 3, 5, 8}, LINEAR(8, BIAS, RESIDUAL)},
    {"norm", {1, 14, 14, 96}, LINEAR(288, BIAS, NORM_IN)},
    {"norm, no affine", {3, 5, 3, 40}, LINEAR(24, BIAS, .norm = VT_NORM_INPUT)},
    {"norm half out", {1, 14, 9, 96}, LINEAR(288, BIAS, NORM_IN), HALF_OUT},
    {"fc1", {1, 7, 7, 192}, LINEAR(768, GELU, BIAS, NORM_IN), HALF_OUT},
    {"fc2", {1, 7, 7, 768}, LINEAR(192, BIAS, RESIDUAL), HALF_IN},
    {"row of 4096 bytes", {1, 5, 6, 1024}, LINEAR(40, BIAS, RESIDUAL)},
    {"half row of 4096 bytes", {1, 5, 6, 2048}, LINEAR(40, BIAS, RESIDUAL), HALF_IN, HALF_OUT},
    {"odd half", {1, 4, 4, 33}, LINEAR(31, SILU, BIAS, RESIDUAL), HALF_IN, HALF_OUT},
    {"tanh gelu", {3, 5, 5, 64}, LINEAR(96, GELU_TANH, BIAS)},
    {"tanh gelu, no bias", {1, 5, 5, 64}, LINEAR(96, GELU_TANH)},
    {"tanh gelu, residual", {1, 5, 5, 64}, LINEAR(96, GELU_TANH, BIAS, RESIDUAL)},
    {"gelu, no bias", {1, 5, 5, 64}, LINEAR(96, GELU)},
    {"silu", {3, 5, 5, 64}, LINEAR(96, SILU, BIAS)},
    {"sigmoid", {1, 5, 5, 64}, LINEAR(96, BIAS, .act = VT_ACT_SIGMOID)},
    {"tanh", {1, 5, 5, 64}, LINEAR(96, BIAS, RESIDUAL, .act = VT_ACT_TANH)},
    {"relu", {3, 5, 5, 64}, LINEAR(96, RELU, BIAS)},
    {"relu, no bias", {1, 5, 5, 64}, LINEAR(96, RELU)},
    {"relu, residual", {1, 5, 5, 64}, LINEAR(96, RELU, BIAS, RESIDUAL)},
    {"merge", {3, 9, 11, 12}, LINEAR(24, .patch = 2, NORM_IN)},
    {"merge, wide", {1, 9, 11, 96}, LINEAR(192, .patch = 2, NORM_IN)},
    {"stem", {1, 30, 41, 3}, LINEAR(96, .patch = 4, BIAS)},
    {"stem with norm", {3, 8, 12, 3}, LINEAR(96, .patch = 4, BIAS, NORM_OUT)},
    {"output norm", {3, 5, 7, 48}, LINEAR(70, RELU, BIAS, NORM_OUT, RESIDUAL)},
    {"output norm half",
     {1, 7, 7, 64},
     LINEAR(96, GELU_TANH, BIAS, RESIDUAL, .norm = VT_NORM_OUTPUT),
     HALF_IN,
     HALF_OUT},
    {"mean 1000", {1, 7, 7, 96}, LINEAR(64, BIAS, NORM_IN), .mean = 1000},
    {"large", {1, 3, 5, 40}, LINEAR(40, GELU, BIAS), .spread = 1e4f},
    {"tiny", {1, 3, 5, 40}, LINEAR(40, SILU, BIAS), .spread = 1e-18f},
    {"head", {1, 1, 1, 768}, LINEAR(1000, BIAS)},
    {"head of a batch", {3, 1, 1, 768}, LINEAR(1000, BIAS)},

    {"1x1", {3, 5, 7, 13}, CONV(19, EACH(1), EACH(1), EACH(1))},
    {"1x1 stride 2", {1, 5, 7, 16}, CONV(24, EACH(1), EACH(2), EACH(1), NO_BIAS)},
    {"1x1 of one pixel", {1, 1, 1, 8}, CONV(8, EACH(1), EACH(1), EACH(1))},
    {"3x3", {3, 9, 12, 32}, CONV(64, EACH(3), EACH(1), EACH(1), AROUND(1), RELU)},
    {"3x3 stride 2", {3, 9, 12, 5}, CONV(19, EACH(3), EACH(2), EACH(1), AROUND(1), GELU)},
    {"3x3 half",
     {1, 9, 12, 16},
     CONV(19, EACH(3), EACH(2), EACH(1), AROUND(1), GELU),
     HALF_IN,
     HALF_OUT},
    {"3x3 unpadded", {1, 9, 12, 8}, CONV(16, EACH(3), EACH(1), EACH(1), NO_BIAS)},
    {"3x3 dilated", {1, 13, 11, 24}, CONV(32, EACH(3), EACH(1), EACH(2), AROUND(2), SILU)},
    {"3x3 padded on one side",
     {3, 8, 10, 16},
     CONV(16, EACH(3), EACH(2), EACH(1), .pad = {0, 0, 1, 1})},
    {"3x3 padded above", {1, 8, 10, 16}, CONV(16, EACH(3), EACH(1), EACH(1), .pad = {2, 0, 0, 1})},
    {"3x3 of a picture", {3, 17, 15, 3}, CONV(32, EACH(3), EACH(2), EACH(1), AROUND(1), RELU)},
    {"2x3", {1, 7, 9, 8}, CONV(8, PAIR(2, 3), PAIR(1, 2), EACH(1), AROUND(1), GELU_TANH)},
    {"7x7 stem", {1, 33, 29, 3}, CONV(64, EACH(7), EACH(4), EACH(1), AROUND(3))},
    {"stem padded on one side",
     {3, 12, 20, 3},
     CONV(40, EACH(3), EACH(2), EACH(1), .pad = {0, 0, 1, 1}, GELU_TANH)},
    {"stem padded above", {3, 13, 11, 3}, CONV(24, EACH(3), EACH(1), EACH(1), .pad = {2, 1, 0, 0})},
    {"stem of two tiles a row", {1, 5, 272, 3}, CONV(32, EACH(3), EACH(2), EACH(1), AROUND(1))},
    {"stem of many tiles", {1, 86, 20, 3}, CONV(96, EACH(7), EACH(4), EACH(1), AROUND(3), GELU)},
    {"stem of 1 channel", {1, 19, 18, 1}, CONV(104, EACH(5), EACH(2), EACH(1), AROUND(2), SILU)},
    {"second of a stem", {1, 11, 37, 24}, CONV(32, EACH(3), EACH(1), EACH(1), AROUND(1), RELU)},
    {"stem of 4 channels", {3, 9, 7, 4}, CONV(8, EACH(2), EACH(2), EACH(1), NO_BIAS)},
    {"7x7", {1, 14, 11, 16}, CONV(24, EACH(7), EACH(1), EACH(1), AROUND(3))},
    {"7x5 dilated",
     {1, 23, 31, 3},
     CONV(19, PAIR(7, 5), PAIR(4, 3), PAIR(1, 2), .pad = {3, 2, 0, 4}, RELU)},
    {"7x5 from 4x5",
     {1, 4, 5, 3},
     CONV(19, PAIR(7, 5), PAIR(4, 3), PAIR(1, 2), .pad = {3, 2, 0, 4}, RELU)},
    {"kernel larger than the map", {1, 2, 3, 8}, CONV(8, EACH(5), EACH(1), EACH(1), AROUND(2))},

    {"1x1, 4 groups of 16",
     {3, 7, 11, 64},
     CONV(64, EACH(1), EACH(1), EACH(1), .groups = 4, NO_BIAS),
     .terms = 16},
    {"3x3, 3 groups",
     {1, 9, 19, 15},
     CONV(21, EACH(3), EACH(1), EACH(1), AROUND(1), .groups = 3, GELU),
     .terms = 45},
    {"3x3, groups, stride 2",
     {3, 9, 21, 32},
     CONV(96, EACH(3), EACH(2), EACH(1), AROUND(1), .groups = 2, RELU),
     .terms = 144},
    {"3x3, groups, half",
     {1, 9, 21, 32},
     CONV(80, EACH(3), EACH(1), EACH(2), AROUND(2), .groups = 2),
     HALF_IN,
     HALF_OUT,
     .terms = 144},
    {"2x5, groups, padded",
     {1, 6, 5, 8},
     CONV(8, PAIR(2, 5), EACH(1), EACH(1), AROUND(3), .groups = 4),
     .terms = 20},

    {"one", {1, 1, 1, 1}, AFFINE, .terms = 1},
    {"odd", {3, 5, 3, 37}, AFFINE, .terms = 37},
    {"3 channels", {3, 5, 3, 3}, NORM, .terms = 3},
    {"8 channels", {1, 5, 3, 8}, AFFINE, .terms = 8},
    {"half in", {1, 5, 3, 96}, AFFINE, HALF_IN, .terms = 96},
    {"half out", {1, 5, 3, 99}, NORM, HALF_OUT, .terms = 96},
    {"mean 1000", {1, 7, 7, 96}, AFFINE, .mean = 1000, .terms = 96},
    {"768 channels", {3, 3, 3, 768}, AFFINE, .terms = 768},
    {"wide", {1, 2, 3, 1536}, NORM, .terms = 1536},
    {"4096 channels", {3, 1, 3, 4096}, AFFINE, .terms = 4096},
    {"4095 channels", {1, 1, 3, 4095}, AFFINE, .terms = 4096},

    {"one", {1, 1, 1, 1}, ADD},
    {"odd", {3, 11, 13, 7}, ADD},
    {"half in", {3, 11, 13, 7}, ADD, HALF_IN},
    {"half out", {1, 11, 13, 17}, ADD, HALF_OUT},
    {"wide", {3, 7, 7, 96}, ADD},

    {"1", {1, 3, 5, 7}, BLOCK(1)},
    {"2", {3, 8, 6, 5}, BLOCK(2)},
    {"2 odd", {1, 7, 9, 5}, BLOCK(2)},
    {"2 of 96", {3, 7, 9, 96}, BLOCK(2)},
    {"4 half in", {1, 7, 9, 5}, BLOCK(4), HALF_IN},
    {"3 half", {1, 7, 9, 5}, BLOCK(3), HALF_IN, HALF_OUT},
    {"3 half out", {1, 7, 9, 5}, BLOCK(3), HALF_OUT},

    {"one", {1, 1, 1, 1}, MEAN_POOL},
    {"odd", {3, 7, 11, 101}, MEAN_POOL, .terms = 77},
    {"mean 1000", {1, 56, 56, 9}, MEAN_POOL, .mean = 1000, .terms = 3136},
    {"half", {1, 7, 7, 768}, MEAN_POOL, HALF_IN, HALF_OUT, .terms = 49},
    {"some pixels", {3, 23, 9, 200}, MEAN_POOL, .terms = 207},
    {"many pixels", {3, 33, 37, 136}, MEAN_POOL, .mean = 3, .terms = 1221},

    {"depthwise one", {1, 1, 1, 1}, DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1)), .terms = 1},
    {"3x3, odd", {3, 9, 11, 37}, DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1)), .terms = 9},
    {"3x3, 7x7 map",
     {3, 7, 7, 96},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), GELU),
     .terms = 9},
    {"3x3, one pixel",
     {1, 1, 1, 64},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), NO_BIAS),
     .terms = 9},
    {"3x3, one column", {1, 5, 1, 16}, DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1)), .terms = 9},
    {"3x3, one row", {1, 1, 15, 17}, DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1)), .terms = 9},
    {"3x3, everything",
     {3, 10, 15, 65},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), SILU, SCALE, SHIFT, RESIDUAL),
     .terms = 9},
    {"3x3, residual",
     {1, 17, 29, 300},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), RESIDUAL),
     .terms = 9},
    {"3x3, scaled",
     {1, 8, 8, 48},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), SCALE),
     .terms = 9},
    {"3x3, 700 channels",
     {1, 5, 8, 700},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), RELU),
     .terms = 9},
    {"3x3, unpadded", {1, 9, 12, 33}, DEPTHWISE(EACH(3), EACH(1), EACH(1), NO_BIAS), .terms = 9},
    {"3x3, padded twice",
     {1, 3, 3, 32},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(4)),
     .terms = 9},
    {"3x3, padded on one side",
     {3, 8, 10, 47},
     DEPTHWISE(EACH(3), EACH(2), EACH(1), .pad = {0, 0, 1, 1}),
     .terms = 9},
    {"3x3, stride 2",
     {3, 9, 12, 40},
     DEPTHWISE(EACH(3), EACH(2), EACH(1), AROUND(1), GELU_TANH),
     .terms = 9},
    {"3x3, stride 2, wide",
     {1, 29, 33, 128},
     DEPTHWISE(EACH(3), EACH(2), EACH(1), AROUND(1)),
     .terms = 9},
    {"3x3, strides 2 and 1",
     {1, 9, 16, 20},
     DEPTHWISE(EACH(3), PAIR(2, 1), EACH(1), AROUND(1)),
     .terms = 9},
    {"3x3, strides 1 and 2",
     {1, 9, 16, 20},
     DEPTHWISE(EACH(3), PAIR(1, 2), EACH(1), AROUND(1)),
     .terms = 9},
    {"3x3, dilations 2 and 1",
     {1, 9, 16, 64},
     DEPTHWISE(EACH(3), EACH(1), PAIR(2, 1), AROUND(2)),
     .terms = 9},
    {"3x3, stride and dilation 2",
     {1, 9, 17, 40},
     DEPTHWISE(EACH(3), EACH(2), EACH(2), AROUND(2)),
     .terms = 9},
    {"3x3, half",
     {3, 9, 15, 96},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), GELU),
     HALF_IN,
     HALF_OUT,
     .terms = 9},
    {"3x3, half in",
     {1, 9, 15, 50},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1), RESIDUAL),
     HALF_IN,
     .terms = 9},
    {"3x3, half out",
     {1, 9, 15, 50},
     DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(1)),
     HALF_OUT,
     .terms = 9},
    {"5x5", {1, 13, 9, 72}, DEPTHWISE(EACH(5), EACH(1), EACH(1), AROUND(2)), .terms = 25},
    {"5x5, 2x2 map", {3, 2, 2, 32}, DEPTHWISE(EACH(5), EACH(1), EACH(1), AROUND(2)), .terms = 25},
    {"5x5, stride 2",
     {1, 13, 16, 49},
     DEPTHWISE(EACH(5), EACH(2), EACH(1), AROUND(2), RESIDUAL),
     .terms = 25},
    {"5x5, half",
     {1, 13, 16, 49},
     DEPTHWISE(EACH(5), EACH(2), EACH(1), AROUND(2)),
     HALF_IN,
     .terms = 25},
    {"7x7", {1, 15, 24, 100}, DEPTHWISE(EACH(7), EACH(1), EACH(1), AROUND(3)), .terms = 49},
    {"7x7, 7x7 map", {3, 7, 7, 48}, DEPTHWISE(EACH(7), EACH(1), EACH(1), AROUND(3)), .terms = 49},
    {"7x7, stride 2",
     {1, 15, 24, 36},
     DEPTHWISE(EACH(7), EACH(2), EACH(1), AROUND(3)),
     .terms = 49},
    {"7x7, half",
     {1, 14, 14, 64},
     DEPTHWISE(EACH(7), EACH(1), EACH(1), AROUND(3)),
     HALF_IN,
     HALF_OUT,
     .terms = 49},
    {"7x7, dilation 3",
     {3, 22, 29, 40},
     DEPTHWISE(EACH(7), EACH(1), EACH(3), AROUND(9)),
     .terms = 49},
    {"7x7, dilation 3, small map",
     {1, 7, 5, 32},
     DEPTHWISE(EACH(7), EACH(1), EACH(3), AROUND(9)),
     .terms = 49},
    {"7x7, dilation 3, half",
     {1, 14, 14, 64},
     DEPTHWISE(EACH(7), EACH(1), EACH(3), AROUND(9)),
     HALF_IN,
     HALF_OUT,
     .terms = 49},
    {"1x1", {1, 3, 5, 33}, DEPTHWISE(EACH(1), EACH(1), EACH(1), RELU), .terms = 1},
    {"2x4, stride 3",
     {3, 11, 13, 83},
     DEPTHWISE(PAIR(2, 4), EACH(3), EACH(1), AROUND(1)),
     .terms = 8},
    {"9x3",
     {1, 12, 11, 48},
     DEPTHWISE(PAIR(9, 3), EACH(1), EACH(1), .pad = {4, 1, 4, 1}),
     .terms = 27},
    {"3x9, half",
     {1, 12, 11, 19},
     DEPTHWISE(PAIR(3, 9), EACH(1), EACH(1), .pad = {1, 4, 1, 4}, SCALE, SHIFT),
     HALF_IN,
     HALF_OUT,
     .terms = 27},

    {"one", {1, 1, 1, 1}, SCALED},
    {"odd", {3, 7, 13, 37}, SHIFT_TOO},
    {"wide", {1, 3, 3, 5000}, SHIFT_TOO},
    {"half in", {3, 7, 13, 96}, SHIFT_TOO, HALF_IN},
    {"half", {3, 7, 13, 41}, SCALED, HALF_IN, HALF_OUT},

    {"one", {1, 1, 1, 1}, MUL},
    {"odd", {3, 7, 13, 37}, MUL},
    {"half", {3, 7, 13, 37}, MUL, HALF_IN, HALF_OUT},
    {"half out", {1, 56, 56, 32}, MUL, HALF_OUT},
    {"per image", {3, 7, 13, 37}, MUL_IMAGE},
    {"per image, wide", {3, 3, 2, 5000}, MUL_IMAGE},
    {"per image, one pixel", {3, 1, 1, 19}, MUL_IMAGE},
    {"per image, half", {3, 14, 13, 64}, MUL_IMAGE, HALF_IN, HALF_OUT},

    {"one and one", {1, 1, 1, 1}, CONCAT(1)},
    {"odd", {3, 5, 7, 37}, CONCAT(11)},
    {"half in", {1, 5, 7, 32}, CONCAT(64), HALF_IN},
    {"half out", {1, 5, 7, 33}, CONCAT(65), HALF_OUT},
    {"half", {1, 5, 7, 33}, CONCAT(65), HALF_IN, HALF_OUT},

    {"mean 2x2", {3, 8, 10, 40}, POOL(VT_POOL_MEAN, 2, 2), .terms = 4},
    {"mean 2x2, odd map", {3, 7, 9, 19}, POOL(VT_POOL_MEAN, 2, 2), .terms = 4},
    {"mean 3x3, padded", {1, 7, 9, 65}, POOL(VT_POOL_MEAN, 3, 1, SIDES(1, 1, 1, 1)), .terms = 9},
    {"mean 3x3, half",
     {1, 7, 9, 65},
     POOL(VT_POOL_MEAN, 3, 2, SIDES(1, 1, 1, 1)),
     HALF_IN,
     HALF_OUT,
     .terms = 9},
    {"max one", {1, 1, 1, 1}, POOL(VT_POOL_MAX, 1, 1)},
    {"max 2x2", {3, 8, 10, 40}, POOL(VT_POOL_MAX, 2, 2)},
    {"max 3x3, padded", {3, 9, 12, 50}, POOL(VT_POOL_MAX, 3, 2, SIDES(1, 1, 1, 1)), .mean = -5},
    {"max 3x3, padded on one side",
     {1, 9, 12, 5},
     POOL(VT_POOL_MAX, 3, 2, SIDES(0, 0, 1, 1)),
     .mean = -5},
    {"max 5x5 of 2x3", {1, 2, 3, 16}, POOL(VT_POOL_MAX, 5, 1, SIDES(2, 2, 2, 2)), .mean = -5},
    {"max 3x3, half",
     {1, 9, 12, 50},
     POOL(VT_POOL_MAX, 3, 2, SIDES(1, 1, 1, 1)),
     HALF_IN,
     HALF_OUT},

    {"deform one", {1, 1, 1, 1}, DEFORM(1, 1), .terms = 4},
    {"deform 2, near", {3, 8, 10, 37}, DEFORM(2, 1), .terms = 4},
    {"deform 4, far", {1, 13, 18, 64}, DEFORM(4, 12), .terms = 4},
    {"deform 2, half", {1, 9, 10, 37}, DEFORM(2, 3), HALF_IN, HALF_OUT, .terms = 4},

    {"one", {1, 1, 1, 0}, ATTENTION(1, 1, 1, EACH(1)), .terms = 64},
    {"1x1 window", {3, 3, 5, 0}, ATTENTION(2, 16, 16, EACH(1), BIAS), .terms = 64},
    {"2x2", {3, 5, 7, 0}, ATTENTION(2, 8, 8, EACH(2), SHIFTED(1, 1), BIAS), .terms = 64},
    {"7x7", {3, 14, 21, 0}, ATTENTION(3, 32, 0, EACH(7), BIAS, PAD), .terms = 64},
    {"7x7 padded", {1, 15, 9, 0}, ATTENTION(3, 32, 0, EACH(7), BIAS, PAD), .terms = 64},
    {"7x7 shifted",
     {1, 28, 14, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"7x7 shifted, padded",
     {3, 17, 23, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"7x7 map rolled",
     {1, 17, 23, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), MAP_ROLLED, BIAS, PAD),
     .terms = 64},
    {"7x7 half",
     {1, 17, 23, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     HALF_IN,
     HALF_OUT,
     .terms = 64},
    {"7x7 half out",
     {1, 14, 14, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     HALF_OUT,
     .terms = 64},
    {"7x7 narrow heads",
     {1, 9, 16, 0},
     ATTENTION(6, 16, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"7x7 wide heads, no pad rows",
     {1, 9, 16, 0},
     ATTENTION(2, 64, 0, EACH(7), SHIFTED(3, 3), BIAS),
     .terms = 64},
    {"smaller than the window",
     {1, 3, 2, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"smaller than the window, map rolled",
     {3, 2, 9, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), MAP_ROLLED, BIAS, PAD),
     .terms = 64},
    {"8x8 cosine",
     {3, 16, 11, 0},
     ATTENTION(3, 32, 0, EACH(8), SHIFTED(4, 4), BIAS, COSINE, PAD),
     .terms = 64},
    {"cosine 5x3",
     {3, 11, 7, 0},
     ATTENTION(2, 24, 0, PAIR(5, 3), SHIFTED(2, 1), BIAS, COSINE, PAD),
     .terms = 64},
    {"cosine 5x3 half",
     {1, 11, 7, 0},
     ATTENTION(2, 24, 0, PAIR(5, 3), SHIFTED(2, 1), BIAS, COSINE, PAD),
     HALF_IN,
     .terms = 64},
    {"no bias, no pad, wide v",
     {1, 9, 13, 0},
     ATTENTION(2, 16, 40, PAIR(4, 6), SHIFTED(0, 3), SEPARATE),
     .terms = 64},
    {"odd widths",
     {3, 8, 9, 0},
     ATTENTION(2, 33, 19, PAIR(3, 5), SHIFTED(1, 0), MAP_ROLLED, BIAS, COSINE, SEPARATE),
     .terms = 64},
    {"shift on one axis",
     {1, 9, 13, 0},
     ATTENTION(2, 32, 0, PAIR(4, 5), SHIFTED(0, 2)),
     .terms = 64},
    {"9x9", {1, 19, 10, 0}, ATTENTION(2, 32, 0, EACH(9), SHIFTED(4, 4), BIAS), .terms = 128},
    {"12x12",
     {1, 24, 13, 0},
     ATTENTION(1, 64, 0, EACH(12), SHIFTED(6, 6), BIAS, PAD),
     .terms = 256},
    {"16x16 cosine",
     {1, 17, 16, 0},
     ATTENTION(2, 32, 0, EACH(16), SHIFTED(8, 8), MAP_ROLLED, BIAS, COSINE),
     .terms = 256},
    {"24x20", {1, 25, 20, 0}, ATTENTION(1, 16, 0, PAIR(24, 20), BIAS), .terms = 1024},
    {"24x24 shifted",
     {1, 24, 25, 0},
     ATTENTION(1, 32, 0, EACH(24), SHIFTED(12, 12), BIAS, PAD),
     .terms = 1024},
    {"large scores",
     {1, 14, 14, 0},
     ATTENTION(3, 32, 0, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .mean = 30,
     .terms = 1 << 16},

    {"grid", {3, 14, 21, 0}, ATTENTION(3, 32, 0, EACH(7), GRID, BIAS, PAD), .terms = 64},
    {"grid padded", {1, 15, 9, 0}, ATTENTION(2, 32, 0, EACH(7), GRID, BIAS, PAD), .terms = 64},
    {"grid 12x12", {1, 24, 25, 0}, ATTENTION(2, 32, 0, EACH(12), GRID, BIAS), .terms = 256},
    {"grid odd", {3, 9, 8, 0}, ATTENTION(2, 20, 12, PAIR(3, 2), GRID, BIAS), .terms = 64},

    {"near 7x7",
     {3, 19, 23, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 64},
    {"near 7x7, narrow",
     {3, 31, 7, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 64},
    {"near 7x7, wide heads",
     {1, 13, 22, 0},
     ATTENTION(2, 64, 0, EACH(7), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 64},
    {"near 3x3",
     {1, 9, 8, 0},
     ATTENTION(3, 16, 0, EACH(3), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 64},
    {"near, wide heads",
     {1, 17, 9, 0},
     ATTENTION(2, 64, 0, EACH(5), NEAR(EACH(1), EACH(1))),
     .terms = 64},
    {"near 7x7 dilated",
     {3, 29, 22, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(EACH(3), EACH(1)), BIAS),
     .terms = 64},
    {"near, dilations 2 and 4",
     {1, 17, 31, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(PAIR(2, 4), EACH(1)), BIAS),
     .terms = 64},
    {"near, small map",
     {3, 5, 6, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(EACH(1), EACH(1)), BIAS, PAD),
     .terms = 64},
    {"near, small map dilated",
     {1, 9, 20, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(EACH(2), EACH(1)), BIAS, PAD),
     .terms = 64},
    {"near 11x11",
     {1, 21, 13, 0},
     ATTENTION(1, 32, 0, EACH(11), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 128},
    {"near, whole map",
     {1, 14, 14, 0},
     ATTENTION(2, 32, 0, EACH(14), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 256},
    {"near, even window",
     {1, 15, 18, 0},
     ATTENTION(2, 32, 0, PAIR(6, 8), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 64},
    {"near, shared keys",
     {1, 21, 18, 0},
     ATTENTION(2, 32, 0, EACH(7), NEAR(EACH(1), PAIR(2, 7)), BIAS),
     .terms = 64},
    {"near, shared keys, dilated",
     {1, 33, 20, 0},
     ATTENTION(2, 32, 0, EACH(5), NEAR(EACH(2), EACH(3))),
     .terms = 64},
    {"near, odd heads",
     {3, 9, 11, 0},
     ATTENTION(2, 20, 12, EACH(5), NEAR(EACH(1), EACH(1)), BIAS, SEPARATE),
     .terms = 64},
    {"near, cosine",
     {1, 9, 11, 0},
     ATTENTION(2, 32, 0, EACH(5), NEAR(EACH(1), EACH(1)), BIAS, COSINE),
     .terms = 64},
    {"near, half",
     {1, 14, 14, 0},
     ATTENTION(3, 32, 0, EACH(7), NEAR(EACH(2), EACH(1)), BIAS),
     HALF_IN,
     HALF_OUT,
     .terms = 64},

    {"near, keys in blocks",
     {1, 31, 33, 0},
     ATTENTION(1, 16, 0, PAIR(27, 29), NEAR(EACH(1), EACH(1)), BIAS),
     .terms = 1024},
    {"window, keys in blocks",
     {1, 28, 41, 0},
     ATTENTION(2, 16, 0, PAIR(28, 27), SHIFTED(3, 5), BIAS, PAD),
     .terms = 1024},
    {"window, relative",
     {1, 14, 10, 0},
     ATTENTION(2, 16, 0, PAIR(7, 5), SHIFTED(3, 2), BIAS, COSINE, RELATIVE),
     .terms = 64},
    {"near, relative",
     {1, 13, 10, 0},
     ATTENTION(2, 20, 0, PAIR(7, 5), NEAR(EACH(1), EACH(1)), BIAS, RELATIVE),
     .terms = 64},

    {"halo", {3, 16, 24, 0}, ATTENTION(2, 16, 32, EACH(8), HALO(EACH(2)), RELATIVE), .terms = 256},
    {"halo of 3",
     {1, 16, 16, 0},
     ATTENTION(2, 32, 0, EACH(8), HALO(EACH(3)), RELATIVE),
     .terms = 256},
    {"halo, bias, pad",
     {1, 8, 12, 0},
     ATTENTION(2, 32, 0, EACH(4), HALO(PAIR(1, 2)), BIAS, PAD),
     .terms = 64},
    {"halo, strided",
     {3, 8, 12, 0},
     ATTENTION(2, 32, 0, EACH(8), HALO(EACH(2)), .stride = EACH(2), .keys = {16, 24}, RELATIVE),
     .terms = 256},
    {"halo 7", {1, 14, 7, 0}, ATTENTION(3, 24, 36, EACH(7), HALO(EACH(2)), RELATIVE), .terms = 128},
    {"halo 10",
     {1, 10, 20, 0},
     ATTENTION(1, 16, 64, EACH(10), HALO(EACH(3)), RELATIVE),
     .terms = 256},
    {"halo, keys in blocks",
     {1, 40, 20, 0},
     ATTENTION(2, 16, 0, EACH(20), HALO(EACH(4)), RELATIVE),
     .terms = 1024},
    {"halo, half",
     {1, 16, 16, 0},
     ATTENTION(2, 16, 32, EACH(8), HALO(EACH(3)), RELATIVE),
     HALF_IN,
     HALF_OUT,
     .terms = 256},
    {"halo, wide heads",
     {1, 8, 16, 0},
     ATTENTION(2, 64, 0, EACH(8), HALO(EACH(2)), RELATIVE),
     .terms = 256},
    {"halo, wide heads, strided",
     {3, 8, 8, 0},
     ATTENTION(2, 64, 0, EACH(8), HALO(EACH(3)), .stride = EACH(2), .keys = {16, 16}, RELATIVE),
     .terms = 256},
    {"no halo", {1, 8, 8, 0}, ATTENTION(2, 16, 0, EACH(4), HALO(EACH(0))), .terms = 64},

    {"all keys", {3, 14, 14, 0}, ATTENTION(3, 32, 0, EACH(0), GLOBAL, .keys = {7, 7}), .terms = 64},
    {"all keys, half",
     {1, 14, 14, 0},
     ATTENTION(3, 32, 0, EACH(0), GLOBAL, .keys = {28, 28}),
     HALF_IN,
     HALF_OUT,
     .terms = 1024},
    {"all keys of the map", {1, 9, 11, 0}, ATTENTION(2, 64, 0, EACH(0), GLOBAL), .terms = 128},
    {"more keys than queries",
     {1, 5, 3, 0},
     ATTENTION(2, 32, 0, EACH(0), GLOBAL, .keys = {33, 31}),
     .terms = 1024},
    {"all keys, odd",
     {3, 5, 3, 0},
     ATTENTION(2, 10, 7, EACH(0), GLOBAL, .keys = {3, 4}),
     .terms = 64},

    {"linear",
     {3, 14, 15, 0},
     LINEAR_ATTENTION(3, 32, .limit = 100, .temperature = true),
     .terms = 256},
    {"linear, floor met", {1, 3, 4, 0}, LINEAR_ATTENTION(2, 32, .limit = 100), .terms = 64},
    {"linear, low floor",
     {1, 20, 30, 0},
     LINEAR_ATTENTION(2, 32, .limit = 1e-3f, .temperature = true),
     .terms = 1024},
    {"linear, odd", {3, 5, 7, 0}, LINEAR_ATTENTION(2, 20, .v_width = 37, .limit = 1), .terms = 64},
    {"linear, half",
     {1, 30, 40, 0},
     LINEAR_ATTENTION(2, 32, .limit = 100, .temperature = true),
     HALF_IN,
     HALF_OUT,
     .terms = 1024},
    {"linear, wide",
     {1, 9, 9, 0},
     LINEAR_ATTENTION(1, 96, .v_width = 64, .limit = 1),
     .terms = 128},

    {"linear, one pixel", {3, 1, 1, 0}, LINEAR_ATTENTION(2, 32, .limit = 0.1f), .terms = 64},
    {"linear, 17 pixels", {3, 1, 17, 0}, LINEAR_ATTENTION(5, 32, .limit = 10), .terms = 64},
    {"linear, large",
     {3, 9, 15, 0},
     LINEAR_ATTENTION(2, 32, .limit = 100, .temperature = true),
     .mean = 40,
     .terms = 256},
    {"linear, one head",
     {1, 70, 64, 0},
     LINEAR_ATTENTION(1, 32, .limit = 100, .temperature = true),
     .terms = 4096},

    {"channels", {3, 14, 15, 0}, CHANNEL_ATTENTION(3, 32, .limit = 0.1f), .terms = 256},
    {"channels, many heads",
     {3, 23, 24, 0},
     CHANNEL_ATTENTION(23, 32, .limit = 0.05f),
     .terms = 1024},
    {"channels of many pixels",
     {1, 40, 41, 0},
     CHANNEL_ATTENTION(2, 32, .limit = 0.05f),
     .terms = 2048},
    {"channels, odd", {3, 5, 3, 0}, CHANNEL_ATTENTION(2, 13, .limit = 0.3f), .terms = 64},
    {"channels, half",
     {1, 14, 15, 0},
     CHANNEL_ATTENTION(3, 32, .limit = 0.1f),
     HALF_IN,
     HALF_OUT,
     .terms = 256},
    {"channels, wide", {1, 7, 7, 0}, CHANNEL_ATTENTION(1, 64, .limit = 0.2f), .terms = 64},
    {"channels, one pixel", {1, 1, 1, 0}, CHANNEL_ATTENTION(2, 32, .limit = 1), .terms = 64},
};
const int op_entry_count = sizeof op_entries / sizeof op_entries[0];

/* ---- use ------------------------------------------------------------------------------------- */

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

static int64_t terms_of(const op_case *c, const op_entry *e)
{
    int64_t terms = e->terms;
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        if (c->uses[i] == VT_USE_MATRIX && c->shapes[i].cols > terms) {
            terms = c->shapes[i].cols;
        }
    }
    return terms;
}

/* The largest |mean| / deviation of a row of a norm's source: what its roundings are multiplied by.
 */
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
        r->kind == VT_OP_NORM ? norm_condition(c) : (double)fabsf(e->mean) / (double)spread_of(e);
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
