/* SPDX-License-Identifier: Apache-2.0 */
/* info: which models there are, what a checkpoint holds, what a network costs. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"

static const char help[] =
    "Usage: info [options] [FILE]\n"
    "Without arguments: the models. With a FILE: the tensors it holds. With --model: parameters,\n"
    "operations and memory for --size and --batch (and --keys: every parameter's name and "
    "shape).\n\n"
    "  info\n"
    "  info swin_tiny.pth\n"
    "  info --model swin_tiny_patch4_window7_224 --size 384x512 --batch 8\n\n"
    "  -b, --batch N          pictures per call (default 1)\n"
    "  -K, --keys             list the parameters of --model as checkpoints name them\n"
    "  -O, --ops              list the operations of --model after planning\n";

typedef struct state {
    cli_options options;
    vt_context *context;
    int batch;
    bool keys, ops;
} state;

static int list_models(const state *s)
{
    const vt_family *family, *previous = NULL;
    const vt_variant *v;
    json_t *all = json_array();
    for (size_t i = 0; (v = vt_variant_at(s->context, i, &family)) != NULL; i++) {
        if (s->options.json) {
            json_array_append_new(all,
                                  json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:s}", "name", v->name,
                                            "family", family->name, "height", v->preprocess.height,
                                            "width", v->preprocess.width, "classes", v->classes,
                                            "checkpoint", v->checkpoint, "license", v->license));
            continue;
        }
        if (family != previous) {
            printf("%s: %s (code: %s, %s)\n", family->name, family->title, family->source,
                   family->license);
            previous = family;
        }
        printf("  %-38s %4dx%-4d %6d classes  %s\n", v->name, v->preprocess.height,
               v->preprocess.width, v->classes, v->checkpoint);
    }
    if (s->options.json) {
        json_dumpf(all, stdout, JSON_INDENT(1));
        putchar('\n');
    }
    json_decref(all);
    return CLI_OK;
}

static void print_shape(int rank, const int64_t *shape)
{
    putchar('[');
    for (int i = 0; i < rank; i++) {
        printf("%s%lld", i ? ", " : "", (long long)shape[i]);
    }
    putchar(']');
}

static json_t *json_shape(int rank, const int64_t *shape)
{
    json_t *array = json_array();
    for (int i = 0; i < rank; i++) {
        json_array_append_new(array, json_integer(shape[i]));
    }
    return array;
}

static int list_file(const state *s, const char *path)
{
    vt_error error = {0};
    vt_checkpoint *file = NULL;
    if (vt_checkpoint_open(&file, s->context, path, &s->options.settings.checkpoint, &error)) {
        return cli_fail(&s->options, "%s", error.message);
    }
    int64_t total = 0;
    json_t *tensors = json_array();
    size_t count = vt_checkpoint_count(file);
    for (size_t i = 0; i < count; i++) {
        const vt_checkpoint_entry *e = vt_checkpoint_at(file, i);
        total += e->elements;
        if (s->options.json) {
            json_array_append_new(tensors,
                                  json_pack("{s:o, s:s, s:o}", "name", cli_json_text(e->name),
                                            "dtype", vt_dtype_name(e->dtype), "shape",
                                            json_shape(e->rank, e->shape)));
        } else {
            printf("%-5s ", vt_dtype_name(e->dtype));
            cli_print_text(e->name);
            putchar(' ');
            print_shape(e->rank, e->shape);
            putchar('\n');
        }
    }
    if (s->options.json) {
        json_t *all = json_pack("{s:s, s:o, s:I, s:O}", "format", vt_checkpoint_format(file),
                                "root", cli_json_text(vt_checkpoint_root(file)), "elements",
                                (json_int_t)total, "tensors", tensors);
        json_dumpf(all, stdout, JSON_INDENT(1));
        putchar('\n');
        json_decref(all);
    } else {
        const char *root = vt_checkpoint_root(file), *model;
        model = vt_checkpoint_metadata(file, "vertebra.model");
        printf("%zu tensors, %.3f M elements, %s%s", count, (double)total / 1e6,
               vt_checkpoint_format(file), *root ? ", weights under " : "");
        cli_print_text(root);
        fputs(model ? ", for " : "", stdout);
        cli_print_text(model ? model : "");
        putchar('\n');
    }
    json_decref(tensors);
    vt_checkpoint_close(&file);
    return CLI_OK;
}

static void list_keys(const vt_model *model)
{
    const char *name;
    const int64_t *shape;
    int rank;
    for (size_t i = 0; vt_model_parameter(model, i, &name, &rank, &shape); i++) {
        printf("%s ", name);
        print_shape(rank, shape);
        putchar('\n');
    }
}

/* Sums up the plan of the prepared shape; lists it when asked. */
static void print_cost(const state *s, const vt_model *model, vt_session *session, size_t memory)
{
    vt_op_info op;
    double flops = 0, bytes = 0;
    const vt_variant *v = vt_model_variant(model);
    int h = s->options.height ? s->options.height : v->preprocess.height;
    int w = s->options.height ? s->options.width : v->preprocess.width;
    for (size_t i = 0; vt_session_op(session, i, &op); i++) {
        flops += op.flops;
        bytes += op.bytes;
        if (s->ops) {
            printf("%-24s %-14s %-12s %9.1f MFLOP %9.2f MB\n", op.label, op.kind, op.implementation,
                   op.flops / 1e6, op.bytes / 1e6);
        }
    }
    if (s->options.json) {
        json_t *j = json_pack(
            "{s:s, s:i, s:i, s:i, s:I, s:I, s:I, s:f, s:f, s:s}", "model", v->name, "batch",
            s->batch, "height", h, "width", w, "parameters", (json_int_t)vt_model_parameters(model),
            "weight_bytes", (json_int_t)vt_model_bytes(model), "activation_bytes",
            (json_int_t)memory, "flops", flops, "bytes_moved", bytes, "license", v->license);
        json_dumpf(j, stdout, JSON_INDENT(1));
        putchar('\n');
        json_decref(j);
        return;
    }
    printf("%s (%s, %s)\n", v->name, vt_model_family(model)->title, vt_model_dialect(model));
    printf("  weights      %s, licence %s\n", v->checkpoint, v->license);
    printf("  parameters   %.2f M, %.1f MB as %s\n", (double)vt_model_parameters(model) / 1e6,
           (double)vt_model_bytes(model) / 1e6, vt_dtype_name(vt_model_dtype(model)));
    printf("  input        %d x 3 x %d x %d\n", s->batch, h, w);
    printf("  operations   %.3f GFLOP (multiply-add = 2)\n", flops / 1e9);
    printf("  bytes moved  %.1f MB (each operand once)\n", bytes / 1e6);
    printf("  memory       %.1f MB besides the weights\n", (double)memory / 1e6);
}

static int describe_model(state *s)
{
    vt_error error = {0};
    vt_model *model = NULL;
    vt_session *session = NULL;
    size_t memory = 0;
    s->options.golden = s->options.weights == NULL; /* shapes are enough */
    int result = cli_open_model(&s->options, s->context, &model);
    if (result == CLI_OK && s->keys) {
        list_keys(model);
    } else if (result == CLI_OK) {
        const vt_preprocess p = cli_preprocess(&s->options, model);
        vt_status status = vt_session_create(&session, model, NULL, &error);
        if (status == VT_OK) {
            status = vt_session_memory(session, s->batch, p.height, p.width, &memory, &error);
        }
        if (status == VT_OK) {
            status = vt_session_prepare(session, s->batch, p.height, p.width, &error);
        }
        if (status == VT_OK) {
            print_cost(s, model, session, memory);
        } else {
            result = cli_fail(&s->options, "%s", error.message);
        }
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    return result;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {CLI_COMMON_OPTIONS,
                                          {"batch", required_argument, NULL, 'b'},
                                          {"keys", no_argument, NULL, 'K'},
                                          {"ops", no_argument, NULL, 'O'},
                                          {0}};
    state s = {.batch = 1};
    cli_init(&s.options, argv[0]);
    int opt, result = CLI_OK;
    while (result == CLI_OK &&
           (opt = getopt_long(argc, argv, CLI_SHORT_OPTIONS "b:KO", table, NULL)) != -1) {
        switch (opt) {
        case 'h': printf("%s\n%s", help, CLI_COMMON_HELP); return cli_finish(&s.options, CLI_OK);
        case 'K': s.keys = true; break;
        case 'O': s.ops = true; break;
        case 'b':
            if (!cli_number(optarg, 1, 65536, &s.batch)) {
                result = cli_usage(&s.options, "--batch %s: want 1 to 65536", optarg);
            }
            break;
        default: result = cli_common_option(&s.options, opt, optarg);
        }
    }
    if (result == CLI_OK && argc - optind > 1) {
        result = cli_usage(&s.options, "one file at a time");
    }
    if (result == CLI_OK) {
        result = cli_open_context(&s.options, &s.context);
    }
    if (result == CLI_OK) {
        result = optind < argc                          ? list_file(&s, argv[optind])
                 : s.options.model || s.options.weights ? describe_model(&s)
                                                        : list_models(&s);
    }
    vt_context_destroy(&s.context);
    return cli_finish(&s.options, result);
}
