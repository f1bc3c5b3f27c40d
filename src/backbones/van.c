/* SPDX-License-Identifier: Apache-2.0 */
/* VAN, Visual Attention Network (arXiv 2202.09741).
 *
 *   stage i:  x = BN(conv(x))      7x7 with stride 4 in the first stage, 3x3 with stride 2 later
 *             block:  t = BN1(x);  x += scale1 * (proj_2(lka(gelu(proj_1(t)))) + t)
 *                     x += scale2 * fc2(gelu(dwconv3x3(fc1(BN2(x)))))
 *             x = LN(x), which the next stage reads too
 *   logits = head(mean(x))
 *
 * lka is large kernel attention; its residual is the normalised map t. Batch norms and layer scales
 * are folded into what stands beside them. Outputs: "C2" ... "C5", the normalised maps of stages
 * 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include <math.h>

#include "backbones/family.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 90 };

#define BATCH_EPS 1e-5f

typedef struct van_config {
    int dims[STAGES], depths[STAGES];
} van_config;

typedef struct van_block {
    vt_conv_layer proj_1, proj_2; /* with BN1 before, with the layer scale behind */
    vt_large_kernel_attention lka;
    vt_affine residual; /* x + scale1 * BN1(x) */
    vt_conv_mlp mlp;
} van_block;

typedef struct van_stage {
    vt_conv_layer embed;
    van_block blocks[MAX_DEPTH];
    vt_norm norm;
} van_stage;

typedef struct van_network {
    const van_config *config;
    van_stage stages[STAGES];
    vt_classifier classifier;
} van_network;

/* ---- parameters ------------------------------------------------------------------------------ */

/* x + scale1 * BN1(x) as factors (user: false) or summands (true) of x. Sources: weight, bias, mean
 * and variance of the norm, scale1. */
static vt_status derive_residual(const void *user, const vt_source_array *sources, int count,
                                 int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    (void)rows;
    (void)error;
    bool summand = *(const bool *)user;
    for (int64_t c = 0; c < cols; c++) {
        double factor =
            (double)sources[0].data[c] / sqrt((double)sources[3].data[c] + (double)BATCH_EPS);
        double shift = (double)sources[1].data[c] - (double)sources[2].data[c] * factor;
        double scale = (double)sources[4].data[c];
        out[c] = (float)(summand ? scale * shift : 1.0 + scale * factor);
    }
    return VT_OK;
}

static vt_weight bind_residual(vt_binder *b, const vt_batch_norm *n, vt_weight scale, int channels,
                               bool summand)
{
    return vt_bind_derived(
        b, &(vt_derived_desc){.name = summand ? "residual shift" : "residual scale",
                              .role = VT_WEIGHT_VECTOR,
                              .rows = 1,
                              .cols = channels,
                              .derive = derive_residual,
                              .user = &summand,
                              .user_size = sizeof summand,
                              .sources = {n->weight, n->bias, n->mean, n->var, scale},
                              .source_count = 5});
}

static van_block bind_block(vt_binder *b, int channels, int hidden)
{
    van_block block;
    vt_batch_norm norm1 = vt_batch_norm_bind(b, "norm1", channels, BATCH_EPS);
    vt_batch_norm norm2 = vt_batch_norm_bind(b, "norm2", channels, BATCH_EPS);
    vt_weight scale1 = vt_scale_bind(b, "layer_scale_1", channels);
    vt_weight scale2 = vt_scale_bind(b, "layer_scale_2", channels);
    vt_conv_settings first = {.in = channels, .out = channels, .bias = true, .before = &norm1};
    vt_conv_settings last = {.in = channels, .out = channels, .bias = true, .gamma = scale1};
    vt_conv_mlp_settings mlp = {.channels = channels,
                                .hidden = hidden,
                                .act = VT_ACT_GELU,
                                .before = &norm2,
                                .gamma = scale2};
    vt_scope(b, "attn");
    block.proj_1 = vt_conv_bind(b, "proj_1", &first);
    vt_scope(b, "spatial_gating_unit");
    block.lka = vt_large_kernel_attention_bind(b, channels);
    vt_scope_end(b);
    block.proj_2 = vt_conv_bind(b, "proj_2", &last);
    vt_scope_end(b);
    block.residual = (vt_affine){bind_residual(b, &norm1, scale1, channels, false),
                                 bind_residual(b, &norm1, scale1, channels, true)};
    vt_scope(b, "mlp");
    block.mlp = vt_conv_mlp_bind(b, &mlp);
    vt_scope_end(b);
    return block;
}

static void bind_stage(vt_binder *b, const van_config *c, int i, float eps, van_stage *stage)
{
    static const int ratios[STAGES] = {8, 8, 4, 4};
    const char name[] = {'n', 'o', 'r', 'm', (char)('1' + i), '\0'};
    vt_scope(b, "patch_embed%d", i + 1);
    vt_batch_norm norm = vt_batch_norm_bind(b, "norm", c->dims[i], BATCH_EPS);
    vt_conv_settings embed = {.in = i ? c->dims[i - 1] : 3,
                              .out = c->dims[i],
                              .kernel = i ? 3 : 7,
                              .stride = i ? 2 : 4,
                              .pad = i ? 1 : 3,
                              .bias = true,
                              .after = &norm};
    stage->embed = vt_conv_bind(b, "proj", &embed);
    vt_scope_end(b);
    for (int j = 0; j < c->depths[i]; j++) {
        vt_scope(b, "block%d.%d", i + 1, j);
        stage->blocks[j] = bind_block(b, c->dims[i], ratios[i] * c->dims[i]);
        vt_scope_end(b);
    }
    stage->norm = vt_norm_bind(b, name, c->dims[i], eps);
}

static void van_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                     void *network)
{
    van_network *net = network;
    const van_config *c = net->config = variant->config;
    float eps = s->norm_eps > 0.0f ? s->norm_eps : 1e-6f;
    for (int i = 0; i < STAGES; i++) {
        bind_stage(b, c, i, eps, &net->stages[i]);
    }
    net->classifier = vt_classifier_bind(
        b, &(vt_classifier_settings){
               .head = "head", .channels = c->dims[STAGES - 1], .classes = s->classes});
}

/* ---- forward pass ---------------------------------------------------------------------------- */

static vt_value forward_block(vt_builder *b, const van_block *block, vt_value x)
{
    vt_value shortcut = vt_op_affine(b, x, &block->residual);
    vt_value y = vt_conv_forward(b, &block->proj_1, x, VT_ACT_GELU);
    y = vt_large_kernel_attention_forward(b, &block->lka, y);
    x = vt_op_add(b, shortcut, vt_conv_forward(b, &block->proj_2, y, VT_ACT_NONE));
    return vt_op_add(b, x, vt_conv_mlp_forward(b, &block->mlp, x));
}

static void van_forward(vt_builder *b, const void *network)
{
    const van_network *net = network;
    vt_value x = vt_input(b);
    for (int i = 0; i < STAGES; i++) {
        const van_stage *stage = &net->stages[i];
        vt_label(b, "patch_embed%d", i + 1);
        x = vt_conv_forward(b, &stage->embed, x, VT_ACT_NONE);
        for (int j = 0; j < net->config->depths[i]; j++) {
            vt_label(b, "block%d.%d", i + 1, j);
            x = forward_block(b, &stage->blocks[j], x);
        }
        vt_label(b, "norm%d", i + 1);
        x = vt_op_norm(b, x, &stage->norm);
        vt_stage_output_name(b, i, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants -------------------------------------------------------------------------------- */

static const van_config b0 = {{32, 64, 160, 256}, {3, 3, 5, 2}};
static const van_config b1 = {{64, 128, 320, 512}, {2, 2, 4, 2}};
static const van_config b2 = {{64, 128, 320, 512}, {3, 3, 12, 3}};
static const van_config b3 = {{64, 128, 320, 512}, {3, 5, 27, 3}};
static const van_config b4 = {{64, 128, 320, 512}, {3, 6, 40, 3}};
static const van_config b5 = {{96, 192, 480, 768}, {3, 3, 24, 3}};
static const van_config b6 = {{96, 192, 384, 768}, {6, 6, 90, 6}};
static const van_config fashion = {{32, 64, 96, 128}, {2, 2, 2, 1}};

/* clang-format off */
#define HUB(name) "https://huggingface.co/Visual-Attention-Network/" name
#define DRIVE "https://github.com/Visual-Attention-Network/VAN-Classification (links to cloud drives)"
#define LICENCE "Apache-2.0; commercial use: ask the authors"
/* the authors' training of these counts pixels from -1 to 1 */
#define IN1K(id, cfg, where)                                                                       \
    {.name = id, .config = &cfg,                                                                   \
     VT_BICUBIC(224, 224, 0.9, VT_CROP_CENTER, VT_FROM_MINUS_1_TO_1),                              \
     .classes = 1000, .checkpoint = where, .license = LICENCE}
#define IN22K(id, cfg, size, pct, mode, outputs)                                                   \
    {.name = id, .config = &cfg, VT_BICUBIC(size, size, pct, mode, VT_IMAGENET),                   \
     .classes = outputs, .checkpoint = DRIVE, .license = LICENCE}
#define LARGE(id, cfg)                                                                             \
    IN22K(id, cfg, 224, 0.875, VT_CROP_CENTER, 1000),                                              \
    IN22K(id ".in22k", cfg, 224, 0.875, VT_CROP_CENTER, 21841),                                    \
    IN22K(id ".in22k_ft_in1k_384", cfg, 384, 1.0, VT_CROP_SQUASH, 1000)
static const vt_variant variants[] = {
    IN1K("van_b0", b0, HUB("VAN-Tiny-original")),
    IN1K("van_b1", b1, HUB("VAN-Small-original")),
    IN1K("van_b2", b2, HUB("VAN-Base-original")),
    IN1K("van_b3", b3, HUB("VAN-Large-original")),
    LARGE("van_b4", b4),
    LARGE("van_b5", b5),
    LARGE("van_b6", b6),
    VT_FASHION_VARIANT("van_fashion", &fashion),
};
/* clang-format on */

/* ---- published namings; canonical = the authors' --------------------------------------------- */

static const vt_rename official_renames[] = {{.from = "*", .to = "*"}, {0}};

static const vt_rename fork_renames[] = {{.from = "backbone.*", .to = "*"}, {0}};

#define HF_LAYER "encoder.stages.#.layers.#."
static const vt_rename hf_renames[] = {
    {.from = "encoder.stages.#.embeddings.convolution.*", .to = "patch_embed#+1.proj.*"},
    {.from = "encoder.stages.#.embeddings.normalization.*", .to = "patch_embed#+1.norm.*"},
    {.from = HF_LAYER "pre_normomalization.*", .to = "block#+1.#.norm1.*"}, /* sic */
    {.from = HF_LAYER "post_normalization.*", .to = "block#+1.#.norm2.*"},
    {.from = HF_LAYER "attention.pre_projection.conv.*", .to = "block#+1.#.attn.proj_1.*"},
    {.from = HF_LAYER "attention.post_projection.*", .to = "block#+1.#.attn.proj_2.*"},
    {.from = HF_LAYER "attention.attention_layer.attention.depth_wise.*",
     .to = "block#+1.#.attn.spatial_gating_unit.conv0.*"},
    {.from = HF_LAYER "attention.attention_layer.attention.depth_wise_dilated.*",
     .to = "block#+1.#.attn.spatial_gating_unit.conv_spatial.*"},
    {.from = HF_LAYER "attention.attention_layer.attention.point_wise.*",
     .to = "block#+1.#.attn.spatial_gating_unit.conv1.*"},
    {.from = HF_LAYER "attention_scaling.weight", .to = "block#+1.#.layer_scale_1"},
    {.from = HF_LAYER "mlp_scaling.weight", .to = "block#+1.#.layer_scale_2"},
    {.from = HF_LAYER "mlp.in_dense.*", .to = "block#+1.#.mlp.fc1.*"},
    {.from = HF_LAYER "mlp.depth_wise.*", .to = "block#+1.#.mlp.dwconv.dwconv.*"},
    {.from = HF_LAYER "mlp.out_dense.*", .to = "block#+1.#.mlp.fc2.*"},
    {.from = "encoder.stages.#.normalization.*", .to = "norm#+1.*"},
    {.from = "classifier.*", .to = "head.*"},
    {0},
};

static const vt_rename mm_renames[] = {
    {.from = "backbone.patch_embed#.projection.*", .to = "patch_embed#.proj.*"},
    {.from = "backbone.blocks#.#.attn.spatial_gating_unit.DW_conv.*",
     .to = "block#.#.attn.spatial_gating_unit.conv0.*"},
    {.from = "backbone.blocks#.#.attn.spatial_gating_unit.DW_D_conv.*",
     .to = "block#.#.attn.spatial_gating_unit.conv_spatial.*"},
    {.from = "backbone.blocks#.#.mlp.dwconv.*", .to = "block#.#.mlp.dwconv.dwconv.*"},
    {.from = "backbone.blocks#.#.*", .to = "block#.#.*"},
    {.from = "backbone.*", .to = "*"},
    {.from = "head.fc.*", .to = "head.*"},
    {0},
};

/* Hugging Face's files hold a norm of the last map that no code applies */
static const char *const ignored[] = {
    VT_DENSE_HEADS,
    "*num_batches_tracked",
    "layernorm.*",
    NULL,
};

static const vt_dialect dialects[] = {
    {.name = "mmpretrain",
     .probe = "backbone.blocks#.#.*",
     .renames = mm_renames,
     .ignored = ignored,
     .norm_eps = 1e-5f},
    {.name = "authors' dense forks",
     .probe = "backbone.block#.#.*",
     .renames = fork_renames,
     .ignored = ignored,
     .norm_eps = 1e-5f},
    {.name = "hugging face",
     .prefix = "van.",
     .probe = "encoder.stages.#.layers.*",
     .renames = hf_renames,
     .ignored = ignored},
    {.name = "authors",
     .probe = "block#.#.layer_scale_1",
     .renames = official_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"van_b0",
     VT_WINDOW_PAD,
     224,
     224,
     {-0.167823f, 0.177419f, 0.223136f, -0.056525f, -0.128326f},
     875,
     0.872912f,
     8.609208f},
    {"van_b0",
     VT_WINDOW_PAD,
     190,
     251,
     {0.019610f, 0.057089f, 0.239333f, -0.016460f, -0.296460f},
     593,
     0.916006f,
     9.076640f},
    {"van_b1",
     VT_WINDOW_PAD,
     224,
     224,
     {0.037133f, -0.071604f, -0.081050f, -0.247232f, -0.509120f},
     189,
     0.887203f,
     8.745311f},
    {"van_fashion",
     VT_WINDOW_PAD,
     64,
     64,
     {0.515948f, 0.186575f, 0.541691f, 0.039598f, -0.688464f},
     6,
     0.656018f,
     1.527724f},
    {0},
};

const vt_family vt_family_van = {
    .name = "van",
    .title = "VAN, Visual Attention Network",
    .source = "https://github.com/Visual-Attention-Network/VAN-Classification",
    .license = "Apache-2.0",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(van_network),
    .bind = van_bind,
    .forward = van_forward,
    .dialects = dialects,
    .head = "head.weight",
    .golden = golden,
};
