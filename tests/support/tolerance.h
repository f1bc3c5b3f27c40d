/* SPDX-License-Identifier: Apache-2.0 */
/* How far a fast implementation may be from the reference, as largest difference over largest
 * |value|. */
#ifndef VT_TESTS_TOLERANCE_H
#define VT_TESTS_TOLERANCE_H

#include <math.h>
#include <stdint.h>

#include "vertebra/tensor.h"

/* f32 sums of `terms` products in another order: roundings add up like a random walk. */
static inline double tolerance_f32(int64_t terms)
{
    return 2e-6 * sqrt((double)(terms > 4 ? terms : 4) / 4.0);
}

/* Half precision: at most this many times the error of the plainest computation in that type, plus
 * what f32 may be off. */
#define TOLERANCE_HALF_FACTOR 2.0

/* A value that is stored as `dtype` once: half a unit in its last place. */
static inline double tolerance_stored(vt_dtype dtype)
{
    return dtype == VT_BF16 ? 1.0 / 256.0 : dtype == VT_F16 ? 1.0 / 2048.0 : 0.0;
}

/* What a norm in f32 loses per unit of mean / spread; the reference's mean is a plain sum. */
#define TOLERANCE_MEAN 1e-6

#endif
