/* SPDX-License-Identifier: Apache-2.0 */
#include "html.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void html_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc((unsigned char)*text < 0x20 ? ' ' : *text, out);
        }
    }
}

/* RFC 4648, section 4 */
static void write_base64(FILE *out, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)bytes[i] << 16;
        three |= i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0;
        three |= i + 2 < size ? (uint32_t)bytes[i + 2] : 0;
        fputc(digits[three >> 18], out);
        fputc(digits[three >> 12 & 63], out);
        fputc(i + 1 < size ? digits[three >> 6 & 63] : '=', out);
        fputc(i + 2 < size ? digits[three & 63] : '=', out);
    }
}

vt_status html_png(FILE *out, vt_context *context, const char *path, const vt_pixels *pixels,
                   vt_error *error)
{
    vt_status status = vt_image_save_png(context, path, pixels, error);
    if (status != VT_OK) {
        return status;
    }
    FILE *file = fopen(path, "rb");
    if (!file) {
        return vt_error_set(error, VT_ERR_IO, "%s: %s", path, strerror(errno));
    }
    fputs("data:image/png;base64,", out);
    uint8_t part[3 * 1024]; /* whole groups of three: only the last part may end with '=' */
    for (size_t size; (size = fread(part, 1, sizeof part, file)) > 0;) {
        write_base64(out, part, size);
    }
    bool bad = ferror(file) != 0;
    fclose(file);
    return bad ? vt_error_set(error, VT_ERR_IO, "%s: cannot read", path) : VT_OK;
}
