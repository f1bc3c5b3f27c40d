/* SPDX-License-Identifier: Apache-2.0 */
/* Self-attention alone on a random map: each of the 450 tokens attends to all of them. With
 * {VT_PATTERN_GRID, .window_h = 6, .window_w = 5} it would attend to a grid of 30 of them. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_self_attention *)layer = vt_self_attention_bind(b, MAP_CHANNELS, 3, true, VT_NO_WEIGHT);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_pattern all = {.kind = VT_PATTERN_GLOBAL};
    vt_output(b, "y", vt_self_attention_forward(b, layer, random_map(b), &all));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_self_attention), .bind = bind, .forward = forward});
}
