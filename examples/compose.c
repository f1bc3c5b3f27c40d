/* SPDX-License-Identifier: Apache-2.0 */
/* A backbone of one's own from the layer modules: patches of 8, two blocks of window attention with
 * another window each, a head of ten classes. It runs with weights made from a hash; weights of its
 * own would be found under the names that bind declares. */
#include <stdio.h>
#include <stdlib.h>

#include <vertebra/vertebra.h>

enum { BLOCKS = 2, CHANNELS = 64 };

typedef struct block {
    vt_norm norm1, norm2;
    vt_window_attention attn;
    vt_mlp mlp;
} block;

typedef struct tiny_network {
    vt_patch_embed embed;
    block blocks[BLOCKS];
    vt_classifier classifier;
} tiny_network;

static void tiny_bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s,
                      void *network)
{
    (void)variant;
    tiny_network *net = network;
    vt_scope(b, "patch_embed");
    net->embed = vt_patch_embed_bind(b, 3, CHANNELS, 8, 1e-5f);
    vt_scope_end(b);
    for (int i = 0; i < BLOCKS; i++) {
        block *k = &net->blocks[i];
        vt_scope(b, "blocks.%d", i);
        k->norm1 = vt_norm_bind(b, "norm1", CHANNELS, 1e-5f);
        vt_scope(b, "attn");
        k->attn =
            vt_window_attention_bind(b, &(vt_window_attention_settings){.channels = CHANNELS,
                                                                        .heads = 2,
                                                                        .window = i == 0 ? 4 : 8,
                                                                        .shifted = i == 0,
                                                                        .rule = s->window_rule});
        vt_scope_end(b);
        k->norm2 = vt_norm_bind(b, "norm2", CHANNELS, 1e-5f);
        vt_scope(b, "mlp");
        k->mlp = vt_mlp_bind(b, CHANNELS, 4 * CHANNELS, VT_ACT_SILU, VT_NO_WEIGHT);
        vt_scope_end(b);
        vt_scope_end(b);
    }
    net->classifier = vt_classifier_bind(b, &(vt_classifier_settings){.norm = "norm",
                                                                      .head = "head",
                                                                      .channels = CHANNELS,
                                                                      .classes = s->classes,
                                                                      .eps = 1e-5f});
}

static void tiny_forward(vt_builder *b, const void *network)
{
    const tiny_network *net = network;
    vt_value x = vt_patch_embed_forward(b, &net->embed, vt_input(b));
    for (int i = 0; i < BLOCKS; i++) {
        const block *k = &net->blocks[i];
        vt_label(b, "blocks.%d", i);
        vt_value y = vt_op_norm(b, x, &k->norm1);
        x = vt_op_add(b, x, vt_window_attention_forward(b, &k->attn, y));
        y = vt_op_norm(b, x, &k->norm2);
        x = vt_op_add(b, x, vt_mlp_forward(b, &k->mlp, y));
    }
    vt_label(b, "head");
    vt_classifier_forward(b, &net->classifier, x);
}

static const vt_variant tiny_variants[] = {{.name = "two_windows",
                                            .preprocess = {.height = 128,
                                                           .width = 128,
                                                           .crop_pct = 0.9,
                                                           .mean = {0.5f, 0.5f, 0.5f},
                                                           .std = {0.5f, 0.5f, 0.5f}},
                                            .classes = 10,
                                            .checkpoint = "none",
                                            .license = "none"}};

static const vt_family tiny = {.name = "two_windows",
                               .title = "two blocks of window attention",
                               .source = "examples/compose.c",
                               .license = "Apache-2.0",
                               .variants = tiny_variants,
                               .variant_count = 1,
                               .network_size = sizeof(tiny_network),
                               .bind = tiny_bind,
                               .forward = tiny_forward,
                               .head = "head.weight"};

int main(void)
{
    enum { H = 100, W = 147 }; /* any size */
    vt_error error = {0};
    vt_context *context = NULL;
    vt_model *model = NULL;
    vt_session *session = NULL;
    vt_tensor logits;
    float *picture = malloc(3 * H * W * sizeof *picture);
    vt_status status = picture ? vt_context_create(&context, NULL, &error)
                               : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        status = vt_context_register(context, &tiny, &error);
    }
    if (status == VT_OK) {
        status = vt_model_golden(&model, context, "two_windows", 0, NULL, &error);
    }
    if (status == VT_OK) {
        status = vt_session_create(&session, model, NULL, &error);
    }
    if (status == VT_OK) {
        vt_golden_picture(1, H, W, picture);
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, 1, 3, H, W);
        status = vt_session_forward(session, &in, &error);
    }
    if (status == VT_OK) {
        status = vt_session_output(session, "logits", &logits, &error);
    }
    for (int i = 0; status == VT_OK && i < (int)logits.c; i++) {
        printf("%d %f\n", i, (double)((const float *)logits.data)[i]);
    }
    if (status != VT_OK) {
        fprintf(stderr, "%s\n", error.message);
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
    free(picture);
    return status == VT_OK ? 0 : 1;
}
