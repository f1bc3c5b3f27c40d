/* SPDX-License-Identifier: Apache-2.0 */
/* DaViT, Dual Attention Vision Transformer (arXiv 2204.03645), and the image towers of Florence-2.
 *
 *   x = LN(conv7x7(image), stride 4)                            H/4 x W/4 x C0
 *   stage i:  x = conv(LN(x)), stride 2  (i > 0: 2x2; Florence-2: 3x3)
 *             pair of blocks, the first with attention inside windows, the second among channels:
 *                 x += dwconv3x3(x);  x += attn(LN1(x))
 *                 x += dwconv3x3(x);  x += mlp(LN2(x))
 *   logits = head(LN(mean(x)))
 *
 * Windows do not move, have no position table, and are never smaller than configured; tokens that
 * pad a map to whole windows take part as keys. Outputs: "C2" ... "C5" after stages 0 ... 3 (stride
 * 4 ... 32), "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/stages.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_PAIRS = 12, MLP_RATIO = 4, HEAD_DIM = 32 };

#define EPS 1e-5f

typedef struct davit_config {
    int dim, pairs[STAGES]; /* stage i has dim << i channels */
    int window;
    bool florence;
} davit_config;

/* What both kinds of blocks have around their attention. */
typedef struct davit_block {
    vt_position_encoding cpe1, cpe2;
    vt_norm norm1, norm2;
    vt_self_attention windows;           /* the first block of a pair */
    vt_channel_attention_layer channels; /* the second one */
    vt_mlp mlp;
} davit_block;

typedef struct davit_stage {
    vt_norm norm; /* before `reduce`; not in stage 0 */
    vt_conv_layer reduce;
    davit_block blocks[MAX_PAIRS][2];
    vt_stage_output output;
} davit_stage;

typedef struct davit_network {
    const davit_config *config;
    vt_conv_layer stem;
    vt_norm stem_norm;
    davit_stage stages[STAGES];
    vt_classifier classifier;
} davit_network;

/* ---- parameters ------------------------------------------------------------------------------ */

static vt_position_encoding bind_encoding(vt_binder *b, const char *name, int channels)
{
    vt_scope(b, "%s", name);
    vt_position_encoding layer = vt_position_encoding_bind(b, channels);
    vt_scope_end(b);
    return layer;
}

static davit_block bind_block(vt_binder *b, const davit_config *c, int channels, bool windows)
{
    davit_block block = {.cpe1 = bind_encoding(b, "cpe1", channels),
                         .norm1 = vt_norm_bind(b, "norm1", channels, EPS)};
    int heads = channels / HEAD_DIM;
    vt_scope(b, "attn");
    if (windows) {
        block.windows = vt_self_attention_bind(b, channels, heads, true, VT_NO_WEIGHT);
    } else {
        block.channels = vt_channel_attention_bind(
            b, channels, heads, c->florence ? VT_CHANNEL_VALUES_OF_V : VT_CHANNEL_VALUES_OF_Q);
    }
    vt_scope_end(b);
    block.cpe2 = bind_encoding(b, "cpe2", channels);
    block.norm2 = vt_norm_bind(b, "norm2", channels, EPS);
    vt_scope(b, "mlp");
    block.mlp = vt_mlp_bind(b, channels, MLP_RATIO * channels, VT_ACT_GELU, VT_NO_WEIGHT);
    vt_scope_end(b);
    return block;
}

static void bind_stage(vt_binder *b, const davit_config *c, int i, davit_stage *stage)
{
    static const char *const numbers[] = {"0", "1"};
    static const char *const words[] = {"spatial_block", "channel_block"};
    const char *const *names = c->florence ? words : numbers;
    int channels = c->dim << i;
    vt_scope(b, "stages.%d", i);
    if (i > 0) {
        vt_conv_settings even = {.in = channels / 2,
                                 .out = channels,
                                 .kernel = 2,
                                 .stride = 2,
                                 .pad_to = 2,
                                 .bias = true};
        vt_conv_settings odd = {
            .in = channels / 2, .out = channels, .kernel = 3, .stride = 2, .pad = 1, .bias = true};
        vt_scope(b, "downsample");
        stage->norm = vt_norm_bind(b, "norm", channels / 2, EPS);
        stage->reduce = vt_conv_bind(b, "conv", c->florence ? &odd : &even);
        vt_scope_end(b);
    }
    for (int j = 0; j < c->pairs[i]; j++) {
        for (int k = 0; k < 2; k++) {
            vt_scope(b, "blocks.%d.%s", j, names[k]);
            stage->blocks[j][k] = bind_block(b, c, channels, k == 0);
            vt_scope_end(b);
        }
    }
    vt_scope_end(b);
    stage->output = vt_stage_output_bind(b, i, channels, EPS, false);
}

static void davit_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    davit_network *net = network;
    const davit_config *c = net->config = variant->config;
    vt_conv_settings stem = {
        .in = 3, .out = c->dim, .kernel = 7, .stride = 4, .pad = 3, .pad_to = 4, .bias = true};
    vt_scope(b, "stem");
    net->stem = vt_conv_bind(b, "conv", &stem);
    net->stem_norm = vt_norm_bind(b, "norm", c->dim, EPS);
    vt_scope_end(b);
    int stages = vt_stage_count(c->pairs, STAGES);
    for (int i = 0; i < stages; i++) {
        bind_stage(b, c, i, &net->stages[i]);
    }
    vt_classifier_settings head = {.norm = "head.norm",
                                   .head = "head.fc",
                                   .channels = c->dim << (stages - 1),
                                   .classes = s->classes,
                                   .eps = EPS,
                                   .pool_first = true};
    net->classifier = vt_classifier_bind_available(b, &head, true);
}

/* ---- forward pass ---------------------------------------------------------------------------- */

static vt_value forward_block(vt_builder *b, const davit_block *block, int window, bool windows,
                              vt_value x)
{
    vt_pattern pattern = {.kind = VT_PATTERN_WINDOW, .window_h = window, .window_w = window};
    x = vt_position_encoding_forward(b, &block->cpe1, x);
    vt_value y = vt_op_norm(b, x, &block->norm1);
    y = windows ? vt_self_attention_forward(b, &block->windows, y, &pattern)
                : vt_channel_attention_forward(b, &block->channels, y);
    x = vt_op_add(b, x, y);
    x = vt_position_encoding_forward(b, &block->cpe2, x);
    y = vt_op_norm(b, x, &block->norm2);
    return vt_op_add(b, x, vt_mlp_forward(b, &block->mlp, y));
}

static void davit_forward(vt_builder *b, const void *network)
{
    const davit_network *net = network;
    const davit_config *c = net->config;
    vt_label(b, "stem");
    vt_value x = vt_conv_forward(b, &net->stem, vt_input(b), VT_ACT_NONE);
    x = vt_op_norm(b, x, &net->stem_norm);
    for (int i = 0; i < vt_stage_count(c->pairs, STAGES); i++) {
        const davit_stage *stage = &net->stages[i];
        if (i > 0) {
            vt_label(b, "stages.%d.downsample", i);
            x = vt_op_norm(b, x, &stage->norm);
            x = vt_conv_forward(b, &stage->reduce, x, VT_ACT_NONE);
        }
        for (int j = 0; j < c->pairs[i]; j++) {
            for (int k = 0; k < 2; k++) {
                vt_label(b, "stages.%d.blocks.%d.%d", i, j, k);
                x = forward_block(b, &stage->blocks[j][k], c->window, k == 0, x);
            }
        }
        vt_stage_output_forward(b, &stage->output, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as in timm; the authors' code has one more ------------------------------ */

#define LONG                                                                                       \
    {                                                                                              \
        1, 1, 9, 1                                                                                 \
    }

static const davit_config tiny = {.dim = 96, .pairs = {1, 1, 3, 1}, .window = 7};
static const davit_config small = {.dim = 96, .pairs = LONG, .window = 7};
static const davit_config base = {.dim = 128, .pairs = LONG, .window = 7};
static const davit_config large = {.dim = 192, .pairs = LONG, .window = 7};
static const davit_config large_384 = {.dim = 192, .pairs = LONG, .window = 12};
static const davit_config huge = {.dim = 256, .pairs = LONG, .window = 7};
static const davit_config giant = {.dim = 384, .pairs = {1, 1, 12, 3}, .window = 7};
static const davit_config base_fl = {.dim = 128, .pairs = LONG, .window = 12, .florence = true};
static const davit_config huge_fl = {.dim = 256, .pairs = LONG, .window = 12, .florence = true};
static const davit_config fashion = {.dim = 32, .pairs = {1, 1, 1}, .window = 4};

/* clang-format off */
#define VARIANT(id, cfg, size, pct, mode, outputs, where)                                          \
    {.name = id, .config = &cfg, VT_BICUBIC(size, size, pct, mode, VT_IMAGENET),                   \
     .classes = outputs, .checkpoint = where, .license = "MIT"}
#define HUB(name) "https://huggingface.co/" name
#define NONE "none published"
static const vt_variant variants[] = {
    VARIANT("davit_tiny", tiny, 224, 0.95, VT_CROP_CENTER, 1000, HUB("timm/davit_tiny.msft_in1k")),
    VARIANT("davit_small", small, 224, 0.95, VT_CROP_CENTER, 1000, HUB("timm/davit_small.msft_in1k")),
    VARIANT("davit_base", base, 224, 0.95, VT_CROP_CENTER, 1000, HUB("timm/davit_base.msft_in1k")),
    VARIANT("davit_large", large, 224, 0.95, VT_CROP_CENTER, 1000, NONE),
    VARIANT("davit_large_window12_384", large_384, 384, 1.0, VT_CROP_CENTER, 1000, NONE),
    VARIANT("davit_huge", huge, 224, 0.95, VT_CROP_CENTER, 1000, NONE),
    VARIANT("davit_giant", giant, 224, 0.95, VT_CROP_CENTER, 1000, NONE),
    VARIANT("davit_base_fl", base_fl, 768, 1.0, VT_CROP_SQUASH, 0, HUB("microsoft/Florence-2-base")),
    VARIANT("davit_huge_fl", huge_fl, 768, 1.0, VT_CROP_SQUASH, 0, HUB("microsoft/Florence-2-large")),
    VT_FASHION_VARIANT("davit_fashion", &fashion),
};
/* clang-format on */

/* ---- published namings; canonical = timm's --------------------------------------------------- */

static const vt_rename timm_renames[] = {{.from = "*", .to = "*"}, {0}};

#define AUTHORS(prefix)                                                                            \
    {.from = prefix "patch_embeds.0.proj.*", .to = "stem.conv.*"},                                 \
        {.from = prefix "patch_embeds.0.norm.*", .to = "stem.norm.*"},                             \
        {.from = prefix "patch_embeds.#.proj.*", .to = "stages.#.downsample.conv.*"},              \
        {.from = prefix "patch_embeds.#.norm.*", .to = "stages.#.downsample.norm.*"},              \
        {.from = prefix "main_blocks.#.#.#.cpe.#.*", .to = "stages.#.blocks.#.#.cpe#+1.*"},        \
    {                                                                                              \
        .from = prefix "main_blocks.#.#.#.*", .to = "stages.#.blocks.#.#.*"                        \
    }

static const vt_rename official_renames[] = {
    AUTHORS(""),
    {.from = "norms.*", .to = "head.norm.*"},
    {.from = "head.*", .to = "head.fc.*"},
    {0},
};

/* the authors' detection and segmentation code: a norm of each output, no head */
static const vt_rename fork_renames[] = {
    AUTHORS("backbone."),
    {.from = "backbone.*", .to = "*"},
    {0},
};

#define PAIR    "blocks.#.#.*_block."
#define PAIR_TO "stages.#.blocks.#.*_block."
#define TOWER(conv)                                                                                \
    {.from = "convs.0." conv ".*", .to = "stem.conv.*"},                                           \
        {.from = "convs.0.norm.*", .to = "stem.norm.*"},                                           \
        {.from = "convs.#." conv ".*", .to = "stages.#.downsample.conv.*"},                        \
    {                                                                                              \
        .from = "convs.#.norm.*", .to = "stages.#.downsample.norm.*"                               \
    }

/* Florence-2 as Microsoft publishes it */
static const vt_rename florence_renames[] = {
    TOWER("proj"),
    {.from = PAIR "conv#.fn.dw.*", .to = "stages.#.blocks.#.*_block.cpe#.proj.*"},
    {.from = "blocks.#.#.spatial_block.window_attn.norm.*",
     .to = "stages.#.blocks.#.spatial_block.norm1.*"},
    {.from = "blocks.#.#.spatial_block.window_attn.fn.*",
     .to = "stages.#.blocks.#.spatial_block.attn.*"},
    {.from = "blocks.#.#.channel_block.channel_attn.norm.*",
     .to = "stages.#.blocks.#.channel_block.norm1.*"},
    {.from = "blocks.#.#.channel_block.channel_attn.fn.*",
     .to = "stages.#.blocks.#.channel_block.attn.*"},
    {.from = PAIR "ffn.norm.*", .to = PAIR_TO "norm2.*"},
    {.from = PAIR "ffn.fn.net.*", .to = PAIR_TO "mlp.*"},
    {0},
};

/* Florence-2 in transformers */
static const vt_rename hf_renames[] = {
    TOWER("conv"),
    {.from = PAIR "conv#.*", .to = "stages.#.blocks.#.*_block.cpe#.proj.*"},
    {.from = "blocks.#.#.spatial_block.window_attn.*",
     .to = "stages.#.blocks.#.spatial_block.attn.*"},
    {.from = "blocks.#.#.channel_block.channel_attn.*",
     .to = "stages.#.blocks.#.channel_block.attn.*"},
    {.from = PAIR "ffn.*", .to = PAIR_TO "mlp.*"},
    {.from = PAIR "norm#.*", .to = PAIR_TO "norm#.*"},
    {0},
};

static const char *const ignored[] = {
    VT_DENSE_HEADS,
    /* what Florence-2 has beside the tower */
    "language_model.*",
    "image_projection",
    "image_proj_norm.*",
    "image_pos_embed.*",
    "visual_temporal_embed.*",
    "multi_modal_projector.*",
    "model.language_model.*",
    "model.multi_modal_projector.*",
    "lm_head.*",
    NULL,
};

static const vt_dialect dialects[] = {
    {.name = "florence-2",
     .prefix = "vision_tower.",
     .probe = "convs.0.proj.*",
     .renames = florence_renames,
     .ignored = ignored},
    {.name = "hugging face",
     .prefix = "model.vision_tower.",
     .probe = "convs.0.conv.*",
     .renames = hf_renames,
     .ignored = ignored},
    {.name = "hugging face",
     .prefix = "vision_tower.",
     .probe = "convs.0.conv.*",
     .renames = hf_renames,
     .ignored = ignored},
    {.name = "authors' dense forks",
     .probe = "backbone.main_blocks.*",
     .renames = fork_renames,
     .ignored = ignored},
    {.name = "authors", .probe = "main_blocks.*", .renames = official_renames, .ignored = ignored},
    {.name = "timm", .probe = "stages.#.blocks.*", .renames = timm_renames, .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"davit_tiny",
     VT_WINDOW_PAD,
     224,
     224,
     {0.061067f, -1.963173f, 1.025698f, -0.198128f, 0.307321f},
     351,
     3.216705f,
     30.835218f},
    {"davit_tiny",
     VT_WINDOW_PAD,
     190,
     251,
     {0.333769f, -1.991597f, 1.350596f, -1.848956f, -0.221210f},
     351,
     3.472909f,
     30.759945f},
    {"davit_fashion",
     VT_WINDOW_PAD,
     64,
     64,
     {-1.257053f, -0.576872f, 2.132954f, -2.113788f, -0.611527f},
     2,
     2.132954f,
     4.129715f},
    {0},
};

const vt_family vt_family_davit = {
    .name = "davit",
    .title = "DaViT",
    .source = "https://github.com/dingmyu/davit",
    .license = "MIT",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(davit_network),
    .bind = davit_bind,
    .forward = davit_forward,
    .dialects = dialects,
    .head = "head.fc.weight",
    .golden = golden,
};
