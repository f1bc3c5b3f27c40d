/* SPDX-License-Identifier: Apache-2.0 */
/* Swin Transformer V1 (arXiv 2103.14030) and V2 (arXiv 2111.09883).
 *
 *   x = LN(conv4x4(image))                                      H/4 x W/4 x D
 *   stage i:  x = merge(x)  (i > 0: half the size, twice the channels)
 *             block j:  V1  x += attn(LN1(x));  x += mlp(LN2(x))
 *                       V2  x += LN1(attn(x));  x += LN2(mlp(x))
 *             attn works in windows; every odd block moves the windows by half their size
 *   logits = head(mean(LN(x)))
 *
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 32, MLP_RATIO = 4, PATCH = 4 };

#define EPS 1e-5f

typedef struct swin_config {
    int dim, depths[STAGES], heads[STAGES], windows[STAGES];
    bool v2;
    int pretrained_windows[STAGES]; /* V2 checkpoints that were fine-tuned at another window */
} swin_config;

typedef struct swin_block {
    vt_norm norm1, norm2;
    vt_window_attention attn;
    vt_mlp mlp;
} swin_block;

typedef struct swin_stage {
    vt_patch_merge merge;
    swin_block blocks[MAX_DEPTH];
    vt_stage_output output;
} swin_stage;

typedef struct swin_network {
    const swin_config *config;
    vt_patch_embed embed;
    swin_stage stages[STAGES];
    vt_classifier classifier;
} swin_network;

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static swin_block bind_block(vt_binder *b, const swin_config *c, int stage, int j,
                             const vt_bind_settings *s, int native)
{
    swin_block block;
    int channels = c->dim << stage;
    vt_window_attention_settings attn = {.channels = channels,
                                         .heads = c->heads[stage],
                                         .window = c->windows[stage],
                                         .shifted = j % 2 == 1,
                                         .cosine = c->v2,
                                         .pretrained_window = c->pretrained_windows[stage],
                                         .rule = s->window_rule,
                                         .map_height = s->image_height / PATCH >> stage,
                                         .map_width = s->image_width / PATCH >> stage};
    if (s->window_rule != VT_WINDOW_TIMM) { /* a window never exceeds the map of the native size */
        attn.window = min_int(attn.window, native / PATCH >> stage);
    }
    block.norm1 = vt_norm_bind(b, "norm1", channels, EPS);
    vt_scope(b, "attn");
    block.attn = vt_window_attention_bind(b, &attn);
    vt_scope_end(b);
    block.norm2 = vt_norm_bind(b, "norm2", channels, EPS);
    vt_scope(b, "mlp");
    block.mlp = vt_mlp_bind(b, channels, MLP_RATIO * channels, VT_ACT_GELU, VT_NO_WEIGHT);
    vt_scope_end(b);
    return block;
}

static void swin_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                      void *network)
{
    swin_network *net = network;
    const swin_config *c = net->config = variant->config;
    vt_scope(b, "patch_embed");
    net->embed = vt_patch_embed_bind(b, 3, c->dim, PATCH, EPS);
    vt_scope_end(b);
    for (int i = 0; i < STAGES; i++) {
        swin_stage *stage = &net->stages[i];
        vt_scope(b, "layers.%d", i);
        if (i > 0) {
            vt_scope(b, "downsample");
            stage->merge = vt_patch_merge_bind(b, c->dim << (i - 1), !c->v2, EPS);
            vt_scope_end(b);
        }
        for (int j = 0; j < c->depths[i]; j++) {
            vt_scope(b, "blocks.%d", j);
            stage->blocks[j] = bind_block(b, c, i, j, s, variant->preprocess.height);
            vt_scope_end(b);
        }
        vt_scope_end(b);
        stage->output = vt_stage_output_bind(b, i, c->dim << i, EPS, false);
    }
    vt_classifier_settings head = {.norm = "norm",
                                   .head = "head.fc",
                                   .channels = c->dim << (STAGES - 1),
                                   .classes = s->classes,
                                   .eps = EPS};
    net->classifier = vt_classifier_bind_available(b, &head, true);
}

static vt_value forward_block(vt_builder *b, const swin_block *block, bool v2, vt_value x)
{
    if (v2) {
        vt_value y = vt_window_attention_forward(b, &block->attn, x);
        x = vt_op_add(b, x, vt_op_norm(b, y, &block->norm1));
        y = vt_mlp_forward(b, &block->mlp, x);
        return vt_op_add(b, x, vt_op_norm(b, y, &block->norm2));
    }
    vt_value y = vt_op_norm(b, x, &block->norm1);
    x = vt_op_add(b, x, vt_window_attention_forward(b, &block->attn, y));
    y = vt_op_norm(b, x, &block->norm2);
    return vt_op_add(b, x, vt_mlp_forward(b, &block->mlp, y));
}

static void swin_forward(vt_builder *b, const void *network)
{
    const swin_network *net = network;
    const swin_config *c = net->config;
    vt_label(b, "patch_embed");
    vt_value x = vt_patch_embed_forward(b, &net->embed, vt_input(b));
    for (int i = 0; i < STAGES; i++) {
        const swin_stage *stage = &net->stages[i];
        if (i > 0) {
            vt_label(b, "layers.%d.downsample", i);
            x = vt_patch_merge_forward(b, &stage->merge, x);
        }
        for (int j = 0; j < c->depths[i]; j++) {
            vt_label(b, "layers.%d.blocks.%d", i, j);
            x = forward_block(b, &stage->blocks[j], c->v2, x);
        }
        vt_stage_output_forward(b, &stage->output, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as in timm -------------------------------------------------------------- */

/* clang-format off */
#define TINY {2, 2, 6, 2}
#define SMALL {2, 2, 18, 2}
#define HEADS_96 {3, 6, 12, 24}
#define HEADS_128 {4, 8, 16, 32}
#define HEADS_192 {6, 12, 24, 48}
#define ALL(w) {w, w, w, w}

static const swin_config nano = {48, {2, 2, 4, 2}, HEADS_96, ALL(7), false, {0}};
static const swin_config tiny = {96, TINY, HEADS_96, ALL(7), false, {0}};
static const swin_config small = {96, SMALL, HEADS_96, ALL(7), false, {0}};
static const swin_config base = {128, SMALL, HEADS_128, ALL(7), false, {0}};
static const swin_config base_384 = {128, SMALL, HEADS_128, ALL(12), false, {0}};
static const swin_config large = {192, SMALL, HEADS_192, ALL(7), false, {0}};
static const swin_config large_384 = {192, SMALL, HEADS_192, ALL(12), false, {0}};
static const swin_config tiny_c24 = {96, TINY, HEADS_128, ALL(8), false, {0}};
static const swin_config s3_tiny = {96, TINY, HEADS_96, {7, 7, 14, 7}, false, {0}};
static const swin_config s3_small = {96, SMALL, HEADS_96, {14, 14, 14, 7}, false, {0}};
static const swin_config s3_base = {96, {2, 2, 30, 2}, HEADS_96, {7, 7, 14, 7}, false, {0}};
static const swin_config v2_tiny_w8 = {96, TINY, HEADS_96, ALL(8), true, {0}};
static const swin_config v2_tiny_w16 = {96, TINY, HEADS_96, ALL(16), true, {0}};
static const swin_config v2_small_w8 = {96, SMALL, HEADS_96, ALL(8), true, {0}};
static const swin_config v2_small_w16 = {96, SMALL, HEADS_96, ALL(16), true, {0}};
static const swin_config v2_base_w8 = {128, SMALL, HEADS_128, ALL(8), true, {0}};
static const swin_config v2_base_w16 = {128, SMALL, HEADS_128, ALL(16), true, {0}};
static const swin_config v2_base_w12 = {128, SMALL, HEADS_128, ALL(12), true, {0}};
static const swin_config v2_large_w12 = {192, SMALL, HEADS_192, ALL(12), true, {0}};
static const swin_config v2_base_12to16 = {
    128, SMALL, HEADS_128, ALL(16), true, {12, 12, 12, 6}};
static const swin_config v2_base_12to24 = {
    128, SMALL, HEADS_128, ALL(24), true, {12, 12, 12, 6}};
static const swin_config v2_large_12to16 = {
    192, SMALL, HEADS_192, ALL(16), true, {12, 12, 12, 6}};
static const swin_config v2_large_12to24 = {
    192, SMALL, HEADS_192, ALL(24), true, {12, 12, 12, 6}};

#define VARIANT(id, cfg, size, pct, outputs, where)                                                \
    {.name = id, .config = &cfg, VT_BICUBIC(size, size, pct, VT_CROP_CENTER, VT_IMAGENET),         \
     .classes = outputs, .checkpoint = where, .license = "MIT"}
#define HUB(name) "https://huggingface.co/timm/" name
static const vt_variant variants[] = {
    {.name = "swin_nano_patch4_window7_224", .config = &nano,
     VT_BICUBIC(224, 224, 0.9, VT_CROP_CENTER, VT_IMAGENET),
     .classes = 1000, .checkpoint = "weights/swin_nano_objects.safetensors",
     .license = "see weights/LICENSE.swin_nano_objects.txt"},
    VARIANT("swin_tiny_patch4_window7_224", tiny, 224, 0.9, 1000, HUB("swin_tiny_patch4_window7_224.ms_in1k")),
    VARIANT("swin_small_patch4_window7_224", small, 224, 0.9, 1000, HUB("swin_small_patch4_window7_224.ms_in1k")),
    VARIANT("swin_base_patch4_window7_224", base, 224, 0.9, 1000, HUB("swin_base_patch4_window7_224.ms_in1k")),
    VARIANT("swin_base_patch4_window12_384", base_384, 384, 1.0, 1000, HUB("swin_base_patch4_window12_384.ms_in1k")),
    VARIANT("swin_large_patch4_window7_224", large, 224, 0.9, 1000, HUB("swin_large_patch4_window7_224.ms_in22k_ft_in1k")),
    VARIANT("swin_large_patch4_window12_384", large_384, 384, 1.0, 1000, HUB("swin_large_patch4_window12_384.ms_in22k_ft_in1k")),
    VARIANT("swin_tiny_c24_patch4_window8_256", tiny_c24, 256, 0.9, 1000, "https://github.com/microsoft/Swin-Transformer"),
    VARIANT("swin_s3_tiny_224", s3_tiny, 224, 0.9, 1000, HUB("swin_s3_tiny_224.ms_in1k")),
    VARIANT("swin_s3_small_224", s3_small, 224, 0.9, 1000, HUB("swin_s3_small_224.ms_in1k")),
    VARIANT("swin_s3_base_224", s3_base, 224, 0.9, 1000, HUB("swin_s3_base_224.ms_in1k")),
    VARIANT("swinv2_tiny_window8_256", v2_tiny_w8, 256, 0.9, 1000, HUB("swinv2_tiny_window8_256.ms_in1k")),
    VARIANT("swinv2_tiny_window16_256", v2_tiny_w16, 256, 0.9, 1000, HUB("swinv2_tiny_window16_256.ms_in1k")),
    VARIANT("swinv2_small_window8_256", v2_small_w8, 256, 0.9, 1000, HUB("swinv2_small_window8_256.ms_in1k")),
    VARIANT("swinv2_small_window16_256", v2_small_w16, 256, 0.9, 1000, HUB("swinv2_small_window16_256.ms_in1k")),
    VARIANT("swinv2_base_window8_256", v2_base_w8, 256, 0.9, 1000, HUB("swinv2_base_window8_256.ms_in1k")),
    VARIANT("swinv2_base_window16_256", v2_base_w16, 256, 0.9, 1000, HUB("swinv2_base_window16_256.ms_in1k")),
    VARIANT("swinv2_base_window12_192", v2_base_w12, 192, 0.9, 21841, HUB("swinv2_base_window12_192.ms_in22k")),
    VARIANT("swinv2_large_window12_192", v2_large_w12, 192, 0.9, 21841, HUB("swinv2_large_window12_192.ms_in22k")),
    VARIANT("swinv2_base_window12to16_192to256", v2_base_12to16, 256, 0.9, 1000, HUB("swinv2_base_window12to16_192to256.ms_in22k_ft_in1k")),
    VARIANT("swinv2_base_window12to24_192to384", v2_base_12to24, 384, 1.0, 1000, HUB("swinv2_base_window12to24_192to384.ms_in22k_ft_in1k")),
    VARIANT("swinv2_large_window12to16_192to256", v2_large_12to16, 256, 0.9, 1000, HUB("swinv2_large_window12to16_192to256.ms_in22k_ft_in1k")),
    VARIANT("swinv2_large_window12to24_192to384", v2_large_12to24, 384, 1.0, 1000, HUB("swinv2_large_window12to24_192to384.ms_in22k_ft_in1k")),
};

/* ---- published namings; canonical = timm's current one --------------------------------------- */

#define SLICE(part) .parts = 3, .to_part = (part), .from_part = -1

/* the authors' files and timm's before 2023: merging counted with the stage before it */
static const vt_rename official_renames[] = {
    {.from = "layers.#.downsample.*", .to = "layers.#+1.downsample.*"},
    {.from = "head.weight", .to = "head.fc.weight"},
    {.from = "head.bias", .to = "head.fc.bias"},
    {.from = "*", .to = "*"},
    {0},
};

/* the authors' detection and segmentation forks: the same below "backbone." */
static const vt_rename fork_renames[] = {
    {.from = "backbone.layers.#.downsample.*", .to = "layers.#+1.downsample.*"},
    {.from = "backbone.*", .to = "*"},
    {0},
};

static const vt_rename timm_renames[] = {{.from = "*", .to = "*"}, {0}};

/* stages and mergings alternate: features.1, .3, .5, .7 are stages, .2, .4, .6 mergings; V2 stores a
 * full qkv bias whose middle third (keys) counts as zero */
static const vt_rename torchvision_renames[] = {
    {.from = "features.0.0.*", .to = "patch_embed.proj.*"},
    {.from = "features.0.2.*", .to = "patch_embed.norm.*"},
    {.from = "features.#.#.mlp.0.*", .to = "layers.#/2.blocks.#.mlp.fc1.*"},
    {.from = "features.#.#.mlp.3.*", .to = "layers.#/2.blocks.#.mlp.fc2.*"},
    {.from = "features.#.#.attn.qkv.bias", .to = "layers.#/2.blocks.#.attn.q_bias",
     .parts = 3, .to_part = -1, .from_part = 0, .more = true},
    {.from = "features.#.#.attn.qkv.bias", .to = "layers.#/2.blocks.#.attn.v_bias",
     .parts = 3, .to_part = -1, .from_part = 2, .more = true},
    {.from = "features.#.#.*", .to = "layers.#/2.blocks.#.*"},
    {.from = "features.#.*", .to = "layers.#/2.downsample.*"},
    {.from = "head.*", .to = "head.fc.*"},
    {.from = "*", .to = "*"},
    {0},
};

/* Hugging Face: query, key and value are three matrices */
#define HF_COMMON                                                                                  \
    {.from = "embeddings.patch_embeddings.projection.*", .to = "patch_embed.proj.*"},       \
        {.from = "embeddings.norm.*", .to = "patch_embed.norm.*"},                          \
        {.from = "encoder.layers.#.downsample.*", .to = "layers.#+1.downsample.*"},         \
        {.from = "layernorm.*", .to = "norm.*"},                                            \
        {.from = "encoder.layers.#.blocks.#.layernorm_before.*",                            \
         .to = "layers.#.blocks.#.norm1.*"},                                                       \
        {.from = "encoder.layers.#.blocks.#.layernorm_after.*",                             \
         .to = "layers.#.blocks.#.norm2.*"},                                                       \
        {.from = "encoder.layers.#.blocks.#.intermediate.dense.*",                          \
         .to = "layers.#.blocks.#.mlp.fc1.*"},                                                     \
        {.from = "encoder.layers.#.blocks.#.output.dense.*",                                \
         .to = "layers.#.blocks.#.mlp.fc2.*"},                                                     \
        {.from = "encoder.layers.#.blocks.#.attention.output.dense.*",                      \
         .to = "layers.#.blocks.#.attn.proj.*"},                                                   \
        {.from = "encoder.layers.#.blocks.#.attention.self.query.weight",                   \
         .to = "layers.#.blocks.#.attn.qkv.weight", SLICE(0)},                                     \
        {.from = "encoder.layers.#.blocks.#.attention.self.key.weight",                     \
         .to = "layers.#.blocks.#.attn.qkv.weight", SLICE(1)},                                     \
        {.from = "encoder.layers.#.blocks.#.attention.self.value.weight",                   \
         .to = "layers.#.blocks.#.attn.qkv.weight", SLICE(2)},                                     \
        {.from = "classifier.*", .to = "head.fc.*"}

static const vt_rename hf_renames[] = {
    HF_COMMON,
    {.from = "encoder.layers.#.blocks.#.attention.self.query.bias",
     .to = "layers.#.blocks.#.attn.qkv.bias", SLICE(0)},
    {.from = "encoder.layers.#.blocks.#.attention.self.key.bias",
     .to = "layers.#.blocks.#.attn.qkv.bias", SLICE(1)},
    {.from = "encoder.layers.#.blocks.#.attention.self.value.bias",
     .to = "layers.#.blocks.#.attn.qkv.bias", SLICE(2)},
    {.from = "encoder.layers.#.blocks.#.attention.self.*", .to = "layers.#.blocks.#.attn.*"},
    /* what transformers 5 keeps in memory, and torch.save writes */
    {.from = "encoder.layers.#.blocks.#.attention.q_proj.*",
     .to = "layers.#.blocks.#.attn.qkv.*", SLICE(0)},
    {.from = "encoder.layers.#.blocks.#.attention.k_proj.*",
     .to = "layers.#.blocks.#.attn.qkv.*", SLICE(1)},
    {.from = "encoder.layers.#.blocks.#.attention.v_proj.*",
     .to = "layers.#.blocks.#.attn.qkv.*", SLICE(2)},
    {.from = "encoder.layers.#.blocks.#.attention.o_proj.*",
     .to = "layers.#.blocks.#.attn.proj.*"},
    {.from = "encoder.layers.#.blocks.#.attention.relative_position_bias.*",
     .to = "layers.#.blocks.#.attn.*"},
    {.from = "encoder.layers.#.blocks.#.mlp.*", .to = "layers.#.blocks.#.mlp.*"},
    {0},
};

static const vt_rename hf_v2_renames[] = {
    HF_COMMON,
    {.from = "encoder.layers.#.blocks.#.attention.self.query.bias",
     .to = "layers.#.blocks.#.attn.q_bias"},
    {.from = "encoder.layers.#.blocks.#.attention.self.value.bias",
     .to = "layers.#.blocks.#.attn.v_bias"},
    {.from = "encoder.layers.#.blocks.#.attention.self.continuous_position_bias_mlp.*",
     .to = "layers.#.blocks.#.attn.cpb_mlp.*"},
    {.from = "encoder.layers.#.blocks.#.attention.self.*", .to = "layers.#.blocks.#.attn.*"},
    {0},
};

/* mmdetection and mmsegmentation 2.x and later: merging in unfold order */
static const vt_rename mm_renames[] = {
    {.from = "backbone.patch_embed.projection.*", .to = "patch_embed.proj.*"},
    {.from = "backbone.stages.#.downsample.*", .to = "layers.#+1.downsample.*",
     .order = VT_ORDER_UNFOLD_2X2},
    {.from = "backbone.stages.#.blocks.#.attn.w_msa.*", .to = "layers.#.blocks.#.attn.*"},
    {.from = "backbone.stages.#.blocks.#.ffn.layers.0.0.*", .to = "layers.#.blocks.#.mlp.fc1.*"},
    {.from = "backbone.stages.#.blocks.#.ffn.layers.1.*", .to = "layers.#.blocks.#.mlp.fc2.*"},
    {.from = "backbone.stages.#.blocks.#.*", .to = "layers.#.blocks.#.*"},
    {.from = "backbone.*", .to = "*"},
    {0},
};

static const char *const ignored[] = {
    VT_DENSE_HEADS,
    "*relative_position_index",
    "*attn_mask",
    "*relative_coords_table",
    "*num_batches_tracked",
    "*attn.k_bias",
    NULL,
};

static const vt_dialect dialects[] = {
    {.name = "hugging face v2",
     .prefix = "swinv2.",
     .probe = "encoder.layers.0.blocks.0.attention.self.logit_scale",
     .renames = hf_v2_renames,
     .ignored = ignored},
    {.name = "hugging face",
     .prefix = "swin.",
     .probe = "encoder.layers.#.blocks.*",
     .renames = hf_renames,
     .ignored = ignored},
    {.name = "mmdetection/mmsegmentation",
     .probe = "backbone.stages.#.blocks.*",
     .renames = mm_renames,
     .ignored = ignored,
     .window_rule = VT_WINDOW_MM},
    {.name = "authors' dense forks",
     .probe = "backbone.layers.#.blocks.*",
     .renames = fork_renames,
     .ignored = ignored,
     .window_rule = VT_WINDOW_MM},
    {.name = "torchvision",
     .probe = "features.1.0.*",
     .renames = torchvision_renames,
     .ignored = ignored},
    {.name = "authors",
     .probe = "layers.0.downsample.*",
     .renames = official_renames,
     .ignored = ignored},
    {.name = "timm",
     .probe = "layers.0.blocks.*",
     .renames = timm_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"swin_tiny_patch4_window7_224", VT_WINDOW_PAD, 224, 224,
     {0.185262f, -1.893410f, 1.255496f, -0.126816f, 0.494228f}, 74, 2.968166f, 30.082675f},
    {"swin_tiny_patch4_window7_224", VT_WINDOW_PAD, 248, 196,
     {0.043724f, -1.622184f, 1.157901f, 0.243527f, 0.887127f}, 103, 3.004485f, 27.987020f},
    {"swin_tiny_patch4_window7_224", VT_WINDOW_MM, 248, 196,
     {0.038619f, -1.625208f, 1.129402f, 0.256162f, 0.893697f}, 103, 2.983682f, 27.902967f},
    {"swin_tiny_patch4_window7_224", VT_WINDOW_MM, 224, 224,
     {0.191421f, -1.897993f, 1.255595f, -0.132060f, 0.493892f}, 145, 2.950659f, 30.029430f},
    {"swin_tiny_patch4_window7_224", VT_WINDOW_TIMM, 248, 196,
     {0.015052f, -1.606608f, 1.063874f, 0.069410f, 0.880128f}, 145, 2.819714f, 26.593546f},
    {"swinv2_tiny_window8_256", VT_WINDOW_PAD, 256, 256,
     {-0.574995f, -0.205631f, 0.227178f, -0.141646f, 1.967480f}, 74, 3.101734f, 31.581477f},
    {0},
};
/* clang-format on */

const vt_family vt_family_swin = {
    .name = "swin",
    .title = "Swin Transformer V1 and V2",
    .source = "https://github.com/microsoft/Swin-Transformer",
    .license = "MIT",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(swin_network),
    .bind = swin_bind,
    .forward = swin_forward,
    .dialects = dialects,
    .head = "head.fc.weight",
    .golden = golden,
};
