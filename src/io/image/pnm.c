/* SPDX-License-Identifier: Apache-2.0 */
/* PBM, PGM and PPM, plain and binary. Read here and not by stb_image, which knows neither PBM nor
 * the plain forms, does not scale by the maximum value, swaps the bytes of 16-bit samples and
 * takes a file that is cut short for a whole one. */
#include <math.h>
#include <string.h>

#include "core/checked.h"
#include "io/image/decode.h"

typedef struct pnm {
    const uint8_t *at, *end;
    bool plain, bitmap;
    int channels; /* samples per pixel in the file */
    uint32_t width, height, max;
} pnm;

static bool is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* White space and comments, which run from '#' to the end of the line. */
static void skip_space(pnm *p)
{
    while (p->at < p->end && (is_space(*p->at) || *p->at == '#')) {
        if (*p->at == '#') {
            while (p->at < p->end && *p->at != '\n' && *p->at != '\r') {
                p->at++;
            }
        } else {
            p->at++;
        }
    }
}

static vt_status cut_short(vt_error *error)
{
    return vt_error_set(error, VT_ERR_FORMAT, "file is cut short");
}

static vt_status read_number(pnm *p, uint32_t *out, vt_error *error)
{
    enum { MAX_NUMBER = 1 << 30 };
    skip_space(p);
    if (p->at == p->end) {
        return cut_short(error);
    }
    if (*p->at < '0' || *p->at > '9') {
        return vt_error_set(error, VT_ERR_FORMAT, "a number was expected");
    }
    uint32_t value = 0;
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        value = value * 10 + (uint32_t)(*p->at - '0');
        if (value > MAX_NUMBER) {
            return vt_error_set(error, VT_ERR_FORMAT, "a number is too large");
        }
    }
    *out = value;
    return VT_OK;
}

static vt_status read_header(pnm *p, const vt_image_source *s, vt_error *error)
{
    const int kind = s->bytes[1] - '0'; /* told by content: 1 to 6 */
    *p = (pnm){.at = s->bytes + 2,
               .end = s->bytes + s->size,
               .plain = kind <= 3,
               .bitmap = kind == 1 || kind == 4,
               .channels = kind == 3 || kind == 6 ? 3 : 1,
               .max = 1};
    vt_status status = read_number(p, &p->width, error);
    if (status == VT_OK) {
        status = read_number(p, &p->height, error);
    }
    if (status == VT_OK && !p->bitmap) {
        status = read_number(p, &p->max, error);
        if (status == VT_OK && (p->max < 1 || p->max > 65535)) {
            status =
                vt_error_set(error, VT_ERR_FORMAT, "maximum value %u: want 1 to 65535", p->max);
        }
    }
    if (status != VT_OK) {
        return status;
    }
    if (p->at == p->end) {
        return cut_short(error);
    }
    if (!is_space(*p->at)) {
        return vt_error_set(error, VT_ERR_FORMAT, "a number was expected");
    }
    p->at++; /* exactly one: the next byte may be a sample that looks like white space */
    return VT_OK;
}

/* The least number of bytes that the samples take, so that a lying size is caught before memory is
 * taken for it. */
static vt_status check_length(const pnm *p, vt_error *error)
{
    const uint64_t samples = (uint64_t)p->width * p->height * (uint64_t)p->channels;
    uint64_t need;
    if (p->plain) {
        need = p->bitmap ? samples : 2 * samples - 1;
    } else if (p->bitmap) {
        need = ((uint64_t)p->width + 7) / 8 * p->height;
    } else {
        need = samples * (p->max > 255 ? 2 : 1);
    }
    return need > (uint64_t)(p->end - p->at) ? cut_short(error) : VT_OK;
}

/* v / max * 255, rounded half to even as Pillow does; of full 16 bits the high byte. */
static uint8_t to_byte(const pnm *p, uint32_t v)
{
    if (p->max == 255) {
        return (uint8_t)v;
    }
    if (p->max == 65535) {
        return (uint8_t)(v >> 8);
    }
    const double scaled = rint((double)v / p->max * 255);
    return scaled > 255 ? 255 : (uint8_t)scaled;
}

static vt_status read_plain(pnm *p, uint32_t *v, vt_error *error)
{
    if (!p->bitmap) {
        vt_status status = read_number(p, v, error);
        if (status == VT_OK && *v > p->max) {
            status =
                vt_error_set(error, VT_ERR_FORMAT, "sample %u is above the maximum %u", *v, p->max);
        }
        return status;
    }
    skip_space(p); /* the digits of a bitmap need no space between them */
    if (p->at == p->end) {
        return cut_short(error);
    }
    if (*p->at != '0' && *p->at != '1') {
        return vt_error_set(error, VT_ERR_FORMAT, "0 or 1 was expected");
    }
    *v = (uint32_t)(*p->at++ - '0');
    return VT_OK;
}

static vt_status read_plain_samples(pnm *p, uint8_t *out, size_t count, vt_error *error)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t v;
        vt_status status = read_plain(p, &v, error);
        if (status != VT_OK) {
            return status;
        }
        out[i] = p->bitmap ? (v ? 0 : 255) : to_byte(p, v);
    }
    return VT_OK;
}

/* One row of binary samples; the length was checked. In bitmaps 1 is black. */
static void read_binary_row(pnm *p, uint8_t *out)
{
    const size_t count = (size_t)p->width * (size_t)p->channels;
    if (p->bitmap) {
        for (size_t x = 0; x < count; x++) {
            out[x] = p->at[x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
        }
        p->at += (count + 7) / 8;
        return;
    }
    const bool wide = p->max > 255;
    for (size_t x = 0; x < count; x++, p->at += wide ? 2 : 1) {
        out[x] = to_byte(p, wide ? (uint32_t)p->at[0] << 8 | p->at[1] : p->at[0]);
    }
}

/* Grey samples sit at the row's beginning: from the last to the first, each becomes a pixel. */
static void replicate(uint8_t *row, size_t width)
{
    for (size_t x = width; x-- > 0;) {
        memset(row + 3 * x, row[x], 3);
    }
}

vt_status vt_image_decode_pnm(const vt_image_source *source, vt_image *image, vt_error *error)
{
    pnm p = {0};
    vt_status status = read_header(&p, source, error);
    if (status == VT_OK) {
        status = vt_image_check_size(source, p.width, p.height, error);
    }
    if (status == VT_OK) {
        status = check_length(&p, error);
    }
    if (status == VT_OK) {
        status = vt_image_allocate(source, image, p.width, p.height, error);
    }
    for (size_t y = 0; y < p.height && status == VT_OK; y++) {
        uint8_t *row = image->data + y * 3 * p.width;
        if (p.plain) {
            status = read_plain_samples(&p, row, (size_t)p.width * (size_t)p.channels, error);
        } else {
            read_binary_row(&p, row);
        }
        if (p.channels == 1) {
            replicate(row, p.width);
        }
    }
    return status;
}
