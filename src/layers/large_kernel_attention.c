/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/large_kernel_attention.h"

vt_large_kernel_attention vt_large_kernel_attention_bind(vt_binder *b, int channels)
{
    vt_conv_settings near = {
        .in = channels, .out = channels, .kernel = 5, .pad = 2, .bias = true, .depthwise = true};
    vt_conv_settings far = near;
    far.kernel = 7;
    far.dilation = 3;
    far.pad = 9;
    vt_conv_settings pointwise = {.in = channels, .out = channels, .bias = true};
    return (vt_large_kernel_attention){.conv0 = vt_conv_bind(b, "conv0", &near),
                                       .conv_spatial = vt_conv_bind(b, "conv_spatial", &far),
                                       .conv1 = vt_conv_bind(b, "conv1", &pointwise)};
}

vt_value vt_large_kernel_attention_forward(vt_builder *b, const vt_large_kernel_attention *layer,
                                           vt_value x)
{
    vt_value y = vt_conv_forward(b, &layer->conv0, x, VT_ACT_NONE);
    y = vt_conv_forward(b, &layer->conv_spatial, y, VT_ACT_NONE);
    return vt_op_mul(b, x, vt_conv_forward(b, &layer->conv1, y, VT_ACT_NONE));
}
