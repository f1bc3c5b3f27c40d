/* SPDX-License-Identifier: Apache-2.0 */
#include "model_tiny.h"

#include "model_compare.h"

enum { STAGES = 2, BLOCKS = 2, WIDTH = 8, HEADS = 2, WINDOW = 4 };

#define EPS 1e-5f

typedef struct tiny_block {
    vt_window_attention attn;
    vt_norm norm1, norm2;
    vt_mlp mlp;
} tiny_block;

typedef struct tiny_network {
    bool v2;
    vt_patch_embed embed;
    vt_patch_merge merge;
    tiny_block blocks[STAGES][BLOCKS];
    vt_classifier tail;
} tiny_network;

static void tiny_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                      void *network)
{
    tiny_network *net = network;
    net->v2 = *(const bool *)variant->config;
    vt_scope(b, "patch_embed");
    net->embed = vt_patch_embed_bind(b, 3, WIDTH, 4, EPS);
    vt_scope_end(b);
    for (int i = 0; i < STAGES; i++) {
        vt_scope(b, "layers.%d", i);
        if (i > 0) {
            vt_scope(b, "downsample");
            net->merge = vt_patch_merge_bind(b, WIDTH, !net->v2, EPS);
            vt_scope_end(b);
        }
        for (int j = 0; j < BLOCKS; j++) {
            tiny_block *block = &net->blocks[i][j];
            vt_window_attention_settings attn = {.channels = WIDTH << i,
                                                 .heads = HEADS,
                                                 .window = WINDOW,
                                                 .shifted = j == 1,
                                                 .cosine = net->v2,
                                                 .rule = s->window_rule};
            vt_scope(b, "blocks.%d", j);
            vt_scope(b, "attn");
            block->attn = vt_window_attention_bind(b, &attn);
            vt_scope_end(b);
            block->norm1 = vt_norm_bind(b, "norm1", WIDTH << i, EPS);
            block->norm2 = vt_norm_bind(b, "norm2", WIDTH << i, EPS);
            vt_scope(b, "mlp");
            block->mlp = vt_mlp_bind(b, WIDTH << i, 2 * WIDTH << i, VT_ACT_GELU, VT_NO_WEIGHT);
            vt_scope_end(b);
            vt_scope_end(b);
        }
        vt_scope_end(b);
    }
    net->tail = vt_classifier_bind(b, &(vt_classifier_settings){.norm = "norm",
                                                                .head = "head.fc",
                                                                .channels = WIDTH << (STAGES - 1),
                                                                .classes = s->classes,
                                                                .eps = EPS});
}

static vt_value tiny_block_forward(vt_builder *b, const tiny_block *block, bool v2, vt_value x)
{
    vt_value y = v2 ? x : vt_op_norm(b, x, &block->norm1);
    y = vt_window_attention_forward(b, &block->attn, y);
    x = vt_op_add(b, x, v2 ? vt_op_norm(b, y, &block->norm1) : y);
    y = vt_mlp_forward(b, &block->mlp, v2 ? x : vt_op_norm(b, x, &block->norm2));
    return vt_op_add(b, x, v2 ? vt_op_norm(b, y, &block->norm2) : y);
}

static void tiny_forward(vt_builder *b, const void *network)
{
    const tiny_network *net = network;
    vt_value x = vt_patch_embed_forward(b, &net->embed, vt_input(b));
    for (int i = 0; i < STAGES; i++) {
        x = i > 0 ? vt_patch_merge_forward(b, &net->merge, x) : x;
        for (int j = 0; j < BLOCKS; j++) {
            vt_label(b, "layers.%d.blocks.%d", i, j);
            x = tiny_block_forward(b, &net->blocks[i][j], net->v2, x);
        }
        vt_output(b, i ? "C3" : "C2", x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->tail, x);
}

static const bool is_v2[] = {false, true};

#define PREPROCESS                                                                                 \
    {                                                                                              \
        .height = 32, .width = 32, .crop_pct = 0.9, .mean = {0.5f, 0.5f, 0.5f}, .std = {           \
            0.5f,                                                                                  \
            0.5f,                                                                                  \
            0.5f                                                                                   \
        }                                                                                          \
    }
static const vt_variant variants[] = {
    {.name = "tiny_v1", .config = &is_v2[0], .preprocess = PREPROCESS, .classes = TINY_CLASSES},
    {.name = "tiny_v2", .config = &is_v2[1], .preprocess = PREPROCESS, .classes = TINY_CLASSES},
};

#define SLICE(part) .parts = 3, .to_part = (part), .from_part = -1
static const vt_rename split_renames[] = {
    {.from = "model.*.query.*", .to = "*.qkv.*", SLICE(0)},
    {.from = "model.*.key.*", .to = "*.qkv.*", SLICE(1)},
    {.from = "model.*.value.*", .to = "*.qkv.*", SLICE(2)},
    {.from = "model.layers.#.downsample.*",
     .to = "layers.#.downsample.*",
     .order = VT_ORDER_UNFOLD_2X2},
    {.from = "model.*", .to = "*"},
    {0},
};
static const vt_rename plain_renames[] = {{.from = "*", .to = "*"}, {0}};
static const char *const ignored[] = {"*.relative_position_index", NULL};
static const vt_dialect dialects[] = {
    {.name = "split",
     .probe = "model.patch_embed.*",
     .renames = split_renames,
     .ignored = ignored,
     .window_rule = VT_WINDOW_MM},
    {.name = "plain", .probe = "patch_embed.*", .renames = plain_renames, .ignored = ignored},
    {0},
};

const vt_family tiny_family = {
    .name = "tiny",
    .title = "A network for tests",
    .variants = variants,
    .variant_count = 2,
    .network_size = sizeof(tiny_network),
    .bind = tiny_bind,
    .forward = tiny_forward,
    .dialects = dialects,
    .head = "head.fc.weight",
};

vt_context *tiny_context(const vt_context_settings *settings)
{
    vt_error error = {0};
    vt_context *context = settings ? test_context_with(settings) : test_context("ref");
    expect_status(vt_context_register(context, &tiny_family, &error), VT_OK, &error);
    return context;
}
