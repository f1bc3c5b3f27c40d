/* SPDX-License-Identifier: Apache-2.0 */
/* One record on its own: random maps and weights, run by any implementation of any backend without
 * a session, with guard bands around what it writes. */
#ifndef VT_TESTS_OP_CHECK_H
#define VT_TESTS_OP_CHECK_H

#include "ops/backend.h"

enum { OP_MAX_MAPS = 8, OP_MAX_WEIGHTS = 16, OP_MAX_IMPLS = 8 };

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

/* Where and how a record is run. */
typedef struct op_where {
    const vt_backend *backend;
    const vt_impl *impl; /* NULL: the first that accepts the record */
    vt_dtype dtype;      /* of the matrices */
    int threads;
    void *stream; /* of a device, from vt_device_ops.open */
} op_where;

/* The seed of this run: VT_TEST_SEED, or always the same one; printed once. */
uint64_t op_seed(void);

void op_begin(op_case *c, uint64_t seed);
void op_clear(op_case *c);

/* Random numbers around `mean`, about `spread` wide. */
vt_value op_map(op_case *c, vt_shape shape, float mean, float spread);
vt_weight op_vector(op_case *c, int64_t count, float mean, float spread);
vt_weight op_vector_rows(op_case *c, int64_t rows, int64_t cols, float spread);
vt_weight op_matrix(op_case *c, int64_t rows, int64_t cols, float spread);

/* Gives a source or destination map a type; the data of a source is rounded to it. */
void op_set_dtype(op_case *c, vt_value map, vt_dtype dtype);

/* Rounds `count` values to a type and back. */
void op_round(float *values, int64_t count, vt_dtype dtype);

/* The destination of the one record, and its elements. */
vt_value op_dst(const op_case *c);
int64_t op_count(const op_case *c);

/* Implementations of the record that do not refuse it, best first; returns how many. The test fails
 * when there are some and all refuse: the last of a list takes everything. */
int op_accepting(const op_case *c, const op_where *where, const vt_impl *impls[OP_MAX_IMPLS]);

/* Runs the one record; returns the destination as f32 (free it). Fails the test when a guard band
 * or a source was written to. */
float *op_run(const op_case *c, const op_where *where);

/* What the record is in f32: the reference on f32 maps that hold the same values. */
float *op_reference(op_case *c);

/* The plainest computation in `dtype`: sources, matrices, the biases of products and the result
 * rounded, sums in f32. The norm before a product, the sums of a product or convolution before its
 * activation, the activation before a factor or residual, and the row that attention pads with are
 * rounded as maps of their own would be. */
float *op_naive(const op_case *c, vt_dtype dtype);

/* Largest |a - b| over largest |b|; NaN or infinity in `a` where `b` has none gives infinity. */
double op_distance(const float *a, const float *b, int64_t count);

/* Whether the distance is within `limit`; if not, the place and both values are printed. */
bool op_is_close(const op_where *where, const op_case *c, const char *name, const float *got,
                 const float *want, double limit);

int64_t op_elements(vt_shape s);

#endif
