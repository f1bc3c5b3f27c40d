/* SPDX-License-Identifier: Apache-2.0 */
/* Modules alone against the formulas of their headers, written out again in double:
 * convolutions, perceptrons, gates, patches. Those that attend are in test_layers_attention.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/layer_case.h"
#include "vertebra/layers.h"

/* ---- conv: grouped, dilated, with a stride, a batch norm, a layer scale ---------------------- */

static void bind_conv(vt_binder *b, int channels, void *layer)
{
    vt_batch_norm after = vt_batch_norm_bind(b, "bn", 2 * channels, 1e-5f);
    vt_conv_settings s = {.in = channels,
                          .out = 2 * channels,
                          .kernel = 3,
                          .stride = 2,
                          .dilation = 2,
                          .pad = 3,
                          .groups = 3,
                          .bias = true,
                          .after = &after,
                          .gamma = vt_scale_bind(b, "gamma", 2 * channels)};
    *(vt_conv_layer *)layer = vt_conv_bind(b, "conv", &s);
}

static vt_value forward_conv(vt_builder *b, const void *layer, vt_value x)
{
    return vt_conv_forward(b, layer, x, VT_ACT_SILU);
}

/* y = act(gamma * bn(conv(x))) */
static map formula_conv(layer_formula *f, map x)
{
    map y = conv(f, cut(f, x, -3, -3, x.h + 6, x.w + 6), "conv",
                 (conv_form){2 * x.c, .kernel = 3, .stride = 2, .dilation = 2, .groups = 3, true});
    return apply(f, scale(f, batch_norm(f, y, "bn", 1e-5), "gamma"), VT_ACT_SILU);
}

/* ---- position_encoding ----------------------------------------------------------------------- */

static void bind_position_encoding(vt_binder *b, int channels, void *layer)
{
    *(vt_position_encoding *)layer = vt_position_encoding_bind(b, channels);
}

static vt_value forward_position_encoding(vt_builder *b, const void *layer, vt_value x)
{
    return vt_position_encoding_forward(b, layer, x);
}

static map formula_position_encoding(layer_formula *f, map x)
{
    return add(f, x, depthwise(f, x, "proj", 3, 1));
}

/* ---- large_kernel_attention ------------------------------------------------------------------ */

static void bind_large_kernel_attention(vt_binder *b, int channels, void *layer)
{
    *(vt_large_kernel_attention *)layer = vt_large_kernel_attention_bind(b, channels);
}

static vt_value forward_large_kernel_attention(vt_builder *b, const void *layer, vt_value x)
{
    return vt_large_kernel_attention_forward(b, layer, x);
}

static map formula_large_kernel_attention(layer_formula *f, map x)
{
    map y = depthwise(f, depthwise(f, x, "conv0", 5, 1), "conv_spatial", 7, 3);
    return multiply(f, x, linear(f, y, "conv1", x.c, true));
}

/* ---- local_concentration --------------------------------------------------------------------- */

static void bind_local_concentration(vt_binder *b, int channels, void *layer)
{
    *(vt_local_concentration *)layer = vt_local_concentration_bind(b, channels, 7, 1e-5f);
}

static vt_value forward_local_concentration(vt_builder *b, const void *layer, vt_value x)
{
    return vt_local_concentration_forward(b, layer, x);
}

static map formula_local_concentration(layer_formula *f, map x)
{
    map y = apply(f, depthwise(f, x, "conv1", 7, 1), VT_ACT_GELU);
    return depthwise(f, batch_norm(f, y, "bn", 1e-5), "conv2", 7, 1);
}

/* ---- deform_conv ----------------------------------------------------------------------------- */

enum { DEFORM_KERNEL = 2 };

static void bind_deform_conv(vt_binder *b, int channels, void *layer)
{
    vt_batch_norm after = vt_batch_norm_bind(b, "bn", channels + 5, 1e-5f);
    vt_deform_conv_settings s = {
        .in = channels, .out = channels + 5, .kernel = DEFORM_KERNEL, .after = &after};
    *(vt_deform_conv *)layer = vt_deform_conv_bind(b, "conv", &s);
}

static vt_value forward_deform_conv(vt_builder *b, const void *layer, vt_value x)
{
    return vt_deform_conv_forward(b, layer, x, VT_ACT_GELU);
}

/* S(x[n], y, x)[c]: every pixel counts as far as it is near. */
static double bilinear(map m, int n, double y, double x, int c)
{
    double sum = 0;
    for (int i = 0; i < m.h * m.w; i++) {
        double near_y = fmax(0.0, 1.0 - fabs(y - i / m.w));
        double near_x = fmax(0.0, 1.0 - fabs(x - i % m.w));
        sum += near_y * near_x * pixel_of(m, n, i / m.w, i % m.w)[c];
    }
    return sum;
}

/* The pixels that the taps read, as a map that a plain convolution of that stride takes. */
static map formula_deform_conv(layer_formula *f, map x)
{
    enum { K = DEFORM_KERNEL };
    conv_form form = {.out = 2 * K * K, .kernel = K, .stride = K, .bias = true};
    map d = conv(f, x, "conv.conv_offset", form), moved = map_new(f, x.n, d.h * K, d.w * K, x.c);
    for (int i = 0; i < moved.n * moved.h * moved.w; i++) {
        int n = i / moved.w / moved.h, row = i / moved.w % moved.h, column = i % moved.w;
        const double *away = pixel_of(d, n, row / K, column / K) + 2 * (row % K * K + column % K);
        for (int c = 0; c < x.c; c++) {
            pixel_of(moved, n, row, column)[c] = bilinear(x, n, row + away[0], column + away[1], c);
        }
    }
    form.out = x.c + 5;
    return apply(f, batch_norm(f, conv(f, moved, "conv", form), "bn", 1e-5), VT_ACT_GELU);
}

/* ---- mlp, conv_mlp, convnext_block ----------------------------------------------------------- */

enum { HIDDEN = 31 };

static void bind_mlp(vt_binder *b, int channels, void *layer)
{
    vt_weight gamma = vt_scale_bind(b, "gamma", channels);
    *(vt_mlp *)layer = vt_mlp_bind(b, channels, HIDDEN, VT_ACT_TANH, gamma);
}

static vt_value forward_mlp(vt_builder *b, const void *layer, vt_value x)
{
    return vt_mlp_forward(b, layer, x);
}

static map formula_mlp(layer_formula *f, map x)
{
    map y = apply(f, linear(f, x, "fc1", HIDDEN, true), VT_ACT_TANH);
    return scale(f, linear(f, y, "fc2", x.c, true), "gamma");
}

static void bind_conv_mlp(vt_binder *b, int channels, void *layer)
{
    vt_batch_norm before = vt_batch_norm_bind(b, "norm", channels, 1e-5f);
    vt_conv_mlp_settings s = {.channels = channels,
                              .hidden = HIDDEN,
                              .act = VT_ACT_GELU,
                              .before = &before,
                              .gamma = vt_scale_bind(b, "gamma", channels)};
    *(vt_conv_mlp *)layer = vt_conv_mlp_bind(b, &s);
}

static vt_value forward_conv_mlp(vt_builder *b, const void *layer, vt_value x)
{
    return vt_conv_mlp_forward(b, layer, x);
}

static map formula_conv_mlp(layer_formula *f, map x)
{
    map y = linear(f, batch_norm(f, x, "norm", 1e-5), "fc1", HIDDEN, true);
    y = apply(f, depthwise(f, y, "dwconv.dwconv", 3, 1), VT_ACT_GELU);
    return scale(f, linear(f, y, "fc2", x.c, true), "gamma");
}

static void bind_convnext_block(vt_binder *b, int channels, void *layer)
{
    *(vt_convnext_block *)layer = vt_convnext_block_bind(b, channels, 1e-6f);
}

static vt_value forward_convnext_block(vt_builder *b, const void *layer, vt_value x)
{
    return vt_convnext_block_forward(b, layer, x);
}

static map formula_convnext_block(layer_formula *f, map x)
{
    map y = layer_norm(f, depthwise(f, x, "conv_dw", 7, 1), "norm", 1e-6);
    y = apply(f, linear(f, y, "mlp.fc1", 4 * x.c, true), VT_ACT_GELU);
    return add(f, x, scale(f, linear(f, y, "mlp.fc2", x.c, true), "gamma"));
}

/* ---- squeeze_excite: both gates -------------------------------------------------------------- */

enum { GATE_HIDDEN = 5, GATE_KERNEL = 5 };

static void bind_squeeze_excite(vt_binder *b, int channels, void *layer)
{
    vt_squeeze_excite_settings s = {channels, GATE_HIDDEN, VT_ACT_RELU, VT_ACT_SIGMOID};
    *(vt_squeeze_excite *)layer = vt_squeeze_excite_bind(b, &s);
}

static void bind_channel_conv_gate(vt_binder *b, int channels, void *layer)
{
    *(vt_squeeze_excite *)layer =
        vt_channel_conv_gate_bind(b, channels, GATE_KERNEL, VT_ACT_SIGMOID);
}

static vt_value forward_squeeze_excite(vt_builder *b, const void *layer, vt_value x)
{
    return vt_squeeze_excite_forward(b, layer, x);
}

static map formula_squeeze_excite(layer_formula *f, map x)
{
    map g = linear(f, means(f, x, x.h, x.w), "fc1", GATE_HIDDEN, true);
    g = linear(f, apply(f, g, VT_ACT_RELU), "fc2", x.c, true);
    return multiply(f, x, apply(f, g, VT_ACT_SIGMOID));
}

static map formula_channel_conv_gate(layer_formula *f, map x)
{
    const double *w = weight(f, (int[4]){1, 1, GATE_KERNEL}, "conv.weight");
    map m = means(f, x, x.h, x.w), g = map_new(f, x.n, 1, 1, x.c);
    for (int i = 0; i < x.n * x.c; i++) {
        for (int k = 0; k < GATE_KERNEL; k++) {
            int c = i % x.c + k - (GATE_KERNEL - 1) / 2;
            g.v[i] += c >= 0 && c < x.c ? w[k] * m.v[i / x.c * x.c + c] : 0.0;
        }
    }
    return multiply(f, x, apply(f, g, VT_ACT_SIGMOID));
}

/* ---- mbconv: stride 1; stride 2, as wide and, on a map of even height, wider ----------------- */

static void bind_mbconv(vt_binder *b, int channels, void *layer, int more, int stride)
{
    vt_mbconv_settings s = {.in = channels,
                            .out = channels + more,
                            .hidden = HIDDEN,
                            .gate_hidden = GATE_HIDDEN,
                            .stride = stride,
                            .act = VT_ACT_GELU_TANH,
                            .gate_act = VT_ACT_SILU,
                            .eps = 1e-3f};
    *(vt_mbconv *)layer = vt_mbconv_bind(b, &s);
}

static void bind_mbconv_same(vt_binder *b, int channels, void *layer)
{
    bind_mbconv(b, channels, layer, 0, 1);
}

static void bind_mbconv_half(vt_binder *b, int channels, void *layer)
{
    bind_mbconv(b, channels, layer, 0, 2);
}

static void bind_mbconv_wider(vt_binder *b, int channels, void *layer)
{
    bind_mbconv(b, channels, layer, 5, 2);
}

static vt_value forward_mbconv(vt_builder *b, const void *layer, vt_value x)
{
    return vt_mbconv_forward(b, layer, x);
}

/* Pads as SAME does it for windows of `kernel`: the odd zero comes last. */
static map pad_same(layer_formula *f, map x, int kernel, int stride)
{
    int h = (x.h + stride - 1) / stride, w = (x.w + stride - 1) / stride;
    int need_h = (h - 1) * stride + kernel, need_w = (w - 1) * stride + kernel;
    int top = need_h > x.h ? (need_h - x.h) / 2 : 0, left = need_w > x.w ? (need_w - x.w) / 2 : 0;
    return cut(f, x, -top, -left, need_h, need_w);
}

static map formula_mbconv(layer_formula *f, map x, int more, int stride)
{
    map kept = stride == 2 ? means(f, pad_same(f, x, 2, 2), 2, 2) : x;
    if (more) {
        kept = linear(f, kept, "shortcut.expand", x.c + more, true);
    }
    map z = linear(f, batch_norm(f, x, "pre_norm", 1e-3), "conv1_1x1", HIDDEN, false);
    z = apply(f, batch_norm(f, z, "norm1", 1e-3), VT_ACT_GELU_TANH);
    z = conv(f, pad_same(f, z, 3, stride), "conv2_kxk",
             (conv_form){HIDDEN, .kernel = 3, .stride = stride, .groups = HIDDEN});
    z = apply(f, batch_norm(f, z, "norm2", 1e-3), VT_ACT_GELU_TANH);
    map g = linear(f, means(f, z, z.h, z.w), "se.fc1", GATE_HIDDEN, true);
    g = linear(f, apply(f, g, VT_ACT_SILU), "se.fc2", HIDDEN, true);
    z = multiply(f, z, apply(f, g, VT_ACT_SIGMOID));
    return add(f, kept, linear(f, z, "conv3_1x1", x.c + more, true));
}

static map formula_mbconv_same(layer_formula *f, map x)
{
    return formula_mbconv(f, x, 0, 1);
}

static map formula_mbconv_half(layer_formula *f, map x)
{
    return formula_mbconv(f, x, 0, 2);
}

static map formula_mbconv_wider(layer_formula *f, map x)
{
    return formula_mbconv(f, x, 5, 2);
}

/* ---- patch_embed, patch_merge ---------------------------------------------------------------- */

enum { PATCH = 4, EMBEDDED = 20 };

static int round_up(int size, int unit)
{
    return (size + unit - 1) / unit * unit;
}

static void bind_patch_embed(vt_binder *b, int channels, void *layer)
{
    *(vt_patch_embed *)layer = vt_patch_embed_bind(b, channels, EMBEDDED, PATCH, 1e-5f);
}

static vt_value forward_patch_embed(vt_builder *b, const void *layer, vt_value x)
{
    return vt_patch_embed_forward(b, layer, x);
}

static map formula_patch_embed(layer_formula *f, map x)
{
    map y = conv(f, cut(f, x, 0, 0, round_up(x.h, PATCH), round_up(x.w, PATCH)), "proj",
                 (conv_form){EMBEDDED, .kernel = PATCH, .stride = PATCH, .bias = true});
    return layer_norm(f, y, "norm", 1e-5);
}

static void bind_patch_merge_v1(vt_binder *b, int channels, void *layer)
{
    *(vt_patch_merge *)layer = vt_patch_merge_bind(b, channels, true, 1e-5f);
}

static void bind_patch_merge_v2(vt_binder *b, int channels, void *layer)
{
    *(vt_patch_merge *)layer = vt_patch_merge_bind(b, channels, false, 1e-5f);
}

static vt_value forward_patch_merge(vt_builder *b, const void *layer, vt_value x)
{
    return vt_patch_merge_forward(b, layer, x);
}

/* The pixels of each 2 x 2 patch side by side, in the order of checkpoints. */
static map side_by_side(layer_formula *f, map x)
{
    x = cut(f, x, 0, 0, round_up(x.h, 2), round_up(x.w, 2));
    map y = map_new(f, x.n, x.h / 2, x.w / 2, 4 * x.c);
    for (int i = 0; i < y.n * y.h * y.w * y.c; i++) {
        int c = i % y.c, column = i / y.c % y.w, row = i / y.c / y.w % y.h, n = i / y.c / y.w / y.h;
        int block = c / x.c, dy = block & 1, dx = block >> 1;
        y.v[i] = pixel_of(x, n, 2 * row + dy, 2 * column + dx)[c % x.c];
    }
    return y;
}

static map formula_patch_merge_v1(layer_formula *f, map x)
{
    map y = layer_norm(f, side_by_side(f, x), "norm", 1e-5);
    return linear(f, y, "reduction", 2 * x.c, false);
}

static map formula_patch_merge_v2(layer_formula *f, map x)
{
    map y = linear(f, side_by_side(f, x), "reduction", 2 * x.c, false);
    return layer_norm(f, y, "norm", 1e-5);
}

/* ---- stage_output, classifier ---------------------------------------------------------------- */

static void bind_stage_output(vt_binder *b, int channels, void *layer)
{
    *(vt_stage_output *)layer = vt_stage_output_bind(b, 2, channels, 1e-6f, true);
}

static vt_value forward_stage_output(vt_builder *b, const void *layer, vt_value x)
{
    vt_stage_output_forward(b, layer, x);
    return x;
}

static map formula_stage_output(layer_formula *f, map x)
{
    return layer_norm(f, x, "norm2", 1e-6);
}

static void bind_norm_first(vt_binder *b, int channels, void *layer)
{
    vt_classifier_settings s = {
        .norm = "norm", .head = "head", .channels = channels, .classes = 7, .eps = 1e-6f};
    *(vt_classifier *)layer = vt_classifier_bind(b, &s);
}

static void bind_pool_first(vt_binder *b, int channels, void *layer)
{
    vt_classifier_settings s = {.norm = "norm",
                                .head = "head",
                                .channels = channels,
                                .classes = 7,
                                .eps = 1e-6f,
                                .pool_first = true,
                                .no_bias = true,
                                .hidden_name = "hidden",
                                .hidden = HIDDEN,
                                .hidden_act = VT_ACT_TANH};
    *(vt_classifier *)layer = vt_classifier_bind(b, &s);
}

static vt_value forward_classifier(vt_builder *b, const void *layer, vt_value x)
{
    vt_classifier_forward(b, layer, x);
    return x;
}

static map formula_norm_first(layer_formula *f, map x)
{
    map y = layer_norm(f, x, "norm", 1e-6);
    return linear(f, means(f, y, x.h, x.w), "head", 7, true);
}

static map formula_activation_map(layer_formula *f, map x)
{
    return linear(f, layer_norm(f, x, "norm", 1e-6), "head", 7, true);
}

static map formula_pool_first(layer_formula *f, map x)
{
    map y = layer_norm(f, means(f, x, x.h, x.w), "norm", 1e-6);
    y = apply(f, linear(f, y, "hidden", HIDDEN, true), VT_ACT_TANH);
    return linear(f, y, "head", 7, false);
}

/* ---------------------------------------------------------------------------------------------- */

static layer_case cases[] = {
    {"conv", 9, 15, sizeof(vt_conv_layer), bind_conv, forward_conv, formula_conv, NULL},
    {"position_encoding", 9, 15, sizeof(vt_position_encoding), bind_position_encoding,
     forward_position_encoding, formula_position_encoding, NULL},
    {"large_kernel_attention", 9, 15, sizeof(vt_large_kernel_attention),
     bind_large_kernel_attention, forward_large_kernel_attention, formula_large_kernel_attention,
     NULL},
    {"local_concentration", 9, 15, sizeof(vt_local_concentration), bind_local_concentration,
     forward_local_concentration, formula_local_concentration, NULL},
    {"deform_conv", 9, 15, sizeof(vt_deform_conv), bind_deform_conv, forward_deform_conv,
     formula_deform_conv, NULL},
    {"mlp", 9, 15, sizeof(vt_mlp), bind_mlp, forward_mlp, formula_mlp, NULL},
    {"conv_mlp", 9, 15, sizeof(vt_conv_mlp), bind_conv_mlp, forward_conv_mlp, formula_conv_mlp,
     NULL},
    {"convnext_block", 9, 15, sizeof(vt_convnext_block), bind_convnext_block,
     forward_convnext_block, formula_convnext_block, NULL},
    {"squeeze_excite", 9, 15, sizeof(vt_squeeze_excite), bind_squeeze_excite,
     forward_squeeze_excite, formula_squeeze_excite, NULL},
    {"channel_conv_gate", 9, 15, sizeof(vt_squeeze_excite), bind_channel_conv_gate,
     forward_squeeze_excite, formula_channel_conv_gate, NULL},
    {"mbconv", 9, 15, sizeof(vt_mbconv), bind_mbconv_same, forward_mbconv, formula_mbconv_same,
     NULL},
    {"mbconv_half", 9, 15, sizeof(vt_mbconv), bind_mbconv_half, forward_mbconv, formula_mbconv_half,
     NULL},
    {"mbconv_wider", 8, 15, sizeof(vt_mbconv), bind_mbconv_wider, forward_mbconv,
     formula_mbconv_wider, NULL},
    {"patch_embed", 9, 15, sizeof(vt_patch_embed), bind_patch_embed, forward_patch_embed,
     formula_patch_embed, NULL},
    {"patch_merge_v1", 9, 15, sizeof(vt_patch_merge), bind_patch_merge_v1, forward_patch_merge,
     formula_patch_merge_v1, NULL},
    {"patch_merge_v2", 9, 15, sizeof(vt_patch_merge), bind_patch_merge_v2, forward_patch_merge,
     formula_patch_merge_v2, NULL},
    {"stage_output", 9, 15, sizeof(vt_stage_output), bind_stage_output, forward_stage_output,
     formula_stage_output, "C4"},
    {"classifier_norm_first", 9, 15, sizeof(vt_classifier), bind_norm_first, forward_classifier,
     formula_norm_first, "logits"},
    {"classifier_activation_map", 9, 15, sizeof(vt_classifier), bind_norm_first, forward_classifier,
     formula_activation_map, "cam"},
    {"classifier_pool_first", 9, 15, sizeof(vt_classifier), bind_pool_first, forward_classifier,
     formula_pool_first, "logits"},
};
enum { CASES = sizeof cases / sizeof cases[0] };

int main(void)
{
    struct CMUnitTest tests[CASES];
    layer_tests(cases, CASES, tests);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
