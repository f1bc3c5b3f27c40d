/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the pictures of an IDX file pair (MNIST, Fashion-MNIST) as PNG, a folder per class:
 *   idx_pictures IMAGES LABELS OUT        OUT/7/00042.png: picture 42 (from 0) has the label 7
 * The files may be compressed by gzip. Pictures that are there already are left alone.
 *
 *   images   u32 0x00000803, count, rows, columns (big endian), then count * rows * columns bytes
 *   labels   u32 0x00000801, count, then count bytes */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <vertebra/image.h>
#include <vertebra/vertebra.h>

enum { MAGIC_IMAGES = 0x803, MAGIC_LABELS = 0x801, MAX_COUNT = 10000000, MAX_SIDE = 4096 };

typedef struct idx_pair {
    const char *image_path, *label_path;
    gzFile images, labels;
    uint32_t count, rows, columns;
    uint8_t *grey, *rgb; /* one picture */
} idx_pair;

static int fail(const char *path, const char *reason)
{
    fprintf(stderr, "idx_pictures: %s: %s\n", path, reason);
    return 1;
}

static bool read_u32(gzFile file, uint32_t *out)
{
    uint8_t b[4];
    bool whole = gzread(file, b, sizeof b) == (int)sizeof b;
    *out = whole ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
    return whole;
}

static int open_pair(idx_pair *p)
{
    uint32_t magic, labels;
    p->images = gzopen(p->image_path, "rb");
    if (!p->images) {
        return fail(p->image_path, strerror(errno));
    }
    p->labels = gzopen(p->label_path, "rb");
    if (!p->labels) {
        return fail(p->label_path, strerror(errno));
    }
    if (!read_u32(p->images, &magic) || magic != MAGIC_IMAGES || !read_u32(p->images, &p->count) ||
        !read_u32(p->images, &p->rows) || !read_u32(p->images, &p->columns)) {
        return fail(p->image_path, "is no IDX file of pictures");
    }
    if (!read_u32(p->labels, &magic) || magic != MAGIC_LABELS || !read_u32(p->labels, &labels)) {
        return fail(p->label_path, "is no IDX file of labels");
    }
    if (p->count > MAX_COUNT || p->rows - 1 >= MAX_SIDE || p->columns - 1 >= MAX_SIDE) {
        return fail(p->image_path, "its sizes make no sense");
    }
    if (labels != p->count) {
        return fail(p->label_path, "has another number of labels than there are pictures");
    }
    p->grey = malloc((size_t)p->rows * p->columns);
    p->rgb = malloc(3 * (size_t)p->rows * p->columns);
    return p->grey && p->rgb ? 0 : fail(p->image_path, "out of memory");
}

static int write_one(idx_pair *p, vt_context *context, const char *out, uint32_t i)
{
    char path[4096];
    size_t size = (size_t)p->rows * p->columns;
    if (gzread(p->images, p->grey, (unsigned)size) != (int)size) {
        return fail(p->image_path, "is cut short or damaged");
    }
    int label = gzgetc(p->labels);
    if (label < 0) {
        return fail(p->label_path, "is cut short or damaged");
    }
    int length = snprintf(path, sizeof path, "%s/%d", out, label);
    if (length < 0 || length >= (int)sizeof path - 16) {
        return fail(out, "the name is too long");
    }
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        return fail(path, strerror(errno));
    }
    snprintf(path + length, sizeof path - (size_t)length, "/%05u.png", (unsigned)i);
    if (access(path, F_OK) == 0) {
        return 0;
    }
    for (size_t k = 0; k < size; k++) {
        memset(p->rgb + 3 * k, p->grey[k], 3);
    }
    vt_error error = {0};
    vt_pixels pixels = {p->rgb, (int)p->columns, (int)p->rows, 3 * (ptrdiff_t)p->columns,
                        VT_PIXELS_RGB};
    return vt_image_save_png(context, path, &pixels, &error) == VT_OK ? 0
                                                                      : fail(path, error.message);
}

int main(int argc, char **argv)
{
    vt_context *context = NULL;
    vt_error error = {0};
    if (argc != 4) {
        fprintf(stderr, "usage: idx_pictures IMAGES LABELS OUT\n");
        return 2;
    }
    idx_pair p = {.image_path = argv[1], .label_path = argv[2]};
    int result = open_pair(&p);
    if (result == 0 && mkdir(argv[3], 0777) != 0 && errno != EEXIST) {
        result = fail(argv[3], strerror(errno));
    }
    if (result == 0 && vt_context_create(&context, NULL, &error) != VT_OK) {
        result = fail("context", error.message);
    }
    for (uint32_t i = 0; i < p.count && result == 0; i++) {
        result = write_one(&p, context, argv[3], i);
    }
    vt_context_destroy(&context);
    free(p.grey);
    free(p.rgb);
    gzclose(p.images); /* accept NULL */
    gzclose(p.labels);
    return result;
}
