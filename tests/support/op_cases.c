/* SPDX-License-Identifier: Apache-2.0 */
#include "op_cases.h"

#include "op_builders.h"

/* ---- the words of the table ------------------------------------------------------------------ */

/* Two numbers, of rows and columns. */
#define PAIR(y, x) y, x
#define EACH(x)    PAIR(x, x)

/* A compound literal for op_entry.with. */
#define WITH(type, ...)                                                                            \
    .with = &(const type)                                                                          \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

#define LINEAR(outputs, ...) .build = build_linear, WITH(linear_with, .out = outputs, __VA_ARGS__)
/* Kernel, stride and dilation in pairs, then the rest. */
#define CONV(outputs, ...)                                                                         \
    .build = build_conv, WITH(conv_with, .out = outputs, GEOMETRY(__VA_ARGS__))
#define DEPTHWISE(...) .build = build_depthwise, WITH(depthwise_with, GEOMETRY(__VA_ARGS__))
#define GEOMETRY(kh, kw, sh, sw, dh, dw, ...)                                                      \
    .op.kernel_h = kh, .op.kernel_w = kw, .op.stride_h = sh, .op.stride_w = sw,                    \
    .op.dilation_h = dh, .op.dilation_w = dw, __VA_ARGS__
#define SAME(kernel, stride)  EACH(kernel), EACH(stride), EACH(1), AROUND((kernel) / 2)
#define DILATED(kernel, step) EACH(kernel), EACH(1), EACH(step), AROUND((kernel) / 2 * (step))
#define POOL(which, size, step, ...)                                                               \
    .build = build_pool,                                                                           \
    WITH(pool_with, .op.kind = which, .op.kernel = size, .op.stride = step, __VA_ARGS__)
#define SIDES(t, l, b, r) .op.pad_top = t, .op.pad_left = l, .op.pad_bottom = b, .op.pad_right = r
#define AROUND(x)         SIDES(x, x, x, x)

#define NORM                   .build = build_norm
#define NORM_AFFINE            .build = build_norm, WITH(bool, true)
#define AFFINE                 .build = build_affine
#define AFFINE_SHIFT           .build = build_affine, WITH(bool, true)
#define ADD                    .build = build_add
#define MUL                    .build = build_mul
#define MUL_IMAGE              .build = build_mul, WITH(bool, true)
#define CONCAT(channels)       .build = build_concat, WITH(int, channels)
#define BLOCK(size)            .build = build_space_to_depth, WITH(int, size)
#define MEAN_POOL              .build = build_mean_pool
#define DEFORM(size, distance) .build = build_deform, WITH(deform_with, size, distance)

/* Heads, their width and the window as a pair, then the rest. */
#define ATTENTION(...) .build = build_attention, WITH(attention_with, IN_WINDOW(__VA_ARGS__))
#define IN_WINDOW(count, qk, h, w, ...)                                                            \
    .heads = count, .width = qk, .pattern.window_h = h, .pattern.window_w = w, __VA_ARGS__
#define SHIFTED(y, x) .pattern.shift_h = y, .pattern.shift_w = x
#define STRIDED(y, x) .pattern.stride_h = y, .pattern.stride_w = x
#define MAP_ROLLED    .pattern.roll = VT_ROLL_MAP
#define GRID          .pattern.kind = VT_PATTERN_GRID
#define NEAR          NEAR_BY(EACH(1), EACH(1))
/* Dilation and stride in pairs. */
#define NEAR_BY(...) NEAR_FIELDS(__VA_ARGS__)
#define NEAR_FIELDS(dh, dw, sh, sw)                                                                \
    .pattern.kind = VT_PATTERN_NEIGHBORHOOD, .pattern.dilation_h = dh, .pattern.dilation_w = dw,   \
    STRIDED(sh, sw)
#define HALO(...)         HALO_FIELDS(__VA_ARGS__)
#define HALO_FIELDS(h, w) .pattern.kind = VT_PATTERN_HALO, .pattern.halo_h = h, .pattern.halo_w = w
#define GLOBAL            .pattern.kind = VT_PATTERN_GLOBAL

/* Heads, their width, the floor or the scale. */
#define HEADS(count, qk, bound, ...)                                                               \
    WITH(heads_with, .heads = count, .width = qk, .limit = bound, __VA_ARGS__)
#define LINEAR_ATTENTION(...)  .build = build_linear_attention, HEADS(__VA_ARGS__)
#define CHANNEL_ATTENTION(...) .build = build_channel_attention, HEADS(__VA_ARGS__)

#define GELU        .op.act = VT_ACT_GELU
#define GELU_TANH   .op.act = VT_ACT_GELU_TANH
#define SILU        .op.act = VT_ACT_SILU
#define RELU        .op.act = VT_ACT_RELU
#define NORM_IN     .op.norm_place = VT_NORM_INPUT, .affine = true
#define NORM_OUT    .op.norm_place = VT_NORM_OUTPUT, .affine = true
#define BIAS        .bias = true
#define NO_BIAS     .no_bias = true
#define RESIDUAL    .residual = true
#define GATED       RESIDUAL, .op.gated = true
#define SCALE       .scale = true
#define SHIFT       .shift = true
#define PAD         .pad = true
#define COSINE      .cosine = true
#define RELATIVE    .relative = true
#define SEPARATE    .separate = true
#define TEMPERATURE .temperature = true
#define HALF_IN     .src_half = true
#define HALF_OUT    .dst_half = true
#define HALF        HALF_IN, HALF_OUT

/* ---- the table: name, shape of the source, record, the rest of its op_entry ------------------ */

const op_entry op_entries[] = {
    {"one", {1, 1, 1, 1}, LINEAR(1, BIAS)},
    {"plain", {1, 5, 7, 24}, LINEAR(64)},
    {"primes", {3, 7, 13, 37}, LINEAR(53, GELU, BIAS, RESIDUAL)},
    {"one row, odd", {1, 1, 1, 37}, LINEAR(53, BIAS)},
    {"one row, odd, everything", {1, 1, 1, 61}, LINEAR(43, GELU, BIAS, NORM_IN, RESIDUAL)},
    {"rows of 8", {3, 3, 5, 8}, LINEAR(8, BIAS, RESIDUAL)},
    {"norm", {1, 14, 14, 96}, LINEAR(288, BIAS, NORM_IN)},
    {"norm, no affine", {3, 5, 3, 40}, LINEAR(24, BIAS, .op.norm_place = VT_NORM_INPUT)},
    {"norm half out", {1, 14, 9, 96}, LINEAR(288, BIAS, NORM_IN), HALF_OUT},
    {"fc1", {1, 7, 7, 192}, LINEAR(768, GELU, BIAS, NORM_IN), HALF_OUT},
    {"fc2", {1, 7, 7, 768}, LINEAR(192, BIAS, RESIDUAL), HALF_IN},
    {"row of 4096 bytes", {1, 5, 6, 1024}, LINEAR(40, BIAS, RESIDUAL)},
    {"half row of 4096 bytes", {1, 5, 6, 2048}, LINEAR(40, BIAS, RESIDUAL), HALF},
    {"odd half", {1, 4, 4, 33}, LINEAR(31, SILU, BIAS, RESIDUAL), HALF},
    {"tanh gelu", {3, 5, 5, 64}, LINEAR(96, GELU_TANH, BIAS)},
    {"tanh gelu, no bias", {1, 5, 5, 64}, LINEAR(96, GELU_TANH)},
    {"tanh gelu, residual", {1, 5, 5, 64}, LINEAR(96, GELU_TANH, BIAS, RESIDUAL)},
    {"gelu, no bias", {1, 5, 5, 64}, LINEAR(96, GELU)},
    {"silu", {3, 5, 5, 64}, LINEAR(96, SILU, BIAS)},
    {"sigmoid", {1, 5, 5, 64}, LINEAR(96, BIAS, .op.act = VT_ACT_SIGMOID)},
    {"tanh", {1, 5, 5, 64}, LINEAR(96, BIAS, RESIDUAL, .op.act = VT_ACT_TANH)},
    {"relu", {3, 5, 5, 64}, LINEAR(96, RELU, BIAS)},
    {"relu, no bias", {1, 5, 5, 64}, LINEAR(96, RELU)},
    {"relu, residual", {1, 5, 5, 64}, LINEAR(96, RELU, BIAS, RESIDUAL)},
    {"gated", {3, 7, 13, 37}, LINEAR(53, BIAS, GATED)},
    {"gated, wide", {1, 16, 16, 64}, LINEAR(64, BIAS, GATED), HALF},
    {"gated gelu, norm", {1, 7, 9, 96}, LINEAR(96, GELU, BIAS, NORM_IN, GATED), HALF_OUT},
    {"gated sigmoid", {1, 5, 6, 320}, LINEAR(320, GATED, .op.act = VT_ACT_SIGMOID)},
    {"merge", {3, 9, 11, 12}, LINEAR(24, .op.patch = 2, NORM_IN)},
    {"merge, wide", {1, 9, 11, 96}, LINEAR(192, .op.patch = 2, NORM_IN)},
    {"stem", {1, 30, 41, 3}, LINEAR(96, .op.patch = 4, BIAS)},
    {"stem with norm", {3, 8, 12, 3}, LINEAR(96, .op.patch = 4, BIAS, NORM_OUT)},
    {"output norm", {3, 5, 7, 48}, LINEAR(70, RELU, BIAS, NORM_OUT, RESIDUAL)},
    {"output norm half",
     {1, 7, 7, 64},
     LINEAR(96, GELU_TANH, BIAS, RESIDUAL, .op.norm_place = VT_NORM_OUTPUT),
     HALF},
    {"mean 1000", {1, 7, 7, 96}, LINEAR(64, BIAS, NORM_IN), .mean = 1000},
    {"large", {1, 3, 5, 40}, LINEAR(40, GELU, BIAS), .spread = 1e4f},
    {"tiny", {1, 3, 5, 40}, LINEAR(40, SILU, BIAS), .spread = 1e-18f},
    {"head", {1, 1, 1, 768}, LINEAR(1000, BIAS)},
    {"head of a batch", {3, 1, 1, 768}, LINEAR(1000, BIAS)},

    {"1x1", {3, 5, 7, 13}, CONV(19, EACH(1), EACH(1), EACH(1))},
    {"1x1 stride 2", {1, 5, 7, 16}, CONV(24, EACH(1), EACH(2), EACH(1), NO_BIAS)},
    {"1x1 of one pixel", {1, 1, 1, 8}, CONV(8, EACH(1), EACH(1), EACH(1))},
    {"3x3", {3, 9, 12, 32}, CONV(64, SAME(3, 1), RELU)},
    {"3x3 stride 2", {3, 9, 12, 5}, CONV(19, SAME(3, 2), GELU)},
    {"3x3 half", {1, 9, 12, 16}, CONV(19, SAME(3, 2), GELU), HALF},
    {"3x3 unpadded", {1, 9, 12, 8}, CONV(16, EACH(3), EACH(1), EACH(1), NO_BIAS)},
    {"3x3 dilated", {1, 13, 11, 24}, CONV(32, DILATED(3, 2), SILU)},
    {"3x3 padded on one side",
     {3, 8, 10, 16},
     CONV(16, EACH(3), EACH(2), EACH(1), SIDES(0, 0, 1, 1))},
    {"3x3 padded above", {1, 8, 10, 16}, CONV(16, EACH(3), EACH(1), EACH(1), SIDES(2, 0, 0, 1))},
    {"3x3 of a picture", {3, 17, 15, 3}, CONV(32, SAME(3, 2), RELU)},
    {"2x3", {1, 7, 9, 8}, CONV(8, PAIR(2, 3), PAIR(1, 2), EACH(1), AROUND(1), GELU_TANH)},
    {"7x7 stem", {1, 33, 29, 3}, CONV(64, SAME(7, 4))},
    {"stem padded on one side",
     {3, 12, 20, 3},
     CONV(40, EACH(3), EACH(2), EACH(1), SIDES(0, 0, 1, 1), GELU_TANH)},
    {"stem padded above", {3, 13, 11, 3}, CONV(24, EACH(3), EACH(1), EACH(1), SIDES(2, 1, 0, 0))},
    {"stem of two tiles a row", {1, 5, 272, 3}, CONV(32, SAME(3, 2))},
    {"stem of many tiles", {1, 86, 20, 3}, CONV(96, SAME(7, 4), GELU)},
    {"stem of 1 channel", {1, 19, 18, 1}, CONV(104, SAME(5, 2), SILU)},
    {"second of a stem", {1, 11, 37, 24}, CONV(32, SAME(3, 1), RELU)},
    {"stem of 4 channels", {3, 9, 7, 4}, CONV(8, EACH(2), EACH(2), EACH(1), NO_BIAS)},
    {"7x7", {1, 14, 11, 16}, CONV(24, SAME(7, 1))},
    {"7x5 dilated",
     {1, 23, 31, 3},
     CONV(19, PAIR(7, 5), PAIR(4, 3), PAIR(1, 2), SIDES(3, 2, 0, 4), RELU)},
    {"7x5 from 4x5",
     {1, 4, 5, 3},
     CONV(19, PAIR(7, 5), PAIR(4, 3), PAIR(1, 2), SIDES(3, 2, 0, 4), RELU)},
    {"kernel larger than the map", {1, 2, 3, 8}, CONV(8, SAME(5, 1))},

    {"1x1, 4 groups of 16",
     {3, 7, 11, 64},
     CONV(64, EACH(1), EACH(1), EACH(1), .op.groups = 4, NO_BIAS)},
    {"3x3, 3 groups", {1, 9, 19, 15}, CONV(21, SAME(3, 1), .op.groups = 3, GELU)},
    {"3x3, groups, stride 2", {3, 9, 21, 32}, CONV(96, SAME(3, 2), .op.groups = 2, RELU)},
    {"3x3, groups, half", {1, 9, 21, 32}, CONV(80, DILATED(3, 2), .op.groups = 2), HALF},
    {"2x5, groups, padded",
     {1, 6, 5, 8},
     CONV(8, PAIR(2, 5), EACH(1), EACH(1), AROUND(3), .op.groups = 4)},

    {"one", {1, 1, 1, 1}, NORM_AFFINE, .terms = 1},
    {"odd", {3, 5, 3, 37}, NORM_AFFINE, .terms = 37},
    {"3 channels", {3, 5, 3, 3}, NORM, .terms = 3},
    {"8 channels", {1, 5, 3, 8}, NORM_AFFINE, .terms = 8},
    {"half in", {1, 5, 3, 96}, NORM_AFFINE, HALF_IN, .terms = 96},
    {"half out", {1, 5, 3, 99}, NORM, HALF_OUT, .terms = 96},
    {"mean 1000", {1, 7, 7, 96}, NORM_AFFINE, .mean = 1000, .terms = 96},
    {"768 channels", {3, 3, 3, 768}, NORM_AFFINE, .terms = 768},
    {"wide", {1, 2, 3, 1536}, NORM, .terms = 1536},
    {"4096 channels", {3, 1, 3, 4096}, NORM_AFFINE, .terms = 4096},
    {"4095 channels", {1, 1, 3, 4095}, NORM_AFFINE, .terms = 4096},

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
    {"3 half", {1, 7, 9, 5}, BLOCK(3), HALF},
    {"3 half out", {1, 7, 9, 5}, BLOCK(3), HALF_OUT},

    {"one", {1, 1, 1, 1}, MEAN_POOL},
    {"odd", {3, 7, 11, 101}, MEAN_POOL, .terms = 77},
    {"mean 1000", {1, 56, 56, 9}, MEAN_POOL, .mean = 1000, .terms = 3136},
    {"half", {1, 7, 7, 768}, MEAN_POOL, HALF, .terms = 49},
    {"some pixels", {3, 23, 9, 200}, MEAN_POOL, .terms = 207},
    {"many pixels", {3, 33, 37, 136}, MEAN_POOL, .mean = 3, .terms = 1221},

    {"depthwise one", {1, 1, 1, 1}, DEPTHWISE(SAME(3, 1))},
    {"3x3, odd", {3, 9, 11, 37}, DEPTHWISE(SAME(3, 1))},
    {"3x3, 7x7 map", {3, 7, 7, 96}, DEPTHWISE(SAME(3, 1), GELU)},
    {"3x3, one pixel", {1, 1, 1, 64}, DEPTHWISE(SAME(3, 1), NO_BIAS)},
    {"3x3, one column", {1, 5, 1, 16}, DEPTHWISE(SAME(3, 1))},
    {"3x3, one row", {1, 1, 15, 17}, DEPTHWISE(SAME(3, 1))},
    {"3x3, everything", {3, 10, 15, 65}, DEPTHWISE(SAME(3, 1), SILU, SCALE, SHIFT, RESIDUAL)},
    {"3x3, residual", {1, 17, 29, 300}, DEPTHWISE(SAME(3, 1), RESIDUAL)},
    {"3x3, scaled", {1, 8, 8, 48}, DEPTHWISE(SAME(3, 1), SCALE)},
    {"3x3, 700 channels", {1, 5, 8, 700}, DEPTHWISE(SAME(3, 1), RELU)},
    {"3x3, unpadded", {1, 9, 12, 33}, DEPTHWISE(EACH(3), EACH(1), EACH(1), NO_BIAS)},
    {"3x3, padded twice", {1, 3, 3, 32}, DEPTHWISE(EACH(3), EACH(1), EACH(1), AROUND(4))},
    {"3x3, padded on one side",
     {3, 8, 10, 47},
     DEPTHWISE(EACH(3), EACH(2), EACH(1), SIDES(0, 0, 1, 1))},
    {"3x3, stride 2", {3, 9, 12, 40}, DEPTHWISE(SAME(3, 2), GELU_TANH)},
    {"3x3, stride 2, wide", {1, 29, 33, 128}, DEPTHWISE(SAME(3, 2))},
    {"3x3, strides 2 and 1", {1, 9, 16, 20}, DEPTHWISE(EACH(3), PAIR(2, 1), EACH(1), AROUND(1))},
    {"3x3, strides 1 and 2", {1, 9, 16, 20}, DEPTHWISE(EACH(3), PAIR(1, 2), EACH(1), AROUND(1))},
    {"3x3, dilations 2 and 1", {1, 9, 16, 64}, DEPTHWISE(EACH(3), EACH(1), PAIR(2, 1), AROUND(2))},
    {"3x3, stride and dilation 2", {1, 9, 17, 40}, DEPTHWISE(EACH(3), EACH(2), EACH(2), AROUND(2))},
    {"3x3, half", {3, 9, 15, 96}, DEPTHWISE(SAME(3, 1), GELU), HALF},
    {"3x3, half in", {1, 9, 15, 50}, DEPTHWISE(SAME(3, 1), RESIDUAL), HALF_IN},
    {"3x3, half out", {1, 9, 15, 50}, DEPTHWISE(SAME(3, 1)), HALF_OUT},
    {"5x5", {1, 13, 9, 72}, DEPTHWISE(SAME(5, 1))},
    {"5x5, 2x2 map", {3, 2, 2, 32}, DEPTHWISE(SAME(5, 1))},
    {"5x5, stride 2", {1, 13, 16, 49}, DEPTHWISE(SAME(5, 2), RESIDUAL)},
    {"5x5, half", {1, 13, 16, 49}, DEPTHWISE(SAME(5, 2)), HALF_IN},
    {"7x7", {1, 15, 24, 100}, DEPTHWISE(SAME(7, 1))},
    {"7x7, 7x7 map", {3, 7, 7, 48}, DEPTHWISE(SAME(7, 1))},
    {"7x7, stride 2", {1, 15, 24, 36}, DEPTHWISE(SAME(7, 2))},
    {"7x7, half", {1, 14, 14, 64}, DEPTHWISE(SAME(7, 1)), HALF},
    {"7x7, dilation 3", {3, 22, 29, 40}, DEPTHWISE(DILATED(7, 3))},
    {"7x7, dilation 3, small map", {1, 7, 5, 32}, DEPTHWISE(DILATED(7, 3))},
    {"7x7, dilation 3, half", {1, 14, 14, 64}, DEPTHWISE(DILATED(7, 3)), HALF},
    {"1x1", {1, 3, 5, 33}, DEPTHWISE(EACH(1), EACH(1), EACH(1), RELU)},
    {"2x4, stride 3", {3, 11, 13, 83}, DEPTHWISE(PAIR(2, 4), EACH(3), EACH(1), AROUND(1))},
    {"9x3", {1, 12, 11, 48}, DEPTHWISE(PAIR(9, 3), EACH(1), EACH(1), SIDES(4, 1, 4, 1))},
    {"3x9, half",
     {1, 12, 11, 19},
     DEPTHWISE(PAIR(3, 9), EACH(1), EACH(1), SIDES(1, 4, 1, 4), SCALE, SHIFT),
     HALF},

    {"one", {1, 1, 1, 1}, AFFINE},
    {"odd", {3, 7, 13, 37}, AFFINE_SHIFT},
    {"wide", {1, 3, 3, 5000}, AFFINE_SHIFT},
    {"half in", {3, 7, 13, 96}, AFFINE_SHIFT, HALF_IN},
    {"half", {3, 7, 13, 41}, AFFINE, HALF},

    {"one", {1, 1, 1, 1}, MUL},
    {"odd", {3, 7, 13, 37}, MUL},
    {"half", {3, 7, 13, 37}, MUL, HALF},
    {"half out", {1, 56, 56, 32}, MUL, HALF_OUT},
    {"per image", {3, 7, 13, 37}, MUL_IMAGE},
    {"per image, wide", {3, 3, 2, 5000}, MUL_IMAGE},
    {"per image, one pixel", {3, 1, 1, 19}, MUL_IMAGE},
    {"per image, half", {3, 14, 13, 64}, MUL_IMAGE, HALF},

    {"one and one", {1, 1, 1, 1}, CONCAT(1)},
    {"odd", {3, 5, 7, 37}, CONCAT(11)},
    {"half in", {1, 5, 7, 32}, CONCAT(64), HALF_IN},
    {"half out", {1, 5, 7, 33}, CONCAT(65), HALF_OUT},
    {"half", {1, 5, 7, 33}, CONCAT(65), HALF},

    {"mean 2x2", {3, 8, 10, 40}, POOL(VT_POOL_MEAN, 2, 2), .terms = 4},
    {"mean 2x2, odd map", {3, 7, 9, 19}, POOL(VT_POOL_MEAN, 2, 2), .terms = 4},
    {"mean 3x3, padded", {1, 7, 9, 65}, POOL(VT_POOL_MEAN, 3, 1, AROUND(1)), .terms = 9},
    {"mean 3x3, half", {1, 7, 9, 65}, POOL(VT_POOL_MEAN, 3, 2, AROUND(1)), HALF, .terms = 9},
    {"max one", {1, 1, 1, 1}, POOL(VT_POOL_MAX, 1, 1)},
    {"max 2x2", {3, 8, 10, 40}, POOL(VT_POOL_MAX, 2, 2)},
    {"max 3x3, padded", {3, 9, 12, 50}, POOL(VT_POOL_MAX, 3, 2, AROUND(1)), .mean = -5},
    {"max 3x3, padded on one side",
     {1, 9, 12, 5},
     POOL(VT_POOL_MAX, 3, 2, SIDES(0, 0, 1, 1)),
     .mean = -5},
    {"max 5x5 of 2x3", {1, 2, 3, 16}, POOL(VT_POOL_MAX, 5, 1, AROUND(2)), .mean = -5},
    {"max 3x3, half", {1, 9, 12, 50}, POOL(VT_POOL_MAX, 3, 2, AROUND(1)), HALF},

    {"deform one", {1, 1, 1, 1}, DEFORM(1, 1), .terms = 4},
    {"deform 2, near", {3, 8, 10, 37}, DEFORM(2, 1), .terms = 4},
    {"deform 4, far", {1, 13, 18, 64}, DEFORM(4, 12), .terms = 4},
    {"deform 2, half", {1, 9, 10, 37}, DEFORM(2, 3), HALF, .terms = 4},

    {"one", {1, 1, 1, 0}, ATTENTION(1, 1, EACH(1)), .terms = 64},
    {"1x1 window", {3, 3, 5, 0}, ATTENTION(2, 16, EACH(1), BIAS), .terms = 64},
    {"2x2", {3, 5, 7, 0}, ATTENTION(2, 8, EACH(2), SHIFTED(1, 1), BIAS), .terms = 64},
    {"7x7", {3, 14, 21, 0}, ATTENTION(3, 32, EACH(7), BIAS, PAD), .terms = 64},
    {"7x7 padded", {1, 15, 9, 0}, ATTENTION(3, 32, EACH(7), BIAS, PAD), .terms = 64},
    {"7x7 shifted",
     {1, 28, 14, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"7x7 shifted, padded",
     {3, 17, 23, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"7x7 map rolled",
     {1, 17, 23, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), MAP_ROLLED, BIAS, PAD),
     .terms = 64},
    {"7x7 half",
     {1, 17, 23, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     HALF,
     .terms = 64},
    {"7x7 half out",
     {1, 14, 14, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     HALF_OUT,
     .terms = 64},
    {"7x7 narrow heads",
     {1, 9, 16, 0},
     ATTENTION(6, 16, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"7x7 wide heads, no pad rows",
     {1, 9, 16, 0},
     ATTENTION(2, 64, EACH(7), SHIFTED(3, 3), BIAS),
     .terms = 64},
    {"smaller than the window",
     {1, 3, 2, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .terms = 64},
    {"smaller than the window, map rolled",
     {3, 2, 9, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), MAP_ROLLED, BIAS, PAD),
     .terms = 64},
    {"8x8 cosine",
     {3, 16, 11, 0},
     ATTENTION(3, 32, EACH(8), SHIFTED(4, 4), BIAS, COSINE, PAD),
     .terms = 64},
    {"cosine 5x3",
     {3, 11, 7, 0},
     ATTENTION(2, 24, PAIR(5, 3), SHIFTED(2, 1), BIAS, COSINE, PAD),
     .terms = 64},
    {"cosine 5x3 half",
     {1, 11, 7, 0},
     ATTENTION(2, 24, PAIR(5, 3), SHIFTED(2, 1), BIAS, COSINE, PAD),
     HALF_IN,
     .terms = 64},
    {"no bias, no pad, wide v",
     {1, 9, 13, 0},
     ATTENTION(2, 16, PAIR(4, 6), SHIFTED(0, 3), SEPARATE, .v_width = 40),
     .terms = 64},
    {"odd widths",
     {3, 8, 9, 0},
     ATTENTION(2, 33, PAIR(3, 5), SHIFTED(1, 0), MAP_ROLLED, BIAS, COSINE, SEPARATE, .v_width = 19),
     .terms = 64},
    {"shift on one axis", {1, 9, 13, 0}, ATTENTION(2, 32, PAIR(4, 5), SHIFTED(0, 2)), .terms = 64},
    {"9x9", {1, 19, 10, 0}, ATTENTION(2, 32, EACH(9), SHIFTED(4, 4), BIAS), .terms = 128},
    {"12x12", {1, 24, 13, 0}, ATTENTION(1, 64, EACH(12), SHIFTED(6, 6), BIAS, PAD), .terms = 256},
    {"16x16 cosine",
     {1, 17, 16, 0},
     ATTENTION(2, 32, EACH(16), SHIFTED(8, 8), MAP_ROLLED, BIAS, COSINE),
     .terms = 256},
    {"24x20", {1, 25, 20, 0}, ATTENTION(1, 16, PAIR(24, 20), BIAS), .terms = 1024},
    {"24x24 shifted",
     {1, 24, 25, 0},
     ATTENTION(1, 32, EACH(24), SHIFTED(12, 12), BIAS, PAD),
     .terms = 1024},
    {"large scores",
     {1, 14, 14, 0},
     ATTENTION(3, 32, EACH(7), SHIFTED(3, 3), BIAS, PAD),
     .mean = 30,
     .terms = 1 << 16},

    {"grid", {3, 14, 21, 0}, ATTENTION(3, 32, EACH(7), GRID, BIAS, PAD), .terms = 64},
    {"grid padded", {1, 15, 9, 0}, ATTENTION(2, 32, EACH(7), GRID, BIAS, PAD), .terms = 64},
    {"grid 12x12", {1, 24, 25, 0}, ATTENTION(2, 32, EACH(12), GRID, BIAS), .terms = 256},
    {"grid odd",
     {3, 9, 8, 0},
     ATTENTION(2, 20, PAIR(3, 2), GRID, BIAS, .v_width = 12),
     .terms = 64},

    {"near 7x7", {3, 19, 23, 0}, ATTENTION(2, 32, EACH(7), NEAR, BIAS), .terms = 64},
    {"near 7x7, narrow", {3, 31, 7, 0}, ATTENTION(2, 32, EACH(7), NEAR, BIAS), .terms = 64},
    {"near 7x7, wide heads", {1, 13, 22, 0}, ATTENTION(2, 64, EACH(7), NEAR, BIAS), .terms = 64},
    {"near 3x3", {1, 9, 8, 0}, ATTENTION(3, 16, EACH(3), NEAR, BIAS), .terms = 64},
    {"near, wide heads", {1, 17, 9, 0}, ATTENTION(2, 64, EACH(5), NEAR), .terms = 64},
    {"near 7x7 dilated",
     {3, 29, 22, 0},
     ATTENTION(2, 32, EACH(7), NEAR_BY(EACH(3), EACH(1)), BIAS),
     .terms = 64},
    {"near, dilations 2 and 4",
     {1, 17, 31, 0},
     ATTENTION(2, 32, EACH(7), NEAR_BY(PAIR(2, 4), EACH(1)), BIAS),
     .terms = 64},
    {"near, small map", {3, 5, 6, 0}, ATTENTION(2, 32, EACH(7), NEAR, BIAS, PAD), .terms = 64},
    {"near, small map dilated",
     {1, 9, 20, 0},
     ATTENTION(2, 32, EACH(7), NEAR_BY(EACH(2), EACH(1)), BIAS, PAD),
     .terms = 64},
    {"near 11x11", {1, 21, 13, 0}, ATTENTION(1, 32, EACH(11), NEAR, BIAS), .terms = 128},
    {"near, whole map", {1, 14, 14, 0}, ATTENTION(2, 32, EACH(14), NEAR, BIAS), .terms = 256},
    {"near, even window", {1, 15, 18, 0}, ATTENTION(2, 32, PAIR(6, 8), NEAR, BIAS), .terms = 64},
    {"near, shared keys",
     {1, 21, 18, 0},
     ATTENTION(2, 32, EACH(7), NEAR_BY(EACH(1), PAIR(2, 7)), BIAS),
     .terms = 64},
    {"near, shared keys, dilated",
     {1, 33, 20, 0},
     ATTENTION(2, 32, EACH(5), NEAR_BY(EACH(2), EACH(3))),
     .terms = 64},
    {"near, odd heads",
     {3, 9, 11, 0},
     ATTENTION(2, 20, EACH(5), NEAR, BIAS, SEPARATE, .v_width = 12),
     .terms = 64},
    {"near, cosine", {1, 9, 11, 0}, ATTENTION(2, 32, EACH(5), NEAR, BIAS, COSINE), .terms = 64},
    {"near, half",
     {1, 14, 14, 0},
     ATTENTION(3, 32, EACH(7), NEAR_BY(EACH(2), EACH(1)), BIAS),
     HALF,
     .terms = 64},

    {"near, keys in blocks",
     {1, 31, 33, 0},
     ATTENTION(1, 16, PAIR(27, 29), NEAR, BIAS),
     .terms = 1024},
    {"window, keys in blocks",
     {1, 28, 41, 0},
     ATTENTION(2, 16, PAIR(28, 27), SHIFTED(3, 5), BIAS, PAD),
     .terms = 1024},
    {"window, relative",
     {1, 14, 10, 0},
     ATTENTION(2, 16, PAIR(7, 5), SHIFTED(3, 2), BIAS, COSINE, RELATIVE),
     .terms = 64},
    {"near, relative",
     {1, 13, 10, 0},
     ATTENTION(2, 20, PAIR(7, 5), NEAR, BIAS, RELATIVE),
     .terms = 64},

    {"halo",
     {3, 16, 24, 0},
     ATTENTION(2, 16, EACH(8), HALO(EACH(2)), RELATIVE, .v_width = 32),
     .terms = 256},
    {"halo of 3", {1, 16, 16, 0}, ATTENTION(2, 32, EACH(8), HALO(EACH(3)), RELATIVE), .terms = 256},
    {"halo, bias, pad",
     {1, 8, 12, 0},
     ATTENTION(2, 32, EACH(4), HALO(PAIR(1, 2)), BIAS, PAD),
     .terms = 64},
    {"halo, strided",
     {3, 8, 12, 0},
     ATTENTION(2, 32, EACH(8), HALO(EACH(2)), STRIDED(2, 2), .keys = {16, 24}, RELATIVE),
     .terms = 256},
    {"halo 7",
     {1, 14, 7, 0},
     ATTENTION(3, 24, EACH(7), HALO(EACH(2)), RELATIVE, .v_width = 36),
     .terms = 128},
    {"halo 10",
     {1, 10, 20, 0},
     ATTENTION(1, 16, EACH(10), HALO(EACH(3)), RELATIVE, .v_width = 64),
     .terms = 256},
    {"halo, keys in blocks",
     {1, 40, 20, 0},
     ATTENTION(2, 16, EACH(20), HALO(EACH(4)), RELATIVE),
     .terms = 1024},
    {"halo, half",
     {1, 16, 16, 0},
     ATTENTION(2, 16, EACH(8), HALO(EACH(3)), RELATIVE, .v_width = 32),
     HALF,
     .terms = 256},
    {"halo, wide heads",
     {1, 8, 16, 0},
     ATTENTION(2, 64, EACH(8), HALO(EACH(2)), RELATIVE),
     .terms = 256},
    {"halo, wide heads, strided",
     {3, 8, 8, 0},
     ATTENTION(2, 64, EACH(8), HALO(EACH(3)), STRIDED(2, 2), .keys = {16, 16}, RELATIVE),
     .terms = 256},
    {"no halo", {1, 8, 8, 0}, ATTENTION(2, 16, EACH(4), HALO(EACH(0))), .terms = 64},

    {"all keys", {3, 14, 14, 0}, ATTENTION(3, 32, EACH(0), GLOBAL, .keys = {7, 7}), .terms = 64},
    {"all keys, half",
     {1, 14, 14, 0},
     ATTENTION(3, 32, EACH(0), GLOBAL, .keys = {28, 28}),
     HALF,
     .terms = 1024},
    {"all keys of the map", {1, 9, 11, 0}, ATTENTION(2, 64, EACH(0), GLOBAL), .terms = 128},
    {"more keys than queries",
     {1, 5, 3, 0},
     ATTENTION(2, 32, EACH(0), GLOBAL, .keys = {33, 31}),
     .terms = 1024},
    {"all keys, odd",
     {3, 5, 3, 0},
     ATTENTION(2, 10, EACH(0), GLOBAL, .keys = {3, 4}, .v_width = 7),
     .terms = 64},

    {"linear", {3, 14, 15, 0}, LINEAR_ATTENTION(3, 32, 100, TEMPERATURE), .terms = 256},
    {"linear, floor met", {1, 3, 4, 0}, LINEAR_ATTENTION(2, 32, 100), .terms = 64},
    {"linear, low floor",
     {1, 20, 30, 0},
     LINEAR_ATTENTION(2, 32, 1e-3f, TEMPERATURE),
     .terms = 1024},
    {"linear, odd", {3, 5, 7, 0}, LINEAR_ATTENTION(2, 20, 1, .v_width = 37), .terms = 64},
    {"linear, half",
     {1, 30, 40, 0},
     LINEAR_ATTENTION(2, 32, 100, TEMPERATURE),
     HALF,
     .terms = 1024},
    {"linear, wide", {1, 9, 9, 0}, LINEAR_ATTENTION(1, 96, 1, .v_width = 64), .terms = 128},

    {"linear, one pixel", {3, 1, 1, 0}, LINEAR_ATTENTION(2, 32, 0.1f), .terms = 64},
    {"linear, 17 pixels", {3, 1, 17, 0}, LINEAR_ATTENTION(5, 32, 10), .terms = 64},
    {"linear, large",
     {3, 9, 15, 0},
     LINEAR_ATTENTION(2, 32, 100, TEMPERATURE),
     .mean = 40,
     .terms = 256},
    {"linear, one head", {1, 70, 64, 0}, LINEAR_ATTENTION(1, 32, 100, TEMPERATURE), .terms = 4096},

    {"channels", {3, 14, 15, 0}, CHANNEL_ATTENTION(3, 32, 0.1f), .terms = 256},
    {"channels, many heads", {3, 23, 24, 0}, CHANNEL_ATTENTION(23, 32, 0.05f), .terms = 1024},
    {"channels of many pixels", {1, 40, 41, 0}, CHANNEL_ATTENTION(2, 32, 0.05f), .terms = 2048},
    {"channels, odd", {3, 5, 3, 0}, CHANNEL_ATTENTION(2, 13, 0.3f), .terms = 64},
    {"channels, half", {1, 14, 15, 0}, CHANNEL_ATTENTION(3, 32, 0.1f), HALF, .terms = 256},
    {"channels, wide", {1, 7, 7, 0}, CHANNEL_ATTENTION(1, 64, 0.2f), .terms = 64},
    {"channels, one pixel", {1, 1, 1, 0}, CHANNEL_ATTENTION(2, 32, 1), .terms = 64},
};
const int op_entry_count = sizeof op_entries / sizeof op_entries[0];
