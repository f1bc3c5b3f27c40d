/* SPDX-License-Identifier: Apache-2.0 */
/* From a recorded program to a list that can be run without allocating. */
#ifndef VT_OPS_PLAN_H
#define VT_OPS_PLAN_H

#include "ops/backend.h"

/* A rewrite joins a record with a neighbour. It looks at record `i` and returns true when it has
 * changed the program; removed records get `dst` = VT_NO_VALUE. */
typedef struct vt_rewrite {
    const char *name;
    bool (*apply)(vt_program *program, size_t i);
} vt_rewrite;

/* In the order in which they are tried; ends with a NULL name. */
extern const vt_rewrite vt_rewrites[];

#define VT_ALL_REWRITES (~0u)

/* Applies the rewrites whose bit (by index in vt_rewrites) is set, each in one pass, in order. */
void vt_program_rewrite(vt_program *program, unsigned mask);

/* A join that only some backends have a kernel for: as a rewrite, but the new record is made only
 * when an implementation of the backend takes it. */
typedef struct vt_fusion {
    const char *name;
    bool (*apply)(vt_program *program, size_t i, const vt_plan_input *in);
} vt_fusion;

/* In the order in which they are tried, after all rewrites; ends with a NULL name. */
extern const vt_fusion vt_fusions[];

/* Applies every fusion. `in->program` is `program`, whose maps have their element types. */
void vt_program_fuse(vt_program *program, const vt_plan_input *in);

/* Drops every record whose result nobody needs and every output whose name is not in `names`
 * (NULL: keeps all). VT_ERR_NOT_FOUND names the output that the network lacks. */
vt_status vt_program_select(vt_program *program, const char *const *names, int count,
                            vt_error *error);

/* How often each map is read by a record or named as an output. */
int vt_program_uses(const vt_program *program, vt_value value);

typedef struct vt_plan {
    vt_program program;
    const vt_impl **impls; /* per record */
    void **choices;        /* per record: what vt_impl.choose made, or NULL */
    size_t *offsets;       /* per map, in the arena */
    size_t map_bytes;      /* of the arena that maps take */
    size_t scratch_bytes;  /* behind them */
    double flops, bytes;
} vt_plan;

/* Takes over `program` (also on failure), chooses element types (see vt_model_settings),
 * implementations and places. */
vt_status vt_plan_make(vt_plan *plan, vt_context *context, vt_program *program,
                       const vt_weight_shape *weights, vt_dtype dtype, bool f32_residual,
                       vt_error *error);
void vt_plan_clear(vt_plan *plan);

/* What a run is given besides the plan. */
typedef struct vt_run {
    const vt_weight_data *weights;
    void *const *maps; /* an entry per map */
    void *scratch;
    double *seconds;  /* NULL, or receives the time of each record */
    bool check_range; /* look at every result (host backends) */
    void *stream;     /* of a device */
    void **replay;    /* see vt_device_ops.run */
} vt_run;

/* Runs the records. VT_ERR_CANCELLED when the progress callback says so; VT_ERR_NUMERIC names the
 * first record whose result is not finite. */
vt_status vt_plan_run(const vt_plan *plan, vt_context *context, const vt_run *run, vt_error *error);

#endif
