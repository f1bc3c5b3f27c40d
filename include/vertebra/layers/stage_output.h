/* SPDX-License-Identifier: Apache-2.0 */
/* What a backbone of four stages hands to a detector or a segmenter: the map after stage i under
 * the name "C{i+2}" (stride 2^(i+2)), normalised where the checkpoint has a norm for it: files of
 * dense prediction do, those of classifiers do not. The next stage goes on from the map without
 * that norm. */
#ifndef VERTEBRA_LAYERS_STAGE_OUTPUT_H
#define VERTEBRA_LAYERS_STAGE_OUTPUT_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_stage_output {
    int stage;
    vt_norm norm;
    bool has_norm;
} vt_stage_output;

/* Parameters norm{stage}.weight, norm{stage}.bias [channels] below the current scope, if the
 * checkpoint has them; `otherwise`: whether they are bound where there is no checkpoint. */
vt_stage_output vt_stage_output_bind(vt_binder *binder, int stage, int channels, float eps,
                                     bool otherwise);

/* Names the output; stage 0 ... 3. */
void vt_stage_output_forward(vt_builder *builder, const vt_stage_output *layer, vt_value x);

/* Names x itself the output of stage 0 ... 3, for networks that have no such norms. */
void vt_stage_output_name(vt_builder *builder, int stage, vt_value x);

VT_END_DECLS
#endif
