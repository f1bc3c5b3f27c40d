/* SPDX-License-Identifier: Apache-2.0 */
/* Local concentration alone on a random map: two depthwise 7x7 convolutions with GELU and a batch
 * norm between them. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_local_concentration *)layer = vt_local_concentration_bind(b, MAP_CHANNELS, 7, 1e-5f);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_local_concentration_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_local_concentration), .bind = bind, .forward = forward});
}
