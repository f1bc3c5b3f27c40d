/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/image.h"

vt_status vt_picture_files_load(void *files, int64_t i, float *out, vt_error *error)
{
    const vt_picture_files *f = files;
    vt_image image;
    vt_status status = vt_image_load(&image, f->context, f->paths[i], &f->image, error);
    if (status == VT_OK) {
        vt_pixels pixels = vt_image_pixels(&image);
        status = vt_preprocess_run(f->context, &f->preprocess, &pixels, out, error);
        if (status != VT_OK) {
            (void)vt_error_wrap(error, status, "%s", f->paths[i]);
        }
    }
    vt_image_clear(&image, f->context);
    return status;
}
