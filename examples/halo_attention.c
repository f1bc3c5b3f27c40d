/* SPDX-License-Identifier: Apache-2.0 */
/* Halo attention alone on a random map: blocks of 3 x 3 queries see their block and one pixel more
 * on each side. Blocks must divide the map: its 2 x 2 means are 9 x 12. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_halo_attention *)layer =
        vt_halo_attention_bind(b, &(vt_halo_attention_settings){.channels = MAP_CHANNELS,
                                                                .heads = 3,
                                                                .key_dim = 8,
                                                                .block = 3,
                                                                .halo = 1,
                                                                .stride = 1});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_value x = vt_op_pool(b, random_map(b), &(vt_pooling){.kernel = 2, .stride = 2});
    vt_output(b, "y", vt_halo_attention_forward(b, layer, x));
}

int main(void)
{
    return run_layer(
        &(vt_family){.network_size = sizeof(vt_halo_attention), .bind = bind, .forward = forward});
}
