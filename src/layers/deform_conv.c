/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/deform_conv.h"

vt_deform_conv vt_deform_conv_bind(vt_binder *b, const char *name, const vt_deform_conv_settings *s)
{
    vt_conv_settings offset = {.in = s->in,
                               .out = 2 * s->kernel * s->kernel,
                               .kernel = s->kernel,
                               .stride = s->kernel,
                               .bias = true};
    vt_conv_settings conv = {.in = s->in,
                             .out = s->out,
                             .kernel = s->kernel,
                             .stride = s->kernel,
                             .bias = true,
                             .after = s->after};
    vt_deform_conv layer = {.conv = vt_conv_bind(b, name, &conv)};
    vt_scope(b, "%s", name);
    layer.offset = vt_conv_bind(b, "conv_offset", &offset);
    vt_scope_end(b);
    return layer;
}

vt_value vt_deform_conv_forward(vt_builder *b, const vt_deform_conv *layer, vt_value x,
                                vt_activation act)
{
    vt_value offsets = vt_conv_forward(b, &layer->offset, x, VT_ACT_NONE);
    vt_value patches = vt_op_deform_patches(b, x, offsets, layer->conv.kernel);
    vt_linear product = {.weight = layer->conv.weight, .bias = layer->conv.bias, .act = act};
    return vt_op_linear(b, patches, &product);
}
