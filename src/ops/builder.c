/* SPDX-License-Identifier: Apache-2.0 */
/* Recording: appends records and computes the shape of what they produce. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/checked.h"
#include "ops/pattern.h"
#include "ops/program.h"

void vt_program_init(vt_program *program, const vt_allocator *allocator)
{
    *program = (vt_program){.pool = {.allocator = allocator}, .input = VT_NO_VALUE};
}

void vt_program_clear(vt_program *program)
{
    const vt_allocator *allocator = program->pool.allocator;
    if (allocator) {
        vt_free(allocator, program->records);
        vt_free(allocator, program->maps);
        vt_pool_clear(&program->pool);
    }
    *program = (vt_program){.pool = {.allocator = allocator}, .input = VT_NO_VALUE};
}

void vt_builder_fail(vt_builder *b, vt_status status, const char *format, ...)
{
    if (b->status != VT_OK) {
        return;
    }
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    b->status = b->label[0] ? vt_error_set(&b->error, status, "%s: %s", b->label, text)
                            : vt_error_set(&b->error, status, "%s", text);
}

void vt_label(vt_builder *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(b->label, sizeof b->label, format, args);
    va_end(args);
}

vt_shape vt_value_shape(const vt_builder *b, vt_value value)
{
    if (value.id < 0 || (size_t)value.id >= b->program->map_count) {
        return (vt_shape){0, 0, 0, 0};
    }
    return b->program->maps[value.id].shape;
}

static vt_value new_map(vt_builder *b, vt_shape shape)
{
    vt_program *p = b->program;
    int64_t elements;
    if (shape.n < 1 || shape.h < 1 || shape.w < 1 || shape.c < 1 ||
        !vt_mul_i64(shape.n, shape.h, &elements) || !vt_mul_i64(elements, shape.w, &elements) ||
        !vt_mul_i64(elements, shape.c, &elements) || elements > INT64_MAX / 16) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "a map of %lldx%lldx%lldx%lld is not possible",
                        (long long)shape.n, (long long)shape.h, (long long)shape.w,
                        (long long)shape.c);
        return VT_NO_VALUE;
    }
    if (!vt_array_reserve(p->pool.allocator, (void **)&p->maps, &p->map_capacity, p->map_count,
                          sizeof *p->maps)) {
        vt_builder_fail(b, VT_ERR_MEMORY, "out of memory for the program");
        return VT_NO_VALUE;
    }
    p->maps[p->map_count] = (vt_map){.shape = shape, .dtype = VT_F32};
    return (vt_value){(int32_t)p->map_count++};
}

/* Appends `record` with a new destination of `shape`; its dst field is filled in. */
static vt_value append(vt_builder *b, vt_record record, vt_shape shape)
{
    vt_program *p = b->program;
    if (b->status != VT_OK) {
        return VT_NO_VALUE;
    }
    record.dst = new_map(b, shape);
    record.label = vt_pool_strndup(&p->pool, b->label, strlen(b->label));
    if (record.dst.id < 0 || !record.label ||
        !vt_array_reserve(p->pool.allocator, (void **)&p->records, &p->record_capacity,
                          p->record_count, sizeof *p->records)) {
        vt_builder_fail(b, VT_ERR_MEMORY, "out of memory for the program");
        return VT_NO_VALUE;
    }
    p->records[p->record_count++] = record;
    return record.dst;
}

/* Checks an operand; false (with an error, unless one stands already) when it is missing. */
static bool operand(vt_builder *b, vt_value x, vt_op_kind kind)
{
    if (b->status != VT_OK) {
        return false;
    }
    if (x.id < 0 || (size_t)x.id >= b->program->map_count) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: an operand is missing", vt_op_name(kind));
        return false;
    }
    return true;
}

/* Checks that an optional vector has `want` elements. */
static bool vector_fits(vt_builder *b, vt_weight w, int64_t want, vt_op_kind kind)
{
    if (w.id == 0) {
        return true;
    }
    if (w.id < 0 || (size_t)w.id >= b->weight_count) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: unknown weight", vt_op_name(kind));
        return false;
    }
    const vt_weight_shape *s = &b->weights[w.id];
    if (s->rows * s->cols != want) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: %s has %lld elements, want %lld", vt_op_name(kind),
                        s->name, (long long)(s->rows * s->cols), (long long)want);
        return false;
    }
    return true;
}

static bool same_places(vt_shape a, vt_shape b)
{
    return a.n == b.n && a.h == b.h && a.w == b.w;
}

/* The same for a vector that must be there. */
static bool needed_vector(vt_builder *b, vt_weight w, int64_t want, vt_op_kind kind)
{
    if (w.id == 0) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: weight is missing", vt_op_name(kind));
    }
    return w.id != 0 && vector_fits(b, w, want, kind);
}

/* Checks that a matrix has `cols` columns; returns its rows, or 0 after a failure. */
static int64_t matrix_rows(vt_builder *b, vt_weight w, int64_t cols, vt_op_kind kind)
{
    if (w.id <= 0 || (size_t)w.id >= b->weight_count) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: weight is missing", vt_op_name(kind));
        return 0;
    }
    const vt_weight_shape *s = &b->weights[w.id];
    if (s->cols != cols) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: %s has %lld columns, the input has %lld channels",
                        vt_op_name(kind), s->name, (long long)s->cols, (long long)cols);
        return 0;
    }
    return s->rows;
}

/* a * b * c, or INT64_MAX where that is more: no map and no weight is so large. */
static int64_t product(int64_t a, int64_t b, int64_t c)
{
    int64_t out;
    return vt_mul_i64(a, b, &out) && vt_mul_i64(out, c, &out) ? out : INT64_MAX;
}

bool vt_builder_input(vt_builder *b, vt_shape shape)
{
    b->program->input = new_map(b, shape);
    return b->status == VT_OK;
}

vt_value vt_input(vt_builder *b)
{
    return b->program->input;
}

vt_value vt_op_linear(vt_builder *b, vt_value x, const vt_linear *linear)
{
    if (!operand(b, x, VT_OP_LINEAR)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x);
    int patch = linear->patch > 1 ? linear->patch : 1;
    int64_t in = product(s.c, patch, patch);
    int64_t out = matrix_rows(b, linear->weight, in, VT_OP_LINEAR);
    int64_t norm_width = linear->norm_place == VT_NORM_OUTPUT ? out : in;
    if (out == 0 || !vector_fits(b, linear->bias, out, VT_OP_LINEAR) ||
        !vector_fits(b, linear->norm.scale, norm_width, VT_OP_LINEAR) ||
        !vector_fits(b, linear->norm.shift, norm_width, VT_OP_LINEAR)) {
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_LINEAR, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.linear = *linear;
    r.as.linear.patch = patch;
    r.as.linear.gated = false; /* there is no residual yet */
    return append(b, r, (vt_shape){s.n, vt_div_up(s.h, patch), vt_div_up(s.w, patch), out});
}

static int64_t conv_extent(int64_t size, int64_t pad, int kernel, int dilation, int stride)
{
    int64_t span = size + pad - (int64_t)dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

/* The size that a kernel makes of a map of `s`; 0 channels after a failure. */
static vt_shape conv_shape(vt_builder *b, vt_shape s, const vt_conv2d *c, vt_op_kind kind)
{
    if (c->kernel_h < 1 || c->kernel_w < 1 || c->stride_h < 1 || c->stride_w < 1 ||
        c->dilation_h < 1 || c->dilation_w < 1 || c->pad_top < 0 || c->pad_left < 0 ||
        c->pad_bottom < 0 || c->pad_right < 0 || c->groups < 0 ||
        (kind == VT_OP_DEPTHWISE && c->groups > 1)) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: kernel, stride and dilation start at 1",
                        vt_op_name(kind));
        return (vt_shape){0, 0, 0, 0};
    }
    int64_t h = conv_extent(s.h, (int64_t)c->pad_top + c->pad_bottom, c->kernel_h, c->dilation_h,
                            c->stride_h);
    int64_t w = conv_extent(s.w, (int64_t)c->pad_left + c->pad_right, c->kernel_w, c->dilation_w,
                            c->stride_w);
    return (vt_shape){s.n, h, w, s.c};
}

static bool groups_divide(vt_builder *b, int64_t channels, int groups)
{
    if (channels % groups) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "conv2d: %lld channels in %d groups",
                        (long long)channels, groups);
    }
    return channels % groups == 0;
}

vt_value vt_op_conv2d(vt_builder *b, vt_value x, const vt_conv2d *conv)
{
    if (!operand(b, x, VT_OP_CONV2D)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x), d = conv_shape(b, s, conv, VT_OP_CONV2D);
    if (d.c == 0) {
        return VT_NO_VALUE;
    }
    int groups = conv->groups > 1 ? conv->groups : 1;
    int64_t seen = product(s.c, conv->kernel_h, conv->kernel_w) / groups;
    if (!groups_divide(b, s.c, groups)) {
        return VT_NO_VALUE;
    }
    d.c = matrix_rows(b, conv->weight, seen, VT_OP_CONV2D);
    if (d.c == 0 || !groups_divide(b, d.c, groups) ||
        !vector_fits(b, conv->bias, d.c, VT_OP_CONV2D)) {
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_CONV2D, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.conv2d = *conv;
    return append(b, r, d);
}

vt_value vt_op_depthwise(vt_builder *b, vt_value x, const vt_depthwise *depthwise)
{
    const vt_conv2d *c = &depthwise->conv;
    if (!operand(b, x, VT_OP_DEPTHWISE)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x), d = conv_shape(b, s, c, VT_OP_DEPTHWISE);
    if (d.c == 0 ||
        !needed_vector(b, c->weight, product(s.c, c->kernel_h, c->kernel_w), VT_OP_DEPTHWISE) ||
        !vector_fits(b, c->bias, s.c, VT_OP_DEPTHWISE) ||
        !vector_fits(b, depthwise->affine.scale, s.c, VT_OP_DEPTHWISE) ||
        !vector_fits(b, depthwise->affine.shift, s.c, VT_OP_DEPTHWISE)) {
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_DEPTHWISE, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.depthwise = *depthwise;
    return append(b, r, d);
}

vt_value vt_op_affine(vt_builder *b, vt_value x, const vt_affine *affine)
{
    vt_shape s = vt_value_shape(b, x);
    if (!operand(b, x, VT_OP_AFFINE) || !needed_vector(b, affine->scale, s.c, VT_OP_AFFINE) ||
        !vector_fits(b, affine->shift, s.c, VT_OP_AFFINE)) {
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_AFFINE, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.affine = *affine;
    return append(b, r, s);
}

vt_value vt_op_pool(vt_builder *b, vt_value x, const vt_pooling *p)
{
    if (!operand(b, x, VT_OP_POOL)) {
        return VT_NO_VALUE;
    }
    if (p->kernel < 1 || p->stride < 1 || p->pad_top < 0 || p->pad_left < 0 || p->pad_bottom < 0 ||
        p->pad_right < 0 || p->pad_top >= p->kernel || p->pad_left >= p->kernel ||
        p->pad_bottom >= p->kernel || p->pad_right >= p->kernel) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "pool: kernel %d, stride %d, padding %d,%d,%d,%d",
                        p->kernel, p->stride, p->pad_top, p->pad_left, p->pad_bottom, p->pad_right);
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x);
    s.h = conv_extent(s.h, (int64_t)p->pad_top + p->pad_bottom, p->kernel, 1, p->stride);
    s.w = conv_extent(s.w, (int64_t)p->pad_left + p->pad_right, p->kernel, 1, p->stride);
    vt_record r = {.kind = VT_OP_POOL, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.pooling = *p;
    return append(b, r, s);
}

vt_value vt_op_mul(vt_builder *b, vt_value x, vt_value y)
{
    if (!operand(b, x, VT_OP_MUL) || !operand(b, y, VT_OP_MUL)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x), t = vt_value_shape(b, y);
    if (s.n != t.n || s.c != t.c || !(same_places(s, t) || (t.h == 1 && t.w == 1))) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "mul: the shapes differ");
        return VT_NO_VALUE;
    }
    return append(b, (vt_record){.kind = VT_OP_MUL, .source = {x, y, VT_NO_VALUE}}, s);
}

vt_value vt_op_concat(vt_builder *b, vt_value x, vt_value y)
{
    if (!operand(b, x, VT_OP_CONCAT) || !operand(b, y, VT_OP_CONCAT)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x), t = vt_value_shape(b, y);
    if (!same_places(s, t)) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "concat: the maps differ in size");
        return VT_NO_VALUE;
    }
    s.c += t.c;
    return append(b, (vt_record){.kind = VT_OP_CONCAT, .source = {x, y, VT_NO_VALUE}}, s);
}

vt_value vt_op_deform_patches(vt_builder *b, vt_value x, vt_value offsets, int kernel)
{
    if (!operand(b, x, VT_OP_DEFORM_PATCHES) || !operand(b, offsets, VT_OP_DEFORM_PATCHES)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x), t = vt_value_shape(b, offsets);
    int64_t taps = product(kernel, kernel, 1);
    if (kernel < 1 || t.n != s.n || t.h != s.h / kernel || t.w != s.w / kernel || t.c != 2 * taps) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "deform_patches: kernel %d, offsets of %lldx%lldx%lld for a map of "
                        "%lldx%lld",
                        kernel, (long long)t.h, (long long)t.w, (long long)t.c, (long long)s.h,
                        (long long)s.w);
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_DEFORM_PATCHES, .source = {x, offsets, VT_NO_VALUE}};
    r.as.block = kernel;
    return append(b, r, (vt_shape){t.n, t.h, t.w, product(taps, s.c, 1)});
}

vt_value vt_op_norm(vt_builder *b, vt_value x, const vt_norm *norm)
{
    vt_shape s = vt_value_shape(b, x);
    if (!operand(b, x, VT_OP_NORM) || !vector_fits(b, norm->scale, s.c, VT_OP_NORM) ||
        !vector_fits(b, norm->shift, s.c, VT_OP_NORM)) {
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_NORM, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.norm = *norm;
    return append(b, r, s);
}

vt_value vt_op_add(vt_builder *b, vt_value x, vt_value y)
{
    if (!operand(b, x, VT_OP_ADD) || !operand(b, y, VT_OP_ADD)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x), t = vt_value_shape(b, y);
    if (s.n != t.n || s.h != t.h || s.w != t.w || s.c != t.c) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "add: the shapes differ");
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_ADD, .source = {x, y, VT_NO_VALUE}};
    return append(b, r, s);
}

vt_value vt_op_space_to_depth(vt_builder *b, vt_value x, int block)
{
    if (!operand(b, x, VT_OP_SPACE_TO_DEPTH)) {
        return VT_NO_VALUE;
    }
    if (block < 1) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "space_to_depth: block = %d", block);
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x);
    vt_record r = {.kind = VT_OP_SPACE_TO_DEPTH, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    r.as.block = block;
    return append(
        b, r,
        (vt_shape){s.n, vt_div_up(s.h, block), vt_div_up(s.w, block), product(s.c, block, block)});
}

vt_value vt_op_mean_pool(vt_builder *b, vt_value x)
{
    if (!operand(b, x, VT_OP_MEAN_POOL)) {
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, x);
    vt_record r = {.kind = VT_OP_MEAN_POOL, .source = {x, VT_NO_VALUE, VT_NO_VALUE}};
    return append(b, r, (vt_shape){s.n, 1, 1, s.c});
}

static bool heads_fit(vt_builder *b, const vt_heads *h, int heads, const char *which)
{
    vt_shape s = vt_value_shape(b, h->map);
    if (h->offset < 0 || h->width < 1 || h->offset + (int64_t)heads * h->width > s.c) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "attention: %s = channels %d + %d x %d, the map has %lld", which, h->offset,
                        heads, h->width, (long long)s.c);
        return false;
    }
    return true;
}

static bool pattern_fits(vt_builder *b, const vt_pattern *p)
{
    bool global = p->kind == VT_PATTERN_GLOBAL;
    bool good = p->window_h >= !global && p->window_w >= !global && p->shift_h >= 0 &&
                p->shift_w >= 0 && p->dilation_h >= 0 && p->dilation_w >= 0 && p->stride_h >= 0 &&
                p->stride_w >= 0 && p->halo_h >= 0 && p->halo_w >= 0;
    switch (p->kind) {
    case VT_PATTERN_WINDOW:
        good = good && p->shift_h < p->window_h && p->shift_w < p->window_w;
        break;
    case VT_PATTERN_GRID: good = good && p->shift_h == 0 && p->shift_w == 0; break;
    case VT_PATTERN_NEIGHBORHOOD:
        good = good && p->stride_h <= p->window_h && p->stride_w <= p->window_w;
        break;
    case VT_PATTERN_HALO:
        good = good && (p->stride_h == 0 || p->window_h % p->stride_h == 0) &&
               (p->stride_w == 0 || p->window_w % p->stride_w == 0);
        break;
    case VT_PATTERN_GLOBAL: break;
    default: good = false;
    }
    if (!good) {
        vt_builder_fail(b, VT_ERR_ARGUMENT,
                        "attention: pattern %d: window %dx%d, shift %d,%d, dilation %d,%d, stride "
                        "%d,%d, halo %d,%d",
                        (int)p->kind, p->window_h, p->window_w, p->shift_h, p->shift_w,
                        p->dilation_h, p->dilation_w, p->stride_h, p->stride_w, p->halo_h,
                        p->halo_w);
    }
    return good;
}

/* Whether the sizes of the query map and the key map suit the pattern. */
static bool sizes_fit(vt_builder *b, const vt_pattern *p, vt_shape q, vt_shape k, vt_shape v)
{
    bool good = q.n == k.n && same_places(k, v);
    if (p->kind == VT_PATTERN_HALO) {
        if (good && (k.h % p->window_h || k.w % p->window_w)) {
            vt_builder_fail(b, VT_ERR_ARGUMENT,
                            "attention: a map of %lldx%lld is not made of blocks of %dx%d",
                            (long long)k.h, (long long)k.w, p->window_h, p->window_w);
            return false;
        }
        good = good && q.h * vt_axis_rows(p, q.h, k.h).stride == k.h &&
               q.w * vt_axis_cols(p, q.w, k.w).stride == k.w;
    } else if (p->kind != VT_PATTERN_GLOBAL) {
        good = good && same_places(q, k);
    }
    if (!good) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "attention: the maps of q, k and v differ in size");
    }
    return good;
}

/* Whether the tables of positions have the sizes that the pattern wants. */
static bool tables_fit(vt_builder *b, const vt_attention *a, vt_shape q, vt_shape k)
{
    const vt_pattern *p = &a->pattern;
    int64_t rows = 2 * (int64_t)vt_axis_rows(p, q.h, k.h).span - 1;
    int64_t cols = 2 * (int64_t)vt_axis_cols(p, q.w, k.w).span - 1;
    if (p->kind == VT_PATTERN_GLOBAL && (a->bias.id || a->rows.id || a->cols.id)) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "attention: a global pattern knows no positions");
        return false;
    }
    if (!a->rows.id != !a->cols.id) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "attention: rows and cols come together");
        return false;
    }
    return vector_fits(b, a->bias, product(a->heads, rows, cols), VT_OP_ATTENTION) &&
           vector_fits(b, a->rows, product(rows, a->q.width, 1), VT_OP_ATTENTION) &&
           vector_fits(b, a->cols, product(cols, a->q.width, 1), VT_OP_ATTENTION) &&
           vector_fits(b, a->temperature, a->heads, VT_OP_ATTENTION) &&
           vector_fits(b, a->pad, k.c, VT_OP_ATTENTION);
}

vt_value vt_op_attention(vt_builder *b, const vt_attention *a)
{
    if (!operand(b, a->q.map, VT_OP_ATTENTION) || !operand(b, a->k.map, VT_OP_ATTENTION) ||
        !operand(b, a->v.map, VT_OP_ATTENTION) || !pattern_fits(b, &a->pattern)) {
        return VT_NO_VALUE;
    }
    if (a->heads < 1 || a->q.width != a->k.width) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "attention: %d heads, %d channels of q, %d of k",
                        a->heads, a->q.width, a->k.width);
        return VT_NO_VALUE;
    }
    vt_shape q = vt_value_shape(b, a->q.map), k = vt_value_shape(b, a->k.map);
    if (!sizes_fit(b, &a->pattern, q, k, vt_value_shape(b, a->v.map)) ||
        !heads_fit(b, &a->q, a->heads, "q") || !heads_fit(b, &a->k, a->heads, "k") ||
        !heads_fit(b, &a->v, a->heads, "v") || !tables_fit(b, a, q, k)) {
        return VT_NO_VALUE;
    }
    vt_record r = {.kind = VT_OP_ATTENTION, .source = {a->q.map, a->k.map, a->v.map}};
    r.as.attention = *a;
    return append(b, r, (vt_shape){q.n, q.h, q.w, (int64_t)a->heads * a->v.width});
}

/* The operands of an attention without a pattern: three maps of one size, heads of one width. */
static bool equal_heads(vt_builder *b, vt_op_kind kind, int heads, const vt_heads *x,
                        const vt_heads *y, const vt_heads *z)
{
    if (!operand(b, x->map, kind) || !operand(b, y->map, kind) || !operand(b, z->map, kind)) {
        return false;
    }
    vt_shape s = vt_value_shape(b, x->map);
    if (heads < 1 || x->width != y->width || !same_places(s, vt_value_shape(b, y->map)) ||
        !same_places(s, vt_value_shape(b, z->map))) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "%s: maps or heads differ in size", vt_op_name(kind));
        return false;
    }
    return heads_fit(b, x, heads, "the first operand") &&
           heads_fit(b, y, heads, "the second operand") &&
           heads_fit(b, z, heads, "the third operand");
}

vt_value vt_op_linear_attention(vt_builder *b, const vt_linear_attention *a)
{
    if (!equal_heads(b, VT_OP_LINEAR_ATTENTION, a->heads, &a->q, &a->k, &a->v) ||
        !vector_fits(b, a->temperature, a->heads, VT_OP_LINEAR_ATTENTION)) {
        return VT_NO_VALUE;
    }
    if (!(a->floor > 0.0f)) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "linear_attention: floor = %g", (double)a->floor);
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, a->q.map);
    vt_record r = {.kind = VT_OP_LINEAR_ATTENTION, .source = {a->q.map, a->k.map, a->v.map}};
    r.as.linear_attention = *a;
    return append(b, r, (vt_shape){s.n, s.h, s.w, (int64_t)a->heads * a->v.width});
}

vt_value vt_op_channel_attention(vt_builder *b, const vt_channel_attention *a)
{
    if (!equal_heads(b, VT_OP_CHANNEL_ATTENTION, a->heads, &a->left, &a->right, &a->value)) {
        return VT_NO_VALUE;
    }
    if (a->value.width != a->right.width) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "channel_attention: heads of %d and %d channels",
                        a->right.width, a->value.width);
        return VT_NO_VALUE;
    }
    vt_shape s = vt_value_shape(b, a->left.map);
    vt_record r = {.kind = VT_OP_CHANNEL_ATTENTION,
                   .source = {a->left.map, a->right.map, a->value.map}};
    r.as.channel_attention = *a;
    return append(b, r, (vt_shape){s.n, s.h, s.w, (int64_t)a->heads * a->left.width});
}

void vt_output(vt_builder *b, const char *name, vt_value value)
{
    vt_program *p = b->program;
    if (b->status != VT_OK || value.id < 0) {
        return;
    }
    if ((size_t)value.id >= p->map_count) {
        vt_builder_fail(b, VT_ERR_ARGUMENT, "output '%s': there is no such map", name);
        return;
    }
    if (p->output_count == VT_MAX_OUTPUTS) {
        vt_builder_fail(b, VT_ERR_LIMIT, "output '%s': more than %d outputs", name, VT_MAX_OUTPUTS);
        return;
    }
    char *copy = vt_pool_strndup(&p->pool, name, strlen(name));
    if (!copy) {
        vt_builder_fail(b, VT_ERR_MEMORY, "out of memory for the program");
        return;
    }
    p->outputs[p->output_count++] = (vt_named_output){copy, value};
}
