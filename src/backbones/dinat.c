/* SPDX-License-Identifier: Apache-2.0 */
/* Neighborhood Attention Transformer (NAT, arXiv 2204.07143), Dilated NAT (DiNAT, arXiv 2209.15001)
 * and their relatives. Every block is
 *   x += gamma1 * NA(LN1(x));  x += gamma2 * mlp(LN2(x))            (gamma: 1 in most variants)
 *
 *   NAT, DiNAT   x = LN(conv3x3(conv3x3(image))), stride 2 each; between stages
 *                x = LN(conv3x3(x)) of stride 2, twice the channels
 *   DiNAT_s      x = LN(conv4x4(image)); between stages Swin's patch merging
 *   isotropic    x = LN(conv16x16(image)), one stage; vitrpb_*: every token sees all 14 x 14
 *   logits = head(mean(LN(x)))
 *
 * Dilations belong to the task a network was trained for and are in no checkpoint: the name of the
 * variant says them. Classifiers of NAT, which has none, serve dense prediction as they are;
 * DiNAT's have variants of their own (_upernet, _coco, _mask2former).
 *
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), isotropic "C4" (stride 16);
 * "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/stages.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 18, ISOTROPIC_PATCH = 16, RPB_SIDE = 14 };

#define EPS 1e-5f

typedef enum layout { CONVOLUTIONS, PATCHES, ISOTROPIC } layout;

/* Dilations of the blocks of a stage, from the first block on and again from the start. */
typedef struct cycle {
    int count, steps[MAX_DEPTH];
} cycle;

typedef struct dinat_config {
    layout layout;
    int dim, depths[STAGES], heads[STAGES];
    int window, mlp_ratio;
    const cycle *dilations; /* of each stage */
    bool layer_scale;
} dinat_config;

typedef struct dinat_block {
    vt_norm norm1, norm2;
    vt_neighborhood_attention attn;
    vt_mlp mlp;
} dinat_block;

typedef struct dinat_stage {
    dinat_block blocks[MAX_DEPTH];
    vt_stage_output output;
    vt_conv_layer reduction; /* CONVOLUTIONS: to the next stage */
    vt_norm reduction_norm;
    vt_patch_merge merge; /* PATCHES: the same */
} dinat_stage;

typedef struct dinat_network {
    const dinat_config *config;
    vt_conv_layer stem[2]; /* CONVOLUTIONS */
    vt_norm stem_norm;
    vt_patch_embed embed; /* the others */
    dinat_stage stages[STAGES];
    vt_classifier classifier;
    bool layer_scale; /* what the file has, whatever the configuration says */
} dinat_network;

/* ---- parameters ------------------------------------------------------------------------------ */

static int stage_count(const dinat_config *c)
{
    return vt_stage_count(c->depths, STAGES);
}

static void bind_stem(vt_binder *b, const dinat_config *c, dinat_network *net)
{
    vt_scope(b, "patch_embed");
    if (c->layout == CONVOLUTIONS) {
        vt_conv_settings conv = {
            .in = 3, .out = c->dim / 2, .kernel = 3, .stride = 2, .pad = 1, .bias = true};
        net->stem[0] = vt_conv_bind(b, "proj.0", &conv);
        conv.in = c->dim / 2;
        conv.out = c->dim;
        net->stem[1] = vt_conv_bind(b, "proj.1", &conv);
        net->stem_norm = vt_norm_bind(b, "norm", c->dim, EPS);
    } else {
        int patch = c->layout == ISOTROPIC ? ISOTROPIC_PATCH : 4;
        net->embed = vt_patch_embed_bind(b, 3, c->dim, patch, EPS);
    }
    vt_scope_end(b);
}

static vt_weight bind_gamma(vt_binder *b, const dinat_network *net, const char *name, int channels)
{
    return net->layer_scale ? vt_scale_bind(b, name, channels) : VT_NO_WEIGHT;
}

static dinat_block bind_block(vt_binder *b, const dinat_network *net, int stage, int j)
{
    dinat_block block;
    const dinat_config *c = net->config;
    int channels = c->dim << stage;
    const cycle *dilations = &c->dilations[stage];
    int dilation = dilations->steps[j % dilations->count];
    vt_neighborhood_attention_settings attn = {
        .channels = channels,
        .heads = c->heads[stage],
        .window_h = c->window,
        .window_w = c->window,
        .dilation_h = dilation,
        .dilation_w = dilation,
        .position_bias = true,
        .gamma = bind_gamma(b, net, "gamma1", channels),
    };
    vt_weight gamma2 = bind_gamma(b, net, "gamma2", channels);
    block.norm1 = vt_norm_bind(b, "norm1", channels, EPS);
    vt_scope(b, "attn");
    block.attn = vt_neighborhood_attention_bind(b, &attn);
    vt_scope_end(b);
    block.norm2 = vt_norm_bind(b, "norm2", channels, EPS);
    vt_scope(b, "mlp");
    block.mlp = vt_mlp_bind(b, channels, c->mlp_ratio * channels, VT_ACT_GELU, gamma2);
    vt_scope_end(b);
    return block;
}

static void bind_downsample(vt_binder *b, const dinat_config *c, int stage, dinat_stage *s)
{
    int channels = c->dim << stage;
    vt_scope(b, "downsample");
    if (c->layout == CONVOLUTIONS) {
        vt_conv_settings conv = {
            .in = channels, .out = 2 * channels, .kernel = 3, .stride = 2, .pad = 1};
        s->reduction = vt_conv_bind(b, "reduction", &conv);
        s->reduction_norm = vt_norm_bind(b, "norm", 2 * channels, EPS);
    } else {
        s->merge = vt_patch_merge_bind(b, channels, true, EPS);
    }
    vt_scope_end(b);
}

static void bind_stage(vt_binder *b, dinat_network *net, int i)
{
    const dinat_config *c = net->config;
    dinat_stage *stage = &net->stages[i];
    vt_scope(b, c->layout == CONVOLUTIONS ? "levels.%d" : "layers.%d", i);
    for (int j = 0; j < c->depths[i]; j++) {
        vt_scope(b, "blocks.%d", j);
        stage->blocks[j] = bind_block(b, net, i, j);
        vt_scope_end(b);
    }
    if (i + 1 < stage_count(c)) {
        bind_downsample(b, c, i, stage);
    }
    vt_scope_end(b);
}

static void dinat_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    dinat_network *net = network;
    const dinat_config *c = net->config = variant->config;
    bool classifier = variant->classes > 0;
    net->layer_scale = vt_bind_available(b, "levels.0.blocks.0.gamma1", c->layer_scale);
    bind_stem(b, c, net);
    if (c->layout == ISOTROPIC) {
        for (int j = 0; j < c->depths[0]; j++) {
            vt_scope(b, "layers.%d", j);
            net->stages[0].blocks[j] = bind_block(b, net, 0, j);
            vt_scope_end(b);
        }
    } else {
        for (int i = 0; i < stage_count(c); i++) {
            bind_stage(b, net, i);
            net->stages[i].output = vt_stage_output_bind(b, i, c->dim << i, EPS, !classifier);
        }
    }
    vt_classifier_settings head = {.norm = "norm",
                                   .head = "head",
                                   .channels = c->dim << (stage_count(c) - 1),
                                   .classes = s->classes,
                                   .eps = EPS};
    net->classifier = vt_classifier_bind_available(b, &head, classifier);
}

/* ---- forward --------------------------------------------------------------------------------- */

static vt_value forward_stem(vt_builder *b, const dinat_network *net)
{
    vt_value x = vt_input(b);
    vt_label(b, "patch_embed");
    if (net->config->layout != CONVOLUTIONS) {
        return vt_patch_embed_forward(b, &net->embed, x);
    }
    x = vt_conv_forward(b, &net->stem[0], x, VT_ACT_NONE);
    x = vt_conv_forward(b, &net->stem[1], x, VT_ACT_NONE);
    return vt_op_norm(b, x, &net->stem_norm);
}

static vt_value forward_block(vt_builder *b, const dinat_block *block, vt_value x)
{
    vt_value y = vt_op_norm(b, x, &block->norm1);
    x = vt_op_add(b, x, vt_neighborhood_attention_forward(b, &block->attn, y));
    y = vt_op_norm(b, x, &block->norm2);
    return vt_op_add(b, x, vt_mlp_forward(b, &block->mlp, y));
}

static vt_value forward_downsample(vt_builder *b, layout kind, const dinat_stage *stage, vt_value x)
{
    if (kind == PATCHES) {
        return vt_patch_merge_forward(b, &stage->merge, x);
    }
    x = vt_conv_forward(b, &stage->reduction, x, VT_ACT_NONE);
    return vt_op_norm(b, x, &stage->reduction_norm);
}

static vt_value forward_stages(vt_builder *b, const dinat_network *net, vt_value x)
{
    const dinat_config *c = net->config;
    for (int i = 0; i < stage_count(c); i++) {
        const dinat_stage *stage = &net->stages[i];
        for (int j = 0; j < c->depths[i]; j++) {
            vt_label(b, "levels.%d.blocks.%d", i, j);
            x = forward_block(b, &stage->blocks[j], x);
        }
        vt_stage_output_forward(b, &stage->output, x);
        if (i + 1 < stage_count(c)) {
            vt_label(b, "levels.%d.downsample", i);
            x = forward_downsample(b, c->layout, stage, x);
        }
    }
    return x;
}

static vt_value forward_isotropic(vt_builder *b, const dinat_network *net, vt_value x)
{
    vt_shape s = vt_value_shape(b, x);
    if (net->config->window == RPB_SIDE && (s.h != RPB_SIDE || s.w != RPB_SIDE)) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "this network's position table is for maps of 14 x 14: the picture must "
                        "have 209 to 224 rows and columns, its map is %d x %d",
                        (int)s.h, (int)s.w);
    }
    for (int j = 0; j < net->config->depths[0]; j++) {
        vt_label(b, "layers.%d", j);
        x = forward_block(b, &net->stages[0].blocks[j], x);
    }
    vt_output(b, "C4", x);
    return x;
}

static void dinat_forward(vt_builder *b, const void *network)
{
    const dinat_network *net = network;
    vt_value x = forward_stem(b, net);
    x = net->config->layout == ISOTROPIC ? forward_isotropic(b, net, x) : forward_stages(b, net, x);
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as in the authors' registry --------------------------------------------- */

/* clang-format off */
#define NAT_MINI {3, 4, 6, 5}
#define NAT_DEEP {3, 4, 18, 5}
#define S_TINY {2, 2, 6, 2}
#define S_DEEP {2, 2, 18, 2}
#define FASHION_DEPTHS {2, 3, 2}
#define FASHION_HEADS {2, 4, 8}
#define HEADS_64 {2, 4, 8, 16}
#define HEADS_96 {3, 6, 12, 24}
#define HEADS_128 {4, 8, 16, 32}
#define HEADS_192 {6, 12, 24, 48}

#define LONG_640 {18, {1, 2, 1, 3, 1, 4, 1, 5, 1, 2, 1, 3, 1, 4, 1, 5, 1, 5}}
#define LONG_MASK {18, {1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1, 3, 1, 2, 1, 3, 1, 3}}

static const cycle near[] = {{1, {1}}, {1, {1}}, {1, {1}}, {1, {1}}};
static const cycle cls_224[] = {{2, {1, 8}}, {2, {1, 4}}, {2, {1, 2}}, {1, {1}}};
static const cycle cls_384[] = {{2, {1, 13}}, {2, {1, 6}}, {2, {1, 3}}, {1, {1}}};
static const cycle ade_512[] = {
    {2, {1, 16}}, {4, {1, 4, 1, 8}}, {6, {1, 2, 1, 3, 1, 4}}, {2, {1, 2}}};
static const cycle ade_640[] = {{2, {1, 20}}, {4, {1, 5, 1, 10}}, LONG_640, {2, {1, 2}}};
static const cycle coco[] = {
    {2, {1, 28}}, {4, {1, 7, 1, 14}}, {6, {1, 3, 1, 5, 1, 7}}, {2, {1, 3}}};
static const cycle mask[] = {{2, {1, 14}}, {4, {1, 4, 1, 7}}, LONG_MASK, {1, {1}}};
static const cycle s_ade_512[] = {
    {2, {1, 16}}, {2, {1, 8}}, {6, {1, 2, 1, 3, 1, 4}}, {2, {1, 2}}};
static const cycle s_ade_640[] = {{2, {1, 20}}, {2, {1, 10}}, LONG_640, {2, {1, 2}}};
static const cycle s_coco[] = {{2, {1, 28}}, {2, {1, 14}}, {6, {1, 3, 1, 5, 1, 7}}, {2, {1, 3}}};
static const cycle every_other[] = {{2, {1, 2}}};
static const cycle fashion[] = {{2, {1, 3}}, {1, {1}}, {1, {1}}};

#define NAT(dim, depths, heads, window, mlp, dilations, scale)                                     \
    (&(const dinat_config){CONVOLUTIONS, dim, depths, heads, window, mlp, dilations, scale})
#define MINI(dilations) NAT(64, NAT_MINI, HEADS_64, 7, 3, dilations, false)
#define TINY(dilations) NAT(64, NAT_DEEP, HEADS_64, 7, 3, dilations, false)
#define SMALL(dilations, scale) NAT(96, NAT_DEEP, HEADS_96, 7, 2, dilations, scale)
#define BASE(dilations) NAT(128, NAT_DEEP, HEADS_128, 7, 2, dilations, true)
#define LARGE(dilations, window) NAT(192, NAT_DEEP, HEADS_192, window, 2, dilations, false)
#define DINAT_S(dim, depths, heads, dilations)                                                     \
    (&(const dinat_config){PATCHES, dim, depths, heads, 7, 4, dilations, false})
#define ISO(dim, heads, window, dilations)                                                         \
    (&(const dinat_config){ISOTROPIC, dim, {12}, {heads}, window, 4, dilations, false})

#define VARIANT(id, cfg, rows, cols, pct, mode, outputs, where)                                    \
    {.name = id, .config = cfg, VT_BICUBIC(rows, cols, pct, mode, VT_IMAGENET),                    \
     .classes = outputs, .checkpoint = "https://shi-labs.com/projects/" where, .license = "MIT"}
#define CLS_224(id, outputs, where, cfg)                                                           \
    VARIANT(id, cfg, 224, 224, 0.875, VT_CROP_CENTER, outputs, where)
#define CLS_384(id, where, cfg) VARIANT(id, cfg, 384, 384, 1.0, VT_CROP_CENTER, 1000, where)
#define ADE(id, size, where, cfg)                                                                  \
    VARIANT(id, cfg, size, size, 1.0, VT_CROP_CENTER, 0, "dinat/checkpoints/" where)
#define COCO(id, where, cfg)                                                                       \
    VARIANT(id, cfg, 800, 1344, 1.0, VT_CROP_BORDER, 0, "dinat/checkpoints/coco/" where)
#define IN1K "dinat/checkpoints/imagenet1k/"
#define IN22K "dinat/checkpoints/imagenet22k/"
#define ISO_IN1K "dinat/checkpoints/isotropic/"
static const vt_variant variants[] = {
    CLS_224("nat_mini", 1000, "nat/checkpoints/CLS/nat_mini.pth", MINI(near)),
    CLS_224("nat_tiny", 1000, "nat/checkpoints/CLS/nat_tiny.pth", TINY(near)),
    CLS_224("nat_small", 1000, "nat/checkpoints/CLS/nat_small.pth", SMALL(near, true)),
    CLS_224("nat_base", 1000, "nat/checkpoints/CLS/nat_base.pth", BASE(near)),
    CLS_224("dinat_mini", 1000, IN1K "dinat_mini_in1k_224.pth", MINI(cls_224)),
    CLS_224("dinat_tiny", 1000, IN1K "dinat_tiny_in1k_224.pth", TINY(cls_224)),
    CLS_224("dinat_small", 1000, IN1K "dinat_small_in1k_224.pth", SMALL(cls_224, false)),
    CLS_224("dinat_base", 1000, IN1K "dinat_base_in1k_224.pth", BASE(cls_224)),
    CLS_224("dinat_large", 1000, IN1K "dinat_large_in22k_in1k_224.pth", LARGE(cls_224, 7)),
    CLS_384("dinat_large_384", IN1K "dinat_large_in22k_in1k_384.pth", LARGE(cls_384, 7)),
    CLS_384("dinat_large_384_11x11", IN1K "dinat_large_in22k_in1k_384_11x11.pth", LARGE(cls_224, 11)),
    CLS_224("dinat_large_21k", 21841, IN22K "dinat_large_in22k_224.pth", LARGE(cls_224, 7)),
    CLS_224("dinat_large_21k_11x11", 21841, IN22K "dinat_large_in22k_224_11x11interp.pth", LARGE(cls_224, 11)),
    CLS_224("dinat_s_tiny", 1000, IN1K "dinat_s_tiny_in1k_224.pth", DINAT_S(96, S_TINY, HEADS_96, cls_224)),
    CLS_224("dinat_s_small", 1000, IN1K "dinat_s_small_in1k_224.pth", DINAT_S(96, S_DEEP, HEADS_96, cls_224)),
    CLS_224("dinat_s_base", 1000, IN1K "dinat_s_base_in1k_224.pth", DINAT_S(128, S_DEEP, HEADS_128, cls_224)),
    CLS_224("dinat_s_large", 1000, IN1K "dinat_s_large_in1k_224.pth", DINAT_S(192, S_DEEP, HEADS_192, cls_224)),
    CLS_384("dinat_s_large_384", IN1K "dinat_s_large_in1k_384.pth", DINAT_S(192, S_DEEP, HEADS_192, cls_384)),
    CLS_224("dinat_s_large_21k", 21841, IN22K "dinat_s_large_in22k_224.pth", DINAT_S(192, S_DEEP, HEADS_192, cls_224)),
    CLS_224("nat_isotropic_small", 1000, ISO_IN1K "nat_isotropic_small_in1k_224.pth", ISO(384, 12, 7, near)),
    CLS_224("nat_isotropic_base", 1000, ISO_IN1K "nat_isotropic_base_in1k_224.pth", ISO(768, 24, 7, near)),
    CLS_224("dinat_isotropic_small", 1000, ISO_IN1K "dinat_isotropic_small_in1k_224.pth", ISO(384, 12, 7, every_other)),
    CLS_224("dinat_isotropic_base", 1000, ISO_IN1K "dinat_isotropic_base_in1k_224.pth", ISO(768, 24, 7, every_other)),
    CLS_224("vitrpb_small", 1000, ISO_IN1K "vitrpb_small_in1k_224.pth", ISO(384, 12, RPB_SIDE, near)),
    CLS_224("vitrpb_base", 1000, ISO_IN1K "vitrpb_base_in1k_224.pth", ISO(768, 24, RPB_SIDE, near)),
    ADE("dinat_mini_upernet", 512, "ade20k/upernet_dinat_mini.pth", MINI(ade_512)),
    ADE("dinat_tiny_upernet", 512, "ade20k/upernet_dinat_tiny.pth", TINY(ade_512)),
    ADE("dinat_small_upernet", 512, "ade20k/upernet_dinat_small.pth", SMALL(ade_512, false)),
    ADE("dinat_base_upernet", 512, "ade20k/upernet_dinat_base.pth", BASE(ade_512)),
    ADE("dinat_large_upernet", 640, "ade20k/upernet_dinat_large.pth", LARGE(ade_640, 7)),
    ADE("dinat_s_tiny_upernet", 512, "ade20k/upernet_dinat_s_tiny.pth", DINAT_S(96, S_TINY, HEADS_96, s_ade_512)),
    ADE("dinat_s_small_upernet", 512, "ade20k/upernet_dinat_s_small.pth", DINAT_S(96, S_DEEP, HEADS_96, s_ade_512)),
    ADE("dinat_s_base_upernet", 512, "ade20k/upernet_dinat_s_base.pth", DINAT_S(128, S_DEEP, HEADS_128, s_ade_512)),
    ADE("dinat_s_large_upernet", 640, "ade20k/upernet_dinat_s_large.pth", DINAT_S(192, S_DEEP, HEADS_192, s_ade_640)),
    COCO("dinat_mini_coco", "maskrcnn_dinat_mini.pth", MINI(coco)),
    COCO("dinat_tiny_coco", "maskrcnn_dinat_tiny.pth", TINY(coco)),
    COCO("dinat_small_coco", "maskrcnn_dinat_small.pth", SMALL(coco, false)),
    COCO("dinat_base_coco", "cascadedmaskrcnn_dinat_base.pth", BASE(coco)),
    COCO("dinat_large_coco", "cascadedmaskrcnn_dinat_large.pth", LARGE(coco, 7)),
    COCO("dinat_s_tiny_coco", "maskrcnn_dinat_s_tiny.pth", DINAT_S(96, S_TINY, HEADS_96, s_coco)),
    COCO("dinat_s_small_coco", "maskrcnn_dinat_s_small.pth", DINAT_S(96, S_DEEP, HEADS_96, s_coco)),
    COCO("dinat_s_base_coco", "cascadedmaskrcnn_dinat_s_base.pth", DINAT_S(128, S_DEEP, HEADS_128, s_coco)),
    COCO("dinat_s_large_coco", "cascadedmaskrcnn_dinat_s_large.pth", DINAT_S(192, S_DEEP, HEADS_192, s_coco)),
    ADE("dinat_large_mask2former", 640, "m2f/mask2former_dinat_large_ade20k_semantic.pth", LARGE(mask, 11)),
    VT_FASHION_VARIANT("dinat_fashion", NAT(32, FASHION_DEPTHS, FASHION_HEADS, 5, 3, fashion, false)),
};
/* clang-format on */

/* ---- published namings; canonical = the authors' classifiers --------------------------------- */

#define HF_LAYER    "encoder.levels.#.layers.#."
#define BLOCK       "levels.#.blocks.#."
#define SLICE(part) .parts = 3, .to_part = (part), .from_part = -1
#define ROW(part)   .parts = 2, .to_part = -1, .from_part = (part)

/* the authors' files; those of dense prediction have "backbone." in front */
static const vt_rename authors_renames[] = {{.from = "*", .to = "*"}, {0}};

/* query, key and value are three matrices, both layer scales one of two rows */
static const vt_rename hf_renames[] = {
    {.from = "embeddings.patch_embeddings.projection.*", .to = "patch_embed.proj.*"},
    {.from = "embeddings.norm.*", .to = "patch_embed.norm.*"},
    {.from = "encoder.levels.#.downsample.*", .to = "levels.#.downsample.*"},
    {.from = HF_LAYER "layernorm_before.*", .to = BLOCK "norm1.*"},
    {.from = HF_LAYER "layernorm_after.*", .to = BLOCK "norm2.*"},
    {.from = HF_LAYER "attention.self.query.*", .to = BLOCK "attn.qkv.*", SLICE(0)},
    {.from = HF_LAYER "attention.self.key.*", .to = BLOCK "attn.qkv.*", SLICE(1)},
    {.from = HF_LAYER "attention.self.value.*", .to = BLOCK "attn.qkv.*", SLICE(2)},
    {.from = HF_LAYER "attention.self.*", .to = BLOCK "attn.*"},
    {.from = HF_LAYER "attention.output.dense.*", .to = BLOCK "attn.proj.*"},
    {.from = HF_LAYER "intermediate.dense.*", .to = BLOCK "mlp.fc1.*"},
    {.from = HF_LAYER "output.dense.*", .to = BLOCK "mlp.fc2.*"},
    {.from = HF_LAYER "layer_scale_parameters", .to = BLOCK "gamma1", ROW(0), .more = true},
    {.from = HF_LAYER "layer_scale_parameters", .to = BLOCK "gamma2", ROW(1)},
    {.from = "hidden_states_norms.stage1.*", .to = "norm0.*"},
    {.from = "hidden_states_norms.stage2.*", .to = "norm1.*"},
    {.from = "hidden_states_norms.stage3.*", .to = "norm2.*"},
    {.from = "hidden_states_norms.stage4.*", .to = "norm3.*"},
    {.from = "layernorm.*", .to = "norm.*"},
    {.from = "classifier.*", .to = "head.*"},
    {0},
};

static const char *const ignored[] = {
    VT_DENSE_HEADS, "*relative_position_index", "sem_seg_head.*", "criterion.*", NULL,
};

static const vt_dialect dialects[] = {
    {.name = "hugging face",
     .prefix = "dinat.",
     .probe = "encoder.levels.#.layers.*",
     .renames = hf_renames,
     .ignored = ignored},
    {.name = "hugging face",
     .prefix = "nat.",
     .probe = "encoder.levels.#.layers.*",
     .renames = hf_renames,
     .ignored = ignored},
    {.name = "authors",
     .prefix = "backbone.",
     .probe = "patch_embed.*",
     .renames = authors_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"nat_mini",
     VT_WINDOW_PAD,
     224,
     224,
     {-0.580931f, -0.229518f, 0.074563f, 0.795261f, -0.465922f},
     460,
     3.426086f,
     32.094702f},
    {"nat_mini",
     VT_WINDOW_PAD,
     190,
     251,
     {0.176327f, -0.429649f, -0.061794f, 0.795857f, -0.394676f},
     460,
     3.319077f,
     31.565780f},
    {"dinat_mini",
     VT_WINDOW_PAD,
     224,
     224,
     {-0.544833f, -0.124853f, -0.170432f, 0.591025f, -0.500271f},
     460,
     3.471083f,
     32.088717f},
    {"dinat_mini",
     VT_WINDOW_PAD,
     320,
     192,
     {-0.561100f, -0.989293f, -0.183593f, 0.713681f, 0.171748f},
     117,
     3.240536f,
     31.529769f},
    {"dinat_fashion",
     VT_WINDOW_PAD,
     64,
     64,
     {-0.083064f, 0.159101f, -1.076631f, -0.091269f, -0.943654f},
     8,
     1.272455f,
     2.328436f},
    {0},
};

const vt_family vt_family_dinat = {
    .name = "dinat",
    .title = "Neighborhood Attention Transformers (NAT, DiNAT)",
    .source = "https://github.com/SHI-Labs/Neighborhood-Attention-Transformer",
    .license = "MIT",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(dinat_network),
    .bind = dinat_bind,
    .forward = dinat_forward,
    .dialects = dialects,
    .head = "head.weight",
    .golden = golden,
};
