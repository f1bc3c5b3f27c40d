/* SPDX-License-Identifier: Apache-2.0 */
/* layers: every layer module alone, at shapes of published networks: time, work, share of the
 * floor. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"

static const char help[] =
    "Usage: layers [options] [NAME ...]\n"
    "Times each layer module (vertebra/layers.h) alone, or those with a NAME in their line. "
    "Copies\n"
    "of the layer with weights of their own, each on a map of its own, make a network. On a GPU "
    "the\n"
    "maps together are larger than its cache; the network and the same without the layers are\n"
    "replayed by turns, and the difference of the medians is the time. Elsewhere the layers'\n"
    "operations are timed one by one: the median of their sum, and the sum of the smallest times.\n"
    "The floor is the sum over the operations of the larger of two times: bytes at the rate of a\n"
    "copy, multiply-adds at the peak, that of f32 where an operation has no matrix product in it. "
    "On\n"
    "the CPU the copy is of blocks as large as the layer's map, in whichever cache they fit.\n\n"
    "  layers --threads 1\n"
    "  layers --device cuda --dtype f16 --batch 64 deform squeeze\n\n"
    "  -d, --device DEVICE    cpu (default), cuda or cuda:N, ref\n"
    "      --isa ISA          portable, avx2, avx512, avx512_bf16; default: the best there is\n"
    "      --dtype TYPE       f32 (default), bf16, f16 (GPU)\n"
    "  -t, --threads N        default: all processors\n"
    "  -b, --batch N          default 1\n"
    "  -n, --runs N           timed runs of each network (default 30)\n"
    "  -O, --ops              also every operation, timed by itself: the smallest "
    "time\n" CLI_LAST_HELP;

/* ---- the modules ----------------------------------------------------------------------------- */

typedef union layer {
#define MODULE(name, type, ...) type name;
#include "layers.def"
#undef MODULE
} layer;

typedef struct layer_case layer_case;

/* `output`: the one that `forward` names; NULL: what it returns. */
typedef struct layer_kind {
    const char *name, *output;
    void (*bind)(vt_binder *b, const layer_case *c, layer *l);
    vt_value (*forward)(vt_builder *b, const layer_case *c, const layer *l, vt_value x);
    const layer_case *cases;
    int case_count;
} layer_kind;

/* A layer on a map of size x size x channels; what else its settings need. */
struct layer_case {
    const char *where; /* network and stage */
    int size, channels;
    int width;                     /* channels behind the layer, or inside it */
    int heads, window, step, halo; /* step: stride, dilation or shift */
    bool other;                    /* the module's second form */
    const layer_kind *kind;        /* set by list_cases() */
};

#define MODULE(name, type, named, bound, recorded, ...)                                            \
    static void bind_##name(vt_binder *b, const layer_case *c, layer *of)                          \
    {                                                                                              \
        of->name = bound;                                                                          \
    }                                                                                              \
    static vt_value forward_##name(vt_builder *b, const layer_case *c, const layer *of,            \
                                   vt_value x)                                                     \
    {                                                                                              \
        const type *l = &of->name;                                                                 \
        (void)c;                                                                                   \
        return recorded;                                                                           \
    }                                                                                              \
    static const layer_case cases_##name[] = {__VA_ARGS__};                                        \
    static const layer_kind kind_##name = {                                                        \
        #name,          named,        bind_##name,                                                 \
        forward_##name, cases_##name, sizeof cases_##name / sizeof cases_##name[0]};
#include "layers.def"
#undef MODULE

static const layer_kind *const kinds[] = {
#define MODULE(name, ...) &kind_##name,
#include "layers.def"
#undef MODULE
};

enum {
    CASES = 0
#define MODULE(name, ...) +(int)(sizeof cases_##name / sizeof(layer_case))
#include "layers.def"
#undef MODULE
};

static layer_case cases[CASES];

static void list_cases(void)
{
    layer_case *next = cases;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (int i = 0; i < kinds[k]->case_count; i++) {
            *next = kinds[k]->cases[i];
            next++->kind = kinds[k];
        }
    }
}

/* ---- a network of copies of a layer ---------------------------------------------------------- */

enum { PICTURE_CHANNELS = 3, MAX_COPIES = 8 }; /* two outputs each: all that a program may have */

/* The two variants of a family for each case: `copies` layers, or none of them. */
typedef struct recipe {
    const layer_case *of;
    int copies;
    bool bare;
} recipe;

typedef struct network {
    recipe recipe;
    vt_linear_layer inputs[MAX_COPIES];
    layer layers[MAX_COPIES];
} network;

static void bind_network(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                         void *out)
{
    (void)s;
    network *net = out;
    net->recipe = *(const recipe *)variant->config;
    const layer_case *c = net->recipe.of;
    for (int i = 0; i < net->recipe.copies; i++) {
        vt_scope(b, "copy%d", i);
        if (c->channels != PICTURE_CHANNELS) {
            net->inputs[i] = vt_linear_bind(b, "input", PICTURE_CHANNELS, c->channels, true);
        }
        if (!net->recipe.bare) {
            c->kind->bind(b, c, &net->layers[i]);
        }
        vt_scope_end(b);
    }
}

/* One pixel of the map as an output, so that the map is computed and hardly anything else. */
static void touch(vt_builder *b, const char *name, int i, vt_value x)
{
    char text[16];
    vt_shape s = vt_value_shape(b, x);
    int size = (int)(s.h > s.w ? s.h : s.w);
    snprintf(text, sizeof text, "%s%d", name, i);
    vt_label(b, "frame");
    vt_output(b, text, vt_op_pool(b, x, &(vt_pooling){.kernel = 1, .stride = size}));
}

/* The maps come first, so that a layer doesn't find its own in a GPU's cache. Each is an output
 * too: no rewrite may join what makes it with the layer. */
static void forward_network(vt_builder *b, const void *in)
{
    const network *net = in;
    const layer_case *c = net->recipe.of;
    vt_value maps[MAX_COPIES];
    for (int i = 0; i < net->recipe.copies; i++) {
        vt_label(b, "frame");
        maps[i] = vt_input(b);
        if (c->channels != PICTURE_CHANNELS) {
            maps[i] = vt_linear_forward(b, &net->inputs[i], maps[i], VT_ACT_NONE);
        }
        touch(b, "x", i, maps[i]);
    }
    for (int i = 0; i < net->recipe.copies; i++) {
        vt_value y = maps[i];
        if (!net->recipe.bare) {
            vt_label(b, "layer");
            y = c->kind->forward(b, c, &net->layers[i], y);
        }
        if (!c->kind->output) {
            touch(b, "y", i, y);
        }
    }
}

/* As many as make the maps in half precision twice a GPU's cache, within limits. Outputs have one
 * name each, so that a layer that names its own stands alone. */
static int copies_of(const layer_case *c, int batch)
{
    enum { FEWEST = 4 };
    const double together = 100e6;
    double bytes = 2.0 * batch * c->size * c->size * c->channels;
    int copies = (int)(together / bytes) + 1;
    copies = copies < FEWEST ? FEWEST : copies > MAX_COPIES ? MAX_COPIES : copies;
    return c->kind->output ? 1 : copies;
}

static recipe recipes[2 * CASES];
static vt_variant variants[2 * CASES];
static char names[2 * CASES][32];

/* Variants 2i and 2i + 1 are case i and its network without the layers. */
static const vt_family *make_family(int batch)
{
    static const vt_family family = {.name = "layers",
                                     .title = "layers",
                                     .source = "bench",
                                     .license = "none",
                                     .variants = variants,
                                     .variant_count = 2 * CASES,
                                     .network_size = sizeof(network),
                                     .bind = bind_network,
                                     .forward = forward_network};
    for (int i = 0; i < 2 * CASES; i++) {
        const layer_case *c = &cases[i / 2];
        recipes[i] = (recipe){c, copies_of(c, batch), i % 2 == 1};
        snprintf(names[i], sizeof names[i], "layers_%d", i);
        variants[i] = (vt_variant){
            .name = names[i],
            .config = &recipes[i],
            .preprocess = {.height = c->size, .width = c->size, .crop_pct = 1.0, .std = {1, 1, 1}},
            .classes = 1,
            .checkpoint = "none",
            .license = "none"};
    }
    return &family;
}

/* ---- timing ---------------------------------------------------------------------------------- */

enum { MAX_OPS = 64, WARM_UPS = 3 };

typedef struct state {
    cli_options options;
    vt_context *context;
    int batch, runs;
    bool ops, gpu;
    double peak, peak_f32; /* GFLOP/s */
    double copy_rate;      /* GB/s */
    float *picture;
    double *times[2]; /* of each run */
} state;

/* An operation of the layer; `seconds`: the smallest of all copies and runs. */
typedef struct op_row {
    char kind[32], implementation[32];
    double flops, bytes, floor, seconds;
} op_row;

typedef struct result {
    double median, least; /* seconds of one layer */
    double flops, bytes, floor;
    op_row ops[MAX_OPS];
    int op_count; /* of one layer */
} result;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort_times(const state *s)
{
    for (int k = 0; k < 2; k++) {
        qsort(s->times[k], (size_t)s->runs, sizeof(double), by_value);
    }
}

/* GB/s at which all threads together copy between blocks of this size. */
static double block_copy_rate(size_t bytes, int threads)
{
    enum { ROUNDS = 50 };
    char *from = malloc(bytes), *to = malloc(bytes);
    double best = 1e9;
    if (from && to) {
        memset(from, 1, bytes);
    }
    for (int i = 0; from && to && i < ROUNDS; i++) {
        double start = omp_get_wtime();
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int k = 0; k < threads; k++) {
            size_t first = bytes * (size_t)k / (size_t)threads;
            size_t end = bytes * (size_t)(k + 1) / (size_t)threads;
            memcpy(to + first, from + first, end - first);
        }
        double t = omp_get_wtime() - start;
        best = t < best ? t : best;
    }
    free(from);
    free(to);
    return 2e-9 * (double)bytes / best;
}

/* Whether the device has faster multiply-adds than f32 for what this operation is made of. */
static bool has_products(const state *s, const char *kind)
{
    static const char *const always[] = {"linear", "conv2d", "mlp"};
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) {
        if (strcmp(kind, always[i]) == 0) {
            return true;
        }
    }
    return s->gpu && strstr(kind, "attention");
}

/* Seconds; 0: the device has no peak to compare with. */
static double floor_of(const state *s, const vt_op_info *o)
{
    double peak = has_products(s, o->kind) ? s->peak : s->peak_f32;
    if (peak <= 0 || s->copy_rate <= 0) {
        return 0;
    }
    double by_copy = 1e-9 * o->bytes / s->copy_rate, by_peak = 1e-9 * o->flops / peak;
    return by_copy > by_peak ? by_copy : by_peak;
}

/* The layer's operations in the current plan; those of the second copy stand behind those of the
 * first. Returns the seconds of all, 0 without profiling. */
static double note_ops(const state *s, const vt_session *session, int copies, result *out)
{
    vt_op_info info;
    int count = 0, at = 0;
    double seconds = 0;
    for (size_t i = 0; vt_session_op(session, i, &info); i++) {
        count += strcmp(info.label, "frame") != 0;
    }
    out->op_count = count / copies < MAX_OPS ? count / copies : MAX_OPS;
    out->flops = out->bytes = out->floor = 0;
    for (size_t i = 0; vt_session_op(session, i, &info); i++) {
        if (strcmp(info.label, "frame") == 0) {
            continue;
        }
        op_row *o = &out->ops[at++ % out->op_count];
        snprintf(o->kind, sizeof o->kind, "%s", info.kind);
        snprintf(o->implementation, sizeof o->implementation, "%s", info.implementation);
        o->flops = info.flops;
        o->bytes = info.bytes;
        o->floor = floor_of(s, &info);
        o->seconds = o->seconds > 0 && o->seconds < info.seconds ? o->seconds : info.seconds;
        out->flops += info.flops / copies;
        out->bytes += info.bytes / copies;
        out->floor += o->floor / copies;
        seconds += info.seconds;
    }
    return seconds;
}

/* All outputs: of each copy its map and, but for layers that name theirs, the result. */
static vt_status open_session(const vt_model *model, const recipe *r, bool profile,
                              vt_session **out, vt_error *error)
{
    char texts[2 * MAX_COPIES][16];
    const char *outputs[2 * MAX_COPIES];
    const char *own = r->of->kind->output;
    int count = 0;
    for (int i = 0; i < (own ? 1 : 2) * r->copies; i++) {
        snprintf(texts[i], sizeof texts[i], "%c%d", i < r->copies ? 'x' : 'y', i % r->copies);
        outputs[count++] = texts[i];
    }
    if (own && !r->bare) {
        outputs[count++] = own;
    }
    return vt_session_create(
        out, model,
        &(vt_session_settings){.outputs = outputs, .output_count = count, .profile = profile},
        error);
}

static vt_status run_once(const state *s, const recipe *r, vt_session *session, double *seconds,
                          vt_error *error)
{
    int size = r->of->size;
    vt_tensor in = vt_tensor_nchw(s->picture, VT_F32, s->batch, PICTURE_CHANNELS, size, size);
    vt_status status = vt_session_forward(session, &in, error);
    return status == VT_OK ? vt_session_elapsed(session, seconds, error) : status;
}

static vt_status open_model(const state *s, int i, vt_model **out, vt_error *error)
{
    vt_model_settings settings = vt_model_settings_default();
    settings.dtype = s->options.settings.dtype;
    return vt_model_golden(out, s->context, names[i], 0, &settings, error);
}

/* Replays of networks 2i, with the layers, and 2i + 1, without, by turns. */
static vt_status measure_whole(const state *s, int i, result *out, vt_error *error)
{
    const recipe *r = &recipes[2 * i];
    vt_model *models[2] = {NULL, NULL};
    vt_session *sessions[2] = {NULL, NULL};
    vt_status status = VT_OK;
    for (int k = 0; status == VT_OK && k < 2; k++) {
        status = open_model(s, 2 * i + k, &models[k], error);
        if (status == VT_OK) {
            status = open_session(models[k], &recipes[2 * i + k], false, &sessions[k], error);
        }
    }
    for (int at = -WARM_UPS; status == VT_OK && at < s->runs; at++) {
        for (int k = 0; status == VT_OK && k < 2; k++) {
            status = run_once(s, r, sessions[k], &s->times[k][at < 0 ? 0 : at], error);
        }
    }
    if (status == VT_OK) {
        sort_times(s);
        out->median = (s->times[0][s->runs / 2] - s->times[1][s->runs / 2]) / r->copies;
        out->least = (s->times[0][0] - s->times[1][0]) / r->copies;
        note_ops(s, sessions[0], r->copies, out);
    }
    for (int k = 0; k < 2; k++) {
        vt_session_destroy(&sessions[k]);
        vt_model_destroy(&models[k]);
    }
    return status;
}

/* The operations of network 2i one by one. */
static vt_status measure_ops(const state *s, int i, result *out, vt_error *error)
{
    const recipe *r = &recipes[2 * i];
    vt_model *model = NULL;
    vt_session *session = NULL;
    double all;
    vt_status status = open_model(s, 2 * i, &model, error);
    if (status == VT_OK) {
        status = open_session(model, r, true, &session, error);
    }
    for (int at = -WARM_UPS; status == VT_OK && at < s->runs; at++) {
        status = run_once(s, r, session, &all, error);
        if (status == VT_OK && at >= 0) {
            s->times[0][at] = note_ops(s, session, r->copies, out) / r->copies;
        }
    }
    if (status == VT_OK && !s->gpu) {
        sort_times(s);
        out->median = s->times[0][s->runs / 2];
        for (int k = 0; k < out->op_count; k++) {
            out->least += out->ops[k].seconds;
        }
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    return status;
}

static vt_status time_case(state *s, int i, result *out, vt_error *error)
{
    const layer_case *c = &cases[i];
    vt_status status = VT_OK;
    if (s->gpu) {
        status = measure_whole(s, i, out, error);
    } else {
        int64_t values = (int64_t)s->batch * c->size * c->size * c->channels;
        s->copy_rate = block_copy_rate((size_t)values * sizeof(float), s->options.threads);
    }
    return status == VT_OK && (s->ops || !s->gpu) ? measure_ops(s, i, out, error) : status;
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_head(void)
{
    printf("%-22s %-22s %-11s %9s %9s %8s %8s %9s %7s\n", "layer", "of", "map", "us", "least us",
           "GFLOP", "MB", "floor us", "% floor");
}

static void print_result(const state *s, const layer_case *c, const result *r)
{
    char map[32];
    snprintf(map, sizeof map, "%dx%dx%d", c->size, c->size, c->channels);
    printf("%-22s %-22s %-11s %9.1f %9.1f %8.3f %8.2f %9.1f %7.1f\n", c->kind->name, c->where, map,
           r->median * 1e6, r->least * 1e6, r->flops * 1e-9, r->bytes * 1e-6, r->floor * 1e6,
           100 * r->floor / r->median);
    for (int i = 0; s->ops && i < r->op_count; i++) {
        const op_row *o = &r->ops[i];
        printf("  %-20s %-34s %9s %9.1f %8.3f %8.2f %9.1f %7.1f\n", o->kind, o->implementation, "",
               o->seconds * 1e6, o->flops * 1e-9, o->bytes * 1e-6, o->floor * 1e6,
               100 * o->floor / o->seconds);
    }
    fflush(stdout);
}

static bool wanted(const layer_case *c, char **patterns, int count)
{
    for (int i = 0; i < count; i++) {
        if (strstr(c->kind->name, patterns[i]) || strstr(c->where, patterns[i])) {
            return true;
        }
    }
    return count == 0;
}

/* What all cases share; false: out of memory. */
static bool prepare(state *s)
{
    int largest = 0;
    list_cases();
    for (int i = 0; i < CASES; i++) {
        largest = cases[i].size > largest ? cases[i].size : largest;
    }
    s->gpu = strncmp(s->options.device ? s->options.device : "cpu", "cuda", 4) == 0;
    s->picture = malloc(sizeof(float) * PICTURE_CHANNELS * (size_t)s->batch * (size_t)largest *
                        (size_t)largest);
    for (int k = 0; k < 2; k++) {
        s->times[k] = calloc((size_t)s->runs, sizeof(double));
    }
    if (!s->picture || !s->times[0] || !s->times[1]) {
        return false;
    }
    vt_golden_picture(s->batch, largest, largest, s->picture);
    return true;
}

static void measure_rates(state *s)
{
    s->peak = vt_context_peak(s->context, s->options.settings.dtype);
    s->peak_f32 = vt_context_peak(s->context, VT_F32);
    s->copy_rate = vt_context_copy_rate(s->context);
    printf("%s, %s, batch %d; peak %.0f GFLOP/s, f32 %.0f; large copies %.0f GB/s\n",
           vt_context_description(s->context), vt_dtype_name(s->options.settings.dtype), s->batch,
           s->peak, s->peak_f32, s->copy_rate);
}

static int run(state *s, char **patterns, int count)
{
    vt_error error = {0};
    int rows = 0, code = CLI_OK;
    if (!prepare(s)) {
        return cli_fail(&s->options, "out of memory");
    }
    if (vt_context_register(s->context, make_family(s->batch), &error) != VT_OK) {
        return cli_fail(&s->options, "%s", error.message);
    }
    measure_rates(s);
    print_head();
    for (int i = 0; i < CASES; i++) {
        if (wanted(&cases[i], patterns, count)) {
            result r = {0};
            rows++;
            if (time_case(s, i, &r, &error) == VT_OK) {
                print_result(s, &cases[i], &r);
            } else {
                code = cli_fail(&s->options, "%s, %s: %s", cases[i].kind->name, cases[i].where,
                                error.message);
            }
        }
    }
    return rows ? code : cli_usage(&s->options, "no layer has that in its line");
}

static int take_option(state *s, int opt)
{
    switch (opt) {
    case 'h': fputs(help, stdout); exit(cli_finish(&s->options, CLI_OK));
    case 'O': s->ops = true; return CLI_OK;
    case 'b':
        return cli_number(optarg, 1, 4096, &s->batch)
                   ? CLI_OK
                   : cli_usage(&s->options, "--batch %s: want 1 to 4096", optarg);
    case 'n':
        return cli_number(optarg, 1, 1000000, &s->runs)
                   ? CLI_OK
                   : cli_usage(&s->options, "--runs %s: want 1 or more", optarg);
    default: return cli_common_option(&s->options, opt, optarg);
    }
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"device", required_argument, NULL, 'd'}, {"isa", required_argument, NULL, 'I'},
        {"dtype", required_argument, NULL, 'D'},  {"threads", required_argument, NULL, 't'},
        {"batch", required_argument, NULL, 'b'},  {"runs", required_argument, NULL, 'n'},
        {"ops", no_argument, NULL, 'O'},          {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {0}};
    state s = {.batch = 1, .runs = 30};
    cli_init(&s.options, argv[0]);
    int opt, code = CLI_OK;
    while (code == CLI_OK && (opt = getopt_long(argc, argv, "d:t:b:n:Ovh", table, NULL)) != -1) {
        code = take_option(&s, opt);
    }
    if (s.options.threads == 0) {
        s.options.threads = omp_get_num_procs();
    }
    if (code == CLI_OK) {
        code = cli_open_context(&s.options, &s.context);
    }
    if (code == CLI_OK) {
        code = run(&s, argv + optind, argc - optind);
    }
    free(s.picture);
    free(s.times[0]);
    free(s.times[1]);
    vt_context_destroy(&s.context);
    return cli_finish(&s.options, code);
}
