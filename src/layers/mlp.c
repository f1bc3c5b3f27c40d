/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/mlp.h"

vt_mlp vt_mlp_bind(vt_binder *binder, int channels, int hidden, vt_activation act)
{
    return (vt_mlp){.fc1 = vt_linear_bind(binder, "fc1", channels, hidden, true),
                    .fc2 = vt_linear_bind(binder, "fc2", hidden, channels, true),
                    .act = act};
}

vt_value vt_mlp_forward(vt_builder *builder, const vt_mlp *mlp, vt_value x)
{
    vt_value hidden = vt_linear_forward(builder, &mlp->fc1, x, mlp->act);
    return vt_linear_forward(builder, &mlp->fc2, hidden, VT_ACT_NONE);
}
