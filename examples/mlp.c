/* SPDX-License-Identifier: Apache-2.0 */
/* The transformer's perceptron alone on a random map: y = fc2(gelu(fc1(x))), with four
 * times the channels inside. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_mlp *)layer = vt_mlp_bind(b, MAP_CHANNELS, 4 * MAP_CHANNELS, VT_ACT_GELU, VT_NO_WEIGHT);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_mlp_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_mlp), .bind = bind, .forward = forward});
}
