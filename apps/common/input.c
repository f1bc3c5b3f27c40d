/* SPDX-License-Identifier: Apache-2.0 */
#include "input.h"

#include <stdlib.h>
#include <string.h>

int input_exif_option(input_set *in, const cli_options *options, const char *argument)
{
    in->image.apply_exif = strcmp(argument, "apply") == 0;
    return in->image.apply_exif || strcmp(argument, "ignore") == 0
               ? CLI_OK
               : cli_usage(options, "--exif %s: want apply or ignore", argument);
}

int input_open(input_set *in, cli_options *options, vt_context *context, char **paths, int count)
{
    in->paths = paths;
    in->count = count;
    if (!in->npy_path) {
        return CLI_OK;
    }
    vt_error error = {0};
    if (vt_npy_read(context, in->npy_path, &in->npy, &error) != VT_OK) {
        return cli_fail(options, "%s", error.message);
    }
    const int64_t *s = in->npy.shape;
    if (in->npy.rank != 4 || s[1] != 3 || s[0] < 1 || s[2] < 1 || s[3] < 1 || s[2] > 1 << 20 ||
        s[3] > 1 << 20) {
        return cli_fail(options, "%s: want a tensor [n, 3, h, w]", in->npy_path);
    }
    in->count = 1;
    options->height = (int)s[2];
    options->width = (int)s[3];
    return CLI_OK;
}

int input_get(input_set *in, const cli_options *options, vt_context *context, int i,
              vt_tensor *tensor, vt_image *picture)
{
    *picture = (vt_image){0};
    if (in->npy_path) {
        const int64_t *s = in->npy.shape;
        *tensor = vt_tensor_nchw(in->npy.data, VT_F32, s[0], 3, s[2], s[3]);
        return CLI_OK;
    }
    vt_error error = {0};
    const vt_preprocess *p = &in->preprocess;
    size_t bytes = 3 * (size_t)p->height * (size_t)p->width * sizeof *in->tensor;
    if (!in->tensor && !(in->tensor = malloc(bytes))) {
        return cli_fail(options, "out of memory");
    }
    if (vt_image_load(picture, context, in->paths[i], &in->image, &error) != VT_OK) {
        return cli_fail(options, "%s", error.message);
    }
    vt_pixels pixels = vt_image_pixels(picture);
    if (vt_preprocess_run(context, p, &pixels, in->tensor, &error) != VT_OK) {
        vt_image_clear(picture, context);
        return cli_fail(options, "%s: %s", in->paths[i], error.message);
    }
    *tensor = vt_tensor_nchw(in->tensor, VT_F32, 1, 3, p->height, p->width);
    return CLI_OK;
}

void input_close(input_set *in, vt_context *context)
{
    vt_npy_clear(context, &in->npy);
    free(in->tensor);
    in->tensor = NULL;
}
