/* SPDX-License-Identifier: Apache-2.0 */
/* How far a fast implementation may be from the reference: largest difference over largest |value|.
 */
#ifndef VT_TESTS_TOLERANCE_H
#define VT_TESTS_TOLERANCE_H

#include <math.h>
#include <stdint.h>

/* f32 sums of `terms` products in another order: roundings add up like a random walk. */
static inline double tolerance_f32(int64_t terms)
{
    return 2e-6 * sqrt((double)(terms > 4 ? terms : 4) / 4.0);
}

/* bf16: at most this many times the error of the plainest computation in bf16, plus one rounding in
 * f32. */
#define TOLERANCE_BF16_FACTOR 2.0
#define TOLERANCE_BF16_SLACK  1e-5

/* A value that is stored as bf16 once: half a unit in its last place. */
#define TOLERANCE_BF16_STORED (1.0 / 256.0)

/* What a norm in f32 loses per unit of mean / spread; the reference's mean is a plain sum. */
#define TOLERANCE_MEAN 1e-6

#endif
