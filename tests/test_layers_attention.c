/* SPDX-License-Identifier: Apache-2.0 */
/* Modules that attend, alone, against the formulas of their headers, written out again in double.
 * Neighborhood attention has test_neighborhood.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/formula.h"
#include "support/layer_case.h"
#include "vertebra/layers.h"

enum { HEADS = 3 };

/* ---- attention ------------------------------------------------------------------------------- */

/* Channels [first, first + HEADS * width) of a map; head h begins at first + h * width. */
typedef struct heads {
    map m;
    int first, width;
} heads;

typedef struct place {
    int y, x;
} place;

/* Who sees whom: `term` is added to the score of query i and key j, -INFINITY hides the key. */
typedef struct relation relation;
struct relation {
    double (*term)(const relation *r, int head, const double *q, place i, place j);
    int window_h, window_w;
    int map_h, map_w; /* of the padded map */
    int shift;        /* of shifted windows */
    int block, win;   /* halo: sides of a block of queries and of its window of keys */
    const double *table, *rows, *cols, *hidden, *hidden_bias;
};

/* One head of one query: out = sum_j softmax_j(q . k_j width^-0.5 + term(i, j)) v_j */
static void attend_one(const relation *r, int n, int head, place i, heads q, heads k, heads v,
                       double *out)
{
    const double *query = pixel_of(q.m, n, i.y, i.x) + q.first + head * q.width;
    double total = 0;
    for (int at = 0; at < k.m.h * k.m.w; at++) {
        place j = {at / k.m.w, at % k.m.w};
        const double *key = pixel_of(k.m, n, j.y, j.x) + k.first + head * k.width;
        const double *value = pixel_of(v.m, n, j.y, j.x) + v.first + head * v.width;
        double score = r->term(r, head, query, i, j);
        for (int c = 0; c < q.width; c++) {
            score += query[c] * key[c] / sqrt(q.width);
        }
        total += exp(score);
        for (int c = 0; c < v.width; c++) {
            out[c] += exp(score) * value[c];
        }
    }
    for (int c = 0; c < v.width; c++) {
        out[c] /= total;
    }
}

static map attend(layer_formula *f, int count, heads q, heads k, heads v, const relation *r)
{
    map y = map_new(f, q.m.n, q.m.h, q.m.w, count * v.width);
    for (int i = 0; i < y.n * y.h * y.w * count; i++) {
        int head = i % count, at = i / count;
        place here = {at / y.w % y.h, at % y.w};
        double *out = pixel_of(y, at / y.w / y.h, here.y, here.x) + head * v.width;
        attend_one(r, at / y.w / y.h, head, here, q, k, v, out);
    }
    return y;
}

/* proj(attention(qkv)), all HEADS of a map of q, k, v side by side */
static map attend_self(layer_formula *f, map qkv, const relation *r)
{
    int c = qkv.c / 3, width = c / HEADS;
    map y = attend(f, HEADS, (heads){qkv, 0, width}, (heads){qkv, c, width},
                   (heads){qkv, 2 * c, width}, r);
    return linear(f, y, "proj", c, true);
}

static int round_up(int size, int unit)
{
    return (size + unit - 1) / unit * unit;
}

static double everywhere(const relation *r, int head, const double *q, place i, place j)
{
    (void)r;
    (void)head;
    (void)q;
    (void)i;
    (void)j;
    return 0;
}

static double same_window(const relation *r, int head, const double *q, place i, place j)
{
    (void)head;
    (void)q;
    bool same = i.y / r->window_h == j.y / r->window_h && i.x / r->window_w == j.x / r->window_w;
    return same ? 0 : -INFINITY;
}

/* ---- window_attention: Swin, shifted; Swin V2 ------------------------------------------------ */

enum { WINDOW = 4, SHIFT = WINDOW / 2, TABLE = 2 * WINDOW - 1, CPB_HIDDEN = 512 };

static void bind_window(vt_binder *b, int channels, void *layer, bool shifted, bool cosine)
{
    vt_window_attention_settings s = {.channels = channels,
                                      .heads = HEADS,
                                      .window = WINDOW,
                                      .shifted = shifted,
                                      .cosine = cosine,
                                      .rule = VT_WINDOW_PAD};
    *(vt_window_attention *)layer = vt_window_attention_bind(b, &s);
}

static void bind_window_plain(vt_binder *b, int channels, void *layer)
{
    bind_window(b, channels, layer, false, false);
}

static void bind_window_shifted(vt_binder *b, int channels, void *layer)
{
    bind_window(b, channels, layer, true, false);
}

static void bind_window_cosine(vt_binder *b, int channels, void *layer)
{
    bind_window(b, channels, layer, true, true);
}

static vt_value forward_window(vt_builder *b, const void *layer, vt_value x)
{
    return vt_window_attention_forward(b, layer, x);
}

/* Where a token lies after the roll by -shift. */
static place rolled(const relation *r, place i)
{
    return (place){(i.y + r->map_h - r->shift) % r->map_h, (i.x + r->map_w - r->shift) % r->map_w};
}

/* 0 in one window, -100 beyond the seam that the roll left in it. */
static double shifted_window(const relation *r, place *i, place *j)
{
    *i = rolled(r, *i);
    *j = rolled(r, *j);
    int seam_h = r->map_h - r->shift, seam_w = r->map_w - r->shift;
    bool apart = (i->y >= seam_h) != (j->y >= seam_h) || (i->x >= seam_w) != (j->x >= seam_w);
    return same_window(r, 0, NULL, *i, *j) - (apart ? 100.0 : 0.0);
}

/* The table [(2w-1)^2, heads] of V1, at query minus key */
static double learned_term(const relation *r, int head, const double *q, place i, place j)
{
    (void)q;
    double seen = shifted_window(r, &i, &j);
    int entry = (i.y - j.y + WINDOW - 1) * TABLE + i.x - j.x + WINDOW - 1;
    return seen == -INFINITY ? seen : seen + r->table[entry * HEADS + head];
}

static map formula_window(layer_formula *f, map x, int shift)
{
    int h = round_up(x.h, WINDOW), w = round_up(x.w, WINDOW);
    relation r = {.term = learned_term,
                  .window_h = WINDOW,
                  .window_w = WINDOW,
                  .map_h = h,
                  .map_w = w,
                  .shift = shift,
                  .table =
                      weight(f, (int[4]){TABLE * TABLE, HEADS}, "relative_position_bias_table")};
    map y = attend_self(f, linear(f, cut(f, x, 0, 0, h, w), "qkv", 3 * x.c, true), &r);
    return cut(f, y, 0, 0, x.h, x.w);
}

static map formula_window_plain(layer_formula *f, map x)
{
    return formula_window(f, x, 0);
}

static map formula_window_shifted(layer_formula *f, map x)
{
    return formula_window(f, x, SHIFT);
}

/* sign(u) log2(|u| + 1) / log2(8), u = 8 offset / (window - 1) */
static double log_spaced(int offset)
{
    double u = 8.0 * offset / (WINDOW - 1);
    return copysign(log2(fabs(u) + 1.0) / log2(8.0), u);
}

/* 16 sigmoid(mlp(query minus key)) */
static double continuous_term(const relation *r, int head, const double *q, place i, place j)
{
    (void)q;
    double seen = shifted_window(r, &i, &j), sum = 0;
    if (seen == -INFINITY) {
        return seen;
    }
    double y = log_spaced(i.y - j.y), x = log_spaced(i.x - j.x);
    for (int c = 0; c < CPB_HIDDEN; c++) {
        double hidden = r->hidden[2 * c] * y + r->hidden[2 * c + 1] * x + r->hidden_bias[c];
        sum += r->table[head * CPB_HIDDEN + c] * fmax(hidden, 0.0);
    }
    return seen + 16.0 * activate(VT_ACT_SIGMOID, sum);
}

/* Each head of unit length, times factor[head]. */
static void normalize(heads a, const double *factor)
{
    for (int i = 0; i < a.m.n * a.m.h * a.m.w * HEADS; i++) {
        double *v = a.m.v + i / HEADS * a.m.c + a.first + i % HEADS * a.width, square = 0;
        for (int c = 0; c < a.width; c++) {
            square += v[c] * v[c];
        }
        for (int c = 0; c < a.width; c++) {
            v[c] *= factor[i % HEADS] / fmax(sqrt(square), 1e-12);
        }
    }
}

/* Plain attention once q and k have unit length: q also takes the temperature, and the square root
 * that a plain score divides by. */
static map formula_window_cosine(layer_formula *f, map x)
{
    int h = round_up(x.h, WINDOW), w = round_up(x.w, WINDOW), width = x.c / HEADS;
    relation r = {.term = continuous_term,
                  .window_h = WINDOW,
                  .window_w = WINDOW,
                  .map_h = h,
                  .map_w = w,
                  .shift = SHIFT,
                  .table = weight(f, (int[4]){HEADS, CPB_HIDDEN}, "cpb_mlp.2.weight"),
                  .hidden = weight(f, (int[4]){CPB_HIDDEN, 2}, "cpb_mlp.0.weight"),
                  .hidden_bias = weight(f, (int[4]){CPB_HIDDEN}, "cpb_mlp.0.bias")};
    const double *tau = weight(f, (int[4]){HEADS, 1, 1}, "logit_scale");
    const double *q_bias = weight(f, (int[4]){x.c}, "q_bias");
    const double *v_bias = weight(f, (int[4]){x.c}, "v_bias");
    map qkv = linear(f, cut(f, x, 0, 0, h, w), "qkv", 3 * x.c, false);
    for (int i = 0; i < qkv.n * h * w * x.c; i++) {
        double *row = qkv.v + i / x.c * qkv.c;
        row[i % x.c] += q_bias[i % x.c];
        row[2 * x.c + i % x.c] += v_bias[i % x.c];
    }
    double ones[HEADS], factor[HEADS];
    for (int head = 0; head < HEADS; head++) {
        ones[head] = 1.0;
        factor[head] = exp(fmin(tau[head], log(100.0))) * sqrt(width);
    }
    normalize((heads){qkv, 0, width}, factor);
    normalize((heads){qkv, x.c, width}, ones);
    return cut(f, attend_self(f, qkv, &r), 0, 0, x.h, x.w);
}

/* ---- hilo_attention: one head looks far, two look close -------------------------------------- */

enum { HILO_WINDOW = 2, LOW = 1, HIGH = HEADS - LOW };

static void bind_hilo(vt_binder *b, int channels, void *layer)
{
    vt_hilo_attention_settings s = {channels, HEADS, HILO_WINDOW, 0.6};
    *(vt_hilo_attention *)layer = vt_hilo_attention_bind(b, &s);
}

static vt_value forward_hilo(vt_builder *b, const void *layer, vt_value x)
{
    return vt_hilo_attention_forward(b, layer, x);
}

static map formula_hilo(layer_formula *f, map x)
{
    int d = x.c / HEADS, high = HIGH * d, low = LOW * d;
    map padded = cut(f, x, 0, 0, round_up(x.h, HILO_WINDOW), round_up(x.w, HILO_WINDOW));
    map qkv = linear(f, padded, "h_qkv", 3 * high, true);
    relation close = {.term = same_window, .window_h = HILO_WINDOW, .window_w = HILO_WINDOW};
    relation far = {.term = everywhere};
    map h = attend(f, HIGH, (heads){qkv, 0, d}, (heads){qkv, high, d}, (heads){qkv, 2 * high, d},
                   &close);
    h = linear(f, h, "h_proj", high, true);
    map q = linear(f, x, "l_q", low, true);
    map kv = linear(f, means(f, padded, HILO_WINDOW, HILO_WINDOW), "l_kv", 2 * low, true);
    map l = attend(f, LOW, (heads){q, 0, d}, (heads){kv, 0, d}, (heads){kv, low, d}, &far);
    l = linear(f, l, "l_proj", low, true);
    map y = map_new(f, x.n, x.h, x.w, x.c);
    for (int i = 0; i < x.n * x.h * x.w * x.c; i++) {
        int c = i % x.c, column = i / x.c % x.w, row = i / x.c / x.w % x.h, n = i / x.c / x.w / x.h;
        y.v[i] = c < high ? pixel_of(h, n, row, column)[c] : pixel_of(l, n, row, column)[c - high];
    }
    return y;
}

/* ---- halo_attention: stride 1; 2, which divides the block or does not ------------------------ */

enum { HALO = 2, KEY_WIDTH = 5 };

static void bind_halo(vt_binder *b, int channels, void *layer, int block, int stride)
{
    vt_halo_attention_settings s = {channels, HEADS, KEY_WIDTH, block, HALO, stride};
    *(vt_halo_attention *)layer = vt_halo_attention_bind(b, &s);
}

static void bind_halo_same(vt_binder *b, int channels, void *layer)
{
    bind_halo(b, channels, layer, 3, 1);
}

static void bind_halo_half(vt_binder *b, int channels, void *layer)
{
    bind_halo(b, channels, layer, 4, 2);
}

static void bind_halo_pooled(vt_binder *b, int channels, void *layer)
{
    bind_halo(b, channels, layer, 3, 2);
}

static vt_value forward_halo(vt_builder *b, const void *layer, vt_value x)
{
    return vt_halo_attention_forward(b, layer, x);
}

/* Keys are those of the map with a border of HALO zeros: the window of block b begins at b times
 * the block of keys, `window_h`. */
static double halo_term(const relation *r, int head, const double *q, place i, place j)
{
    (void)head;
    int y = j.y - i.y / r->block * r->window_h, x = j.x - i.x / r->block * r->window_h;
    double sum = 0;
    if (y < 0 || y >= r->win || x < 0 || x >= r->win) {
        return -INFINITY;
    }
    for (int c = 0; c < KEY_WIDTH; c++) {
        sum += q[c] * r->rows[(y - i.y % r->block + r->win - 1) * KEY_WIDTH + c];
        sum += q[c] * r->cols[(x - i.x % r->block + r->win - 1) * KEY_WIDTH + c];
    }
    return sum;
}

/* In the file the rows of kv are those of k and then of v for each head in turn. */
static map formula_halo(layer_formula *f, map x, int block, int stride)
{
    int width = x.c / HEADS, win = block + 2 * HALO, both = KEY_WIDTH + width;
    relation r = {.term = halo_term,
                  .window_h = block,
                  .block = block / stride,
                  .win = win,
                  .rows = weight(f, (int[4]){2 * win - 1, KEY_WIDTH}, "pos_embed.height_rel"),
                  .cols = weight(f, (int[4]){2 * win - 1, KEY_WIDTH}, "pos_embed.width_rel")};
    map q = conv(f, x, "q", (conv_form){HEADS * KEY_WIDTH, .kernel = 1, .stride = stride});
    map wide = cut(f, x, -HALO, -HALO, x.h + 2 * HALO, x.w + 2 * HALO);
    map kv = linear(f, wide, "kv", HEADS * both, false);
    map k = map_new(f, kv.n, kv.h, kv.w, HEADS * KEY_WIDTH);
    map v = map_new(f, kv.n, kv.h, kv.w, x.c);
    for (int i = 0; i < kv.n * kv.h * kv.w * kv.c; i++) {
        int row = i / kv.c, head = i % kv.c / both, c = i % both;
        *(c < KEY_WIDTH ? k.v + row * k.c + head * KEY_WIDTH + c
                        : v.v + row * v.c + head * width + c - KEY_WIDTH) = kv.v[i];
    }
    return attend(f, HEADS, (heads){q, 0, KEY_WIDTH}, (heads){k, 0, KEY_WIDTH},
                  (heads){v, 0, width}, &r);
}

static map formula_halo_same(layer_formula *f, map x)
{
    return formula_halo(f, x, 3, 1);
}

static map formula_halo_half(layer_formula *f, map x)
{
    return formula_halo(f, x, 4, 2);
}

static map formula_halo_pooled(layer_formula *f, map x)
{
    return means(f, formula_halo(f, x, 3, 1), 2, 2);
}

/* ---- multi_axis_attention: windows, then a grid ---------------------------------------------- */

enum { AXIS_H = 3, AXIS_W = 5, AXIS_HIDDEN = 29 };

static void bind_multi_axis(vt_binder *b, int channels, void *layer)
{
    vt_multi_axis_settings s = {.channels = channels,
                                .heads = HEADS,
                                .hidden = AXIS_HIDDEN,
                                .window_h = AXIS_H,
                                .window_w = AXIS_W,
                                .act = VT_ACT_GELU,
                                .eps = 1e-5f};
    *(vt_multi_axis_attention *)layer = vt_multi_axis_attention_bind(b, &s);
}

static vt_value forward_multi_axis(vt_builder *b, const void *layer, vt_value x)
{
    return vt_multi_axis_attention_forward(b, layer, x);
}

/* The table [heads, 2 window_h - 1, 2 window_w - 1], at key minus query */
static double axis_bias(const relation *r, int head, int dy, int dx)
{
    int entry = (head * (2 * AXIS_H - 1) + dy + AXIS_H - 1) * (2 * AXIS_W - 1) + dx + AXIS_W - 1;
    return r->table[entry];
}

static double block_term(const relation *r, int head, const double *q, place i, place j)
{
    double seen = same_window(r, head, q, i, j);
    return seen == -INFINITY ? seen : axis_bias(r, head, j.y - i.y, j.x - i.x);
}

/* The same place of another cell of h / window x w / window */
static double grid_term(const relation *r, int head, const double *q, place i, place j)
{
    (void)q;
    int cell_h = r->map_h / AXIS_H, cell_w = r->map_w / AXIS_W;
    if (i.y % cell_h != j.y % cell_h || i.x % cell_w != j.x % cell_w) {
        return -INFINITY;
    }
    return axis_bias(r, head, j.y / cell_h - i.y / cell_h, j.x / cell_w - i.x / cell_w);
}

/* Both halves of a partition. */
static map partition(layer_formula *f, map x, const char *scope, const char *attention, relation r)
{
    f->scope = scope;
    map y = layer_norm(f, x, "norm1", 1e-5);
    f->scope = attention;
    r.table = weight(f, (int[4]){HEADS, 2 * AXIS_H - 1, 2 * AXIS_W - 1},
                     "rel_pos.relative_position_bias_table");
    x = add(f, x, attend_self(f, linear(f, y, "qkv", 3 * x.c, true), &r));
    f->scope = scope;
    y = linear(f, layer_norm(f, x, "norm2", 1e-5), "mlp.fc1", AXIS_HIDDEN, true);
    return add(f, x, linear(f, apply(f, y, VT_ACT_GELU), "mlp.fc2", x.c, true));
}

static map formula_multi_axis(layer_formula *f, map x)
{
    relation r = {.window_h = AXIS_H, .window_w = AXIS_W, .map_h = x.h, .map_w = x.w};
    r.term = block_term;
    x = partition(f, x, "attn_block.", "attn_block.attn.", r);
    r.term = grid_term;
    return partition(f, x, "attn_grid.", "attn_grid.attn.", r);
}

/* ---- channel_attention: both forms ----------------------------------------------------------- */

static void bind_values_of_q(vt_binder *b, int channels, void *layer)
{
    *(vt_channel_attention_layer *)layer =
        vt_channel_attention_bind(b, channels, HEADS, VT_CHANNEL_VALUES_OF_Q);
}

static void bind_values_of_v(vt_binder *b, int channels, void *layer)
{
    *(vt_channel_attention_layer *)layer =
        vt_channel_attention_bind(b, channels, HEADS, VT_CHANNEL_VALUES_OF_V);
}

static vt_value forward_channel_attention(vt_builder *b, const void *layer, vt_value x)
{
    return vt_channel_attention_forward(b, layer, x);
}

/* out_n[c] = sum_e softmax_e(factor * sum_n left_n[c] right_n[e]) value_n[e] for each head; left,
 * right and value begin at these channels. */
static map mix_channels(layer_formula *f, map qkv, int left, int right, int value, double factor)
{
    map y = map_new(f, qkv.n, qkv.h, qkv.w, qkv.c / 3);
    int pixels = y.h * y.w, width = y.c / HEADS;
    for (int i = 0; i < y.n * y.c; i++) {
        int c = i % y.c, head = c / width * width;
        const double *image = pixel_of(qkv, i / y.c, 0, 0);
        double *out = pixel_of(y, i / y.c, 0, 0) + c, total = 0;
        for (int e = head; e < head + width; e++) {
            double score = 0;
            for (int n = 0; n < pixels; n++) {
                score += factor * image[n * qkv.c + left + c] * image[n * qkv.c + right + e];
            }
            total += exp(score);
            for (int n = 0; n < pixels; n++) {
                out[n * y.c] += exp(score) * image[n * qkv.c + value + e];
            }
        }
        for (int n = 0; n < pixels; n++) {
            out[n * y.c] /= total;
        }
    }
    return y;
}

static map formula_values_of_q(layer_formula *f, map x)
{
    map qkv = linear(f, x, "qkv", 3 * x.c, true);
    map y = mix_channels(f, qkv, x.c, 2 * x.c, 0, pow(x.c / HEADS, -0.5));
    return linear(f, y, "proj", x.c, true);
}

static map formula_values_of_v(layer_formula *f, map x)
{
    map qkv = linear(f, x, "qkv", 3 * x.c, true);
    map y = mix_channels(f, qkv, 0, x.c, 2 * x.c, pow(x.h * x.w, -0.5));
    return linear(f, y, "proj", x.c, true);
}

/* ---- linear_attention: a floor that some tokens reach ---------------------------------------- */

static float floor_of(int channels)
{
    return 8.0f * (float)channels;
}

static void bind_linear_attention(vt_binder *b, int channels, void *layer)
{
    *(vt_linear_attention_layer *)layer =
        vt_linear_attention_bind(b, channels, HEADS, floor_of(channels));
}

static vt_value forward_linear_attention(vt_builder *b, const void *layer, vt_value x)
{
    return vt_linear_attention_forward(b, layer, x);
}

/* o_n = temperature * sum_m (q_n . k_m) v_m / max(sum_m q_n . k_m, floor), q and k after relu */
static map formula_linear_attention(layer_formula *f, map x)
{
    const double *temperature = weight(f, (int[4]){HEADS, 1, 1}, "temperature");
    map qkv = linear(f, x, "qkv", 3 * x.c, true), y = map_new(f, x.n, x.h, x.w, x.c);
    map qk = apply(f, qkv, VT_ACT_RELU);
    int pixels = x.h * x.w, width = x.c / HEADS, floored = 0, queries = x.n * pixels * HEADS;
    for (int i = 0; i < queries; i++) {
        int head = i % HEADS, at = i / HEADS, first = at / pixels * pixels;
        double total = 0, *out = y.v + at * y.c + head * width;
        for (int m = first; m < first + pixels; m++) {
            double seen = 0;
            for (int c = head * width; c < (head + 1) * width; c++) {
                seen += qk.v[at * qk.c + c] * qk.v[m * qk.c + x.c + c];
            }
            total += seen;
            for (int c = 0; c < width; c++) {
                out[c] += seen * qkv.v[m * qkv.c + 2 * x.c + head * width + c];
            }
        }
        for (int c = 0; c < width; c++) {
            out[c] *= temperature[head] / fmax(total, (double)floor_of(x.c));
        }
        floored += total < (double)floor_of(x.c);
    }
    assert_in_range(floored, queries / 8, queries - queries / 8);
    return linear(f, y, "proj", x.c, true);
}

/* ---------------------------------------------------------------------------------------------- */

static layer_case cases[] = {
    {"window_attention", 9, 15, sizeof(vt_window_attention), bind_window_plain, forward_window,
     formula_window_plain, NULL},
    {"window_attention_shifted", 9, 15, sizeof(vt_window_attention), bind_window_shifted,
     forward_window, formula_window_shifted, NULL},
    {"window_attention_cosine", 9, 15, sizeof(vt_window_attention), bind_window_cosine,
     forward_window, formula_window_cosine, NULL},
    {"hilo_attention", 9, 15, sizeof(vt_hilo_attention), bind_hilo, forward_hilo, formula_hilo,
     NULL},
    {"halo_attention", 9, 15, sizeof(vt_halo_attention), bind_halo_same, forward_halo,
     formula_halo_same, NULL},
    {"halo_attention_half", 8, 12, sizeof(vt_halo_attention), bind_halo_half, forward_halo,
     formula_halo_half, NULL},
    {"halo_attention_pooled", 9, 15, sizeof(vt_halo_attention), bind_halo_pooled, forward_halo,
     formula_halo_pooled, NULL},
    {"multi_axis_attention", 9, 15, sizeof(vt_multi_axis_attention), bind_multi_axis,
     forward_multi_axis, formula_multi_axis, NULL},
    {"channel_attention_values_of_q", 9, 15, sizeof(vt_channel_attention_layer), bind_values_of_q,
     forward_channel_attention, formula_values_of_q, NULL},
    {"channel_attention_values_of_v", 9, 15, sizeof(vt_channel_attention_layer), bind_values_of_v,
     forward_channel_attention, formula_values_of_v, NULL},
    {"linear_attention", 9, 15, sizeof(vt_linear_attention_layer), bind_linear_attention,
     forward_linear_attention, formula_linear_attention, NULL},
};
enum { CASES = sizeof cases / sizeof cases[0] };

int main(void)
{
    struct CMUnitTest tests[CASES];
    layer_tests(cases, CASES, tests);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
