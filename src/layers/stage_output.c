/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/stage_output.h"

vt_stage_output vt_stage_output_bind(vt_binder *b, int stage, int channels, float eps,
                                     bool otherwise)
{
    vt_stage_output layer = {.stage = stage};
    if (stage < 0 || stage > 3) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "stage_output: stage %d", stage);
        return layer;
    }
    const char name[] = {'n', 'o', 'r', 'm', (char)('0' + stage), '\0'};
    vt_scope(b, "%s", name);
    layer.has_norm = vt_bind_available(b, "weight", otherwise);
    vt_scope_end(b);
    if (layer.has_norm) {
        layer.norm = vt_norm_bind(b, name, channels, eps);
    }
    return layer;
}

void vt_stage_output_forward(vt_builder *b, const vt_stage_output *layer, vt_value x)
{
    vt_label(b, "norm%d", layer->stage);
    vt_stage_output_name(b, layer->stage, layer->has_norm ? vt_op_norm(b, x, &layer->norm) : x);
}

void vt_stage_output_name(vt_builder *b, int stage, vt_value x)
{
    static const char *const names[] = {"C2", "C3", "C4", "C5"};
    vt_output(b, names[stage], x);
}
