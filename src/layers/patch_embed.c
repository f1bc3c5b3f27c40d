/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/patch_embed.h"

enum { MAX_COLUMNS = 4096 };

vt_patch_embed vt_patch_embed_bind(vt_binder *binder, int in, int channels, int patch, float eps)
{
    vt_patch_embed layer = {.patch = patch};
    /* columns are (c, dy, dx) in the file and (dy, dx, c) here, as pixels lie in the map */
    int32_t columns[MAX_COLUMNS];
    int area = patch * patch;
    if (in < 1 || patch < 1 || in * area > MAX_COLUMNS) {
        vt_binder_fail(binder, VT_ERR_ARGUMENT, "patch_embed: %d channels, patch %d", in, patch);
        return layer;
    }
    for (int i = 0; i < in * area; i++) {
        columns[i] = i % in * area + i / in;
    }
    vt_scope(binder, "proj");
    layer.proj.weight = vt_bind(binder, &(vt_weight_desc){.name = "weight",
                                                          .rank = 4,
                                                          .shape = {channels, in, patch, patch},
                                                          .columns = columns});
    layer.proj.bias = vt_bind(
        binder, &(vt_weight_desc){
                    .name = "bias", .role = VT_WEIGHT_VECTOR, .rank = 1, .shape = {channels}});
    vt_scope_end(binder);
    layer.norm = vt_norm_bind(binder, "norm", channels, eps);
    return layer;
}

vt_value vt_patch_embed_forward(vt_builder *builder, const vt_patch_embed *layer, vt_value x)
{
    vt_shape s = vt_value_shape(builder, x);
    int patch = layer->patch;
    vt_conv2d conv = {.weight = layer->proj.weight,
                      .bias = layer->proj.bias,
                      .kernel_h = patch,
                      .kernel_w = patch,
                      .stride_h = patch,
                      .stride_w = patch,
                      .dilation_h = 1,
                      .dilation_w = 1,
                      .pad_bottom = (int)((patch - s.h % patch) % patch),
                      .pad_right = (int)((patch - s.w % patch) % patch)};
    return vt_op_norm(builder, vt_op_conv2d(builder, x, &conv), &layer->norm);
}
