/* SPDX-License-Identifier: Apache-2.0 */
/* LITv2 (arXiv 2205.13213): perceptrons with a convolution first, HiLo attention in the last two
 * stages, deformable convolutions between stages.
 *
 *   x = LN(conv4x4(image))                                      H/4 x W/4 x D
 *   stage i:  x = gelu(BN(deform_conv2x2(x)))  (i > 0: half the size, twice the channels)
 *             block:  x += hilo(LN1(x))  (last two stages);  x += conv_mlp(LN2(x))
 *   logits = head(mean(LN(x)))
 *
 * The window of HiLo is in no checkpoint: 2 in the last stage but one, 4 in detectors named _ws_4;
 * the last stage has plain attention among all tokens. The deformable convolutions round sizes
 * down.
 *
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/sizes.h"
#include "backbones/stages.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 18, MLP_RATIO = 4, PATCH = 4 };

#define EPS 1e-5f

typedef struct litv2_config {
    int dim, depths[STAGES];
    int heads[STAGES]; /* 0: no attention */
    int window;        /* of stages before the last */
    double alpha;
} litv2_config;

typedef struct litv2_block {
    vt_norm norm1, norm2;
    vt_hilo_attention attn;
    vt_conv_mlp mlp;
} litv2_block;

typedef struct litv2_stage {
    litv2_block blocks[MAX_DEPTH];
    vt_stage_output output;
    vt_deform_conv downsample;
} litv2_stage;

typedef struct litv2_network {
    const litv2_config *config;
    vt_patch_embed embed;
    litv2_stage stages[STAGES];
    vt_classifier classifier;
} litv2_network;

/* ---- parameters ------------------------------------------------------------------------------ */

static int stage_count(const litv2_config *c)
{
    return vt_stage_count(c->depths, STAGES);
}

static litv2_block bind_block(vt_binder *b, const litv2_config *c, int stage)
{
    litv2_block block = {.attn = {.window = 0}};
    int channels = c->dim << stage;
    vt_hilo_attention_settings attn = {.channels = channels,
                                       .heads = c->heads[stage],
                                       .window = stage + 1 == stage_count(c) ? 1 : c->window,
                                       .alpha = c->alpha};
    vt_conv_mlp_settings mlp = {
        .channels = channels, .hidden = MLP_RATIO * channels, .act = VT_ACT_GELU};
    if (c->heads[stage] > 0) {
        block.norm1 = vt_norm_bind(b, "norm1", channels, EPS);
        vt_scope(b, "attn");
        block.attn = vt_hilo_attention_bind(b, &attn);
        vt_scope_end(b);
    }
    block.norm2 = vt_norm_bind(b, "norm2", channels, EPS);
    vt_scope(b, "mlp");
    block.mlp = vt_conv_mlp_bind(b, &mlp);
    vt_scope_end(b);
    return block;
}

static void bind_stage(vt_binder *b, const litv2_config *c, int i, litv2_stage *stage)
{
    vt_scope(b, "layers.%d", i);
    for (int j = 0; j < c->depths[i]; j++) {
        vt_scope(b, "blocks.%d", j);
        stage->blocks[j] = bind_block(b, c, i);
        vt_scope_end(b);
    }
    if (i + 1 < stage_count(c)) {
        vt_scope(b, "downsample");
        vt_batch_norm norm = vt_batch_norm_bind(b, "norm_layer", c->dim << (i + 1), EPS);
        stage->downsample = vt_deform_conv_bind(
            b, "dconv",
            &(vt_deform_conv_settings){
                .in = c->dim << i, .out = c->dim << (i + 1), .kernel = 2, .after = &norm});
        vt_scope_end(b);
    }
    vt_scope_end(b);
}

static void litv2_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    litv2_network *net = network;
    const litv2_config *c = net->config = variant->config;
    bool classifier = variant->classes > 0;
    vt_scope(b, "patch_embed");
    net->embed = vt_patch_embed_bind(b, 3, c->dim, PATCH, EPS);
    vt_scope_end(b);
    for (int i = 0; i < stage_count(c); i++) {
        bind_stage(b, c, i, &net->stages[i]);
        /* detectors have no norm0 */
        net->stages[i].output = vt_stage_output_bind(b, i, c->dim << i, EPS, !classifier && i > 0);
    }
    vt_classifier_settings head = {.norm = "norm",
                                   .head = "head",
                                   .channels = c->dim << (stage_count(c) - 1),
                                   .classes = s->classes,
                                   .eps = EPS};
    net->classifier = vt_classifier_bind_available(b, &head, classifier);
}

/* ---- forward --------------------------------------------------------------------------------- */

static vt_value forward_block(vt_builder *b, const litv2_block *block, bool attention, vt_value x)
{
    vt_value y;
    if (attention) {
        y = vt_op_norm(b, x, &block->norm1);
        x = vt_op_add(b, x, vt_hilo_attention_forward(b, &block->attn, y));
    }
    y = vt_op_norm(b, x, &block->norm2);
    return vt_op_add(b, x, vt_conv_mlp_forward(b, &block->mlp, y));
}

/* So that the map after the stem can be halved between the stages. */
static int smallest_side(const litv2_config *c)
{
    return PATCH * (1 << (stage_count(c) - 1)) - PATCH + 1;
}

static void litv2_forward(vt_builder *b, const void *network)
{
    const litv2_network *net = network;
    const litv2_config *c = net->config;
    if (!vt_sizes_suffice(b, smallest_side(c))) {
        return;
    }
    vt_label(b, "patch_embed");
    vt_value x = vt_patch_embed_forward(b, &net->embed, vt_input(b));
    for (int i = 0; i < stage_count(c); i++) {
        const litv2_stage *stage = &net->stages[i];
        for (int j = 0; j < c->depths[i]; j++) {
            vt_label(b, "layers.%d.blocks.%d", i, j);
            x = forward_block(b, &stage->blocks[j], c->heads[i] > 0, x);
        }
        vt_stage_output_forward(b, &stage->output, x);
        if (i + 1 < stage_count(c)) {
            vt_label(b, "layers.%d.downsample", i);
            x = vt_deform_conv_forward(b, &stage->downsample, x, VT_ACT_GELU);
        }
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as the authors' files --------------------------------------------------- */

/* clang-format off */
#define SHALLOW {2, 2, 6, 2}
#define DEEP {2, 2, 18, 2}
#define HEADS_96 {0, 0, 12, 24}
#define HEADS_128 {0, 0, 16, 32}
#define SMALL(window, alpha) (&(const litv2_config){96, SHALLOW, HEADS_96, window, alpha})
#define MEDIUM(window) (&(const litv2_config){96, DEEP, HEADS_96, window, 0.9})
#define BASE(window) (&(const litv2_config){128, DEEP, HEADS_128, window, 0.9})

static const litv2_config fashion = {32, {2, 3, 2}, {0, 2, 4}, 2, 0.5};

#define VARIANT(id, cfg, rows, cols, pct, mode, outputs, where)                                    \
    {.name = id, .config = cfg, VT_BICUBIC(rows, cols, pct, mode, VT_IMAGENET),                    \
     .classes = outputs, .license = "Apache-2.0",                                                  \
     .checkpoint = "https://github.com/ziplab/LITv2/releases/download/" where}
#define CLS(id, where, cfg) VARIANT(id, cfg, 224, 224, 0.875, VT_CROP_CENTER, 1000, where)
#define COCO(id, where, cfg) VARIANT(id, cfg, 800, 1344, 1.0, VT_CROP_BORDER, 0, "v1.0/" where)
static const vt_variant variants[] = {
    CLS("litv2_s", "v1.0/litv2_s.pth", SMALL(2, 0.9)),
    CLS("litv2_m", "v1.0/litv2_m.pth", MEDIUM(2)),
    CLS("litv2_b", "v1.0/litv2_b.pth", BASE(2)),
    VARIANT("litv2_b_384", BASE(2), 384, 384, 1.0, VT_CROP_SQUASH, 1000, "v1.0/litv2_b_384.pth"),
    CLS("litv2_s_alpha_0", "v1.1/alpha_0.pth", SMALL(2, 0.0)),
    CLS("litv2_s_alpha_0.2", "v1.1/alpha_0.2.pth", SMALL(2, 0.2)),
    CLS("litv2_s_alpha_0.4", "v1.1/alpha_0.4.pth", SMALL(2, 0.4)),
    CLS("litv2_s_alpha_0.5", "v1.1/alpha_0.5.pth", SMALL(2, 0.5)),
    CLS("litv2_s_alpha_0.7", "v1.1/alpha_0.7.pth", SMALL(2, 0.7)),
    CLS("litv2_s_alpha_0.9", "v1.1/alpha_0.9.pth", SMALL(2, 0.9)),
    CLS("litv2_s_alpha_1", "v1.1/alpha_1.pth", SMALL(2, 1.0)),
    COCO("litv2_s_ws_4", "mask_rcnn_litv2_s_fpn_1x_coco_ws_4.pth", SMALL(4, 0.9)),
    COCO("litv2_m_ws_4", "mask_rcnn_litv2_m_fpn_1x_coco_ws_4.pth", MEDIUM(4)),
    COCO("litv2_b_ws_4", "mask_rcnn_litv2_b_fpn_1x_coco_ws_4.pth", BASE(4)),
    VT_FASHION_VARIANT("litv2_fashion", &fashion),
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
     .probe = "layers.0.downsample.dconv.weight",
     .renames = authors_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"litv2_s",
     VT_WINDOW_PAD,
     224,
     224,
     {0.129503f, 2.250785f, 0.047478f, 0.380476f, 0.945917f},
     135,
     3.352695f,
     28.630136f},
    {"litv2_fashion",
     VT_WINDOW_PAD,
     64,
     64,
     {-1.685346f, 0.585408f, -0.031443f, -0.926939f, 0.073659f},
     7,
     2.199676f,
     3.817967f},
    {0},
};

const vt_family vt_family_litv2 = {
    .name = "litv2",
    .title = "LITv2: fast vision transformers with HiLo attention",
    .source = "https://github.com/ziplab/LITv2",
    .license = "Apache-2.0",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(litv2_network),
    .bind = litv2_bind,
    .forward = litv2_forward,
    .dialects = dialects,
    .head = "head.weight",
    .golden = golden,
};
