/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of fewer stages than their family has room for, and what the small networks of
 * weights/fashion have in common. */
#ifndef VT_BACKBONES_STAGES_H
#define VT_BACKBONES_STAGES_H

/* How many stages a network has: a depth of 0 stands where there is none. */
static inline int vt_stage_count(const int *depths, int room)
{
    int count = 0;
    while (count < room && depths[count] > 0) {
        count++;
    }
    return count;
}

/* A network of tools/train/fashion.py: 28 x 28 grey pictures of ten kinds of clothes, shown to it
 * as 64 x 64 in three equal channels. */
#define VT_FASHION_VARIANT(id, cfg)                                                                \
    {                                                                                              \
        .name = id, .config = cfg,                                                                 \
        .preprocess = {.height = 64,                                                               \
                       .width = 64,                                                                \
                       .crop_pct = 1.0,                                                            \
                       .filter = VT_FILTER_BICUBIC,                                                \
                       .mean = {0.286f, 0.286f, 0.286f},                                           \
                       .std = {0.353f, 0.353f, 0.353f}},                                           \
        .classes = 10, .checkpoint = "weights/fashion/" id ".safetensors", .license = "Apache-2.0" \
    }

#endif
