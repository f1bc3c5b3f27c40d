/* SPDX-License-Identifier: Apache-2.0 */
/* Conditional position encoding alone on a random map: y = x + depthwise 3x3 convolution of x. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_position_encoding *)layer = vt_position_encoding_bind(b, MAP_CHANNELS);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_position_encoding_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_position_encoding), .bind = bind, .forward = forward});
}
