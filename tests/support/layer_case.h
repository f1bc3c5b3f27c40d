/* SPDX-License-Identifier: Apache-2.0 */
/* A module alone: a network that is nothing but this module, against its formula in double. */
#ifndef TESTS_SUPPORT_LAYER_CASE_H
#define TESTS_SUPPORT_LAYER_CASE_H

#include "layer_formula.h"

typedef struct layer_case {
    const char *name;
    int h, w;    /* of the map that the module sees */
    size_t size; /* of the module's struct */
    void (*bind)(vt_binder *b, int channels, void *layer);
    /* Records the module and returns its result, which becomes the output "y", or names it. */
    vt_value (*forward)(vt_builder *b, const void *layer, vt_value x);
    map (*formula)(layer_formula *f, map x);
    const char *output; /* the name that the module gives; NULL: it gives none */
} layer_case;

struct CMUnitTest;

/* Fills tests[i] with the test of cases[i]: maps of 12 and of 48 channels, two images, on every
 * device, fused and not. The module's parameters must be those that the formula reads. */
void layer_tests(layer_case *cases, size_t count, struct CMUnitTest *tests);

#endif
