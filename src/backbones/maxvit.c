/* SPDX-License-Identifier: Apache-2.0 */
/* MaxViT (arXiv 2204.01697), the networks of its authors as timm holds them.
 *
 *   x = conv3x3(gelu(BN(conv3x3_stride2(image))))               H/2 x W/2
 *   stage i, block j:  x = mbconv(x)      (j = 0: half the size, the stage's width)
 *                      x = attention in windows, then over a grid of the whole map, each with MLP
 *   logits = head(tanh(hidden(LN(mean(x)))))
 *
 * Windows and grids have P x P tokens, P = the side of the last map of the image that the network
 * is built for (a 32nd after four stages), on each axis. All padding is TensorFlow's SAME. Every
 * GELU is the tanh one.
 *
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/sizes.h"
#include "backbones/stages.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 14, HEAD_DIM = 32, RATIO = 4, STEM_STRIDE = 4 };

#define BATCH_EPS 1e-3f
#define LAYER_EPS 1e-5f

typedef struct maxvit_config {
    int stem, dim, depths[STAGES];
} maxvit_config;

typedef struct maxvit_block {
    vt_mbconv conv;
    vt_multi_axis_attention attention;
} maxvit_block;

typedef struct maxvit_network {
    const maxvit_config *config;
    vt_conv_layer conv1, conv2; /* the stem */
    maxvit_block stages[STAGES][MAX_DEPTH];
    vt_classifier classifier;
    int window_h, window_w;
} maxvit_network;

static int stage_count(const maxvit_config *c)
{
    return vt_stage_count(c->depths, STAGES);
}

static maxvit_block bind_block(vt_binder *b, const maxvit_network *net, int stage, int j)
{
    const maxvit_config *c = net->config;
    int out = c->dim << stage, before = stage == 0 ? c->stem : out / 2;
    vt_mbconv_settings conv = {.in = j == 0 ? before : out,
                               .out = out,
                               .hidden = RATIO * out,
                               .gate_hidden = out / 4,
                               .stride = j == 0 ? 2 : 1,
                               .act = VT_ACT_GELU_TANH,
                               .gate_act = VT_ACT_SILU,
                               .eps = BATCH_EPS};
    vt_multi_axis_settings attention = {.channels = out,
                                        .heads = out / HEAD_DIM,
                                        .hidden = RATIO * out,
                                        .window_h = net->window_h,
                                        .window_w = net->window_w,
                                        .act = VT_ACT_GELU_TANH,
                                        .eps = LAYER_EPS};
    maxvit_block block;
    vt_scope(b, "conv");
    block.conv = vt_mbconv_bind(b, &conv);
    vt_scope_end(b);
    block.attention = vt_multi_axis_attention_bind(b, &attention);
    return block;
}

static void bind_stem(vt_binder *b, maxvit_network *net)
{
    int width = net->config->stem;
    vt_scope(b, "stem");
    vt_batch_norm norm = vt_batch_norm_bind(b, "norm1", width, BATCH_EPS);
    net->conv1 = vt_conv_bind(b, "conv1",
                              &(vt_conv_settings){.in = 3,
                                                  .out = width,
                                                  .kernel = 3,
                                                  .stride = 2,
                                                  .same = true,
                                                  .bias = true,
                                                  .after = &norm});
    net->conv2 = vt_conv_bind(
        b, "conv2",
        &(vt_conv_settings){.in = width, .out = width, .kernel = 3, .same = true, .bias = true});
    vt_scope_end(b);
}

static void maxvit_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                        void *network)
{
    maxvit_network *net = network;
    const maxvit_config *c = net->config = variant->config;
    int stages = stage_count(c), width = c->dim << (stages - 1);
    int stride = STEM_STRIDE << (stages - 1); /* of the last map */
    net->window_h = s->image_height / stride;
    net->window_w = s->image_width / stride;
    if (net->window_h < 1 || net->window_w < 1) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "an image of %d x %d (height x width) to build for: at least %d x %d",
                       s->image_height, s->image_width, stride, stride);
        return;
    }
    bind_stem(b, net);
    for (int i = 0; i < stages; i++) {
        for (int j = 0; j < c->depths[i]; j++) {
            vt_scope(b, "stages.%d.blocks.%d", i, j);
            net->stages[i][j] = bind_block(b, net, i, j);
            vt_scope_end(b);
        }
    }
    net->classifier =
        vt_classifier_bind(b, &(vt_classifier_settings){.norm = "head.norm",
                                                        .hidden_name = "head.pre_logits.fc",
                                                        .hidden = width,
                                                        .hidden_act = VT_ACT_TANH,
                                                        .head = "head.fc",
                                                        .channels = width,
                                                        .classes = s->classes,
                                                        .eps = LAYER_EPS,
                                                        .pool_first = true});
}

static void maxvit_forward(vt_builder *b, const void *network)
{
    const maxvit_network *net = network;
    int stages = stage_count(net->config), maps = 1 << (stages - 1);
    /* a window that divides the smallest map divides all */
    if (!vt_sizes_fit(b, STEM_STRIDE, maps * net->window_h, maps * net->window_w,
                      "; a network can be built for an image of any multiples of 32")) {
        return;
    }
    vt_label(b, "stem");
    vt_value x = vt_conv_forward(b, &net->conv1, vt_input(b), VT_ACT_GELU_TANH);
    x = vt_conv_forward(b, &net->conv2, x, VT_ACT_NONE);
    for (int i = 0; i < stages; i++) {
        for (int j = 0; j < net->config->depths[i]; j++) {
            const maxvit_block *block = &net->stages[i][j];
            vt_label(b, "stages.%d.blocks.%d", i, j);
            x = vt_mbconv_forward(b, &block->conv, x);
            x = vt_multi_axis_attention_forward(b, &block->attention, x);
        }
        vt_stage_output_name(b, i, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as in timm; a name without a tag is timm's default for it --------------- */

static const maxvit_config tiny = {64, 64, {2, 2, 5, 2}};
static const maxvit_config small = {64, 96, {2, 2, 5, 2}};
static const maxvit_config base = {64, 96, {2, 6, 14, 2}};
static const maxvit_config large = {128, 128, {2, 6, 14, 2}};
static const maxvit_config xlarge = {192, 192, {2, 6, 14, 2}};
static const maxvit_config fashion = {32, 32, {1, 2, 1}};

/* clang-format off */
#define HUB(name) "https://huggingface.co/timm/" name
#define VARIANT(id, cfg, outputs, where, ...)                                                      \
    {.name = id, .config = &cfg, VT_BICUBIC(__VA_ARGS__), .classes = outputs,                      \
     .checkpoint = HUB(where), .license = "Apache-2.0"}
/* 224 pixels, ImageNet-1k */
#define AT_224(id, cfg)                                                                            \
    VARIANT(id, cfg, 1000, id ".in1k", 224, 224, 0.95, VT_CROP_CENTER, VT_IMAGENET)
/* 224 pixels, ImageNet-21k */
#define AT_224_21K(id, cfg, where)                                                                 \
    VARIANT(id, cfg, 21843, where, 224, 224, 0.95, VT_CROP_CENTER, VT_FROM_MINUS_1_TO_1)
/* larger: the whole picture, its aspect ignored */
#define SQUASHED(id, cfg, size, where)                                                             \
    VARIANT(id, cfg, 1000, where, size, size, 1.0, VT_CROP_SQUASH, VT_FROM_MINUS_1_TO_1)
#define AT_384(id, cfg) SQUASHED(id, cfg, 384, id ".in1k")
#define AT_512(id, cfg) SQUASHED(id, cfg, 512, id ".in1k")
static const vt_variant variants[] = {
    AT_224("maxvit_tiny_tf_224", tiny),
    AT_384("maxvit_tiny_tf_384", tiny),
    AT_512("maxvit_tiny_tf_512", tiny),
    AT_224("maxvit_small_tf_224", small),
    AT_384("maxvit_small_tf_384", small),
    AT_512("maxvit_small_tf_512", small),
    AT_224("maxvit_base_tf_224", base),
    AT_384("maxvit_base_tf_384", base),
    AT_512("maxvit_base_tf_512", base),
    AT_224("maxvit_large_tf_224", large),
    AT_384("maxvit_large_tf_384", large),
    AT_512("maxvit_large_tf_512", large),
    AT_224_21K("maxvit_base_tf_224.in21k", base, "maxvit_base_tf_224.in21k"),
    SQUASHED("maxvit_base_tf_384.in21k_ft_in1k", base, 384, "maxvit_base_tf_384.in21k_ft_in1k"),
    SQUASHED("maxvit_base_tf_512.in21k_ft_in1k", base, 512, "maxvit_base_tf_512.in21k_ft_in1k"),
    AT_224_21K("maxvit_large_tf_224.in21k", large, "maxvit_large_tf_224.in21k"),
    SQUASHED("maxvit_large_tf_384.in21k_ft_in1k", large, 384, "maxvit_large_tf_384.in21k_ft_in1k"),
    SQUASHED("maxvit_large_tf_512.in21k_ft_in1k", large, 512, "maxvit_large_tf_512.in21k_ft_in1k"),
    AT_224_21K("maxvit_xlarge_tf_224", xlarge, "maxvit_xlarge_tf_224.in21k"),
    SQUASHED("maxvit_xlarge_tf_384", xlarge, 384, "maxvit_xlarge_tf_384.in21k_ft_in1k"),
    SQUASHED("maxvit_xlarge_tf_512", xlarge, 512, "maxvit_xlarge_tf_512.in21k_ft_in1k"),
    VT_FASHION_VARIANT("maxvit_fashion", &fashion),
};
/* clang-format on */

/* ---- published namings: timm's, the only one ------------------------------------------------- */

static const vt_rename timm_renames[] = {{.from = "*", .to = "*"}, {0}};
static const char *const ignored[] = {"*num_batches_tracked", NULL};
static const vt_dialect dialects[] = {
    {.name = "timm",
     .probe = "stages.#.blocks.#.attn_grid.attn.qkv.weight",
     .renames = timm_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"maxvit_tiny_tf_224",
     VT_WINDOW_PAD,
     224,
     224,
     {0.283355f, 0.348858f, 0.117167f, 0.288231f, -0.117822f},
     958,
     1.837066f,
     19.856203f},
    {"maxvit_fashion",
     VT_WINDOW_PAD,
     64,
     64,
     {-0.301959f, -1.033998f, -0.587613f, 0.864206f, 0.414249f},
     5,
     1.682766f,
     2.751636f},
    {0},
};

const vt_family vt_family_maxvit = {
    .name = "maxvit",
    .title = "MaxViT: Multi-Axis Vision Transformer",
    .source = "https://github.com/google-research/maxvit",
    .license = "Apache-2.0",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(maxvit_network),
    .bind = maxvit_bind,
    .forward = maxvit_forward,
    .dialects = dialects,
    .head = "head.fc.weight",
    .golden = golden,
};
