/* SPDX-License-Identifier: Apache-2.0 */
/* A perceptron with a depthwise convolution inside, alone on a random map:
 * y = fc2(gelu(dwconv3x3(fc1(x)))). */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_conv_mlp *)layer = vt_conv_mlp_bind(b, &(vt_conv_mlp_settings){.channels = MAP_CHANNELS,
                                                                        .hidden = 4 * MAP_CHANNELS,
                                                                        .act = VT_ACT_GELU});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_conv_mlp_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_conv_mlp), .bind = bind, .forward = forward});
}
