/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/window_attention.h"

#include <math.h>
#include <string.h>

/* ---- V1: the learned table ------------------------------------------------------------------- */

/* Cubic convolution weights (a = -0.75) at fraction t, for samples -1, 0, 1, 2. */
static void cubic_weights(double t, double w[4])
{
    const double a = -0.75;
    for (int i = 0; i < 4; i++) {
        double d = fabs(t - (i - 1));
        w[i] = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1
                      : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    }
}

static int clamp_index(int i, int size)
{
    return i < 0 ? 0 : i >= size ? size - 1 : i;
}

typedef struct table_size {
    int height, width; /* 2 * window - 1 */
} table_size;

/* Column `head` of a [size.height * size.width, heads] table at fractional (y, x). */
static double sample_table(const vt_source_array *table, table_size size, int64_t head, double y,
                           double x)
{
    double wy[4], wx[4], sum = 0;
    int y0 = (int)floor(y), x0 = (int)floor(x);
    cubic_weights(y - y0, wy);
    cubic_weights(x - x0, wx);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            int row = clamp_index(y0 + i - 1, size.height) * size.width +
                      clamp_index(x0 + j - 1, size.width);
            sum += wy[i] * wx[j] * (double)table->data[row * table->cols + head];
        }
    }
    return sum;
}

/* [(2w-1)^2, heads], query minus key -> [heads, (2w-1)^2], key minus query: transposed and
 * reversed. A table of another window is resized as the authors' fine-tuning code does: bicubic,
 * half-pixel centres. */
static vt_status derive_table(const void *user, const vt_source_array *sources, int count,
                              int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    table_size to = *(const table_size *)user, from = to;
    const vt_source_array *table = &sources[0];
    bool same = table->rows == cols;
    if (!same) {
        int side = (int)lround(sqrt((double)table->rows));
        if ((int64_t)side * side != table->rows) {
            return vt_error_set(error, VT_ERR_MISMATCH,
                                "a bias table of %lld rows belongs to no square window",
                                (long long)table->rows);
        }
        from = (table_size){side, side};
    }
    for (int64_t h = 0; h < rows; h++) {
        for (int y = 0; y < to.height; y++) {
            for (int x = 0; x < to.width; x++) {
                int64_t i = (int64_t)y * to.width + x;
                double fy = (y + 0.5) * from.height / to.height - 0.5;
                double fx = (x + 0.5) * from.width / to.width - 0.5;
                out[h * cols + cols - 1 - i] =
                    same ? table->data[i * rows + h] : (float)sample_table(table, from, h, fy, fx);
            }
        }
    }
    return VT_OK;
}

/* ---- V2: position bias from a small MLP, keys without bias ----------------------------------- */

enum { CPB_HIDDEN = 512 };

typedef struct cpb_user {
    int window_h, window_w, pretrained;
} cpb_user;

/* sign(u) log2(|u| + 1) / 3 with u = 8 * offset / (reach - 1); a window of 1 has only offset 0 */
static float log_offset(int offset, int reach)
{
    float u = reach > 1 ? 8.0f * (float)offset / (float)(reach - 1) : 0.0f;
    return copysignf(log2f(fabsf(u) + 1.0f) / 3.0f, u);
}

/* sources: W1 [512, 2], b1 [512], W2 [heads, 512] */
static vt_status derive_cpb(const void *user, const vt_source_array *sources, int count,
                            int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    (void)error;
    const cpb_user *p = user;
    const float *w1 = sources[0].data, *b1 = sources[1].data, *w2 = sources[2].data;
    for (int dy = 1 - p->window_h; dy < p->window_h; dy++) {
        for (int dx = 1 - p->window_w; dx < p->window_w; dx++) {
            float y = log_offset(dy, p->pretrained ? p->pretrained : p->window_h);
            float x = log_offset(dx, p->pretrained ? p->pretrained : p->window_w);
            float hidden[CPB_HIDDEN];
            for (int i = 0; i < CPB_HIDDEN; i++) {
                hidden[i] = fmaxf(w1[2 * i] * y + w1[2 * i + 1] * x + b1[i], 0.0f);
            }
            /* the MLP is asked for query minus key, the table is kept as key minus query */
            int64_t place =
                (int64_t)(p->window_h - 1 - dy) * (2 * p->window_w - 1) + (p->window_w - 1 - dx);
            for (int64_t h = 0; h < rows; h++) {
                double sum = 0;
                for (int i = 0; i < CPB_HIDDEN; i++) {
                    sum += (double)w2[h * CPB_HIDDEN + i] * (double)hidden[i];
                }
                out[h * cols + place] = (float)(16.0 / (1.0 + exp(-sum)));
            }
        }
    }
    return VT_OK;
}

/* [q_bias | 0 | v_bias] */
static vt_status derive_qkv_bias(const void *user, const vt_source_array *sources, int count,
                                 int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)user;
    (void)count;
    (void)rows;
    (void)error;
    size_t third = (size_t)(cols / 3);
    memcpy(out, sources[0].data, third * sizeof *out);
    memset(out + third, 0, third * sizeof *out);
    memcpy(out + 2 * third, sources[1].data, third * sizeof *out);
    return VT_OK;
}

/* ---- the layer ------------------------------------------------------------------------------- */

static vt_weight bind_source(vt_binder *b, const char *name, int64_t rows, int64_t cols)
{
    return vt_bind(b, &(vt_weight_desc){.name = name,
                                        .role = VT_WEIGHT_SOURCE,
                                        .rank = cols ? 2 : 1,
                                        .shape = {rows, cols}});
}

static vt_weight bind_learned_table(vt_binder *b, const vt_window_attention *layer, int heads)
{
    table_size size = {2 * layer->window_h - 1, 2 * layer->window_w - 1};
    int64_t entries = (int64_t)size.height * size.width;
    vt_weight table = vt_bind(b, &(vt_weight_desc){.name = "relative_position_bias_table",
                                                   .role = VT_WEIGHT_SOURCE,
                                                   .rank = 2,
                                                   .shape = {entries, heads},
                                                   .any_rows = true});
    return vt_bind_derived(b, &(vt_derived_desc){.name = "position bias",
                                                 .role = VT_WEIGHT_VECTOR,
                                                 .rows = heads,
                                                 .cols = entries,
                                                 .derive = derive_table,
                                                 .user = &size,
                                                 .user_size = sizeof size,
                                                 .sources = {table},
                                                 .source_count = 1});
}

static vt_weight bind_continuous_table(vt_binder *b, const vt_window_attention *layer, int heads,
                                       int pretrained)
{
    cpb_user user = {layer->window_h, layer->window_w, pretrained};
    vt_weight w1 = bind_source(b, "cpb_mlp.0.weight", CPB_HIDDEN, 2);
    vt_weight b1 = bind_source(b, "cpb_mlp.0.bias", CPB_HIDDEN, 0);
    vt_weight w2 = bind_source(b, "cpb_mlp.2.weight", heads, CPB_HIDDEN);
    return vt_bind_derived(b, &(vt_derived_desc){.name = "position bias",
                                                 .role = VT_WEIGHT_VECTOR,
                                                 .rows = heads,
                                                 .cols = (int64_t)(2 * layer->window_h - 1) *
                                                         (2 * layer->window_w - 1),
                                                 .derive = derive_cpb,
                                                 .user = &user,
                                                 .user_size = sizeof user,
                                                 .sources = {w1, b1, w2},
                                                 .source_count = 3});
}

/* V2's qkv map: the file has no bias of the keys. */
static vt_weight bind_qkv_bias(vt_binder *b, int channels)
{
    vt_weight q_bias = bind_source(b, "q_bias", channels, 0);
    vt_weight v_bias = bind_source(b, "v_bias", channels, 0);
    return vt_bind_derived(b, &(vt_derived_desc){.name = "qkv bias",
                                                 .role = VT_WEIGHT_VECTOR,
                                                 .rows = 1,
                                                 .cols = 3 * (int64_t)channels,
                                                 .derive = derive_qkv_bias,
                                                 .sources = {q_bias, v_bias},
                                                 .source_count = 2});
}

/* timm fixes the window per axis when the network is built. */
static void clamp_axis(int map, int *window, int *shift)
{
    if (map <= *window) {
        *window = map;
        *shift = 0;
    }
}

vt_window_attention vt_window_attention_bind(vt_binder *b, const vt_window_attention_settings *s)
{
    vt_window_attention layer = {.rule = s->rule};
    if (s->window < 1) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "window_attention: window %d", s->window);
        return layer;
    }
    layer.window_h = layer.window_w = s->window;
    layer.shift_h = layer.shift_w = s->shifted ? s->window / 2 : 0;
    if (s->rule == VT_WINDOW_TIMM) {
        clamp_axis(s->map_height, &layer.window_h, &layer.shift_h);
        clamp_axis(s->map_width, &layer.window_w, &layer.shift_w);
    }
    vt_self_attention *a = &layer.attention;
    if (s->cosine) {
        *a = vt_self_attention_bind(b, s->channels, s->heads, false, VT_NO_WEIGHT);
        a->qkv.bias = bind_qkv_bias(b, s->channels);
        a->bias = bind_continuous_table(b, &layer, s->heads, s->pretrained_window);
        a->temperature = vt_bind(b, &(vt_weight_desc){.name = "logit_scale",
                                                      .role = VT_WEIGHT_VECTOR,
                                                      .rank = 3,
                                                      .shape = {s->heads, 1, 1}});
    } else {
        *a = vt_self_attention_bind(b, s->channels, s->heads, true, VT_NO_WEIGHT);
        a->bias = bind_learned_table(b, &layer, s->heads);
    }
    return layer;
}

vt_value vt_window_attention_forward(vt_builder *b, const vt_window_attention *layer, vt_value x)
{
    vt_shape s = vt_value_shape(b, x);
    vt_pattern pattern = {.kind = VT_PATTERN_WINDOW,
                          .window_h = layer->window_h,
                          .window_w = layer->window_w,
                          .shift_h = layer->shift_h,
                          .shift_w = layer->shift_w,
                          .roll = layer->rule == VT_WINDOW_TIMM ? VT_ROLL_MAP : VT_ROLL_PADDED};
    if (layer->rule == VT_WINDOW_PAD) { /* one window spans the axis: nothing to exchange */
        pattern.shift_h = s.h <= layer->window_h ? 0 : layer->shift_h;
        pattern.shift_w = s.w <= layer->window_w ? 0 : layer->shift_w;
    }
    return vt_self_attention_forward(b, &layer->attention, x, &pattern);
}
