/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/classifier.h"

vt_classifier vt_classifier_bind(vt_binder *binder, const char *head, int channels, int classes,
                                 float eps)
{
    vt_classifier layer = {.norm = vt_norm_bind(binder, "norm", channels, eps)};
    if (classes > 0) {
        layer.head = vt_linear_bind(binder, head, channels, classes, true);
    }
    return layer;
}

void vt_classifier_forward(vt_builder *builder, const vt_classifier *layer, vt_value x)
{
    vt_value normed = vt_op_norm(builder, x, &layer->norm);
    vt_value pooled = vt_op_mean_pool(builder, normed);
    vt_output(builder, "embedding", pooled);
    if (layer->head.weight.id) {
        vt_output(builder, "logits", vt_linear_forward(builder, &layer->head, pooled, VT_ACT_NONE));
        vt_output(builder, "cam", vt_linear_forward(builder, &layer->head, normed, VT_ACT_NONE));
    }
}
