/* SPDX-License-Identifier: Apache-2.0 */
/* libvertebra_image: picture files. PNG by libpng, JPEG by libjpeg-turbo (the pixels Pillow gives),
 * BMP by stb_image, PNM by a reader of its own. The format is told by content. */
#ifndef VERTEBRA_IMAGE_H
#define VERTEBRA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vertebra/context.h"
#include "vertebra/preprocess.h"

VT_BEGIN_DECLS

/* A decoded picture: dense 8-bit RGB, `stride` = 3 * width bytes. */
typedef struct vt_image {
    uint8_t *data; /* owned */
    int width, height;
    int orientation; /* EXIF orientation found in the file, 1..8; 1 when there is none */
} vt_image;

typedef struct vt_image_settings {
    /* Turn the picture as its EXIF orientation says (default true: right for single photographs).
     * Training loaders ignore it, so evaluation does too. */
    bool apply_exif;
    /* Pictures of more pixels are refused before decoding. Default 178,956,970; a warning is
     * logged from half of it on. */
    uint64_t max_pixels;
} vt_image_settings;

vt_image_settings vt_image_settings_default(void);

/* Decodes a picture file, or `size` bytes of one. Conversions to RGB: grey is replicated; alpha is
 * dropped without compositing; palettes are looked up; 16 bit keeps the high byte; CMYK as
 * (255 - K) - (255 - K) * C / 255, CMYK JPEGs being stored inverted, as Pillow takes them.
 * `settings` may be NULL.
 * Errors: VT_ERR_IO, VT_ERR_FORMAT (not a picture, damaged or cut short), VT_ERR_UNSUPPORTED
 * (another format: named), VT_ERR_LIMIT (too many pixels), VT_ERR_MEMORY. */
vt_status vt_image_load(vt_image *image, vt_context *context, const char *path,
                        const vt_image_settings *settings, vt_error *error);
vt_status vt_image_decode(vt_image *image, vt_context *context, const void *bytes, size_t size,
                          const vt_image_settings *settings, vt_error *error);

/* Frees the pixels and zeroes the struct. Accepts a cleared image. */
void vt_image_clear(vt_image *image, vt_context *context);

/* A view of an image, for vt_preprocess_run and vt_resize. */
vt_pixels vt_image_pixels(const vt_image *image);

/* Writes RGB pixels as PNG. The file appears whole or not at all (written beside, then renamed).
 * Errors: VT_ERR_IO, VT_ERR_MEMORY. */
vt_status vt_image_save_png(vt_context *context, const char *path, const vt_pixels *pixels,
                            vt_error *error);

/* Picture files as what an evaluation reads (vertebra/evaluate.h): decoded and preprocessed. */
typedef struct vt_picture_files {
    vt_context *context; /* best one with a single thread: the evaluation brings the threads */
    const char *const *paths;
    vt_preprocess preprocess;
    vt_image_settings image;
} vt_picture_files;

/* A vt_evaluate_source's `load`, whose `user` is a vt_picture_files. */
vt_status vt_picture_files_load(void *files, int64_t i, float *out, vt_error *error);

/* Its `decode` and `release`: the picture as it is, to be preprocessed elsewhere. */
vt_status vt_picture_files_decode(void *files, int64_t i, vt_pixels *pixels, vt_error *error);
void vt_picture_files_release(void *files, vt_pixels *pixels);

/* Blends a heat map over a picture: `map` is map_height x map_width scores (any range; the smallest
 * is shown cold, the largest hot), stretched bilinearly over `region` of the picture (see
 * vt_preprocess_region). `image` is changed in place. */
void vt_image_overlay_heat(vt_image *image, const float *map, int map_width, int map_height,
                           const vt_region *region);

VT_END_DECLS
#endif
