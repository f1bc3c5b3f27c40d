/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of the picture that a network can take: large enough, or such that its maps divide into
 * windows. Where the input has another size the recording fails with a message that says this. */
#ifndef VT_BACKBONES_SIZES_H
#define VT_BACKBONES_SIZES_H

#include "core/checked.h"
#include "vertebra/ops.h"

/* At least `smallest` rows and columns. */
static inline bool vt_sizes_suffice(vt_builder *b, int smallest)
{
    vt_shape s = vt_value_shape(b, vt_input(b));
    bool suffice = s.h >= smallest && s.w >= smallest;
    if (!suffice) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "a picture of %lld x %lld (height x width) is too small for this network: "
                        "both must be at least %d",
                        (long long)s.h, (long long)s.w, smallest);
    }
    return suffice;
}

/* Convolutions and pools shrink an axis by `stride`, rounding up, to a length that `windows` must
 * divide: multiples of stride * windows, or up to stride - 1 less. `hint` ends the message. */
static inline bool vt_sizes_fit(vt_builder *b, int stride, int windows_h, int windows_w,
                                const char *hint)
{
    vt_shape s = vt_value_shape(b, vt_input(b));
    bool fit = vt_div_up(s.h, stride) % windows_h == 0 && vt_div_up(s.w, stride) % windows_w == 0;
    if (!fit) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "a picture of height %lld and width %lld does not divide into windows: the "
                        "height must be a multiple of %d, the width of %d, or up to %d less%s",
                        (long long)s.h, (long long)s.w, stride * windows_h, stride * windows_w,
                        stride - 1, hint);
    }
    return fit;
}

#endif
