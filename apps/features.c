/* SPDX-License-Identifier: Apache-2.0 */
/* features: the maps of each stage and the pooled embedding, as .npy files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/input.h"

static const char help[] =
    "Usage: features [options] --out PREFIX PICTURE\n"
    "Writes what the stages of a backbone see in a picture: PREFIX.C2.npy (stride 4) ...\n"
    "PREFIX.C5.npy (stride 32), PREFIX.embedding.npy.\n\n"
    "  features --out cat cat.jpg\n"
    "  features --out t --outputs C4,C5 --layout nhwc --input-npy x.npy\n\n"
    "  -o, --out PREFIX       beginning of the names of the files to write\n"
    "      --outputs LIST     which, comma separated (default C2,C3,C4,C5,embedding)\n"
    "      --layout nchw|nhwc order of the axes (default nchw)\n";

enum { MAX_OUTPUTS = 16 };

typedef struct state {
    app app;
    const char *prefix;
    char *list; /* own copy of --outputs, cut at the commas */
    const char *outputs[MAX_OUTPUTS];
    int output_count;
    bool nhwc;
} state;

static int take_outputs(state *s, const char *text)
{
    free(s->list);
    s->list = strdup(text);
    s->output_count = 0;
    for (char *p = s->list ? strtok(s->list, ",") : NULL; p; p = strtok(NULL, ",")) {
        if (s->output_count == MAX_OUTPUTS) {
            return cli_usage(&s->app.options, "--outputs: at most %d", MAX_OUTPUTS);
        }
        s->outputs[s->output_count++] = p;
    }
    return s->output_count ? CLI_OK : cli_usage(&s->app.options, "--outputs: name at least one");
}

static int take_option(state *s, int opt)
{
    switch (opt) {
    case 'o': return cli_output_path(&s->app.options, "out", optarg, &s->prefix);
    case 'O': return take_outputs(s, optarg);
    case 'Y':
        s->nhwc = strcmp(optarg, "nhwc") == 0;
        return s->nhwc || strcmp(optarg, "nchw") == 0
                   ? CLI_OK
                   : cli_usage(&s->app.options, "--layout %s: want nchw or nhwc", optarg);
    default: return app_option(&s->app, opt, optarg, help);
    }
}

static int parse(state *s, int argc, char **argv)
{
    static const struct option table[] = {APP_OPTIONS,
                                          {"out", required_argument, NULL, 'o'},
                                          {"outputs", required_argument, NULL, 'O'},
                                          {"layout", required_argument, NULL, 'Y'},
                                          {0}};
    int opt;
    while ((opt = getopt_long(argc, argv, CLI_SHORT_OPTIONS "o:", table, NULL)) != -1) {
        int result = take_option(s, opt);
        if (result != CLI_OK) {
            return result;
        }
    }
    if (!s->prefix) {
        return cli_usage(&s->app.options, "--out PREFIX is missing");
    }
    if ((argc - optind) + (s->app.in.npy_path != NULL) != 1) {
        return cli_usage(&s->app.options, "give one picture or --input-npy");
    }
    return s->output_count ? CLI_OK : take_outputs(s, "C2,C3,C4,C5,embedding");
}

/* Writes one output; NCHW unless asked otherwise. */
static int write_output(const state *s, const char *name)
{
    vt_tensor t;
    vt_error error = {0};
    char path[1100];
    if (snprintf(path, sizeof path, "%s.%s.npy", s->prefix, name) >= (int)sizeof path) {
        return cli_fail(&s->app.options, "--out: the name is too long");
    }
    if (vt_session_output(s->app.session, name, &t, &error) != VT_OK) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    int64_t nhwc[] = {t.n, t.h, t.w, t.c}, nchw[] = {t.n, t.c, t.h, t.w};
    const float *data = t.data;
    float *turned = NULL;
    if (!s->nhwc) {
        turned = malloc((size_t)(t.n * t.h * t.w * t.c) * sizeof *turned);
        if (!turned) {
            return cli_fail(&s->app.options, "out of memory");
        }
        int64_t pixels = t.h * t.w;
        for (int64_t i = 0; i < t.n * t.c * pixels; i++) {
            int64_t n = i / (t.c * pixels), c = i / pixels % t.c, pixel = i % pixels;
            turned[i] = data[(n * pixels + pixel) * t.c + c];
        }
        data = turned;
    }
    vt_status status =
        vt_npy_write_f32(s->app.context, path, data, 4, s->nhwc ? nhwc : nchw, &error);
    free(turned);
    if (status != VT_OK) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    const int64_t *shape = s->nhwc ? nhwc : nchw;
    if (s->app.options.json) {
        json_t *line = json_pack("{s:o, s:o, s:[I, I, I, I]}", "output", cli_json_text(name),
                                 "file", cli_json_text(path), "shape", (json_int_t)shape[0],
                                 (json_int_t)shape[1], (json_int_t)shape[2], (json_int_t)shape[3]);
        json_dumpf(line, stdout, 0);
        putchar('\n');
        json_decref(line);
        return CLI_OK;
    }
    printf("%s  [%lld, %lld, %lld, %lld]\n", path, (long long)shape[0], (long long)shape[1],
           (long long)shape[2], (long long)shape[3]);
    return CLI_OK;
}

static int run(state *s)
{
    vt_error error = {0};
    vt_tensor input;
    vt_image picture = {0};
    vt_session_settings settings = {.outputs = s->outputs, .output_count = s->output_count};
    if (vt_session_create(&s->app.session, s->app.model, &settings, &error) != VT_OK) {
        return cli_fail(&s->app.options, "%s", error.message);
    }
    int result = input_get(&s->app.in, &s->app.options, s->app.context, 0, &input, &picture);
    if (result == CLI_OK && vt_session_forward(s->app.session, &input, &error) != VT_OK) {
        result = cli_fail(&s->app.options, "%s", error.message);
    }
    for (int i = 0; result == CLI_OK && i < s->output_count; i++) {
        result = write_output(s, s->outputs[i]);
    }
    vt_image_clear(&picture, s->app.context);
    return result;
}

int main(int argc, char **argv)
{
    state s = {0};
    app_init(&s.app, argv[0]);
    int result = parse(&s, argc, argv);
    if (result == CLI_OK) {
        result = app_open(&s.app, argv + optind, argc - optind);
    }
    if (result == CLI_OK) {
        result = run(&s);
    }
    free(s.list);
    return app_close(&s.app, result);
}
