/* SPDX-License-Identifier: Apache-2.0 */
/* timm's evaluation transform (1.0.31) and torchvision's classification presets, bit for bit. Three
 * different roundings meet here and none may be exchanged: the scaled size is floored (or, where
 * both sides are fitted, rounded half to even), the longer side is truncated, and the crop offset
 * is rounded half to even. */
#include "vertebra/preprocess.h"

#include <math.h>
#include <string.h>

#include "core/checked.h"
#include "core/context.h"
#include "io/packed.h"
#include "io/resize.h"

enum { MAX_INPUT_SIDE = 65535 };

static const char *const crop_mode_names[] = {
    [VT_CROP_CENTER] = "center", [VT_CROP_SQUASH] = "squash", [VT_CROP_BORDER] = "border"};
enum { CROP_MODES = sizeof crop_mode_names / sizeof crop_mode_names[0] };

const char *vt_crop_mode_name(vt_crop_mode mode)
{
    return (unsigned)mode < CROP_MODES ? crop_mode_names[mode] : "unknown";
}

/* The picture is resized to width x height; the network's input begins at (left, top) of that,
 * which is negative where the picture is padded. */
typedef struct plan {
    int width, height, left, top;
} plan;

static vt_status check_settings(const vt_preprocess *s, vt_error *error)
{
    if (!s) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "preprocess is NULL");
    }
    if (s->height < 1 || s->width < 1 || s->height > MAX_INPUT_SIDE || s->width > MAX_INPUT_SIDE) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "preprocess: input of %d x %d (height x width): want 1 to %d",
                            s->height, s->width, MAX_INPUT_SIDE);
    }
    if ((unsigned)s->crop_mode >= CROP_MODES) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "preprocess: crop mode %d is not known",
                            s->crop_mode);
    }
    if ((unsigned)s->filter > VT_FILTER_HAMMING) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "preprocess: filter %d is not known",
                            s->filter);
    }
    if (s->resize_shorter < 0 || s->resize_shorter > MAX_INPUT_SIDE) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "preprocess: resize_shorter = %d: want 0 to %d",
                            s->resize_shorter, MAX_INPUT_SIDE);
    }
    if (s->resize_shorter > 0 && s->crop_mode != VT_CROP_CENTER) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "preprocess: resize_shorter goes with crop mode 'center', not '%s'",
                            vt_crop_mode_name(s->crop_mode));
    }
    if (s->resize_shorter == 0 && !(s->crop_pct > 0.0 && s->crop_pct <= 1.0)) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "preprocess: crop_pct = %g: want above 0 and at most 1", s->crop_pct);
    }
    for (int c = 0; c < 3; c++) {
        if (!isfinite(s->mean[c])) {
            return vt_error_set(error, VT_ERR_ARGUMENT, "preprocess: mean[%d] = %g is not finite",
                                c, (double)s->mean[c]);
        }
        if (!isfinite(s->std[c]) || s->std[c] <= 0.0f) {
            return vt_error_set(error, VT_ERR_ARGUMENT,
                                "preprocess: std[%d] = %g: want a finite number above 0", c,
                                (double)s->std[c]);
        }
    }
    return VT_OK;
}

/* Offset of a window of `want` in `have` samples. Where the picture is too small it is padded by
 * floor(missing / 2) before and the rest after; otherwise the exact half is rounded to even. */
static int crop_offset(int have, int want)
{
    return have < want ? -((want - have) / 2) : (int)rint((have - want) / 2.0);
}

/* Sizes are formed in double, as in timm, and judged by the caller. (timm up to 1.0.30 also forgot
 * the filter where the last branch serves crop mode "center", that is for inputs that are not
 * square, and took bilinear.) */
static void resized_size(const vt_preprocess *s, int width, int height, double *out_width,
                         double *out_height)
{
    const double scale_w = s->resize_shorter ? s->resize_shorter : floor(s->width / s->crop_pct);
    const double scale_h = s->resize_shorter ? s->resize_shorter : floor(s->height / s->crop_pct);
    if (s->crop_mode == VT_CROP_SQUASH) {
        *out_width = scale_w;
        *out_height = scale_h;
    } else if (s->crop_mode == VT_CROP_CENTER && scale_w == scale_h) {
        const int shorter = width < height ? width : height;
        *out_width = width <= height ? scale_w : floor(scale_w * width / shorter);
        *out_height = width <= height ? floor(scale_h * height / shorter) : scale_h;
    } else {
        const double ratio_w = width / scale_w, ratio_h = height / scale_h;
        const bool fit_inside = s->crop_mode == VT_CROP_BORDER;
        const double ratio = (ratio_w > ratio_h) == fit_inside ? ratio_w : ratio_h;
        *out_width = rint(width / ratio);
        *out_height = rint(height / ratio);
    }
}

static vt_status make_plan(const vt_preprocess *s, int width, int height, plan *p, vt_error *error)
{
    vt_status status = check_settings(s, error);
    if (status != VT_OK) {
        return status;
    }
    if (width < 1 || height < 1 || width > VT_RESIZE_MAX_SIDE || height > VT_RESIZE_MAX_SIDE) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "picture of %d x %d: want sides of 1 to %d",
                            width, height, VT_RESIZE_MAX_SIDE);
    }
    double w, h;
    resized_size(s, width, height, &w, &h);
    /* A strip so thin that one side vanishes keeps one pixel of it (the reference fails). */
    w = w < 1.0 ? 1.0 : w;
    h = h < 1.0 ? 1.0 : h;
    if (w > VT_RESIZE_MAX_SIDE || h > VT_RESIZE_MAX_SIDE) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "picture of %d x %d would be resized to %.0f x %.0f: the longest side "
                            "possible is %d",
                            width, height, w, h, VT_RESIZE_MAX_SIDE);
    }
    p->width = (int)w;
    p->height = (int)h;
    p->left = crop_offset(p->width, s->width);
    p->top = crop_offset(p->height, s->height);
    return VT_OK;
}

vt_status vt_preprocess_region(const vt_preprocess *preprocess, int width, int height,
                               vt_region *region, vt_error *error)
{
    plan p;
    if (!region) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "region is NULL");
    }
    vt_status status = make_plan(preprocess, width, height, &p, error);
    if (status == VT_OK) {
        const double sx = (double)width / p.width, sy = (double)height / p.height;
        *region =
            (vt_region){p.left * sx, p.top * sy, preprocess->width * sx, preprocess->height * sy};
    }
    return status;
}

/* value[c][u] = (u / 255 - mean[c]) / std[c]: 256 values per colour are all there is. Two real
 * divisions: multiplying by reciprocals would give other last bits. */
static void fill_table(const vt_preprocess *s, float value[3][256])
{
    for (int c = 0; c < 3; c++) {
        for (int u = 0; u < 256; u++) {
            float x = (float)u / 255.0f;
            x -= s->mean[c];
            value[c][u] = x / s->std[c];
        }
    }
}

/* The colour around a picture that is smaller than the input. */
static int fill_level(const vt_preprocess *s, int c)
{
    if (s->crop_mode != VT_CROP_BORDER) {
        return 0;
    }
    const double level = rint(255.0 * (double)s->mean[c]);
    return level < 0.0 ? 0 : level > 255.0 ? 255 : (int)level;
}

/* `part` is win->width x win->height pixels that go to (to_x, to_y) of the input. */
static void normalise(const vt_preprocess *s, const uint8_t *part, const vt_resize_window *win,
                      int to_x, int to_y, bool bgr, float *out)
{
    float value[3][256];
    fill_table(s, value);
    const size_t width = (size_t)s->width, height = (size_t)s->height;
    for (int c = 0; c < 3; c++) {
        float *plane = out + (size_t)c * width * height;
        if (win->width < s->width || win->height < s->height) {
            const float fill = value[c][fill_level(s, c)];
            for (size_t i = 0; i < width * height; i++) {
                plane[i] = fill;
            }
        }
        const uint8_t *in = part + (bgr ? 2 - c : c);
        for (int y = 0; y < win->height; y++) {
            float *row = plane + (size_t)(to_y + y) * width + (size_t)to_x;
            for (int x = 0; x < win->width; x++, in += 3) {
                row[x] = value[c][*in];
            }
        }
    }
}

/* The part of the resized picture that lies in the input. */
static vt_resize_window window_of(const vt_preprocess *s, const plan *p)
{
    return (vt_resize_window){
        .full_width = p->width,
        .full_height = p->height,
        .x = p->left < 0 ? 0 : p->left,
        .y = p->top < 0 ? 0 : p->top,
        .width = p->width < s->width ? p->width : s->width,
        .height = p->height < s->height ? p->height : s->height,
    };
}

/* The window's pixels, for vt_free. */
static vt_status resize_to(vt_context *context, const vt_pixels *pixels,
                           const vt_resize_window *window, vt_filter filter, uint8_t **part,
                           vt_error *error)
{
    *part = vt_alloc_zero(vt_context_allocator(context),
                          (size_t)window->width * (size_t)window->height, 3);
    return *part ? vt_resize_part(context, pixels, window, filter, *part, error)
                 : vt_error_set(error, VT_ERR_MEMORY, "out of memory for a picture of %d x %d",
                                window->width, window->height);
}

vt_status vt_preprocess_run(vt_context *context, const vt_preprocess *preprocess,
                            const vt_pixels *pixels, float *out, vt_error *error)
{
    const vt_preprocess *s = preprocess;
    if (!context || !pixels || !out) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "preprocess: context, pixels or out is NULL");
    }
    plan p;
    vt_status status = make_plan(s, pixels->width, pixels->height, &p, error);
    if (status != VT_OK) {
        return status;
    }
    const int to_x = p.left < 0 ? -p.left : 0, to_y = p.top < 0 ? -p.top : 0;
    const vt_resize_window window = window_of(s, &p);
    uint8_t *part;
    status = resize_to(context, pixels, &window, s->filter, &part, error);
    if (status == VT_OK) {
        normalise(s, part, &window, to_x, to_y, pixels->format == VT_PIXELS_BGR, out);
    }
    vt_free(vt_context_allocator(context), part);
    return status;
}

/* ---- for a device ---------------------------------------------------------------------------- */

vt_status vt_packing_init(vt_packing *packing, const vt_preprocess *s, vt_error *error)
{
    enum { SHRINK = 3, SIDE_BYTES = 96 }; /* spans and weights of lanczos when it shrinks so much */
    vt_status status = check_settings(s, error);
    if (status != VT_OK) {
        return status;
    }
    const size_t width = (size_t)s->width, height = (size_t)s->height;
    *packing = (vt_packing){
        .room =
            (3 * SHRINK * SHRINK * width * height + SIDE_BYTES * (width + height) + 256) / 64 * 64};
    for (int c = 0; c < 3; c++) {
        packing->mean[c] = s->mean[c];
        packing->std[c] = s->std[c];
        packing->fill[c] = (uint8_t)fill_level(s, c);
    }
    return packing->room <= UINT32_MAX
               ? VT_OK
               : vt_error_set(error, VT_ERR_LIMIT,
                              "an input of %d x %d (height x width) is too large to be prepared on "
                              "a device",
                              s->height, s->width);
}

void vt_pack_nothing(void *block)
{
    *(vt_packed_picture *)block = (vt_packed_picture){.bytes = sizeof(vt_packed_picture)};
}

/* The window, resized here, as a picture that keeps its size. */
static vt_status pack_resized(vt_context *context, const vt_pixels *pixels,
                              const vt_resize_window *window, vt_filter filter, void *block,
                              size_t room, vt_error *error)
{
    uint8_t *part;
    vt_status status = resize_to(context, pixels, window, filter, &part, error);
    if (status == VT_OK) {
        const int width = window->width, height = window->height;
        const vt_pixels resized = {part, width, height, 3 * (ptrdiff_t)width, pixels->format};
        const vt_resize_window whole = {width, height, 0, 0, width, height};
        status = vt_resize_pack(context, &resized, &whole, filter, block, room, error);
    }
    vt_free(vt_context_allocator(context), part);
    return status;
}

vt_status vt_pack_picture(vt_context *context, const vt_preprocess *preprocess,
                          const vt_packing *packing, const vt_pixels *pixels, void *block,
                          vt_error *error)
{
    plan p;
    vt_status status = make_plan(preprocess, pixels->width, pixels->height, &p, error);
    if (status == VT_OK) {
        const vt_resize_window window = window_of(preprocess, &p);
        status = vt_resize_pack(context, pixels, &window, preprocess->filter, block, packing->room,
                                error);
        if (status == VT_ERR_LIMIT) {
            status = pack_resized(context, pixels, &window, preprocess->filter, block,
                                  packing->room, error);
        }
    }
    if (status == VT_OK) {
        vt_packed_picture *head = block;
        head->left = p.left < 0 ? -p.left : 0;
        head->top = p.top < 0 ? -p.top : 0;
    } else {
        vt_pack_nothing(block);
    }
    return status;
}
