/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/program.h"

static const char *const op_names[VT_OP_KINDS] = {
    [VT_OP_LINEAR] = "linear",
    [VT_OP_CONV2D] = "conv2d",
    [VT_OP_NORM] = "norm",
    [VT_OP_ATTENTION] = "attention",
    [VT_OP_ADD] = "add",
    [VT_OP_SPACE_TO_DEPTH] = "space_to_depth",
    [VT_OP_MEAN_POOL] = "mean_pool",
    [VT_OP_DEPTHWISE] = "depthwise",
    [VT_OP_AFFINE] = "affine",
    [VT_OP_MUL] = "mul",
    [VT_OP_CONCAT] = "concat",
    [VT_OP_POOL] = "pool",
    [VT_OP_LINEAR_ATTENTION] = "linear_attention",
    [VT_OP_CHANNEL_ATTENTION] = "channel_attention",
    [VT_OP_DEFORM_PATCHES] = "deform_patches",
    [VT_OP_MLP] = "mlp",
};

const char *vt_op_name(vt_op_kind kind)
{
    return op_names[kind];
}
