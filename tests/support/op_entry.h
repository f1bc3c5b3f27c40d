/* SPDX-License-Identifier: Apache-2.0 */
/* One row of the table in op_cases.c: a record of some shape on random data, the types of its maps,
 * and how far from the reference it may be. */
#ifndef VT_TESTS_OP_ENTRY_H
#define VT_TESTS_OP_ENTRY_H

#include "op_check.h"

typedef struct op_entry {
    const char *name;
    vt_shape src; /* of the map that the builder makes first; it may set the channels itself */
    /* Records one operation of that source shape on random data; see op_builders.h. */
    void (*build)(op_case *c, const struct op_entry *e, vt_shape src);
    const void *with;        /* what `build` wants to know besides */
    int64_t terms;           /* of the longest sum, where no weights tell */
    bool src_half, dst_half; /* kept in half precision by the CPU side's half models */
    float mean, spread;      /* of the source; spread 0: 1 */
} op_entry;

float op_spread(const op_entry *e);

/* Starts a case and builds an entry with `batch` images. */
void op_build(op_case *c, const op_entry *e, uint64_t seed, int64_t batch);

/* Gives the sources (data is rounded), a residual and the destination their types. */
void op_set_types(op_case *c, vt_dtype source, vt_dtype residual, vt_dtype dst);

/* How far the result may be from the reference's, `want`, for matrices and half maps of `dtype`;
 * see tolerance.h. */
double op_limit(const op_case *c, const op_entry *e, vt_dtype dtype, const float *want);

#endif
