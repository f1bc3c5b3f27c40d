/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/local_concentration.h"

vt_local_concentration vt_local_concentration_bind(vt_binder *b, int channels, int kernel,
                                                   float eps)
{
    if (kernel % 2 == 0) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "local_concentration: kernel %d", kernel);
        return (vt_local_concentration){0};
    }
    vt_conv_settings conv = {.in = channels,
                             .out = channels,
                             .kernel = kernel,
                             .pad = kernel / 2,
                             .bias = true,
                             .depthwise = true};
    vt_batch_norm norm = vt_batch_norm_bind(b, "bn", channels, eps);
    return (vt_local_concentration){.conv1 = vt_conv_bind(b, "conv1", &conv),
                                    .conv2 = vt_conv_bind(b, "conv2", &conv),
                                    .norm = vt_batch_norm_affine(b, &norm, channels)};
}

vt_value vt_local_concentration_forward(vt_builder *b, const vt_local_concentration *layer,
                                        vt_value x)
{
    x = vt_conv_forward(b, &layer->conv1, x, VT_ACT_GELU);
    x = vt_op_affine(b, x, &layer->norm);
    return vt_conv_forward(b, &layer->conv2, x, VT_ACT_NONE);
}
