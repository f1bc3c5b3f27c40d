/* SPDX-License-Identifier: Apache-2.0 */
/* bench: how long a network takes here, and how far that is from what the machine can do. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/input.h"

static const char help[] =
    "Usage: bench [options] [PICTURE]\n"
    "Times a network at batch 1 and at --batch: median and 99th percentile, GFLOP/s, share of the\n"
    "measured peak of this machine, the median with the input brought in and the logits out, "
    "memory.\n"
    "With a PICTURE also decoding and preprocessing.\n\n"
    "  bench\n"
    "  bench --model swin_tiny_patch4_window7_224 --dtype bf16 --threads 2 --batch 16 --ops\n\n"
    "  -b, --batch N          size of the large batch (default 8; 1: only batch 1)\n"
    "  -n, --runs N           timed runs at most (default 100; at least 3 and about --seconds)\n"
    "  -S, --seconds S        time to spend on each batch size (default 5)\n"
    "  -O, --ops              time every operation\n";

typedef struct state {
    cli_options options;
    vt_context *context;
    vt_model *model;
    vt_preprocess preprocess;
    int batch, runs, seconds;
    bool ops;
    double peak; /* GFLOP/s, 0: unknown */
} state;

typedef struct timing {
    double min, median, p99; /* seconds */
    int runs;
} timing;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static timing summarise(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, compare_double);
    int last = (int)(0.99 * (count - 1) + 0.999);
    return (timing){times[0], times[count / 2], times[last < count ? last : count - 1], count};
}

typedef struct op_total {
    vt_op_info info; /* seconds: the smallest seen */
} op_total;

enum { MAX_OPS = 4096 };

typedef struct result {
    timing network; /* without bringing the input in and the logits out */
    timing whole;   /* with them */
    double flops;
    size_t memory;
    json_t *ops; /* with --ops and --json */
} result;

/* One forward: the time of the network alone and of everything. */
static vt_status forward(vt_session *session, const vt_tensor *in, double *network, double *whole,
                         vt_error *error)
{
    vt_tensor out;
    double start = now();
    vt_status status = vt_session_forward(session, in, error);
    status = status == VT_OK ? vt_session_output(session, "logits", &out, error) : status;
    *whole = now() - start;
    return status == VT_OK ? vt_session_elapsed(session, network, error) : status;
}

/* Runs warm-ups, then timed rounds. */
static vt_status measure(const state *s, vt_session *session, const vt_tensor *in, result *out,
                         vt_error *error)
{
    double *network = malloc(2 * (size_t)s->runs * sizeof *network), *whole = network + s->runs;
    if (!network) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    vt_status status = VT_OK;
    for (int i = 0; status == VT_OK && i < 3; i++) {
        status = forward(session, in, &network[0], &whole[0], error);
    }
    int count = 0;
    double begin = now();
    while (status == VT_OK && count < s->runs && (count < 3 || now() - begin < s->seconds)) {
        status = forward(session, in, &network[count], &whole[count], error);
        count++;
    }
    if (status == VT_OK) {
        out->network = summarise(network, count);
        out->whole = summarise(whole, count);
    }
    free(network);
    return status;
}

/* The best time of each operation over a few rounds that time them one by one. */
static vt_status measure_ops(const state *s, const vt_tensor *in, op_total *ops, vt_error *error)
{
    enum { ROUNDS = 20 };
    vt_session *session = NULL;
    vt_session_settings settings = {.profile = true};
    vt_status status = vt_session_create(&session, s->model, &settings, error);
    double begin = now();
    for (int k = 0; status == VT_OK && k < ROUNDS && (k < 2 || now() - begin < s->seconds); k++) {
        status = vt_session_forward(session, in, error);
        vt_op_info info;
        for (size_t i = 0; i < MAX_OPS && vt_session_op(session, i, &info); i++) {
            double best = ops[i].info.seconds;
            ops[i].info = info;
            ops[i].info.seconds = best > 0 && best < info.seconds ? best : info.seconds;
        }
    }
    vt_session_destroy(&session);
    return status;
}

/* The column "% peak". */
static void print_share(double rate, double peak)
{
    if (peak > 0) {
        printf(" %7.1f", 100 * rate / peak);
    } else {
        printf(" %7s", "-");
    }
}

static void print_ops(const state *s, const op_total *ops)
{
    printf("\n%-26s %-14s %-14s %9s %9s %7s %8s\n", "where", "operation", "implementation", "us",
           "GFLOP/s", "% peak", "GB/s");
    for (int i = 0; i < MAX_OPS && ops[i].info.kind; i++) {
        const vt_op_info *o = &ops[i].info;
        double rate = o->flops / o->seconds / 1e9;
        printf("%-26s %-14s %-14s %9.1f %9.1f", o->label, o->kind, o->implementation,
               o->seconds * 1e6, rate);
        print_share(rate, s->peak);
        printf(" %8.1f\n", o->bytes / o->seconds / 1e9);
    }
}

static json_t *json_ops(const op_total *ops)
{
    json_t *list = json_array();
    for (int i = 0; i < MAX_OPS && ops[i].info.kind; i++) {
        const vt_op_info *o = &ops[i].info;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "where", o->label,
                                              "operation", o->kind, "implementation",
                                              o->implementation, "us", o->seconds * 1e6, "flop",
                                              o->flops, "bytes", o->bytes));
    }
    return list;
}

static int bench_batch(const state *s, int batch, result *out)
{
    vt_error error = {0};
    int h = s->preprocess.height, w = s->preprocess.width;
    float *picture = malloc(3 * (size_t)h * (size_t)w * (size_t)batch * sizeof *picture);
    op_total *ops = s->ops ? calloc(MAX_OPS, sizeof *ops) : NULL;
    vt_session *session = NULL;
    vt_status status = picture && (ops || !s->ops)
                           ? vt_session_create(&session, s->model, NULL, &error)
                           : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        vt_golden_picture(batch, h, w, picture);
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, batch, 3, h, w);
        status = vt_session_memory(session, batch, h, w, &out->memory, &error);
        status = status == VT_OK ? measure(s, session, &in, out, &error) : status;
        status = status == VT_OK && ops ? measure_ops(s, &in, ops, &error) : status;
    }
    vt_op_info info;
    out->flops = 0;
    for (size_t i = 0; status == VT_OK && vt_session_op(session, i, &info); i++) {
        out->flops += info.flops;
    }
    if (status == VT_OK && !s->options.json) {
        const timing *t = &out->network;
        double rate = out->flops / t->median / 1e9;
        printf("%8d %9.3f %9.3f %9.3f %9.1f %9.1f", batch, t->min * 1e3, t->median * 1e3,
               t->p99 * 1e3, batch / t->median, rate);
        print_share(rate, s->peak);
        printf(" %9.3f %8.1f %6d\n", out->whole.median * 1e3, (double)out->memory / 1e6, t->runs);
    }
    if (status == VT_OK && s->ops && s->options.json) {
        out->ops = json_ops(ops);
    } else if (status == VT_OK && s->ops) {
        print_ops(s, ops);
    }
    vt_session_destroy(&session);
    free(ops);
    free(picture);
    return status == VT_OK ? CLI_OK : cli_fail(&s->options, "%s", error.message);
}

/* Decoding and preprocessing of one picture: the best of ten. */
static int bench_picture(const state *s, const char *path, double *decode, double *preprocess)
{
    vt_error error = {0};
    float *out =
        malloc(3 * (size_t)s->preprocess.height * (size_t)s->preprocess.width * sizeof *out);
    vt_status status = out ? VT_OK : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    *decode = *preprocess = 1e9;
    for (int i = 0; status == VT_OK && i < 10; i++) {
        vt_image image;
        double start = now();
        status = vt_image_load(&image, s->context, path, NULL, &error);
        double middle = now();
        if (status == VT_OK) {
            vt_pixels pixels = vt_image_pixels(&image);
            status = vt_preprocess_run(s->context, &s->preprocess, &pixels, out, &error);
            double end = now();
            *decode = middle - start < *decode ? middle - start : *decode;
            *preprocess = end - middle < *preprocess ? end - middle : *preprocess;
            vt_image_clear(&image, s->context);
        }
    }
    free(out);
    return status == VT_OK ? CLI_OK : cli_fail(&s->options, "%s", error.message);
}

static double peak_memory(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss * 1024.0;
}

static json_t *json_timing(const timing *t)
{
    return json_pack("{s:f, s:f, s:f, s:i}", "min", t->min * 1e3, "median", t->median * 1e3, "p99",
                     t->p99 * 1e3, "runs", t->runs);
}

static void print_json(const state *s, const result *one, const result *many, const double *picture)
{
    json_t *j =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:o}", "model",
                  vt_model_variant(s->model)->name, "device", vt_context_description(s->context),
                  "dtype", vt_dtype_name(vt_model_dtype(s->model)), "height", s->preprocess.height,
                  "width", s->preprocess.width, "gflop", one->flops / 1e9, "peak_gflops", s->peak,
                  "peak_memory_bytes", peak_memory(), "latency_ms", json_timing(&one->network));
    json_object_set_new(j, "latency_with_copies_ms", json_timing(&one->whole));
    if (s->batch > 1) {
        json_object_set_new(j, "batch", json_integer(s->batch));
        json_object_set_new(j, "batch_ms", json_timing(&many->network));
        json_object_set_new(j, "batch_with_copies_ms", json_timing(&many->whole));
        json_object_set_new(j, "images_per_second", json_real(s->batch / many->network.median));
    }
    if (picture) {
        json_object_set_new(j, "decode_ms", json_real(picture[0] * 1e3));
        json_object_set_new(j, "preprocess_ms", json_real(picture[1] * 1e3));
    }
    if (s->ops) {
        json_object_set(j, "ops", one->ops);
    }
    if (s->ops && s->batch > 1) {
        json_object_set(j, "batch_ops", many->ops);
    }
    json_dumpf(j, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(j);
}

static int run(state *s, const char *path)
{
    result one = {0}, many = {0};
    double picture[2] = {0}; /* seconds to decode, to preprocess */
    s->preprocess = cli_preprocess(&s->options, s->model);
    s->peak = vt_context_peak(s->context, vt_model_dtype(s->model));
    if (!s->options.json) {
        printf("%s at %dx%d, %s, %s", vt_model_variant(s->model)->name, s->preprocess.height,
               s->preprocess.width, vt_dtype_name(vt_model_dtype(s->model)),
               vt_context_description(s->context));
        printf(s->peak > 0 ? "; measured peak %.0f GFLOP/s\n" : "\n", s->peak);
        printf("%8s %9s %9s %9s %9s %9s %7s %9s %8s %6s\n", "batch", "min ms", "median", "p99",
               "images/s", "GFLOP/s", "% peak", "+ copies", "MB", "runs");
    }
    int code = bench_batch(s, 1, &one);
    if (code == CLI_OK && s->batch > 1) {
        code = bench_batch(s, s->batch, &many);
    }
    if (code == CLI_OK && path) {
        code = bench_picture(s, path, &picture[0], &picture[1]);
    }
    if (code == CLI_OK && s->options.json) {
        print_json(s, &one, &many, path ? picture : NULL);
    }
    json_decref(one.ops);
    json_decref(many.ops);
    if (code != CLI_OK || s->options.json) {
        return code;
    }
    if (path) {
        printf("%s: decode %.2f ms, preprocess %.2f ms, with batch 1 together %.2f ms\n", path,
               picture[0] * 1e3, picture[1] * 1e3,
               (picture[0] + picture[1] + one.whole.median) * 1e3);
    }
    printf("weights %.1f MB, peak memory of the process %.1f MB\n",
           (double)vt_model_bytes(s->model) / 1e6, peak_memory() / 1e6);
    return CLI_OK;
}

static int take_option(state *s, int opt)
{
    switch (opt) {
    case 'h': printf("%s\n%s", help, CLI_COMMON_HELP); exit(cli_finish(&s->options, CLI_OK));
    case 'O': s->ops = true; return CLI_OK;
    case 'b':
        return cli_number(optarg, 1, 65536, &s->batch)
                   ? CLI_OK
                   : cli_usage(&s->options, "--batch %s: want 1 to 65536", optarg);
    case 'n':
        return cli_number(optarg, 3, 1000000, &s->runs)
                   ? CLI_OK
                   : cli_usage(&s->options, "--runs %s: want 3 or more", optarg);
    case 'S':
        return cli_number(optarg, 0, 86400, &s->seconds)
                   ? CLI_OK
                   : cli_usage(&s->options, "--seconds %s: want a whole number", optarg);
    default: return cli_common_option(&s->options, opt, optarg);
    }
}

int main(int argc, char **argv)
{
    static const struct option table[] = {CLI_COMMON_OPTIONS,
                                          {"batch", required_argument, NULL, 'b'},
                                          {"runs", required_argument, NULL, 'n'},
                                          {"seconds", required_argument, NULL, 'S'},
                                          {"ops", no_argument, NULL, 'O'},
                                          {0}};
    state s = {.batch = 8, .runs = 100, .seconds = 5};
    cli_init(&s.options, argv[0]);
    int opt, code = CLI_OK;
    while (code == CLI_OK &&
           (opt = getopt_long(argc, argv, CLI_SHORT_OPTIONS "b:n:S:O", table, NULL)) != -1) {
        code = take_option(&s, opt);
    }
    if (code == CLI_OK && argc - optind > 1) {
        code = cli_usage(&s.options, "one picture at most");
    }
    if (code == CLI_OK && !s.options.weights) { /* timing needs no trained weights */
        s.options.golden = true;
    }
    if (code == CLI_OK) {
        code = cli_open_context(&s.options, &s.context);
    }
    if (code == CLI_OK) {
        code = cli_open_model(&s.options, s.context, &s.model);
    }
    if (code == CLI_OK) {
        code = run(&s, optind < argc ? argv[optind] : NULL);
    }
    vt_model_destroy(&s.model);
    vt_context_destroy(&s.context);
    return cli_finish(&s.options, code);
}
