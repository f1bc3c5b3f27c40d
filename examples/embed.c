/* SPDX-License-Identifier: Apache-2.0 */
/* The library inside a C program: load a model, classify a picture.
 *   build/release/examples/embed swin_tiny_patch4_window7_224 swin_tiny.pth cat.jpg */
#include <stdio.h>
#include <stdlib.h>

#include <vertebra/image.h>
#include <vertebra/vertebra.h>

/* Pixels to the best class; the caller frees nothing. */
static vt_status classify(vt_context *context, const vt_model *model, vt_session *session,
                          const char *path, vt_class_score *best, vt_error *error)
{
    const vt_preprocess *p = vt_model_preprocess(model);
    vt_image image = {0};
    vt_tensor logits;
    float *tensor = malloc(3 * (size_t)p->height * (size_t)p->width * sizeof *tensor);
    vt_status status = tensor ? vt_image_load(&image, context, path, NULL, error)
                              : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        vt_pixels pixels = vt_image_pixels(&image);
        status = vt_preprocess_run(context, p, &pixels, tensor, error);
    }
    if (status == VT_OK) {
        vt_tensor in = vt_tensor_nchw(tensor, VT_F32, 1, 3, p->height, p->width);
        status = vt_session_forward(session, &in, error);
    }
    if (status == VT_OK) {
        status = vt_session_output(session, "logits", &logits, error);
    }
    if (status == VT_OK) {
        status = vt_classify_top(logits.data, (int)logits.c, 1, best, NULL, error);
    }
    vt_image_clear(&image, context);
    free(tensor);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL WEIGHTS PICTURE\n", argv[0]);
        return 2;
    }
    vt_error error = {0};
    vt_context *context = NULL;
    vt_model *model = NULL;
    vt_session *session = NULL;
    vt_class_score best;
    vt_status status = vt_context_create(&context, NULL, &error);
    if (status == VT_OK) {
        status = vt_model_load(&model, context, argv[1], argv[2], NULL, &error);
    }
    if (status == VT_OK) {
        status = vt_session_create(&session, model, NULL, &error);
    }
    if (status == VT_OK) {
        status = classify(context, model, session, argv[3], &best, &error);
    }
    if (status == VT_OK) {
        printf("class %d, %.1f %%\n", best.index, 100.0 * (double)best.probability);
    } else {
        fprintf(stderr, "%s\n", error.message);
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return status == VT_OK ? 0 : 1;
}
