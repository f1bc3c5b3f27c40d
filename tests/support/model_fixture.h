/* SPDX-License-Identifier: Apache-2.0 */
/* Networks against the files that tools/fixtures wrote: tests/fixtures/NAME/logits.json holds what
 * a publisher's program answers for golden weights and the golden picture, NAME/x_keys.json the
 * names of a published naming. Everything fails the running test by itself. */
#ifndef TESTS_SUPPORT_MODEL_FIXTURE_H
#define TESTS_SUPPORT_MODEL_FIXTURE_H

#include <stddef.h>

#include <jansson.h>

#include "model_writer.h"
#include "vertebra/vertebra.h"

/* A file, or tests/fixtures/FAMILY/logits.json; the caller releases them. */
json_t *fixture_load(const char *path);
json_t *fixture_open(const char *family);

/* A member that must be there. */
const json_t *fixture_member(const json_t *object, const char *key);
double fixture_number(const json_t *object, const char *key);
const char *fixture_text(const json_t *object, const char *key);

/* Runs the golden picture of the case's size and batch: "rows" are the logits and the vectors
 * before the head of each picture (left out for networks without a head), "stages" the maps of the
 * first one after each stage, named "C2", "C3", ... or by the stage's own "output". */
void fixture_check(const vt_model *model, const json_t *fixture, const char *what);

/* Every case of the file with an "h" * "w" * "batch" of at most `pixels`, on a device; returns how
 * many there were. Models are found by the case's "model". */
int fixture_check_all(const json_t *root, const char *device, double pixels);

/* Parameters of a variant with its published head, as a checkpoint stores them. */
int64_t variant_parameters(const vt_context *context, const char *name, size_t *tensors);

/* The tensors of `canonical` under the names of a key list: each key is part "part" of "parts"
 * equal slices (along the first axis) of the tensors "from", one after the other; keys without
 * "from" are golden values of their own. Tensors that the list leaves out are left out. */
void fixture_rename(model_writer *out, const model_writer *canonical, const json_t *list);

/* Whether a list of numbers holds this one. */
bool fixture_lists(const json_t *array, int64_t value);

#endif
