/* SPDX-License-Identifier: Apache-2.0 */
/* Window attention the way the papers' code does it: copies that are padded, rolled and cut into
 * windows, a dense mask, a dense bias, softmax in double; then everything is undone. */
#ifndef TESTS_SUPPORT_MODEL_ATTENTION_H
#define TESTS_SUPPORT_MODEL_ATTENTION_H

#include "vertebra/ops.h"

typedef struct plain_attention {
    int n, h, w, heads;
    int q_width, v_width; /* per head; keys are as wide as queries */
    int window_h, window_w, shift_h, shift_w;
    vt_roll roll;
    float scale;
    const float *temperature; /* [heads], or NULL */
    const float *table; /* [(2 window_h - 1) (2 window_w - 1), heads], query minus key; or NULL */
    const float *k_pad, *v_pad; /* rows outside the map, or NULL: zeros */
    const float *q, *k, *v;     /* dense [n, h, w, heads * width] */
} plain_attention;

/* out [n, h, w, heads * v_width] */
void plain_attention_run(const plain_attention *a, float *out);

#endif
