/* SPDX-License-Identifier: Apache-2.0 */
/* An inverted bottleneck alone on a random map: half the size, twice the channels. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_mbconv *)layer = vt_mbconv_bind(b, &(vt_mbconv_settings){.in = MAP_CHANNELS,
                                                                  .out = 2 * MAP_CHANNELS,
                                                                  .hidden = 4 * MAP_CHANNELS,
                                                                  .gate_hidden = 24,
                                                                  .stride = 2,
                                                                  .act = VT_ACT_GELU_TANH,
                                                                  .gate_act = VT_ACT_SILU,
                                                                  .eps = 1e-3f});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_mbconv_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_mbconv), .bind = bind, .forward = forward});
}
