/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest network that uses every layer: for tests that run it thousands of times. Two stages
 * of two blocks, 8 and 16 channels, windows of 4: "tiny_v1" and "tiny_v2". Its names are Swin's,
 * and files may also have them below "model." with q, k and v apart (dialect "split"). */
#ifndef TESTS_SUPPORT_MODEL_TINY_H
#define TESTS_SUPPORT_MODEL_TINY_H

#include "vertebra/vertebra.h"

enum { TINY_CLASSES = 5 };

extern const vt_family tiny_family;

/* A context with the family registered; `settings` may be NULL for device "ref". */
vt_context *tiny_context(const vt_context_settings *settings);

#endif
