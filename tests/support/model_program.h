/* SPDX-License-Identifier: Apache-2.0 */
/* Records small programs and runs them, every map in a block of its own with guards around it. */
#ifndef TESTS_SUPPORT_MODEL_PROGRAM_H
#define TESTS_SUPPORT_MODEL_PROGRAM_H

#include "ops/plan.h"

enum { PROGRAM_MAX_WEIGHTS = 24 };

/* A program that is being recorded, with the values of its weights. */
typedef struct test_program {
    vt_program program;
    vt_builder builder;
    vt_weight_shape shapes[PROGRAM_MAX_WEIGHTS];
    float *values[PROGRAM_MAX_WEIGHTS];
    bool matrix[PROGRAM_MAX_WEIGHTS];
} test_program;

/* Starts a program with an input of that shape. */
void program_begin(test_program *t, vt_shape input);
void program_end(test_program *t);

/* Weights: copies of `values`, or numbers of the seed in [-scale, scale). */
vt_weight program_matrix(test_program *t, int64_t rows, int64_t cols, const float *values);
vt_weight program_vector(test_program *t, int64_t count, const float *values);
vt_weight random_matrix(test_program *t, int64_t rows, int64_t cols, uint32_t seed);
vt_weight random_vector(test_program *t, int64_t count, uint32_t seed, float scale, float offset);

/* The outputs of a run, copied. */
typedef struct program_result {
    int count;
    const char *names[VT_MAX_OUTPUTS]; /* copies */
    vt_shape shapes[VT_MAX_OUTPUTS];
    float *data[VT_MAX_OUTPUTS];
} program_result;

/* Packs the weights of `t` for the context's device; freed by unpack. */
void program_pack(const test_program *t, vt_context *context, vt_weight_data *packed);
void program_unpack(vt_context *context, vt_weight_data *packed);

/* Applies the rewrites of the mask, plans without further ones and runs. The program is used up:
 * only program_end may follow. Where `t` records nothing is fused by the context. */
program_result program_run(test_program *t, const char *device, unsigned rewrites,
                           const float *input);
const float *result_data(const program_result *result, const char *name, size_t *count);
void result_clear(program_result *result);

size_t shape_count(vt_shape s);

#endif
