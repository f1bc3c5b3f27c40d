/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/conv_mlp.h"

vt_conv_mlp vt_conv_mlp_bind(vt_binder *b, const vt_conv_mlp_settings *s)
{
    vt_conv_settings fc1 = {.in = s->channels, .out = s->hidden, .bias = true, .before = s->before};
    vt_conv_settings dwconv = {
        .in = s->hidden, .out = s->hidden, .kernel = 3, .pad = 1, .bias = true, .depthwise = true};
    vt_conv_settings fc2 = {.in = s->hidden, .out = s->channels, .bias = true, .gamma = s->gamma};
    return (vt_conv_mlp){.fc1 = vt_conv_bind(b, "fc1", &fc1),
                         .dwconv = vt_conv_bind(b, "dwconv.dwconv", &dwconv),
                         .fc2 = vt_conv_bind(b, "fc2", &fc2),
                         .act = s->act};
}

vt_value vt_conv_mlp_forward(vt_builder *b, const vt_conv_mlp *layer, vt_value x)
{
    vt_value hidden = vt_conv_forward(b, &layer->fc1, x, VT_ACT_NONE);
    hidden = vt_conv_forward(b, &layer->dwconv, hidden, layer->act);
    return vt_conv_forward(b, &layer->fc2, hidden, VT_ACT_NONE);
}
