/* SPDX-License-Identifier: Apache-2.0 */
/* Class names: one a line in a text file, or what the weights carry. */
#ifndef APPS_COMMON_LABELS_H
#define APPS_COMMON_LABELS_H

#include "vertebra/model.h"

typedef struct labels {
    char *text;
    char **names;
    int count;
} labels;

/* The lines of a text file, without a byte order mark. */
vt_status labels_lines(labels *out, const char *path, vt_error *error);

/* Reads a label file and checks that it has one line per class. */
vt_status labels_read(labels *out, const char *path, int classes, vt_error *error);

/* The names to print: of the file `path`; where that is NULL and the weights carry none, those of
 * ImageNet-1k (datasets/imagenet/classes.tsv) for a network that is published with its 1000
 * classes. Names that are not found are no error: classes are numbers then. */
vt_status labels_open(labels *out, const char *path, const vt_model *model, vt_error *error);
void labels_clear(labels *l);

/* The name of class i: the file's, else the model's, else "class i" in `buffer`. */
const char *label_of(const labels *l, const vt_model *model, int i, char buffer[32]);

#endif
