/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/convnext_block.h"

enum { KERNEL = 7, MLP_RATIO = 4 };

vt_convnext_block vt_convnext_block_bind(vt_binder *b, int channels, float eps)
{
    vt_conv_settings conv = {.in = channels,
                             .out = channels,
                             .kernel = KERNEL,
                             .pad = KERNEL / 2,
                             .bias = true,
                             .depthwise = true};
    vt_convnext_block block = {.conv_dw = vt_conv_bind(b, "conv_dw", &conv),
                               .norm = vt_norm_bind(b, "norm", channels, eps)};
    vt_weight gamma = vt_scale_bind(b, "gamma", channels);
    vt_scope(b, "mlp");
    block.mlp = vt_mlp_bind(b, channels, MLP_RATIO * channels, VT_ACT_GELU, gamma);
    vt_scope_end(b);
    return block;
}

vt_value vt_convnext_block_forward(vt_builder *b, const vt_convnext_block *block, vt_value x)
{
    vt_value y = vt_conv_forward(b, &block->conv_dw, x, VT_ACT_NONE);
    y = vt_op_norm(b, y, &block->norm);
    return vt_op_add(b, x, vt_mlp_forward(b, &block->mlp, y));
}
