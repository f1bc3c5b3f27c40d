/* SPDX-License-Identifier: Apache-2.0 */
/* A 3 x 3 convolution with stride 2 alone on a random map, 48 channels to 96, with the batch norm
 * that follows it folded into its weights: y = gelu(bn(conv(x))). */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    vt_batch_norm norm = vt_batch_norm_bind(b, "bn", 2 * MAP_CHANNELS, 1e-5f);
    *(vt_conv_layer *)layer = vt_conv_bind(b, "conv",
                                           &(vt_conv_settings){.in = MAP_CHANNELS,
                                                               .out = 2 * MAP_CHANNELS,
                                                               .kernel = 3,
                                                               .stride = 2,
                                                               .pad = 1,
                                                               .after = &norm});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_conv_forward(b, layer, random_map(b), VT_ACT_GELU));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_conv_layer), .bind = bind, .forward = forward});
}
