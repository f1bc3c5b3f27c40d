/* SPDX-License-Identifier: Apache-2.0 */
/* Picture files: decoding equals Pillow's, limits and refusals, PNG writing, overlays. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/pictures.h"
#include "vertebra/image.h"

static vt_context *ctx;
static char folder[] = "/tmp/vertebra-test-XXXXXX";
static int warnings;
static char last_warning[512];

static void count_warnings(void *user, vt_log_level level, const char *line)
{
    (void)user;
    if (level == VT_LOG_WARNING && strstr(line, "large picture")) {
        warnings++;
        snprintf(last_warning, sizeof last_warning, "%s", line);
    }
}

static int set_up(void **state)
{
    (void)state;
    vt_context_settings settings = vt_context_settings_default();
    settings.log = count_warnings;
    return vt_context_create(&ctx, &settings, NULL) == VT_OK && mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    vt_context_destroy(&ctx);
    return rmdir(folder);
}

/* A path in the scratch folder. */
static const char *scratch(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int files_in_scratch(void)
{
    DIR *dir = opendir(folder);
    int count = -2; /* "." and ".." */
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

static void check_pixels(const vt_image *image, const json_t *want, const char *name)
{
    char hex[65];
    picture_digest(image->data, 3 * (size_t)image->width * (size_t)image->height, hex);
    if (image->width != json_int(want, "width") || image->height != json_int(want, "height") ||
        strcmp(hex, json_text(want, "rgb_sha256")) != 0) {
        fail_msg("%s: %d x %d pixels other than Pillow's", name, image->width, image->height);
    }
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void pictures_equal_pillow(void **state)
{
    (void)state;
    json_t *index = pictures_index();
    const json_t *pictures = json_object_get(index, "pictures"), *p;
    size_t i, upright = 0;
    assert_true(json_array_size(pictures) > 60);
    json_array_foreach(pictures, i, p)
    {
        const char *name = json_text(p, "file");
        const json_t *orientation = json_object_get(p, "orientation");
        const json_t *turned = json_object_get(p, "upright");
        vt_image image = picture_load(ctx, name);
        check_pixels(&image, p, name);
        assert_int_equal(image.orientation, orientation ? json_integer_value(orientation) : 1);
        vt_image_clear(&image, ctx);
        assert_null(image.data);

        char path[512];
        picture_path(name, path, sizeof path);
        assert_int_equal(vt_image_load(&image, ctx, path, NULL, NULL), VT_OK);
        check_pixels(&image, turned ? turned : p, name);
        upright += turned != NULL;
        vt_image_clear(&image, ctx);
    }
    assert_true(upright >= 8);
    print_message("%zu pictures, %zu of them turned\n", json_array_size(pictures), upright);
    json_decref(index);
}

/* Neither order of bytes nor a broken note about the orientation matters. */
static void exif_variants(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = picture_bytes("tests/fixtures/pictures/exif_6.jpg", &size);
    size_t at = 0;
    while (at + 6 < size && memcmp(bytes + at, "Exif\0", 6) != 0) {
        at++;
    }
    uint8_t *tiff = bytes + at + 6;
    static const struct {
        const char *bytes; /* 26: header, one directory of one entry, no next directory */
        int orientation;
    } notes[] = {
        {"II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", 6},
        {"MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\10\0\0\0\0\0\0", 8},
        {"MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\11\0\0\0\0\0\0", 1},       /* 9 */
        {"MM\0*\0\0\0\10\0\1\1\22\0\4\0\0\0\1\0\3\0\0\0\0\0\0", 1},        /* not a short */
        {"MM\0*\377\377\377\377\0\1\1\22\0\3\0\0\0\1\0\3\0\0\0\0\0\0", 1}, /* far away */
        {"MM\0*\0\0\0\10\377\377\1\23\0\3\0\0\0\1\0\3\0\0\0\0\0\0", 1},    /* 65535 entries */
        {"JJ*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", 1},
    };
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        memcpy(tiff, notes[i].bytes, 26);
        vt_image image;
        assert_int_equal(vt_image_decode(&image, ctx, bytes, size, NULL, NULL), VT_OK);
        assert_int_equal(image.orientation, notes[i].orientation);
        const bool tall = notes[i].orientation >= 5;
        assert_int_equal(image.width < image.height, tall);
        vt_image_clear(&image, ctx);
    }
    test_free(bytes);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void expect(vt_status status, const char *word, const void *bytes, size_t size)
{
    vt_image image = {.width = 7};
    vt_error error = {0};
    if (vt_image_decode(&image, ctx, bytes, size, NULL, &error) != status ||
        !strstr(error.message, word)) {
        fail_msg("want '%s' with '%s', have '%s': %s", vt_status_name(status), word,
                 vt_status_name(error.status), error.message);
    }
    assert_null(image.data);
}

static void other_formats_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t size;
    } files[] = {
        {"GIF", "GIF89a\1\0\1\0", 10},
        {"WebP", "RIFF\20\0\0\0WEBPVP8 ", 16},
        {"TIFF", "II*\0\10\0\0\0", 8},
        {"TIFF", "MM\0*\0\0\0\10", 8},
        {"HEIF", "\0\0\0\30ftypheic", 12},
        {"HEIF", "\0\0\0\30ftypmif1", 12},
        {"AVIF", "\0\0\0\34ftypavif", 12},
        {"JPEG XL", "\xff\x0a\0\0", 4},
        {"JPEG XL", "\0\0\0\14JXL \r\n\x87\n", 12},
        {"JPEG 2000", "\0\0\0\14jP  \r\n\x87\n", 12},
        {"PDF", "%PDF-1.7", 8},
        {"PAM", "P7\nWIDTH 1", 10},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        expect(VT_ERR_UNSUPPORTED, files[i].name, files[i].bytes, files[i].size);
        expect(VT_ERR_UNSUPPORTED, "convert it to PNG or JPEG", files[i].bytes, files[i].size);
    }
    expect(VT_ERR_FORMAT, "ASCII", "\x89PNG\n\x1a\n\0\0\0\r", 11); /* went through a text filter */
    expect(VT_ERR_FORMAT, "not a picture", "hello, world", 12);
    expect(VT_ERR_FORMAT, "not a picture", "\x89", 1);
    expect(VT_ERR_FORMAT, "empty", "", 0);
    expect(VT_ERR_FORMAT, "empty", NULL, 0);
}

static void lying_headers(void **state)
{
    (void)state;
    expect(VT_ERR_LIMIT, "limit", "P6 70000 70000 255\n", 19);
    expect(VT_ERR_FORMAT, "number is too large", "P6 99999999999 1 255\n", 21);
    expect(VT_ERR_FORMAT, "empty", "P5 0 4 255\n", 11);
    expect(VT_ERR_FORMAT, "cut short", "P6 5000 5000 255\nabc", 20);
    expect(VT_ERR_FORMAT, "cut short", "P4", 2);
    expect(VT_ERR_FORMAT, "cut short", "P3 2 1 255 1 2 3 4 5 ", 21);
    expect(VT_ERR_FORMAT, "maximum", "P5 1 1 65536\nabc", 16);
    expect(VT_ERR_FORMAT, "maximum", "P5 1 1 0\nabc", 12);
    expect(VT_ERR_FORMAT, "number", "P5 -1 1 255\nabc", 15);
    expect(VT_ERR_FORMAT, "above", "P2 1 1 9\n10", 11);
    expect(VT_ERR_FORMAT, "0 or 1", "P1 2 1\n02", 9);

    size_t size;
    uint8_t *bytes = picture_bytes("tests/fixtures/pictures/bmp_24.bmp", &size);
    memcpy(bytes + 18, "\xff\xff\0\0\xff\xff\0", 8); /* 65535 x 65535 */
    expect(VT_ERR_LIMIT, "limit", bytes, size);
    memcpy(bytes + 18, "\x10\x10\0\0\x10\x10\0", 8);
    expect(VT_ERR_FORMAT, "cut short", bytes, size);
    memcpy(bytes + 18, "\x10\0\0\0\0\0\0\x80", 8); /* a height of -2^31 */
    expect(VT_ERR_FORMAT, "size makes no sense", bytes, size);
    memcpy(bytes + 18, "\0\0\0\0\1\0\0", 8);
    expect(VT_ERR_FORMAT, "empty", bytes, size);
    test_free(bytes);

    bytes = picture_bytes("tests/fixtures/pictures/bmp_8_palette.bmp", &size);
    const uint32_t offset = bytes[10] | (uint32_t)bytes[11] << 8;
    if (offset < 54 + 4 * 256) { /* fewer than 256 colours: another one is no colour */
        bytes[offset] = 255;
        expect(VT_ERR_FORMAT, "palette", bytes, size);
    }
    bytes[30] = 1;
    expect(VT_ERR_UNSUPPORTED, "compressed", bytes, size);
    test_free(bytes);
}

static void png_bomb_and_damage(void **state)
{
    (void)state;
    /* 30000 x 30000 by its header, with the right check sum, and no pixels. */
    static const char bomb[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\10\2\0\0\0"
        "\xe9\x45\x6f\xed\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82";
    /* A note that claims to be a gigabyte long. */
    static const char long_note[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x13\0\0\0\x0b\10\2\0\0\0"
                                    "\x12\xb7\x21\x6d\x3d\0\0\x1a"
                                    "eXIfII*\0";
    expect(VT_ERR_FORMAT, "cut short", long_note, sizeof long_note - 1);
    expect(VT_ERR_LIMIT, "30000 x 30000", bomb, sizeof bomb - 1);
    size_t size;
    uint8_t *bytes = picture_bytes("tests/fixtures/pictures/png_rgb.png", &size);
    bytes[size / 2] ^= 0x10;
    expect(VT_ERR_FORMAT, "CRC", bytes, size);
    expect(VT_ERR_FORMAT, "cut short", bytes, 100);
    test_free(bytes);
    bytes = picture_bytes("tests/fixtures/pictures/photo_420.jpg", &size);
    expect(VT_ERR_FORMAT, "cannot decode JPEG: file is cut short", bytes, size / 2);
    test_free(bytes);
}

/* The first marker at or behind `at` that ends entropy-coded data. */
static size_t next_marker(const uint8_t *bytes, size_t size, size_t at)
{
    while (at + 1 < size &&
           (bytes[at] != 0xff || bytes[at + 1] == 0 || (bytes[at + 1] & 0xf8) == 0xd0)) {
        at++;
    }
    return at;
}

/* A progressive file that gives its first scan again and again. */
static void endless_scans(void **state)
{
    (void)state;
    size_t size, scan = 2;
    uint8_t *bytes = picture_bytes("tests/fixtures/pictures/jpeg_progressive_444.jpg", &size);
    while (bytes[scan + 1] != 0xda) { /* from marker segment to marker segment */
        scan += 2 + (size_t)(bytes[scan + 2] << 8 | bytes[scan + 3]);
    }
    const size_t after = next_marker(bytes, size, scan + 2), length = after - scan;
    enum { REPEATS = 600 };
    uint8_t *bomb = test_malloc(size + REPEATS * length), *end = bomb + after;
    memcpy(bomb, bytes, after);
    for (int i = 0; i < REPEATS; i++, end += length) {
        memcpy(end, bytes + scan, length);
    }
    memcpy(end, bytes + after, size - after);
    expect(VT_ERR_LIMIT, "more than 500 scans", bomb, size + REPEATS * length);
    test_free(bomb);
    test_free(bytes);
}

static void pixel_limit(void **state)
{
    (void)state;
    vt_image_settings settings = vt_image_settings_default();
    assert_int_equal(settings.max_pixels, 178956970);
    assert_true(settings.apply_exif);
    static const char *const names[] = {"png_rgb.png", "jpeg_420.jpg", "bmp_24.bmp", "ppm.ppm"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[512];
        picture_path(names[i], path, sizeof path);
        vt_image image = picture_load(ctx, names[i]);
        const uint64_t pixels = (uint64_t)image.width * (uint64_t)image.height;
        vt_image_clear(&image, ctx);
        vt_error error = {0};
        settings.max_pixels = pixels - 1;
        assert_int_equal(vt_image_load(&image, ctx, path, &settings, &error), VT_ERR_LIMIT);
        assert_non_null(strstr(error.message, names[i]));
        warnings = 0;
        settings.max_pixels = pixels;
        assert_int_equal(vt_image_load(&image, ctx, path, &settings, NULL), VT_OK);
        assert_int_equal(warnings, 1);
        assert_non_null(strstr(last_warning, names[i]));
        vt_image_clear(&image, ctx);
        settings.max_pixels = 2 * pixels + 1;
        assert_int_equal(vt_image_load(&image, ctx, path, &settings, NULL), VT_OK);
        assert_int_equal(warnings, 1);
        vt_image_clear(&image, ctx);
    }
}

static void unreadable_files(void **state)
{
    (void)state;
    vt_image image;
    vt_error error = {0};
    assert_int_equal(vt_image_load(&image, ctx, "no/such/cat.png", NULL, &error), VT_ERR_IO);
    assert_string_equal(error.message, "no/such/cat.png: cannot open: No such file or directory");
    assert_int_equal(vt_image_load(&image, ctx, folder, NULL, &error), VT_ERR_IO);
    assert_non_null(strstr(error.message, "folder"));
    assert_int_equal(vt_image_load(&image, ctx, "/dev/null", NULL, &error), VT_ERR_IO);
    assert_int_equal(vt_image_load(&image, ctx, "", NULL, &error), VT_ERR_IO);
    write_file(scratch("cat.png"), "", 0);
    assert_int_equal(vt_image_load(&image, ctx, scratch("cat.png"), NULL, &error), VT_ERR_FORMAT);
    assert_non_null(strstr(error.message, "cat.png: file is empty"));
    write_file(scratch("cat.png"), "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(vt_image_load(&image, ctx, scratch("cat.png"), NULL, &error), VT_ERR_FORMAT);
    assert_non_null(strstr(error.message, "cat.png: cannot decode PNG: file is cut short"));
    unlink(scratch("cat.png"));
    assert_int_equal(vt_image_load(&image, ctx, NULL, NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_image_load(NULL, ctx, "x", NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_image_decode(&image, NULL, "x", 1, NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_image_decode(&image, ctx, NULL, 1, NULL, NULL), VT_ERR_ARGUMENT);
    vt_image_clear(NULL, ctx);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void png_round_trip(void **state)
{
    (void)state;
    vt_image image = picture_load(ctx, "png_rgb.png"), back;
    const vt_pixels whole = vt_image_pixels(&image);
    const size_t row = 3 * (size_t)image.width;
    const char *path = scratch("out.png");
    write_file(path, "older", 5); /* to be replaced */
    assert_int_equal(vt_image_save_png(ctx, path, &whole, NULL), VT_OK);
    assert_int_equal(files_in_scratch(), 1);
    assert_int_equal(vt_image_load(&back, ctx, path, NULL, NULL), VT_OK);
    assert_memory_equal(back.data, image.data, row * (size_t)image.height);
    vt_image_clear(&back, ctx);

    /* The same upside down and with the colours exchanged. */
    const vt_pixels flipped = {image.data + (size_t)(image.height - 1) * row, image.width,
                               image.height, -(ptrdiff_t)row, VT_PIXELS_BGR};
    assert_int_equal(vt_image_save_png(ctx, path, &flipped, NULL), VT_OK);
    assert_int_equal(vt_image_load(&back, ctx, path, NULL, NULL), VT_OK);
    for (int y = 0; y < image.height; y++) {
        const uint8_t *a = back.data + (size_t)y * row;
        const uint8_t *b = image.data + (size_t)(image.height - 1 - y) * row;
        for (size_t x = 0; x < row; x++) {
            assert_int_equal(a[x], b[x / 3 * 3 + 2 - x % 3]);
        }
    }
    vt_image_clear(&back, ctx);
    vt_image_clear(&image, ctx);
    assert_int_equal(unlink(path), 0);
}

static void failed_saves_leave_nothing(void **state)
{
    (void)state;
    static const uint8_t red[3] = {255, 0, 0};
    const vt_pixels pixel = {red, 1, 1, 3, VT_PIXELS_RGB};
    vt_error error = {0};
    assert_int_equal(vt_image_save_png(ctx, scratch("no/out.png"), &pixel, &error), VT_ERR_IO);
    assert_non_null(strstr(error.message, "no/out.png: cannot create"));
    assert_int_equal(mkdir(scratch("taken"), 0700), 0);
    assert_int_equal(vt_image_save_png(ctx, scratch("taken"), &pixel, &error), VT_ERR_IO);
    assert_int_equal(rmdir(scratch("taken")), 0);
    const vt_pixels none = {NULL, 1, 1, 3, VT_PIXELS_RGB}, empty = {red, 0, 1, 3, VT_PIXELS_RGB};
    assert_int_equal(vt_image_save_png(ctx, scratch("x"), &none, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_image_save_png(ctx, scratch("x"), &empty, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(files_in_scratch(), 0);
}

/* ---- overlays -------------------------------------------------------------------------------- */

enum { SIDE = 64 };

static int change_at(const vt_image *image, int x, int y)
{
    const uint8_t *p = image->data + 3 * (y * SIDE + x);
    return abs(p[0] - 128) + abs(p[1] - 128) + abs(p[2] - 128);
}

static void heat_maps(void **state)
{
    (void)state;
    static uint8_t grey[3 * SIDE * SIDE];
    vt_image image = {grey, SIDE, SIDE, 1};
    const float map[4] = {-5.0f, 1.0f, 0.0f, 7.0f}; /* the last cell is the hottest */
    const vt_region region = {8, 16, 40, 32};
    memset(grey, 128, sizeof grey);
    vt_image_overlay_heat(&image, map, 2, 2, &region);
    assert_int_equal(change_at(&image, 7, 20), 0); /* outside: untouched */
    assert_int_equal(change_at(&image, 48, 20), 0);
    assert_int_equal(change_at(&image, 20, 15), 0);
    assert_int_equal(change_at(&image, 20, 48), 0);
    assert_true(change_at(&image, 8, 16) > 0);
    assert_true(change_at(&image, 47, 47) > change_at(&image, 8, 16));
    const uint8_t *hot = grey + 3 * (47 * SIDE + 47), *cold = grey + 3 * (16 * SIDE + 8);
    assert_true(hot[0] > hot[2] && cold[2] > cold[0]); /* hot is yellow, cold is blue */

    /* Flat, not finite or wholly unusable maps do no harm. */
    const float flat[4] = {3, 3, 3, 3}, broken[4] = {NAN, INFINITY, -INFINITY, NAN};
    const vt_region beyond = {-1e300, -20, 2e300, 1e9}, nothing = {0, 0, 0, (double)NAN};
    memset(grey, 128, sizeof grey);
    vt_image_overlay_heat(&image, flat, 2, 2, NULL);
    assert_int_equal(change_at(&image, 0, 0), change_at(&image, SIDE - 1, SIDE - 1));
    vt_image_overlay_heat(&image, broken, 2, 2, &beyond);
    memset(grey, 128, sizeof grey);
    vt_image_overlay_heat(&image, map, 2, 2, &nothing);
    vt_image_overlay_heat(&image, map, 0, 2, NULL);
    vt_image_overlay_heat(&image, NULL, 2, 2, NULL);
    vt_image_overlay_heat(NULL, map, 2, 2, NULL);
    assert_int_equal(change_at(&image, 30, 30), 0);
    const float extremes[4] = {-3e38f, 3e38f, 0, NAN};
    vt_image_overlay_heat(&image, extremes, 4, 1, NULL);
    assert_true(change_at(&image, 24, 30) > change_at(&image, 4, 30));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_equal_pillow),
        cmocka_unit_test(exif_variants),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(lying_headers),
        cmocka_unit_test(png_bomb_and_damage),
        cmocka_unit_test(endless_scans),
        cmocka_unit_test(pixel_limit),
        cmocka_unit_test(unreadable_files),
        cmocka_unit_test(png_round_trip),
        cmocka_unit_test(failed_saves_leave_nothing),
        cmocka_unit_test(heat_maps),
    };
    return cmocka_run_group_tests_name("image", tests, set_up, tear_down);
}
