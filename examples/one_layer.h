/* SPDX-License-Identifier: Apache-2.0 */
/* What every example of a single layer needs: a backbone that is nothing but this layer, weights
 * made from a hash, a random map. Include it once, in a program of its own. */
#ifndef EXAMPLES_ONE_LAYER_H
#define EXAMPLES_ONE_LAYER_H

#include <stdio.h>
#include <stdlib.h>

#include <vertebra/vertebra.h>

enum { MAP_HEIGHT = 18, MAP_WIDTH = 25, MAP_CHANNELS = 48, MAP_PATCH = 4 };

/* A random map [1, 18, 25, 48]: the 4 x 4 patches of a random picture. */
static inline vt_value random_map(vt_builder *builder)
{
    return vt_op_space_to_depth(builder, vt_input(builder), MAP_PATCH);
}

/* Runs the layer that `bind` fills and `forward` records, and prints what it names `output`. */
static vt_status show(vt_session *session, const char *output, vt_error *error)
{
    enum { H = MAP_PATCH * MAP_HEIGHT, W = MAP_PATCH * MAP_WIDTH };
    static float picture[3 * H * W];
    vt_tensor in = vt_tensor_nchw(picture, VT_F32, 1, 3, H, W), out;
    vt_golden_picture(1, H, W, picture);
    vt_status status = vt_session_forward(session, &in, error);
    if (status == VT_OK) {
        status = vt_session_output(session, output, &out, error);
    }
    if (status == VT_OK) {
        const float *y = out.data;
        printf("%s is %d x %d x %d: %f %f %f ...\n", output, (int)out.h, (int)out.w, (int)out.c,
               (double)y[0], (double)y[1], (double)y[2]);
    }
    return status;
}

static int run_layer_output(vt_family *family, const char *output)
{
    static const vt_variant variant = {
        .name = "one_layer",
        .preprocess = {.height = 72, .width = 100, .crop_pct = 1.0, .std = {1, 1, 1}},
        .classes = 1,
        .checkpoint = "none",
        .license = "none"};
    vt_error error = {0};
    vt_context *context = NULL;
    vt_model *model = NULL;
    vt_session *session = NULL;
    vt_session_settings settings = {.outputs = &output, .output_count = 1};
    family->name = family->title = "one_layer";
    family->source = family->license = "examples";
    family->variants = &variant;
    family->variant_count = 1;
    vt_status status = vt_context_create(&context, NULL, &error);
    if (status == VT_OK) {
        status = vt_context_register(context, family, &error);
    }
    if (status == VT_OK) {
        status = vt_model_golden(&model, context, variant.name, 0, NULL, &error);
    }
    if (status == VT_OK) {
        status = vt_session_create(&session, model, &settings, &error);
    }
    if (status == VT_OK) {
        status = show(session, output, &error);
    }
    if (status != VT_OK) {
        fprintf(stderr, "%s\n", error.message);
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return status == VT_OK ? 0 : 1;
}

/* The same for a layer whose forward returns its output, which the example names "y". */
static inline int run_layer(vt_family *family)
{
    return run_layer_output(family, "y");
}

#endif
