/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/squeeze_excite.h"

vt_squeeze_excite vt_squeeze_excite_bind(vt_binder *b, const vt_squeeze_excite_settings *s)
{
    return (vt_squeeze_excite){.fc1 = vt_linear_bind(b, "fc1", s->channels, s->hidden, true),
                               .fc2 = vt_linear_bind(b, "fc2", s->hidden, s->channels, true),
                               .act = s->act,
                               .gate = s->gate};
}

/* [channels, channels]: row c holds the kernel around column c */
static vt_status derive_band(const void *user, const vt_source_array *sources, int count,
                             int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)user;
    (void)count;
    (void)error;
    int64_t kernel = sources[0].cols;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < cols; c++) {
            int64_t k = c - r + (kernel - 1) / 2;
            out[r * cols + c] = k >= 0 && k < kernel ? sources[0].data[k] : 0.0f;
        }
    }
    return VT_OK;
}

vt_squeeze_excite vt_channel_conv_gate_bind(vt_binder *b, int channels, int kernel,
                                            vt_activation gate)
{
    vt_squeeze_excite layer = {.gate = gate};
    if (kernel < 1 || kernel % 2 == 0) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "channel attention: kernel %d", kernel);
        return layer;
    }
    vt_scope(b, "conv");
    vt_weight weight = vt_bind(
        b, &(vt_weight_desc){
               .name = "weight", .role = VT_WEIGHT_SOURCE, .rank = 3, .shape = {1, 1, kernel}});
    layer.fc2.weight = vt_bind_derived(b, &(vt_derived_desc){.name = "band",
                                                             .role = VT_WEIGHT_MATRIX,
                                                             .rows = channels,
                                                             .cols = channels,
                                                             .derive = derive_band,
                                                             .sources = {weight},
                                                             .source_count = 1});
    vt_scope_end(b);
    return layer;
}

vt_value vt_squeeze_excite_forward(vt_builder *b, const vt_squeeze_excite *l, vt_value x)
{
    vt_value g = vt_op_mean_pool(b, x);
    if (l->fc1.weight.id) {
        g = vt_linear_forward(b, &l->fc1, g, l->act);
    }
    return vt_op_mul(b, x, vt_linear_forward(b, &l->fc2, g, l->gate));
}
