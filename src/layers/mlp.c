/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/mlp.h"

vt_mlp vt_mlp_bind(vt_binder *binder, int channels, int hidden, vt_activation act, vt_weight gamma)
{
    vt_conv_settings fc1 = {.in = channels, .out = hidden, .bias = true};
    vt_conv_settings fc2 = {.in = hidden, .out = channels, .bias = true, .gamma = gamma};
    return (vt_mlp){.fc1 = vt_conv_bind(binder, "fc1", &fc1),
                    .fc2 = vt_conv_bind(binder, "fc2", &fc2),
                    .act = act};
}

vt_value vt_mlp_forward(vt_builder *builder, const vt_mlp *mlp, vt_value x)
{
    vt_value hidden = vt_conv_forward(builder, &mlp->fc1, x, mlp->act);
    return vt_conv_forward(builder, &mlp->fc2, hidden, VT_ACT_NONE);
}
