/* SPDX-License-Identifier: Apache-2.0 */
/* Shifted window attention alone on a random map: windows of 7 x 7 that begin 3 rows and columns
 * from the corner. Without .shifted they begin in the corner; with .cosine it is Swin V2's. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    *(vt_window_attention *)layer =
        vt_window_attention_bind(b, &(vt_window_attention_settings){.channels = MAP_CHANNELS,
                                                                    .heads = 3,
                                                                    .window = 7,
                                                                    .shifted = true,
                                                                    .rule = s->window_rule});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_window_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_window_attention), .bind = bind, .forward = forward});
}
