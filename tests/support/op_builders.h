/* SPDX-License-Identifier: Apache-2.0 */
/* What the rows of op_cases.c are built from: for each kind of record a builder and the data that
 * its rows carry in `with`. `op` is the record's own struct without its weights, which the builder
 * draws; a flag says that one of them is there. */
#ifndef VT_TESTS_OP_BUILDERS_H
#define VT_TESTS_OP_BUILDERS_H

#include "op_entry.h"

/* op_entry.build: records one operation of the source shape `src` on random data. */
typedef void op_builder(op_case *c, const op_entry *e, vt_shape src);

typedef struct linear_with {
    int64_t out;
    vt_linear op;
    bool bias, affine, residual;
} linear_with;

typedef struct conv_with {
    int64_t out;
    vt_conv2d op;
    bool no_bias;
} conv_with;

typedef struct depthwise_with {
    vt_conv2d op;
    bool no_bias, scale, shift, residual;
} depthwise_with;

typedef struct pool_with {
    vt_pooling op;
} pool_with;

typedef struct attention_with {
    int heads, width, v_width; /* v_width 0: width */
    vt_pattern pattern;
    bool bias, cosine, pad;
    bool separate; /* three maps, channels that nobody reads */
    int keys[2];   /* size of the key map where it is another one */
    bool relative; /* tables of rows and columns */
} attention_with;

typedef struct heads_with {
    int heads, width, v_width; /* v_width 0: width */
    float limit;               /* floor of a linear attention, scale among channels */
    bool temperature;
} heads_with;

typedef struct deform_with {
    int kernel;
    float spread; /* of the offsets, in pixels */
} deform_with;

op_builder build_linear;            /* linear_with */
op_builder build_conv;              /* conv_with */
op_builder build_depthwise;         /* depthwise_with */
op_builder build_norm;              /* bool: scale and shift; nothing: neither */
op_builder build_affine;            /* bool: a shift; nothing: none */
op_builder build_add;               /* nothing */
op_builder build_mul;               /* bool: one factor per image and channel; nothing: a map */
op_builder build_concat;            /* int: channels of the second map */
op_builder build_space_to_depth;    /* int: block */
op_builder build_mean_pool;         /* nothing */
op_builder build_pool;              /* pool_with */
op_builder build_deform;            /* deform_with */
op_builder build_attention;         /* attention_with */
op_builder build_linear_attention;  /* heads_with */
op_builder build_channel_attention; /* heads_with */

#endif
