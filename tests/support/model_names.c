/* SPDX-License-Identifier: Apache-2.0 */
#include "model_names.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/source.h"
#include "model_compare.h"
#include "model_fixture.h"
#include "model_golden.h"
#include "model_naming.h"

static const char *const outputs[] = {"C2", "C3", "C4", "C5", "logits", NULL};

/* ---- names ----------------------------------------------------------------------------------- */

static const char *canonical_name(const json_t *row)
{
    return json_string_value(json_array_get(fixture_member(row, "from"), 0));
}

/* The canonical tensors that the keys of a naming stand for. */
static model_writer canonical_of(const json_t *naming, const model_writer *all)
{
    model_writer w = {0};
    const json_t *row;
    size_t i;
    json_array_foreach(fixture_member(naming, "keys"), i, row)
    {
        if (!json_object_get(row, "from")) {
            continue;
        }
        const char *name = canonical_name(row);
        const written_tensor *t = writer_find(all, name);
        if (!t) {
            fail_msg("the network has no %s", name);
        }
        writer_add(&w, name, t->rank, t->shape, golden_tensor(name, t->rank, t->shape));
    }
    return w;
}

static const vt_dialect *dialect_of(vt_context *context, const json_t *naming)
{
    const char *name = fixture_text(naming, "dialect");
    const vt_family *family;
    assert_non_null(vt_variant_find(context, fixture_text(naming, "model"), &family));
    for (const vt_dialect *d = family->dialects; d->name; d++) {
        if (strcmp(d->name, name) == 0) {
            return d;
        }
    }
    fail_msg("there is no naming %s", name);
    return NULL;
}

static void check_one(const json_t *naming, int height, int width)
{
    const json_t *keys = fixture_member(naming, "keys");
    size_t middle = json_array_size(keys) / 2;
    while (!json_object_get(json_array_get(keys, middle), "from")) {
        middle++;
    }
    const json_t *row = json_array_get(keys, middle);
    naming_case k = {.model = fixture_text(naming, "model"),
                     .dialect = fixture_text(naming, "dialect"),
                     .key = fixture_text(row, "key"),
                     .canonical = canonical_name(row),
                     .height = height,
                     .width = width};
    vt_context *context = test_context("ref");
    const vt_dialect *rules = dialect_of(context, naming);
    vt_context_destroy(&context);
    const char *maps[] = {"C2", "C3", "C4", "C5", NULL};
    model_writer all = naming_canonical(k.model), file = {0};
    assert_true(json_array_size(keys) > 50);
    naming_add_norms(&all, "", (int)json_integer_value(fixture_member(naming, "width")));
    model_writer canonical = canonical_of(naming, &all);
    bool head = json_is_true(fixture_member(naming, "head"));
    k.outputs = head ? outputs : maps;
    fixture_rename(&file, &all, naming);
    check_naming_under(&k, rules, &file, &canonical);
    writer_clear(&all);
    writer_clear(&file);
    writer_clear(&canonical);
}

/* The rules alone, without a file: every key leads to its canonical name. */
static void check_rules(const json_t *naming)
{
    vt_context *context = test_context("ref");
    const vt_dialect *dialect = dialect_of(context, naming);
    const json_t *row;
    size_t i;
    size_t skip = dialect->prefix ? strlen(dialect->prefix) : 0;
    json_array_foreach(fixture_member(naming, "keys"), i, row)
    {
        const char *key = fixture_text(row, "key");
        const vt_rename *rule = dialect->renames;
        char out[256] = "";
        assert_true(skip == 0 || strncmp(key, dialect->prefix, skip) == 0);
        while (rule->from && !vt_rename_apply(rule->from, rule->to, key + skip, out, sizeof out)) {
            rule++;
        }
        assert_string_equal(out, canonical_name(row));
    }
    vt_context_destroy(&context);
}

int check_all_names(const char *family, int height, int width)
{
    char path[128];
    size_t i;
    json_t *naming;
    int done = 0;
    snprintf(path, sizeof path, "tests/fixtures/%s/names.json", family);
    json_t *root = fixture_load(path);
    json_array_foreach(fixture_member(root, "namings"), i, naming)
    {
        if (json_is_true(json_object_get(naming, "large"))) {
            check_rules(naming);
        } else {
            check_one(naming, height, width);
        }
        done++;
    }
    json_decref(root);
    return done;
}

/* ---- norms of stages ------------------------------------------------------------------------- */

/* LayerNorm of each pixel with the golden values of norm{stage}. */
static void normalise(network_output *map, int stage, double eps)
{
    char weight[32], bias[32];
    snprintf(weight, sizeof weight, "norm%d.weight", stage);
    snprintf(bias, sizeof bias, "norm%d.bias", stage);
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
            double y = ((double)x[c] - mean) / sqrt(variance + eps);
            x[c] = (float)(y * (double)golden_value(weight, 1, &map->c, (uint32_t)c) +
                           (double)golden_value(bias, 1, &map->c, (uint32_t)c));
        }
    }
}

void check_stage_norms(const char *name, double eps, int height, int width)
{
    char path[] = "/tmp/vertebra-norms-XXXXXX";
    int descriptor = mkstemp(path);
    vt_context *context = test_context("cpu");
    vt_model *plain = golden_model(context, name, VT_WINDOW_PAD, 0, 0), *normed = NULL;
    model_writer w = naming_canonical(name);
    vt_error error = {0};
    network_output map = run_network(plain, "C2", 1, height, width);
    assert_true(descriptor >= 0);
    close(descriptor);
    naming_add_norms(&w, "", (int)map.c);
    free(map.data);
    writer_save(&w, path, NULL);
    expect_status(vt_model_load(&normed, context, name, path, NULL, &error), VT_OK, &error);
    for (int i = 0; i < 4; i++) {
        network_output want = run_network(plain, outputs[i], 1, height, width);
        network_output got = run_network(normed, outputs[i], 1, height, width);
        normalise(&want, i, eps);
        compare(got.data, want.data, want.count, TOLERANCE_NETWORK_F32, "%s: %s, normed", name,
                outputs[i]);
        free(want.data);
        free(got.data);
    }
    unlink(path);
    writer_clear(&w);
    vt_model_destroy(&normed);
    vt_model_destroy(&plain);
    vt_context_destroy(&context);
}
