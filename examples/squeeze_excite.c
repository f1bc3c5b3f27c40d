/* SPDX-License-Identifier: Apache-2.0 */
/* Squeeze and excitation alone on a random map: every channel times a factor of its own. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_squeeze_excite *)layer = vt_squeeze_excite_bind(
        b, &(vt_squeeze_excite_settings){
               .channels = MAP_CHANNELS, .hidden = 12, .act = VT_ACT_RELU, .gate = VT_ACT_SIGMOID});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_squeeze_excite_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_squeeze_excite), .bind = bind, .forward = forward});
}
