/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the format by content, applies the limits and calls the decoder. */
#include "io/image/decode.h"

#include <string.h>

#include "core/checked.h"
#include "io/file.h"

/* Pillow's limit for decompression bombs, here an error; a warning from half of it on. */
#define DEFAULT_MAX_PIXELS UINT64_C(178956970)
/* No picture within the pixel limit is larger than this in any of the formats. */
#define MAX_FILE_BYTES (UINT64_C(1) << 30)

typedef vt_status (*decode_fn)(const vt_image_source *, vt_image *, vt_error *);

/* `decode` is NULL for what is recognised only to be refused by name. */
typedef struct format {
    const char *name;
    size_t offset, length;
    const char *magic;
    decode_fn decode;
} format;

#define MAGIC(offset, text) (offset), sizeof(text) - 1, (text)

static const format formats[] = {
    /* Shorter than the full signatures: a damaged rest is better explained by the decoder. */
    {"PNG", MAGIC(0, "\x89PNG"), vt_image_decode_png},
    {"JPEG", MAGIC(0, "\xff\xd8"), vt_image_decode_jpeg},
    {"BMP", MAGIC(0, "BM"), vt_image_decode_bmp},
    {"PNM", MAGIC(0, "P1"), vt_image_decode_pnm},
    {"PNM", MAGIC(0, "P2"), vt_image_decode_pnm},
    {"PNM", MAGIC(0, "P3"), vt_image_decode_pnm},
    {"PNM", MAGIC(0, "P4"), vt_image_decode_pnm},
    {"PNM", MAGIC(0, "P5"), vt_image_decode_pnm},
    {"PNM", MAGIC(0, "P6"), vt_image_decode_pnm},
    {"a PAM picture", MAGIC(0, "P7\n"), NULL},
    {"a PFM picture", MAGIC(0, "PF\n"), NULL},
    {"a PFM picture", MAGIC(0, "Pf\n"), NULL},
    {"a GIF picture", MAGIC(0, "GIF8"), NULL},
    {"a WebP picture", MAGIC(8, "WEBP"), NULL},
    {"a TIFF picture", MAGIC(0, "II*\0"), NULL},
    {"a TIFF picture", MAGIC(0, "MM\0*"), NULL},
    {"a BigTIFF picture", MAGIC(0, "II+\0"), NULL},
    {"a BigTIFF picture", MAGIC(0, "MM\0+"), NULL},
    {"an AVIF picture", MAGIC(4, "ftypavif"), NULL},
    {"an AVIF picture", MAGIC(4, "ftypavis"), NULL},
    {"a HEIF picture", MAGIC(4, "ftypheic"), NULL},
    {"a HEIF picture", MAGIC(4, "ftypheix"), NULL},
    {"a HEIF picture", MAGIC(4, "ftyphevc"), NULL},
    {"a HEIF picture", MAGIC(4, "ftyphevx"), NULL},
    {"a HEIF picture", MAGIC(4, "ftypheim"), NULL},
    {"a HEIF picture", MAGIC(4, "ftypmif1"), NULL},
    {"a HEIF picture", MAGIC(4, "ftypmsf1"), NULL},
    {"a JPEG XL picture", MAGIC(0, "\xff\x0a"), NULL},
    {"a JPEG XL picture", MAGIC(4, "JXL \r\n\x87\n"), NULL},
    {"a JPEG 2000 picture", MAGIC(4, "jP  \r\n\x87\n"), NULL},
    {"a JPEG 2000 picture", MAGIC(0, "\xff\x4f\xff\x51"), NULL},
    {"a Photoshop file", MAGIC(0, "8BPS"), NULL},
    {"an icon", MAGIC(0, "\0\0\1\0"), NULL},
    {"a QOI picture", MAGIC(0, "qoif"), NULL},
    {"an OpenEXR picture", MAGIC(0, "\x76\x2f\x31\x01"), NULL},
    {"a Radiance picture", MAGIC(0, "#?RADIANCE"), NULL},
    {"a DDS texture", MAGIC(0, "DDS "), NULL},
    {"an SVG drawing", MAGIC(0, "<svg"), NULL},
    {"a PDF document", MAGIC(0, "%PDF"), NULL},
};
enum { FORMATS = sizeof formats / sizeof formats[0] };

static const format *recognise(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < FORMATS; i++) {
        const format *f = &formats[i];
        if (size >= f->offset + f->length && memcmp(bytes + f->offset, f->magic, f->length) == 0) {
            return f;
        }
    }
    return NULL;
}

vt_image_settings vt_image_settings_default(void)
{
    return (vt_image_settings){.apply_exif = true, .max_pixels = DEFAULT_MAX_PIXELS};
}

vt_status vt_image_check_size(const vt_image_source *source, uint64_t width, uint64_t height,
                              vt_error *error)
{
    const unsigned long long w = width, h = height;
    uint64_t pixels;
    if (width == 0 || height == 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "the picture is empty (%llu x %llu)", w, h);
    }
    if (!vt_mul_u64(width, height, &pixels) || pixels > source->max_pixels || width > INT32_MAX ||
        height > INT32_MAX) {
        return vt_error_set(error, VT_ERR_LIMIT,
                            "%llu x %llu pixels are more than the limit of %llu", w, h,
                            (unsigned long long)source->max_pixels);
    }
    if (pixels >= source->max_pixels / 2 + source->max_pixels % 2) {
        vt_log(source->context, VT_LOG_WARNING,
               "%s%slarge picture: %llu x %llu pixels (%llu is the limit)",
               source->path ? source->path : "", source->path ? ": " : "", w, h,
               (unsigned long long)source->max_pixels);
    }
    return VT_OK;
}

vt_status vt_image_allocate(const vt_image_source *source, vt_image *image, uint64_t width,
                            uint64_t height, vt_error *error)
{
    size_t pixels;
    image->data = NULL;
    if (vt_mul_size(width, height, &pixels)) {
        image->data = vt_alloc_zero(vt_context_allocator(source->context), pixels, 3);
    }
    if (!image->data) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for %llu x %llu pixels",
                            (unsigned long long)width, (unsigned long long)height);
    }
    image->width = (int)width;
    image->height = (int)height;
    image->orientation = 1;
    return VT_OK;
}

static vt_status decode_format(const vt_image_source *source, const format *f, bool apply_exif,
                               vt_image *image, vt_error *error)
{
    vt_image decoded = {.orientation = 1};
    vt_status status = f->decode(source, &decoded, error);
    if (status == VT_OK && apply_exif && decoded.orientation != 1) {
        status = vt_image_turn(&decoded, vt_context_allocator(source->context), decoded.orientation,
                               error);
    }
    if (status != VT_OK) {
        vt_image_clear(&decoded, source->context);
        return vt_error_wrap(error, status, "cannot decode %s", f->name);
    }
    *image = decoded;
    return VT_OK;
}

/* `path`: where the bytes are from, or NULL. */
static vt_status decode_bytes(vt_image *image, vt_context *context, const char *path,
                              const void *bytes, size_t size, const vt_image_settings *settings,
                              vt_error *error)
{
    const vt_image_settings s = settings ? *settings : vt_image_settings_default();
    if (size == 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "file is empty");
    }
    if (size > MAX_FILE_BYTES) {
        return vt_error_set(error, VT_ERR_LIMIT,
                            "%zu bytes are more than a picture may have (%llu)", size,
                            (unsigned long long)MAX_FILE_BYTES);
    }
    const format *f = recognise(bytes, size);
    if (!f) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "not a picture in a known format (PNG, JPEG, BMP, PNM)");
    }
    if (!f->decode) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "%s, which is not supported: convert it to PNG or JPEG", f->name);
    }
    const vt_image_source source = {
        .context = context,
        .path = path,
        .bytes = bytes,
        .size = size,
        .max_pixels = s.max_pixels ? s.max_pixels : DEFAULT_MAX_PIXELS,
    };
    return decode_format(&source, f, s.apply_exif, image, error);
}

vt_status vt_image_decode(vt_image *image, vt_context *context, const void *bytes, size_t size,
                          const vt_image_settings *settings, vt_error *error)
{
    if (!image || !context || (!bytes && size > 0)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "decode: image, context or bytes is NULL");
    }
    *image = (vt_image){0};
    return decode_bytes(image, context, NULL, bytes, size, settings, error);
}

/* The bytes of an opened file, which the caller frees. */
static vt_status read_file(const vt_file *file, const vt_allocator *allocator, uint8_t **bytes,
                           vt_error *error)
{
    if (file->size > MAX_FILE_BYTES) {
        return vt_error_set(error, VT_ERR_LIMIT,
                            "%llu bytes are more than a picture may have (%llu)",
                            (unsigned long long)file->size, (unsigned long long)MAX_FILE_BYTES);
    }
    *bytes = vt_alloc(allocator, (size_t)file->size);
    if (!*bytes) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a file of %llu bytes",
                            (unsigned long long)file->size);
    }
    return vt_file_read(file, 0, *bytes, (size_t)file->size, error);
}

vt_status vt_image_load(vt_image *image, vt_context *context, const char *path,
                        const vt_image_settings *settings, vt_error *error)
{
    if (!image || !context || !path) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "load: image, context or path is NULL");
    }
    *image = (vt_image){0};
    const vt_allocator *allocator = vt_context_allocator(context);
    uint8_t *bytes = NULL;
    vt_file file;
    vt_status status = vt_file_open(&file, path, error);
    if (status == VT_OK) {
        status = read_file(&file, allocator, &bytes, error);
    }
    if (status == VT_OK) {
        status = decode_bytes(image, context, path, bytes, (size_t)file.size, settings, error);
    }
    vt_free(allocator, bytes);
    vt_file_close(&file);
    return status == VT_OK ? VT_OK : vt_error_wrap(error, status, "%s", path);
}

void vt_image_clear(vt_image *image, vt_context *context)
{
    if (image) {
        if (image->data) {
            vt_free(vt_context_allocator(context), image->data);
        }
        *image = (vt_image){0};
    }
}

vt_pixels vt_image_pixels(const vt_image *image)
{
    return (vt_pixels){image->data, image->width, image->height, 3 * (ptrdiff_t)image->width,
                       VT_PIXELS_RGB};
}
