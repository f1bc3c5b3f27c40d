/* SPDX-License-Identifier: Apache-2.0 */
/* L2ViT (arXiv 2501.16182): local window attention and linear global attention by turns.
 *
 *   x = LN(BN(conv3x3(relu(BN(conv3x3(image))))))              stride 2 each, H/4 x W/4 x D
 *   stage i:  x = conv2x2(LN(x))  (i > 0: half the size, twice the channels)
 *             even block:  x = cpe0(x);  x += window_attention(LN1(x));  x = cpe1(x)
 *             odd block:   x = cpe0(x);  x += linear_attention(LN1(x));  x += lcm(LN3(x))
 *             both:        x += mlp(LN2(x))
 *   logits = head(mean(LN(x)))
 *
 * cpe is the conditional position encoding, lcm local concentration. Windows have neither a shift
 * nor a position bias. Maps that a window or a stride does not divide are extended by zeros at the
 * bottom and right, after the norm; tokens there are not masked.
 *
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/stages.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 18, MLP_RATIO = 4, CONCENTRATION = 7 };

#define EPS   1e-5f
#define FLOOR 100.0f /* of the sum of weights in linear attention */

typedef struct l2vit_config {
    int dim, depths[STAGES], heads[STAGES], window;
} l2vit_config;

typedef struct l2vit_block {
    vt_position_encoding position[2]; /* the second before the mlp of even blocks */
    vt_norm norm1, norm2, norm3;
    vt_self_attention local;          /* even blocks */
    vt_linear_attention_layer global; /* odd blocks */
    vt_local_concentration concentration;
    vt_mlp mlp;
} l2vit_block;

typedef struct l2vit_stage {
    vt_norm norm; /* stage 0: after the stem, others: before the downsampling */
    vt_conv_layer downsample;
    l2vit_block blocks[MAX_DEPTH];
    vt_stage_output output;
} l2vit_stage;

typedef struct l2vit_network {
    const l2vit_config *config;
    vt_conv_layer stem[2];
    l2vit_stage stages[STAGES];
    vt_classifier classifier;
} l2vit_network;

/* ---- parameters ------------------------------------------------------------------------------ */

static void bind_stem(vt_binder *b, int dim, l2vit_network *net)
{
    vt_conv_settings conv = {
        .in = 3, .out = dim / 2, .kernel = 3, .stride = 2, .pad = 1, .pad_to = 4, .bias = true};
    vt_batch_norm norm = vt_batch_norm_bind(b, "proj.proj.1", dim / 2, EPS);
    conv.after = &norm;
    net->stem[0] = vt_conv_bind(b, "proj.proj.0", &conv);
    norm = vt_batch_norm_bind(b, "proj.proj.4", dim, EPS);
    conv.in = dim / 2;
    conv.out = dim;
    conv.pad_to = 0;
    net->stem[1] = vt_conv_bind(b, "proj.proj.3", &conv);
    net->stages[0].norm = vt_norm_bind(b, "norm", dim, EPS);
}

static vt_position_encoding bind_position(vt_binder *b, int i, int channels)
{
    vt_scope(b, "cpe.%d", i);
    vt_position_encoding layer = vt_position_encoding_bind(b, channels);
    vt_scope_end(b);
    return layer;
}

static void bind_block(vt_binder *b, int channels, int heads, bool local, l2vit_block *block)
{
    block->position[0] = bind_position(b, 0, channels);
    block->norm1 = vt_norm_bind(b, "norm1", channels, EPS);
    vt_scope(b, "attn");
    if (local) {
        block->local = vt_self_attention_bind(b, channels, heads, true, VT_NO_WEIGHT);
    } else {
        block->global = vt_linear_attention_bind(b, channels, heads, FLOOR);
    }
    vt_scope_end(b);
    if (local) {
        block->position[1] = bind_position(b, 1, channels);
    } else {
        block->norm3 = vt_norm_bind(b, "norm3", channels, EPS);
        vt_scope(b, "local_mp");
        block->concentration = vt_local_concentration_bind(b, channels, CONCENTRATION, EPS);
        vt_scope_end(b);
    }
    block->norm2 = vt_norm_bind(b, "norm2", channels, EPS);
    vt_scope(b, "mlp");
    block->mlp = vt_mlp_bind(b, channels, MLP_RATIO * channels, VT_ACT_GELU, VT_NO_WEIGHT);
    vt_scope_end(b);
}

static void bind_stage(vt_binder *b, l2vit_network *net, int i)
{
    const l2vit_config *c = net->config;
    l2vit_stage *stage = &net->stages[i];
    int channels = c->dim << i;
    vt_scope(b, "downsample_layers.%d", i);
    if (i == 0) {
        bind_stem(b, channels, net);
    } else {
        vt_conv_settings conv = {.in = channels / 2,
                                 .out = channels,
                                 .kernel = 2,
                                 .stride = 2,
                                 .pad_to = 2,
                                 .bias = true};
        stage->norm = vt_norm_bind(b, "norm", channels / 2, EPS);
        stage->downsample = vt_conv_bind(b, "proj", &conv);
    }
    vt_scope_end(b);
    for (int j = 0; j < c->depths[i]; j++) {
        vt_scope(b, "stages.%d.%d", i, j);
        bind_block(b, channels, c->heads[i], j % 2 == 0, &stage->blocks[j]);
        vt_scope_end(b);
    }
    stage->output = vt_stage_output_bind(b, i, channels, EPS, false);
}

static void l2vit_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    l2vit_network *net = network;
    net->config = variant->config;
    int stages = vt_stage_count(net->config->depths, STAGES);
    for (int i = 0; i < stages; i++) {
        bind_stage(b, net, i);
    }
    vt_classifier_settings head = {.norm = "norm",
                                   .head = "head",
                                   .channels = net->config->dim << (stages - 1),
                                   .classes = s->classes,
                                   .eps = EPS};
    net->classifier = vt_classifier_bind_available(b, &head, true);
}

/* ---- forward --------------------------------------------------------------------------------- */

static vt_value forward_block(vt_builder *b, const l2vit_block *block, bool local, int window,
                              vt_value x)
{
    x = vt_position_encoding_forward(b, &block->position[0], x);
    vt_value y = vt_op_norm(b, x, &block->norm1);
    if (local) {
        vt_pattern windows = {.kind = VT_PATTERN_WINDOW, .window_h = window, .window_w = window};
        x = vt_op_add(b, x, vt_self_attention_forward(b, &block->local, y, &windows));
        x = vt_position_encoding_forward(b, &block->position[1], x);
    } else {
        x = vt_op_add(b, x, vt_linear_attention_forward(b, &block->global, y));
        y = vt_op_norm(b, x, &block->norm3);
        x = vt_op_add(b, x, vt_local_concentration_forward(b, &block->concentration, y));
    }
    y = vt_op_norm(b, x, &block->norm2);
    return vt_op_add(b, x, vt_mlp_forward(b, &block->mlp, y));
}

static vt_value forward_downsample(vt_builder *b, const l2vit_network *net, int i, vt_value x)
{
    const l2vit_stage *stage = &net->stages[i];
    vt_label(b, "downsample_layers.%d", i);
    if (i > 0) {
        x = vt_op_norm(b, x, &stage->norm);
        return vt_conv_forward(b, &stage->downsample, x, VT_ACT_NONE);
    }
    x = vt_conv_forward(b, &net->stem[0], x, VT_ACT_RELU);
    x = vt_conv_forward(b, &net->stem[1], x, VT_ACT_NONE);
    return vt_op_norm(b, x, &stage->norm);
}

static void l2vit_forward(vt_builder *b, const void *network)
{
    const l2vit_network *net = network;
    const l2vit_config *c = net->config;
    vt_value x = vt_input(b);
    for (int i = 0; i < vt_stage_count(c->depths, STAGES); i++) {
        const l2vit_stage *stage = &net->stages[i];
        x = forward_downsample(b, net, i, x);
        for (int j = 0; j < c->depths[i]; j++) {
            vt_label(b, "stages.%d.%d", i, j);
            x = forward_block(b, &stage->blocks[j], j % 2 == 0, c->window, x);
        }
        vt_stage_output_forward(b, &stage->output, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as in the authors' registry --------------------------------------------- */

/* clang-format off */
#define SHALLOW {2, 2, 6, 2}
#define DEEP {2, 2, 18, 2}
#define HEADS_96 {3, 6, 12, 24}
#define HEADS_128 {4, 8, 16, 32}

static const l2vit_config tiny = {96, SHALLOW, HEADS_96, 7};
static const l2vit_config small = {96, DEEP, HEADS_96, 7};
static const l2vit_config base = {128, DEEP, HEADS_128, 7};
static const l2vit_config base_384 = {128, DEEP, HEADS_128, 12};
static const l2vit_config fashion = {32, {2, 2, 2}, {1, 2, 4}, 4};

#define VARIANT(id, cfg, size, pct, mode, outputs, where)                                          \
    {.name = id, .config = &cfg, VT_BICUBIC(size, size, pct, mode, VT_IMAGENET),                   \
     .classes = outputs, .license = "MIT",                                                         \
     .checkpoint = "https://github.com/ChuanyangZheng/L2ViT/releases/download/v1.0/L2ViT-" where}
static const vt_variant variants[] = {
    VARIANT("L2ViT_Tiny", tiny, 224, 0.875, VT_CROP_CENTER, 1000, "Tiny-checkpoint-best-ema.pth"),
    VARIANT("L2ViT_Small", small, 224, 0.875, VT_CROP_CENTER, 1000, "Small-checkpoint-best-ema.pth"),
    VARIANT("L2ViT_Base", base, 224, 0.875, VT_CROP_CENTER, 1000, "Base-checkpoint-best-ema.pth"),
    VARIANT("L2ViT_Base_22k_ft", base, 224, 0.875, VT_CROP_CENTER, 1000, "Base-22k21k-finetune-224-checkpoint-best.pth"),
    VARIANT("L2ViT_Base_384", base_384, 384, 1.0, VT_CROP_SQUASH, 1000, "Base-22k21k-finetune-384-checkpoint-best.pth"),
    VARIANT("L2ViT_Base_22k", base, 224, 0.875, VT_CROP_CENTER, 21841, "Base-22k-pretrain-checkpoint-best.pth"),
    VT_FASHION_VARIANT("l2vit_fashion", &fashion),
};
/* clang-format on */

/* ---- published namings: the authors'; "backbone." in front in files of dense prediction ------ */

static const vt_rename authors_renames[] = {{.from = "*", .to = "*"}, {0}};

static const char *const ignored[] = {
    VT_DENSE_HEADS,
    "*num_batches_tracked",
    NULL,
};

static const vt_dialect dialects[] = {
    {.name = "authors",
     .prefix = "backbone.",
     .probe = "downsample_layers.0.proj.proj.0.*",
     .renames = authors_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"L2ViT_Tiny",
     VT_WINDOW_PAD,
     224,
     224,
     {0.072038f, 0.506553f, 1.055112f, 2.157807f, 0.515324f},
     3,
     2.157807f,
     22.648939f},
    {"L2ViT_Tiny",
     VT_WINDOW_PAD,
     190,
     251,
     {0.130971f, 0.490970f, 0.636748f, 1.674988f, 0.428526f},
     299,
     2.099884f,
     20.897151f},
    {"l2vit_fashion",
     VT_WINDOW_PAD,
     64,
     64,
     {-0.861507f, 1.422747f, -0.212197f, -0.251251f, -1.348540f},
     1,
     1.422747f,
     3.121338f},
    {0},
};

const vt_family vt_family_l2vit = {
    .name = "l2vit",
    .title = "L2ViT: linear global attention and local window attention",
    .source = "https://github.com/ChuanyangZheng/L2ViT",
    .license = "MIT",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(l2vit_network),
    .bind = l2vit_bind,
    .forward = l2vit_forward,
    .dialects = dialects,
    .head = "head.weight",
    .golden = golden,
};
