/* SPDX-License-Identifier: Apache-2.0 */
/* Dilated neighborhood attention alone on a random map: every token attends to the 7 x 5 nearest
 * tokens among every second row and third column. With .stride_h = 7 and .stride_w = 5 it would be
 * attention in blocks. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_neighborhood_attention *)layer = vt_neighborhood_attention_bind(
        b, &(vt_neighborhood_attention_settings){.channels = MAP_CHANNELS,
                                                 .heads = 3,
                                                 .window_h = 7,
                                                 .window_w = 5,
                                                 .dilation_h = 2,
                                                 .dilation_w = 3,
                                                 .position_bias = true});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_neighborhood_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_neighborhood_attention), .bind = bind, .forward = forward});
}
