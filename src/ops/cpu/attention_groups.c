/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/cpu/attention_groups.h"

vt_axis_groups vt_axis_groups_of(vt_axis axis, int64_t tile)
{
    vt_axis_groups g = {
        .axis = axis, .groups = 1, .most_queries = axis.queries, .most_keys = axis.span};
    switch (axis.kind) {
    case VT_PATTERN_WINDOW:
    case VT_PATTERN_GRID:
        g.groups = axis.padded / axis.window;
        g.most_queries = axis.window;
        break;
    case VT_PATTERN_NEIGHBORHOOD: {
        int64_t longest = vt_div_up(axis.queries, axis.dilation);
        g.tiles = vt_div_up(longest, tile);
        g.most_queries = vt_div_up(longest, g.tiles);
        g.groups = g.tiles * (axis.dilation < axis.queries ? axis.dilation : axis.queries);
        g.most_keys += g.most_queries + axis.stride - 2;
        break;
    }
    case VT_PATTERN_HALO:
        g.groups = axis.keys / axis.window;
        g.most_queries = axis.window / axis.stride;
        break;
    case VT_PATTERN_GLOBAL: break;
    }
    return g;
}

/* Map coordinate of query number i of a group, or -1. */
static int64_t query_at(const vt_axis_groups *g, int64_t group, int64_t i)
{
    const vt_axis *a = &g->axis;
    switch (a->kind) {
    case VT_PATTERN_WINDOW:
    case VT_PATTERN_GRID: return vt_axis_source(a, group * a->window + i);
    case VT_PATTERN_NEIGHBORHOOD: {
        int64_t place = group % g->tiles * g->most_queries + i;
        int64_t source = group / g->tiles + place * a->dilation;
        return source < a->queries ? source : -1;
    }
    case VT_PATTERN_HALO:
    case VT_PATTERN_GLOBAL: break;
    }
    return group * g->most_queries + i;
}

static void fill_group(const vt_axis_groups *g, int64_t index, vt_axis_group *out)
{
    const vt_axis *a = &g->axis;
    int64_t first = 0;
    out->queries = out->keys = 0;
    for (int64_t i = 0; i < g->most_queries; i++) {
        int64_t source = query_at(g, index, i);
        if (source < 0) {
            continue;
        }
        int64_t own = a->kind == VT_PATTERN_NEIGHBORHOOD ? vt_axis_first(a, source) : 0;
        first = out->queries == 0 ? own : first;
        out->query[out->queries++] =
            (vt_group_query){.source = source,
                             .from = (int32_t)(own - first),
                             .offset = vt_axis_key_of(a, source, 0).offset};
        for (int64_t k = out->keys - (own - first); k < a->span; k++) {
            out->key[out->keys++] =
                (vt_group_key){.source = vt_axis_key_of(a, source, (int)k).source};
        }
    }
}

/* WINDOW: what the mask goes by. */
static void fill_regions(const vt_axis *a, int64_t index, vt_axis_group *out)
{
    for (int64_t i = 0; i < out->queries; i++) {
        out->query[i].region = vt_axis_region(a, vt_axis_place(a, out->query[i].source));
    }
    for (int64_t j = 0; j < out->keys; j++) {
        out->key[j].region = vt_axis_region(a, index * a->window + j);
        out->mixed = out->mixed || out->key[j].region != out->key[0].region;
    }
}

static bool same_shape(const vt_axis_group *a, const vt_axis_group *b)
{
    bool same = a->queries == b->queries && a->keys == b->keys;
    for (int64_t i = 0; same && i < a->queries; i++) {
        same = a->query[i].from == b->query[i].from && a->query[i].offset == b->query[i].offset;
    }
    return same;
}

int64_t vt_axis_groups_fill(const vt_axis_groups *g, vt_axis_group *out)
{
    int64_t shapes = 0;
    for (int64_t i = 0; i < g->groups; i++) {
        out[i].mixed = false;
        fill_group(g, i, &out[i]);
        if (g->axis.kind == VT_PATTERN_WINDOW && g->axis.shift > 0) {
            fill_regions(&g->axis, i, &out[i]);
        }
        out[i].shape = -1;
        for (int64_t j = 0; out[i].shape < 0 && j < i; j++) {
            out[i].shape = same_shape(&out[i], &out[j]) ? out[j].shape : -1;
        }
        out[i].shape = out[i].shape < 0 ? shapes++ : out[i].shape;
    }
    return shapes;
}
