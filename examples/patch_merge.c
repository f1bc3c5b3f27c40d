/* SPDX-License-Identifier: Apache-2.0 */
/* Patch merging of Swin V1 alone on a random map: half the size, with a column of zeros beside the
 * last of 25, and twice the channels. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_patch_merge *)layer = vt_patch_merge_bind(b, MAP_CHANNELS, true, 1e-5f);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_patch_merge_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_patch_merge), .bind = bind, .forward = forward});
}
