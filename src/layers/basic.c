/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/basic.h"

static vt_weight bind_vector(vt_binder *binder, const char *name, int count)
{
    return vt_bind(
        binder,
        &(vt_weight_desc){.name = name, .role = VT_WEIGHT_VECTOR, .rank = 1, .shape = {count}});
}

vt_linear_layer vt_linear_bind(vt_binder *binder, const char *name, int in, int out, bool bias)
{
    vt_linear_layer layer = {{0}, {0}};
    vt_scope(binder, "%s", name);
    layer.weight =
        vt_bind(binder, &(vt_weight_desc){.name = "weight", .rank = 2, .shape = {out, in}});
    if (bias) {
        layer.bias = bind_vector(binder, "bias", out);
    }
    vt_scope_end(binder);
    return layer;
}

vt_value vt_linear_forward(vt_builder *builder, const vt_linear_layer *layer, vt_value x,
                           vt_activation act)
{
    return vt_op_linear(builder, x,
                        &(vt_linear){.weight = layer->weight, .bias = layer->bias, .act = act});
}

vt_norm vt_norm_bind(vt_binder *binder, const char *name, int channels, float eps)
{
    vt_norm norm = {.eps = eps};
    vt_scope(binder, "%s", name);
    norm.scale = bind_vector(binder, "weight", channels);
    norm.shift = bind_vector(binder, "bias", channels);
    vt_scope_end(binder);
    return norm;
}
