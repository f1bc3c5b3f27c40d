/* SPDX-License-Identifier: Apache-2.0 */
/* The index rule of an attention pattern: which map token stands at which place of which window. */
#ifndef VT_OPS_PATTERN_H
#define VT_OPS_PATTERN_H

#include "core/checked.h"
#include "vertebra/ops.h"

/* One axis of a window pattern over a map of `size` tokens. */
typedef struct vt_axis {
    int64_t size, padded;
    int window, shift;
    vt_roll roll;
} vt_axis;

static inline vt_axis vt_axis_make(int64_t size, int window, int shift, vt_roll roll)
{
    return (vt_axis){size, vt_div_up(size, window) * window, window, shift, roll};
}

/* The map coordinate behind padded-and-rolled coordinate z, or -1 where there is only padding. */
static inline int64_t vt_axis_source(const vt_axis *a, int64_t z)
{
    if (a->roll == VT_ROLL_MAP) {
        return z < a->size ? (z + a->shift) % a->size : -1;
    }
    int64_t source = (z + a->shift) % a->padded;
    return source < a->size ? source : -1;
}

/* Tokens of different regions were not neighbours before the roll. Without a shift there is one. */
static inline int vt_axis_region(const vt_axis *a, int64_t z)
{
    if (a->shift == 0 || z >= a->padded - a->shift) {
        return 2;
    }
    return z >= a->padded - a->window ? 1 : 0;
}

#define VT_MASK_VALUE (-100.0f)

#endif
