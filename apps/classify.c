/* SPDX-License-Identifier: Apache-2.0 */
/* classify: what is in a picture. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/input.h"
#include "common/labels.h"

static const char help[] =
    "Usage: classify [options] PICTURE...\n"
    "Says what is in each picture: the best classes with their probabilities.\n\n"
    "  classify cat.jpg\n"
    "  classify --model swin_tiny_patch4_window7_224 --weights swin_tiny.pth --topk 3 *.jpg\n\n"
    "  -k, --topk K           how many classes to print (default 5)\n"
    "  -l, --labels FILE      class names, one a line; default: those the weights carry,\n"
    "                         or ImageNet's for its 1000 classes\n"
    "      --cam OUT.png      also draw where the best class was seen (one picture)\n"
    "      --logits OUT.npy   write all logits, float32 [pictures, classes]\n"
    "      --dump-input OUT.npy  write the tensor that enters the network\n"
    "      --print-preproc    print the evaluation transform\n"
    "      --check-range      on NaN or infinity, say in which block it first appears\n";

typedef struct state {
    app app;
    const char *labels_path, *cam, *logits_path, *dump_path;
    int topk;
    bool print_preproc, check_range;
    labels names;
    float *logits, *inputs; /* of all pictures, for the .npy files */
    int64_t rows, input_rows;
} state;

static int take_option(state *s, int opt)
{
    switch (opt) {
    case 'k':
        return cli_number(optarg, 1, 1000000, &s->topk)
                   ? CLI_OK
                   : cli_usage(&s->app.options, "--topk %s: want a number from 1 on", optarg);
    case 'l': s->labels_path = optarg; return CLI_OK;
    case 'c': return cli_output_path(&s->app.options, "cam", optarg, &s->cam);
    case 'L': return cli_output_path(&s->app.options, "logits", optarg, &s->logits_path);
    case 'U': return cli_output_path(&s->app.options, "dump-input", optarg, &s->dump_path);
    case 'P': s->print_preproc = true; return CLI_OK;
    case 'F': s->check_range = true; return CLI_OK;
    default: return app_option(&s->app, opt, optarg, help);
    }
}

static int parse(state *s, int argc, char **argv)
{
    static const struct option table[] = {APP_OPTIONS,
                                          {"topk", required_argument, NULL, 'k'},
                                          {"labels", required_argument, NULL, 'l'},
                                          {"cam", required_argument, NULL, 'c'},
                                          {"logits", required_argument, NULL, 'L'},
                                          {"dump-input", required_argument, NULL, 'U'},
                                          {"print-preproc", no_argument, NULL, 'P'},
                                          {"check-range", no_argument, NULL, 'F'},
                                          {0}};
    int opt;
    while ((opt = getopt_long(argc, argv, CLI_SHORT_OPTIONS "k:l:", table, NULL)) != -1) {
        int result = take_option(s, opt);
        if (result != CLI_OK) {
            return result;
        }
    }
    int pictures = argc - optind;
    if (s->app.in.npy_path && pictures) {
        return cli_usage(&s->app.options, "give pictures or --input-npy, not both");
    }
    if (!s->app.in.npy_path && !pictures && !s->print_preproc) {
        return cli_usage(&s->app.options, "no picture given");
    }
    if (s->cam && pictures != 1) {
        return cli_usage(&s->app.options, "--cam draws on exactly one picture");
    }
    return CLI_OK;
}

static void print_preprocess(const state *s)
{
    const vt_preprocess *p = &s->app.in.preprocess;
    printf("input %dx%d (height x width), crop_pct %g, mode %s, filter %s\n", p->height, p->width,
           p->crop_pct, vt_crop_mode_name(p->crop_mode), vt_filter_name(p->filter));
    printf("mean %g %g %g, std %g %g %g, exif %s\n", (double)p->mean[0], (double)p->mean[1],
           (double)p->mean[2], (double)p->std[0], (double)p->std[1], (double)p->std[2],
           s->app.in.image.apply_exif ? "apply" : "ignore");
}

static int draw_cam(const state *s, vt_image *picture, int best)
{
    vt_error error = {0};
    vt_tensor cam;
    vt_region region;
    vt_status status = vt_session_output(s->app.session, "cam", &cam, &error);
    float *map = malloc((size_t)(cam.h * cam.w) * sizeof *map);
    if (status != VT_OK || !map) {
        free(map);
        return cli_fail(&s->app.options, "%s", status != VT_OK ? error.message : "out of memory");
    }
    for (int64_t i = 0; i < cam.h * cam.w; i++) {
        map[i] = ((const float *)cam.data)[i * cam.c + best];
    }
    status = vt_preprocess_region(&s->app.in.preprocess, picture->width, picture->height, &region,
                                  &error);
    if (status == VT_OK) {
        vt_image_overlay_heat(picture, map, (int)cam.w, (int)cam.h, &region);
        vt_pixels pixels = vt_image_pixels(picture);
        status = vt_image_save_png(s->app.context, s->cam, &pixels, &error);
    }
    free(map);
    return status == VT_OK ? CLI_OK : cli_fail(&s->app.options, "%s", error.message);
}

static void print_json(const state *s, const char *name, const vt_class_score *top, int count)
{
    json_t *classes = json_array(), *line = json_object();
    for (int k = 0; k < count; k++) {
        char buffer[32];
        json_t *c = json_object();
        json_object_set_new(c, "index", json_integer(top[k].index));
        const char *label = label_of(&s->names, s->app.model, top[k].index, buffer);
        json_object_set_new(c, "label", cli_json_text(label));
        json_object_set_new(c, "probability", json_real((double)top[k].probability));
        json_object_set_new(c, "logit", json_real((double)top[k].logit));
        json_array_append_new(classes, c);
    }
    json_object_set_new(line, "picture", cli_json_text(name));
    json_object_set_new(line, "model", json_string(vt_model_variant(s->app.model)->name));
    json_object_set_new(line, "top", classes);
    json_dumpf(line, stdout, JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(line);
}

static void print_text(const state *s, const char *name, const vt_class_score *top, int count)
{
    cli_print_text(name);
    putchar('\n');
    for (int k = 0; k < count; k++) {
        char buffer[32];
        printf("  %6.2f %%  ", 100.0 * (double)top[k].probability);
        cli_print_text(label_of(&s->names, s->app.model, top[k].index, buffer));
        putchar('\n');
    }
}

/* Prints every row of logits; *best receives the best class of the last one. */
static int report(const state *s, const char *name, const vt_tensor *logits, int *best)
{
    int classes = (int)logits->c, count = s->topk < classes ? s->topk : classes;
    vt_class_score *top = calloc((size_t)count, sizeof *top);
    vt_error error = {0};
    for (int64_t n = 0; top && n < logits->n; n++) {
        char row[1200];
        snprintf(row, sizeof row, logits->n > 1 ? "%s[%lld]" : "%s", name, (long long)n);
        const float *values = (const float *)logits->data + n * classes;
        if (vt_classify_top(values, classes, count, top, NULL, &error) != VT_OK) {
            free(top);
            return cli_fail(&s->app.options, "%s: %s", row, error.message);
        }
        *best = top[0].index;
        (s->app.options.json ? print_json : print_text)(s, row, top, count);
    }
    free(top);
    return top ? CLI_OK : cli_fail(&s->app.options, "out of memory");
}

/* Appends `count` rows of `width` floats to a growing block. */
static int keep_rows(const state *s, float **block, int64_t *rows, int64_t count, int64_t width,
                     const float *data)
{
    float *grown = realloc(*block, (size_t)((*rows + count) * width) * sizeof *grown);
    if (!grown) {
        return cli_fail(&s->app.options, "out of memory");
    }
    memcpy(grown + *rows * width, data, (size_t)(count * width) * sizeof *grown);
    *block = grown;
    *rows += count;
    return CLI_OK;
}

static int classify_one(state *s, int i)
{
    vt_tensor input, logits;
    vt_image picture;
    vt_error error = {0};
    int best = 0,
        result = input_get(&s->app.in, &s->app.options, s->app.context, i, &input, &picture);
    if (result != CLI_OK) {
        return result;
    }
    const char *name = s->app.in.npy_path ? s->app.in.npy_path : s->app.in.paths[i];
    vt_status status = vt_session_forward(s->app.session, &input, &error);
    if (status == VT_OK) {
        status = vt_session_output(s->app.session, "logits", &logits, &error);
    }
    if (status != VT_OK) {
        result = cli_fail(&s->app.options, "%s: %s", name, error.message);
    }
    if (result == CLI_OK && s->logits_path) {
        result = keep_rows(s, &s->logits, &s->rows, logits.n, logits.c, logits.data);
    }
    if (result == CLI_OK && s->dump_path) {
        result =
            keep_rows(s, &s->inputs, &s->input_rows, input.n, 3 * input.h * input.w, input.data);
    }
    if (result == CLI_OK) {
        result = report(s, name, &logits, &best);
    }
    if (result == CLI_OK && s->cam) {
        result = draw_cam(s, &picture, best);
    }
    vt_image_clear(&picture, s->app.context);
    return result;
}

static int write_files(const state *s)
{
    vt_error error = {0};
    int64_t logits_shape[] = {s->rows, vt_model_classes(s->app.model)};
    const vt_preprocess *p = &s->app.in.preprocess;
    int64_t input_shape[] = {s->input_rows, 3, p->height, p->width};
    if (s->logits_path && s->rows &&
        vt_npy_write_f32(s->app.context, s->logits_path, s->logits, 2, logits_shape, &error)) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    if (s->dump_path && s->input_rows &&
        vt_npy_write_f32(s->app.context, s->dump_path, s->inputs, 4, input_shape, &error)) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    return CLI_OK;
}

static int run(state *s)
{
    vt_error error = {0};
    int classes = vt_model_classes(s->app.model);
    if (classes == 0) {
        return cli_fail(&s->app.options, "these weights have no classification head; try features");
    }
    if (labels_open(&s->names, s->labels_path, s->app.model, &error) != VT_OK) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    const char *const outputs[] = {"logits", "cam"};
    vt_session_settings settings = {
        .outputs = outputs, .output_count = s->cam ? 2 : 1, .check_range = s->check_range};
    if (vt_session_create(&s->app.session, s->app.model, &settings, &error) != VT_OK) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    int result = CLI_OK;
    for (int i = 0; i < s->app.in.count && !cli_interrupted(); i++) {
        int one = classify_one(s, i); /* one bad picture does not stop the others */
        result = one != CLI_OK ? one : result;
    }
    if (cli_interrupted()) {
        return CLI_FAILED;
    }
    int wrote = write_files(s);
    return result != CLI_OK ? result : wrote;
}

int main(int argc, char **argv)
{
    state s = {.topk = 5};
    app_init(&s.app, argv[0]);
    int result = parse(&s, argc, argv);
    if (result == CLI_OK) {
        result = app_open(&s.app, argv + optind, argc - optind);
    }
    if (result == CLI_OK && s.print_preproc) {
        print_preprocess(&s);
    }
    if (result == CLI_OK && s.app.in.count) {
        result = run(&s);
    }
    labels_clear(&s.names);
    free(s.logits);
    free(s.inputs);
    return app_close(&s.app, result);
}
