/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts for tests, and comparing results. Everything fails the running test by itself. */
#ifndef TESTS_SUPPORT_MODEL_COMPARE_H
#define TESTS_SUPPORT_MODEL_COMPARE_H

#include <stdbool.h>

#include "vertebra/vertebra.h"

/* A whole network in f32; publishers' own f32 runs stay within 1e-6 of their f64 ones. */
#define TOLERANCE_NETWORK_F32 1e-5

/* A whole network in any type, see docs/testing.md. */
double tolerance_network(vt_dtype dtype);

/* The devices that every test of a whole network visits; ends with NULL. */
extern const char *const test_devices[];

/* False under the sanitizers, which make networks ten times slower. */
bool test_slow_ones(void);

/* A context of that device with two threads. */
vt_context *test_context(const char *device);
vt_context *test_context_with(const vt_context_settings *settings);

/* max|got - want| <= tolerance * max|want|, and nothing is NaN; returns the left side over
 * max|want|. The text says what is compared. */
double compare(const float *got, const float *want, size_t count, double tolerance,
               const char *format, ...) VT_PRINTF(5, 6);

/* Equal in every bit. */
void compare_bits(const float *got, const float *want, size_t count, const char *format, ...)
    VT_PRINTF(4, 5);

/* |got - want| <= slack */
void expect_near(double got, double want, double slack, const char *what);

/* Fails the test with the message when `status` is not `want`. */
void expect_status(vt_status status, vt_status want, const vt_error *error);

/* The status is `want` and the message holds `part`. */
void expect_error(vt_status status, vt_status want, const vt_error *error, const char *part);

/* A model with golden weights; image size 0: the variant's own. */
vt_model *golden_model(vt_context *context, const char *name, vt_window_rule rule, int image_height,
                       int image_width);

/* A copy of an output of a network for the golden picture; the caller frees it. */
typedef struct network_output {
    float *data;
    int64_t n, h, w, c;
    size_t count;
} network_output;
network_output run_network(const vt_model *model, const char *output, int64_t n, int64_t h,
                           int64_t w);

/* The same of a session that exists; the caller frees the data. */
network_output take_output(const vt_session *session, const char *name);
void forward_picture(vt_session *session, int64_t n, int64_t h, int64_t w);

#endif
