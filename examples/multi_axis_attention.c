/* SPDX-License-Identifier: Apache-2.0 */
/* Multi-axis attention alone on a random map: in windows of 6 x 5 tokens, then over a grid of 6 x 5
 * tokens of the whole map. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_multi_axis_attention *)layer =
        vt_multi_axis_attention_bind(b, &(vt_multi_axis_settings){.channels = MAP_CHANNELS,
                                                                  .heads = 3,
                                                                  .hidden = 4 * MAP_CHANNELS,
                                                                  .window_h = 6,
                                                                  .window_w = 5,
                                                                  .act = VT_ACT_GELU_TANH,
                                                                  .eps = 1e-5f});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_multi_axis_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_multi_axis_attention), .bind = bind, .forward = forward});
}
