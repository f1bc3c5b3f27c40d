/* SPDX-License-Identifier: Apache-2.0 */
/* bench: how long a network takes here, and how far that is from what the machine can do. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/input.h"
#include "vertebra_cuda.h"

static const char help[] =
    "Usage: bench [options] [PICTURE]\n"
    "Times a network at batch 1 and at --batch: median and 99th percentile, images per second, "
    "share\n"
    "of the measured peak and of the floor, the median with the input brought in and the logits "
    "out,\n"
    "memory. The floor of an operation is the larger of its bytes at the copy rate and its\n"
    "multiply-adds at the peak, both measured on this machine.\n"
    "With a PICTURE also decoding and preprocessing.\n\n"
    "  bench\n"
    "  bench --model swin_tiny_patch4_window7_224 --dtype bf16 --threads 2 --batch 16 --ops\n"
    "  bench --device cuda --dtype f16 --model swin_tiny_patch4_window7_224\n\n"
    "  -b, --batch N          size of the large batch (default 8, on a GPU 64 and 256; 1: only "
    "batch 1)\n"
    "  -n, --runs N           timed runs at most (default 100; at least 3 and about --seconds)\n"
    "  -S, --seconds S        time to spend on each batch size (default 5)\n"
    "  -O, --ops              time every operation\n";

typedef struct timing {
    double min, median, p99; /* seconds */
    int runs;
} timing;

enum { MAX_OPS = 4096, MAX_BATCHES = 3 };

typedef struct op_row {
    vt_op_info info; /* seconds: the smallest seen; 0 without --ops */
    char where[64];  /* info.label, which goes with its session */
} op_row;

/* One batch size. */
typedef struct result {
    int batch;
    timing network; /* without bringing the input in and the logits out */
    timing whole;   /* with them */
    double flops;
    size_t memory; /* of activations, scratch and workspace */
    op_row *ops;
    int op_count;
} result;

typedef struct state {
    cli_options options;
    vt_context *context;
    vt_model *model;
    vt_preprocess preprocess;
    int batch, runs, seconds; /* batch 0: not given */
    bool ops;
    result results[MAX_BATCHES];
    int result_count;
    double peak;                       /* GFLOP/s, 0: unknown */
    double copy_rate;                  /* GB/s, 0: unknown */
    double process_peak;               /* bytes, before the rates are measured */
    double device_before, device_peak; /* bytes that the driver counts as used; 0: no GPU */
    double decode, prepare;            /* seconds for the picture */
} state;

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

/* The operations of the session's current plan; with seconds, the best time of each. */
static void note_ops(const vt_session *session, result *out)
{
    vt_op_info info;
    int i = 0;
    for (; i < MAX_OPS && vt_session_op(session, (size_t)i, &info); i++) {
        op_row *o = &out->ops[i];
        double best = o->info.seconds;
        o->info = info;
        o->info.seconds = best > 0 && best < info.seconds ? best : info.seconds;
        snprintf(o->where, sizeof o->where, "%s", info.label);
    }
    out->op_count = i;
}

/* A few rounds that time the operations one by one. */
static vt_status measure_ops(const state *s, const vt_tensor *in, result *out, vt_error *error)
{
    enum { ROUNDS = 20 };
    vt_session *session = NULL;
    vt_session_settings settings = {.profile = true};
    vt_status status = vt_session_create(&session, s->model, &settings, error);
    double begin = now();
    for (int k = 0; status == VT_OK && k < ROUNDS && (k < 2 || now() - begin < s->seconds); k++) {
        status = vt_session_forward(session, in, error);
        if (status == VT_OK) {
            note_ops(session, out);
        }
    }
    vt_session_destroy(&session);
    return status;
}

/* What the driver counts as used on the GPU, all programs together; 0 on other devices. */
static double device_memory(const state *s)
{
    size_t available = 0, all = 0;
    vt_status status = vt_context_cuda_memory(s->context, &available, &all, NULL);
    return status == VT_OK ? (double)(all - available) : 0;
}

static int bench_batch(state *s, int batch)
{
    vt_error error = {0};
    result *out = &s->results[s->result_count++];
    int h = s->preprocess.height, w = s->preprocess.width;
    float *picture = malloc(3 * (size_t)h * (size_t)w * (size_t)batch * sizeof *picture);
    vt_session *session = NULL;
    out->batch = batch;
    out->ops = calloc(MAX_OPS, sizeof *out->ops);
    vt_status status = picture && out->ops ? vt_session_create(&session, s->model, NULL, &error)
                                           : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        vt_golden_picture(batch, h, w, picture);
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, batch, 3, h, w);
        status = vt_session_memory(session, batch, h, w, &out->memory, &error);
        status = status == VT_OK ? measure(s, session, &in, out, &error) : status;
        if (status == VT_OK) {
            note_ops(session, out);
        }
        double used = device_memory(s);
        s->device_peak = used > s->device_peak ? used : s->device_peak;
        vt_session_destroy(&session);
        status = status == VT_OK && s->ops ? measure_ops(s, &in, out, &error) : status;
    }
    for (int i = 0; i < out->op_count; i++) {
        out->flops += out->ops[i].info.flops;
    }
    vt_session_destroy(&session);
    free(picture);
    return status == VT_OK ? CLI_OK : cli_fail(&s->options, "%s", error.message);
}

/* Decoding and preprocessing of one picture: the best of ten. */
static int bench_picture(state *s, const char *path)
{
    vt_error error = {0};
    float *out =
        malloc(3 * (size_t)s->preprocess.height * (size_t)s->preprocess.width * sizeof *out);
    vt_status status = out ? VT_OK : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    s->decode = s->prepare = 1e9;
    for (int i = 0; status == VT_OK && i < 10; i++) {
        vt_image image;
        double start = now();
        status = vt_image_load(&image, s->context, path, NULL, &error);
        double middle = now();
        if (status == VT_OK) {
            vt_pixels pixels = vt_image_pixels(&image);
            status = vt_preprocess_run(s->context, &s->preprocess, &pixels, out, &error);
            double end = now();
            s->decode = middle - start < s->decode ? middle - start : s->decode;
            s->prepare = end - middle < s->prepare ? end - middle : s->prepare;
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

/* ---- floors ---------------------------------------------------------------------------------- */

/* Seconds that an operation takes at least when its operands come from memory; 0: unknown. Where
 * they are still in a cache it may take less. */
static double floor_of(const state *s, const vt_op_info *o)
{
    if (s->peak <= 0 || s->copy_rate <= 0) {
        return 0;
    }
    double bytes = 1e-9 * o->bytes / s->copy_rate, flops = 1e-9 * o->flops / s->peak;
    return bytes > flops ? bytes : flops;
}

static double floor_of_all(const state *s, const result *r)
{
    double sum = 0;
    for (int i = 0; i < r->op_count; i++) {
        sum += floor_of(s, &r->ops[i].info);
    }
    return sum;
}

static double seconds_of_all(const result *r)
{
    double sum = 0;
    for (int i = 0; i < r->op_count; i++) {
        sum += r->ops[i].info.seconds;
    }
    return sum;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* A column of shares: part / whole in percent. */
static void print_share(double part, double whole)
{
    if (part > 0 && whole > 0) {
        printf(" %7.1f", 100 * part / whole);
    } else {
        printf(" %7s", "-");
    }
}

static void print_batches(const state *s)
{
    printf("%8s %9s %9s %9s %9s %9s %7s %7s %9s %8s %6s\n", "batch", "min ms", "median", "p99",
           "images/s", "GFLOP/s", "% peak", "% floor", "+ copies", "MB", "runs");
    for (int i = 0; i < s->result_count; i++) {
        const result *r = &s->results[i];
        const timing *t = &r->network;
        double rate = r->flops / t->median / 1e9;
        printf("%8d %9.3f %9.3f %9.3f %9.1f %9.1f", r->batch, t->min * 1e3, t->median * 1e3,
               t->p99 * 1e3, r->batch / t->median, rate);
        print_share(rate, s->peak);
        print_share(floor_of_all(s, r), t->median);
        printf(" %9.3f %8.1f %6d\n", r->whole.median * 1e3, (double)r->memory / 1e6, t->runs);
    }
}

static void print_ops(const state *s, const result *r)
{
    printf("\nbatch %d, operations one by one\n", r->batch);
    printf("%-26s %-14s %-14s %9s %9s %9s %8s %8s %7s\n", "where", "operation", "implementation",
           "us", "MB", "GFLOP", "GB/s", "TFLOP/s", "% floor");
    for (int i = 0; i < r->op_count; i++) {
        const vt_op_info *o = &r->ops[i].info;
        printf("%-26s %-14s %-14s %9.1f %9.2f %9.3f %8.1f %8.3f", r->ops[i].where, o->kind,
               o->implementation, o->seconds * 1e6, o->bytes / 1e6, o->flops / 1e9,
               o->bytes / o->seconds / 1e9, o->flops / o->seconds / 1e12);
        print_share(floor_of(s, o), o->seconds);
        printf("\n");
    }
    double least = floor_of_all(s, r), sum = seconds_of_all(r), median = r->network.median;
    if (least > 0) {
        printf("sum of floors %.3f ms: %.1f %% of the operations (%.3f ms), %.1f %% of the network "
               "(%.3f ms)\n",
               least * 1e3, 100 * least / sum, sum * 1e3, 100 * least / median, median * 1e3);
    }
}

static void print_tables(const state *s, const char *path)
{
    if (s->peak > 0) {
        printf("measured peak %.0f GFLOP/s, copies %.1f GB/s (read and written)\n", s->peak,
               s->copy_rate);
    }
    print_batches(s);
    for (int i = 0; s->ops && i < s->result_count; i++) {
        print_ops(s, &s->results[i]);
    }
    if (path) {
        printf("%s: decode %.2f ms, preprocess %.2f ms, with batch 1 together %.2f ms\n", path,
               s->decode * 1e3, s->prepare * 1e3,
               (s->decode + s->prepare + s->results[0].whole.median) * 1e3);
    }
    printf("weights %.1f MB, peak memory of the process %.1f MB\n",
           (double)vt_model_bytes(s->model) / 1e6, s->process_peak / 1e6);
    if (s->device_peak > 0) {
        printf("GPU memory: weights %.1f MB, activations and workspace %.1f MB; the driver counts "
               "%.1f MB before loading, %.1f MB at most\n",
               (double)vt_model_bytes(s->model) / 1e6,
               (double)s->results[s->result_count - 1].memory / 1e6, s->device_before / 1e6,
               s->device_peak / 1e6);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *json_timing(const timing *t)
{
    return json_pack("{s:f, s:f, s:f, s:i}", "min", t->min * 1e3, "median", t->median * 1e3, "p99",
                     t->p99 * 1e3, "runs", t->runs);
}

static json_t *json_ops(const state *s, const result *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->op_count; i++) {
        const vt_op_info *o = &r->ops[i].info;
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f}", "where",
                                        r->ops[i].where, "operation", o->kind, "implementation",
                                        o->implementation, "us", o->seconds * 1e6, "flop", o->flops,
                                        "bytes", o->bytes, "floor_us", floor_of(s, o) * 1e6));
    }
    return list;
}

static json_t *json_batch(const state *s, const result *r)
{
    json_t *j =
        json_pack("{s:i, s:o, s:o, s:f, s:f, s:f, s:I}", "batch", r->batch, "latency_ms",
                  json_timing(&r->network), "latency_with_copies_ms", json_timing(&r->whole),
                  "images_per_second", r->batch / r->network.median, "gflop", r->flops / 1e9,
                  "floor_ms", floor_of_all(s, r) * 1e3, "activation_bytes", (json_int_t)r->memory);
    if (s->ops) {
        json_object_set_new(j, "ops", json_ops(s, r));
    }
    return j;
}

static void print_json(const state *s, const char *path)
{
    const result *one = &s->results[0];
    json_t *batches = json_array();
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:I, s:f}", "model", vt_model_variant(s->model)->name,
        "device", vt_context_description(s->context), "dtype",
        vt_dtype_name(vt_model_dtype(s->model)), "height", s->preprocess.height, "width",
        s->preprocess.width, "peak_gflops", s->peak, "copy_gbs", s->copy_rate, "weight_bytes",
        (json_int_t)vt_model_bytes(s->model), "peak_memory_bytes", s->process_peak);
    if (s->device_peak > 0) {
        json_object_set_new(j, "device_memory_before_bytes", json_real(s->device_before));
        json_object_set_new(j, "device_memory_peak_bytes", json_real(s->device_peak));
    }
    if (path) {
        json_object_set_new(j, "decode_ms", json_real(s->decode * 1e3));
        json_object_set_new(j, "preprocess_ms", json_real(s->prepare * 1e3));
    }
    json_object_set_new(j, "latency_ms", json_timing(&one->network));
    for (int i = 0; i < s->result_count; i++) {
        json_array_append_new(batches, json_batch(s, &s->results[i]));
    }
    json_object_set_new(j, "batches", batches);
    json_dumpf(j, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(j);
}

/* ---- the program ----------------------------------------------------------------------------- */

/* The sizes to time: 1 and what was asked for, or what suits the device. */
static int choose_batches(const state *s, int batches[MAX_BATCHES])
{
    bool gpu = s->device_before > 0;
    batches[0] = 1;
    batches[1] = s->batch ? s->batch : gpu ? 64 : 8;
    batches[2] = 256;
    return batches[1] == 1 ? 1 : gpu && !s->batch ? 3 : 2;
}

static int run(state *s, const char *path)
{
    int batches[MAX_BATCHES], count = choose_batches(s, batches), code = CLI_OK;
    s->preprocess = cli_preprocess(&s->options, s->model);
    if (!s->options.json) {
        printf("%s at %dx%d, %s, %s\n", vt_model_variant(s->model)->name, s->preprocess.height,
               s->preprocess.width, vt_dtype_name(vt_model_dtype(s->model)),
               vt_context_description(s->context));
        fflush(stdout);
    }
    for (int i = 0; code == CLI_OK && i < count; i++) {
        code = bench_batch(s, batches[i]);
    }
    if (code == CLI_OK && path) {
        code = bench_picture(s, path);
    }
    if (code != CLI_OK) {
        return code;
    }
    s->process_peak = peak_memory(); /* the rates take memory of their own */
    s->peak = vt_context_peak(s->context, vt_model_dtype(s->model));
    s->copy_rate = vt_context_copy_rate(s->context);
    if (s->options.json) {
        print_json(s, path);
    } else {
        print_tables(s, path);
    }
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
    state s = {.runs = 100, .seconds = 5};
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
    s.device_before = code == CLI_OK ? device_memory(&s) : 0;
    if (code == CLI_OK) {
        code = cli_open_model(&s.options, s.context, &s.model);
    }
    if (code == CLI_OK) {
        code = run(&s, optind < argc ? argv[optind] : NULL);
    }
    for (int i = 0; i < s.result_count; i++) {
        free(s.results[i].ops);
    }
    vt_model_destroy(&s.model);
    vt_context_destroy(&s.context);
    return cli_finish(&s.options, code);
}
