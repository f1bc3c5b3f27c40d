/* SPDX-License-Identifier: Apache-2.0 */
/* The golden rule written a second time, from its description: every stored value is a hash of the
 * tensor's name. Checks the library's own and fills files. */
#ifndef TESTS_SUPPORT_MODEL_GOLDEN_H
#define TESTS_SUPPORT_MODEL_GOLDEN_H

#include <stdint.h>

uint32_t golden_hash(const char *key);

/* u(key, element) in [0, 1) */
double golden_unit(const char *key, uint32_t element);

/* The number of elements of a shape; 1 for rank 0. */
int64_t shape_elements(int rank, const int64_t *shape);

/* Element `element` of a stored parameter. */
float golden_value(const char *key, int rank, const int64_t *shape, uint32_t element);

/* All of it; the caller frees. */
float *golden_tensor(const char *key, int rank, const int64_t *shape);

#endif
