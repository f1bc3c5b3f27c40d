/* SPDX-License-Identifier: Apache-2.0 */
/* Channel group attention alone on a random map, in the form of Florence-2. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_channel_attention_layer *)layer =
        vt_channel_attention_bind(b, MAP_CHANNELS, 3, VT_CHANNEL_VALUES_OF_V);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_channel_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_channel_attention_layer), .bind = bind, .forward = forward});
}
