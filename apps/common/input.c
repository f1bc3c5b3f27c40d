/* SPDX-License-Identifier: Apache-2.0 */
#include "input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int exif_option(input_set *in, const cli_options *options, const char *argument)
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

void app_init(app *a, const char *program)
{
    *a = (app){.in.image = vt_image_settings_default()};
    cli_init(&a->options, program);
}

int app_option(app *a, int opt, const char *argument, const char *help)
{
    switch (opt) {
    case 'N': a->in.npy_path = argument; return CLI_OK;
    case 'X': return exif_option(&a->in, &a->options, argument);
    case 'h':
        printf("%s%s\n%s", help, APP_HELP, CLI_COMMON_HELP);
        exit(cli_finish(&a->options, CLI_OK));
    default: return cli_common_option(&a->options, opt, argument);
    }
}

int app_open(app *a, char **paths, int count)
{
    int result = cli_open_context(&a->options, &a->context);
    if (result == CLI_OK) {
        result = input_open(&a->in, &a->options, a->context, paths, count);
    }
    if (result == CLI_OK) {
        result = cli_open_model(&a->options, a->context, &a->model);
    }
    if (result == CLI_OK) {
        a->in.preprocess = cli_preprocess(&a->options, a->model);
    }
    return result;
}

int app_close(app *a, int result)
{
    vt_session_destroy(&a->session);
    vt_model_destroy(&a->model);
    if (a->context) {
        input_close(&a->in, a->context);
    }
    vt_context_destroy(&a->context);
    return cli_finish(&a->options, result);
}
