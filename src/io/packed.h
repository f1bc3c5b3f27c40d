/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures on their way to a device that resizes, crops and normalises them: all that it needs to
 * know of a picture lies in one block, which is copied as it is.
 *
 * Two passes over 8-bit pixels, each of which computes, for output o along its axis,
 *     out[o] = clamp((2^21 + sum_j in[first_o + j] * weights[o][j]) >> 22, 0, 255)  for j < count_o
 * One goes across the rows and one down the columns, in the order that the block says. A side that
 * keeps its length has one weight of 2^22 per output, which gives back the sample. Then
 *     input[y][x][c] = (u8 / 255 - mean[c]) / std[c]
 * with the colour `fill` in place of u8 where the window does not reach. */
#ifndef VT_IO_PACKED_H
#define VT_IO_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "vertebra/preprocess.h"

enum { VT_PACKED_WEIGHT_BITS = 22 };

typedef struct vt_packed_span {
    int32_t first, count; /* samples under one output */
} vt_packed_span;

/* Positions are in bytes from the begin of the block, multiples of 16. */
typedef struct vt_packed_axis {
    int32_t samples; /* of the picture along this axis: no more than what is needed */
    int32_t outputs, taps;
    uint32_t spans;   /* vt_packed_span[outputs] */
    uint32_t weights; /* int32_t[outputs][taps] */
} vt_packed_axis;

/* The begin of the block. No outputs at all: a picture that could not be loaded. */
typedef struct vt_packed_picture {
    vt_packed_axis across, down; /* their outputs are the window's width and height */
    int32_t left, top;           /* of the window in the network's input */
    int32_t down_first;          /* the pass over the columns comes first */
    int32_t bgr;
    int32_t middle;  /* pixels between the two passes */
    uint32_t pixels; /* uint8_t[down.samples][across.samples][3] */
    uint32_t bytes;  /* of the block */
} vt_packed_picture;

/* What holds for all pictures of one transform. */
typedef struct vt_packing {
    /* Room for a picture, and for its pixels between the passes. Enough for sides (of what is
     * needed of the picture) up to 3 times the input's; vt_pack_picture makes larger ones fit. */
    size_t room;
    float mean[3], std[3];
    uint8_t fill[3];
} vt_packing;

/* Pictures one behind the other, packing->room bytes each. */
typedef struct vt_packed_batch {
    const vt_packing *packing;
    const uint8_t *places;
    int64_t n;
} vt_packed_batch;

/* Errors: VT_ERR_ARGUMENT, VT_ERR_LIMIT (an input that is too large for it). */
vt_status vt_packing_init(vt_packing *packing, const vt_preprocess *preprocess, vt_error *error);

/* Packs what `preprocess` needs of a picture into packing->room bytes at `block`, which is aligned
 * to 16. A device then makes the same bits of it that vt_preprocess_run makes. A picture that does
 * not fit is resized here, and the device has only to normalise it.
 * Errors: VT_ERR_ARGUMENT, VT_ERR_MEMORY; `block` then holds an empty picture. */
vt_status vt_pack_picture(vt_context *context, const vt_preprocess *preprocess,
                          const vt_packing *packing, const vt_pixels *pixels, void *block,
                          vt_error *error);

/* In place of one that could not be loaded. */
void vt_pack_nothing(void *block);

#endif
