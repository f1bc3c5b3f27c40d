/* SPDX-License-Identifier: Apache-2.0 */
#include "model_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backbones/family.h"
#include "core/context.h"
#include "model/binder.h"
#include "model_compare.h"
#include "model_golden.h"
#include "model_naming.h"
#include "model_nano_v2.h"

/* ---- JSON ------------------------------------------------------------------------------------ */

json_t *fixture_load(const char *path)
{
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    if (!root) {
        fail_msg("%s: %s", path, why.text);
    }
    return root;
}

json_t *fixture_open(const char *family)
{
    char path[128];
    snprintf(path, sizeof path, "tests/fixtures/%s/logits.json", family);
    return fixture_load(path);
}

const json_t *fixture_member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!value) {
        fail_msg("'%s' is missing", key);
    }
    return value;
}

double fixture_number(const json_t *object, const char *key)
{
    return json_number_value(fixture_member(object, key));
}

const char *fixture_text(const json_t *object, const char *key)
{
    return json_string_value(fixture_member(object, key));
}

static void floats(const json_t *array, float *out, size_t count)
{
    assert_true(json_array_size(array) >= count);
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)json_number_value(json_array_get(array, i));
    }
}

/* ---- one case -------------------------------------------------------------------------------- */

/* The largest logit is the one that should be, or ties with it. */
static double check_row(const json_t *row, const float *logits, size_t classes, const float *pooled,
                        double tolerance, const char *what)
{
    enum { FIRST = 32, POOLED = 8 };
    float want[FIRST + 3], got[FIRST + 3], want_pooled[POOLED];
    size_t first = classes < FIRST ? classes : FIRST; /* how many the fixture keeps */
    double l2 = 0, sum = 0;
    size_t argmax = (size_t)fixture_number(row, "argmax"), largest = 0;
    for (size_t i = 0; i < classes; i++) {
        l2 += (double)logits[i] * (double)logits[i];
        sum += (double)logits[i];
        largest = logits[i] > logits[largest] ? i : largest;
    }
    assert_true(argmax < classes);
    floats(fixture_member(row, "logits"), want, first);
    memcpy(got, logits, first * sizeof *got);
    want[first] = want[first + 1] = (float)fixture_number(row, "max");
    got[first] = logits[argmax];
    got[first + 1] = logits[largest];
    want[first + 2] = (float)fixture_number(row, "max_abs"); /* the tolerance is relative to it */
    got[first + 2] = want[first + 2];
    double off = compare(got, want, first + 3, tolerance, "%s: logits", what);
    expect_near(sqrt(l2), fixture_number(row, "l2"), tolerance * fixture_number(row, "l2"), what);
    expect_near(sum, fixture_number(row, "sum"),
                0.1 * tolerance * (double)classes * fixture_number(row, "max_abs"), what);
    floats(fixture_member(row, "pooled"), want_pooled, POOLED);
    compare(pooled, want_pooled, POOLED, 2 * tolerance, "%s: pooled", what);
    return off;
}

/* Map after a stage of the first picture. */
static void check_stage(const json_t *stage, const network_output *got, double tolerance,
                        const char *what)
{
    const json_t *shape = fixture_member(stage, "shape");
    assert_int_equal(got->h, json_integer_value(json_array_get(shape, 0)));
    assert_int_equal(got->w, json_integer_value(json_array_get(shape, 1)));
    assert_int_equal(got->c, json_integer_value(json_array_get(shape, 2)));
    size_t count = (size_t)(got->h * got->w * got->c);
    double sum = 0, magnitude = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)got->data[i];
        magnitude += fabs((double)got->data[i]);
        largest = fmax(largest, fabs((double)got->data[i]));
    }
    double slack = tolerance * largest;
    const double pairs[4][2] = {{sum / (double)count, fixture_number(stage, "mean")},
                                {magnitude / (double)count, fixture_number(stage, "mean_abs")},
                                {(double)got->data[0], fixture_number(stage, "first")},
                                {(double)got->data[count - 1], fixture_number(stage, "last")}};
    for (int i = 0; i < 4; i++) {
        expect_near(pairs[i][0], pairs[i][1], slack, what);
    }
}

/* The name of the output that a stage is. */
static const char *stage_name(const json_t *stage, size_t i)
{
    static const char *const names[] = {"C2", "C3", "C4", "C5"};
    const char *own = json_string_value(json_object_get(stage, "output"));
    assert_true(own || i < 4);
    return own ? own : names[i];
}

static double check_rows(const vt_session *session, const json_t *rows, int64_t batch,
                         double tolerance, const char *what)
{
    double off = 0;
    network_output logits = take_output(session, "logits");
    network_output pooled = take_output(session, "embedding");
    assert_int_equal(logits.n, batch);
    assert_int_equal(json_array_size(rows), batch);
    for (int64_t i = 0; i < batch; i++) {
        off = fmax(off, check_row(json_array_get(rows, (size_t)i), logits.data + i * logits.c,
                                  (size_t)logits.c, pooled.data + i * pooled.c, tolerance, what));
    }
    free(logits.data);
    free(pooled.data);
    return off;
}

static void check_stages(const vt_session *session, const json_t *stages, double tolerance,
                         const char *what)
{
    const json_t *stage;
    size_t i;
    json_array_foreach(stages, i, stage)
    {
        network_output map = take_output(session, stage_name(stage, i));
        char name[260];
        snprintf(name, sizeof name, "%s: %s", what, stage_name(stage, i));
        check_stage(stage, &map, tolerance, name);
        free(map.data);
    }
}

/* The members [height, width]; {0, 0} where the case has none. */
static void image_of(const json_t *k, const char *key, int size[2])
{
    const json_t *pair = json_object_get(k, key);
    for (size_t i = 0; i < 2; i++) {
        size[i] = (int)json_integer_value(json_array_get(pair, i));
    }
}

static vt_model *load_built_for(vt_context *context, const char *name, const int tables[2],
                                const vt_model_settings *settings)
{
    char path[] = "/tmp/vertebra-fixture-XXXXXX";
    int descriptor = mkstemp(path);
    vt_model *model = NULL;
    vt_error error = {0};
    assert_true(descriptor >= 0);
    close(descriptor);
    model_writer w = naming_canonical_for(name, tables[0], tables[1]);
    writer_save(&w, path, NULL);
    writer_clear(&w);
    vt_status status = vt_model_load(&model, context, name, path, settings, &error);
    unlink(path);
    expect_status(status, VT_OK, &error);
    return model;
}

static vt_model *network_of(vt_context *context, vt_dtype dtype, const json_t *k)
{
    const char *name = fixture_text(k, "model");
    const char *rule = json_string_value(json_object_get(k, "rule"));
    int built[2], tables[2];
    image_of(k, "built", built);
    image_of(k, "tables", tables);
    vt_model_settings s = vt_model_settings_default();
    s.dtype = dtype;
    s.f32_residual = !fixture_fits(k, dtype);
    s.window_rule = rule && strcmp(rule, "mm") == 0           ? VT_WINDOW_MM
                    : rule && strcmp(rule, "timm-exact") == 0 ? VT_WINDOW_TIMM
                                                              : VT_WINDOW_PAD;
    s.image_height = built[0] ? built[0] : (int)fixture_number(k, "h");
    s.image_width = built[1] ? built[1] : (int)fixture_number(k, "w");
    if (tables[0]) {
        return load_built_for(context, name, tables, &s);
    }
    vt_model *model = NULL;
    vt_error error = {0};
    expect_status(vt_model_golden(&model, context, name, 0, &s, &error), VT_OK, &error);
    return model;
}

void fixture_title(const json_t *k, char *text, size_t size)
{
    const char *rule = json_string_value(json_object_get(k, "rule"));
    snprintf(text, size, "%s%s%s %dx%dx%d", fixture_text(k, "model"), rule ? " " : "",
             rule ? rule : "", (int)fixture_number(k, "batch"), (int)fixture_number(k, "h"),
             (int)fixture_number(k, "w"));
}

bool fixture_fits(const json_t *k, vt_dtype dtype)
{
    const json_t *stages = fixture_member(k, "stages"), *stage;
    double most = 0;
    size_t i;
    json_array_foreach(stages, i, stage)
    {
        most = fmax(most, json_number_value(json_object_get(stage, "largest")));
    }
    return dtype != VT_F16 || most <= 65504;
}

/* Where the plainest computation loses much, twice of that; on the CPU in f32 no more than ever. */
static double tolerance_of(const json_t *k, const vt_context *context, vt_dtype dtype)
{
    bool gpu = strncmp(vt_context_description(context), "cuda", 4) == 0;
    char key[32];
    snprintf(key, sizeof key, "%s_error", vt_dtype_name(dtype));
    double plain = json_number_value(json_object_get(k, key));
    return fmax(tolerance_network(dtype), gpu || dtype != VT_F32 ? 2 * plain : 0);
}

double fixture_check(vt_context *context, vt_dtype dtype, const json_t *k)
{
    const char *outputs[VT_MAX_OUTPUTS];
    const json_t *rows = json_object_get(k, "rows"), *stages = fixture_member(k, "stages"), *stage;
    vt_model *model = network_of(context, dtype, k);
    vt_session *session = NULL;
    vt_error error = {0};
    vt_session_settings settings = {.outputs = outputs};
    int64_t batch = (int64_t)fixture_number(k, "batch");
    char title[160], what[240];
    double off = 0, tolerance = tolerance_of(k, context, dtype);
    size_t i;
    fixture_title(k, title, sizeof title);
    snprintf(what, sizeof what, "%s on %s", title, vt_context_description(context));
    assert_true(rows || json_array_size(stages) > 0);
    if (rows) {
        outputs[settings.output_count++] = "logits";
        outputs[settings.output_count++] = "embedding";
    }
    json_array_foreach(stages, i, stage)
    {
        outputs[settings.output_count++] = stage_name(stage, i);
    }
    expect_status(vt_session_create(&session, model, &settings, &error), VT_OK, &error);
    forward_picture(session, batch, (int64_t)fixture_number(k, "h"),
                    (int64_t)fixture_number(k, "w"));
    if (rows) {
        off = check_rows(session, rows, batch, tolerance, what);
    }
    check_stages(session, stages, tolerance, what);
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    return off;
}

/* ---- a file of cases ------------------------------------------------------------------------- */

double fixture_pixels(const json_t *k)
{
    return fixture_number(k, "h") * fixture_number(k, "w") * fixture_number(k, "batch");
}

int fixture_check_some(const char *family, const char *device, double (*cost)(const json_t *),
                       double most)
{
    json_t *root = fixture_open(family);
    vt_context *context = test_context(device);
    vt_error error = {0};
    const json_t *k;
    size_t i;
    int done = 0;
    expect_status(vt_context_register(context, &nano_v2_family, &error), VT_OK, &error);
    json_array_foreach(fixture_member(root, "cases"), i, k)
    {
        if (cost(k) <= most) {
            fixture_check(context, VT_F32, k);
            done++;
        }
    }
    vt_context_destroy(&context);
    json_decref(root);
    return done;
}

int fixture_check_all(const char *family, const char *device, double pixels)
{
    return fixture_check_some(family, device, fixture_pixels, pixels);
}

/* ---- parameters ------------------------------------------------------------------------------ */

int64_t variant_parameters(const vt_context *context, const char *name, size_t *tensors)
{
    const vt_family *family;
    const vt_variant *v = vt_variant_find(context, name, &family);
    assert_non_null(v);
    vt_bind_settings s = {.classes = v->classes,
                          .image_height = v->preprocess.height,
                          .image_width = v->preprocess.width,
                          .window_rule = VT_WINDOW_PAD};
    vt_binder binder;
    void *network = calloc(1, family->network_size);
    assert_int_equal(vt_binder_init(&binder, vt_context_allocator(context)), VT_OK);
    family->bind(&binder, v, &s, network);
    expect_status(binder.status, VT_OK, &binder.error);
    int64_t parameters = 0;
    *tensors = 0;
    for (size_t k = 1; k < binder.slot_count; k++) {
        if (!binder.slots[k].derive) {
            parameters += binder.slots[k].rows * binder.slots[k].cols;
            ++*tensors;
        }
    }
    vt_binder_clear(&binder);
    free(network);
    return parameters;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Slice `part` of `parts` of the tensors `from` put one after the other. */
static float *gathered(const model_writer *w, const json_t *from, int64_t part, int64_t parts,
                       int64_t want)
{
    float *all = NULL;
    int64_t count = 0;
    size_t i;
    const json_t *name;
    json_array_foreach(from, i, name)
    {
        const written_tensor *t = writer_find(w, json_string_value(name));
        if (!t) {
            fail_msg("the network has no %s", json_string_value(name));
        }
        int64_t more = shape_elements(t->rank, t->shape);
        all = realloc(all, (size_t)(count + more) * sizeof *all);
        memcpy(all + count, t->data, (size_t)more * sizeof *all);
        count += more;
    }
    assert_int_equal(count, parts * want);
    memmove(all, all + part * want, (size_t)want * sizeof *all);
    return all;
}

void fixture_rename(model_writer *out, const model_writer *canonical, const json_t *list)
{
    const json_t *row;
    size_t i;
    json_array_foreach(fixture_member(list, "keys"), i, row)
    {
        const json_t *from = json_object_get(row, "from"), *shape = fixture_member(row, "shape");
        const char *key = fixture_text(row, "key");
        int64_t extents[4], part = json_integer_value(json_object_get(row, "part"));
        int64_t parts = json_integer_value(json_object_get(row, "parts"));
        int rank = (int)json_array_size(shape);
        assert_true(rank <= 4);
        for (int a = 0; a < rank; a++) {
            extents[a] = json_integer_value(json_array_get(shape, (size_t)a));
        }
        float *data =
            from ? gathered(canonical, from, part, parts ? parts : 1, shape_elements(rank, extents))
                 : golden_tensor(key, rank, extents);
        writer_add(out, key, rank, extents, data);
    }
}

bool fixture_lists(const json_t *array, int64_t value)
{
    const json_t *entry;
    size_t i;
    json_array_foreach(array, i, entry)
    {
        if (json_integer_value(entry) == value) {
            return true;
        }
    }
    return false;
}
