/* SPDX-License-Identifier: Apache-2.0 */
/* Large kernel attention alone on a random map. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_large_kernel_attention *)layer = vt_large_kernel_attention_bind(b, MAP_CHANNELS);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_output(b, "y", vt_large_kernel_attention_forward(b, layer, random_map(b)));
}

int main(void)
{
    return run_layer(&(vt_family){
        .network_size = sizeof(vt_large_kernel_attention), .bind = bind, .forward = forward});
}
