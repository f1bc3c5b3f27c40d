/* SPDX-License-Identifier: Apache-2.0 */
/* What a detector gets of a stage, alone on a random map: the layer norm of stage 0's map, under
 * the name "C2". */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_stage_output *)layer = vt_stage_output_bind(b, 0, MAP_CHANNELS, 1e-5f, true);
}

static void forward(vt_builder *b, const void *layer)
{
    vt_stage_output_forward(b, layer, random_map(b));
}

int main(void)
{
    return run_layer_output(
        &(vt_family){.network_size = sizeof(vt_stage_output), .bind = bind, .forward = forward},
        "C2");
}
