/* SPDX-License-Identifier: Apache-2.0 */
/* BMP: the header is checked here before stb_image sees the file, because stb_image takes a file
 * that is cut short for a whole one and looks up colours that the palette does not have in
 * uninitialised memory. */
#include "core/checked.h"
#include "io/image/decode.h"

enum { FILE_HEADER = 14, OS2_HEADER = 12, MIN_HEADER = 40, COMPRESSION_RLE8 = 1 };

typedef struct bmp_header {
    uint32_t offset; /* of the pixels */
    uint32_t header; /* size of the second header */
    uint32_t width, height;
    uint32_t bits; /* per pixel */
    uint32_t compression;
} bmp_header;

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static vt_status read_header(const vt_image_source *s, bmp_header *h, vt_error *error)
{
    const uint8_t *p = s->bytes;
    if (s->size < FILE_HEADER + 4) {
        return vt_error_set(error, VT_ERR_FORMAT, "file is cut short");
    }
    h->offset = u32(p + 10);
    h->header = u32(p + 14);
    if (h->header == OS2_HEADER) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "OS/2 variant");
    }
    if (h->header != 40 && h->header != 56 && h->header != 108 && h->header != 124) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "header of %u bytes is not a known variant",
                            h->header);
    }
    if (s->size < FILE_HEADER + (size_t)h->header) {
        return vt_error_set(error, VT_ERR_FORMAT, "file is cut short");
    }
    const uint32_t signed_height = u32(p + 22); /* negative: rows from top to bottom */
    h->width = u32(p + 18);
    h->height = signed_height > INT32_MAX ? 0u - signed_height : signed_height;
    h->bits = u16(p + 28);
    h->compression = u32(p + 30);
    if (h->width > INT32_MAX || h->height > INT32_MAX) {
        return vt_error_set(error, VT_ERR_FORMAT, "size makes no sense");
    }
    if (h->compression >= COMPRESSION_RLE8 && h->compression != 3) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "compressed pixels (method %u)",
                            h->compression);
    }
    if (h->bits != 1 && h->bits != 4 && h->bits != 8 && h->bits != 16 && h->bits != 24 &&
        h->bits != 32) {
        return vt_error_set(error, VT_ERR_FORMAT, "%u bits per pixel", h->bits);
    }
    return VT_OK;
}

/* A row is padded to four bytes; the very last one may lack the padding. Sizes were checked. */
static vt_status check_length(const vt_image_source *s, const bmp_header *h, vt_error *error)
{
    const uint64_t bits = (uint64_t)h->width * h->bits;
    const uint64_t row = (bits + 31) / 32 * 4;
    uint64_t need;
    if (!vt_mul_u64(row, h->height - 1, &need) || !vt_add_u64(need, (bits + 7) / 8, &need) ||
        !vt_add_u64(need, h->offset, &need) || need > s->size) {
        return vt_error_set(error, VT_ERR_FORMAT, "file is cut short");
    }
    return VT_OK;
}

/* Every colour number in use must be in the palette, which fills the space before the pixels. */
static vt_status check_palette(const vt_image_source *s, const bmp_header *h, vt_error *error)
{
    const uint32_t begin = FILE_HEADER + h->header;
    const uint32_t colours = h->offset < begin ? 0 : (h->offset - begin) / 4;
    if (colours == 0 || colours > 256) {
        return vt_error_set(error, VT_ERR_FORMAT, "palette of %u colours", colours);
    }
    if (colours >= 1u << h->bits) {
        return VT_OK;
    }
    const size_t row = ((size_t)h->width * h->bits + 31) / 32 * 4;
    for (size_t y = 0; y < h->height; y++) {
        const uint8_t *in = s->bytes + h->offset + y * row;
        for (size_t x = 0; x < h->width; x++) {
            const size_t bit = x * h->bits;
            const uint32_t shift = 8 - h->bits - (uint32_t)(bit & 7);
            const uint32_t colour = (uint32_t)in[bit / 8] >> shift & ((1u << h->bits) - 1);
            if (colour >= colours) {
                return vt_error_set(error, VT_ERR_FORMAT, "colour %u is not in the palette of %u",
                                    colour, colours);
            }
        }
    }
    return VT_OK;
}

vt_status vt_image_decode_bmp(const vt_image_source *source, vt_image *image, vt_error *error)
{
    bmp_header h = {0};
    vt_status status = read_header(source, &h, error);
    if (status == VT_OK) {
        status = vt_image_check_size(source, h.width, h.height, error);
    }
    if (status == VT_OK) {
        status = check_length(source, &h, error);
    }
    if (status == VT_OK && h.bits <= 8) {
        status = check_palette(source, &h, error);
    }
    return status == VT_OK ? vt_image_decode_stb(source, image, error) : status;
}
