/* SPDX-License-Identifier: Apache-2.0 */
/* The classification tail: y = head(mean_{h,w} norm(x)). Names the outputs
 *   "embedding" [n,1,1,C]  the pooled vector before the head
 *   "logits"    [n,1,1,classes]
 *   "cam"       [n,h,w,classes]  head(norm(x)) at every position: its mean is the logits, so it
 * shows which places speak for a class (class activation map) */
#ifndef VERTEBRA_LAYERS_CLASSIFIER_H
#define VERTEBRA_LAYERS_CLASSIFIER_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_classifier {
    vt_norm norm;
    vt_linear_layer head;
} vt_classifier;

/* Parameters norm.weight, norm.bias [channels]; `head`.weight [classes, channels], `head`.bias.
 * classes = 0 binds no head. */
vt_classifier vt_classifier_bind(vt_binder *binder, const char *head, int channels, int classes,
                                 float eps);

void vt_classifier_forward(vt_builder *builder, const vt_classifier *layer, vt_value x);

VT_END_DECLS
#endif
