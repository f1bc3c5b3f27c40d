/* SPDX-License-Identifier: Apache-2.0 */
/* How one axis of an attention pattern falls into groups: queries that meet the same keys, or for
 * NEIGHBORHOOD neighbours of one sub-grid, whose keys overlap. The groups of a map are the pairs of
 * a group of rows and a group of columns. */
#ifndef VT_OPS_CPU_ATTENTION_GROUPS_H
#define VT_OPS_CPU_ATTENTION_GROUPS_H

#include "ops/pattern.h"

/* A query sees keys [from, from + span) of its group; their offsets, as vt_axis_key has them, begin
 * with `offset` and count up. */
typedef struct vt_group_query {
    int64_t source; /* map coordinate */
    int32_t region, from, offset;
} vt_group_query;

typedef struct vt_group_key {
    int64_t source; /* map coordinate, or -1: outside the map */
    int32_t region;
} vt_group_key;

typedef struct vt_axis_group {
    int64_t queries, keys;
    vt_group_query *query;
    vt_group_key *key;
    int64_t shape; /* groups of one shape have the same `from` and `offset` everywhere */
    bool mixed;    /* the keys are of different regions */
} vt_axis_group;

typedef struct vt_axis_groups {
    vt_axis axis;
    int64_t groups, most_queries, most_keys;
    int64_t tiles; /* NEIGHBORHOOD: groups of a sub-grid */
} vt_axis_groups;

/* `tile`: at most so many queries of a sub-grid share a group. */
vt_axis_groups vt_axis_groups_of(vt_axis axis, int64_t tile);

/* Fills in the groups; their `query` and `key` point at room for most_queries and most_keys.
 * Returns how many shapes there are. */
int64_t vt_axis_groups_fill(const vt_axis_groups *g, vt_axis_group *out);

#endif
