/* SPDX-License-Identifier: Apache-2.0 */
#include "tasks/score.h"

#include <math.h>
#include <stddef.h>

/* Whether class i stands before class `than` in the ranking. */
static int ranks_before(const float *logits, int i, int than)
{
    return logits[i] > logits[than] || (logits[i] == logits[than] && i < than);
}

vt_status vt_score_top(const float *logits, int classes, int count, vt_class_score *out, int *found,
                       double *total, vt_error *error)
{
    if (!logits || !out || classes < 1 || count < 1) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "top %d of %d classes", count, classes);
    }
    int kept = 0;
    count = count < classes ? count : classes;
    for (int i = 0; i < classes; i++) {
        if (!isfinite(logits[i])) {
            return vt_error_set(error, VT_ERR_NUMERIC, "logit %d is not a finite number", i);
        }
        int place = kept;
        while (place > 0 && ranks_before(logits, i, out[place - 1].index)) {
            place--;
        }
        kept += kept < count;
        for (int k = kept - 1; k > place; k--) {
            out[k] = out[k - 1];
        }
        if (place < count) {
            out[place] = (vt_class_score){.index = i, .logit = logits[i]};
        }
    }
    *total = 0;
    for (int i = 0; i < classes; i++) {
        *total += exp((double)logits[i] - (double)out[0].logit);
    }
    for (int k = 0; k < kept; k++) {
        out[k].probability = (float)(exp((double)out[k].logit - (double)out[0].logit) / *total);
    }
    if (found) {
        *found = kept;
    }
    return VT_OK;
}

vt_status vt_classify_top(const float *logits, int classes, int count, vt_class_score *out,
                          int *found, vt_error *error)
{
    double total;
    return vt_score_top(logits, classes, count, out, found, &total, error);
}
