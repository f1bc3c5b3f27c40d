/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/ref/ref.h"

#define ONLY(impl) ((const vt_impl *const[]){&impl, NULL})

static const char *refuse_dtype(vt_dtype dtype)
{
    return dtype == VT_F32 ? NULL : "the reference computes in f32 only";
}

static vt_status pack(const vt_backend *backend, const vt_allocator *allocator, vt_weight_use use,
                      const vt_row_source *source, vt_weight_data *out, vt_error *error)
{
    (void)backend;
    (void)use;
    return vt_pack_plain(allocator, source, out, error);
}

const vt_backend vt_backend_ref = {
    .name = "reference",
    .impls =
        {
            [VT_OP_LINEAR] = ONLY(vt_ref_linear),
            [VT_OP_CONV2D] = ONLY(vt_ref_conv2d),
            [VT_OP_NORM] = ONLY(vt_ref_norm),
            [VT_OP_ATTENTION] = ONLY(vt_ref_attention),
            [VT_OP_ADD] = ONLY(vt_ref_add),
            [VT_OP_SPACE_TO_DEPTH] = ONLY(vt_ref_space_to_depth),
            [VT_OP_MEAN_POOL] = ONLY(vt_ref_mean_pool),
            [VT_OP_DEPTHWISE] = ONLY(vt_ref_depthwise),
            [VT_OP_AFFINE] = ONLY(vt_ref_affine),
            [VT_OP_MUL] = ONLY(vt_ref_mul),
            [VT_OP_CONCAT] = ONLY(vt_ref_concat),
            [VT_OP_POOL] = ONLY(vt_ref_pool),
            [VT_OP_LINEAR_ATTENTION] = ONLY(vt_ref_linear_attention),
            [VT_OP_CHANNEL_ATTENTION] = ONLY(vt_ref_channel_attention),
            [VT_OP_DEFORM_PATCHES] = ONLY(vt_ref_deform_patches),
        },
    .refuse_dtype = refuse_dtype,
    .pack = pack,
};
