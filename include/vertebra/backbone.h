/* SPDX-License-Identifier: Apache-2.0 */
/* How a backbone is written: a table of variants, a function that binds parameters, a function that
 * records the forward pass, and the names that published checkpoints use. Code outside the library
 * writes one exactly as the files in src/backbones do and registers it with a context. */
#ifndef VERTEBRA_BACKBONE_H
#define VERTEBRA_BACKBONE_H

#include "vertebra/context.h"
#include "vertebra/ops.h"
#include "vertebra/preprocess.h"

VT_BEGIN_DECLS

/* ---- parameters ------------------------------------------------------------------------------ */

typedef struct vt_binder vt_binder;

/* How the planner may use a parameter. */
typedef enum vt_weight_role {
    VT_WEIGHT_MATRIX = 0, /* rows = first axis, columns = the others; kept in the model's dtype */
    VT_WEIGHT_VECTOR,     /* kept in f32 */
    VT_WEIGHT_SOURCE      /* only read by derived parameters, then dropped */
} vt_weight_role;

enum { VT_WEIGHT_MAX_RANK = 4 };

/* One parameter as the checkpoint has it. */
typedef struct vt_weight_desc {
    const char *name; /* below the current scope; scope and name make the checkpoint key */
    vt_weight_role role;
    int rank;
    int64_t shape[VT_WEIGHT_MAX_RANK];
    /* SOURCE only: the file may have any number of rows (a bias table of another window), or any
     * lengths of the axes after the first (such a table [heads, height, width]). */
    bool any_rows, any_size;
    /* Order of the columns inside the library: column i comes from column columns[i] of the file
     * (of a vector: element i from element columns[i]). NULL: as they are. Copied. */
    const int32_t *columns;
} vt_weight_desc;

/* Declares a parameter. Returns its id; after a failure the binder keeps the first error. */
vt_weight vt_bind(vt_binder *binder, const vt_weight_desc *desc);

/* A loaded source of a derived parameter: `shape` is what the file has. */
typedef struct vt_source_array {
    const float *data; /* rows * cols */
    int64_t rows, cols;
    int64_t shape[VT_WEIGHT_MAX_RANK];
} vt_source_array;

/* Computes a derived parameter of `rows` x `cols` from its sources. */
typedef vt_status (*vt_derive_fn)(const void *user, const vt_source_array *sources, int count,
                                  int64_t rows, int64_t cols, float *out, vt_error *error);

enum { VT_MAX_DERIVE_SOURCES = 12 };

/* A parameter that is computed at load from others (folded norms, position tables), or from nothing
 * where there are no sources. `user` is copied, `user_size` bytes of it. `name` is for messages. */
typedef struct vt_derived_desc {
    const char *name;
    vt_weight_role role;
    int64_t rows, cols;
    vt_derive_fn derive;
    const void *user;
    size_t user_size;
    vt_weight sources[VT_MAX_DERIVE_SOURCES];
    int source_count;
} vt_derived_desc;

vt_weight vt_bind_derived(vt_binder *binder, const vt_derived_desc *desc);

/* Enters and leaves a part of the name: vt_scope(b, "layers.%d", i) ... vt_scope_end(b). */
void vt_scope(vt_binder *binder, const char *format, ...) VT_PRINTF(2, 3);
void vt_scope_end(vt_binder *binder);

/* Whether the checkpoint that is being loaded has this parameter (scope and name as in vt_bind);
 * `otherwise` when there is no checkpoint. For parts that only some published files carry. */
bool vt_bind_available(const vt_binder *binder, const char *name, bool otherwise);

/* Makes the binding fail with this message, unless it has failed already. */
void vt_binder_fail(vt_binder *binder, vt_status status, const char *format, ...) VT_PRINTF(3, 4);

/* ---- variants -------------------------------------------------------------------------------- */

/* How windows are laid over maps whose size they do not divide. */
typedef enum vt_window_rule {
    VT_WINDOW_AUTO = 0, /* what the checkpoint's publisher used: MM for mm* files, else PAD */
    VT_WINDOW_PAD, /* pad, then shift; no shift on an axis that one window spans (torchvision) */
    VT_WINDOW_MM,  /* the same, the shift is never left out (mmdetection, mmsegmentation) */
    /* as timm up to 1.0.30 builds it for one fixed size: windows clamped to the map, whose size is
     * halved rounding down from stage to stage (later versions round up); shift, then pad */
    VT_WINDOW_TIMM
} vt_window_rule;

/* What the caller of vt_model_load decided. */
typedef struct vt_bind_settings {
    int classes;                   /* outputs of the head; 0: no head */
    int image_height, image_width; /* the size to build for (VT_WINDOW_TIMM, MaxViT) */
    vt_window_rule window_rule;    /* never AUTO */
    float norm_eps;                /* of the publisher of the file, see vt_dialect; else 0 */
} vt_bind_settings;

/* One published configuration. */
typedef struct vt_variant {
    const char *name;
    const void *config; /* the family's own struct */
    vt_preprocess preprocess;
    int classes;            /* of the published head */
    const char *checkpoint; /* where the weights are published */
    const char *license;    /* of the weights */
} vt_variant;

/* Column orders of published files that differ from the canonical one. */
typedef enum vt_file_order {
    VT_ORDER_SAME = 0,
    VT_ORDER_UNFOLD_2X2 /* patch merging: file column c * 4 + dy * 2 + dx, canonical (dx, dy, c) */
} vt_file_order;

/* Maps keys of a file to canonical ones. In `from`, '#' matches a number and '*' any text; in `to`
 * they are put back in order, "#+1" increased by one, "#/2" halved. A key may be one of `parts`
 * equal slices (along the first axis) of the canonical parameter, or the canonical one a slice of
 * the key's. A key is unexpected when none of the names it leads to is a parameter. */
typedef struct vt_rename {
    const char *from, *to;
    int parts;     /* 0: whole */
    int to_part;   /* which slice of the canonical parameter the key is, or -1 */
    int from_part; /* which slice of the key the canonical parameter is, or -1 */
    bool more;     /* also try the rules that follow */
    vt_file_order order;
} vt_rename;

/* For vt_dialect.ignored: what detection and segmentation files hold beside the backbone. */
#define VT_DENSE_HEADS                                                                             \
    "decode_head.*", "auxiliary_head.*", "auxiliary_head_*", "neck.*", "rpn_head.*", "roi_head.*", \
        "bbox_head.*"

/* One published naming. */
typedef struct vt_dialect {
    const char *name;
    const char *prefix;         /* left out of keys that begin with it; or NULL */
    const char *probe;          /* a pattern that a key of the file must match */
    const vt_rename *renames;   /* first match wins; ends with from = NULL */
    const char *const *ignored; /* patterns of keys that carry no parameter; ends with NULL */
    vt_window_rule window_rule; /* what AUTO means for these files; AUTO: PAD */
    float norm_eps;             /* of the publisher's code where it differs from others; else 0 */
} vt_dialect;

/* What a variant must answer for golden weights and the golden picture (docs/testing.md). */
typedef struct vt_golden_case {
    const char *variant;
    vt_window_rule window_rule;
    int height, width;
    float logits[5]; /* the first ones */
    int argmax;
    float largest, l2; /* of all logits */
} vt_golden_case;

typedef struct vt_family {
    const char *name;             /* "swin" */
    const char *title;            /* "Swin Transformer: Hierarchical Vision Transformer ..." */
    const char *source, *license; /* the authors' code and its licence */
    const vt_variant *variants;
    size_t variant_count;
    size_t network_size; /* of the struct that bind fills and forward reads */
    void (*bind)(vt_binder *binder, const vt_variant *variant, const vt_bind_settings *settings,
                 void *network);
    void (*forward)(vt_builder *builder, const void *network);
    const vt_dialect *dialects;   /* tried in order; ends with name = NULL */
    const char *head;             /* canonical key whose rows are the classes */
    const vt_golden_case *golden; /* ends with variant = NULL; NULL: none */
} vt_family;

/* Adds a family to a context, for vt_model_load and the variant list. `family` must outlive the
 * context; call before other threads use it. Errors: VT_ERR_ARGUMENT (a name is taken),
 * VT_ERR_LIMIT, VT_ERR_MEMORY. */
vt_status vt_context_register(vt_context *context, const vt_family *family, vt_error *error);

VT_END_DECLS
#endif
