/* SPDX-License-Identifier: Apache-2.0 */
/* A block of ConvNeXt alone on a random map. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_convnext_block *)layer = vt_convnext_block_bind(b, MAP_CHANNELS, 1e-6f);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_convnext_block_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_convnext_block), .bind = bind, .forward = forward});
}
