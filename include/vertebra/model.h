/* SPDX-License-Identifier: Apache-2.0 */
/* A model: one variant of a backbone with its weights, packed for a context's device. Immutable
 * after loading, so any number of sessions and threads may share it. */
#ifndef VERTEBRA_MODEL_H
#define VERTEBRA_MODEL_H

#include "vertebra/backbone.h"
#include "vertebra/checkpoint.h"

VT_BEGIN_DECLS

typedef struct vt_model vt_model;

/* ---- what there is --------------------------------------------------------------------------- */

/* Variant i of all families of the context (built in, then registered), or NULL when i is out of
 * range. `family` may be NULL. */
const vt_variant *vt_variant_at(const vt_context *context, size_t i, const vt_family **family);

/* The variant of that name; where there is none, a timm tag behind a dot ("....ms_in1k") is
 * ignored. NULL: unknown. */
const vt_variant *vt_variant_find(const vt_context *context, const char *name,
                                  const vt_family **family);

/* ---- loading --------------------------------------------------------------------------------- */

typedef struct vt_model_settings {
    /* VT_F32 (default), VT_BF16, on a GPU also VT_F16: of the matrices and of the maps that only
     * products read, on a GPU of all maps between operations. */
    vt_dtype dtype;
    /* On a GPU in half precision too, sums of layers, norms and outputs stay f32, as they always do
     * on the CPU: for networks whose maps go beyond f16 (65504), slower. */
    bool f32_residual;
    vt_window_rule window_rule;
    /* Of the layer norms, in families whose publishers differ; 0: that of the file's publisher. */
    float norm_eps;
    /* The size to build for, which decides windows under VT_WINDOW_TIMM and in MaxViT; 0: the
     * variant's own. */
    int image_height, image_width;
    vt_checkpoint_settings checkpoint;
} vt_model_settings;

vt_model_settings vt_model_settings_default(void);

/* Loads the weights in `path` into variant `name`. With name = NULL the file must name its variant
 * (safetensors metadata "vertebra.model", as the shipped weights have). The number of classes is
 * what the file's head has; a file without a head gives features only.
 * Errors: VT_ERR_NOT_FOUND (variant), VT_ERR_MISMATCH (missing, mis-shaped and unexpected keys in
 * one message), VT_ERR_CANCELLED, those of vt_checkpoint_open. */
vt_status vt_model_load(vt_model **model, vt_context *context, const char *name, const char *path,
                        const vt_model_settings *settings, vt_error *error);

/* The same network with weights that are a hash of their names: for self-tests and benchmarks, no
 * file needed (docs/testing.md). classes = 0: as published. */
vt_status vt_model_golden(vt_model **model, vt_context *context, const char *name, int classes,
                          const vt_model_settings *settings, vt_error *error);

/* Destroys and sets *model to NULL. Accepts NULL. Sessions must be destroyed before. */
void vt_model_destroy(vt_model **model);

/* Fills `out` ([n,3,h,w], dense f32) with the golden input picture: 2r with r in [-1, 1). */
void vt_golden_picture(int64_t n, int64_t h, int64_t w, float *out);

/* ---- what it is ------------------------------------------------------------------------------ */

const vt_variant *vt_model_variant(const vt_model *model);
const vt_family *vt_model_family(const vt_model *model);
vt_dtype vt_model_dtype(const vt_model *model);
int vt_model_classes(const vt_model *model);

/* The naming that the file uses, such as "timm"; "golden" without a file. */
const char *vt_model_dialect(const vt_model *model);

/* The name of class i that the file carries, or NULL. */
const char *vt_model_label(const vt_model *model, int i);

/* The evaluation transform to use: the variant's. */
const vt_preprocess *vt_model_preprocess(const vt_model *model);

/* Parameters as the checkpoint counts them, and bytes that the packed weights take. */
int64_t vt_model_parameters(const vt_model *model);
size_t vt_model_bytes(const vt_model *model);

/* Stored parameter i of the network as canonical checkpoints name it; false when out of range. */
bool vt_model_parameter(const vt_model *model, size_t i, const char **name, int *rank,
                        const int64_t **shape);

VT_END_DECLS
#endif
