/* SPDX-License-Identifier: Apache-2.0 */
/* A deformable convolution of 2 x 2 with stride 2 alone on a random map: 48 channels to 96. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_deform_conv *)layer = vt_deform_conv_bind(
        b, "dconv",
        &(vt_deform_conv_settings){.in = MAP_CHANNELS, .out = 2 * MAP_CHANNELS, .kernel = 2});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_deform_conv_forward(b, layer, random_map(b), VT_ACT_GELU));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_deform_conv), .bind = bind, .forward = forward});
}
