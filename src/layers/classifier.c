/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/classifier.h"

vt_classifier vt_classifier_bind(vt_binder *binder, const vt_classifier_settings *s)
{
    vt_classifier layer = {.has_norm = s->norm != NULL, .pool_first = s->pool_first};
    if (s->norm) {
        layer.norm = vt_norm_bind(binder, s->norm, s->channels, s->eps);
    }
    if (s->classes > 0) {
        layer.head = vt_linear_bind(binder, s->head, s->channels, s->classes, true);
    }
    return layer;
}

void vt_classifier_forward(vt_builder *b, const vt_classifier *layer, vt_value x)
{
    vt_value normed = layer->has_norm ? vt_op_norm(b, x, &layer->norm) : x;
    vt_value pooled = vt_op_mean_pool(b, layer->pool_first ? x : normed);
    if (layer->has_norm && layer->pool_first) {
        pooled = vt_op_norm(b, pooled, &layer->norm);
    }
    vt_output(b, "embedding", pooled);
    if (layer->head.weight.id) {
        vt_output(b, "logits", vt_linear_forward(b, &layer->head, pooled, VT_ACT_NONE));
        vt_output(b, "cam", vt_linear_forward(b, &layer->head, normed, VT_ACT_NONE));
    }
}
