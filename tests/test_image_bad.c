/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged pictures and failing allocations: an error or a valid picture, never a crash or a leak.
 * Worth most in a build with SANITIZE=1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The fuzz target's entry is the driver of this test: one definition of what must hold. */
#include "fuzz/fuzz_image.c"
#include "support/pictures.h"

typedef void (*visit_fn)(const char *name, const uint8_t *bytes, size_t size);

static void each_picture(visit_fn visit)
{
    json_t *index = pictures_index();
    const json_t *pictures = json_object_get(index, "pictures"), *p;
    size_t i;
    json_array_foreach(pictures, i, p)
    {
        char path[512];
        size_t size;
        picture_path(json_text(p, "file"), path, sizeof path);
        uint8_t *bytes = picture_bytes(path, &size);
        visit(json_text(p, "file"), bytes, size);
        test_free(bytes);
    }
    json_decref(index);
}

/* A copy of exactly `size` bytes, so that the sanitizer sees a read beyond them. */
static void run_exact(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t runs;

/* ---- cut short ------------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    return strlen(name) > strlen(end) && strcmp(name + strlen(name) - strlen(end), end) == 0;
}

/* PNG and JPEG have an end mark: without it they are not whole, wherever they stop. */
static void must_fail(const char *name, const uint8_t *bytes, size_t size)
{
    vt_context *context;
    vt_image image;
    assert_int_equal(vt_context_create(&context, NULL, NULL), VT_OK);
    if (vt_image_decode(&image, context, bytes, size, NULL, NULL) == VT_OK) {
        fail_msg("%s: %zu bytes of it are taken for a whole picture", name, size);
    }
    vt_context_destroy(&context);
}

static void cut(const char *name, const uint8_t *bytes, size_t size)
{
    const size_t step = size < 1000 ? 1 : size / 300;
    const bool strict = ends_with(name, ".png") || ends_with(name, ".jpg");
    for (size_t n = 0; n < size; n += step, runs++) {
        run_exact(bytes, n);
        if (strict && n % 7 == 0) {
            must_fail(name, bytes, n);
        }
    }
    if (strict) {
        must_fail(name, bytes, size - 1);
    }
}

static void truncated(void **state)
{
    (void)state;
    runs = 0;
    each_picture(cut);
    print_message("%zu truncations\n", runs);
}

/* ---- changed --------------------------------------------------------------------------------- */

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Changes near the front, where the headers are, are four times as likely as elsewhere. */
static size_t random_place(uint32_t *seed, size_t size)
{
    const size_t front = size < 128 ? size : 128;
    return next_random(seed) % 5 ? next_random(seed) % front : next_random(seed) % size;
}

static void change(const char *name, const uint8_t *bytes, size_t size)
{
    static const uint8_t evil[] = {0x00, 0xff, 0x7f, 0x80, 0x01, 0xfe};
    enum { ROUNDS = 150 };
    uint32_t seed = 0x9e3779b9;
    for (const char *c = name; *c; c++) {
        seed = seed * 31 + (uint8_t)*c;
    }
    uint8_t *copy = test_malloc(size);
    for (int i = 0; i < (size > 20000 ? ROUNDS / 10 : ROUNDS); i++, runs++) {
        memcpy(copy, bytes, size);
        for (uint32_t n = 1 + next_random(&seed) % 3; n > 0; n--) {
            uint8_t *byte = copy + random_place(&seed, size);
            if (next_random(&seed) & 1) {
                *byte ^= (uint8_t)(1 << next_random(&seed) % 8);
            } else {
                *byte = evil[next_random(&seed) % sizeof evil];
            }
        }
        run_exact(copy, size);
    }
    test_free(copy);
}

static void changed(void **state)
{
    (void)state;
    runs = 0;
    each_picture(change);
    print_message("%zu changed pictures\n", runs);
}

/* libpng refuses most changes by their check sums; with those put right the changes get further. */
static uint32_t crc32_of(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        }
    }
    return ~crc;
}

static void mend_check_sums(uint8_t *bytes, size_t size)
{
    for (size_t at = 8; at + 12 <= size;) {
        const uint8_t *p = bytes + at;
        const size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (length > size - at - 12) {
            return;
        }
        const uint32_t crc = crc32_of(p + 4, length + 4);
        for (size_t k = 0; k < 4; k++) {
            bytes[at + 8 + length + k] = (uint8_t)(crc >> (24 - 8 * k));
        }
        at += 12 + length;
    }
}

static void change_png(const char *name, const uint8_t *bytes, size_t size)
{
    if (!ends_with(name, ".png") || size > 20000) {
        return;
    }
    uint32_t seed = 12345;
    uint8_t *copy = test_malloc(size);
    for (int i = 0; i < 150; i++, runs++) {
        memcpy(copy, bytes, size);
        for (uint32_t n = 1 + next_random(&seed) % 3; n > 0; n--) {
            copy[random_place(&seed, size)] = (uint8_t)next_random(&seed);
        }
        mend_check_sums(copy, size);
        run_exact(copy, size);
    }
    test_free(copy);
}

static void changed_with_right_check_sums(void **state)
{
    (void)state;
    runs = 0;
    each_picture(change_png);
    print_message("%zu changed PNG pictures\n", runs);
}

/* ---- noise ----------------------------------------------------------------------------------- */

static void noise_behind_magic(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } starts[] = {
        {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16},
        {"\xff\xd8\xff", 3},
        {"\xff\xd8\xff\xe1\0\x40"
         "Exif\0",
         12},
        {"BM", 2},
        {"P1\n", 3},
        {"P2 4 4 255 ", 11},
        {"P4 9 9 ", 7},
        {"P5 4 4 255 ", 11},
        {"P6", 2},
        {"", 0},
    };
    uint32_t seed = 2463534242u;
    uint8_t bytes[256];
    for (size_t s = 0; s < sizeof starts / sizeof starts[0]; s++) {
        for (int i = 0; i < 200; i++) {
            memcpy(bytes, starts[s].bytes, starts[s].size);
            const size_t size = starts[s].size + next_random(&seed) % (sizeof bytes - 32);
            for (size_t k = starts[s].size; k < size; k++) {
                const uint32_t r = next_random(&seed);
                bytes[k] = i % 2 ? (uint8_t)r : (uint8_t) "0123456789 \n#0"[r % 14];
            }
            run_exact(bytes, size);
        }
    }
}

/* ---- failing allocations --------------------------------------------------------------------- */

/* An allocator whose k-th call fails. */
typedef struct ration {
    long left; /* allocations that still succeed; negative: no limit */
    long live; /* blocks given out and not freed */
    bool refused;
} ration;

static void *ration_alloc(void *user, size_t size, size_t alignment)
{
    ration *r = user;
    if (r->left == 0) {
        r->refused = true;
        return NULL;
    }
    void *p = NULL;
    if (posix_memalign(&p, alignment, size) != 0) {
        return NULL;
    }
    r->left -= r->left > 0;
    r->live++;
    return p;
}

static void ration_free(void *user, void *pointer)
{
    ration *r = user;
    r->live -= pointer != NULL;
    free(pointer);
}

/* Load, preprocess (both passes of the resize), save. */
static vt_status whole_journey(vt_context *context, const char *in, const char *out,
                               vt_error *error)
{
    enum { SIDE = 13 };
    static float values[3 * SIDE * SIDE];
    const vt_preprocess preprocess = {
        .height = SIDE, .width = SIDE, .crop_pct = 0.9, .std = {1.0f, 1.0f, 1.0f}};
    vt_image image;
    vt_status status = vt_image_load(&image, context, in, NULL, error);
    const vt_pixels pixels = vt_image_pixels(&image);
    if (status == VT_OK) {
        status = vt_preprocess_run(context, &preprocess, &pixels, values, error);
    }
    if (status == VT_OK) {
        status = vt_image_save_png(context, out, &pixels, error);
    }
    vt_image_clear(&image, context);
    return status;
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    static const char *const names[] = {"png_rgb.png",
                                        "png_palette_alpha.png",
                                        "png_interlaced_rgb.png",
                                        "png_exif_6.png",
                                        "jpeg_420.jpg",
                                        "jpeg_cmyk.jpg",
                                        "exif_6.jpg",
                                        "jpeg_grey_progressive.jpg",
                                        "bmp_8_palette.bmp",
                                        "bmp_32.bmp",
                                        "ppm_plain.ppm",
                                        "pbm.pbm"};
    char out[] = "/tmp/vertebra-test-XXXXXX";
    const int fd = mkstemp(out);
    assert_true(fd >= 0);
    close(fd);
    ration r = {.left = -1};
    vt_context_settings settings = vt_context_settings_default();
    settings.allocator = (vt_allocator){ration_alloc, ration_free, &r};
    settings.threads = 2;
    vt_context *context;
    assert_int_equal(vt_context_create(&context, &settings, NULL), VT_OK);
    const long before = r.live;
    long total = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char in[512];
        picture_path(names[i], in, sizeof in);
        for (long k = 0;; k++, total++) {
            vt_error error = {0};
            assert_int_equal(unlink(out), 0);
            r.left = k;
            r.refused = false;
            const vt_status status = whole_journey(context, in, out, &error);
            assert_int_equal(r.live, before);
            if (status == VT_OK) {
                assert_false(r.refused); /* no success in spite of a refusal */
                assert_int_equal(access(out, F_OK), 0);
                break;
            }
            if (status != VT_ERR_MEMORY || error.message[0] == '\0') {
                fail_msg("%s: allocation %ld fails: %s (%s)", names[i], k, vt_status_name(status),
                         error.message);
            }
            assert_int_equal(access(out, F_OK), -1); /* no file rather than half a file */
            assert_true(k < 1000);
            FILE *file = fopen(out, "wb");
            assert_non_null(file);
            fclose(file);
        }
    }
    r.left = -1;
    vt_context_destroy(&context);
    assert_int_equal(r.live, 0);
    assert_int_equal(unlink(out), 0);
    print_message("%ld failed allocations\n", total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated),
        cmocka_unit_test(changed),
        cmocka_unit_test(changed_with_right_check_sums),
        cmocka_unit_test(noise_behind_magic),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests_name("image_bad", tests, NULL, NULL);
}
