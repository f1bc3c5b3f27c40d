/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/layers/conv.h"

#include <math.h>

/* ---- batch norm, layer scale ----------------------------------------------------------------- */

vt_weight vt_scale_bind(vt_binder *b, const char *name, int channels)
{
    return vt_bind(b, &(vt_weight_desc){
                          .name = name, .role = VT_WEIGHT_SOURCE, .rank = 1, .shape = {channels}});
}

vt_batch_norm vt_batch_norm_bind(vt_binder *b, const char *name, int channels, float eps)
{
    vt_batch_norm norm = {.eps = eps};
    vt_scope(b, "%s", name);
    norm.weight = vt_scale_bind(b, "weight", channels);
    norm.bias = vt_scale_bind(b, "bias", channels);
    norm.mean = vt_scale_bind(b, "running_mean", channels);
    norm.var = vt_scale_bind(b, "running_var", channels);
    vt_scope_end(b);
    return norm;
}

/* A loaded batch norm: y = scale * x + shift. Arrays: weight, bias, mean, var. */
static double norm_scale(const vt_source_array *n, float eps, int64_t c)
{
    return (double)n[0].data[c] / sqrt((double)n[3].data[c] + (double)eps);
}

static double norm_shift(const vt_source_array *n, float eps, int64_t c)
{
    return (double)n[1].data[c] - (double)n[2].data[c] * norm_scale(n, eps, c);
}

/* rows = 1; user: the eps, and whether the shift is wanted */
typedef struct affine_user {
    float eps;
    bool shift;
} affine_user;

static vt_status derive_affine(const void *user, const vt_source_array *sources, int count,
                               int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    (void)rows;
    (void)error;
    const affine_user *u = user;
    for (int64_t c = 0; c < cols; c++) {
        out[c] =
            (float)(u->shift ? norm_shift(sources, u->eps, c) : norm_scale(sources, u->eps, c));
    }
    return VT_OK;
}

static vt_weight bind_affine(vt_binder *b, const vt_batch_norm *n, int channels, bool shift)
{
    affine_user user = {n->eps, shift};
    return vt_bind_derived(b, &(vt_derived_desc){.name = shift ? "shift" : "scale",
                                                 .role = VT_WEIGHT_VECTOR,
                                                 .rows = 1,
                                                 .cols = channels,
                                                 .derive = derive_affine,
                                                 .user = &user,
                                                 .user_size = sizeof user,
                                                 .sources = {n->weight, n->bias, n->mean, n->var},
                                                 .source_count = 4});
}

vt_affine vt_batch_norm_affine(vt_binder *b, const vt_batch_norm *norm, int channels)
{
    return (vt_affine){bind_affine(b, norm, channels, false), bind_affine(b, norm, channels, true)};
}

static vt_status derive_ones(const void *user, const vt_source_array *sources, int count,
                             int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)user;
    (void)sources;
    (void)count;
    (void)error;
    for (int64_t i = 0; i < rows * cols; i++) {
        out[i] = 1.0f;
    }
    return VT_OK;
}

vt_affine vt_identity_affine(vt_binder *b, int channels)
{
    vt_derived_desc ones = {.name = "ones",
                            .role = VT_WEIGHT_VECTOR,
                            .rows = 1,
                            .cols = channels,
                            .derive = derive_ones};
    return (vt_affine){.scale = vt_bind_derived(b, &ones)};
}

vt_value vt_affine_forward(vt_builder *b, const vt_affine *affine, vt_value x, vt_activation act)
{
    vt_conv2d tap = {.weight = affine->scale,
                     .bias = affine->shift,
                     .act = act,
                     .kernel_h = 1,
                     .kernel_w = 1,
                     .stride_h = 1,
                     .stride_w = 1,
                     .dilation_h = 1,
                     .dilation_w = 1};
    return vt_op_depthwise(b, x, &(vt_depthwise){.conv = tap});
}

/* ---- folding --------------------------------------------------------------------------------- */

/* Where each source lies in the list, or -1, and the sizes. */
typedef struct fold {
    int in, out, taps; /* in: channels that an output sees */
    bool depthwise;
    int bias, before, after, gamma;
    float before_eps, after_eps;
} fold;

/* What everything behind the convolution makes of output o: factor * y + shift. */
static double behind(const fold *f, const vt_source_array *s, int64_t o, double *shift)
{
    double factor = 1.0;
    *shift = 0.0;
    if (f->after >= 0) {
        factor = norm_scale(s + f->after, f->after_eps, o);
        *shift = norm_shift(s + f->after, f->after_eps, o);
    }
    double gamma = f->gamma >= 0 ? (double)s[f->gamma].data[o] : 1.0;
    *shift *= gamma;
    return factor * gamma;
}

/* Dense: [out, (tap, in)] from [out, (in, tap)]; depthwise: [tap, out] from [out, tap]. */
static vt_status derive_weight(const void *user, const vt_source_array *sources, int count,
                               int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    (void)rows;
    (void)cols;
    (void)error;
    const fold *f = user;
    const float *w = sources[0].data;
    for (int64_t o = 0; o < f->out; o++) {
        double shift, factor = behind(f, sources, o, &shift);
        for (int64_t i = 0; i < f->in; i++) {
            double before =
                f->before >= 0 ? norm_scale(sources + f->before, f->before_eps, i) : 1.0;
            for (int64_t t = 0; t < f->taps; t++) {
                int64_t at = f->depthwise ? t * f->out + o : (o * f->taps + t) * f->in + i;
                out[at] = (float)((double)*w++ * factor * before);
            }
        }
    }
    return VT_OK;
}

static vt_status derive_bias(const void *user, const vt_source_array *sources, int count,
                             int64_t rows, int64_t cols, float *out, vt_error *error)
{
    (void)count;
    (void)rows;
    (void)cols;
    (void)error;
    const fold *f = user;
    const float *w = sources[0].data;
    for (int64_t o = 0; o < f->out; o++) {
        double shift, factor = behind(f, sources, o, &shift);
        double sum = f->bias >= 0 ? (double)sources[f->bias].data[o] : 0.0;
        for (int64_t i = 0; f->before >= 0 && i < f->in; i++) {
            sum += (double)w[o * f->in + i] * norm_shift(sources + f->before, f->before_eps, i);
        }
        out[o] = (float)(sum * factor + shift);
    }
    return VT_OK;
}

static int add_source(vt_derived_desc *desc, vt_weight w)
{
    desc->sources[desc->source_count] = w;
    return desc->source_count++;
}

static int add_norm(vt_derived_desc *desc, const vt_batch_norm *n)
{
    int first = add_source(desc, n->weight);
    add_source(desc, n->bias);
    add_source(desc, n->mean);
    add_source(desc, n->var);
    return first;
}

/* Weight and bias of the folded layer, from the stored ones. */
static void bind_folded(vt_binder *b, const vt_conv_settings *s, vt_weight weight, vt_weight bias,
                        vt_conv_layer *layer)
{
    fold f = {.in = s->depthwise ? 1 : s->in / layer->groups,
              .out = s->out,
              .taps = layer->kernel * layer->kernel,
              .depthwise = s->depthwise,
              .bias = -1,
              .before = -1,
              .after = -1,
              .gamma = -1};
    int64_t columns = (int64_t)f.taps * f.in;
    bool vector = s->depthwise || layer->groups > 1;
    vt_derived_desc desc = {.name = "folded weight",
                            .role = vector ? VT_WEIGHT_VECTOR : VT_WEIGHT_MATRIX,
                            .rows = s->depthwise ? f.taps : s->out,
                            .cols = s->depthwise ? s->out : columns,
                            .derive = derive_weight,
                            .user = &f,
                            .user_size = sizeof f};
    add_source(&desc, weight);
    f.bias = bias.id ? add_source(&desc, bias) : -1;
    if (s->before) {
        f.before = add_norm(&desc, s->before);
        f.before_eps = s->before->eps;
    }
    if (s->after) {
        f.after = add_norm(&desc, s->after);
        f.after_eps = s->after->eps;
    }
    f.gamma = s->gamma.id ? add_source(&desc, s->gamma) : -1;
    layer->weight = vt_bind_derived(b, &desc);
    if (bias.id || s->before || s->after) {
        desc.name = "folded bias";
        desc.role = VT_WEIGHT_VECTOR;
        desc.rows = 1;
        desc.cols = s->out;
        desc.derive = derive_bias;
        layer->bias = vt_bind_derived(b, &desc);
    }
}

/* ---- the layer ------------------------------------------------------------------------------- */

static int at_least_1(int value)
{
    return value > 1 ? value : 1;
}

vt_conv_layer vt_conv_bind(vt_binder *b, const char *name, const vt_conv_settings *s)
{
    vt_conv_layer layer = {.kernel = at_least_1(s->kernel),
                           .stride = at_least_1(s->stride),
                           .dilation = at_least_1(s->dilation),
                           .pad = s->pad,
                           .pad_to = at_least_1(s->pad_to),
                           .same = s->same,
                           .groups = at_least_1(s->groups),
                           .depthwise = s->depthwise};
    if (s->in < 1 || s->out < 1 || (s->depthwise && s->in != s->out) ||
        (s->before && (layer.kernel > 1 || s->depthwise || layer.groups > 1)) ||
        s->in % layer.groups || s->out % layer.groups || (s->depthwise && layer.groups > 1)) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "%s: %d to %d channels, kernel %d, %d groups", name,
                       s->in, s->out, layer.kernel, layer.groups);
        return layer;
    }
    bool plain = layer.kernel == 1 && layer.groups == 1 && !s->depthwise && !s->before &&
                 !s->after && !s->gamma.id;
    int seen = s->depthwise ? 1 : s->in / layer.groups;
    vt_scope(b, "%s", name);
    vt_weight weight =
        vt_bind(b, &(vt_weight_desc){.name = "weight",
                                     .role = plain ? VT_WEIGHT_MATRIX : VT_WEIGHT_SOURCE,
                                     .rank = layer.kernel > 1 ? 4 : 2,
                                     .shape = {s->out, seen, layer.kernel, layer.kernel}});
    vt_weight bias = {0};
    if (s->bias) {
        bias = vt_bind(b, &(vt_weight_desc){.name = "bias",
                                            .role = plain ? VT_WEIGHT_VECTOR : VT_WEIGHT_SOURCE,
                                            .rank = 1,
                                            .shape = {s->out}});
    }
    if (plain) {
        layer.weight = weight;
        layer.bias = bias;
    } else {
        bind_folded(b, s, weight, bias, &layer);
    }
    vt_scope_end(b);
    return layer;
}

/* Zeros before and after an axis. */
static void pad_axis(const vt_conv_layer *l, int64_t size, int *before, int *after)
{
    if (l->same) {
        int64_t out = (size + l->stride - 1) / l->stride;
        int64_t total = (out - 1) * l->stride + (int64_t)l->dilation * (l->kernel - 1) + 1 - size;
        total = total > 0 ? total : 0;
        *before = (int)(total / 2);
        *after = (int)(total - total / 2);
    } else {
        *before = l->pad;
        *after = l->pad + (int)((l->pad_to - size % l->pad_to) % l->pad_to);
    }
}

vt_value vt_conv_forward(vt_builder *b, const vt_conv_layer *l, vt_value x, vt_activation act)
{
    if (l->kernel == 1 && l->stride == 1 && l->groups == 1 && !l->depthwise) {
        return vt_op_linear(b, x, &(vt_linear){.weight = l->weight, .bias = l->bias, .act = act});
    }
    vt_shape s = vt_value_shape(b, x);
    vt_conv2d conv = {.weight = l->weight,
                      .bias = l->bias,
                      .act = act,
                      .kernel_h = l->kernel,
                      .kernel_w = l->kernel,
                      .stride_h = l->stride,
                      .stride_w = l->stride,
                      .dilation_h = l->dilation,
                      .dilation_w = l->dilation,
                      .groups = l->groups};
    pad_axis(l, s.h, &conv.pad_top, &conv.pad_bottom);
    pad_axis(l, s.w, &conv.pad_left, &conv.pad_right);
    return l->depthwise ? vt_op_depthwise(b, x, &(vt_depthwise){.conv = conv})
                        : vt_op_conv2d(b, x, &conv);
}
