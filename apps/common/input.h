/* SPDX-License-Identifier: Apache-2.0 */
/* What a network is fed: pictures, or one ready tensor. */
#ifndef APPS_COMMON_INPUT_H
#define APPS_COMMON_INPUT_H

#include "cli.h"
#include "vertebra/image.h"

typedef struct input_set {
    const char *npy_path; /* --input-npy, or NULL */
    vt_npy npy;           /* its content, [n,3,h,w] */
    char **paths;         /* pictures otherwise */
    int count;            /* of forward calls: pictures, or 1 */
    vt_image_settings image;
    vt_preprocess preprocess;
    float *tensor; /* [3,h,w] of the current picture */
} input_set;

/* Reads the tensor file, if there is one, before the model is built: its size may matter. Sets
 * options->height and width from it. */
int input_open(input_set *in, cli_options *options, vt_context *context, char **paths, int count);

/* The i-th input as a view that is valid until the next call. `picture` receives the decoded picture
 * (cleared by the caller; empty for a tensor). */
int input_get(input_set *in, const cli_options *options, vt_context *context, int i,
              vt_tensor *tensor, vt_image *picture);

void input_close(input_set *in, vt_context *context);

/* "apply" or "ignore". */
int input_exif_option(input_set *in, const cli_options *options, const char *argument);

#endif
