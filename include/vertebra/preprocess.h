/* SPDX-License-Identifier: Apache-2.0 */
/* From 8-bit pixels to the network's input: Pillow's antialiased resize, crops and normalisation,
 * bit for bit as timm's evaluation transform and torchvision's presets compute them. */
#ifndef VERTEBRA_PREPROCESS_H
#define VERTEBRA_PREPROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "vertebra/context.h"

VT_BEGIN_DECLS

typedef enum vt_pixel_format { VT_PIXELS_RGB, VT_PIXELS_BGR } vt_pixel_format;

/* A borrowed view of 8-bit, three-channel pixels: row y begins at data + y * stride bytes (stride
 * may be negative or wider than the row). */
typedef struct vt_pixels {
    const uint8_t *data;
    int width, height;
    ptrdiff_t stride;
    vt_pixel_format format;
} vt_pixels;

/* Resampling filters, as Pillow defines them (bicubic has a = -0.5). */
typedef enum vt_filter {
    VT_FILTER_BICUBIC = 0,
    VT_FILTER_BILINEAR,
    VT_FILTER_LANCZOS,
    VT_FILTER_BOX,
    VT_FILTER_HAMMING
} vt_filter;

/* How a picture is brought to the target size. */
typedef enum vt_crop_mode {
    VT_CROP_CENTER = 0, /* shorter side to floor(size / crop_pct), keep the aspect, centre crop */
    VT_CROP_SQUASH,     /* both sides to floor(size / crop_pct), ignoring the aspect, centre crop */
    VT_CROP_BORDER      /* fit inside, pad with the mean colour */
} vt_crop_mode;

/* Mean and standard deviation of ImageNet's channels, for vt_preprocess. */
#define VT_IMAGENET_MEAN                                                                           \
    {                                                                                              \
        0.485f, 0.456f, 0.406f                                                                     \
    }
#define VT_IMAGENET_STD                                                                            \
    {                                                                                              \
        0.229f, 0.224f, 0.225f                                                                     \
    }

/* One evaluation transform. */
typedef struct vt_preprocess {
    int height, width;  /* of the network's input */
    double crop_pct;    /* in (0, 1]; ignored when resize_shorter > 0 */
    int resize_shorter; /* torchvision's resize_size: 0, or the exact length of the shorter side */
    vt_crop_mode crop_mode;
    vt_filter filter;
    float mean[3], std[3]; /* of r, g, b in [0, 1] */
} vt_preprocess;

/* "bicubic", "center", ...; never NULL. */
const char *vt_filter_name(vt_filter filter);
const char *vt_crop_mode_name(vt_crop_mode mode);

/* Resizes to `width` x `height` (> 0) into `out`: dense RGB, width * height * 3 bytes, in the order
 * of `pixels->format`. Equal to Pillow 13's Image.resize for 8-bit images in every bit.
 * Errors: VT_ERR_ARGUMENT, VT_ERR_MEMORY. */
vt_status vt_resize(vt_context *context, const vt_pixels *pixels, int width, int height,
                    vt_filter filter, uint8_t *out, vt_error *error);

/* Resize, crop, scale to [0, 1], subtract the mean, divide by the std:
 * out[c][y][x] = (u8 / 255 - mean[c]) / std[c] in fp32, dense CHW in the order r, g, b; `out` holds
 * 3 * height * width floats. Errors: VT_ERR_ARGUMENT, VT_ERR_MEMORY. */
vt_status vt_preprocess_run(vt_context *context, const vt_preprocess *preprocess,
                            const vt_pixels *pixels, float *out, vt_error *error);

/* Where in the source picture the network looks: the rectangle (in source pixels, may exceed the
 * picture where it was padded) that fills the input. For overlays and boxes. */
typedef struct vt_region {
    double x, y, width, height;
} vt_region;
vt_status vt_preprocess_region(const vt_preprocess *preprocess, int width, int height,
                               vt_region *region, vt_error *error);

VT_END_DECLS
#endif
