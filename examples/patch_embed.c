/* SPDX-License-Identifier: Apache-2.0 */
/* Patch embedding alone on a random picture of 72 x 100: 5 x 7 patches of 16 x 16, the last ones
 * filled up with zeros. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_patch_embed *)layer = vt_patch_embed_bind(b, 3, MAP_CHANNELS, 16, 1e-5f);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_patch_embed_forward(b, layer, vt_input(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_patch_embed), .bind = bind, .forward = forward});
}
