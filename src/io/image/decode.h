/* SPDX-License-Identifier: Apache-2.0 */
/* What the decoders of libvertebra_image share. Each decoder gets the bytes of a whole file whose
 * format was told by its content, and fills a cleared image or fails with a message that says what
 * is wrong inside the file (the caller adds format and path). */
#ifndef VT_IO_IMAGE_DECODE_H
#define VT_IO_IMAGE_DECODE_H

#include "core/context.h"
#include "vertebra/image.h"

typedef struct vt_image_source {
    vt_context *context;
    const char *path; /* for warnings; NULL where there are only bytes */
    const uint8_t *bytes;
    size_t size;
    uint64_t max_pixels;
} vt_image_source;

/* To be called with the header's dimensions before any memory is taken for them: VT_ERR_FORMAT
 * when one is zero, VT_ERR_LIMIT when there are too many pixels; logs a warning for large ones. */
vt_status vt_image_check_size(const vt_image_source *source, uint64_t width, uint64_t height,
                              vt_error *error);

/* Gives `image` zeroed pixels, so that nothing of another picture can shine through. Sizes must
 * have been checked. */
vt_status vt_image_allocate(const vt_image_source *source, vt_image *image, uint64_t width,
                            uint64_t height, vt_error *error);

vt_status vt_image_decode_png(const vt_image_source *source, vt_image *image, vt_error *error);
vt_status vt_image_decode_jpeg(const vt_image_source *source, vt_image *image, vt_error *error);
vt_status vt_image_decode_bmp(const vt_image_source *source, vt_image *image, vt_error *error);
vt_status vt_image_decode_pnm(const vt_image_source *source, vt_image *image, vt_error *error);

/* stb_image as it is. It trusts files too much: decode_bmp checks before it calls this. */
vt_status vt_image_decode_stb(const vt_image_source *source, vt_image *image, vt_error *error);

/* The orientation (1..8) in `size` bytes of EXIF, beginning at the TIFF header; 1 when it has none
 * or makes no sense: a broken note about a picture is no reason to refuse the picture. */
int vt_exif_orientation(const uint8_t *exif, size_t size);

/* Turns the pixels as the orientation says (a second buffer replaces the first). On failure the
 * image is unchanged. */
vt_status vt_image_turn(vt_image *image, const vt_allocator *allocator, int orientation,
                        vt_error *error);

#endif
