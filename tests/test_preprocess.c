/* SPDX-License-Identifier: Apache-2.0 */
/* Resizing and the evaluation transforms against Pillow, timm and torchvision, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/pictures.h"
#include "vertebra/preprocess.h"

static vt_context *ctx;

static int set_up(void **state)
{
    (void)state;
    return vt_context_create(&ctx, NULL, NULL) == VT_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    vt_context_destroy(&ctx);
    return 0;
}

static vt_filter filter_named(const char *name)
{
    for (int f = VT_FILTER_BICUBIC; f <= VT_FILTER_HAMMING; f++) {
        if (strcmp(vt_filter_name((vt_filter)f), name) == 0) {
            return (vt_filter)f;
        }
    }
    fail_msg("no filter is called '%s'", name);
    return VT_FILTER_BOX;
}

static vt_crop_mode mode_named(const char *name)
{
    for (int m = VT_CROP_CENTER; m <= VT_CROP_BORDER; m++) {
        if (strcmp(vt_crop_mode_name((vt_crop_mode)m), name) == 0) {
            return (vt_crop_mode)m;
        }
    }
    fail_msg("no crop mode is called '%s'", name);
    return VT_CROP_CENTER;
}

/* The same numbers on every machine. */
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void fill_random(uint8_t *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(next_random(&seed) >> 13);
    }
}

static vt_pixels dense(const uint8_t *data, int width, int height)
{
    return (vt_pixels){data, width, height, 3 * (ptrdiff_t)width, VT_PIXELS_RGB};
}

static vt_preprocess imagenet(int height, int width)
{
    return (vt_preprocess){.height = height,
                           .width = width,
                           .crop_pct = 0.875,
                           .mean = {0.485f, 0.456f, 0.406f},
                           .std = {0.229f, 0.224f, 0.225f}};
}

/* ---- against the reference implementations --------------------------------------------------- */

static void resizes_equal_pillow(void **state)
{
    (void)state;
    json_t *index = pictures_index();
    const json_t *cases = json_object_get(index, "resizes"), *c;
    size_t i;
    assert_true(json_array_size(cases) > 100);
    json_array_foreach(cases, i, c)
    {
        const int width = json_int(c, "out_w"), height = json_int(c, "out_h");
        vt_image image = picture_load(ctx, json_text(c, "picture"));
        const vt_pixels pixels = vt_image_pixels(&image);
        const size_t size = 3 * (size_t)width * (size_t)height;
        uint8_t *out = test_malloc(size);
        vt_error error = {0};
        assert_int_equal(vt_resize(ctx, &pixels, width, height,
                                   filter_named(json_text(c, "filter")), out, &error),
                         VT_OK);
        char hex[65];
        picture_digest(out, size, hex);
        if (strcmp(hex, json_text(c, "sha256")) != 0) {
            fail_msg("case %zu: %s to %d x %d, %s: other pixels than Pillow's", i,
                     json_text(c, "picture"), width, height, json_text(c, "filter"));
        }
        test_free(out);
        vt_image_clear(&image, ctx);
    }
    print_message("%zu resizes\n", json_array_size(cases));
    json_decref(index);
}

static vt_preprocess preprocess_of(const json_t *c)
{
    const bool timm = strcmp(json_text(c, "rule"), "timm") == 0;
    vt_preprocess p = {.height = json_int(c, "H"),
                       .width = json_int(c, "W"),
                       .filter = filter_named(json_text(c, "interpolation"))};
    if (timm) {
        p.crop_pct = json_number(c, "crop_pct");
        p.crop_mode = mode_named(json_text(c, "crop_mode"));
    } else {
        p.resize_shorter = json_int(c, "resize");
    }
    for (size_t k = 0; k < 3; k++) {
        p.mean[k] = (float)json_number_value(json_array_get(json_object_get(c, "mean"), k));
        p.std[k] = (float)json_number_value(json_array_get(json_object_get(c, "std"), k));
    }
    return p;
}

static void transforms_equal_timm(void **state)
{
    (void)state;
    json_t *index = pictures_index();
    const json_t *cases = json_object_get(index, "transforms"), *c;
    size_t i;
    assert_true(json_array_size(cases) > 20);
    json_array_foreach(cases, i, c)
    {
        const vt_preprocess p = preprocess_of(c);
        vt_image image = picture_load(ctx, json_text(c, "picture"));
        const vt_pixels pixels = vt_image_pixels(&image);
        const size_t count = 3 * (size_t)p.width * (size_t)p.height;
        float *out = test_malloc(count * sizeof *out);
        vt_error error = {0};
        if (vt_preprocess_run(ctx, &p, &pixels, out, &error) != VT_OK) {
            fail_msg("case %zu: %s", i, error.message);
        }
        char hex[65];
        picture_digest(out, count * sizeof *out, hex);
        if (strcmp(hex, json_text(c, "sha256")) != 0) {
            fail_msg("case %zu: %s, %s, %d x %d: other values than the reference's", i,
                     json_text(c, "picture"), json_text(c, "rule"), p.height, p.width);
        }
        test_free(out);
        vt_image_clear(&image, ctx);
    }
    print_message("%zu transforms\n", json_array_size(cases));
    json_decref(index);
}

/* ---- layouts --------------------------------------------------------------------------------- */

enum { W = 37, H = 53, OUT_W = 16, OUT_H = 24 };

/* One picture in four layouts must give the same result. */
static void any_stride_and_order(void **state)
{
    (void)state;
    enum { WIDE = 3 * W + 11 };
    static uint8_t rgb[H][3 * W], wide[H][WIDE], flipped[H][3 * W], bgr[H][3 * W];
    fill_random(&rgb[0][0], sizeof rgb, 7);
    memset(wide, 0xee, sizeof wide);
    for (int y = 0; y < H; y++) {
        memcpy(wide[y], rgb[y], sizeof rgb[y]);
        memcpy(flipped[H - 1 - y], rgb[y], sizeof rgb[y]);
        for (int x = 0; x < W; x++) {
            for (int c = 0; c < 3; c++) {
                bgr[y][3 * x + c] = rgb[y][3 * x + 2 - c];
            }
        }
    }
    const vt_pixels layouts[] = {{rgb[0], W, H, 3 * W, VT_PIXELS_RGB},
                                 {wide[0], W, H, WIDE, VT_PIXELS_RGB},
                                 {flipped[H - 1], W, H, -3 * W, VT_PIXELS_RGB},
                                 {bgr[0], W, H, 3 * W, VT_PIXELS_BGR}};
    const vt_preprocess p = imagenet(OUT_H, OUT_W);
    static float want[3 * OUT_H * OUT_W], got[3 * OUT_H * OUT_W];
    assert_int_equal(vt_preprocess_run(ctx, &p, &layouts[0], want, NULL), VT_OK);
    for (size_t i = 1; i < sizeof layouts / sizeof layouts[0]; i++) {
        memset(got, 0, sizeof got);
        assert_int_equal(vt_preprocess_run(ctx, &p, &layouts[i], got, NULL), VT_OK);
        assert_memory_equal(got, want, sizeof want);
    }
    uint8_t a[3 * 5 * 4], b[3 * 5 * 4];
    assert_int_equal(vt_resize(ctx, &layouts[0], 5, 4, VT_FILTER_LANCZOS, a, NULL), VT_OK);
    assert_int_equal(vt_resize(ctx, &layouts[3], 5, 4, VT_FILTER_LANCZOS, b, NULL), VT_OK);
    for (int i = 0; i < 5 * 4; i++) {
        assert_int_equal(a[3 * i], b[3 * i + 2]); /* vt_resize keeps the order of its input */
        assert_int_equal(a[3 * i + 1], b[3 * i + 1]);
    }
}

/* Nothing beyond the picture is read, nothing beyond the output written (the sanitizer watches the
 * first, guard bytes the second), and the number of threads changes no bit. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    vt_context_settings settings = vt_context_settings_default();
    vt_context *one = NULL, *five = NULL;
    settings.threads = 1;
    assert_int_equal(vt_context_create(&one, &settings, NULL), VT_OK);
    settings.threads = 5;
    assert_int_equal(vt_context_create(&five, &settings, NULL), VT_OK);
    const int width = 901, height = 703;
    uint8_t *in = test_malloc(3 * (size_t)width * (size_t)height);
    fill_random(in, 3 * (size_t)width * (size_t)height, 99);
    const vt_pixels pixels = dense(in, width, height);
    static const int sizes[][2] = {{1, 1}, {224, 224}, {901, 100}, {333, 703}, {1201, 907}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int w = sizes[i][0], h = sizes[i][1];
        const size_t size = 3 * (size_t)w * (size_t)h;
        uint8_t *a = test_malloc(size), *b = test_malloc(size + 16);
        memset(b + size, 0x5a, 16);
        for (int f = VT_FILTER_BICUBIC; f <= VT_FILTER_HAMMING; f++) {
            assert_int_equal(vt_resize(one, &pixels, w, h, (vt_filter)f, a, NULL), VT_OK);
            assert_int_equal(vt_resize(five, &pixels, w, h, (vt_filter)f, b, NULL), VT_OK);
            assert_memory_equal(a, b, size);
            for (int g = 0; g < 16; g++) {
                assert_int_equal(b[size + (size_t)g], 0x5a);
            }
        }
        test_free(a);
        test_free(b);
    }
    test_free(in);
    vt_context_destroy(&one);
    vt_context_destroy(&five);
}

/* ---- properties ------------------------------------------------------------------------------ */

static void constant_stays_constant(void **state)
{
    (void)state;
    static uint8_t in[3 * 61 * 47], out[3 * 130 * 130];
    static const int sizes[][2] = {{1, 1}, {9, 130}, {130, 9}, {61, 5}, {5, 47}, {130, 130}};
    static const uint8_t levels[] = {0, 1, 127, 128, 254, 255};
    for (size_t l = 0; l < sizeof levels; l++) {
        memset(in, levels[l], sizeof in);
        const vt_pixels pixels = dense(in, 61, 47);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            for (int f = VT_FILTER_BICUBIC; f <= VT_FILTER_HAMMING; f++) {
                const int w = sizes[i][0], h = sizes[i][1];
                assert_int_equal(vt_resize(ctx, &pixels, w, h, (vt_filter)f, out, NULL), VT_OK);
                for (int k = 0; k < 3 * w * h; k++) {
                    assert_int_equal(out[k], levels[l]);
                }
            }
        }
    }
}

/* Windows too long for the 16-bit path, along either axis: two halves of a box average. */
static void very_long_windows(void **state)
{
    (void)state;
    enum { LONG = 100000 };
    uint8_t *in = test_calloc(3 * LONG, 1), out[3 * 2];
    memset(in, 255, 3 * LONG / 4); /* the first quarter is white */
    vt_pixels row = dense(in, LONG, 1), column = dense(in, 1, LONG);
    assert_int_equal(vt_resize(ctx, &row, 2, 1, VT_FILTER_BOX, out, NULL), VT_OK);
    assert_in_range(out[0], 126, 129);
    assert_int_equal(out[3], 0);
    assert_int_equal(vt_resize(ctx, &column, 1, 2, VT_FILTER_BOX, out, NULL), VT_OK);
    assert_in_range(out[0], 126, 129);
    assert_int_equal(out[3], 0);
    test_free(in);
}

/* Without resizing, the values are exactly those of the formula and the offsets those of
 * "round half to even". */
static void crop_offsets_and_values(void **state)
{
    (void)state;
    static const int want[] = {0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 7, 8};
    enum { N = 16 };
    static uint8_t in[3 * (N + 15) * (N + 15)];
    static float out[3 * N * N];
    for (int d = 0; d <= 15; d++) {
        const int side = N + d;
        for (int y = 0; y < side; y++) {
            for (int x = 0; x < side; x++) {
                uint8_t *p = in + 3 * (y * side + x);
                p[0] = (uint8_t)x;
                p[1] = (uint8_t)y;
                p[2] = (uint8_t)(255 - x);
            }
        }
        vt_preprocess p = imagenet(N, N);
        p.resize_shorter = side;
        const vt_pixels pixels = dense(in, side, side);
        assert_int_equal(vt_preprocess_run(ctx, &p, &pixels, out, NULL), VT_OK);
        for (int y = 0; y < N; y++) {
            for (int x = 0; x < N; x++) {
                const int u[3] = {x + want[d], y + want[d], 255 - x - want[d]};
                for (int c = 0; c < 3; c++) {
                    const float scaled = (float)u[c] / 255.0f;
                    const float centred = scaled - p.mean[c];
                    const float expected = centred / p.std[c];
                    assert_memory_equal(&out[(c * N + y) * N + x], &expected, sizeof expected);
                }
            }
        }
        vt_region region;
        assert_int_equal(vt_preprocess_region(&p, side, side, &region, NULL), VT_OK);
        assert_true(region.x == want[d] && region.y == want[d]);
        assert_true(region.width == N && region.height == N);
    }
}

static void regions(void **state)
{
    (void)state;
    vt_region r;
    vt_preprocess p = imagenet(224, 224); /* shorter side to 256, so one unit is 2 pixels */
    assert_int_equal(vt_preprocess_region(&p, 1024, 512, &r, NULL), VT_OK);
    assert_true(r.x == 288 && r.y == 32 && r.width == 448 && r.height == 448);
    p.crop_mode = VT_CROP_SQUASH;
    assert_int_equal(vt_preprocess_region(&p, 1024, 512, &r, NULL), VT_OK);
    assert_true(r.x == 64 && r.y == 32 && r.width == 896 && r.height == 448);
    p.crop_mode = VT_CROP_BORDER;
    p.crop_pct = 1.0;
    assert_int_equal(vt_preprocess_region(&p, 448, 224, &r, NULL), VT_OK);
    assert_true(r.x == 0 && r.y == -112 && r.width == 448 && r.height == 448);
    p.crop_mode = VT_CROP_CENTER;
    p.resize_shorter = 112; /* smaller than the input: padded on all sides */
    assert_int_equal(vt_preprocess_region(&p, 112, 112, &r, NULL), VT_OK);
    assert_true(r.x == -56 && r.y == -56 && r.width == 224 && r.height == 224);
}

static void padding(void **state)
{
    (void)state;
    uint8_t in[3] = {10, 20, 30};
    float out[3 * 3 * 2];
    const vt_pixels pixels = dense(in, 1, 1);
    vt_preprocess p = {.height = 3, .width = 2, .resize_shorter = 1, .std = {1, 1, 1}};
    assert_int_equal(vt_preprocess_run(ctx, &p, &pixels, out, NULL), VT_OK);
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < 6; i++) { /* missing 1 column: all of it after; 2 rows: 1 each side */
            const float want = i == 2 ? (float)in[c] / 255.0f : 0.0f;
            assert_true(out[6 * c + i] == want);
        }
    }
}

/* A strip keeps a pixel of its thin side, and resizing computes no more than the window. */
static void extreme_strips(void **state)
{
    (void)state;
    enum { LONG = 65000 };
    uint8_t *in = test_malloc(3 * LONG);
    memset(in, 200, 3 * LONG);
    float *out = test_malloc(3 * 224 * 224 * sizeof *out);
    vt_preprocess p = imagenet(224, 224);
    const vt_pixels strips[] = {dense(in, LONG, 1), dense(in, 1, LONG)};
    for (int i = 0; i < 2; i++) {
        for (int mode = VT_CROP_CENTER; mode <= VT_CROP_BORDER; mode++) {
            p.crop_mode = (vt_crop_mode)mode;
            vt_error error = {0};
            if (vt_preprocess_run(ctx, &p, &strips[i], out, &error) != VT_OK) {
                fail_msg("%s", error.message);
            }
            /* 223 rows or columns may be missing: 111 before, 112 after */
            const float middle = out[111 * 224 + 111], level = 200.0f / 255.0f;
            assert_true(middle == (level - p.mean[0]) / p.std[0]);
        }
    }
    test_free(in);
    test_free(out);
}

/* ---- bad arguments --------------------------------------------------------------------------- */

static void expect_refusal(const vt_preprocess *p, const char *word)
{
    static uint8_t in[3 * 8 * 8];
    static float out[3 * 64];
    const vt_pixels pixels = dense(in, 8, 8);
    vt_error error = {0};
    vt_region region;
    assert_int_equal(vt_preprocess_run(ctx, p, &pixels, out, &error), VT_ERR_ARGUMENT);
    assert_non_null(strstr(error.message, word));
    assert_int_equal(vt_preprocess_region(p, 8, 8, &region, NULL), VT_ERR_ARGUMENT);
}

static void bad_settings_are_refused(void **state)
{
    (void)state;
    const vt_preprocess good = imagenet(8, 8);
    static const int sides[] = {0, -1, 65536, INT32_MIN};
    static const double percents[] = {0.0, -0.5, 1.0001, 1e300, (double)NAN, (double)INFINITY};
    static const float stds[] = {0.0f, -1.0f, NAN, INFINITY};
    vt_preprocess p;
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        p = good;
        p.width = sides[i];
        expect_refusal(&p, "input");
        p = good;
        p.height = sides[i];
        expect_refusal(&p, "input");
    }
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        p = good;
        p.crop_pct = percents[i];
        expect_refusal(&p, "crop_pct");
    }
    for (size_t i = 0; i < sizeof stds / sizeof stds[0]; i++) {
        p = good;
        p.std[i % 3] = stds[i];
        expect_refusal(&p, "std");
    }
    p = good;
    p.mean[2] = NAN;
    expect_refusal(&p, "mean[2]");
    p = good;
    p.crop_pct = 1e-300;
    expect_refusal(&p, "longest side");
    p = good;
    p.resize_shorter = -1;
    expect_refusal(&p, "resize_shorter");
    p.resize_shorter = 8;
    p.crop_mode = VT_CROP_SQUASH;
    expect_refusal(&p, "resize_shorter");
    p = good;
    p.crop_mode = (vt_crop_mode)3;
    expect_refusal(&p, "crop mode");
    p = good;
    p.filter = (vt_filter)-1;
    expect_refusal(&p, "filter");
}

static void bad_pixels_are_refused(void **state)
{
    (void)state;
    static uint8_t in[3 * 8 * 8], out[3 * 64];
    static float floats[3 * 64];
    const vt_pixels good = dense(in, 8, 8);
    vt_pixels bad[7];
    for (int i = 0; i < 7; i++) {
        bad[i] = good;
    }
    bad[0].data = NULL;
    bad[1].width = 0;
    bad[2].height = -3;
    bad[3].stride = 23;
    bad[4].stride = -23;
    bad[5].format = (vt_pixel_format)2;
    bad[6].width = INT32_MAX;
    const vt_preprocess p = imagenet(8, 8);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(vt_resize(ctx, &bad[i], 4, 4, VT_FILTER_BOX, out, NULL), VT_ERR_ARGUMENT);
        assert_int_equal(vt_preprocess_run(ctx, &p, &bad[i], floats, NULL), VT_ERR_ARGUMENT);
    }
    assert_int_equal(vt_resize(ctx, &good, 0, 4, VT_FILTER_BOX, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_resize(ctx, &good, 4, -1, VT_FILTER_BOX, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_resize(ctx, &good, INT32_MAX, 4, VT_FILTER_BOX, out, NULL),
                     VT_ERR_ARGUMENT);
    assert_int_equal(vt_resize(ctx, &good, 4, 4, (vt_filter)5, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_resize(ctx, &good, 4, 4, VT_FILTER_BOX, NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_resize(NULL, &good, 4, 4, VT_FILTER_BOX, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_preprocess_run(ctx, NULL, &good, floats, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_preprocess_region(&p, 0, 8, &(vt_region){0}, NULL), VT_ERR_ARGUMENT);
    assert_string_equal(vt_filter_name((vt_filter)99), "unknown");
    assert_string_equal(vt_crop_mode_name((vt_crop_mode)-1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resizes_equal_pillow),
        cmocka_unit_test(transforms_equal_timm),
        cmocka_unit_test(any_stride_and_order),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(constant_stays_constant),
        cmocka_unit_test(very_long_windows),
        cmocka_unit_test(crop_offsets_and_values),
        cmocka_unit_test(regions),
        cmocka_unit_test(padding),
        cmocka_unit_test(extreme_strips),
        cmocka_unit_test(bad_settings_are_refused),
        cmocka_unit_test(bad_pixels_are_refused),
    };
    return cmocka_run_group_tests_name("preprocess", tests, set_up, tear_down);
}
