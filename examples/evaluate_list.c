/* SPDX-License-Identifier: Apache-2.0 */
/* Many pictures through a network, decoded by other threads, one record each:
 *   build/release/examples/evaluate_list MODEL WEIGHTS CLASS PICTURE [CLASS PICTURE ...] */
#include <stdio.h>
#include <stdlib.h>

#include <vertebra/image.h>
#include <vertebra/vertebra.h>

static void on_failed(void *user, int64_t i, const vt_error *error)
{
    (void)user;
    fprintf(stderr, "picture %lld: %s\n", (long long)i, error->message);
}

static void print(const vt_model *model, const vt_evaluate_record *records, int64_t count,
                  const char *const *paths)
{
    int class_count = vt_model_classes(model);
    vt_evaluate_class *classes = calloc((size_t)class_count, sizeof *classes);
    vt_evaluate_figures figures;
    for (int64_t i = 0; i < count; i++) {
        if (records[i].status == VT_OK) {
            printf("%s: class %d, %.3f; the right one stands at %d\n", paths[i],
                   records[i].top[0].index, (double)records[i].top[0].probability,
                   records[i].rank + 1);
        }
    }
    if (classes) {
        vt_evaluate_summarise(records, count, classes, class_count, &figures);
        printf("%lld of %lld right, loss %.4f\n", (long long)figures.top1,
               (long long)figures.pictures, figures.loss);
    }
    free(classes);
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc % 2 == 0) {
        fprintf(stderr, "usage: %s MODEL WEIGHTS CLASS PICTURE [CLASS PICTURE ...]\n", argv[0]);
        return 2;
    }
    int64_t count = (argc - 3) / 2;
    int *labels = calloc((size_t)count, sizeof *labels);
    const char **paths = calloc((size_t)count, sizeof *paths);
    vt_evaluate_record *records = calloc((size_t)count, sizeof *records);
    for (int64_t i = 0; labels && paths && i < count; i++) {
        labels[i] = atoi(argv[3 + 2 * i]);
        paths[i] = argv[4 + 2 * i];
    }
    vt_error error = {0};
    vt_context *context = NULL, *decoder = NULL;
    vt_model *model = NULL;
    vt_context_settings one = vt_context_settings_default();
    one.threads = 1;
    vt_status status = labels && paths && records
                           ? vt_context_create(&context, NULL, &error)
                           : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        status = vt_context_create(&decoder, &one, &error);
    }
    if (status == VT_OK) {
        status = vt_model_load(&model, context, argv[1], argv[2], NULL, &error);
    }
    if (status == VT_OK) {
        const vt_preprocess *p = vt_model_preprocess(model);
        const vt_model *const models[] = {model}; /* one for each GPU */
        vt_picture_files files = {decoder, paths, *p, vt_image_settings_default()};
        const vt_evaluate_source source = {.count = count,
                                           .labels = labels,
                                           .load = vt_picture_files_load,
                                           .user = &files,
                                           .height = p->height,
                                           .width = p->width};
        const vt_evaluate_settings settings = {.workers = 2, .failed = on_failed};
        status = vt_evaluate(models, 1, &source, &settings, records, NULL, &error);
    }
    if (status == VT_OK) {
        print(model, records, count, paths);
    } else {
        fprintf(stderr, "%s\n", error.message);
    }
    vt_model_destroy(&model);
    vt_context_destroy(&decoder);
    vt_context_destroy(&context);
    free(labels);
    free(paths);
    free(records);
    return status == VT_OK ? 0 : 1;
}
