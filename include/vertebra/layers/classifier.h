/* SPDX-License-Identifier: Apache-2.0 */
/* The classification tail, in the two published orders:
 *   norm first:  y = head(mean_{h,w} norm(x))
 *   pool first:  y = head(norm(mean_{h,w} x))
 * Some heads have a hidden layer: head(act(hidden(...))).
 * Names the outputs
 *   "embedding" [n,1,1,C]  the vector before the head and its hidden layer
 *   "logits"    [n,1,1,classes]
 *   "cam"       [n,h,w,classes]  head(norm(x)) at every position: which places speak for a class
 *               (class activation map); with the norm first its mean is the logits */
#ifndef VERTEBRA_LAYERS_CLASSIFIER_H
#define VERTEBRA_LAYERS_CLASSIFIER_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_classifier_settings {
    const char *norm; /* name of the LayerNorm, or NULL: there is none */
    const char *head;
    int channels, classes; /* classes = 0: no head */
    float eps;
    bool pool_first;
    bool no_bias;            /* the head is a plain projection */
    const char *hidden_name; /* of the hidden layer, or NULL: there is none */
    int hidden;              /* its width */
    vt_activation hidden_act;
} vt_classifier_settings;

typedef struct vt_classifier {
    vt_norm norm;
    vt_linear_layer hidden, head;
    vt_activation hidden_act;
    bool present, has_norm, pool_first;
} vt_classifier;

/* Parameters `norm`.weight, `norm`.bias [channels]; `head`.weight [classes, channels],
 * `head`.bias; where there is a hidden layer, `hidden_name`.weight [hidden, channels],
 * `hidden_name`.bias, and the head's weight is [classes, hidden]. */
vt_classifier vt_classifier_bind(vt_binder *binder, const vt_classifier_settings *settings);

/* The same if the checkpoint has the norm, since files of dense prediction leave the classifier
 * out; `otherwise`: whether it is bound where there is no checkpoint. Left out, its forward does
 * nothing. */
vt_classifier vt_classifier_bind_available(vt_binder *binder,
                                           const vt_classifier_settings *settings, bool otherwise);

void vt_classifier_forward(vt_builder *builder, const vt_classifier *layer, vt_value x);

VT_END_DECLS
#endif
