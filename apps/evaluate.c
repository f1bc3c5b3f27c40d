/* SPDX-License-Identifier: Apache-2.0 */
/* evaluate: how often a classifier is right on a folder of labelled pictures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/evaluation.h"
#include "common/folder.h"
#include "common/output.h"
#include "common/report.h"
#include "common/shard.h"
#include "vertebra/image.h"

static const char help[] =
    "Usage: evaluate [options] DIR\n"
    "       evaluate --merge A.json B.json ... [--json F] [--csv F] [--report DIR]\n"
    "       evaluate --compare A.json B.json ...\n"
    "Runs every picture of DIR/class/ through a network once: top-1, top-5, mean per class, loss.\n"
    "Exit code 0: every picture was judged; 1: a picture is broken (named), or it was stopped.\n\n"
    "  evaluate --model swin_tiny_patch4_window7_224 --weights swin_tiny.pth imagenet/val\n"
    "  evaluate --weights w.safetensors --shard 1/4 --json 1.json val      # ... 2/4 3/4 4/4\n"
    "  evaluate --merge 1.json 2.json 3.json 4.json --report report\n"
    "  srun -n 8 evaluate --weights w.pth --shard auto --json 'part.{shard}.json' val\n\n"
    "  -b, --batch N          pictures that are loaded, on the CPU also run, together (default\n"
    "                         16, on a GPU 64)\n"
    "      --gpu-batch N      pictures per run of the network on a GPU (default 64); on one type\n"
    "                         of GPU only this can change the last bits of results\n"
    "      --workers N        threads that decode (default: one, on a GPU all processors)\n"
    "      --preprocess cpu|gpu   where pictures are resized and normalised, to the same bits\n"
    "                         (default cpu); the threads then only decode\n"
    "      --limit N          only N pictures, spread evenly over the list\n"
    "      --shard I/N        only part I of N (from 1 on); auto: from Slurm or MPI; {shard} in\n"
    "                         the names of results is I\n"
    "      --class-map FILE   line n is the folder of class n, or lines FOLDER<TAB>CLASS\n"
    "      --labels FILE      class names, one a line; default: those the weights carry\n"
    "      --subset           only classes that have a folder compete (ImageNet-A, -R)\n"
    "      --exif apply|ignore   turn photos as their EXIF orientation says (default ignore,\n"
    "                         as the published evaluations do)\n"
    "      --csv FILE         a line per picture\n"
    "  -j, --json FILE        everything, for --merge and for programs; - is stdout\n"
    "      --report DIR       DIR/index.html: confusions, classes, worst errors, calibration\n"
    "      --merge            put the JSON files of all shards together\n"
    "      --compare          list the pictures to which B has another answer than A, which ran\n"
    "                         on another device or in another type; exit code 1 where rounding\n"
    "                         does not explain it\n\n";

enum { MAX_DEVICES = 16 };

typedef struct state {
    cli_options options;
    const char *class_map, *labels_path, *csv_path, *json_path, *report_path, *shard_text;
    int batch, gpu_batch, workers, limit;
    bool merge, compare, subset, apply_exif, on_device; /* --preprocess gpu */
    int shard, shards;
    char *result_names[3]; /* of --json, --csv and --report, without {shard} */

    char *devices; /* own copy of --device, cut at the commas */
    int device_count;
    vt_context *contexts[MAX_DEVICES];
    const vt_model *models[MAX_DEVICES];
    cli_options decoder_options;
    vt_context *decoder;
    folder_set set;
    labels names;
    int *list;   /* pictures of the set that are evaluated, all shards */
    int *labels; /* of this shard's pictures */
    const char **paths;
    int *competing; /* --subset */
    int competing_count;
    output json, csv;
    double begin;
    bool bar_ended;
    evaluation result;
} state;

/* ---- options --------------------------------------------------------------------------------- */

static int take_number(const state *s, const char *name, int high, int *out)
{
    return cli_number(optarg, 1, high, out)
               ? CLI_OK
               : cli_usage(&s->options, "--%s %s: want 1 to %d", name, optarg, high);
}

static int take_option(state *s, int opt)
{
    switch (opt) {
    case 'b': return take_number(s, "batch", 65536, &s->batch);
    case 'g': return take_number(s, "gpu-batch", 65536, &s->gpu_batch);
    case 'W': return take_number(s, "workers", 256, &s->workers);
    case 'n': return take_number(s, "limit", 1 << 30, &s->limit);
    case 'H': s->shard_text = optarg; return CLI_OK;
    case 'M': s->class_map = optarg; return CLI_OK;
    case 'l': s->labels_path = optarg; return CLI_OK;
    case 'S': s->subset = true; return CLI_OK;
    case 'C': return cli_output_path(&s->options, "csv", optarg, &s->csv_path);
    case 'j': return cli_output_path(&s->options, "json", optarg, &s->json_path);
    case 'P': return cli_output_path(&s->options, "report", optarg, &s->report_path);
    case 'U': s->merge = true; return CLI_OK;
    case 'Q': s->compare = true; return CLI_OK;
    case 'X':
        s->apply_exif = strcmp(optarg, "apply") == 0;
        return s->apply_exif || strcmp(optarg, "ignore") == 0
                   ? CLI_OK
                   : cli_usage(&s->options, "--exif %s: want apply or ignore", optarg);
    case 'p':
        s->on_device = strcmp(optarg, "gpu") == 0;
        return s->on_device || strcmp(optarg, "cpu") == 0
                   ? CLI_OK
                   : cli_usage(&s->options, "--preprocess %s: want cpu or gpu", optarg);
    case 'h':
        printf("%s%s%s", help, CLI_MODEL_HELP, CLI_LAST_HELP);
        exit(cli_finish(&s->options, CLI_OK));
    default: return cli_common_option(&s->options, opt, optarg);
    }
}

/* Which shard this is, and the names of its results. */
static int read_shard(state *s)
{
    const struct {
        const char *option, **name;
    } results[] = {{"json", &s->json_path}, {"csv", &s->csv_path}, {"report", &s->report_path}};
    int result =
        s->shard_text ? shard_read(&s->options, s->shard_text, &s->shard, &s->shards) : CLI_OK;
    bool one_command = s->shard_text && strcmp(s->shard_text, "auto") == 0; /* for all shards */
    for (size_t i = 0; i < sizeof results / sizeof results[0] && result == CLI_OK; i++) {
        if (*results[i].name) {
            result = shard_name(&s->options, results[i].option, *results[i].name, s->shard,
                                one_command ? s->shards : 1, &s->result_names[i]);
            *results[i].name = s->result_names[i];
        }
    }
    return result;
}

static int parse(state *s, int argc, char **argv)
{
    static const struct option table[] = {{"json", required_argument, NULL, 'j'},
                                          CLI_COMMON_OPTIONS,
                                          {"batch", required_argument, NULL, 'b'},
                                          {"gpu-batch", required_argument, NULL, 'g'},
                                          {"workers", required_argument, NULL, 'W'},
                                          {"limit", required_argument, NULL, 'n'},
                                          {"shard", required_argument, NULL, 'H'},
                                          {"class-map", required_argument, NULL, 'M'},
                                          {"labels", required_argument, NULL, 'l'},
                                          {"subset", no_argument, NULL, 'S'},
                                          {"exif", required_argument, NULL, 'X'},
                                          {"csv", required_argument, NULL, 'C'},
                                          {"report", required_argument, NULL, 'P'},
                                          {"merge", no_argument, NULL, 'U'},
                                          {"compare", no_argument, NULL, 'Q'},
                                          {"preprocess", required_argument, NULL, 'p'},
                                          {0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "m:w:d:t:vhb:j:l:", table, NULL)) != -1) {
        int result = take_option(s, opt);
        if (result != CLI_OK) {
            return result;
        }
    }
    int names = argc - optind;
    if (s->merge) {
        return names ? CLI_OK
                     : cli_usage(&s->options, "--merge: give the JSON files of the shards");
    }
    if (s->compare) {
        return names > 1 ? CLI_OK
                         : cli_usage(&s->options, "--compare: give two JSON files or more");
    }
    if (names != 1) {
        return cli_usage(&s->options, names ? "give one folder" : "no folder given");
    }
    return read_shard(s);
}

/* ---- devices --------------------------------------------------------------------------------- */

/* A context of one thread for loading pictures, which the workers share. It keeps its options. */
static int open_decoder(state *s)
{
    s->decoder_options = s->options;
    s->decoder_options.device = "cpu";
    s->decoder_options.threads = 1;
    return cli_open_context(&s->decoder_options, &s->decoder);
}

/* A context and a model for each device of the list. */
static int open_models(state *s)
{
    s->devices = strdup(s->options.device);
    char *rest = s->devices;
    for (char *device; rest && (device = strsep(&rest, ","));) {
        if (s->device_count == MAX_DEVICES) {
            return cli_usage(&s->options, "--device: at most %d", MAX_DEVICES);
        }
        if (s->on_device && strncmp(device, "cuda", 4) != 0) {
            return cli_usage(&s->options, "--preprocess gpu wants --device cuda, not '%s'", device);
        }
        vt_model *model = NULL;
        s->options.device = device;
        int result = cli_open_context(&s->options, &s->contexts[s->device_count]);
        if (result == CLI_OK) {
            s->device_count++;
            result = cli_open_model(&s->options, s->contexts[s->device_count - 1], &model);
            s->models[s->device_count - 1] = model;
        }
        if (result != CLI_OK) {
            return result;
        }
    }
    if (vt_model_classes(s->models[0]) == 0) {
        return cli_fail(&s->options, "these weights have no classification head; try features");
    }
    return open_decoder(s);
}

static bool on_gpu(const state *s)
{
    return strncmp(s->devices, "cuda", 4) == 0;
}

/* ---- what is evaluated ----------------------------------------------------------------------- */

static int picture_class(const state *s, int picture)
{
    return s->set.classes[s->set.pictures[picture].folder];
}

/* The list of all shards: every picture, or --limit of them spread evenly. */
static int make_list(state *s)
{
    int count = s->limit && s->limit < s->set.count ? s->limit : s->set.count;
    s->list = malloc((size_t)count * sizeof *s->list);
    if (!s->list) {
        return cli_fail(&s->options, "out of memory");
    }
    for (int i = 0; i < count; i++) {
        s->list[i] = (int)((int64_t)i * s->set.count / count);
    }
    s->result.total = count;
    return s->shards <= count
               ? CLI_OK
               : cli_fail(&s->options, "--shard: %d shards of %d pictures", s->shards, count);
}

/* Of path, class and size of every picture of the list. */
static void hash_list(const state *s, char hex[VT_SHA256_HEX])
{
    vt_sha256 digest;
    vt_sha256_init(&digest);
    for (int64_t i = 0; i < s->result.total; i++) {
        const folder_picture *picture = &s->set.pictures[s->list[i]];
        char line[64];
        int length = snprintf(line, sizeof line, "\t%d\t%lld\n", picture_class(s, s->list[i]),
                              (long long)picture->size);
        vt_sha256_add(&digest, picture->path, strlen(picture->path));
        vt_sha256_add(&digest, line, (size_t)length);
    }
    vt_sha256_hex(&digest, hex);
}

/* This shard's pictures: I - 1, I - 1 + N, I - 1 + 2 N ... of the list. */
static int make_shard(state *s)
{
    evaluation *e = &s->result;
    e->shard = s->shard;
    e->shards = s->shards;
    int64_t count = (e->total - e->shard + e->shards) / e->shards;
    e->folder = strdup(s->set.root);
    bool room = evaluation_allocate(e, count, vt_model_classes(s->models[0])) && e->folder;
    s->labels = calloc((size_t)count + 1, sizeof *s->labels);
    s->paths = calloc((size_t)count + 1, sizeof *s->paths);
    for (int64_t i = 0; i < count && room && s->labels && s->paths; i++) {
        int64_t index = e->shard - 1 + i * e->shards;
        int picture = s->list[index];
        char *path = NULL;
        room = asprintf(&path, "%s/%s", s->set.root, s->set.pictures[picture].path) >= 0;
        s->paths[i] = room ? path : NULL;
        s->labels[i] = picture_class(s, picture);
        e->pictures[i] = (evaluated_picture){index, strdup(s->set.pictures[picture].path), NULL};
        room = room && e->pictures[i].path;
    }
    return room && s->labels && s->paths ? CLI_OK : cli_fail(&s->options, "out of memory");
}

/* The classes that have a folder, ascending. */
static int make_subset(state *s)
{
    int classes = vt_model_classes(s->models[0]);
    bool *there = calloc((size_t)classes, sizeof *there);
    s->competing = calloc((size_t)classes, sizeof *s->competing);
    for (int i = 0; there && i < s->set.folder_count; i++) {
        there[s->set.classes[i]] = true;
    }
    for (int c = 0; there && s->competing && c < classes; c++) {
        if (there[c]) {
            s->competing[s->competing_count++] = c;
        }
    }
    free(there);
    return s->competing_count ? CLI_OK : cli_fail(&s->options, "out of memory");
}

static void warn_about_folders(const state *s)
{
    for (int f = 0, i = 0; f < s->set.folder_count; f++) {
        int first = i; /* pictures are in the order of the folders */
        while (i < s->set.count && s->set.pictures[i].folder == f) {
            i++;
        }
        if (i == first) {
            (void)cli_fail(&s->options, "warning: no pictures in the class folder '%s'",
                           s->set.folders[f]);
        }
    }
    if (s->set.outside) {
        (void)cli_fail(&s->options, "warning: %d pictures lie in no class folder: left out",
                       s->set.outside);
    }
    if (s->set.others && s->options.verbose) {
        (void)cli_fail(&s->options, "%d files are no pictures by their names", s->set.others);
    }
}

static int find_pictures(state *s, const char *root)
{
    vt_error error = {0};
    int result = folder_read(&s->set, &s->options, root);
    if (result == CLI_OK && labels_open(&s->names, s->labels_path, s->models[0], &error) != VT_OK) {
        result = cli_fail(&s->options, "%s", error.message);
    }
    if (result == CLI_OK) {
        result = folder_map(&s->set, &s->options, s->models[0], &s->names, s->class_map);
    }
    if (result == CLI_OK) {
        warn_about_folders(s);
        result = make_list(s);
    }
    if (result == CLI_OK) {
        result = make_shard(s);
    }
    return result == CLI_OK && s->subset ? make_subset(s) : result;
}

/* ---- what the JSON says of it ---------------------------------------------------------------- */

static json_t *three(const float *values)
{
    return json_pack("[f, f, f]", (double)values[0], (double)values[1], (double)values[2]);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of an index's own digest and those of its shards, which lie beside it, by name. */
static vt_status digest_index(const char *path, char hex[VT_SHA256_HEX], vt_error *error)
{
    json_t *root = json_load_file(path, 0, NULL), *map = json_object_get(root, "weight_map"),
           *value;
    const char **files = calloc(json_object_size(map) + 1, sizeof *files), *key;
    size_t count = 0;
    json_object_foreach(map, key, value)
    {
        const char *file = json_string_value(value);
        if (files && file) {
            files[count++] = file;
        }
    }
    if (files) {
        qsort(files, count, sizeof *files, compare_texts);
    }
    vt_sha256 digest;
    vt_sha256_init(&digest);
    vt_sha256_add(&digest, hex, VT_SHA256_HEX - 1);
    vt_status status = VT_OK;
    for (size_t i = 0; i < count && status == VT_OK; i++) {
        char file[4096];
        if (i == 0 || strcmp(files[i], files[i - 1]) != 0) {
            const char *slash = strrchr(path, '/');
            snprintf(file, sizeof file, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path,
                     files[i]);
            status = vt_sha256_file(file, hex, error);
            vt_sha256_add(&digest, hex, VT_SHA256_HEX - 1);
        }
    }
    vt_sha256_hex(&digest, hex);
    free(files);
    json_decref(root);
    return status;
}

/* "golden" where there is no file. */
static int hash_weights(const state *s, char hex[VT_SHA256_HEX])
{
    static const char index[] = ".index.json";
    const char *path = s->options.weights_file;
    vt_error error = {0};
    snprintf(hex, VT_SHA256_HEX, "golden");
    vt_status status = path ? vt_sha256_file(path, hex, &error) : VT_OK;
    size_t length = path ? strlen(path) : 0;
    if (status == VT_OK && length > sizeof index &&
        strcmp(path + length - (sizeof index - 1), index) == 0) {
        status = digest_index(path, hex, &error);
    }
    return status == VT_OK ? CLI_OK : cli_fail(&s->options, "%s", error.message);
}

/* What the last bits depend on: of "cpu avx2, 8 threads" the first part, of "cuda:1 (NVIDIA H100
 * 80GB HBM3, sm_90, driver CUDA 13.0), 8 threads" the GPU's name and architecture. */
static json_t *device_kind(const vt_context *context)
{
    const char *text = vt_context_description(context), *gpu = strchr(text, '(');
    const char *start = gpu ? gpu + 1 : text, *end = strstr(start, gpu ? ", driver " : ", ");
    size_t length = end ? (size_t)(end - start) : strlen(start);
    return json_sprintf("%s%.*s", gpu ? "cuda " : "", (int)length, start);
}

/* Each kind of device once, in the order of --device. */
static json_t *device_kinds(const state *s)
{
    json_t *kinds = json_array(), *other;
    for (int i = 0; i < s->device_count; i++) {
        json_t *kind = device_kind(s->contexts[i]);
        bool there = false;
        size_t k;
        json_array_foreach(kinds, k, other)
        {
            there = there || json_equal(kind, other);
        }
        if (there) {
            json_decref(kind);
        } else {
            json_array_append_new(kinds, kind);
        }
    }
    if (json_array_size(kinds) > 1) {
        (void)cli_fail(&s->options, "warning: --device: timing decides which kind of device runs a "
                                    "picture, and with it the last bits");
    }
    return kinds;
}

static int describe_run(state *s, const vt_preprocess *p)
{
    static const char *const rules[] = {"auto", "pad", "mm", "timm"};
    char list[VT_SHA256_HEX], weights[VT_SHA256_HEX];
    hash_list(s, list);
    int result = hash_weights(s, weights);
    json_t *run = s->result.run = json_object();
    json_object_set_new(run, "version", json_string(vt_version()));
    json_object_set_new(run, "device", device_kinds(s));
    json_object_set_new(run, "model", json_string(vt_model_variant(s->models[0])->name));
    json_object_set_new(run, "weights_sha256", json_string(weights));
    json_object_set_new(run, "ema", json_boolean(s->options.settings.checkpoint.ema));
    json_object_set_new(run, "dtype", json_string(vt_dtype_name(vt_model_dtype(s->models[0]))));
    json_object_set_new(run, "f32_residual", json_boolean(s->options.settings.f32_residual));
    json_object_set_new(run, "gpu_batch", json_integer(s->gpu_batch));
    json_object_set_new(run, "swin_rule", json_string(rules[s->options.settings.window_rule]));
    json_object_set_new(run, "height", json_integer(p->height));
    json_object_set_new(run, "width", json_integer(p->width));
    json_object_set_new(run, "crop_pct", json_real(p->crop_pct));
    json_object_set_new(run, "resize_shorter", json_integer(p->resize_shorter));
    json_object_set_new(run, "crop_mode", json_string(vt_crop_mode_name(p->crop_mode)));
    json_object_set_new(run, "filter", json_string(vt_filter_name(p->filter)));
    json_object_set_new(run, "mean", three(p->mean));
    json_object_set_new(run, "std", three(p->std));
    json_object_set_new(run, "exif", json_string(s->apply_exif ? "apply" : "ignore"));
    json_object_set_new(run, "classes_from", json_string(s->set.rule));
    json_object_set_new(run, "subset", json_boolean(s->subset));
    json_object_set_new(run, "pictures", json_integer(s->result.total));
    json_object_set_new(run, "list_sha256", json_string(list));
    return result;
}

/* The names of the classes: a label file's, the weights', else the folder's. */
static int name_classes(state *s)
{
    bool room = true;
    for (int c = 0; c < s->result.class_count; c++) {
        char buffer[32];
        const char *name = label_of(&s->names, s->models[0], c, buffer);
        for (int f = 0; name == buffer && f < s->set.folder_count; f++) {
            name = s->set.classes[f] == c ? s->set.folders[f] : name;
        }
        s->result.class_names[c] = strdup(name);
        room = room && s->result.class_names[c];
    }
    return room ? CLI_OK : cli_fail(&s->options, "out of memory");
}

static void describe_place(state *s, const vt_evaluate_settings *settings)
{
    json_t *about = s->result.about = json_object();
    json_object_set_new(about, "folder", evaluation_text(s->set.root));
    if (s->options.weights_file) {
        json_object_set_new(about, "weights", evaluation_text(s->options.weights_file));
    }
    json_object_set_new(about, "device", json_string(vt_context_description(s->contexts[0])));
    json_object_set_new(about, "devices", json_integer(s->device_count));
    json_object_set_new(about, "batch", json_integer(settings->batch));
    json_object_set_new(about, "workers", json_integer(settings->workers));
    json_object_set_new(about, "preprocess", json_string(s->on_device ? "gpu" : "cpu"));
}

static double rate(double pictures, double seconds, int parts)
{
    return seconds > 0 ? pictures * parts / seconds : 0;
}

static void describe_speed(state *s, const vt_evaluate_times *t)
{
    double done = (double)(s->result.figures.pictures + s->result.figures.broken);
    json_t *speed = s->result.speed = json_object();
    json_object_set_new(speed, "seconds", json_real(t->whole));
    json_object_set_new(speed, "network_seconds", json_real(t->network));
    json_object_set_new(speed, "load_seconds", json_real(t->load));
    json_object_set_new(speed, "pictures_per_second", json_real(rate(done, t->whole, 1)));
    json_object_set_new(speed, "network_pictures_per_second",
                        json_real(rate(done, t->network, t->models)));
    json_object_set_new(speed, "load_pictures_per_second",
                        json_real(rate(done, t->load, t->workers)));
}

/* ---- running --------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool on_progress(void *user, int64_t done, int64_t total)
{
    state *s = user;
    char note[96], eta[32] = "-";
    double seconds = now() - s->begin, per_second = seconds > 0 ? (double)done / seconds : 0;
    if (done > 0) {
        int left = (int)((double)(total - done) / per_second + 0.5);
        snprintf(eta, sizeof eta, "%d:%02d:%02d", left / 3600, left / 60 % 60, left % 60);
    }
    snprintf(note, sizeof note, " %lld/%lld  %.1f/s  ETA %s", (long long)done, (long long)total,
             per_second, eta);
    if (!s->bar_ended) {
        cli_bar("evaluate", (uint64_t)done, (uint64_t)total, note);
        s->bar_ended = done == total || cli_interrupted();
        if (done < total && s->bar_ended) {
            cli_end_bar();
        }
    }
    return !cli_interrupted();
}

/* Keeps the message, less the picture's path, which is told with it. */
static void on_failed(void *user, int64_t i, const vt_error *error)
{
    state *s = user;
    const char *message = error->message, *path = s->paths[i];
    size_t length = strlen(path);
    if (strncmp(message, path, length) == 0 && strncmp(message + length, ": ", 2) == 0) {
        message += length + 2;
    }
    s->result.pictures[i].message = strdup(message);
}

static int run_pictures(state *s, const vt_preprocess *preprocess)
{
    vt_error error = {0};
    vt_evaluate_times times = {0};
    vt_picture_files files = {s->decoder, s->paths, *preprocess, vt_image_settings_default()};
    files.image.apply_exif = s->apply_exif;
    const vt_evaluate_source source = {.count = s->result.count,
                                       .labels = s->labels,
                                       .load = vt_picture_files_load,
                                       .user = &files,
                                       .height = preprocess->height,
                                       .width = preprocess->width,
                                       .preprocess = s->on_device ? preprocess : NULL,
                                       .decode = vt_picture_files_decode,
                                       .release = vt_picture_files_release};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int workers = on_gpu(s) && processors > 1 ? (int)processors : s->device_count;
    const vt_evaluate_settings settings = {.batch = s->batch    ? s->batch
                                                    : on_gpu(s) ? s->gpu_batch
                                                                : 16,
                                           .gpu_batch = s->gpu_batch,
                                           .workers = s->workers      ? s->workers
                                                      : workers < 256 ? workers
                                                                      : 256,
                                           .classes = s->competing,
                                           .class_count = s->competing_count,
                                           .progress = on_progress,
                                           .failed = on_failed,
                                           .user = s};
    describe_place(s, &settings);
    s->begin = now();
    vt_status status = vt_evaluate(s->models, s->device_count, &source, &settings,
                                   s->result.records, &times, &error);
    if (status != VT_OK && status != VT_ERR_CANCELLED) {
        return cli_fail(&s->options, "%s", error.message);
    }
    s->result.complete = status == VT_OK;
    evaluation_summarise(&s->result);
    describe_speed(s, &times);
    return CLI_OK;
}

/* ---- results --------------------------------------------------------------------------------- */

static int open_outputs(state *s)
{
    if (output_same(s->json_path, s->csv_path)) {
        return cli_usage(&s->options, "--json %s --csv %s: two results cannot go to one place",
                         s->json_path, s->csv_path);
    }
    int result = s->report_path ? report_prepare(&s->options, s->report_path) : CLI_OK;
    if (result == CLI_OK) {
        result = output_open(&s->json, &s->options, s->json_path);
    }
    return result == CLI_OK ? output_open(&s->csv, &s->options, s->csv_path) : result;
}

/* Every broken picture by name, in the order of the list. */
static int name_broken(const state *s)
{
    const evaluation *e = &s->result;
    for (int64_t i = 0; i < e->count; i++) {
        if (e->records[i].status != VT_OK && e->records[i].status != VT_ERR_CANCELLED) {
            (void)cli_fail(&s->options, "%s/%s: %s", e->folder, e->pictures[i].path,
                           e->pictures[i].message ? e->pictures[i].message : "broken");
        }
    }
    if (!e->complete) {
        return cli_fail(&s->options, "stopped after %lld of %lld pictures",
                        (long long)(e->count - e->figures.missing), (long long)e->count);
    }
    return e->figures.broken ? CLI_FAILED : CLI_OK;
}

static int write_results(state *s)
{
    int result = name_broken(s), wrote = CLI_OK;
    if (s->json.file) {
        evaluation_write_json(&s->result, s->json.file);
    }
    if (s->csv.file) {
        evaluation_write_csv(&s->result, s->csv.file);
    }
    if (s->json.file != stdout && s->csv.file != stdout) {
        evaluation_print(&s->result);
    }
    if (s->report_path) {
        wrote = report_write(&s->result, &s->options, s->decoder, s->report_path);
    }
    int json = output_close(&s->json, &s->options, true);
    int csv = output_close(&s->csv, &s->options, true);
    return result | wrote | json | csv ? CLI_FAILED : CLI_OK;
}

static int evaluate(state *s, const char *folder)
{
    if (s->report_path && folder_holds(folder, s->report_path)) {
        return cli_fail(&s->options, "--report %s: lies in %s, where it would become a class",
                        s->report_path, folder);
    }
    int result = open_outputs(s);
    if (result == CLI_OK) {
        result = open_models(s);
    }
    if (result == CLI_OK) {
        result = find_pictures(s, folder);
    }
    if (result != CLI_OK) {
        return result;
    }
    const vt_preprocess preprocess = cli_preprocess(&s->options, s->models[0]);
    result = describe_run(s, &preprocess);
    if (result == CLI_OK) {
        result = name_classes(s);
    }
    if (result == CLI_OK) {
        result = run_pictures(s, &preprocess);
    }
    return result == CLI_OK ? write_results(s) : result;
}

static int merge(state *s, char **paths, int count)
{
    evaluation *parts = calloc((size_t)count, sizeof *parts);
    int result = parts ? open_outputs(s) : cli_fail(&s->options, "out of memory");
    if (result == CLI_OK) {
        result = open_decoder(s);
    }
    for (int i = 0; i < count && result == CLI_OK; i++) {
        result = evaluation_read(&parts[i], &s->options, paths[i]);
    }
    if (result == CLI_OK) {
        result = evaluation_merge(&s->result, &s->options, parts, paths, count);
    }
    for (int i = 0; parts && i < count; i++) {
        evaluation_clear(&parts[i]);
    }
    free(parts);
    return result == CLI_OK ? write_results(s) : result;
}

/* Each of the others with the first. */
static int compare(const state *s, char **paths, int count)
{
    evaluation first, other;
    int result = evaluation_read(&first, &s->options, paths[0]);
    for (int i = 1, bad = result; i < count && bad == CLI_OK; i++) {
        bad = evaluation_read(&other, &s->options, paths[i]);
        result |= bad ? bad : evaluation_compare(&s->options, &first, paths[0], &other, paths[i]);
        evaluation_clear(&other);
    }
    evaluation_clear(&first);
    return result;
}

static void clear(state *s)
{
    (void)output_close(&s->json, &s->options, false);
    (void)output_close(&s->csv, &s->options, false);
    for (int64_t i = 0; s->paths && i < s->result.count; i++) {
        free((char *)s->paths[i]);
    }
    for (int i = 0; i < s->device_count; i++) {
        vt_model *model = (vt_model *)s->models[i];
        vt_model_destroy(&model);
        vt_context_destroy(&s->contexts[i]);
    }
    vt_context_destroy(&s->decoder);
    evaluation_clear(&s->result);
    folder_clear(&s->set);
    labels_clear(&s->names);
    for (size_t i = 0; i < sizeof s->result_names / sizeof s->result_names[0]; i++) {
        free(s->result_names[i]);
    }
    free(s->devices);
    free(s->list);
    free(s->labels);
    free(s->paths);
    free(s->competing);
}

int main(int argc, char **argv)
{
    state s = {.gpu_batch = VT_EVALUATE_GPU_BATCH, .shard = 1, .shards = 1};
    cli_init(&s.options, argv[0]);
    s.options.reproducible = true; /* a folder keeps the threads that decode busy longer */
    int result = parse(&s, argc, argv);
    char **names = argv + optind;
    if (result == CLI_OK) {
        result = s.merge     ? merge(&s, names, argc - optind)
                 : s.compare ? compare(&s, names, argc - optind)
                             : evaluate(&s, names[0]);
    }
    clear(&s);
    return cli_finish(&s.options, result);
}
