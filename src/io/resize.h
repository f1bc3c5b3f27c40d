/* SPDX-License-Identifier: Apache-2.0 */
/* A window of a resized picture: what a transform that resizes and then crops really needs. */
#ifndef VT_IO_RESIZE_H
#define VT_IO_RESIZE_H

#include "vertebra/preprocess.h"

/* Longest side of a picture before and after resizing. Up to here the sample positions (Pillow
 * keeps them as 32-bit floats) and all products formed from them are exact. */
enum { VT_RESIZE_MAX_SIDE = 1 << 24 };

/* The picture resized to full_width x full_height, of which [x, x + width) x [y, y + height),
 * which lies inside, is wanted. */
typedef struct vt_resize_window {
    int full_width, full_height;
    int x, y, width, height;
} vt_resize_window;

/* Writes the window to `out`, width * height * 3 bytes, in the order of `pixels->format`. The same
 * bits as cutting the window out of vt_resize's result. */
vt_status vt_resize_part(vt_context *context, const vt_pixels *pixels,
                         const vt_resize_window *window, vt_filter filter, uint8_t *out,
                         vt_error *error);

/* The same as a job for a device: the samples that the window needs and the weights of both passes,
 * in a block of at most `room` bytes (io/packed.h), with no more pixels between the passes than fit
 * there too. Errors: also VT_ERR_LIMIT, when it takes more. */
vt_status vt_resize_pack(vt_context *context, const vt_pixels *pixels,
                         const vt_resize_window *window, vt_filter filter, void *block, size_t room,
                         vt_error *error);

#endif
