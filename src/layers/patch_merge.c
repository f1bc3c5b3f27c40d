/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/patch_merge.h"

enum { MAX_CHANNELS = 8192 };

vt_patch_merge vt_patch_merge_bind(vt_binder *binder, int channels, bool norm_first, float eps)
{
    vt_patch_merge layer = {.norm_first = norm_first, .norm = {.eps = eps}};
    if (channels < 1 || channels > MAX_CHANNELS) {
        vt_binder_fail(binder, VT_ERR_ARGUMENT, "patch_merge: %d channels", channels);
        return layer;
    }
    /* blocks lie as (dx, dy) in the file and as (dy, dx) here, as pixels lie in the map */
    static const int file_block[4] = {0, 2, 1, 3};
    int32_t columns[4 * MAX_CHANNELS];
    for (int i = 0; i < 4 * channels; i++) {
        columns[i] = file_block[i / channels] * channels + i % channels;
    }
    vt_scope(binder, "reduction");
    layer.reduction.weight =
        vt_bind(binder, &(vt_weight_desc){.name = "weight",
                                          .rank = 2,
                                          .shape = {2 * channels, 4 * channels},
                                          .columns = columns});
    vt_scope_end(binder);
    vt_scope(binder, "norm");
    vt_weight_desc desc = {.name = "weight",
                           .role = VT_WEIGHT_VECTOR,
                           .rank = 1,
                           .shape = {norm_first ? 4 * channels : 2 * channels},
                           .columns = norm_first ? columns : NULL};
    layer.norm.scale = vt_bind(binder, &desc);
    desc.name = "bias";
    layer.norm.shift = vt_bind(binder, &desc);
    vt_scope_end(binder);
    return layer;
}

vt_value vt_patch_merge_forward(vt_builder *builder, const vt_patch_merge *layer, vt_value x)
{
    vt_value y = vt_op_space_to_depth(builder, x, 2);
    if (layer->norm_first) {
        y = vt_op_norm(builder, y, &layer->norm);
        return vt_linear_forward(builder, &layer->reduction, y, VT_ACT_NONE);
    }
    y = vt_linear_forward(builder, &layer->reduction, y, VT_ACT_NONE);
    return vt_op_norm(builder, y, &layer->norm);
}
