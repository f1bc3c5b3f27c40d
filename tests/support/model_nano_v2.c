/* SPDX-License-Identifier: Apache-2.0 */
/* Written with the public headers only. */
#include "model_nano_v2.h"

#include "vertebra/layers.h"

enum { STAGES = 4, BLOCKS = 2, WIDTH = 48, CLASSES = 1000 };

#define EPS 1e-5f

typedef struct nano_block {
    vt_window_attention attn;
    vt_norm norm1, norm2;
    vt_mlp mlp;
} nano_block;

typedef struct nano_network {
    vt_patch_embed embed;
    vt_patch_merge merge[STAGES];
    nano_block blocks[STAGES][BLOCKS];
    vt_classifier tail;
} nano_network;

static const int heads[STAGES] = {3, 6, 12, 24}, windows[STAGES] = {8, 8, 8, 4};
static const int pretrained[STAGES] = {6, 6, 6, 3};

static void nano_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                      void *network)
{
    nano_network *net = network;
    (void)variant;
    vt_scope(b, "patch_embed");
    net->embed = vt_patch_embed_bind(b, 3, WIDTH, 4, EPS);
    vt_scope_end(b);
    for (int i = 0; i < STAGES; i++) {
        int channels = WIDTH << i;
        vt_scope(b, "layers.%d", i);
        if (i > 0) {
            vt_scope(b, "downsample");
            net->merge[i] = vt_patch_merge_bind(b, channels / 2, false, EPS);
            vt_scope_end(b);
        }
        for (int j = 0; j < BLOCKS; j++) {
            nano_block *block = &net->blocks[i][j];
            vt_scope(b, "blocks.%d", j);
            vt_scope(b, "attn");
            block->attn = vt_window_attention_bind(
                b, &(vt_window_attention_settings){.channels = channels, .heads = heads[i],
                                                   .window = windows[i], .shifted = j == 1,
                                                   .cosine = true,
                                                   .pretrained_window = pretrained[i],
                                                   .rule = s->window_rule,
                                                   .map_height = s->image_height / 4 >> i,
                                                   .map_width = s->image_width / 4 >> i});
            vt_scope_end(b);
            block->norm1 = vt_norm_bind(b, "norm1", channels, EPS);
            vt_scope(b, "mlp");
            block->mlp = vt_mlp_bind(b, channels, 4 * channels, VT_ACT_GELU, VT_NO_WEIGHT);
            vt_scope_end(b);
            block->norm2 = vt_norm_bind(b, "norm2", channels, EPS);
            vt_scope_end(b);
        }
        vt_scope_end(b);
    }
    net->tail = vt_classifier_bind(b, &(vt_classifier_settings){.norm = "norm",
                                                                .head = "head.fc",
                                                                .channels = WIDTH << 3,
                                                                .classes = s->classes,
                                                                .eps = EPS});
}

static void nano_forward(vt_builder *b, const void *network)
{
    static const char *const names[STAGES] = {"C2", "C3", "C4", "C5"};
    const nano_network *net = network;
    vt_value x = vt_patch_embed_forward(b, &net->embed, vt_input(b));
    for (int i = 0; i < STAGES; i++) {
        vt_label(b, "stage %d", i);
        x = i > 0 ? vt_patch_merge_forward(b, &net->merge[i], x) : x;
        for (int j = 0; j < BLOCKS; j++) {
            const nano_block *block = &net->blocks[i][j];
            vt_value y = vt_window_attention_forward(b, &block->attn, x);
            x = vt_op_add(b, x, vt_op_norm(b, y, &block->norm1));
            y = vt_mlp_forward(b, &block->mlp, x);
            x = vt_op_add(b, x, vt_op_norm(b, y, &block->norm2));
        }
        vt_output(b, names[i], x);
    }
    vt_classifier_forward(b, &net->tail, x);
}

static const vt_variant nano_variants[] = {
    {.name = "swinv2_nano_window8_128",
     .preprocess = {.height = 128, .width = 128, .crop_pct = 0.9, .mean = {0.5f, 0.5f, 0.5f},
                    .std = {0.5f, 0.5f, 0.5f}},
     .classes = CLASSES,
     .license = "none"},
};

const vt_family nano_v2_family = {
    .name = "swinv2_nano",
    .title = "A small Swin V2",
    .variants = nano_variants,
    .variant_count = 1,
    .network_size = sizeof(nano_network),
    .bind = nano_bind,
    .forward = nano_forward,
    .head = "head.fc.weight",
};
