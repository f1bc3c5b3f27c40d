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

/* Model, rule, batch and size of a case. */
void fixture_title(const json_t *fixture, char *text, size_t size);

/* Runs the golden picture of the case's size and batch through its "model", golden, under the
 * window rule "rule". It is built for that size or for "built"; with "tables" it is read from a
 * file of one that was built for that size. "rows" are the logits and the vectors before the head
 * of each picture (left out for networks without a head), "stages" the maps of the first one after
 * each stage, named "C2", "C3", ... or by the stage's own "output". Returns the largest difference
 * of a logit over the largest |logit|. That, and what else is compared, may be
 * tolerance_network(dtype), or twice what the case's "bf16_error", "f16_error", or on a GPU
 * "f32_error" says that the plainest computation in that type loses. Where the maps do not fit into
 * the type, sums stay f32 (vt_model_settings.f32_residual). */
double fixture_check(vt_context *context, vt_dtype dtype, const json_t *fixture);

/* Whether the type holds the maps after all stages, as far as their "largest" is known. */
bool fixture_fits(const json_t *fixture, vt_dtype dtype);

/* How long a case takes: "h" * "w" * "batch". */
double fixture_pixels(const json_t *fixture);

/* Every case of tests/fixtures/FAMILY/logits.json in f32 whose `cost` (fixture_pixels) is at most
 * `most`, on a device; returns how many there were. */
int fixture_check_some(const char *family, const char *device, double (*cost)(const json_t *),
                       double most);
int fixture_check_all(const char *family, const char *device, double pixels);

/* Parameters of a variant with its published head, as a checkpoint stores them. */
int64_t variant_parameters(const vt_context *context, const char *name, size_t *tensors);

/* The tensors of `canonical` under the names of a key list: each key is part "part" of "parts"
 * equal slices (along the first axis) of the tensors "from", one after the other; keys without
 * "from" are golden values of their own. Tensors that the list leaves out are left out. */
void fixture_rename(model_writer *out, const model_writer *canonical, const json_t *list);

/* Whether a list of numbers holds this one. */
bool fixture_lists(const json_t *array, int64_t value);

#endif
