/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/multi_axis_attention.h"

#include <math.h>
#include <string.h>

/* ---- the table of positions ------------------------------------------------------------------ */

typedef struct table_size {
    int height, width; /* 2 * window - 1 */
} table_size;

/* 1 + r + ... + r^(terms - 1) */
static double geometric_sum(double r, int terms)
{
    return (1.0 - pow(r, terms)) / (1.0 - r);
}

/* The ratio with which `from` entries on either side of the centre span `to`, to 1e-6; at least
 * 1.01 and at most 1.5. */
static double ratio_between(int from, int to)
{
    double low = 1.01, high = 1.5, r = low;
    while (high - low > 1e-6) {
        r = (low + high) / 2;
        if (geometric_sum(r, from) > to) {
            high = r;
        } else {
            low = r;
        }
    }
    return r;
}

/* Where offset `at` of the new table (0: the centre) lies in an axis of the old one that has `from`
 * entries on either side: a fractional index, within the axis. */
static double old_place(int at, int from, double ratio)
{
    double distance = fabs((double)at), reached = 0.0, step = 1.0;
    int i = 0;
    while (i < from && reached + step < distance) {
        reached += step;
        step *= ratio;
        i++;
    }
    double place = i < from ? i + (distance - reached) / step : from;
    return at < 0 ? from - place : from + place;
}

/* Entry at fractional (y, x), linear on each axis. */
static double sample(const float *table, table_size size, double y, double x)
{
    int y0 = (int)y, x0 = (int)x;
    int y1 = y0 + 1 < size.height ? y0 + 1 : y0, x1 = x0 + 1 < size.width ? x0 + 1 : x0;
    double fy = y - y0, fx = x - x0;
    const float *a = table + (int64_t)y0 * size.width, *b = table + (int64_t)y1 * size.width;
    double above = (double)a[x0] * (1 - fx) + (double)a[x1] * fx;
    double below = (double)b[x0] * (1 - fx) + (double)b[x1] * fx;
    return above * (1 - fy) + below * fy;
}

static void resize_table(const float *from, table_size old, float *out, table_size size)
{
    double ratio_y = ratio_between(old.height / 2, size.height / 2);
    double ratio_x = ratio_between(old.width / 2, size.width / 2);
    for (int y = 0; y < size.height; y++) {
        double old_y = old_place(y - size.height / 2, old.height / 2, ratio_y);
        for (int x = 0; x < size.width; x++) {
            double old_x = old_place(x - size.width / 2, old.width / 2, ratio_x);
            *out++ = (float)sample(from, old, old_y, old_x);
        }
    }
}

/* One row per head, key minus query as in the file. */
static vt_status derive_table(const void *user, const vt_source_array *sources, int count,
                              int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    table_size to = *(const table_size *)user;
    table_size from = {(int)sources[0].shape[1], (int)sources[0].shape[2]};
    if (from.height % 2 == 0 || from.width % 2 == 0) {
        return vt_error_set(error, VT_ERR_MISMATCH,
                            "a bias table of %dx%d positions belongs to no window", from.height,
                            from.width);
    }
    if (from.height == to.height && from.width == to.width) {
        memcpy(out, sources[0].data, (size_t)(rows * cols) * sizeof *out);
        return VT_OK;
    }
    for (int64_t h = 0; h < rows; h++) {
        resize_table(sources[0].data + h * sources[0].cols, from, out + h * cols, to);
    }
    return VT_OK;
}

static vt_weight bind_table(vt_binder *b, const vt_multi_axis_settings *s)
{
    table_size size = {2 * s->window_h - 1, 2 * s->window_w - 1};
    vt_weight table = vt_bind(b, &(vt_weight_desc){.name = "relative_position_bias_table",
                                                   .role = VT_WEIGHT_SOURCE,
                                                   .rank = 3,
                                                   .shape = {s->heads, size.height, size.width},
                                                   .any_size = true});
    return vt_bind_derived(b, &(vt_derived_desc){.name = "position bias",
                                                 .role = VT_WEIGHT_VECTOR,
                                                 .rows = s->heads,
                                                 .cols = (int64_t)size.height * size.width,
                                                 .derive = derive_table,
                                                 .user = &size,
                                                 .user_size = sizeof size,
                                                 .sources = {table},
                                                 .source_count = 1});
}

/* ---- the layer ------------------------------------------------------------------------------- */

static vt_partition_attention bind_partition(vt_binder *b, const vt_multi_axis_settings *s)
{
    vt_partition_attention part;
    part.norm1 = vt_norm_bind(b, "norm1", s->channels, s->eps);
    vt_scope(b, "attn");
    part.attention = vt_self_attention_bind(b, s->channels, s->heads, true, VT_NO_WEIGHT);
    vt_scope(b, "rel_pos");
    part.attention.bias = bind_table(b, s);
    vt_scope_end(b);
    vt_scope_end(b);
    part.norm2 = vt_norm_bind(b, "norm2", s->channels, s->eps);
    vt_scope(b, "mlp");
    part.mlp = vt_mlp_bind(b, s->channels, s->hidden, s->act, VT_NO_WEIGHT);
    vt_scope_end(b);
    return part;
}

vt_multi_axis_attention vt_multi_axis_attention_bind(vt_binder *b, const vt_multi_axis_settings *s)
{
    vt_multi_axis_attention layer = {.window_h = s->window_h, .window_w = s->window_w};
    if (s->window_h < 1 || s->window_w < 1) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "multi_axis_attention: window %dx%d", s->window_h,
                       s->window_w);
        return layer;
    }
    vt_scope(b, "attn_block");
    layer.block = bind_partition(b, s);
    vt_scope_end(b);
    vt_scope(b, "attn_grid");
    layer.grid = bind_partition(b, s);
    vt_scope_end(b);
    return layer;
}

static vt_value forward_partition(vt_builder *b, const vt_partition_attention *part, vt_value x,
                                  const vt_pattern *pattern)
{
    vt_value y = vt_op_norm(b, x, &part->norm1);
    x = vt_op_add(b, x, vt_self_attention_forward(b, &part->attention, y, pattern));
    y = vt_op_norm(b, x, &part->norm2);
    return vt_op_add(b, x, vt_mlp_forward(b, &part->mlp, y));
}

vt_value vt_multi_axis_attention_forward(vt_builder *b, const vt_multi_axis_attention *layer,
                                         vt_value x)
{
    vt_shape s = vt_value_shape(b, x);
    vt_pattern pattern = {
        .kind = VT_PATTERN_WINDOW, .window_h = layer->window_h, .window_w = layer->window_w};
    if (s.h % layer->window_h || s.w % layer->window_w) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "multi_axis_attention: a map of %lldx%lld is not made of windows of %dx%d",
                        (long long)s.h, (long long)s.w, layer->window_h, layer->window_w);
        return VT_NO_VALUE;
    }
    x = forward_partition(b, &layer->block, x, &pattern);
    pattern.kind = VT_PATTERN_GRID;
    return forward_partition(b, &layer->grid, x, &pattern);
}
