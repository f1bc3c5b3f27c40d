/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/position_encoding.h"

vt_position_encoding vt_position_encoding_bind(vt_binder *binder, int channels)
{
    vt_conv_settings proj = {
        .in = channels, .out = channels, .kernel = 3, .pad = 1, .bias = true, .depthwise = true};
    return (vt_position_encoding){.proj = vt_conv_bind(binder, "proj", &proj)};
}

vt_value vt_position_encoding_forward(vt_builder *builder, const vt_position_encoding *layer,
                                      vt_value x)
{
    return vt_op_add(builder, x, vt_conv_forward(builder, &layer->proj, x, VT_ACT_NONE));
}
