/* SPDX-License-Identifier: Apache-2.0 */
/* HaloNet (arXiv 2103.12731): the networks that timm trained, and its definition of the paper's H1.
 * Residual networks where halo attention stands in the place of some 3x3 convolutions.
 *
 *   x = stem(image)                                             H/4 x W/4 (haloregnetz_b: H/2)
 *   block:  y = act(BN(conv1x1(x)))
 *           B: y = gate(act(BN(conv3x3(y))))    A: y = act(BN(halo_attention(y)))
 *           x = act(shortcut(x) + BN(conv1x1(y)))
 *   logits = head(mean(x)), two networks with act(BN(conv1x1(x))) before the mean
 *
 * The first block of a stage may halve the size: in its 3x3 convolution, or in its queries.
 *
 * Outputs: "C2" ... "C5" after stages 0 ... 3 (stride 4 ... 32), "embedding", "logits", "cam". */
#include <math.h>

#include "backbones/family.h"
#include "backbones/sizes.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, MAX_DEPTH = 12, MAX_STEM = 3, STRIDE = 32 };

#define EPS 1e-5f

typedef enum halo_gate { GATE_NONE, GATE_SE, GATE_ECA } halo_gate;

typedef struct halo_config {
    int stem[MAX_STEM]; /* channels of the stem's convolutions; 0: no more */
    int stem_kernel, stem_last_stride;
    bool single_stem; /* the stem is one convolution, without a number in its name */
    bool pool;        /* a max pool of stride 2 behind the stem */

    const char *blocks[STAGES]; /* a letter per block: B, convolution; A, attention */
    int channels[STAGES];
    int mid[STAGES];  /* channels inside a block; 0: three times its input's */
    int first_stride; /* of the first block of stage 0; the other stages': 2 */
    int group_width;  /* channels of a group of the 3x3 convolutions; 0: no groups */
    halo_gate gate;   /* of B blocks */
    int gate_divisor; /* squeeze and excite: `mid` over its hidden channels */
    vt_activation act;
    bool linear_out; /* no activation after the sum, no shortcut where the shape changes */

    int heads[STAGES];
    int key_dim;     /* channels of a head's keys; 0: mid * key_percent over the heads */
    int key_percent; /* rounded to a multiple of 8; 0: 100 */
    int block, halo;
    int first_attention; /* stride of the map that the first attention reads */

    int last; /* channels of a convolution before the mean; 0: there is none */
} halo_config;

typedef struct halo_block {
    vt_conv_layer conv1, conv2, conv3, shortcut;
    vt_squeeze_excite gate;
    vt_halo_attention attention;
    vt_affine post; /* the norm after attention */
    vt_affine out;  /* the activation after the sum */
    bool attends, has_gate, projects, adds;
} halo_block;

typedef struct halo_network {
    const halo_config *config;
    vt_conv_layer stem[MAX_STEM], last;
    halo_block stages[STAGES][MAX_DEPTH];
    vt_classifier classifier;
} halo_network;

/* The multiple of 8 nearest to a / b, at least 8. */
static int multiple_of_8(int a, int b)
{
    int out = (a + 4 * b) / (8 * b) * 8;
    return out > 8 ? out : 8;
}

/* ---- binding --------------------------------------------------------------------------------- */

/* Convolution `name`.conv without bias, and its norm `name`.bn. */
static vt_conv_layer bind_conv_norm(vt_binder *b, const char *name, vt_conv_settings settings)
{
    vt_scope(b, "%s", name);
    vt_batch_norm norm = vt_batch_norm_bind(b, "bn", settings.out, EPS);
    settings.after = &norm;
    settings.pad = settings.kernel / 2;
    vt_conv_layer conv = vt_conv_bind(b, "conv", &settings);
    vt_scope_end(b);
    return conv;
}

static void bind_stem(vt_binder *b, halo_network *net)
{
    const halo_config *c = net->config;
    for (int i = 0, in = 3; i < MAX_STEM && c->stem[i]; in = c->stem[i++]) {
        bool last = i > 0 && (i + 1 == MAX_STEM || !c->stem[i + 1]);
        vt_conv_settings conv = {.in = in,
                                 .out = c->stem[i],
                                 .kernel = c->stem_kernel,
                                 .stride = i == 0 ? 2
                                           : last ? c->stem_last_stride
                                                  : 1};
        if (c->single_stem) {
            net->stem[i] = bind_conv_norm(b, "stem", conv);
        } else {
            char name[] = {'c', 'o', 'n', 'v', (char)('1' + i), '\0'};
            vt_scope(b, "stem");
            net->stem[i] = bind_conv_norm(b, name, conv);
            vt_scope_end(b);
        }
    }
}

static vt_squeeze_excite bind_gate(vt_binder *b, const halo_config *c, int mid)
{
    vt_scope(b, "attn");
    vt_squeeze_excite gate;
    if (c->gate == GATE_SE) {
        gate = vt_squeeze_excite_bind(
            b, &(vt_squeeze_excite_settings){.channels = mid,
                                             .hidden = multiple_of_8(mid, c->gate_divisor),
                                             .act = VT_ACT_RELU,
                                             .gate = VT_ACT_SIGMOID});
    } else {
        int kernel = (int)((log2((double)mid) + 1) / 2) | 1; /* made odd */
        gate = vt_channel_conv_gate_bind(b, mid, kernel, VT_ACT_SIGMOID);
    }
    vt_scope_end(b);
    return gate;
}

static void bind_attention(vt_binder *b, const halo_config *c, int stage, int mid, int stride,
                           halo_block *block)
{
    int heads = c->heads[stage];
    int keys = c->key_percent ? multiple_of_8(mid * c->key_percent, 100) : mid;
    vt_scope(b, "self_attn");
    block->attention = vt_halo_attention_bind(
        b, &(vt_halo_attention_settings){.channels = mid,
                                         .heads = heads,
                                         .key_dim = c->key_dim ? c->key_dim : keys / heads,
                                         .block = c->block,
                                         .halo = c->halo,
                                         .stride = stride});
    vt_scope_end(b);
    vt_batch_norm norm = vt_batch_norm_bind(b, "post_attn", mid, EPS);
    block->post = vt_batch_norm_affine(b, &norm, mid);
}

static halo_block bind_block(vt_binder *b, const halo_config *c, int stage, int in, int stride,
                             bool attends)
{
    int out = c->channels[stage], mid = c->mid[stage] ? c->mid[stage] : 3 * in;
    bool same = in == out && stride == 1;
    halo_block block = {.attends = attends,
                        .has_gate = c->gate != GATE_NONE && !attends,
                        .projects = !same && !c->linear_out,
                        .adds = same || !c->linear_out};
    block.conv1 = bind_conv_norm(b, "conv1_1x1", (vt_conv_settings){.in = in, .out = mid});
    if (attends) {
        bind_attention(b, c, stage, mid, stride, &block);
    } else {
        block.conv2 =
            bind_conv_norm(b, "conv2_kxk",
                           (vt_conv_settings){.in = mid,
                                              .out = mid,
                                              .kernel = 3,
                                              .stride = stride,
                                              .groups = c->group_width ? mid / c->group_width : 1});
    }
    if (block.has_gate) {
        block.gate = bind_gate(b, c, mid);
    }
    block.conv3 = bind_conv_norm(b, "conv3_1x1", (vt_conv_settings){.in = mid, .out = out});
    if (block.projects) {
        block.shortcut = bind_conv_norm(b, "shortcut",
                                        (vt_conv_settings){.in = in, .out = out, .stride = stride});
    }
    if (!c->linear_out) {
        block.out = vt_identity_affine(b, out);
    }
    return block;
}

static void halo_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                      void *network)
{
    halo_network *net = network;
    const halo_config *c = net->config = variant->config;
    bind_stem(b, net);
    int width = 0;
    for (int i = 0; i < MAX_STEM && c->stem[i]; i++) {
        width = c->stem[i];
    }
    for (int i = 0; i < STAGES; i++) {
        for (int j = 0; c->blocks[i][j]; j++) {
            int stride = j > 0 ? 1 : i == 0 ? c->first_stride : 2;
            vt_scope(b, "stages.%d.%d", i, j);
            net->stages[i][j] = bind_block(b, c, i, width, stride, c->blocks[i][j] == 'A');
            vt_scope_end(b);
            width = c->channels[i];
        }
    }
    if (c->last) {
        net->last =
            bind_conv_norm(b, "final_conv", (vt_conv_settings){.in = width, .out = c->last});
        width = c->last;
    }
    net->classifier = vt_classifier_bind(
        b, &(vt_classifier_settings){.head = "head.fc", .channels = width, .classes = s->classes});
}

/* ---- forward --------------------------------------------------------------------------------- */

static vt_value forward_block(vt_builder *b, const halo_block *l, vt_activation act, vt_value x)
{
    vt_value kept = l->projects ? vt_conv_forward(b, &l->shortcut, x, VT_ACT_NONE) : x;
    vt_value y = vt_conv_forward(b, &l->conv1, x, act);
    if (l->attends) {
        y = vt_affine_forward(b, &l->post, vt_halo_attention_forward(b, &l->attention, y), act);
    } else {
        y = vt_conv_forward(b, &l->conv2, y, act);
    }
    if (l->has_gate) {
        y = vt_squeeze_excite_forward(b, &l->gate, y);
    }
    y = vt_conv_forward(b, &l->conv3, y, VT_ACT_NONE);
    if (l->adds) {
        y = vt_op_add(b, kept, y);
    }
    return l->out.scale.id ? vt_affine_forward(b, &l->out, y, act) : y;
}

static void halo_forward(vt_builder *b, const void *network)
{
    const halo_network *net = network;
    const halo_config *c = net->config;
    /* blocks divide the smallest map, and with it all that attention reads */
    int blocks = c->block * STRIDE / c->first_attention;
    if (!vt_sizes_fit(b, c->first_attention, blocks, blocks, "")) {
        return;
    }
    vt_label(b, "stem");
    vt_value x = vt_input(b);
    for (int i = 0; i < MAX_STEM && c->stem[i]; i++) {
        x = vt_conv_forward(b, &net->stem[i], x, c->act);
    }
    if (c->pool) {
        vt_pooling pool = {.kind = VT_POOL_MAX,
                           .kernel = 3,
                           .stride = 2,
                           .pad_top = 1,
                           .pad_left = 1,
                           .pad_bottom = 1,
                           .pad_right = 1};
        x = vt_op_pool(b, x, &pool);
    }
    for (int i = 0; i < STAGES; i++) {
        for (int j = 0; c->blocks[i][j]; j++) {
            vt_label(b, "stages.%d.%d", i, j);
            x = forward_block(b, &net->stages[i][j], c->act, x);
        }
        vt_stage_output_name(b, i, x);
    }
    if (c->last) {
        vt_label(b, "final_conv");
        x = vt_conv_forward(b, &net->last, x, c->act);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

/* ---- variants: names as in timm -------------------------------------------------------------- */

/* clang-format off */
#define TIERED {24, 32, 64}
#define ALL(n) {n, n, n, n}
static const halo_config halonet26t = {
    .stem = TIERED, .stem_kernel = 3, .pool = true, .stem_last_stride = 1,
    .blocks = {"BB", "BB", "BA", "AA"}, .channels = {256, 512, 1024, 2048},
    .mid = {64, 128, 256, 512}, .heads = ALL(8), .block = 8, .halo = 2,
    .first_stride = 1, .act = VT_ACT_RELU, .first_attention = 16};
static const halo_config sehalonet33ts = {
    .stem = TIERED, .stem_kernel = 3, .stem_last_stride = 2,
    .blocks = {"BB", "BBA", "BBA", "AA"}, .channels = {256, 512, 1024, 1536},
    .mid = {64, 128, 256, 512}, .heads = ALL(8), .block = 8, .halo = 3,
    .first_stride = 1, .gate = GATE_SE, .gate_divisor = 16, .act = VT_ACT_SILU, .last = 1280,
    .first_attention = 8};
static const halo_config halonet50ts = {
    .stem = TIERED, .stem_kernel = 3, .pool = true, .stem_last_stride = 1,
    .blocks = {"BBB", "BBBA", "BABABA", "BAB"}, .channels = {256, 512, 1024, 2048},
    .mid = {64, 128, 256, 512}, .heads = {8, 4, 8, 8}, .block = 8, .halo = 3,
    .first_stride = 1, .act = VT_ACT_SILU, .first_attention = 8};
static const halo_config eca_halonext26ts = {
    .stem = TIERED, .stem_kernel = 3, .pool = true, .stem_last_stride = 1,
    .blocks = {"BB", "BB", "BA", "AA"}, .channels = {256, 512, 1024, 2048},
    .mid = {64, 128, 256, 512}, .heads = ALL(8), .key_dim = 16, .block = 8, .halo = 2,
    .first_stride = 1, .group_width = 16, .gate = GATE_ECA, .act = VT_ACT_SILU,
    .first_attention = 16};
static const halo_config haloregnetz_b = {
    .stem = {32}, .stem_kernel = 3, .single_stem = true,
    .blocks = {"BB", "BBBBBB", "BBBABBBABBBA", "AA"}, .channels = {48, 96, 192, 288},
    .heads = ALL(8), .key_percent = 33, .block = 7, .halo = 2,
    .first_stride = 2, .group_width = 16, .gate = GATE_SE, .gate_divisor = 4, .act = VT_ACT_SILU,
    .linear_out = true, .last = 1536, .first_attention = 16};
static const halo_config halonet_h1 = {
    .stem = {64}, .stem_kernel = 7, .pool = true,
    .blocks = {"AAA", "AAA", "AAAAAAAAAA", "AAA"}, .channels = {64, 128, 256, 512},
    .mid = {64, 128, 256, 512}, .heads = ALL(8), .block = 8, .halo = 3,
    .first_stride = 1, .act = VT_ACT_RELU, .first_attention = 4};

#define HUB(name) "https://huggingface.co/timm/" name
#define VARIANT(id, size, pct, where, ...)                                                         \
    {.name = #id, .config = &id, VT_BICUBIC(size, size, pct, VT_CROP_CENTER, __VA_ARGS__),         \
     .classes = 1000, .checkpoint = where, .license = "Apache-2.0"}
static const vt_variant variants[] = {
    VARIANT(halonet26t, 256, 0.95, HUB("halonet26t.a1h_in1k"), VT_IMAGENET),
    VARIANT(sehalonet33ts, 256, 0.94, HUB("sehalonet33ts.ra2_in1k"), VT_IMAGENET),
    VARIANT(halonet50ts, 256, 0.94, HUB("halonet50ts.a1h_in1k"), VT_IMAGENET),
    VARIANT(eca_halonext26ts, 256, 0.94, HUB("eca_halonext26ts.c1_in1k"), VT_IMAGENET),
    VARIANT(haloregnetz_b, 224, 0.94, HUB("haloregnetz_b.ra3_in1k"), VT_FROM_MINUS_1_TO_1),
    VARIANT(halonet_h1, 256, 0.95, "none: a definition that nobody trained", VT_IMAGENET),
};
/* clang-format on */

/* ---- published namings: timm's, the only one ------------------------------------------------- */

static const vt_rename timm_renames[] = {{.from = "*", .to = "*"}, {0}};
static const char *const ignored[] = {"*num_batches_tracked", NULL};
static const vt_dialect dialects[] = {
    {.name = "timm",
     .probe = "stages.3.1.self_attn.kv.weight",
     .renames = timm_renames,
     .ignored = ignored},
    {0},
};

/* ---- golden values: computed in fp64 from the published code --------------------------------- */

static const vt_golden_case golden[] = {
    {"halonet26t",
     VT_WINDOW_PAD,
     256,
     256,
     {0.287801f, 0.375013f, 0.102368f, 0.483503f, 0.100871f},
     66,
     0.826098f,
     8.596948f},
    {"halonet26t",
     VT_WINDOW_PAD,
     256,
     512,
     {0.294934f, 0.384191f, 0.088647f, 0.514454f, 0.113184f},
     662,
     0.843504f,
     8.862683f},
    {0},
};

const vt_family vt_family_halonet = {
    .name = "halonet",
    .title = "HaloNet: blocked local self-attention with halo",
    .source = "https://github.com/huggingface/pytorch-image-models",
    .license = "Apache-2.0",
    .variants = variants,
    .variant_count = sizeof variants / sizeof variants[0],
    .network_size = sizeof(halo_network),
    .bind = halo_bind,
    .forward = halo_forward,
    .dialects = dialects,
    .head = "head.fc.weight",
    .golden = golden,
};
