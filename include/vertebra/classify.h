/* SPDX-License-Identifier: Apache-2.0 */
/* From logits to classes. */
#ifndef VERTEBRA_CLASSIFY_H
#define VERTEBRA_CLASSIFY_H

#include "vertebra/status.h"

VT_BEGIN_DECLS

typedef struct vt_class_score {
    int index;
    float logit;
    float probability; /* softmax over all classes */
} vt_class_score;

/* The `count` best of `classes` logits, best first; equal logits in order of index. `count` is cut
 * to `classes`; `*found` (may be NULL) receives how many were written.
 * Errors: VT_ERR_ARGUMENT; VT_ERR_NUMERIC when a logit is not finite: no class is better than a
 * wrong one. */
vt_status vt_classify_top(const float *logits, int classes, int count, vt_class_score *out,
                          int *found, vt_error *error);

VT_END_DECLS
#endif
