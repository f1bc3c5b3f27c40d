/* SPDX-License-Identifier: Apache-2.0 */
/* The same numbers on every machine. A seed is any number but 0. */
#ifndef TESTS_SUPPORT_RANDOM_H
#define TESTS_SUPPORT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

uint32_t random_next(uint32_t *seed);

/* In [low, high]. */
int random_int(uint32_t *seed, int low, int high);

/* In [-1, 1). */
float random_float(uint32_t *seed);

/* out[i] = offset + scale * r, r in [-1, 1) */
void random_fill(float *out, size_t count, uint32_t seed, float scale, float offset);

#endif
