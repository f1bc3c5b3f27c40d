/* SPDX-License-Identifier: Apache-2.0 */
/* The two smallest modules on a random map: a linear map of its layer norm, 48 channels to 96,
 * y = gelu(fc(norm(x))). */
#include "one_layer.h"

typedef struct norm_and_linear {
    vt_norm norm;
    vt_linear_layer fc;
} norm_and_linear;

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *network)
{
    (void)variant;
    (void)s;
    norm_and_linear *net = network;
    net->norm = vt_norm_bind(b, "norm", MAP_CHANNELS, 1e-5f);
    net->fc = vt_linear_bind(b, "fc", MAP_CHANNELS, 2 * MAP_CHANNELS, true);
}

static void forward(vt_builder *b, const void *network)
{
    const norm_and_linear *net = network;
    vt_value x = vt_op_norm(b, random_map(b), &net->norm);
    vt_output(b, "y", vt_linear_forward(b, &net->fc, x, VT_ACT_GELU));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(norm_and_linear), .bind = bind, .forward = forward});
}
