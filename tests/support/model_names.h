/* SPDX-License-Identifier: Apache-2.0 */
/* The namings of tests/fixtures/FAMILY/names.json, and the norms of stages that files of dense
 * prediction carry. Everything fails the running test by itself. */
#ifndef TESTS_SUPPORT_MODEL_NAMES_H
#define TESTS_SUPPORT_MODEL_NAMES_H

/* Every naming of the file, as check_naming does it (model_naming.h); returns how many there were.
 */
int check_all_names(const char *family, int height, int width);

/* With a file that has norm0 ... norm3 of these widths, "C2" ... "C5" are the maps that the file
 * without them gives, normalised. */
void check_stage_norms(const char *model, double eps, int height, int width);

#endif
