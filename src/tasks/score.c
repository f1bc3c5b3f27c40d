/* SPDX-License-Identifier: Apache-2.0 */
#include "tasks/score.h"

#include <math.h>
#include <string.h>

int vt_score_column(int label, const int *classes, int count)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (classes[middle] < label) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && classes[low] == label ? low : -1;
}

/* rank and loss of column `target` of finite logits; `total` is that of vt_score_top */
static void score_label(vt_evaluate_record *record, const float *logits, int count, int target,
                        double total)
{
    record->rank = 0;
    for (int i = 0; i < count; i++) {
        record->rank += logits[i] > logits[target] || (logits[i] == logits[target] && i < target);
    }
    record->loss = log(total) - ((double)logits[target] - (double)record->top[0].logit);
}

vt_status vt_score(vt_evaluate_record *record, const float *logits, int class_count,
                   const int *chosen, int chosen_count, float *row, vt_error *error)
{
    const int count = chosen ? chosen_count : class_count;
    for (int i = 0; chosen && i < count; i++) {
        row[i] = logits[chosen[i]];
    }
    const float *values = chosen ? row : logits;
    double total;
    vt_status status =
        vt_score_top(values, count, VT_EVALUATE_TOP, record->top, &record->found, &total, error);
    if (status != VT_OK) {
        return status;
    }
    record->rank = -1;
    record->loss = 0;
    if (record->label >= 0) {
        int target = chosen ? vt_score_column(record->label, chosen, count) : record->label;
        score_label(record, values, count, target, total);
    }
    for (int k = 0; chosen && k < record->found; k++) {
        record->top[k].index = chosen[record->top[k].index];
    }
    return VT_OK;
}

/* Bin b holds confidences in (b / BINS, (b + 1) / BINS]. */
static vt_evaluate_bin *bin_of(vt_evaluate_figures *f, float confidence)
{
    int b = (int)ceil((double)confidence * VT_EVALUATE_BINS) - 1;
    return &f->bins[b < 0 ? 0 : b >= VT_EVALUATE_BINS ? VT_EVALUATE_BINS - 1 : b];
}

static void add_record(const vt_evaluate_record *r, vt_evaluate_class *class,
                       vt_evaluate_figures *f)
{
    if (r->status != VT_OK) {
        bool missing = r->status == VT_ERR_CANCELLED;
        f->missing += missing;
        f->broken += !missing;
        class->broken += !missing;
        return;
    }
    bool right = r->rank == 0, among = r->rank < VT_EVALUATE_TOP;
    f->pictures++;
    f->top1 += right;
    f->top5 += among;
    f->loss += r->loss;
    class->pictures++;
    class->top1 += right;
    class->top5 += among;
    vt_evaluate_bin *bin = bin_of(f, r->top[0].probability);
    bin->pictures++;
    bin->right += right;
    bin->confidence += (double)r->top[0].probability;
}

void vt_evaluate_summarise(const vt_evaluate_record *records, int64_t count,
                           vt_evaluate_class *classes, int class_count,
                           vt_evaluate_figures *figures)
{
    *figures = (vt_evaluate_figures){0};
    memset(classes, 0, (size_t)class_count * sizeof *classes);
    for (int64_t i = 0; i < count; i++) {
        if (records[i].label >= 0 && records[i].label < class_count) {
            add_record(&records[i], &classes[records[i].label], figures);
        }
    }
    int seen = 0;
    for (int c = 0; c < class_count; c++) {
        if (classes[c].pictures) {
            figures->mean_class += (double)classes[c].top1 / (double)classes[c].pictures;
            seen++;
        }
    }
    for (int b = 0; b < VT_EVALUATE_BINS; b++) {
        figures->ece += fabs((double)figures->bins[b].right - figures->bins[b].confidence);
    }
    figures->loss /= (double)figures->pictures; /* 0 / 0 is the NaN that stands for no picture */
    figures->ece /= (double)figures->pictures;
    figures->mean_class /= (double)seen;
}
