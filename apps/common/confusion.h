/* SPDX-License-Identifier: Apache-2.0 */
/* Which classes an evaluation takes for which. */
#ifndef APPS_COMMON_CONFUSION_H
#define APPS_COMMON_CONFUSION_H

#include "evaluation.h"

/* Writes the matrix as part of a page, with its picture inline and in `path`. Rows are the classes
 * that have pictures, columns the same and one for all other answers. Up to 40 classes are named at
 * the edges; above 250, neighbouring classes share a row. */
vt_status confusion_matrix(const evaluation *e, FILE *out, vt_context *context, const char *path,
                           vt_error *error);

/* Writes the commonest mistakes as a table. */
vt_status confusion_pairs(const evaluation *e, FILE *out, vt_error *error);

#endif
