/* SPDX-License-Identifier: Apache-2.0 */
/* The program: a list of records over numbered maps, for one (batch, height, width). */
#ifndef VT_OPS_PROGRAM_H
#define VT_OPS_PROGRAM_H

#include "core/memory.h"
#include "vertebra/ops.h"

typedef enum vt_op_kind {
    VT_OP_LINEAR,
    VT_OP_CONV2D,
    VT_OP_NORM,
    VT_OP_ATTENTION,
    VT_OP_ADD,
    VT_OP_SPACE_TO_DEPTH,
    VT_OP_MEAN_POOL,
    VT_OP_DEPTHWISE,
    VT_OP_AFFINE,
    VT_OP_MUL,
    VT_OP_CONCAT,
    VT_OP_POOL,
    VT_OP_LINEAR_ATTENTION,
    VT_OP_CHANNEL_ATTENTION,
    VT_OP_DEFORM_PATCHES,
    VT_OP_MLP, /* made by the planner only, see vt_fusions */
    VT_OP_KINDS
} vt_op_kind;

enum { VT_MAX_SOURCES = 3 };

/* Two linear maps of a pixel, one after the other: down(up(x)), each as in vt_linear. `up` may have
 * a norm of its input and an activation; `down` a norm of its output, before the residual. */
typedef struct vt_mlp_pair {
    vt_linear up, down;
} vt_mlp_pair;

/* One operation. Sources by kind: [0] = x; linear, depthwise and mlp also [1] = residual (or none,
 * or a factor: vt_linear.gated); add, mul, concat: [0], [1]; deform_patches: x, offsets; attention,
 * linear_attention: q, k, v maps; channel_attention: left, right, value. */
typedef struct vt_record {
    vt_op_kind kind;
    vt_value source[VT_MAX_SOURCES];
    vt_value dst;
    const char *label;
    union {
        vt_linear linear;
        vt_conv2d conv2d;
        vt_norm norm;
        vt_attention attention;
        vt_depthwise depthwise;
        vt_affine affine;
        vt_pooling pooling;
        vt_linear_attention linear_attention;
        vt_channel_attention channel_attention;
        int block; /* space_to_depth; deform_patches: kernel */
        vt_mlp_pair mlp;
    } as;
} vt_record;

typedef struct vt_map {
    vt_shape shape;
    vt_dtype dtype; /* chosen by the planner */
} vt_map;

typedef struct vt_named_output {
    const char *name;
    vt_value value;
} vt_named_output;

enum { VT_MAX_OUTPUTS = 16 };

typedef struct vt_program {
    vt_pool pool; /* labels */
    vt_record *records;
    size_t record_count, record_capacity;
    vt_map *maps;
    size_t map_count, map_capacity;
    vt_named_output outputs[VT_MAX_OUTPUTS];
    int output_count;
    vt_value input;
} vt_program;

/* Rows and columns of a bound weight as a matrix: a vector is 1 x n. */
typedef struct vt_weight_shape {
    const char *name;
    int64_t rows, cols;
} vt_weight_shape;

struct vt_builder {
    vt_program *program;
    const vt_weight_shape *weights; /* indexed by weight id; [0] unused */
    size_t weight_count;
    char label[96];
    vt_status status;
    vt_error error;
};

void vt_program_init(vt_program *program, const vt_allocator *allocator);
void vt_program_clear(vt_program *program);

/* Declares the input of the program; false when the builder has failed. */
bool vt_builder_input(vt_builder *builder, vt_shape shape);

const char *vt_op_name(vt_op_kind kind);

/* What one record costs, from shapes alone: multiply-adds count as two operations; bytes count each
 * operand once. */
typedef struct vt_cost {
    double flops, bytes;
} vt_cost;
vt_cost vt_record_cost(const vt_program *program, const vt_record *record,
                       const vt_weight_shape *weights, vt_dtype weight_dtype);

#endif
