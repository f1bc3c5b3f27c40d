/* SPDX-License-Identifier: Apache-2.0 */
/* Code outside the library composes and registers a backbone, from the public headers alone: a
 * small residual convolution network with weights that are put in another order and derived ones.
 * What it must answer is computed here by hand. A larger one is in support/model_nano_v2.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_golden.h"
#include "vertebra/vertebra.h"

enum { WIDTH = 4, CLASSES = 3 };

typedef struct toy_config {
    float gain;
} toy_config;

typedef struct toy_network {
    vt_weight conv, bias, mixed;
    vt_linear_layer head;
    int classes, image_height;
    bool has_extra;
} toy_network;

/* bias * gain + 1 */
static vt_status derive_bias(const void *user, const vt_source_array *sources, int count,
                             int64_t rows, int64_t cols, float *out, vt_error *error)
{
    const toy_config *config = user;
    if (count != 1 || rows != 1 || cols != sources[0].cols) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "not one row");
    }
    for (int64_t i = 0; i < cols; i++) {
        out[i] = sources[0].data[i] * config->gain + 1.0f;
    }
    return VT_OK;
}

static void toy_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                     void *network)
{
    toy_network *net = network;
    int32_t columns[27];
    for (int i = 0; i < 27; i++) { /* (c, ky, kx) in the file, (ky, kx, c) here */
        columns[i] = i % 3 * 9 + i / 3;
    }
    vt_scope(b, "stem.%d", 0);
    net->conv =
        vt_bind(b, &(vt_weight_desc){
                       .name = "weight", .rank = 4, .shape = {WIDTH, 3, 3, 3}, .columns = columns});
    vt_weight bias = vt_bind(
        b,
        &(vt_weight_desc){.name = "offset", .role = VT_WEIGHT_SOURCE, .rank = 1, .shape = {WIDTH}});
    net->bias = vt_bind_derived(b, &(vt_derived_desc){.name = "bias",
                                                      .role = VT_WEIGHT_VECTOR,
                                                      .rows = 1,
                                                      .cols = WIDTH,
                                                      .derive = derive_bias,
                                                      .user = variant->config,
                                                      .user_size = sizeof(toy_config),
                                                      .sources = {bias},
                                                      .source_count = 1});
    vt_scope_end(b);
    net->mixed = vt_bind(b, &(vt_weight_desc){.name = "mixed", .rank = 2, .shape = {WIDTH, WIDTH}});
    net->has_extra = vt_bind_available(b, "extra", false);
    net->head = vt_linear_bind(b, "head", WIDTH, s->classes, false);
    net->classes = s->classes;
    net->image_height = s->image_height;
}

static void toy_forward(vt_builder *b, const void *network)
{
    const toy_network *net = network;
    vt_conv2d conv = {.weight = net->conv,
                      .bias = net->bias,
                      .act = VT_ACT_RELU,
                      .kernel_h = 3,
                      .kernel_w = 3,
                      .stride_h = 2,
                      .stride_w = 1,
                      .dilation_h = 1,
                      .dilation_w = 1,
                      .pad_top = 1,
                      .pad_left = 1,
                      .pad_right = 1};
    vt_label(b, "stem");
    vt_value x = vt_op_conv2d(b, vt_input(b), &conv);
    vt_label(b, "block");
    x = vt_op_add(b, x, vt_op_linear(b, x, &(vt_linear){.weight = net->mixed}));
    vt_output(b, "C2", x);
    vt_output(b, "logits", vt_linear_forward(b, &net->head, vt_op_mean_pool(b, x), VT_ACT_NONE));
}

static const toy_config plain = {2.0f}, strong = {10.0f};
static const vt_variant toy_variants[] = {
    {.name = "toy", .config = &plain, .preprocess = {.height = 8, .width = 8}, .classes = CLASSES},
    {.name = "toy_strong",
     .config = &strong,
     .preprocess = {.height = 8, .width = 8},
     .classes = CLASSES},
};
static const vt_family toy = {
    .name = "toy",
    .title = "A toy",
    .variants = toy_variants,
    .variant_count = 2,
    .network_size = sizeof(toy_network),
    .bind = toy_bind,
    .forward = toy_forward,
    .head = "head.weight",
};

static vt_context *ctx;
static vt_error error;

static int set_up(void **state)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.device = *state;
    memset(&error, 0, sizeof error);
    ctx = test_context_with(&settings);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    vt_context_destroy(&ctx);
    return 0;
}

/* ---- the network, by hand -------------------------------------------------------------------- */

/* C2 [h, w, WIDTH] of a dense NCHW picture of 2h - 1 or 2h rows. */
static void toy_c2(const float *in, int rows, int h, int w, double gain, double *out)
{
    static const int64_t conv_shape[] = {WIDTH, 3, 3, 3}, offset_shape[] = {WIDTH};
    static const int64_t mixed_shape[] = {WIDTH, WIDTH};
    for (int p = 0; p < h * w; p++) {
        double stem[WIDTH];
        for (int o = 0; o < WIDTH; o++) {
            double offset = (double)golden_value("stem.0.offset", 1, offset_shape, (uint32_t)o);
            stem[o] = gain * offset + 1;
            for (int i = 0; i < 27; i++) {
                int c = i / 9, y = p / w * 2 + i / 3 % 3 - 1, x = p % w + i % 3 - 1;
                if (y >= 0 && y < rows && x >= 0 && x < w) {
                    stem[o] += (double)in[(c * rows + y) * w + x] *
                               (double)golden_value("stem.0.weight", 4, conv_shape,
                                                    (uint32_t)(o * 27 + i));
                }
            }
            stem[o] = fmax(stem[o], 0);
        }
        for (int o = 0; o < WIDTH; o++) {
            out[p * WIDTH + o] = stem[o];
            for (int i = 0; i < WIDTH; i++) {
                out[p * WIDTH + o] += stem[i] * (double)golden_value("mixed", 2, mixed_shape,
                                                                     (uint32_t)(o * WIDTH + i));
            }
        }
    }
}

static void check_toy(const char *name, double gain)
{
    enum { ROWS = 7, H = 3, W = 5 };
    static const int64_t head_shape[] = {CLASSES, WIDTH};
    float picture[3 * ROWS * W], want[H * W * WIDTH], logits[CLASSES] = {0};
    double c2[H * W * WIDTH];
    vt_golden_picture(1, ROWS, W, picture);
    toy_c2(picture, ROWS, H, W, gain, c2);
    for (int i = 0; i < H * W * WIDTH; i++) {
        want[i] = (float)c2[i];
        for (int k = 0; k < CLASSES; k++) {
            logits[k] += (float)(c2[i] / (H * W) *
                                 (double)golden_value("head.weight", 2, head_shape,
                                                      (uint32_t)(k * WIDTH + i % WIDTH)));
        }
    }
    vt_model *model = golden_model(ctx, name, VT_WINDOW_AUTO, 0, 0);
    network_output got = run_network(model, "C2", 1, ROWS, W);
    assert_true(got.h == H && got.w == W && got.c == WIDTH);
    compare(got.data, want, got.count, 2e-6, "%s: C2", name);
    free(got.data);
    got = run_network(model, "logits", 1, ROWS, W);
    assert_int_equal(got.count, CLASSES);
    compare(got.data, logits, CLASSES, 4e-6, "%s: logits", name);
    free(got.data);
    vt_model_destroy(&model);
}

static void test_answers(void **state)
{
    (void)state;
    expect_status(vt_context_register(ctx, &toy, &error), VT_OK, &error);
    check_toy("toy", 2.0);
    check_toy("toy_strong", 10.0);
}

static void test_description(void **state)
{
    (void)state;
    expect_status(vt_context_register(ctx, &toy, &error), VT_OK, &error);
    vt_model *model = NULL;
    expect_status(vt_model_golden(&model, ctx, "toy.some_tag", 7, NULL, &error), VT_OK, &error);
    assert_ptr_equal(vt_model_variant(model), &toy_variants[0]);
    assert_ptr_equal(vt_model_family(model), &toy);
    assert_int_equal(vt_model_classes(model), 7);
    assert_int_equal(vt_model_dtype(model), VT_F32);
    assert_null(vt_model_label(model, 0));
    assert_ptr_equal(vt_model_preprocess(model), &toy_variants[0].preprocess);
    assert_int_equal(vt_model_parameters(model), WIDTH * 27 + WIDTH + WIDTH * WIDTH + 7 * WIDTH);
    assert_true(vt_model_bytes(model) >= 4 * (WIDTH * 27 + WIDTH * WIDTH + 7 * WIDTH));
    static const char *const names[] = {"stem.0.weight", "stem.0.offset", "mixed", "head.weight"};
    static const int ranks[] = {4, 1, 2, 2};
    const char *name;
    const int64_t *shape;
    int rank;
    for (size_t i = 0; i < 4; i++) {
        assert_true(vt_model_parameter(model, i, &name, &rank, &shape));
        assert_string_equal(name, names[i]);
        assert_int_equal(rank, ranks[i]);
    }
    assert_true(shape[0] == 7 && shape[1] == WIDTH);
    assert_false(vt_model_parameter(model, 4, &name, &rank, &shape));
    vt_model_destroy(&model);
}

/* ---- the list of models ---------------------------------------------------------------------- */

static void test_list(void **state)
{
    (void)state;
    size_t before = 0, after = 0;
    const vt_family *family = NULL;
    while (vt_variant_at(ctx, before, NULL)) {
        before++;
    }
    assert_true(before > 0);
    assert_null(vt_variant_find(ctx, "toy", NULL));
    expect_status(vt_context_register(ctx, &toy, &error), VT_OK, &error);
    while (vt_variant_at(ctx, after, NULL)) {
        after++;
    }
    assert_int_equal(after, before + 2);
    assert_ptr_equal(vt_variant_at(ctx, before, &family), &toy_variants[0]);
    assert_ptr_equal(family, &toy);
    family = NULL;
    assert_ptr_equal(vt_variant_find(ctx, "toy_strong.in1k", &family), &toy_variants[1]);
    assert_ptr_equal(family, &toy);
    assert_null(vt_variant_find(ctx, "toy_stron", NULL));
    assert_null(vt_variant_find(ctx, "toy_weaker", NULL));
    assert_null(vt_variant_find(ctx, "", NULL));
    assert_null(vt_variant_find(ctx, ".toy", NULL));
    assert_null(vt_variant_at(ctx, SIZE_MAX, NULL));
}

static void test_names_are_taken(void **state)
{
    (void)state;
    static const vt_variant same[] = {{.name = "swin_tiny_patch4_window7_224"}};
    vt_family other = toy;
    other.variants = same;
    other.variant_count = 1;
    expect_error(vt_context_register(ctx, &other, &error), VT_ERR_ARGUMENT, &error,
                 "swin_tiny_patch4_window7_224");
    expect_status(vt_context_register(ctx, &toy, &error), VT_OK, &error);
    expect_error(vt_context_register(ctx, &toy, &error), VT_ERR_ARGUMENT, &error, "toy");
    static const vt_variant tagged[] = {{.name = "toy_strong.other"}}; /* not the same name */
    const vt_family *family = NULL;
    other.variants = tagged;
    expect_status(vt_context_register(ctx, &other, &error), VT_OK, &error);
    assert_ptr_equal(vt_variant_find(ctx, "toy_strong.other", &family), &tagged[0]);
    assert_ptr_equal(family, &other);
    assert_ptr_equal(vt_variant_find(ctx, "toy_strong.in1k", &family), &toy_variants[1]);
    assert_ptr_equal(family, &toy);
    vt_context *second = test_context("ref"); /* another context knows nothing of it */
    assert_null(vt_variant_find(second, "toy", NULL));
    expect_status(vt_context_register(second, &toy, &error), VT_OK, &error);
    vt_context_destroy(&second);
}

/* ---- mistakes of a backbone's author --------------------------------------------------------- */

static const char *mistake;

static void wrong_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    (void)variant;
    (void)s;
    (void)network;
    vt_scope(b, "stages.%d", 1);
    if (strcmp(mistake, "fail") == 0) {
        vt_binder_fail(b, VT_ERR_UNSUPPORTED, "depth %d is not possible", 9);
        vt_binder_fail(b, VT_ERR_MEMORY, "a second one");
    } else if (strcmp(mistake, "shape") == 0) {
        vt_bind(b, &(vt_weight_desc){.name = "w", .rank = 2, .shape = {4, 0}});
    } else if (strcmp(mistake, "rank") == 0) {
        vt_bind(b, &(vt_weight_desc){.name = "w", .rank = 5, .shape = {1, 1, 1, 1}});
    } else if (strcmp(mistake, "overflow") == 0) {
        vt_bind(b, &(vt_weight_desc){
                       .name = "w", .rank = 4, .shape = {1 << 30, 1 << 30, 1 << 30, 1 << 30}});
    } else if (strcmp(mistake, "derived") == 0) {
        vt_bind_derived(
            b, &(vt_derived_desc){.name = "w", .rows = 0, .cols = 1, .derive = derive_bias});
    } else if (strcmp(mistake, "heads") == 0) {
        vt_window_attention_bind(
            b, &(vt_window_attention_settings){.channels = 7, .heads = 2, .window = 4});
    } else if (strcmp(mistake, "groups") == 0) {
        vt_conv_bind(b, "w", &(vt_conv_settings){.in = 8, .out = 6, .kernel = 3, .groups = 4});
    } else if (strcmp(mistake, "mbconv") == 0) {
        vt_mbconv_bind(b, &(vt_mbconv_settings){
                              .in = 8, .out = 6, .hidden = 32, .gate_hidden = 2, .stride = 1});
    } else if (strcmp(mistake, "gate") == 0) {
        vt_channel_conv_gate_bind(b, 16, 4, VT_ACT_SIGMOID);
    } else if (strcmp(mistake, "axes") == 0) {
        vt_multi_axis_attention_bind(
            b, &(vt_multi_axis_settings){.channels = 8, .heads = 1, .hidden = 8, .window_h = 2});
    } else if (strcmp(mistake, "halo") == 0) {
        vt_halo_attention_bind(
            b, &(vt_halo_attention_settings){.channels = 8, .heads = 2, .block = 4, .stride = 3});
    } else if (strcmp(mistake, "neighborhood") == 0) {
        vt_neighborhood_attention_bind(b, &(vt_neighborhood_attention_settings){
                                              .channels = 8, .heads = 2, .position_bias = true});
    } else if (strcmp(mistake, "alpha") == 0) {
        vt_hilo_attention_bind(
            b, &(vt_hilo_attention_settings){.channels = 8, .heads = 2, .window = 2, .alpha = 1.5});
    } else if (strcmp(mistake, "floor") == 0) {
        vt_linear_attention_bind(b, 8, 2, 0.0f);
    } else if (strcmp(mistake, "even kernel") == 0) {
        vt_local_concentration_bind(b, 8, 6, 1e-5f);
    } else if (strcmp(mistake, "deep") == 0) {
        for (int i = 0; i < 40; i++) {
            vt_scope(b, "s");
        }
        for (int i = 0; i < 45; i++) {
            vt_scope_end(b);
        }
    } else if (strcmp(mistake, "long") == 0) {
        vt_scope(b, "%0300d", 1);
    }
}

static void test_wrong_binding(void **state)
{
    (void)state;
    static const struct {
        const char *mistake, *message;
        vt_status status;
    } cases[] = {
        {"fail", "toy: stages.1: depth 9 is not possible", VT_ERR_UNSUPPORTED},
        {"shape", "w: the shape is not possible", VT_ERR_ARGUMENT},
        {"rank", "w: the shape is not possible", VT_ERR_ARGUMENT},
        {"overflow", "w: the shape is not possible", VT_ERR_ARGUMENT},
        {"derived", "w: not a valid derived parameter", VT_ERR_ARGUMENT},
        {"heads", "attention: 7 channels, 2 heads", VT_ERR_ARGUMENT},
        {"groups", "w: 8 to 6 channels, kernel 3, 4 groups", VT_ERR_ARGUMENT},
        {"mbconv", "mbconv: 8 to 6 channels, stride 1", VT_ERR_ARGUMENT},
        {"gate", "channel attention: kernel 4", VT_ERR_ARGUMENT},
        {"axes", "multi_axis_attention: window 2x0", VT_ERR_ARGUMENT},
        {"halo", "8 channels, 2 heads, block 4, halo 0, stride 3", VT_ERR_ARGUMENT},
        {"neighborhood", "rpb: the shape is not possible", VT_ERR_ARGUMENT},
        {"alpha", "hilo_attention: 8 channels, 2 heads, window 2, alpha 1.5", VT_ERR_ARGUMENT},
        {"floor", "linear_attention: 8 channels, 2 heads, floor 0", VT_ERR_ARGUMENT},
        {"even kernel", "local_concentration: kernel 6", VT_ERR_ARGUMENT},
        {"deep", "nested too deeply", VT_ERR_LIMIT},
        {"long", "too long", VT_ERR_LIMIT},
    };
    static vt_family wrong;
    wrong = toy;
    wrong.bind = wrong_bind;
    expect_status(vt_context_register(ctx, &wrong, &error), VT_OK, &error);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vt_model *model = NULL;
        mistake = cases[i].mistake;
        expect_error(vt_model_golden(&model, ctx, "toy", 0, NULL, &error), cases[i].status, &error,
                     cases[i].message);
        assert_null(model);
    }
}

static void wrong_forward(vt_builder *b, const void *network)
{
    const toy_network *net = network;
    vt_label(b, "stages.3");
    vt_output(b, "logits", vt_op_linear(b, vt_input(b), &(vt_linear){.weight = net->mixed}));
}

static void test_wrong_forward(void **state)
{
    (void)state;
    static vt_family wrong;
    vt_session *session = NULL;
    wrong = toy;
    wrong.forward = wrong_forward;
    expect_status(vt_context_register(ctx, &wrong, &error), VT_OK, &error);
    vt_model *model = golden_model(ctx, "toy", VT_WINDOW_AUTO, 0, 0);
    expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
    expect_error(vt_session_prepare(session, 1, 8, 9, &error), VT_ERR_ARGUMENT, &error,
                 "toy at 1x8x9: stages.3: linear: mixed has 4 columns, the input has 3 channels");
    vt_session_destroy(&session);
    vt_model_destroy(&model);
}

static void test_model_errors(void **state)
{
    (void)state;
    vt_model *model = NULL;
    vt_model_settings settings = vt_model_settings_default();
    expect_error(vt_model_golden(&model, ctx, "no_such_model", 0, NULL, &error), VT_ERR_NOT_FOUND,
                 &error, "no_such_model");
    expect_status(vt_model_golden(&model, ctx, NULL, 0, NULL, &error), VT_ERR_ARGUMENT, &error);
    expect_status(vt_model_golden(NULL, ctx, "toy", 0, NULL, &error), VT_ERR_ARGUMENT, &error);
    expect_status(vt_model_golden(&model, ctx, "swin_nano_patch4_window7_224", -1, NULL, &error),
                  VT_ERR_ARGUMENT, &error);
    settings.image_width = -4;
    expect_status(
        vt_model_golden(&model, ctx, "swin_nano_patch4_window7_224", 0, &settings, &error),
        VT_ERR_ARGUMENT, &error);
    settings = vt_model_settings_default();
    settings.dtype = VT_I64;
    expect_error(vt_model_golden(&model, ctx, "swin_nano_patch4_window7_224", 0, &settings, &error),
                 VT_ERR_UNSUPPORTED, &error, "i64");
    assert_null(model);
}

static char ref[] = "ref", cpu[] = "cpu";

#define BOTH(f)                                                                                    \
    {#f " (ref)", f, set_up, tear_down, ref},                                                      \
    {                                                                                              \
#f " (cpu)", f, set_up, tear_down, cpu                                                     \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_answers),         BOTH(test_description),   BOTH(test_list),
        BOTH(test_names_are_taken), BOTH(test_wrong_binding), BOTH(test_wrong_forward),
        BOTH(test_model_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
