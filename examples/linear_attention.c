/* SPDX-License-Identifier: Apache-2.0 */
/* Linear attention alone on a random map: 3 heads over all 450 tokens, floor 100. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_linear_attention_layer *)layer = vt_linear_attention_bind(b, MAP_CHANNELS, 3, 100.0f);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_linear_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_linear_attention_layer), .bind = bind, .forward = forward});
}
