/* SPDX-License-Identifier: Apache-2.0 */
/* Neighborhood attention: the index rule against a search over all windows, the operation against
 * dense attention under a mask, and the patterns that it has in common with others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/pattern.h"
#include "support/model_compare.h"
#include "support/model_program.h"
#include "support/random.h"
#include "vertebra/layers.h"

/* ---- the index rule -------------------------------------------------------------------------- */

/* One axis, as the paper says it: the positions of a residue are a line of their own. */
typedef struct rule {
    int length, window, dilation, stride;
} rule;

/* Place of position i in its line, and the length of that line. */
static int line_of(const rule *r, int i, int *length)
{
    int place = -1;
    *length = 0;
    for (int k = 0; k < r->length; k++) {
        if (k % r->dilation == i % r->dilation) {
            place = k == i ? *length : place;
            ++*length;
        }
    }
    return place;
}

/* The first key of the query at `place`: of all windows inside the line the one whose centre is
 * nearest to the leader, the query in the middle of the group. */
static int first_key(const rule *r, int place, int length)
{
    int group = 0, best = 0;
    while ((group + 1) * r->stride <= place) {
        group++;
    }
    int leader = group * r->stride + r->stride / 2;
    leader = leader < length ? leader : length - 1;
    for (int start = 0; start + r->window <= length; start++) {
        if (abs(start + r->window / 2 - leader) < abs(best + r->window / 2 - leader)) {
            best = start;
        }
    }
    return best;
}

/* Whether i sees j, both in [0, length), and the offset of j in the position table. */
static bool sees(const rule *r, int i, int j, int *offset)
{
    int length, place = line_of(r, i, &length), key = line_of(r, j, &length);
    int first = first_key(r, place, length);
    *offset = key - place + r->window - 1;
    return i % r->dilation == j % r->dilation && key >= first && key < first + r->window;
}

static vt_axis axis_of(const rule *r)
{
    return vt_axis_complete((vt_axis){.kind = VT_PATTERN_NEIGHBORHOOD,
                                      .queries = r->length,
                                      .keys = r->length,
                                      .window = r->window,
                                      .dilation = r->dilation,
                                      .stride = r->stride});
}

static void check_rule(const rule *r)
{
    vt_axis axis = axis_of(r);
    for (int i = 0; i < r->length; i++) {
        int found = 0, length, place = line_of(r, i, &length), offset;
        assert_true(sees(r, i, i, &offset)); /* a query is always among its keys */
        for (int t = 0; t < r->window; t++) {
            vt_axis_key key = vt_axis_key_of(&axis, i, t);
            bool visible = key.source >= 0 && sees(r, i, (int)key.source, &offset);
            if (!visible || key.offset != offset || key.masked) {
                fail_msg("length %d, window %d, dilation %d, stride %d: key %d of %d is %d",
                         r->length, r->window, r->dilation, r->stride, t, i, (int)key.source);
            }
            found++;
        }
        if (r->stride == r->window) { /* blocks: the last one is the last `window` tokens */
            int start = place / r->window * r->window;
            start = start < length - r->window ? start : length - r->window;
            assert_int_equal(first_key(r, place, length), start);
        }
        for (int j = 0; j < r->length; j++) {
            found -= sees(r, i, j, &offset);
        }
        assert_int_equal(found, 0); /* all of them, each once */
    }
}

static void test_rule(void **state)
{
    (void)state;
    for (int window = 1; window <= 11; window++) {
        for (int stride = 1; stride <= window; stride++) {
            for (int dilation = 1; dilation <= 3; dilation++) {
                for (int more = 0; more <= 14; more += 1 + more / 4) {
                    check_rule(&(rule){window * dilation + more, window, dilation, stride});
                }
            }
        }
    }
}

/* Windows that were worked out by hand: even ones reach further back, the last group of a stride
 * may be short. */
static void test_rule_by_hand(void **state)
{
    (void)state;
    static const struct {
        rule r;
        int first[10];
    } cases[] = {
        {{10, 3, 1, 1}, {0, 0, 1, 2, 3, 4, 5, 6, 7, 7}},
        {{10, 4, 1, 1}, {0, 0, 0, 1, 2, 3, 4, 5, 6, 6}},
        {{10, 5, 1, 2}, {0, 0, 1, 1, 3, 3, 5, 5, 5, 5}},
        {{10, 4, 1, 4}, {0, 0, 0, 0, 4, 4, 4, 4, 6, 6}},
        {{10, 3, 2, 1}, {0, 0, 0, 0, 1, 1, 2, 2, 2, 2}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        vt_axis axis = axis_of(&cases[c].r);
        for (int i = 0; i < 10; i++) {
            assert_int_equal(vt_axis_first(&axis, i), cases[c].first[i]);
        }
    }
}

/* ---- the operation --------------------------------------------------------------------------- */

enum { HEADS = 2, WIDTH = 4, CHANNELS = HEADS * WIDTH };

typedef struct attention_case {
    int h, w;
    rule rows, cols; /* their length: that of the padded map */
    bool bias;
} attention_case;

static const attention_case attention_cases[] = {
    {9, 8, {9, 3, 1, 1}, {8, 3, 1, 1}, true},
    {13, 11, {13, 3, 2, 1}, {11, 5, 1, 1}, true},
    {7, 10, {7, 7, 1, 1}, {10, 3, 3, 1}, true},
    {4, 5, {7, 7, 1, 1}, {14, 7, 2, 1}, true}, /* padded */
    {1, 1, {6, 3, 2, 1}, {6, 3, 2, 1}, true},
    {11, 9, {11, 4, 1, 1}, {9, 6, 1, 1}, true}, /* even */
    {11, 14, {11, 5, 1, 3}, {14, 4, 2, 4}, true},
    {8, 12, {8, 4, 1, 4}, {12, 4, 1, 4}, false}, /* blocks */
    {10, 7, {10, 4, 1, 4}, {8, 4, 2, 2}, false},
};

/* Row p of the padded map in image n, or the row outside the map. */
static const float *row_at(const attention_case *k, const float *in, const float *pad, int n, int y,
                           int x)
{
    return y < k->h && x < k->w ? in + ((n * k->h + y) * k->w + x) * 3 * CHANNELS : pad;
}

/* One head of one query: softmax over every pair of the padded map that the mask lets through. */
static void attend(const attention_case *k, const float *in, const float *pad, const float *table,
                   const int at[3], int head, float *out)
{
    double total = 0, sum[WIDTH] = {0};
    int table_w = 2 * k->cols.window - 1, size = (2 * k->rows.window - 1) * table_w;
    const float *q = row_at(k, in, pad, at[0], at[1], at[2]) + head * WIDTH;
    for (int y = 0; y < k->rows.length; y++) {
        for (int x = 0; x < k->cols.length; x++) {
            int dy, dx;
            if (!sees(&k->rows, at[1], y, &dy) || !sees(&k->cols, at[2], x, &dx)) {
                continue;
            }
            const float *key = row_at(k, in, pad, at[0], y, x) + CHANNELS + head * WIDTH;
            double score = k->bias ? (double)table[head * size + dy * table_w + dx] : 0.0;
            for (int c = 0; c < WIDTH; c++) {
                score += 0.5 * (double)q[c] * (double)key[c];
            }
            total += exp(score);
            for (int c = 0; c < WIDTH; c++) {
                sum[c] += exp(score) * (double)key[CHANNELS + c];
            }
        }
    }
    for (int c = 0; c < WIDTH; c++) {
        out[c] = (float)(sum[c] / total);
    }
}

static void check_attention(const attention_case *k, const char *device)
{
    enum { IMAGES = 2, MAX_TABLE = HEADS * 13 * 13, MAX_MAP = IMAGES * 160 * 3 * CHANNELS };
    static float in[MAX_MAP], want[MAX_MAP];
    float table[MAX_TABLE], pad[3 * CHANNELS];
    vt_shape shape = {IMAGES, k->h, k->w, 3 * CHANNELS};
    size_t count, size = (size_t)(HEADS * (2 * k->rows.window - 1) * (2 * k->cols.window - 1));
    random_fill(in, shape_count(shape), (uint32_t)(k->h * 100 + k->w), 1.5f, 0.0f);
    random_fill(table, MAX_TABLE, 3, 1.5f, 0.0f);
    random_fill(pad, 3 * CHANNELS, 4, 1.5f, 0.0f);
    for (int i = 0; i < IMAGES * k->h * k->w * HEADS; i++) {
        int pixel = i / HEADS;
        int at[3] = {pixel / (k->h * k->w), pixel / k->w % k->h, pixel % k->w};
        attend(k, in, pad, table, at, i % HEADS, want + i * WIDTH);
    }
    test_program t;
    program_begin(&t, shape);
    vt_value x = vt_input(&t.builder);
    vt_attention a = {.heads = HEADS,
                      .q = {x, 0, WIDTH},
                      .k = {x, CHANNELS, WIDTH},
                      .v = {x, 2 * CHANNELS, WIDTH},
                      .scale = 0.5f,
                      .pad = program_vector(&t, 3 * CHANNELS, pad),
                      .pattern = {.kind = VT_PATTERN_NEIGHBORHOOD,
                                  .window_h = k->rows.window,
                                  .window_w = k->cols.window,
                                  .dilation_h = k->rows.dilation,
                                  .dilation_w = k->cols.dilation,
                                  .stride_h = k->rows.stride,
                                  .stride_w = k->cols.stride}};
    if (k->bias) {
        a.bias = program_vector(&t, (int64_t)size, table);
    }
    vt_output(&t.builder, "y", vt_op_attention(&t.builder, &a));
    program_result result = program_run(&t, device, 0, in);
    const float *got = result_data(&result, "y", &count);
    compare(got, want, count, 1e-5, "map %dx%d, window %dx%d, on %s", k->h, k->w, k->rows.window,
            k->cols.window, device);
    result_clear(&result);
    program_end(&t);
}

static void test_operation(void **state)
{
    (void)state;
    for (const char *const *device = test_devices; *device; device++) {
        for (size_t i = 0; i < sizeof attention_cases / sizeof attention_cases[0]; i++) {
            check_attention(&attention_cases[i], *device);
        }
    }
}

/* ---- the layer under settings that are other patterns too ------------------------------------ */

enum { PATCH = 4, MAP_H = 8, MAP_W = 12, MAP_CHANNELS = 3 * PATCH * PATCH };

/* {window, dilation, stride} of each axis, and the pattern that gives the same there. */
static const struct {
    vt_neighborhood_attention_settings neighborhood;
    vt_pattern same;
} twins[] = {
    {{.window_h = 4, .window_w = 3, .stride_h = 4, .stride_w = 3},
     {.kind = VT_PATTERN_WINDOW, .window_h = 4, .window_w = 3}},
    {{.window_h = 4, .window_w = 3, .dilation_h = 2, .dilation_w = 4},
     {.kind = VT_PATTERN_GRID, .window_h = 4, .window_w = 3}},
    {{.window_h = MAP_H, .window_w = MAP_W}, {.kind = VT_PATTERN_GLOBAL}},
    {{.window_h = MAP_H, .window_w = MAP_W, .stride_h = 5, .stride_w = 2},
     {.kind = VT_PATTERN_WINDOW, .window_h = MAP_H, .window_w = MAP_W}},
};
enum { TWINS = sizeof twins / sizeof twins[0] };

static void twins_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    (void)variant;
    (void)s;
    vt_neighborhood_attention *layers = network;
    for (int i = 0; i < TWINS; i++) {
        vt_neighborhood_attention_settings settings = twins[i].neighborhood;
        settings.channels = MAP_CHANNELS;
        settings.heads = 3;
        vt_scope(b, "layer%d", i);
        layers[i] = vt_neighborhood_attention_bind(b, &settings);
        vt_scope_end(b);
    }
}

static const char *const own[TWINS] = {"own0", "own1", "own2", "own3"};
static const char *const other[TWINS] = {"other0", "other1", "other2", "other3"};

static void twins_forward(vt_builder *b, const void *network)
{
    const vt_neighborhood_attention *layers = network;
    vt_value x = vt_op_space_to_depth(b, vt_input(b), PATCH);
    for (int i = 0; i < TWINS; i++) {
        vt_output(b, own[i], vt_neighborhood_attention_forward(b, &layers[i], x));
        vt_output(b, other[i],
                  vt_self_attention_forward(b, &layers[i].attention, x, &twins[i].same));
    }
}

static void test_twins(void **state)
{
    (void)state;
    static const vt_variant variant = {
        .name = "twins", .preprocess = {.height = 32, .width = 48, .std = {1, 1, 1}}, .classes = 1};
    static const vt_family family = {.name = "twins",
                                     .title = "twins",
                                     .variants = &variant,
                                     .variant_count = 1,
                                     .network_size = TWINS * sizeof(vt_neighborhood_attention),
                                     .bind = twins_bind,
                                     .forward = twins_forward};
    for (const char *const *device = test_devices; *device; device++) {
        vt_context *context = test_context(*device);
        vt_error error = {0};
        expect_status(vt_context_register(context, &family, &error), VT_OK, &error);
        vt_model *model = golden_model(context, "twins", VT_WINDOW_PAD, 0, 0);
        for (int i = 0; i < TWINS; i++) {
            network_output a = run_network(model, own[i], 2, PATCH * MAP_H, PATCH * MAP_W);
            network_output b = run_network(model, other[i], 2, PATCH * MAP_H, PATCH * MAP_W);
            assert_int_equal(a.count, b.count);
            compare(a.data, b.data, a.count, 1e-6, "twin %d on %s", i, *device);
            free(a.data);
            free(b.data);
        }
        vt_model_destroy(&model);
        vt_context_destroy(&context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_rule_by_hand),
        cmocka_unit_test(test_operation),
        cmocka_unit_test(test_twins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
