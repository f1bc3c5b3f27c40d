/* SPDX-License-Identifier: Apache-2.0 */
/* EXIF orientation: found in untrusted bytes, applied to pixels. */
#include <string.h>

#include "core/checked.h"
#include "io/image/decode.h"

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, IFD_ENTRY = 12 };

/* Unsigned numbers of either byte order within bounds. */
typedef struct reader {
    const uint8_t *bytes;
    size_t size;
    bool big_endian;
} reader;

static bool read_u16(const reader *r, size_t at, unsigned *out)
{
    if (r->size < 2 || at > r->size - 2) {
        return false;
    }
    const uint8_t *p = r->bytes + at;
    *out = r->big_endian ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
    return true;
}

static bool read_u32(const reader *r, size_t at, uint32_t *out)
{
    unsigned a, b;
    if (!read_u16(r, at, &a) || !read_u16(r, at + 2, &b)) {
        return false;
    }
    *out = r->big_endian ? (uint32_t)a << 16 | b : (uint32_t)b << 16 | a;
    return true;
}

int vt_exif_orientation(const uint8_t *exif, size_t size)
{
    reader r = {exif, size, false};
    if (size < 8 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0)) {
        return 1;
    }
    r.big_endian = exif[0] == 'M';
    uint32_t ifd;
    unsigned entries;
    if (!read_u32(&r, 4, &ifd) || !read_u16(&r, ifd, &entries)) {
        return 1;
    }
    for (unsigned i = 0; i < entries; i++) {
        const size_t at = (size_t)ifd + 2 + (size_t)i * IFD_ENTRY;
        unsigned tag, type, value;
        uint32_t count;
        if (!read_u16(&r, at, &tag) || !read_u16(&r, at + 2, &type) ||
            !read_u32(&r, at + 4, &count) || !read_u16(&r, at + 8, &value)) {
            return 1;
        }
        if (tag == TAG_ORIENTATION) {
            return type == TYPE_SHORT && count == 1 && value >= 1 && value <= 8 ? (int)value : 1;
        }
    }
    return 1;
}

/* Turned pixel (x, y) is found at data + origin + x * step_x + y * step_y. The EXIF numbers say
 * where row 0 and column 0 of the stored picture are seen: 6 = its left column is on top. */
vt_status vt_image_turn(vt_image *image, const vt_allocator *allocator, int orientation,
                        vt_error *error)
{
    const bool swaps = orientation >= 5;
    const ptrdiff_t row = 3 * (ptrdiff_t)image->width;
    const ptrdiff_t last_x = row - 3, last_y = (image->height - 1) * row;
    static const struct {
        bool from_right, from_bottom; /* of the stored picture, for the turned one's origin */
    } corner[9] = {[2] = {true, false}, [3] = {true, true}, [4] = {false, true},
                   [6] = {false, true}, [7] = {true, true}, [8] = {true, false}};
    if (orientation < 2 || orientation > 8) {
        return VT_OK;
    }
    const bool right = corner[orientation].from_right, bottom = corner[orientation].from_bottom;
    const ptrdiff_t along = right ? -3 : 3, across = bottom ? -row : row;
    const ptrdiff_t step_x = swaps ? across : along, step_y = swaps ? along : across;
    const int width = swaps ? image->height : image->width;
    const int height = swaps ? image->width : image->height;

    uint8_t *turned = vt_alloc_zero(allocator, (size_t)width * (size_t)height, 3);
    if (!turned) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for turning %d x %d pixels",
                            image->width, image->height);
    }
    const uint8_t *origin = image->data + (right ? last_x : 0) + (bottom ? last_y : 0);
    /* In tiles, so that the strided side stays in the cache. */
    enum { TILE = 32 };
    for (int y0 = 0; y0 < height; y0 += TILE) {
        for (int x0 = 0; x0 < width; x0 += TILE) {
            const int y1 = height - y0 < TILE ? height : y0 + TILE;
            const int x1 = width - x0 < TILE ? width : x0 + TILE;
            for (int y = y0; y < y1; y++) {
                uint8_t *out = turned + 3 * ((size_t)y * (size_t)width + (size_t)x0);
                const uint8_t *in = origin + y * step_y + x0 * step_x;
                for (int x = x0; x < x1; x++, out += 3, in += step_x) {
                    memcpy(out, in, 3);
                }
            }
        }
    }
    vt_free(allocator, image->data);
    image->data = turned;
    image->width = width;
    image->height = height;
    return VT_OK;
}
