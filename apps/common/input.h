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

/* The i-th input as a view that is valid until the next call. `picture` receives the decoded
 * picture (cleared by the caller; empty for a tensor). */
int input_get(input_set *in, const cli_options *options, vt_context *context, int i,
              vt_tensor *tensor, vt_image *picture);

void input_close(input_set *in, vt_context *context);

/* A program that feeds pictures to a model. Zero-initialise, then app_init. */
typedef struct app {
    cli_options options;
    input_set in;
    vt_context *context;
    vt_model *model;
    vt_session *session;
} app;

/* clang-format off */
#define APP_OPTIONS                                                                                \
    CLI_COMMON_OPTIONS, {"input-npy", required_argument, NULL, 'N'},                               \
    {"exif", required_argument, NULL, 'X'}
/* clang-format on */
#define APP_HELP                                                                                   \
    "      --input-npy IN.npy a ready float32 tensor [n, 3, h, w] instead of a picture\n"          \
    "      --exif apply|ignore   turn photos as their EXIF orientation says (default apply)\n"

void app_init(app *a, const char *program);

/* Takes one option of APP_OPTIONS, as cli_common_option does; `help` is printed for --help. */
int app_option(app *a, int opt, const char *argument, const char *help);

/* Opens context, inputs and model, in this order. */
int app_open(app *a, char **paths, int count);

/* Frees everything; returns the exit code. */
int app_close(app *a, int result);

#endif
