/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/patch_embed.h"

vt_patch_embed vt_patch_embed_bind(vt_binder *binder, int in, int channels, int patch, float eps)
{
    vt_conv_settings proj = {
        .in = in, .out = channels, .kernel = patch, .stride = patch, .pad_to = patch, .bias = true};
    return (vt_patch_embed){.proj = vt_conv_bind(binder, "proj", &proj),
                            .norm = vt_norm_bind(binder, "norm", channels, eps)};
}

vt_value vt_patch_embed_forward(vt_builder *builder, const vt_patch_embed *layer, vt_value x)
{
    vt_value y = vt_conv_forward(builder, &layer->proj, x, VT_ACT_NONE);
    return vt_op_norm(builder, y, &layer->norm);
}
