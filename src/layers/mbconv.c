/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/mbconv.h"

vt_mbconv vt_mbconv_bind(vt_binder *b, const vt_mbconv_settings *s)
{
    vt_mbconv layer = {.act = s->act, .stride = s->stride};
    if (s->stride != 2 && (s->stride != 1 || s->in != s->out)) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "mbconv: %d to %d channels, stride %d", s->in, s->out,
                       s->stride);
        return layer;
    }
    layer.has_expand = s->in != s->out;
    if (layer.has_expand) {
        vt_scope(b, "shortcut");
        layer.expand = vt_conv_bind(b, "expand",
                                    &(vt_conv_settings){.in = s->in, .out = s->out, .bias = true});
        vt_scope_end(b);
    }
    vt_batch_norm before = vt_batch_norm_bind(b, "pre_norm", s->in, s->eps);
    vt_batch_norm norm1 = vt_batch_norm_bind(b, "norm1", s->hidden, s->eps);
    vt_batch_norm norm2 = vt_batch_norm_bind(b, "norm2", s->hidden, s->eps);
    layer.conv1 = vt_conv_bind(
        b, "conv1_1x1",
        &(vt_conv_settings){.in = s->in, .out = s->hidden, .before = &before, .after = &norm1});
    layer.conv2 = vt_conv_bind(b, "conv2_kxk",
                               &(vt_conv_settings){.in = s->hidden,
                                                   .out = s->hidden,
                                                   .kernel = 3,
                                                   .stride = s->stride,
                                                   .same = true,
                                                   .depthwise = true,
                                                   .after = &norm2});
    vt_scope(b, "se");
    layer.gate = vt_squeeze_excite_bind(b, &(vt_squeeze_excite_settings){.channels = s->hidden,
                                                                         .hidden = s->gate_hidden,
                                                                         .act = s->gate_act,
                                                                         .gate = VT_ACT_SIGMOID});
    vt_scope_end(b);
    layer.conv3 = vt_conv_bind(b, "conv3_1x1",
                               &(vt_conv_settings){.in = s->hidden, .out = s->out, .bias = true});
    return layer;
}

static vt_value shortcut(vt_builder *b, const vt_mbconv *l, vt_value x)
{
    if (l->stride == 1) {
        return x;
    }
    vt_shape s = vt_value_shape(b, x);
    vt_value y = vt_op_pool(b, x,
                            &(vt_pooling){.kind = VT_POOL_MEAN,
                                          .kernel = 2,
                                          .stride = 2,
                                          .pad_bottom = (int)(s.h % 2),
                                          .pad_right = (int)(s.w % 2)});
    return l->has_expand ? vt_conv_forward(b, &l->expand, y, VT_ACT_NONE) : y;
}

vt_value vt_mbconv_forward(vt_builder *b, const vt_mbconv *l, vt_value x)
{
    vt_value kept = shortcut(b, l, x);
    vt_value z = vt_conv_forward(b, &l->conv1, x, l->act);
    z = vt_conv_forward(b, &l->conv2, z, l->act);
    z = vt_squeeze_excite_forward(b, &l->gate, z);
    return vt_op_add(b, kept, vt_conv_forward(b, &l->conv3, z, VT_ACT_NONE));
}
