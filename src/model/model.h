/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VT_MODEL_MODEL_H
#define VT_MODEL_MODEL_H

#include "model/binder.h"
#include "ops/backend.h"
#include "vertebra/model.h"

struct vt_model {
    vt_context *context;
    const vt_variant *variant;
    const vt_family *family;
    const char *dialect;
    vt_dtype dtype;
    bool f32_residual;
    int classes;
    void *network; /* the family's struct */
    vt_binder binder;
    vt_weight_shape *shapes; /* per slot: what recording looks at */
    vt_weight_data *weights; /* per slot: packed */
    size_t bytes;
    vt_pool pool; /* labels */
    const char **labels;
    int label_count;
};

#endif
