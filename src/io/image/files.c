/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/image.h"

vt_status vt_picture_files_decode(void *files, int64_t i, vt_pixels *pixels, vt_error *error)
{
    const vt_picture_files *f = files;
    vt_image image;
    vt_status status = vt_image_load(&image, f->context, f->paths[i], &f->image, error);
    *pixels = status == VT_OK ? vt_image_pixels(&image) : (vt_pixels){0};
    return status;
}

void vt_picture_files_release(void *files, vt_pixels *pixels)
{
    const vt_picture_files *f = files;
    vt_image image = {.data = (uint8_t *)(size_t)pixels->data}; /* as it was decoded */
    vt_image_clear(&image, f->context);
}

vt_status vt_picture_files_load(void *files, int64_t i, float *out, vt_error *error)
{
    const vt_picture_files *f = files;
    vt_pixels pixels;
    vt_status status = vt_picture_files_decode(files, i, &pixels, error);
    if (status == VT_OK) {
        status = vt_preprocess_run(f->context, &f->preprocess, &pixels, out, error);
        if (status != VT_OK) {
            (void)vt_error_wrap(error, status, "%s", f->paths[i]);
        }
        vt_picture_files_release(files, &pixels);
    }
    return status;
}
