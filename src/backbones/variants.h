/* SPDX-License-Identifier: Apache-2.0 */
/* What the rows of several families' tables of variants have in common. */
#ifndef VT_BACKBONES_VARIANTS_H
#define VT_BACKBONES_VARIANTS_H

/* clang-format off */
/* vt_variant.preprocess of a bicubic evaluation; the channels' statistics come last. */
#define VT_BICUBIC(rows, cols, pct, mode, ...)                                                     \
    .preprocess = {.height = rows, .width = cols, .crop_pct = pct, .crop_mode = mode,              \
                   .filter = VT_FILTER_BICUBIC, __VA_ARGS__}
#define VT_IMAGENET .mean = VT_IMAGENET_MEAN, .std = VT_IMAGENET_STD
#define VT_FROM_MINUS_1_TO_1 .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}

/* A network of tools/train/fashion.py: 28 x 28 grey pictures of ten kinds of clothes, shown to it
 * as 64 x 64 in three equal channels. */
#define VT_FASHION_VARIANT(id, cfg)                                                                \
    {.name = id, .config = cfg,                                                                    \
     VT_BICUBIC(64, 64, 1.0, VT_CROP_CENTER,                                                       \
                .mean = {0.286f, 0.286f, 0.286f}, .std = {0.353f, 0.353f, 0.353f}),                \
     .classes = 10, .checkpoint = "weights/fashion/" id ".safetensors", .license = "Apache-2.0"}
/* clang-format on */

#endif
