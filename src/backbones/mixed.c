/* SPDX-License-Identifier: Apache-2.0 */
/* An example of composing: neighborhood attention where the map is large, linear attention with
 * local concentration where it is small. No published checkpoint; docs/compose.md walks through it.
 *
 *   x = LN(conv4x4(image), stride 4)
 *   stages 0, 1:  x += NA(LN(x)), dilation 1 and 2 in turn;        x += mlp(LN(x))
 *   stages 2, 3:  x += LinearAttention(LN(x));  x += LCM(LN(x));   x += mlp(LN(x))
 *   between stages Swin's patch merging; logits = head(mean(LN(x)))
 *
 * Outputs: "C2" ... "C5", "embedding", "logits", "cam". */
#include "backbones/family.h"
#include "backbones/variants.h"
#include "vertebra/layers.h"

enum { STAGES = 4, DEPTH = 2, DIM = 48, HEAD_DIM = 16, WINDOW = 5, KERNEL = 7, FIRST_LINEAR = 2 };

#define EPS   1e-5f
#define FLOOR 100.0f

typedef struct mixed_block {
    vt_norm norm1, norm2, norm3;
    vt_neighborhood_attention near; /* stages 0 and 1 */
    vt_linear_attention_layer linear;
    vt_local_concentration local;
    vt_mlp mlp;
} mixed_block;

typedef struct mixed_network {
    vt_patch_embed embed;
    vt_patch_merge merges[STAGES]; /* before stages 1 ... 3 */
    mixed_block blocks[STAGES][DEPTH];
    vt_classifier classifier;
} mixed_network;

static void bind_mixer(vt_binder *b, int stage, int j, mixed_block *block)
{
    int channels = DIM << stage, heads = channels / HEAD_DIM, dilation = 1 + j % 2;
    vt_scope(b, "attn");
    if (stage < FIRST_LINEAR) {
        block->near = vt_neighborhood_attention_bind(
            b, &(vt_neighborhood_attention_settings){.channels = channels,
                                                     .heads = heads,
                                                     .window_h = WINDOW,
                                                     .window_w = WINDOW,
                                                     .dilation_h = dilation,
                                                     .dilation_w = dilation,
                                                     .position_bias = true});
    } else {
        block->linear = vt_linear_attention_bind(b, channels, heads, FLOOR);
    }
    vt_scope_end(b);
    if (stage >= FIRST_LINEAR) {
        block->norm3 = vt_norm_bind(b, "norm3", channels, EPS);
        vt_scope(b, "local");
        block->local = vt_local_concentration_bind(b, channels, KERNEL, EPS);
        vt_scope_end(b);
    }
}

static void mixed_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                       void *network)
{
    (void)variant;
    mixed_network *net = network;
    vt_scope(b, "patch_embed");
    net->embed = vt_patch_embed_bind(b, 3, DIM, 4, EPS);
    vt_scope_end(b);
    for (int i = 0; i < STAGES; i++) {
        vt_scope(b, "stages.%d", i);
        if (i > 0) {
            vt_scope(b, "merge");
            net->merges[i] = vt_patch_merge_bind(b, DIM << (i - 1), true, EPS);
            vt_scope_end(b);
        }
        for (int j = 0; j < DEPTH; j++) {
            mixed_block *block = &net->blocks[i][j];
            vt_scope(b, "blocks.%d", j);
            block->norm1 = vt_norm_bind(b, "norm1", DIM << i, EPS);
            bind_mixer(b, i, j, block);
            block->norm2 = vt_norm_bind(b, "norm2", DIM << i, EPS);
            vt_scope(b, "mlp");
            block->mlp = vt_mlp_bind(b, DIM << i, 4 * DIM << i, VT_ACT_GELU, VT_NO_WEIGHT);
            vt_scope_end(b);
            vt_scope_end(b);
        }
        vt_scope_end(b);
    }
    net->classifier =
        vt_classifier_bind(b, &(vt_classifier_settings){.norm = "norm",
                                                        .head = "head",
                                                        .channels = DIM << (STAGES - 1),
                                                        .classes = s->classes,
                                                        .eps = EPS});
}

static vt_value forward_block(vt_builder *b, const mixed_block *block, int stage, vt_value x)
{
    vt_value y = vt_op_norm(b, x, &block->norm1);
    if (stage < FIRST_LINEAR) {
        x = vt_op_add(b, x, vt_neighborhood_attention_forward(b, &block->near, y));
    } else {
        x = vt_op_add(b, x, vt_linear_attention_forward(b, &block->linear, y));
        y = vt_op_norm(b, x, &block->norm3);
        x = vt_op_add(b, x, vt_local_concentration_forward(b, &block->local, y));
    }
    y = vt_op_norm(b, x, &block->norm2);
    return vt_op_add(b, x, vt_mlp_forward(b, &block->mlp, y));
}

static void mixed_forward(vt_builder *b, const void *network)
{
    const mixed_network *net = network;
    vt_label(b, "patch_embed");
    vt_value x = vt_patch_embed_forward(b, &net->embed, vt_input(b));
    for (int i = 0; i < STAGES; i++) {
        if (i > 0) {
            vt_label(b, "stages.%d.merge", i);
            x = vt_patch_merge_forward(b, &net->merges[i], x);
        }
        for (int j = 0; j < DEPTH; j++) {
            vt_label(b, "stages.%d.blocks.%d", i, j);
            x = forward_block(b, &net->blocks[i][j], i, x);
        }
        vt_stage_output_name(b, i, x);
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

static const vt_variant variants[] = {{.name = "mixed_neighborhood_linear",
                                       VT_BICUBIC(224, 224, 0.9, VT_CROP_CENTER, VT_IMAGENET),
                                       .classes = 1000,
                                       .checkpoint = "none: an example",
                                       .license = "none"}};

static const vt_rename renames[] = {{.from = "*", .to = "*"}, {0}};
static const vt_dialect dialects[] = {
    {.name = "own", .probe = "stages.#.blocks.*", .renames = renames},
    {0},
};

/* from tools/fixtures/mixed.py, in double precision */
static const vt_golden_case golden[] = {
    {.variant = "mixed_neighborhood_linear",
     .height = 224,
     .width = 224,
     .logits = {0.929275f, 0.578357f, 0.164004f, -0.360795f, -0.125281f},
     .argmax = 838,
     .largest = 1.763124f,
     .l2 = 19.417657f},
    {.variant = "mixed_neighborhood_linear",
     .height = 75,
     .width = 100,
     .logits = {1.050829f, 0.506702f, 0.199928f, -0.800321f, -0.102386f},
     .argmax = 17,
     .largest = 1.876959f,
     .l2 = 19.159728f},
    {0},
};

const vt_family vt_family_mixed = {
    .name = "mixed",
    .title = "An example: neighborhood attention, then linear attention",
    .source = "docs/compose.md",
    .license = "Apache-2.0",
    .variants = variants,
    .variant_count = 1,
    .network_size = sizeof(mixed_network),
    .bind = mixed_bind,
    .forward = mixed_forward,
    .dialects = dialects,
    .head = "head.weight",
    .golden = golden,
};
