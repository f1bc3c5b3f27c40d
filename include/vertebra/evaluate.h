/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluating a classifier on many pictures: threads load them, networks on one or more devices run
 * them in batches, and every picture gets one record. The records do not depend on timing, nor on
 * the batch, the number of threads or that of devices of one type: same bits. On GPUs this asks for
 * contexts that are `reproducible`. */
#ifndef VERTEBRA_EVALUATE_H
#define VERTEBRA_EVALUATE_H

#include "vertebra/classify.h"
#include "vertebra/model.h"
#include "vertebra/preprocess.h"

VT_BEGIN_DECLS

enum { VT_EVALUATE_TOP = 5, VT_EVALUATE_BINS = 15, VT_EVALUATE_GPU_BATCH = 64 };

/* ---- pictures -------------------------------------------------------------------------------- */

/* Where the pictures come from. */
typedef struct vt_evaluate_source {
    int64_t count;
    /* Class of each picture, `count` of them; -1: unknown. NULL: all unknown. */
    const int *labels;
    /* Fills `out` with picture i as the network wants it: f32 [3, height, width], normalised.
     * Called from several threads at once, in no certain order, once for each picture. A failure
     * concerns this picture only. */
    vt_status (*load)(void *user, int64_t i, float *out, vt_error *error);
    void *user;
    int height, width; /* the same for all */
    /* Not NULL: GPUs resize, crop and normalise the pictures themselves, to the same bits as
     * vt_preprocess_run in the model's type, and `decode` takes the place of `load`: the pixels of
     * picture i, unchanged until `release` (may be NULL) is called with them on the same thread. */
    const vt_preprocess *preprocess;
    vt_status (*decode)(void *user, int64_t i, vt_pixels *pixels, vt_error *error);
    void (*release)(void *user, vt_pixels *pixels);
} vt_evaluate_source;

/* ---- records --------------------------------------------------------------------------------- */

/* What became of one picture. */
typedef struct vt_evaluate_record {
    /* VT_OK; why it could not be loaded; VT_ERR_NUMERIC: a logit is not finite; VT_ERR_CANCELLED:
     * its turn did not come. Only after VT_OK do the other fields but `label` mean something. */
    vt_status status;
    int label; /* -1: unknown */
    /* How many classes stand before the label: those with a larger logit, and of equal logits
     * those with a lower index. -1 without a label. */
    int rank;
    int found;                           /* entries of `top` */
    vt_class_score top[VT_EVALUATE_TOP]; /* the best classes, best first */
    /* log(sum_i exp(logit_i)) - logit_label, in double; 0 without a label. */
    double loss;
} vt_evaluate_record;

typedef struct vt_evaluate_settings {
    /* Pictures that are loaded, and on the CPU run, together, or all where there are fewer; 0
     * (default): 16. */
    int batch;
    /* Pictures per forward on a GPU; 0 (default): VT_EVALUATE_GPU_BATCH. The last bits of the
     * results depend on it. `batch` is rounded up to a multiple. */
    int gpu_batch;
    int workers; /* threads that load pictures; 0 (default): one for each of the models */
    /* Only these classes compete, for sets that cover a part of a model's classes: `class_count`
     * indices, ascending. NULL (default): all. Labels must be among them. */
    const int *classes;
    int class_count;
    /* Called on the calling thread a few times a second; return false to stop. NULL: none. */
    bool (*progress)(void *user, int64_t done, int64_t total);
    /* Called once for each picture that got no answer, one call at a time but from any thread and
     * in no certain order. NULL: none. */
    void (*failed)(void *user, int64_t i, const vt_error *error);
    void *user; /* of both */
} vt_evaluate_settings;

/* Where the time went, in seconds. */
typedef struct vt_evaluate_times {
    double whole;   /* from the first picture to the last record */
    double network; /* the networks alone, one at a time on each model: without bringing pictures
                     * to a device and logits back, which happens meanwhile, and without the first
                     * run there, which loads kernels; summed over the models */
    double load;    /* in `load`, or in `decode` and making a job for the GPU of its pixels; summed
                     * over the workers */
    int workers, models;
} vt_evaluate_times;

/* Runs every picture through the network once. The models must be the same network, each in a
 * context of its own where it has a device of its own; each gets a thread and a session, on a GPU
 * two. Batch k consists of pictures k * batch to (k + 1) * batch - 1 whatever happens; at most two
 * batches per model and one more are in host memory, which is pinned if there is a GPU. A batch
 * that GPUs are to prepare takes 27 bytes per pixel of the input and picture; of larger pictures
 * than that the worker resizes what is needed, to the same bits. A GPU always runs gpu_batch
 * pictures, blank ones after the last. `records` holds source->count records; `settings` and
 * `times` may be NULL.
 * Errors: VT_ERR_ARGUMENT (no head, a label beyond the classes, sizes below 1), VT_ERR_UNSUPPORTED
 * (`preprocess` for a model that is not on a GPU), VT_ERR_CANCELLED (records made so far are
 * valid), VT_ERR_MEMORY, VT_ERR_LIMIT (a thread cannot be started), those of vt_session_forward. */
vt_status vt_evaluate(const vt_model *const *models, int model_count,
                      const vt_evaluate_source *source, const vt_evaluate_settings *settings,
                      vt_evaluate_record *records, vt_evaluate_times *times, vt_error *error);

/* ---- figures --------------------------------------------------------------------------------- */

typedef struct vt_evaluate_class {
    int64_t pictures, top1, top5; /* of this class: judged, right, right among the best five */
    int64_t broken;               /* could not be judged */
} vt_evaluate_class;

/* One bin of confidences ((b / BINS), (b + 1) / BINS]. */
typedef struct vt_evaluate_bin {
    int64_t pictures, right;
    double confidence; /* sum of the best class's probabilities */
} vt_evaluate_bin;

/* The figures of a set of records. All are counts, or sums taken in the order of the records, so
 * that records which were made in parts and put together give the same figures in every bit. */
typedef struct vt_evaluate_figures {
    int64_t pictures; /* with an answer and a label: what all figures are about */
    int64_t broken;   /* could not be loaded, or gave no finite logits */
    int64_t missing;  /* VT_ERR_CANCELLED */
    int64_t top1, top5;
    double loss;       /* mean; NaN without pictures, as the following two */
    double mean_class; /* mean over the classes that have pictures of top1 / pictures */
    double ece; /* sum over bins of |right - confidence| / pictures: expected calibration error,
                 * Guo et al. 2017, equation 3 */
    vt_evaluate_bin bins[VT_EVALUATE_BINS];
} vt_evaluate_figures;

/* `classes` receives `class_count` entries; labels are below it. */
void vt_evaluate_summarise(const vt_evaluate_record *records, int64_t count,
                           vt_evaluate_class *classes, int class_count,
                           vt_evaluate_figures *figures);

VT_END_DECLS
#endif
