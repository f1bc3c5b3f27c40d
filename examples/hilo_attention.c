/* SPDX-License-Identifier: Apache-2.0 */
/* HiLo attention alone on a random map: of 6 heads 3 look into windows of 2 x 2 and 3 at the means
 * of all windows. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_hilo_attention *)layer = vt_hilo_attention_bind(
        b, &(vt_hilo_attention_settings){
               .channels = MAP_CHANNELS, .heads = 6, .window = 2, .alpha = 0.5});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_hilo_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_hilo_attention), .bind = bind, .forward = forward});
}
