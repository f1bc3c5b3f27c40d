/* SPDX-License-Identifier: Apache-2.0 */
/* ConvNeXt (arXiv 2201.03545), the first version.
 *
 *   x = LN(conv4x4(image), stride 4)                            H/4 x W/4 x C0
 *   stage i:  x = conv2x2(LN(x)), stride 2  (i > 0)
 *             block:  x += gamma * fc2(gelu(fc1(LN(dwconv7x7(x)))))
 *   logits = head(LN(mean(x)))
 *
 * Every stride rounds down: a last row or column that is over is not read. Some of timm's networks
 * have a stem of two 3x3 convolutions, the norm before the mean, or a hidden layer in the head.
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/sizes.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 30 };

typedef enum convnext_stem { PATCH_4X4 = 0, TWO_3X3 } convnext_stem;

typedef struct convnext_config {
    int dims[STAGES], depths[STAGES];
    float eps;
    convnext_stem stem;
    int stem_width;  /* TWO_3X3: channels after the first convolution */
    bool norm_first; /* the final norm comes before the mean */
    int hidden;      /* of the head; 0: it is one linear map */
    bool projection; /* the head is a projection to CLIP's space, whose bias files may lack */
} convnext_config;

typedef struct convnext_stage {
    vt_norm norm; /* before `reduce`; not in stage 0 */
    vt_conv_layer reduce;
    vt_convnext_block blocks[MAX_DEPTH];
    vt_stage_output output;
} convnext_stage;

typedef struct convnext_network {
    const convnext_config *config;
    vt_conv_layer stem[2];
    vt_norm stem_norm;
    convnext_stage stages[STAGES];
    vt_classifier classifier;
} convnext_network;

/* ---- parameters ------------------------------------------------------------------------------ */

static void bind_stem(vt_binder *b, const convnext_config *c, convnext_network *net)
{
    vt_scope(b, "stem");
    if (c->stem == PATCH_4X4) {
        vt_conv_settings patch = {
            .in = 3, .out = c->dims[0], .kernel = 4, .stride = 4, .bias = true};
        net->stem[0] = vt_conv_bind(b, "0", &patch);
    } else {
        vt_conv_settings conv = {
            .in = 3, .out = c->stem_width, .kernel = 3, .stride = 2, .pad = 1, .bias = true};
        net->stem[0] = vt_conv_bind(b, "0", &conv);
        conv.in = c->stem_width;
        conv.out = c->dims[0];
        net->stem[1] = vt_conv_bind(b, "1", &conv);
    }
    net->stem_norm = vt_norm_bind(b, c->stem == PATCH_4X4 ? "1" : "2", c->dims[0], c->eps);
    vt_scope_end(b);
}

static void bind_stage(vt_binder *b, const convnext_config *c, int i, convnext_stage *stage)
{
    vt_scope(b, "stages.%d", i);
    if (i > 0) {
        vt_conv_settings reduce = {
            .in = c->dims[i - 1], .out = c->dims[i], .kernel = 2, .stride = 2, .bias = true};
        vt_scope(b, "downsample");
        stage->norm = vt_norm_bind(b, "0", c->dims[i - 1], c->eps);
        stage->reduce = vt_conv_bind(b, "1", &reduce);
        vt_scope_end(b);
    }
    for (int j = 0; j < c->depths[i]; j++) {
        vt_scope(b, "blocks.%d", j);
        stage->blocks[j] = vt_convnext_block_bind(b, c->dims[i], c->eps);
        vt_scope_end(b);
    }
    vt_scope_end(b);
    stage->output = vt_stage_output_bind(b, i, c->dims[i], c->eps, false);
}

static void convnext_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                          void *network)
{
    convnext_network *net = network;
    const convnext_config *c = net->config = variant->config;
    bind_stem(b, c, net);
    for (int i = 0; i < STAGES; i++) {
        bind_stage(b, c, i, &net->stages[i]);
    }
    vt_classifier_settings head = {.norm = c->norm_first ? "norm_pre" : "head.norm",
                                   .head = "head.fc",
                                   .channels = c->dims[STAGES - 1],
                                   .classes = s->classes,
                                   .eps = c->eps,
                                   .pool_first = !c->norm_first,
                                   .no_bias =
                                       c->projection && !vt_bind_available(b, "head.fc.bias", true),
                                   .hidden_name = c->hidden ? "head.pre_logits.fc" : NULL,
                                   .hidden = c->hidden,
                                   .hidden_act = VT_ACT_GELU};
    net->classifier = vt_classifier_bind_available(b, &head, true);
}

/* ---- forward pass ---------------------------------------------------------------------------- */

static vt_value forward_stem(vt_builder *b, const convnext_network *net)
{
    bool patch = net->config->stem == PATCH_4X4;
    int smallest = patch ? 32 : 29; /* the stem leaves 8 x 8, which can be halved three times */
    if (!vt_sizes_suffice(b, smallest)) {
        return VT_NO_VALUE;
    }
    vt_label(b, "stem");
    vt_value x = vt_conv_forward(b, &net->stem[0], vt_input(b), VT_ACT_NONE);
    if (!patch) {
        x = vt_conv_forward(b, &net->stem[1], x, VT_ACT_NONE);
    }
    return vt_op_norm(b, x, &net->stem_norm);
}

static void convnext_forward(vt_builder *b, const void *network)
{
    const convnext_network *net = network;
    vt_value x = forward_stem(b, net);
    for (int i = 0; i < STAGES; i++) {
        const convnext_stage *stage = &net->stages[i];
        if (i > 0) {
            vt_label(b, "stages.%d.downsample", i);
            x = vt_op_norm(b, x, &stage->norm);
            x = vt_conv_forward(b, &stage->reduce, x, VT_ACT_NONE);
        }
        for (int j = 0; j < net->config->depths[i]; j++) {
            vt_label(b, "stages.%d.blocks.%d", i, j);
            x = vt_convnext_block_forward(b, &stage->blocks[j], x);
        }
        vt_stage_output_forward(b, &stage->output, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names and tags as in timm ----------------------------------------------------- */

#define TINY                                                                                       \
    {                                                                                              \
        3, 3, 9, 3                                                                                 \
    }
#define SMALL                                                                                      \
    {                                                                                              \
        3, 3, 27, 3                                                                                \
    }
#define DIMS(c)                                                                                    \
    {                                                                                              \
        c, 2 * c, 4 * c, 8 * c                                                                     \
    }
#define CONFIG(name, c, ...)                                                                       \
    static const convnext_config name = {.dims = DIMS(c), .eps = 1e-6f, __VA_ARGS__}

/* clang-format off */
CONFIG(atto, 40, .depths = {2, 2, 6, 2});
CONFIG(atto_ols, 40, .depths = {2, 2, 6, 2}, .stem = TWO_3X3, .stem_width = 24);
CONFIG(femto, 48, .depths = {2, 2, 6, 2});
CONFIG(femto_ols, 48, .depths = {2, 2, 6, 2}, .stem = TWO_3X3, .stem_width = 24);
CONFIG(pico, 64, .depths = {2, 2, 6, 2});
CONFIG(pico_ols, 64, .depths = {2, 2, 6, 2}, .stem = TWO_3X3, .stem_width = 32);
CONFIG(nano, 80, .depths = {2, 2, 8, 2});
CONFIG(nano_ols, 80, .depths = {2, 2, 8, 2}, .stem = TWO_3X3, .stem_width = 80);
CONFIG(tiny, 96, .depths = TINY);
CONFIG(tiny_hnf, 96, .depths = TINY, .norm_first = true);
CONFIG(small, 96, .depths = SMALL);
CONFIG(base, 128, .depths = SMALL);
CONFIG(base_clip, 128, .depths = SMALL, .projection = true);
CONFIG(large, 192, .depths = SMALL);
CONFIG(large_mlp, 192, .depths = SMALL, .hidden = 1536);
CONFIG(large_mlp_clip, 192, .depths = SMALL, .hidden = 1536, .projection = true);
CONFIG(xlarge, 256, .depths = SMALL);
static const convnext_config xxlarge = {.dims = DIMS(384), .eps = 1e-5f, .depths = {3, 4, 30, 3}};
static const convnext_config xxlarge_clip = {.dims = DIMS(384), .eps = 1e-5f, .depths = {3, 4, 30, 3}, .projection = true};

#define VT_OPENAI                                                                                  \
    .mean = {0.48145466f, 0.4578275f, 0.40821073f}, .std = {0.26862954f, 0.26130258f, 0.27577711f}
#define APACHE "Apache-2.0"
#define DINOV3 "DINOv3"
#define FAIR_NC "FAIR noncommercial research"
#define ROW(id, where, cfg, size, pct, mode, colours, outputs, rights)                             \
    {.name = id, .config = &cfg, VT_BICUBIC(size, size, pct, VT_CROP_##mode, VT_##colours),        \
     .classes = outputs, .checkpoint = "https://huggingface.co/timm/" where, .license = rights}
#define PLAIN(arch, tag, ...) ROW(arch, arch "." tag, __VA_ARGS__)
#define TAGGED(arch, tag, ...) ROW(arch "." tag, arch "." tag, __VA_ARGS__)
#define TORCHVISION(arch, cfg, shorter)                                                            \
    {.name = arch ".tv_in1k", .config = &cfg,                                                      \
     .preprocess = {.height = 224, .width = 224, .crop_pct = 1.0, .resize_shorter = shorter,       \
                    .filter = VT_FILTER_BILINEAR, VT_IMAGENET},                                    \
     .classes = 1000, .license = "BSD-3-Clause",                                                   \
     .checkpoint = "https://download.pytorch.org/models (torchvision's " arch ")"}
static const vt_variant variants[] = {
    PLAIN("convnext_atto", "d2_in1k", atto, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_atto_ols", "a2_in1k", atto_ols, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_femto", "d1_in1k", femto, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_femto_ols", "d1_in1k", femto_ols, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_pico", "d1_in1k", pico, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_pico_ols", "d1_in1k", pico_ols, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_nano", "d1h_in1k", nano, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_nano", "in12k", nano, 224, 0.95, CENTER, IMAGENET, 11821, APACHE),
    TAGGED("convnext_nano", "in12k_ft_in1k", nano, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_nano", "r384_ad_in12k", nano, 384, 1.0, CENTER, IMAGENET, 11821, APACHE),
    TAGGED("convnext_nano", "r384_in12k", nano, 384, 1.0, CENTER, IMAGENET, 11821, APACHE),
    TAGGED("convnext_nano", "r384_in12k_ft_in1k", nano, 384, 1.0, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_nano_ols", "d1h_in1k", nano_ols, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_tiny", "fb_in1k", tiny, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TORCHVISION("convnext_tiny", tiny, 236),
    TAGGED("convnext_tiny", "dinov3_lvd1689m", tiny, 224, 1.0, CENTER, IMAGENET, 0, DINOV3),
    TAGGED("convnext_tiny", "eupe_lvd1689m", tiny, 256, 1.0, CENTER, IMAGENET, 0, FAIR_NC),
    TAGGED("convnext_tiny", "fb_in22k", tiny, 224, 0.875, CENTER, IMAGENET, 21841, APACHE),
    TAGGED("convnext_tiny", "fb_in22k_ft_in1k", tiny, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_tiny", "fb_in22k_ft_in1k_384", tiny, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    TAGGED("convnext_tiny", "in12k", tiny, 224, 0.95, CENTER, IMAGENET, 11821, APACHE),
    TAGGED("convnext_tiny", "in12k_ft_in1k", tiny, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_tiny", "in12k_ft_in1k_384", tiny, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    PLAIN("convnext_tiny_hnf", "a2h_in1k", tiny_hnf, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    PLAIN("convnext_small", "fb_in1k", small, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TORCHVISION("convnext_small", small, 230),
    TAGGED("convnext_small", "dinov3_lvd1689m", small, 224, 1.0, CENTER, IMAGENET, 0, DINOV3),
    TAGGED("convnext_small", "eupe_lvd1689m", small, 256, 1.0, CENTER, IMAGENET, 0, FAIR_NC),
    TAGGED("convnext_small", "fb_in22k", small, 224, 0.875, CENTER, IMAGENET, 21841, APACHE),
    TAGGED("convnext_small", "fb_in22k_ft_in1k", small, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_small", "fb_in22k_ft_in1k_384", small, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    TAGGED("convnext_small", "in12k", small, 224, 0.95, CENTER, IMAGENET, 11821, APACHE),
    TAGGED("convnext_small", "in12k_ft_in1k", small, 224, 0.95, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_small", "in12k_ft_in1k_384", small, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    PLAIN("convnext_base", "fb_in1k", base, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TORCHVISION("convnext_base", base, 232),
    TAGGED("convnext_base", "clip_laion2b", base_clip, 256, 1.0, CENTER, OPENAI, 640, APACHE),
    TAGGED("convnext_base", "clip_laion2b_augreg", base_clip, 256, 1.0, CENTER, OPENAI, 640, APACHE),
    TAGGED("convnext_base", "clip_laion2b_augreg_ft_in1k", base, 256, 1.0, CENTER, OPENAI, 1000, APACHE),
    TAGGED("convnext_base", "clip_laion2b_augreg_ft_in12k", base, 256, 1.0, CENTER, OPENAI, 11821, APACHE),
    TAGGED("convnext_base", "clip_laion2b_augreg_ft_in12k_in1k", base, 256, 1.0, CENTER, OPENAI, 1000, APACHE),
    TAGGED("convnext_base", "clip_laion2b_augreg_ft_in12k_in1k_384", base, 384, 1.0, SQUASH, OPENAI, 1000, APACHE),
    TAGGED("convnext_base", "clip_laiona", base_clip, 256, 1.0, CENTER, OPENAI, 640, APACHE),
    TAGGED("convnext_base", "clip_laiona_320", base_clip, 320, 1.0, CENTER, OPENAI, 640, APACHE),
    TAGGED("convnext_base", "clip_laiona_augreg_320", base_clip, 320, 1.0, CENTER, OPENAI, 640, APACHE),
    TAGGED("convnext_base", "clip_laiona_augreg_ft_in1k_384", base, 384, 1.0, CENTER, OPENAI, 1000, APACHE),
    TAGGED("convnext_base", "dinov3_lvd1689m", base, 224, 1.0, CENTER, IMAGENET, 0, DINOV3),
    TAGGED("convnext_base", "eupe_lvd1689m", base, 256, 1.0, CENTER, IMAGENET, 0, FAIR_NC),
    TAGGED("convnext_base", "fb_in22k", base, 224, 0.875, CENTER, IMAGENET, 21841, APACHE),
    TAGGED("convnext_base", "fb_in22k_ft_in1k", base, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_base", "fb_in22k_ft_in1k_384", base, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    PLAIN("convnext_large", "fb_in1k", large, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TORCHVISION("convnext_large", large, 232),
    TAGGED("convnext_large", "dinov3_lvd1689m", large, 224, 1.0, CENTER, IMAGENET, 0, DINOV3),
    TAGGED("convnext_large", "fb_in22k", large, 224, 0.875, CENTER, IMAGENET, 21841, APACHE),
    TAGGED("convnext_large", "fb_in22k_ft_in1k", large, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_large", "fb_in22k_ft_in1k_384", large, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    PLAIN("convnext_large_mlp", "clip_laion2b_augreg_ft_in1k", large_mlp, 256, 1.0, CENTER, OPENAI, 1000, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_augreg", large_mlp_clip, 256, 1.0, CENTER, OPENAI, 768, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_augreg_ft_in1k_384", large_mlp, 384, 1.0, SQUASH, OPENAI, 1000, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_augreg_ft_in12k_384", large_mlp, 384, 1.0, SQUASH, OPENAI, 11821, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_ft_320", large_mlp_clip, 320, 1.0, CENTER, OPENAI, 768, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_ft_soup_320", large_mlp_clip, 320, 1.0, CENTER, OPENAI, 768, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_soup_ft_in12k_320", large_mlp, 320, 1.0, CENTER, OPENAI, 11821, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_soup_ft_in12k_384", large_mlp, 384, 1.0, SQUASH, OPENAI, 11821, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_soup_ft_in12k_in1k_320", large_mlp, 320, 1.0, CENTER, OPENAI, 1000, APACHE),
    TAGGED("convnext_large_mlp", "clip_laion2b_soup_ft_in12k_in1k_384", large_mlp, 384, 1.0, SQUASH, OPENAI, 1000, APACHE),
    PLAIN("convnext_xlarge", "fb_in22k_ft_in1k", xlarge, 224, 0.875, CENTER, IMAGENET, 1000, APACHE),
    TAGGED("convnext_xlarge", "fb_in22k", xlarge, 224, 0.875, CENTER, IMAGENET, 21841, APACHE),
    TAGGED("convnext_xlarge", "fb_in22k_ft_in1k_384", xlarge, 384, 1.0, SQUASH, IMAGENET, 1000, APACHE),
    PLAIN("convnext_xxlarge", "clip_laion2b_soup_ft_in1k", xxlarge, 256, 1.0, CENTER, OPENAI, 1000, APACHE),
    TAGGED("convnext_xxlarge", "clip_laion2b_rewind", xxlarge_clip, 256, 1.0, CENTER, OPENAI, 1024, APACHE),
    TAGGED("convnext_xxlarge", "clip_laion2b_soup", xxlarge_clip, 256, 1.0, CENTER, OPENAI, 1024, APACHE),
    TAGGED("convnext_xxlarge", "clip_laion2b_soup_ft_in12k", xxlarge, 256, 1.0, CENTER, OPENAI, 11821, APACHE),
};
/* clang-format on */

/* ---- published namings; canonical = timm's --------------------------------------------------- */

static const vt_rename timm_renames[] = {{.from = "*", .to = "*"}, {0}};

#define BELOW(prefix, dw, pw)                                                                      \
    {.from = prefix "downsample_layers.0.*", .to = "stem.*"},                                      \
        {.from = prefix "downsample_layers.#.*", .to = "stages.#.downsample.*"},                   \
        {.from = prefix "stages.#.#." dw ".*", .to = "stages.#.blocks.#.conv_dw.*"},               \
        {.from = prefix "stages.#.#." pw "1.*", .to = "stages.#.blocks.#.mlp.fc1.*"},              \
        {.from = prefix "stages.#.#." pw "2.*", .to = "stages.#.blocks.#.mlp.fc2.*"},              \
    {                                                                                              \
        .from = prefix "stages.#.#.*", .to = "stages.#.blocks.#.*"                                 \
    }

static const vt_rename official_renames[] = {
    BELOW("", "dwconv", "pwconv"),
    {.from = "norm.*", .to = "head.norm.*"},
    {.from = "head.*", .to = "head.fc.*"},
    {0},
};

/* the authors' detection and segmentation code: a norm of each output, no head */
static const vt_rename fork_renames[] = {
    BELOW("backbone.", "dwconv", "pwconv"),
    {.from = "backbone.*", .to = "*"},
    {0},
};

/* classifiers: the one norm is that of the last stage, after the mean */
static const vt_rename mmpretrain_renames[] = {
    BELOW("backbone.", "depthwise_conv", "pointwise_conv"),
    {.from = "backbone.norm3.*", .to = "head.norm.*"},
    {.from = "head.*", .to = "head.*"},
    {0},
};

static const vt_rename mm_renames[] = {
    BELOW("backbone.", "depthwise_conv", "pointwise_conv"),
    {.from = "backbone.*", .to = "*"},
    {0},
};

/* features.0 is the stem, .1, .3, .5, .7 are stages, .2, .4, .6 what comes between them */
static const vt_rename torchvision_renames[] = {
    {.from = "features.0.*", .to = "stem.*"},
    {.from = "features.#.#.layer_scale", .to = "stages.#/2.blocks.#.gamma"},
    {.from = "features.#.#.block.0.*", .to = "stages.#/2.blocks.#.conv_dw.*"},
    {.from = "features.#.#.block.2.*", .to = "stages.#/2.blocks.#.norm.*"},
    {.from = "features.#.#.block.3.*", .to = "stages.#/2.blocks.#.mlp.fc1.*"},
    {.from = "features.#.#.block.5.*", .to = "stages.#/2.blocks.#.mlp.fc2.*"},
    {.from = "features.#.*", .to = "stages.#/2.downsample.*"},
    {.from = "classifier.0.*", .to = "head.norm.*"},
    {.from = "classifier.2.*", .to = "head.fc.*"},
    {0},
};

#define HF_BELOW(prefix)                                                                           \
    {.from = prefix "embeddings.patch_embeddings.*", .to = "stem.0.*"},                            \
        {.from = prefix "embeddings.layernorm.*", .to = "stem.1.*"},                               \
        {.from = prefix "encoder.stages.#.downsampling_layer.*", .to = "stages.#.downsample.*"},   \
        {.from = prefix "encoder.stages.#.layers.#.layer_scale_parameter",                         \
         .to = "stages.#.blocks.#.gamma"},                                                         \
        {.from = prefix "encoder.stages.#.layers.#.dwconv.*",                                      \
         .to = "stages.#.blocks.#.conv_dw.*"},                                                     \
        {.from = prefix "encoder.stages.#.layers.#.layernorm.*",                                   \
         .to = "stages.#.blocks.#.norm.*"},                                                        \
        {.from = prefix "encoder.stages.#.layers.#.pwconv1.*",                                     \
         .to = "stages.#.blocks.#.mlp.fc1.*"},                                                     \
    {                                                                                              \
        .from = prefix "encoder.stages.#.layers.#.pwconv2.*", .to = "stages.#.blocks.#.mlp.fc2.*"  \
    }

static const vt_rename hf_renames[] = {
    HF_BELOW(""),
    {.from = "layernorm.*", .to = "head.norm.*"},
    {.from = "classifier.*", .to = "head.fc.*"},
    {0},
};

/* the backbone of Hugging Face's segmentation models */
static const vt_rename hf_backbone_renames[] = {
    HF_BELOW("backbone."),
    {.from = "backbone.hidden_states_norms.stage1.*", .to = "norm0.*"},
    {.from = "backbone.hidden_states_norms.stage2.*", .to = "norm1.*"},
    {.from = "backbone.hidden_states_norms.stage3.*", .to = "norm2.*"},
    {.from = "backbone.hidden_states_norms.stage4.*", .to = "norm3.*"},
    {0},
};

/* CLIP's image tower; its projection has no bias */
static const vt_rename open_clip_renames[] = {
    {.from = "visual.trunk.*", .to = "*"},
    {.from = "visual.head.proj.*", .to = "head.fc.*"},
    {.from = "visual.head.mlp.fc1.*", .to = "head.pre_logits.fc.*"},
    {.from = "visual.head.mlp.fc2.*", .to = "head.fc.*"},
    {0},
};

/* "norms." and "projectors." are heads of a training by distillation; the last two lines the text
 * side of CLIP */
static const char *const ignored[] = {
    VT_DENSE_HEADS,         "norms.*",    "projectors.*",
    "transformer.*",        "text.*",     "token_embedding.*",
    "positional_embedding", "ln_final.*", "text_projection",
    "logit_scale",          "attn_mask",  NULL,
};

static const vt_dialect dialects[] = {
    {.name = "open clip",
     .probe = "visual.trunk.stem.*",
     .renames = open_clip_renames,
     .ignored = ignored},
    {.name = "timm", .probe = "stages.#.blocks.*", .renames = timm_renames, .ignored = ignored},
    {.name = "mmpretrain",
     .probe = "head.fc.weight",
     .renames = mmpretrain_renames,
     .ignored = ignored},
    {.name = "mmdetection/mmsegmentation",
     .probe = "backbone.stages.#.#.depthwise_conv.*",
     .renames = mm_renames,
     .ignored = ignored},
    {.name = "authors' dense forks",
     .probe = "backbone.downsample_layers.*",
     .renames = fork_renames,
     .ignored = ignored},
    {.name = "authors",
     .probe = "downsample_layers.*",
     .renames = official_renames,
     .ignored = ignored},
    {.name = "torchvision",
     .probe = "features.#.#.layer_scale",
     .renames = torchvision_renames,
     .ignored = ignored},
    {.name = "hugging face backbone",
     .probe = "backbone.encoder.stages.*",
     .renames = hf_backbone_renames,
     .ignored = ignored},
    {.name = "hugging face",
     .prefix = "convnext.",
     .probe = "encoder.stages.*",
     .renames = hf_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"convnext_tiny",
     VT_WINDOW_PAD,
     224,
     224,
     {0.391072f, -0.233620f, -0.063557f, 0.318506f, 1.239969f},
     271,
     3.695091f,
     31.777490f},
    {"convnext_tiny",
     VT_WINDOW_PAD,
     190,
     251,
     {0.656238f, -0.426925f, 0.037148f, 0.318424f, 1.619629f},
     271,
     3.050133f,
     31.642119f},
    {0},
};

const vt_family vt_family_convnext = {
    .name = "convnext",
    .title = "ConvNeXt",
    .source = "https://github.com/facebookresearch/ConvNeXt",
    .license = "MIT",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(convnext_network),
    .bind = convnext_bind,
    .forward = convnext_forward,
    .dialects = dialects,
    .head = "head.fc.weight",
    .golden = golden,
};
