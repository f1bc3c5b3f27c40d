/* SPDX-License-Identifier: Apache-2.0 */
#include "model_naming.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model_compare.h"
#include "model_golden.h"

/* ---- files ----------------------------------------------------------------------------------- */

model_writer naming_canonical(const char *name)
{
    return naming_canonical_for(name, 0, 0);
}

model_writer naming_canonical_for(const char *name, int image_height, int image_width)
{
    model_writer w = {0};
    vt_context *context = test_context("ref");
    vt_model *model = golden_model(context, name, VT_WINDOW_PAD, image_height, image_width);
    writer_add_golden(&w, model);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return w;
}

static bool begins(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static float *copied(const float *data, int64_t count)
{
    float *copy = malloc((size_t)count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, data, (size_t)count * sizeof *copy);
    return copy;
}

model_writer naming_prefixed(const model_writer *from, const char *prefix,
                             const char *const *without)
{
    model_writer w = {0};
    for (size_t i = 0; i < from->count; i++) {
        const written_tensor *t = &from->tensors[i];
        bool keep = true;
        for (const char *const *p = without; *p; p++) {
            keep = keep && !begins(t->name, *p);
        }
        if (keep) {
            char name[256];
            snprintf(name, sizeof name, "%s%s", prefix, t->name);
            writer_add(&w, name, t->rank, t->shape,
                       copied(t->data, shape_elements(t->rank, t->shape)));
        }
    }
    return w;
}

void naming_add_norms(model_writer *w, const char *prefix, int width)
{
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 2; k++) {
            char name[64];
            int64_t shape[] = {(int64_t)width << i};
            snprintf(name, sizeof name, "%snorm%d.%s", prefix, i, k ? "bias" : "weight");
            writer_add(w, name, 1, shape, golden_tensor(name + strlen(prefix), 1, shape));
        }
    }
}

/* ---- loading --------------------------------------------------------------------------------- */

typedef struct files {
    char path[40];
    char warnings[2048];
    vt_context *context;
} files;

static void on_log(void *user, vt_log_level level, const char *line)
{
    files *f = user;
    if (level == VT_LOG_WARNING && strlen(f->warnings) + strlen(line) + 2 < sizeof f->warnings) {
        strcat(f->warnings, line);
        strcat(f->warnings, "\n");
    }
}

static void files_open(files *f)
{
    vt_context_settings settings = vt_context_settings_default();
    *f = (files){.path = "/tmp/vertebra-naming-XXXXXX"};
    int descriptor = mkstemp(f->path);
    assert_true(descriptor >= 0);
    close(descriptor);
    settings.threads = 2;
    settings.log = on_log;
    settings.log_user = f;
    f->context = test_context_with(&settings);
}

static void files_close(files *f)
{
    unlink(f->path);
    vt_context_destroy(&f->context);
}

/* `as`: loads it by the rules of that naming, NULL: by its own. */
static vt_model *load(files *f, const model_writer *w, const char *name, const vt_dialect *as,
                      vt_status want, vt_error *error)
{
    vt_model *model = NULL;
    vt_model_settings settings = vt_model_settings_default();
    settings.window_rule = as ? as->window_rule : VT_WINDOW_AUTO;
    settings.norm_eps = as ? as->norm_eps : 0;
    writer_save(w, f->path, NULL);
    f->warnings[0] = '\0';
    expect_status(vt_model_load(&model, f->context, name, f->path, &settings, error), want, error);
    return model;
}

static void same_outputs(const naming_case *k, const vt_model *got, const vt_model *want)
{
    assert_int_equal(vt_model_classes(got), vt_model_classes(want));
    assert_int_equal(vt_model_parameters(got), vt_model_parameters(want));
    for (const char *const *output = k->outputs; *output; output++) {
        network_output a = run_network(got, *output, 1, k->height, k->width);
        network_output b = run_network(want, *output, 1, k->height, k->width);
        assert_int_equal(a.count, b.count);
        compare_bits(a.data, b.data, b.count, "%s, %s: %s", k->model, k->dialect, *output);
        free(a.data);
        free(b.data);
    }
}

void check_naming(const naming_case *k, model_writer *file, const model_writer *canonical)
{
    check_naming_under(k, NULL, file, canonical);
}

void check_naming_under(const naming_case *k, const vt_dialect *rules, model_writer *file,
                        const model_writer *canonical)
{
    files f;
    vt_error error = {0};
    files_open(&f);
    vt_model *want = load(&f, canonical, k->model, rules, VT_OK, &error);
    vt_model *got = load(&f, file, k->model, NULL, VT_OK, &error);
    assert_string_equal(vt_model_dialect(got), k->dialect);
    assert_string_equal(f.warnings, "");
    same_outputs(k, got, want);
    vt_model_destroy(&got);
    vt_model_destroy(&want);

    writer_add(file, "something.else", 1, (int64_t[]){2}, calloc(2, sizeof(float)));
    got = load(&f, file, k->model, NULL, VT_OK, &error);
    if (!strstr(f.warnings, "1 tensor")) {
        fail_msg("%s: no warning about one tensor: '%s'", k->model, f.warnings);
    }
    vt_model_destroy(&got);

    writer_remove(file, k->key);
    assert_null(load(&f, file, k->model, NULL, VT_ERR_MISMATCH, &error));
    expect_error(VT_ERR_MISMATCH, VT_ERR_MISMATCH, &error, k->canonical);
    expect_error(VT_ERR_MISMATCH, VT_ERR_MISMATCH, &error, "something.else");
    files_close(&f);
}
