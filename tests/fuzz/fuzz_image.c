/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes must give an error or a picture that can be preprocessed and drawn on.
 *
 * Build with clang: -fsanitize=fuzzer,address,undefined and the library's sources; start with
 * tests/fixtures/pictures as corpus. test_image_bad replays damaged pictures through the same
 * entry, so it runs in every test run, too. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "vertebra/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void use(vt_context *context, vt_image *image)
{
    enum { SIDE = 24 };
    static const float map[4] = {0.0f, 1.0f, 0.5f, 0.25f};
    const vt_preprocess preprocess = {
        .height = SIDE, .width = SIDE, .crop_pct = 0.9, .std = {1.0f, 1.0f, 1.0f}};
    const vt_pixels pixels = vt_image_pixels(image);
    float out[3 * SIDE * SIDE];
    vt_region region;
    if (image->width < 1 || image->height < 1 || image->orientation < 1 || image->orientation > 8 ||
        vt_preprocess_run(context, &preprocess, &pixels, out, NULL) != VT_OK ||
        vt_preprocess_region(&preprocess, image->width, image->height, &region, NULL) != VT_OK) {
        abort();
    }
    vt_image_overlay_heat(image, map, 2, 2, &region);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.threads = 1;
    vt_context *context;
    if (vt_context_create(&context, &settings, NULL) != VT_OK) {
        return 0;
    }
    vt_image_settings limits = vt_image_settings_default();
    limits.max_pixels = 1 << 18; /* keeps every run short */
    vt_image image;
    vt_error error = {0};
    const vt_status status = vt_image_decode(&image, context, bytes, size, &limits, &error);
    if (status == VT_OK) {
        use(context, &image);
    } else if (image.data || error.message[0] == '\0') {
        abort();
    }
    vt_image_clear(&image, context);
    vt_context_destroy(&context);
    return 0;
}
