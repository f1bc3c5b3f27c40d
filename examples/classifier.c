/* SPDX-License-Identifier: Apache-2.0 */
/* The classification tail alone on a random map: ten logits from the mean of its layer norm. It
 * also names "embedding", that mean, and "cam", the logits of every token. */
#include "one_layer.h"

static void bind(vt_binder *b, const vt_variant *variant, const vt_bind_settings *s, void *layer)
{
    (void)variant;
    (void)s;
    *(vt_classifier *)layer = vt_classifier_bind(
        b,
        &(vt_classifier_settings){
            .norm = "norm", .head = "head", .channels = MAP_CHANNELS, .classes = 10, .eps = 1e-5f});
}

static void forward(vt_builder *b, const void *layer)
{
    vt_classifier_forward(b, layer, random_map(b));
}

int main(void)
{
    return run_layer_output(
        &(vt_family){.network_size = sizeof(vt_classifier), .bind = bind, .forward = forward},
        "logits");
}
