/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/halo_attention.h"

#include <math.h>
#include <string.h>

typedef struct kv_user {
    int heads, key_dim, value_dim;
} kv_user;

/* Rows by head [k | v] -> all k, then all v. */
static vt_status derive_kv(const void *user, const vt_source_array *sources, int count,
                           int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    (void)rows;
    (void)error;
    const kv_user *u = user;
    const float *from = sources[0].data;
    int64_t key = u->key_dim * cols, value = u->value_dim * cols;
    float *keys = out, *values = out + u->heads * key;
    for (int h = 0; h < u->heads; h++, from += key + value) {
        memcpy(keys + h * key, from, (size_t)key * sizeof *out);
        memcpy(values + h * value, from + key, (size_t)value * sizeof *out);
    }
    return VT_OK;
}

static vt_weight bind_kv(vt_binder *b, const vt_halo_attention *l, int channels)
{
    kv_user user = {l->heads, l->key_dim, l->value_dim};
    int64_t rows = (int64_t)l->heads * (l->key_dim + l->value_dim);
    vt_scope(b, "kv");
    vt_weight weight = vt_bind(
        b, &(vt_weight_desc){
               .name = "weight", .role = VT_WEIGHT_SOURCE, .rank = 2, .shape = {rows, channels}});
    vt_weight ordered = vt_bind_derived(b, &(vt_derived_desc){.name = "keys, values",
                                                              .role = VT_WEIGHT_MATRIX,
                                                              .rows = rows,
                                                              .cols = channels,
                                                              .derive = derive_kv,
                                                              .user = &user,
                                                              .user_size = sizeof user,
                                                              .sources = {weight},
                                                              .source_count = 1});
    vt_scope_end(b);
    return ordered;
}

static vt_weight bind_positions(vt_binder *b, const char *name, const vt_halo_attention *l)
{
    int span = l->block + 2 * l->halo;
    return vt_bind(b, &(vt_weight_desc){.name = name,
                                        .role = VT_WEIGHT_VECTOR,
                                        .rank = 2,
                                        .shape = {2 * span - 1, l->key_dim}});
}

vt_halo_attention vt_halo_attention_bind(vt_binder *b, const vt_halo_attention_settings *s)
{
    vt_halo_attention layer = {
        .heads = s->heads, .block = s->block, .halo = s->halo, .stride = s->stride};
    if (s->heads < 1 || s->channels < 1 || s->channels % s->heads || s->block < 1 || s->halo < 0 ||
        s->stride < 1 || s->stride > 2) {
        vt_binder_fail(b, VT_ERR_ARGUMENT,
                       "halo_attention: %d channels, %d heads, block %d, halo %d, stride %d",
                       s->channels, s->heads, s->block, s->halo, s->stride);
        return layer;
    }
    layer.value_dim = s->channels / s->heads;
    layer.key_dim = s->key_dim ? s->key_dim : layer.value_dim;
    layer.pooled = s->block % s->stride != 0;
    layer.q = vt_conv_bind(b, "q",
                           &(vt_conv_settings){.in = s->channels,
                                               .out = s->heads * layer.key_dim,
                                               .stride = layer.pooled ? 1 : s->stride});
    layer.kv = bind_kv(b, &layer, s->channels);
    vt_scope(b, "pos_embed");
    layer.height_rel = bind_positions(b, "height_rel", &layer);
    layer.width_rel = bind_positions(b, "width_rel", &layer);
    vt_scope_end(b);
    return layer;
}

vt_value vt_halo_attention_forward(vt_builder *b, const vt_halo_attention *l, vt_value x)
{
    int stride = l->pooled ? 1 : l->stride, keys = l->heads * l->key_dim;
    vt_value q = vt_conv_forward(b, &l->q, x, VT_ACT_NONE);
    vt_value kv = vt_op_linear(b, x, &(vt_linear){.weight = l->kv});
    vt_attention attention = {.heads = l->heads,
                              .q = {q, 0, l->key_dim},
                              .k = {kv, 0, l->key_dim},
                              .v = {kv, keys, l->value_dim},
                              .scale = 1.0f / sqrtf((float)l->key_dim),
                              .rows = l->height_rel,
                              .cols = l->width_rel,
                              .pattern = {.kind = VT_PATTERN_HALO,
                                          .window_h = l->block,
                                          .window_w = l->block,
                                          .stride_h = stride,
                                          .stride_w = stride,
                                          .halo_h = l->halo,
                                          .halo_w = l->halo}};
    vt_value y = vt_op_attention(b, &attention);
    return l->pooled ? vt_op_pool(b, y, &(vt_pooling){.kernel = 2, .stride = 2}) : y;
}
