/* SPDX-License-Identifier: Apache-2.0 */
#include "layer_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "model_compare.h"

enum { IMAGES = 2, COLORS = 3, LAYER_WORDS = 64 };

/* The module's input: patches of the golden picture, 3 patch^2 channels. */
typedef struct subject {
    const layer_case *k;
    int patch;
} subject;

typedef struct network {
    subject subject;
    max_align_t layer[LAYER_WORDS];
} network;

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *out)
{
    (void)s;
    network *net = out;
    net->subject = *(const subject *)variant->config;
    net->subject.k->bind(b, COLORS * net->subject.patch * net->subject.patch, net->layer);
}

static void forward(vt_builder *b, const void *in)
{
    const network *net = in;
    vt_value x = vt_op_space_to_depth(b, vt_input(b), net->subject.patch);
    vt_value y = net->subject.k->forward(b, net->layer, x);
    if (!net->subject.k->output) {
        vt_output(b, "y", y);
    }
}

/* Channels of a patch: (row, column, color). */
static map input(layer_formula *f, const subject *s)
{
    int p = s->patch, h = p * s->k->h, w = p * s->k->w;
    map x = map_new(f, IMAGES, s->k->h, s->k->w, COLORS * p * p);
    float *picture = malloc((size_t)(IMAGES * COLORS * h * w) * sizeof *picture);
    assert_non_null(picture);
    vt_golden_picture(IMAGES, h, w, picture);
    for (int i = 0; i < IMAGES * COLORS * h * w; i++) {
        int n = i / w / h / COLORS, color = i / w / h % COLORS, row = i / w % h, column = i % w;
        int c = (row % p * p + column % p) * COLORS + color;
        pixel_of(x, n, row / p, column / p)[c] = (double)picture[i];
    }
    free(picture);
    return x;
}

/* Runs the module once and returns how far it is from `want`. */
static double run(const vt_model *model, const subject *s, map want, const char *how)
{
    const layer_case *k = s->k;
    network_output y =
        run_network(model, k->output ? k->output : "y", IMAGES, s->patch * k->h, s->patch * k->w);
    assert_true(y.n == want.n && y.h == want.h && y.w == want.w && y.c == want.c);
    float *rounded = malloc(y.count * sizeof *rounded);
    assert_non_null(rounded);
    for (size_t i = 0; i < y.count; i++) {
        rounded[i] = (float)want.v[i];
    }
    double off = compare(y.data, rounded, y.count, TOLERANCE_NETWORK_F32, "%s, patches of %d, %s",
                         k->name, s->patch, how);
    free(rounded);
    free(y.data);
    return off;
}

/* A device, and whether the planner fuses there. */
typedef struct way {
    const char *device;
    bool fuse;
    const char *text;
} way;

static double run_on(const vt_family *family, const subject *s, const way *w, layer_formula *f,
                     map *want)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.device = w->device;
    settings.fuse = w->fuse;
    settings.threads = 2;
    vt_context *context = test_context_with(&settings);
    vt_error error = {0};
    expect_status(vt_context_register(context, family, &error), VT_OK, &error);
    vt_model *model = golden_model(context, s->k->name, VT_WINDOW_PAD, 0, 0);
    if (!want->v) { /* once: every way has the same weights */
        f->model = model;
        *want = s->k->formula(f, input(f, s));
        formula_expect_all_read(f);
    }
    double off = run(model, s, *want, w->text);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    return off;
}

static double check(const subject *s)
{
    const vt_variant variant = {.name = s->k->name,
                                .config = s,
                                .preprocess = {.height = 64, .width = 64, .std = {1, 1, 1}},
                                .classes = 1};
    const vt_family family = {.name = "layer",
                              .title = "layer",
                              .variants = &variant,
                              .variant_count = 1,
                              .network_size = sizeof(network),
                              .bind = bind,
                              .forward = forward};
    static const way ways[] = {{"ref", true, "ref, fused"},
                               {"ref", false, "ref"},
                               {"cpu", true, "cpu, fused"},
                               {"cpu", false, "cpu"}};
    layer_formula f = {0};
    map want = {0};
    double worst = 0;
    assert_true(s->k->size <= sizeof(max_align_t) * LAYER_WORDS);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        worst = fmax(worst, run_on(&family, s, &ways[i], &f, &want));
    }
    formula_clear(&f);
    return worst;
}

static void test_layer(void **state)
{
    double worst = 0;
    for (int patch = 2; patch <= 4; patch += 2) {
        worst = fmax(worst, check(&(subject){*state, patch}));
    }
    print_message("off by %.1e of the largest\n", worst);
}

void layer_tests(layer_case *cases, size_t count, struct CMUnitTest *tests)
{
    for (size_t i = 0; i < count; i++) {
        tests[i] = (struct CMUnitTest){cases[i].name, test_layer, NULL, NULL, &cases[i]};
    }
}
