/* SPDX-License-Identifier: Apache-2.0 */
/* One record on its own: random maps and weights, run by any backend without a session, with guard
 * bands around what it writes. */
#ifndef VT_TESTS_OP_CHECK_H
#define VT_TESTS_OP_CHECK_H

#include "ops/backend.h"

enum { OP_MAX_MAPS = 8, OP_MAX_WEIGHTS = 16 };

/* A program of one record, with the data of its source maps and weights as f32. */
typedef struct op_case {
    vt_program program;
    vt_builder builder;
    vt_weight_shape shapes[OP_MAX_WEIGHTS];
    vt_weight_use uses[OP_MAX_WEIGHTS];
    float *weights[OP_MAX_WEIGHTS];
    float *maps[OP_MAX_MAPS];
    uint64_t seed;
} op_case;

/* The seed of this run: VT_TEST_SEED, or the clock; printed once. */
uint64_t op_seed(void);

void op_begin(op_case *c, uint64_t seed);
void op_clear(op_case *c);

/* Random numbers around `mean`, about `spread` wide. */
vt_value op_map(op_case *c, vt_shape shape, float mean, float spread);
vt_weight op_vector(op_case *c, int64_t count, float mean, float spread);
vt_weight op_matrix(op_case *c, int64_t rows, int64_t cols, float spread);

/* Gives a source or destination map a type; the data of a source is rounded to it. */
void op_set_dtype(op_case *c, vt_value map, vt_dtype dtype);

/* Rounds `count` values to bf16 and back. */
void op_round_bf16(float *values, int64_t count);

/* Runs the one record; returns the destination as f32 (free it). Fails the test when a guard band
 * or a source was written to. `dtype` is that of the matrices. With `image` >= 0 only that image of
 * the batch is run. */
float *op_run(const op_case *c, const vt_backend *backend, vt_dtype dtype, int threads);

/* Largest |a - b| over largest |b|; NaN or infinity in `a` where `b` has none gives infinity. */
double op_distance(const float *a, const float *b, int64_t count);

int64_t op_elements(vt_shape s);

#endif
