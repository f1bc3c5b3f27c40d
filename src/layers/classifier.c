/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/classifier.h"

vt_classifier vt_classifier_bind(vt_binder *binder, const vt_classifier_settings *s)
{
    vt_classifier layer = {.present = true,
                           .has_norm = s->norm != NULL,
                           .pool_first = s->pool_first,
                           .hidden_act = s->hidden_act};
    if (s->norm) {
        layer.norm = vt_norm_bind(binder, s->norm, s->channels, s->eps);
    }
    if (s->classes > 0) {
        int width = s->hidden_name ? s->hidden : s->channels;
        if (s->hidden_name) {
            layer.hidden = vt_linear_bind(binder, s->hidden_name, s->channels, width, true);
        }
        layer.head = vt_linear_bind(binder, s->head, width, s->classes, !s->no_bias);
    }
    return layer;
}

vt_classifier vt_classifier_bind_available(vt_binder *binder, const vt_classifier_settings *s,
                                           bool otherwise)
{
    vt_scope(binder, "%s", s->norm);
    bool available = vt_bind_available(binder, "weight", otherwise);
    vt_scope_end(binder);
    return available ? vt_classifier_bind(binder, s) : (vt_classifier){.present = false};
}

static vt_value forward_head(vt_builder *b, const vt_classifier *layer, vt_value x)
{
    if (layer->hidden.weight.id) {
        x = vt_linear_forward(b, &layer->hidden, x, layer->hidden_act);
    }
    return vt_linear_forward(b, &layer->head, x, VT_ACT_NONE);
}

void vt_classifier_forward(vt_builder *b, const vt_classifier *layer, vt_value x)
{
    if (!layer->present) {
        return;
    }
    vt_value normed = layer->has_norm ? vt_op_norm(b, x, &layer->norm) : x;
    vt_value pooled = vt_op_mean_pool(b, layer->pool_first ? x : normed);
    if (layer->has_norm && layer->pool_first) {
        pooled = vt_op_norm(b, pooled, &layer->norm);
    }
    vt_output(b, "embedding", pooled);
    if (layer->head.weight.id) {
        vt_output(b, "logits", forward_head(b, layer, pooled));
        vt_output(b, "cam", forward_head(b, layer, normed));
    }
}
