/* SPDX-License-Identifier: Apache-2.0 */
/* Published namings of Swin: files written here under every publisher's names, with the key lists
 * of tests/fixtures/swin, must give the very network that timm's names give. And files that do not
 * fit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "support/model_compare.h"
#include "support/model_golden.h"
#include "support/model_nano_v2.h"
#include "support/model_writer.h"

#define V1 "swin_nano_patch4_window7_224"
#define V2 "swinv2_nano_window8_128"

enum { HEIGHT = 75, WIDTH = 61 }; /* no window divides them; MM and PAD differ there */

static char path[] = "/tmp/vertebra-dialect-XXXXXX";
static char warnings[4096];
static vt_family v2; /* nano_v2 with the names of Swin */

static void on_log(void *user, vt_log_level level, const char *line)
{
    (void)user;
    if (level == VT_LOG_WARNING && strlen(warnings) + strlen(line) + 2 < sizeof warnings) {
        strcat(warnings, line);
        strcat(warnings, "\n");
    }
}

static vt_context *open_context(const char *device)
{
    vt_context_settings settings = vt_context_settings_default();
    vt_error error = {0};
    const vt_family *swin = NULL;
    settings.device = device;
    settings.threads = 2;
    settings.log = on_log;
    vt_context *context = test_context_with(&settings);
    assert_non_null(vt_variant_find(context, V1, &swin));
    v2 = nano_v2_family;
    v2.dialects = swin->dialects;
    expect_status(vt_context_register(context, &v2, &error), VT_OK, &error);
    warnings[0] = '\0';
    return context;
}

static int set_up(void **state)
{
    (void)state;
    int descriptor = mkstemp(path);
    return descriptor < 0 ? -1 : close(descriptor);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

/* ---- files under other names ----------------------------------------------------------------- */

/* How much of the list to write. */
enum { OWN_NORMS = 1, BUFFERS = 2 };

/* columns in nn.Unfold's order, from the checkpoint's blocks (dy fastest, then dx) */
static float *unfolded(const written_tensor *t)
{
    int64_t count = shape_elements(t->rank, t->shape), cols = t->shape[t->rank - 1];
    float *out = malloc((size_t)count * sizeof *out);
    for (int64_t i = 0; i < count; i++) {
        int64_t row = i / cols, block = i % cols / (cols / 4), c = i % (cols / 4);
        int64_t dy = block % 2, dx = block / 2;
        out[row * cols + c * 4 + dy * 2 + dx] = t->data[i];
    }
    return out;
}

/* One row of a key list; `from` is the tensor under timm's name, NULL for what has none. */
static void add_row(model_writer *w, const model_writer *timm, const json_t *row,
                    const written_tensor *from)
{
    const char *key = json_string_value(json_object_get(row, "key"));
    const char *how = json_string_value(json_object_get(row, "how"));
    int64_t shape[4] = {0};
    int rank = from ? from->rank : (int)json_array_size(json_object_get(row, "shape"));
    for (int i = 0; i < rank; i++) {
        shape[i] =
            from ? from->shape[i]
                 : json_integer_value(json_array_get(json_object_get(row, "shape"), (size_t)i));
    }
    int64_t count = shape_elements(rank, shape);
    float *data = NULL;
    if (!from) { /* an own norm or a buffer, which nobody may read */
        data = golden_tensor(key, rank, shape);
    } else if (strcmp(how, "unfold") == 0) {
        data = unfolded(from);
    } else if (strcmp(how, "qkv_bias") == 0) { /* the middle third counts as zero */
        char name[200];
        snprintf(name, sizeof name, "%s", from->name);
        memcpy(strrchr(name, '.'), ".v_bias", sizeof ".v_bias");
        data = malloc((size_t)(3 * count) * sizeof *data);
        memcpy(data, from->data, (size_t)count * sizeof *data);
        memcpy(data + 2 * count, writer_find(timm, name)->data, (size_t)count * sizeof *data);
        for (int64_t i = 0; i < count; i++) {
            data[count + i] = 0.7f;
        }
        shape[0] *= 3;
    } else {
        int64_t parts = strcmp(how, "same") == 0 ? 1 : 3, part = strchr("qkv", how[0]) - "qkv";
        data = malloc((size_t)(count / parts) * sizeof *data);
        memcpy(data, from->data + (parts == 3 ? part * (count / 3) : 0),
               (size_t)(count / parts) * sizeof *data);
        shape[0] /= parts;
    }
    writer_add(w, key, rank, shape, data);
    if (strstr(key, "relative_position_index")) {
        w->tensors[w->count - 1].dtype = VT_I64;
    }
}

/* The tensors of `timm` as a file of that naming holds them. */
static model_writer renamed(const model_writer *timm, const char *list, int extras)
{
    char name[128];
    json_error_t why;
    model_writer w = {0};
    snprintf(name, sizeof name, "tests/fixtures/swin/%s.json", list);
    json_t *root = json_load_file(name, 0, &why), *row;
    size_t i, taken = 0;
    if (!root) {
        fail_msg("%s: %s", name, why.text);
    }
    json_array_foreach(json_object_get(root, "keys"), i, row)
    {
        const char *from = json_string_value(json_object_get(row, "from"));
        const char *how = json_string_value(json_object_get(row, "how"));
        const written_tensor *source = from ? writer_find(timm, from) : NULL;
        bool own = strcmp(how, "own") == 0;
        if (from ? source != NULL : (extras & (own ? OWN_NORMS : BUFFERS)) != 0) {
            add_row(&w, timm, row, source);
            taken += from != NULL;
        }
    }
    assert_true(taken > 100); /* the list is of a deeper network, but has all of these */
    json_decref(root);
    return w;
}

/* "backbone.norm{i}" of the lists is for other widths: this network's own. */
static void fit_own_norms(model_writer *w, int width)
{
    for (int64_t i = 0; i < 4; i++) {
        for (int k = 0; k < 2; k++) {
            char name[64];
            int64_t shape[] = {(int64_t)width << i};
            snprintf(name, sizeof name, "backbone.norm%d.%s", (int)i, k ? "bias" : "weight");
            writer_remove(w, name);
            writer_add(w, name, 1, shape, golden_tensor(name, 1, shape));
        }
    }
}

static vt_model *load(vt_context *context, const char *name, vt_window_rule rule)
{
    vt_model *model = NULL;
    vt_error error = {0};
    vt_model_settings settings = vt_model_settings_default();
    settings.window_rule = rule;
    expect_status(vt_model_load(&model, context, name, path, &settings, &error), VT_OK, &error);
    return model;
}

static vt_status try_load(vt_context *context, const char *name, vt_error *error)
{
    vt_model *model = NULL;
    vt_status status = vt_model_load(&model, context, name, path, NULL, error);
    assert_true((status == VT_OK) == (model != NULL));
    vt_model_destroy(&model);
    return status;
}

/* The same bits from two models. */
static void same_output(const vt_model *got, const vt_model *want, const char *output,
                        const char *what)
{
    network_output a = run_network(got, output, 1, HEIGHT, WIDTH);
    network_output b = run_network(want, output, 1, HEIGHT, WIDTH);
    assert_int_equal(a.count, b.count);
    compare_bits(a.data, b.data, b.count, "%s: %s", what, output);
    free(a.data);
    free(b.data);
}

/* ---- namings with a head --------------------------------------------------------------------- */

static const struct {
    const char *list, *dialect, *model;
} namings[] = {
    {NULL, "timm", V1},
    {NULL, "timm", V2},
    {"official_keys", "authors", V1},
    {"official_v2_keys", "authors", V2},
    {"torchvision_keys", "torchvision", V1},
    {"torchvision_v2_keys", "torchvision", V2},
    {"hf_keys", "hugging face", V1},
    {"hf_v2_keys", "hugging face v2", V2},
};
enum { NAMINGS = sizeof namings / sizeof namings[0] };

static void save_naming(vt_context *context, int i, const char *more)
{
    vt_model *model = golden_model(context, namings[i].model, VT_WINDOW_PAD, 0, 0);
    model_writer timm = {0}, w = {0};
    writer_add_golden(&timm, model);
    if (namings[i].list) {
        w = renamed(&timm, namings[i].list, BUFFERS);
    }
    model_writer *file = namings[i].list ? &w : &timm;
    if (more) {
        writer_add(file, more, 1, (int64_t[]){2}, calloc(2, sizeof(float)));
    }
    writer_save(file, path, NULL);
    writer_clear(&timm);
    writer_clear(&w);
    vt_model_destroy(&model);
}

static void test_namings(void **state)
{
    (void)state;
    for (int i = 0; i < NAMINGS; i++) {
        for (const char *const *device = test_devices; *device; device++) {
            vt_context *context = open_context(*device);
            save_naming(context, i, NULL);
            vt_model *want = golden_model(context, namings[i].model, VT_WINDOW_PAD, 0, 0);
            vt_model *got = load(context, namings[i].model, VT_WINDOW_AUTO);
            assert_string_equal(vt_model_dialect(got), namings[i].dialect);
            assert_int_equal(vt_model_classes(got), 1000);
            assert_int_equal(vt_model_parameters(got), vt_model_parameters(want));
            assert_string_equal(warnings, "");
            same_output(got, want, "logits", namings[i].dialect);
            same_output(got, want, "C5", namings[i].dialect);
            vt_model_destroy(&got);
            vt_model_destroy(&want);
            vt_context_destroy(&context);
        }
    }
}

/* A tensor that is no parameter: a warning with the number of them, under every naming. */
static void test_unexpected_alone(void **state)
{
    (void)state;
    for (int i = 0; i < NAMINGS; i++) {
        vt_context *context = open_context("ref");
        save_naming(context, i, "something.else");
        vt_model *model = load(context, namings[i].model, VT_WINDOW_AUTO);
        if (!strstr(warnings, "1 tensor")) {
            fail_msg("%s of %s: no warning about one tensor: '%s'", namings[i].dialect,
                     namings[i].model, warnings);
        }
        vt_model_destroy(&model);
        vt_context_destroy(&context);
    }
}

/* ---- namings of dense prediction ------------------------------------------------------------- */

static const char *const dense_lists[][2] = {{"fork_keys", "authors' dense forks"},
                                             {"mm_keys", "mmdetection/mmsegmentation"}};
static const char *const stages[] = {"C2", "C3", "C4", "C5"};

static void save_dense(vt_context *context, int i, int extras)
{
    vt_model *model = golden_model(context, V1, VT_WINDOW_PAD, 0, 0);
    model_writer timm = {0};
    writer_add_golden(&timm, model);
    model_writer w = renamed(&timm, dense_lists[i][0], extras);
    if (extras & OWN_NORMS) {
        fit_own_norms(&w, 48);
    }
    writer_add(&w, "decode_head.conv_seg.weight", 1, (int64_t[]){1}, calloc(1, sizeof(float)));
    writer_save(&w, path, NULL);
    writer_clear(&timm);
    writer_clear(&w);
    vt_model_destroy(&model);
}

static void test_dense_namings(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        vt_context *context = open_context(i ? "ref" : "cpu");
        vt_error error = {0};
        vt_session *session = NULL;
        save_dense(context, i, BUFFERS);
        for (int rule = VT_WINDOW_AUTO; rule <= VT_WINDOW_MM; rule++) { /* AUTO means MM here */
            vt_model *got = load(context, V1, (vt_window_rule)rule);
            vt_model *want = golden_model(
                context, V1, rule == VT_WINDOW_AUTO ? VT_WINDOW_MM : (vt_window_rule)rule, 0, 0);
            assert_string_equal(vt_model_dialect(got), dense_lists[i][1]);
            assert_int_equal(vt_model_classes(got), 0);
            for (int k = 0; k < 4; k++) {
                same_output(got, want, stages[k], dense_lists[i][1]);
            }
            vt_session_settings logits = {.outputs = (const char *const[]){"logits"},
                                          .output_count = 1};
            expect_status(vt_session_create(&session, got, &logits, &error), VT_OK, &error);
            expect_error(vt_session_prepare(session, 1, 32, 32, &error), VT_ERR_NOT_FOUND, &error,
                         "logits");
            vt_session_destroy(&session);
            vt_model_destroy(&got);
            vt_model_destroy(&want);
        }
        assert_string_equal(warnings, "");
        vt_context_destroy(&context);
    }
}

/* The rules do differ at this size: otherwise the test above says nothing. */
static void test_rules_differ(void **state)
{
    (void)state;
    vt_context *context = open_context("cpu");
    vt_model *pad = golden_model(context, V1, VT_WINDOW_PAD, 0, 0);
    vt_model *mm = golden_model(context, V1, VT_WINDOW_MM, 0, 0);
    network_output a = run_network(pad, "C5", 1, HEIGHT, WIDTH);
    network_output b = run_network(mm, "C5", 1, HEIGHT, WIDTH);
    double difference = 0;
    for (size_t i = 0; i < a.count; i++) {
        difference = fmax(difference, fabs((double)a.data[i] - (double)b.data[i]));
    }
    assert_true(difference > 1e-2);
    free(a.data);
    free(b.data);
    vt_model_destroy(&pad);
    vt_model_destroy(&mm);
    vt_context_destroy(&context);
}

/* LayerNorm of each pixel with the golden values of backbone.norm{i}. */
static void own_norm(network_output *map, int stage)
{
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "backbone.norm%d.weight", stage);
    snprintf(bias, sizeof bias, "backbone.norm%d.bias", stage);
    for (int64_t p = 0; p < map->h * map->w; p++) {
        float *x = map->data + p * map->c;
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < map->c; c++) {
            mean += (double)x[c] / (double)map->c;
        }
        for (int64_t c = 0; c < map->c; c++) {
            variance += ((double)x[c] - mean) * ((double)x[c] - mean) / (double)map->c;
        }
        for (int64_t c = 0; c < map->c; c++) {
            double y = ((double)x[c] - mean) / sqrt(variance + 1e-5);
            x[c] = (float)(y * (double)golden_value(weight, 1, &map->c, (uint32_t)c) +
                           (double)golden_value(bias, 1, &map->c, (uint32_t)c));
        }
    }
}

static void test_own_norms(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        vt_context *context = open_context("cpu");
        save_dense(context, i, OWN_NORMS);
        vt_model *got = load(context, V1, VT_WINDOW_AUTO);
        vt_model *raw = golden_model(context, V1, VT_WINDOW_MM, 0, 0);
        for (int k = 0; k < 4; k++) {
            network_output want = run_network(raw, stages[k], 1, HEIGHT, WIDTH);
            network_output normed = run_network(got, stages[k], 1, HEIGHT, WIDTH);
            own_norm(&want, k);
            compare(normed.data, want.data, want.count, TOLERANCE_NETWORK_F32, "%s: %s, normed",
                    dense_lists[i][1], stages[k]);
            free(want.data);
            free(normed.data);
        }
        vt_model_destroy(&got);
        vt_model_destroy(&raw);
        vt_context_destroy(&context);
    }
}

/* ---- heads ----------------------------------------------------------------------------------- */

static vt_context *ctx;
static model_writer file; /* the tensors of V1 under timm's names */

static int set_up_file(void **state)
{
    (void)state;
    ctx = open_context("cpu");
    vt_model *model = golden_model(ctx, V1, VT_WINDOW_PAD, 0, 0);
    writer_add_golden(&file, model);
    vt_model_destroy(&model);
    return 0;
}

static int tear_down_file(void **state)
{
    (void)state;
    writer_clear(&file);
    vt_context_destroy(&ctx);
    return 0;
}

static void test_ten_classes(void **state)
{
    (void)state;
    vt_error error = {0};
    vt_model *want = NULL;
    writer_find(&file, "head.fc.weight")->shape[0] = 10;
    writer_find(&file, "head.fc.bias")->shape[0] = 10;
    writer_save(&file, path,
                "{\"vertebra.model\":\"" V1 "\",\"vertebra.labels\":\"a\\nbb\\nc\\nd\\ne\\nf\\n"
                "g\\nh\\ni\\nlast one\"}");
    vt_model *got = load(ctx, NULL, VT_WINDOW_AUTO); /* the file names its model */
    assert_int_equal(vt_model_classes(got), 10);
    assert_string_equal(vt_model_label(got, 1), "bb");
    assert_string_equal(vt_model_label(got, 9), "last one");
    assert_null(vt_model_label(got, 10));
    assert_null(vt_model_label(got, -1));
    expect_status(vt_model_golden(&want, ctx, V1, 10, NULL, &error), VT_OK, &error);
    same_output(got, want, "logits", "ten classes");
    vt_model_destroy(&got);
    vt_model_destroy(&want);
}

/* Labels that are not one for each class are left out. */
static void test_too_few_labels(void **state)
{
    (void)state;
    writer_save(&file, path, "{\"vertebra.labels\":\"a\\nb\"}");
    vt_model *model = load(ctx, V1, VT_WINDOW_AUTO);
    assert_null(vt_model_label(model, 0));
    vt_model_destroy(&model);
}

static void test_no_head(void **state)
{
    (void)state;
    vt_error error = {0};
    vt_session *session = NULL;
    writer_remove(&file, "head.fc.weight");
    writer_remove(&file, "head.fc.bias");
    writer_save(&file, path, NULL);
    vt_model *got = load(ctx, V1, VT_WINDOW_AUTO);
    vt_model *want = golden_model(ctx, V1, VT_WINDOW_PAD, 0, 0);
    assert_int_equal(vt_model_classes(got), 0);
    same_output(got, want, "embedding", "no head");
    same_output(got, want, "C5", "no head");
    expect_status(vt_session_create(&session, got, NULL, &error), VT_OK, &error);
    forward_picture(session, 1, 40, 40); /* the default output is C5 */
    network_output c5 = take_output(session, "C5");
    assert_int_equal(c5.c, 384);
    free(c5.data);
    vt_session_destroy(&session);
    vt_model_destroy(&got);
    vt_model_destroy(&want);
}

static void test_no_name(void **state)
{
    (void)state;
    vt_error error = {0};
    writer_save(&file, path, NULL);
    expect_error(try_load(ctx, NULL, &error), VT_ERR_ARGUMENT, &error, "which model");
    expect_error(try_load(ctx, "swin_nona", &error), VT_ERR_NOT_FOUND, &error, "swin_nona");
}

/* ---- files that do not fit ------------------------------------------------------------------- */

static void test_all_mistakes_in_one_message(void **state)
{
    (void)state;
    vt_error error = {0};
    writer_remove(&file, "layers.1.blocks.0.attn.qkv.weight");
    writer_remove(&file, "norm.bias");
    written_tensor *t = writer_find(&file, "layers.2.blocks.1.mlp.fc1.weight");
    t->shape[0] /= 2;
    writer_add(&file, "layers.0.blocks.0.ls1.gamma", 1, (int64_t[]){48}, calloc(48, 4));
    writer_save(&file, path, NULL);
    expect_error(try_load(ctx, V1, &error), VT_ERR_MISMATCH, &error, path);
    static const char *const parts[] = {V1,
                                        "timm",
                                        "2 missing",
                                        "layers.1.blocks.0.attn.qkv.weight",
                                        "norm.bias",
                                        "1 of another shape",
                                        "layers.2.blocks.1.mlp.fc1.weight: want [768,192]",
                                        "file has [384,192]",
                                        "1 unexpected",
                                        "layers.0.blocks.0.ls1.gamma"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        expect_error(VT_ERR_MISMATCH, VT_ERR_MISMATCH, &error, parts[i]);
    }
}

/* The tensors of one variant do not pass for another; the message stays short. */
static void test_wrong_variant(void **state)
{
    (void)state;
    vt_error error = {0};
    writer_save(&file, path, NULL);
    expect_error(try_load(ctx, "swin_tiny_patch4_window7_224", &error), VT_ERR_MISMATCH, &error,
                 "more");
    expect_error(VT_ERR_MISMATCH, VT_ERR_MISMATCH, &error,
                 "patch_embed.proj.weight: want [96,3,4,4], file has [48,3,4,4]");
    assert_true(strlen(error.message) < VT_ERROR_CAPACITY - 1);
    expect_status(try_load(ctx, V2, &error), VT_ERR_MISMATCH, &error);
}

static void test_wrong_architecture(void **state)
{
    (void)state;
    vt_error error = {0};
    model_writer w = {0};
    writer_add(&w, "conv1.weight", 4, (int64_t[]){2, 3, 1, 1}, calloc(6, 4));
    writer_add(&w, "layer1.0.conv1.weight", 1, (int64_t[]){2}, calloc(2, 4));
    writer_save(&w, path, NULL);
    expect_error(try_load(ctx, V1, &error), VT_ERR_MISMATCH, &error, "another architecture");
    expect_error(VT_ERR_MISMATCH, VT_ERR_MISMATCH, &error, "2 tensors");
    writer_clear(&w);
    writer_save(&w, path, NULL); /* nothing in it at all */
    assert_int_not_equal(try_load(ctx, V1, &error), VT_OK);
    expect_status(vt_model_load(&(vt_model *){NULL}, ctx, V1, "/nonexistent/file", NULL, &error),
                  VT_ERR_IO, &error);
    expect_error(VT_ERR_IO, VT_ERR_IO, &error, "/nonexistent/file");
}

/* Replaces the first `from` in a heap string by `to`. */
static void replace_text(char **text, const char *from, const char *to)
{
    char *at = strstr(*text, from);
    if (at) {
        char out[400];
        snprintf(out, sizeof out, "%.*s%s%s", (int)(at - *text), *text, to, at + strlen(from));
        free(*text);
        *text = strdup(out);
    }
}

/* Hugging Face's base model (no "swin.") and the names that transformers 5 keeps in memory. */
static void test_hugging_face_variants(void **state)
{
    (void)state;
    static const char *const renames[][2] = {
        {".attention.self.query.", ".attention.q_proj."},
        {".attention.self.key.", ".attention.k_proj."},
        {".attention.self.value.", ".attention.v_proj."},
        {".attention.output.dense.", ".attention.o_proj."},
        {".attention.self.relative_position_bias_table",
         ".attention.relative_position_bias.relative_position_bias_table"},
        {".intermediate.dense.", ".mlp.fc1."},
        {".output.dense.", ".mlp.fc2."},
    };
    vt_model *want = golden_model(ctx, V1, VT_WINDOW_PAD, 0, 0);
    for (int newer = 0; newer < 2; newer++) {
        model_writer w = renamed(&file, "hf_keys", 0);
        for (size_t i = 0; i < w.count; i++) {
            replace_text(&w.tensors[i].name, newer ? "" : "swin.", "");
            for (size_t k = 0; newer && k < sizeof renames / sizeof renames[0]; k++) {
                replace_text(&w.tensors[i].name, renames[k][0], renames[k][1]);
            }
        }
        writer_save(&w, path, NULL);
        vt_model *got = load(ctx, V1, VT_WINDOW_AUTO);
        assert_string_equal(vt_model_dialect(got), "hugging face");
        same_output(got, want, "logits", newer ? "transformers 5" : "base model");
        vt_model_destroy(&got);
        writer_clear(&w);
    }
    vt_model_destroy(&want);
}

/* A third of q, k and v that has the wrong size, or is not there. */
static void test_split_mistakes(void **state)
{
    (void)state;
    vt_error error = {0};
    const char *key = "swin.encoder.layers.0.blocks.0.attention.self.key.weight";
    model_writer w = renamed(&file, "hf_keys", 0);
    writer_find(&w, key)->shape[0] = 47;
    writer_save(&w, path, NULL);
    expect_error(try_load(ctx, V1, &error), VT_ERR_MISMATCH, &error, key);
    expect_error(VT_ERR_MISMATCH, VT_ERR_MISMATCH, &error, "file has [47,48]");
    writer_remove(&w, key);
    writer_save(&w, path, NULL);
    expect_error(try_load(ctx, V1, &error), VT_ERR_MISMATCH, &error,
                 "layers.0.blocks.0.attn.qkv.weight");
    writer_clear(&w);
}

/* ---- bias tables of another window ----------------------------------------------------------- */

/* Bicubic resize of a square along both axes by two matrices: row i of a matrix holds the weights
 * of the source places for target place i (half-pixel centres, places outside repeat the edge). The
 * kernel is Keys' with a = -0.75, in its usual two pieces. */
static void resize_matrix(int from, int to, double *m)
{
    for (int i = 0; i < to; i++) {
        double centre = (i + 0.5) * from / to - 0.5;
        for (int j = 0; j < from; j++) {
            m[i * from + j] = 0;
        }
        for (int j = (int)floor(centre) - 1; j <= (int)floor(centre) + 2; j++) {
            double d = fabs(centre - j), a = -0.75;
            double weight = d < 1   ? 1 - (a + 3) * d * d + (a + 2) * d * d * d
                            : d < 2 ? a * (d - 1) * (d - 2) * (d - 2)
                                    : 0;
            int place = j < 0 ? 0 : j >= from ? from - 1 : j;
            m[i * from + place] += weight;
        }
    }
}

/* [from * from, heads] -> [to * to, heads] */
static float *resized_table(const float *table, int from, int to, int heads)
{
    double *m = malloc((size_t)(from * to) * sizeof *m);
    float *out = malloc((size_t)(to * to * heads) * sizeof *out);
    resize_matrix(from, to, m);
    for (int i = 0; i < to * to * heads; i++) {
        int head = i % heads, y = i / heads / to, x = i / heads % to;
        double sum = 0;
        for (int k = 0; k < from * from; k++) {
            sum +=
                m[y * from + k / from] * m[x * from + k % from] * (double)table[k * heads + head];
        }
        out[i] = (float)sum;
    }
    free(m);
    return out;
}

/* Replaces the tables by golden ones of a window, or by those resized to window 7 here. */
static void set_tables(int window, bool resize)
{
    for (size_t i = 0; i < file.count; i++) {
        written_tensor *t = &file.tensors[i];
        if (strstr(t->name, "relative_position_bias_table")) {
            int64_t shape[] = {(2 * window - 1) * (2 * window - 1), t->shape[1]};
            float *table = golden_tensor(t->name, 2, shape);
            free(t->data);
            t->data = resize ? resized_table(table, 2 * window - 1, 13, (int)shape[1]) : table;
            t->shape[0] = resize ? 169 : shape[0];
            if (resize) {
                free(table);
            }
        }
    }
}

static void test_other_window(void **state)
{
    (void)state;
    static const int windows[] = {12, 5, 14};
    for (int i = 0; i < 3; i++) {
        set_tables(windows[i], false);
        writer_save(&file, path, NULL);
        vt_model *got = load(ctx, V1, VT_WINDOW_AUTO);
        set_tables(windows[i], true);
        writer_save(&file, path, NULL);
        vt_model *want = load(ctx, V1, VT_WINDOW_AUTO);
        network_output a = run_network(got, "logits", 1, HEIGHT, WIDTH);
        network_output b = run_network(want, "logits", 1, HEIGHT, WIDTH);
        compare(a.data, b.data, b.count, 2e-6, "tables of window %d", windows[i]);
        free(a.data);
        free(b.data);
        vt_model_destroy(&got);
        vt_model_destroy(&want);
    }
}

static void test_table_of_no_window(void **state)
{
    (void)state;
    vt_error error = {0};
    const char *key = "layers.0.blocks.0.attn.relative_position_bias_table";
    writer_find(&file, key)->shape[0] = 168;
    writer_save(&file, path, NULL);
    expect_error(try_load(ctx, V1, &error), VT_ERR_MISMATCH, &error, "168 rows");
    writer_find(&file, key)->shape[0] = 169 / 13;
    writer_find(&file, key)->shape[1] = 39; /* the heads must still be right */
    writer_save(&file, path, NULL);
    expect_error(try_load(ctx, V1, &error), VT_ERR_MISMATCH, &error, "file has [13,39]");
}

/* ---- element types --------------------------------------------------------------------------- */

static void test_half_files(void **state)
{
    (void)state;
    static const vt_dtype types[] = {VT_F16, VT_BF16};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < file.count; k++) {
            written_tensor *t = &file.tensors[k];
            t->dtype = types[i];
            for (int64_t e = 0; e < shape_elements(t->rank, t->shape); e++) {
                t->data[e] = rounded_to(types[i], t->data[e]);
            }
        }
        writer_save(&file, path, NULL);
        vt_model *half = load(ctx, V1, VT_WINDOW_AUTO);
        for (size_t k = 0; k < file.count; k++) {
            file.tensors[k].dtype = VT_F32;
        }
        writer_save(&file, path, NULL);
        vt_model *full = load(ctx, V1, VT_WINDOW_AUTO);
        same_output(half, full, "logits", vt_dtype_name(types[i]));
        vt_model_destroy(&half);
        vt_model_destroy(&full);
    }
}

int main(void)
{
#define WITH_FILE(f) cmocka_unit_test_setup_teardown(f, set_up_file, tear_down_file)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_namings),
        cmocka_unit_test(test_unexpected_alone),
        cmocka_unit_test(test_dense_namings),
        cmocka_unit_test(test_rules_differ),
        cmocka_unit_test(test_own_norms),
        WITH_FILE(test_ten_classes),
        WITH_FILE(test_too_few_labels),
        WITH_FILE(test_no_head),
        WITH_FILE(test_no_name),
        WITH_FILE(test_all_mistakes_in_one_message),
        WITH_FILE(test_wrong_variant),
        WITH_FILE(test_wrong_architecture),
        WITH_FILE(test_hugging_face_variants),
        WITH_FILE(test_split_mistakes),
        WITH_FILE(test_other_window),
        WITH_FILE(test_table_of_no_window),
        WITH_FILE(test_half_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
