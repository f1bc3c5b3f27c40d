/* SPDX-License-Identifier: Apache-2.0 */
/* Files under a published naming against the canonical one. Everything fails the running test by
 * itself. */
#ifndef TESTS_SUPPORT_MODEL_NAMING_H
#define TESTS_SUPPORT_MODEL_NAMING_H

#include "model_writer.h"

typedef struct naming_case {
    const char *model, *dialect; /* the variant, and what its naming must be called */
    const char *key, *canonical; /* a key of the file, and the parameter that it holds */
    const char *const *outputs;  /* that must be equal bit for bit; ends with NULL */
    int height, width;
} naming_case;

/* The canonical tensors of a variant with golden values; of one built for another image. */
model_writer naming_canonical(const char *model);
model_writer naming_canonical_for(const char *model, int image_height, int image_width);

/* "prefix" + the name of every tensor; those that begin with one of `without` (ends with NULL) are
 * left out. */
model_writer naming_prefixed(const model_writer *from, const char *prefix,
                             const char *const *without);

/* Adds golden norm{i} of width << i channels, i = 0 ... 3, after a prefix. The values are those of
 * the names without it. */
void naming_add_norms(model_writer *w, const char *prefix, int width);

/* Loads `file` (its tensors may be changed afterwards): the network gives the bits of the one whose
 * canonical tensors are `canonical`, without a warning. A tensor more
 * is a warning about one; a tensor less is an error that names it. */
void check_naming(const naming_case *k, model_writer *file, const model_writer *canonical);

/* The same where the naming asks for more than names: the canonical file is then loaded by its
 * rules too. */
void check_naming_under(const naming_case *k, const vt_dialect *rules, model_writer *file,
                        const model_writer *canonical);

#endif
