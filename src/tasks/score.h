/* SPDX-License-Identifier: Apache-2.0 */
/* One picture's logits to its record. */
#ifndef VT_TASKS_SCORE_H
#define VT_TASKS_SCORE_H

#include "vertebra/evaluate.h"

/* vt_classify_top, and *total = sum_i exp(logit_i - the largest), of which a loss is made. */
vt_status vt_score_top(const float *logits, int classes, int count, vt_class_score *out, int *found,
                       double *total, vt_error *error);

/* Where class `label` stands among `count` ascending class indices; -1: it does not. */
int vt_score_column(int label, const int *classes, int count);

/* Fills everything of `record` but its label from `logits` of `class_count` classes. With `chosen`
 * only those classes compete; `row` then is room for their logits.
 * Errors: VT_ERR_NUMERIC. */
vt_status vt_score(vt_evaluate_record *record, const float *logits, int class_count,
                   const int *chosen, int chosen_count, float *row, vt_error *error);

#endif
