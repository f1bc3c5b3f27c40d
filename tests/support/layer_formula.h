/* SPDX-License-Identifier: Apache-2.0 */
/* What the formulas of modules are written with: maps in double, the parameters of a model with
 * golden weights by their names, and the few operations that most of them have in common, each in
 * the plainest way. Everything fails the running test by itself. */
#ifndef TESTS_SUPPORT_LAYER_FORMULA_H
#define TESTS_SUPPORT_LAYER_FORMULA_H

#include "vertebra/model.h"

/* v[((n * H + y) * W + x) * C + c] */
typedef struct map {
    int n, h, w, c;
    double *v;
} map;

enum { FORMULA_MAX_MAPS = 256, FORMULA_MAX_PARAMETERS = 64 };

/* One evaluation. Maps and weights belong to it. */
typedef struct layer_formula {
    const vt_model *model;
    const char *scope; /* put before each name, such as "attn_grid."; NULL: nothing */
    double *kept[FORMULA_MAX_MAPS];
    int kept_count;
    bool read[FORMULA_MAX_PARAMETERS];
} layer_formula;

/* Fails if there is a parameter that the formula did not ask for. */
void formula_expect_all_read(const layer_formula *f);
void formula_clear(layer_formula *f);

/* A stored parameter; `shape`, which 0 ends, is what it must have. */
const double *weight(layer_formula *f, const int shape[4], const char *format, ...) VT_PRINTF(3, 4);

/* A map of zeros, and the channels of one of its pixels. */
map map_new(layer_formula *f, int n, int h, int w, int c);
double *pixel_of(map m, int n, int y, int x);

/* The h x w pixels of x from (top, left) on, zero outside x: pads and crops. */
map cut(layer_formula *f, map x, int top, int left, int h, int w);

map add(layer_formula *f, map a, map b);
/* b may be [n,1,1,c] */
map multiply(layer_formula *f, map a, map b);

map apply(layer_formula *f, map x, vt_activation act);

/* name.weight [out, c], name.bias [out] where `bias` */
map linear(layer_formula *f, map x, const char *name, int out, bool bias);

/* name.weight [out, c / groups, kernel, kernel], name.bias [out] where `bias`; nothing is padded */
typedef struct conv_form {
    int out, kernel, stride, dilation, groups; /* 0 counts as 1, but for `out` and `kernel` */
    bool bias;
} conv_form;
map conv(layer_formula *f, map x, const char *name, conv_form form);

/* A kernel per channel, with a bias; padded by zeros so that the size stays. */
map depthwise(layer_formula *f, map x, const char *name, int kernel, int dilation);

/* name.weight, name.bias, of a batch norm also name.running_mean and name.running_var [c] */
map layer_norm(layer_formula *f, map x, const char *name, double eps);
map batch_norm(layer_formula *f, map x, const char *name, double eps);

/* name [c] * x */
map scale(layer_formula *f, map x, const char *name);

/* Means of kernel_h x kernel_w pixels that do not overlap; what is left over is left out. */
map means(layer_formula *f, map x, int kernel_h, int kernel_w);

#endif
