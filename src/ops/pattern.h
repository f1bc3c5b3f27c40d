/* SPDX-License-Identifier: Apache-2.0 */
/* The index rule of an attention pattern on one axis: which keys a query meets, where they stand
 * relative to it, and which were no neighbours of it. vertebra/ops.h has the rules in words. */
#ifndef VT_OPS_PATTERN_H
#define VT_OPS_PATTERN_H

#include "core/checked.h"
#include "vertebra/ops.h"

#define VT_MASK_VALUE (-100.0f)

/* GPU code uses the same rules. */
#ifdef __CUDACC__
#define VT_RULE static __host__ __device__ inline
#else
#define VT_RULE static inline
#endif

/* One axis of a pattern. WINDOW and GRID put the tokens of the padded map in another order, so that
 * windows are runs of it: a token's index there is its place. */
typedef struct vt_axis {
    vt_pattern_kind kind;
    int64_t queries, keys; /* sizes of the maps */
    int64_t padded;        /* keys with the padding */
    int span;              /* keys that each query meets */
    int window, shift, dilation, stride, halo;
    vt_roll roll;
} vt_axis;

/* Fills in what follows from the rule and the sizes; 0 counts as 1 where the rule says so. */
static inline vt_axis vt_axis_complete(vt_axis a)
{
    a.dilation = a.dilation > 1 ? a.dilation : 1;
    a.stride = a.stride > 1 ? a.stride : 1;
    a.padded = a.keys;
    a.span = a.window;
    switch (a.kind) {
    case VT_PATTERN_WINDOW:
    case VT_PATTERN_GRID: a.padded = vt_div_up(a.keys, a.window) * a.window; break;
    case VT_PATTERN_NEIGHBORHOOD:
        a.padded = (int64_t)a.window * a.dilation;
        a.padded = a.keys > a.padded ? a.keys : a.padded;
        break;
    case VT_PATTERN_HALO: a.span = a.window + 2 * a.halo; break;
    case VT_PATTERN_GLOBAL: a.span = (int)a.keys; break;
    }
    return a;
}

/* The axes of a pattern; `queries` and `keys` are the heights, or widths, of the two maps. */
static inline vt_axis vt_axis_rows(const vt_pattern *p, int64_t queries, int64_t keys)
{
    vt_axis a = {p->kind,    queries,       keys,        0,         0,      p->window_h,
                 p->shift_h, p->dilation_h, p->stride_h, p->halo_h, p->roll};
    return vt_axis_complete(a);
}

static inline vt_axis vt_axis_cols(const vt_pattern *p, int64_t queries, int64_t keys)
{
    vt_axis a = {p->kind,    queries,       keys,        0,         0,      p->window_w,
                 p->shift_w, p->dilation_w, p->stride_w, p->halo_w, p->roll};
    return vt_axis_complete(a);
}

/* WINDOW, GRID: the map coordinate at a place, or -1 where there is only padding. */
VT_RULE int64_t vt_axis_source(const vt_axis *a, int64_t place)
{
    int64_t source;
    if (a->kind == VT_PATTERN_GRID) {
        source = place % a->window * (a->padded / a->window) + place / a->window;
    } else if (a->roll == VT_ROLL_MAP) {
        return place < a->keys ? (place + a->shift) % a->keys : -1;
    } else {
        source = (place + a->shift) % a->padded;
    }
    return source < a->keys ? source : -1;
}

/* WINDOW, GRID: the place of a map coordinate. */
VT_RULE int64_t vt_axis_place(const vt_axis *a, int64_t source)
{
    if (a->kind == VT_PATTERN_GRID) {
        int64_t cells = a->padded / a->window;
        return source % cells * a->window + source / cells;
    }
    int64_t bound = a->roll == VT_ROLL_MAP ? a->keys : a->padded;
    return (source - a->shift % bound + bound) % bound;
}

/* WINDOW: places of different regions were not neighbours before the roll. */
VT_RULE int vt_axis_region(const vt_axis *a, int64_t place)
{
    if (a->shift == 0 || place >= a->padded - a->shift) {
        return 2;
    }
    return place >= a->padded - a->window ? 1 : 0;
}

/* What query coordinate `query` sees in its key number `index` of [0, span). */
typedef struct vt_axis_key {
    int64_t source; /* key coordinate, or -1: outside the map */
    int offset;     /* position relative to the query, in [0, 2 span - 2] */
    bool masked;    /* not a neighbour of the query */
} vt_axis_key;

VT_RULE vt_axis_key vt_axis_window_key(const vt_axis *a, int64_t query, int index)
{
    int64_t place = vt_axis_place(a, query), own = place % a->window;
    int64_t key = place - own + index;
    vt_axis_key k = {vt_axis_source(a, key), index - (int)own + a->window - 1,
                     vt_axis_region(a, key) != vt_axis_region(a, place)};
    return k;
}

/* NEIGHBORHOOD: the first key of a query, counted in its sub-grid. */
VT_RULE int64_t vt_axis_first(const vt_axis *a, int64_t query)
{
    int64_t p = query / a->dilation;
    int64_t n = a->padded / a->dilation + (query % a->dilation < a->padded % a->dilation);
    int64_t leader = p / a->stride * a->stride + a->stride / 2;
    int64_t first = (leader < n ? leader : n - 1) - a->window / 2;
    first = first < n - a->window ? first : n - a->window;
    return first > 0 ? first : 0;
}

VT_RULE vt_axis_key vt_axis_key_of(const vt_axis *a, int64_t query, int index)
{
    int64_t source = index;
    int offset = 0;
    switch (a->kind) {
    case VT_PATTERN_WINDOW:
    case VT_PATTERN_GRID: return vt_axis_window_key(a, query, index);
    case VT_PATTERN_NEIGHBORHOOD: {
        int64_t key = vt_axis_first(a, query) + index;
        source = query % a->dilation + key * a->dilation;
        offset = (int)(key - query / a->dilation) + a->span - 1;
        break;
    }
    case VT_PATTERN_HALO: {
        int block = a->window / a->stride; /* of queries */
        source = query / block * a->window - a->halo + index;
        offset = index - (int)(query % block) + a->span - 1;
        break;
    }
    case VT_PATTERN_GLOBAL: break;
    }
    vt_axis_key k = {source >= 0 && source < a->keys ? source : -1, offset, false};
    return k;
}

#endif
