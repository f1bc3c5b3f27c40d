/* SPDX-License-Identifier: Apache-2.0 */
#include "op_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blocks.h"
#include "core/half.h"
#include "ops/ref/ref.h"

enum { DEFAULT_SEED = 20261122 };

uint64_t op_seed(void)
{
    const char *text = getenv("VT_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : DEFAULT_SEED;
    printf("VT_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* splitmix64; the sum of four uniform numbers is bell-shaped enough */
static float draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    uint64_t sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48);
    return (float)((double)sum / 65535.0 - 2.0);
}

static float *random_floats(op_case *c, int64_t count, float mean, float spread)
{
    float *x = vt_alloc(&plain_allocator, (size_t)count * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = mean + spread * draw(&c->seed);
    }
    return x;
}

int64_t op_elements(vt_shape s)
{
    return s.n * s.h * s.w * s.c;
}

void op_begin(op_case *c, uint64_t seed)
{
    *c = (op_case){.seed = seed};
    vt_program_init(&c->program, &plain_allocator);
    c->builder = (vt_builder){.program = &c->program, .weights = c->shapes, .weight_count = 1};
}

void op_clear(op_case *c)
{
    for (int i = 0; i < OP_MAX_MAPS; i++) {
        free(c->maps[i]);
    }
    for (int i = 0; i < OP_MAX_WEIGHTS; i++) {
        free(c->weights[i]);
    }
    vt_program_clear(&c->program);
}

vt_value op_map(op_case *c, vt_shape shape, float mean, float spread)
{
    vt_program *p = &c->program;
    assert_true(vt_array_reserve(&plain_allocator, (void **)&p->maps, &p->map_capacity,
                                 p->map_count, sizeof *p->maps));
    assert_true(p->map_count < OP_MAX_MAPS);
    p->maps[p->map_count] = (vt_map){.shape = shape, .dtype = VT_F32};
    c->maps[p->map_count] = random_floats(c, op_elements(shape), mean, spread);
    return (vt_value){(int32_t)p->map_count++};
}

static vt_weight add_weight(op_case *c, int64_t rows, int64_t cols, float mean, float spread,
                            vt_weight_use use)
{
    size_t id = c->builder.weight_count++;
    assert_true(id < OP_MAX_WEIGHTS);
    c->shapes[id] = (vt_weight_shape){"w", rows, cols};
    c->uses[id] = use;
    c->weights[id] = random_floats(c, rows * cols, mean, spread);
    return (vt_weight){(int32_t)id};
}

vt_weight op_vector(op_case *c, int64_t count, float mean, float spread)
{
    return add_weight(c, 1, count, mean, spread, VT_USE_VECTOR);
}

vt_weight op_vector_rows(op_case *c, int64_t rows, int64_t cols, float spread)
{
    return add_weight(c, rows, cols, 0.0f, spread, VT_USE_VECTOR);
}

vt_weight op_matrix(op_case *c, int64_t rows, int64_t cols, float spread)
{
    return add_weight(c, rows, cols, 0.0f, spread, VT_USE_MATRIX);
}

static void store(void *data, vt_dtype dtype, int64_t i, float x)
{
    if (dtype == VT_F32) {
        ((float *)data)[i] = x;
    } else {
        ((uint16_t *)data)[i] = dtype == VT_BF16 ? vt_to_bf16(x) : vt_to_f16(x);
    }
}

static float load(const void *data, vt_dtype dtype, int64_t i)
{
    if (dtype == VT_F32) {
        return ((const float *)data)[i];
    }
    uint16_t half = ((const uint16_t *)data)[i];
    return dtype == VT_BF16 ? vt_from_bf16(half) : vt_from_f16(half);
}

void op_round(float *values, int64_t count, vt_dtype dtype)
{
    for (int64_t i = 0; dtype != VT_F32 && i < count; i++) {
        uint16_t half;
        store(&half, dtype, 0, values[i]);
        values[i] = load(&half, dtype, 0);
    }
}

void op_set_dtype(op_case *c, vt_value map, vt_dtype dtype)
{
    vt_map *m = &c->program.maps[map.id];
    m->dtype = dtype;
    if (c->maps[map.id]) {
        op_round(c->maps[map.id], op_elements(m->shape), dtype);
    }
}

vt_value op_dst(const op_case *c)
{
    assert_int_equal(c->program.record_count, 1);
    return c->program.records[0].dst;
}

int64_t op_count(const op_case *c)
{
    return op_elements(c->program.maps[op_dst(c).id].shape);
}

static vt_plan_input plan_input(const op_case *c, const op_where *where)
{
    return (vt_plan_input){.backend = where->backend,
                           .program = &c->program,
                           .weights = c->shapes,
                           .dtype = where->dtype,
                           .threads = where->threads};
}

int op_accepting(const op_case *c, const op_where *where, const vt_impl *impls[OP_MAX_IMPLS])
{
    const vt_record *r = &c->program.records[0];
    vt_plan_input in = plan_input(c, where);
    int count = 0;
    for (const vt_impl *const *i = where->backend->impls[r->kind]; i && *i; i++) {
        if (!(*i)->refuse || !(*i)->refuse(&in, r)) {
            assert_true(count < OP_MAX_IMPLS);
            impls[count++] = *i;
        }
    }
    if (count == 0 && where->backend->impls[r->kind]) {
        fail_msg("%s: every implementation of %s refuses", where->backend->name,
                 vt_op_name(r->kind));
    }
    return count;
}

/* A map as the backend keeps it, in host memory. */
static void *map_image(const op_case *c, size_t id, size_t *bytes)
{
    vt_map m = c->program.maps[id];
    int64_t count = op_elements(m.shape);
    *bytes = (size_t)count * vt_dtype_size(m.dtype);
    void *image = vt_alloc(&plain_allocator, *bytes);
    assert_non_null(image);
    for (int64_t i = 0; c->maps[id] && i < count; i++) {
        store(image, m.dtype, i, c->maps[id][i]);
    }
    return image;
}

static test_block make_map(const op_case *c, const op_where *where, size_t id)
{
    size_t bytes;
    void *image = map_image(c, id, &bytes);
    test_block block = block_make(where->backend, where->stream, bytes);
    if (c->maps[id]) {
        block_write(&block, image);
    }
    free(image);
    return block;
}

/* Fails when a source has changed; returns the destination as f32, NULL for a source. */
static float *take_map(const op_case *c, size_t id, test_block *block)
{
    size_t bytes;
    void *image = map_image(c, id, &bytes), *found = vt_alloc(&plain_allocator, bytes);
    float *out = NULL;
    assert_non_null(found);
    block_read(block, found, "map");
    if (c->maps[id]) {
        if (memcmp(image, found, bytes) != 0) {
            fail_msg("source %d was written to", (int)id);
        }
    } else {
        vt_map m = c->program.maps[id];
        int64_t count = op_elements(m.shape);
        out = vt_alloc(&plain_allocator, (size_t)count * sizeof *out);
        assert_non_null(out);
        for (int64_t i = 0; i < count; i++) {
            out[i] = load(found, m.dtype, i);
        }
    }
    free(image);
    free(found);
    block_release(block, "map");
    return out;
}

static void pack_weights(const op_case *c, const op_where *where, vt_weight_data *packed)
{
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        array_rows rows = {c->weights[i], c->shapes[i].cols};
        vt_row_source source = array_source(&rows);
        vt_error error = {0};
        packed[i] = (vt_weight_data){.rows = c->shapes[i].rows,
                                     .cols = c->shapes[i].cols,
                                     .dtype = c->uses[i] == VT_USE_MATRIX ? where->dtype : VT_F32};
        if (where->backend->pack(where->backend, &plain_allocator, c->uses[i], &source, &packed[i],
                                 &error) != VT_OK) {
            fail_msg("pack: %s", error.message);
        }
    }
}

static const vt_impl *first_accepting(const op_case *c, const op_where *where)
{
    const vt_impl *impls[OP_MAX_IMPLS];
    assert_true(op_accepting(c, where, impls) > 0);
    return impls[0];
}

float *op_run(const op_case *c, const op_where *where)
{
    const vt_record *r = &c->program.records[0];
    const vt_backend *backend = where->backend;
    const vt_impl *impl = where->impl ? where->impl : first_accepting(c, where);
    vt_plan_input in = plan_input(c, where);
    vt_error error = {0};
    void *choice = NULL, *maps[OP_MAX_MAPS];
    if (impl->choose && impl->choose(&in, r, &plain_allocator, &choice, &error) != VT_OK) {
        fail_msg("%s: %s", impl->name, error.message);
    }
    vt_weight_data packed[OP_MAX_WEIGHTS] = {{0}};
    pack_weights(c, where, packed);
    test_block blocks[OP_MAX_MAPS];
    for (size_t i = 0; i < c->program.map_count; i++) {
        blocks[i] = make_map(c, where, i);
        maps[i] = block_data(&blocks[i]);
    }
    test_block scratch =
        block_make(backend, where->stream, impl->scratch ? impl->scratch(&in, r) : 0);
    vt_exec exec = {.backend = backend,
                    .program = &c->program,
                    .weights = packed,
                    .maps = maps,
                    .scratch = block_data(&scratch),
                    .threads = where->threads,
                    .stream = where->stream,
                    .choice = choice,
                    .error = &error};
    impl->run(&exec, r);
    if (exec.status != VT_OK) {
        fail_msg("%s: %s", impl->name, error.message);
    }
    block_release(&scratch, "scratch");
    float *out = NULL;
    for (size_t i = 0; i < c->program.map_count; i++) {
        float *values = take_map(c, i, &blocks[i]);
        out = values ? values : out;
    }
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        vt_backend_release(backend, &plain_allocator, packed[i].data);
    }
    vt_free(&plain_allocator, choice);
    return out;
}

/* ---- what is expected ------------------------------------------------------------------------ */

float *op_reference(op_case *c)
{
    vt_program *p = &c->program;
    vt_dtype types[OP_MAX_MAPS];
    for (size_t i = 0; i < p->map_count; i++) {
        types[i] = p->maps[i].dtype;
        p->maps[i].dtype = VT_F32;
    }
    float *out = op_run(c, &(op_where){&vt_backend_ref, NULL, VT_F32, 1, NULL});
    for (size_t i = 0; i < p->map_count; i++) {
        p->maps[i].dtype = types[i];
    }
    return out;
}

static void copy_vector(op_case *to, vt_weight *w, const op_case *from)
{
    if (w->id > 0) {
        int64_t count = from->shapes[w->id].rows * from->shapes[w->id].cols;
        vt_weight own = op_vector(to, count, 0, 0);
        memcpy(to->weights[own.id], from->weights[w->id], (size_t)count * sizeof(float));
        *w = own;
    }
}

/* The norm of a linear record's input as a record of its own. */
static void normalise_source(op_case *c)
{
    op_case norm;
    vt_linear *p = &c->program.records[0].as.linear;
    vt_shape s = c->program.maps[c->program.records[0].source[0].id].shape;
    float *x = c->maps[c->program.records[0].source[0].id];
    size_t bytes = (size_t)op_elements(s) * sizeof *x;
    op_begin(&norm, 0);
    vt_value copy = op_map(&norm, s, 0, 1);
    memcpy(norm.maps[0], x, bytes);
    vt_norm own = p->norm;
    copy_vector(&norm, &own.scale, c);
    copy_vector(&norm, &own.shift, c);
    vt_op_norm(&norm.builder, copy, &own);
    float *rows = op_reference(&norm);
    memcpy(x, rows, bytes);
    free(rows);
    op_clear(&norm);
    p->norm_place = VT_NORM_NONE;
}

/* A case with copies of the data, whose program is shared. */
static op_case copy_data(const op_case *c)
{
    op_case copy = *c;
    for (size_t i = 0; i < c->program.map_count; i++) {
        size_t bytes = (size_t)op_elements(c->program.maps[i].shape) * sizeof(float);
        copy.maps[i] = c->maps[i] ? vt_alloc(&plain_allocator, bytes) : NULL;
        if (c->maps[i]) {
            memcpy(copy.maps[i], c->maps[i], bytes);
        }
    }
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        size_t bytes = (size_t)(c->shapes[i].rows * c->shapes[i].cols) * sizeof(float);
        copy.weights[i] = vt_alloc(&plain_allocator, bytes);
        memcpy(copy.weights[i], c->weights[i], bytes);
    }
    return copy;
}

/* What a model does after the sums of a product or convolution, each a step of its own. */
typedef struct later_steps {
    vt_activation act;
    const float *other; /* NULL, or a map that is added; with `gated` a factor */
    bool gated;
} later_steps;

/* Takes the steps out of a record whose results are maps of a half type. */
static later_steps take_later_steps(op_case *c, vt_dtype dtype)
{
    vt_record *r = &c->program.records[0];
    vt_linear *p = &r->as.linear;
    later_steps later = {VT_ACT_NONE, NULL, false};
    if (dtype != VT_F32 && r->kind == VT_OP_CONV2D) {
        later.act = r->as.conv2d.act;
        r->as.conv2d.act = VT_ACT_NONE;
    } else if (dtype != VT_F32 && r->kind == VT_OP_LINEAR && p->norm_place != VT_NORM_OUTPUT &&
               (p->act != VT_ACT_NONE || p->gated)) {
        later =
            (later_steps){p->act, r->source[1].id < 0 ? NULL : c->maps[r->source[1].id], p->gated};
        p->act = VT_ACT_NONE;
        p->gated = false;
        r->source[1].id = -1;
    }
    return later;
}

/* Rounds the sums, and again after each step. */
static void take_steps(float *x, int64_t count, vt_dtype dtype, const later_steps *later)
{
    op_round(x, count, dtype);
    for (int64_t i = 0; i < count; i++) {
        x[i] = vt_ref_activate(later->act, x[i]);
    }
    op_round(x, count, dtype);
    for (int64_t i = 0; later->other && i < count; i++) {
        x[i] = later->gated ? later->other[i] * x[i] : later->other[i] + x[i];
    }
    op_round(x, count, dtype);
}

/* What a product multiplies and its bias, as libraries want them; a residual stays as it is. */
static void round_operands(op_case *c, vt_weight weight, vt_weight bias, vt_dtype dtype)
{
    int32_t x = c->program.records[0].source[0].id;
    op_round(c->maps[x], op_elements(c->program.maps[x].shape), dtype);
    op_round(c->weights[weight.id], c->shapes[weight.id].rows * c->shapes[weight.id].cols, dtype);
    if (bias.id > 0) {
        op_round(c->weights[bias.id], c->shapes[bias.id].cols, dtype);
    }
}

float *op_naive(const op_case *c, vt_dtype dtype)
{
    op_case copy = copy_data(c);
    vt_record *r = &copy.program.records[0], saved = *r;
    vt_map dst = c->program.maps[r->dst.id];
    if (r->kind == VT_OP_LINEAR && r->as.linear.norm_place == VT_NORM_INPUT &&
        r->as.linear.patch <= 1) {
        normalise_source(&copy);
    }
    if (r->kind == VT_OP_LINEAR) {
        round_operands(&copy, r->as.linear.weight, r->as.linear.bias, dtype);
    } else if (r->kind == VT_OP_CONV2D) {
        round_operands(&copy, r->as.conv2d.weight, r->as.conv2d.bias, dtype);
    }
    if (r->kind == VT_OP_ATTENTION && r->as.attention.pad.id > 0) { /* rows like those of the map */
        int32_t pad = r->as.attention.pad.id;
        op_round(copy.weights[pad], copy.shapes[pad].cols,
                 copy.program.maps[r->source[0].id].dtype);
    }
    later_steps later = take_later_steps(&copy, dtype);
    float *out = op_reference(&copy);
    take_steps(out, op_elements(dst.shape), dst.dtype, &later);
    *r = saved;
    for (int i = 0; i < OP_MAX_MAPS; i++) {
        free(copy.maps[i]);
    }
    for (int i = 0; i < OP_MAX_WEIGHTS; i++) {
        free(copy.weights[i]);
    }
    return out;
}

double op_distance(const float *a, const float *b, int64_t count)
{
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= INFINITY) || (isinf(a[i]) && !isinf(b[i]))) {
            return INFINITY;
        }
        worst = d > worst ? d : worst;
        largest = fabs((double)b[i]) > largest ? fabs((double)b[i]) : largest;
    }
    return largest > 0 ? worst / largest : worst;
}

bool op_is_close(const op_where *where, const op_case *c, const char *name, const float *got,
                 const float *want, double limit)
{
    int64_t count = op_count(c), at = 0;
    double d = op_distance(got, want, count);
    if (d <= limit) {
        return true;
    }
    for (int64_t i = 0; i < count; i++) {
        double e = fabs((double)got[i] - (double)want[i]);
        if (!(e <= fabs((double)got[at] - (double)want[at]))) {
            at = i;
        }
    }
    const vt_record *r = &c->program.records[0];
    print_error(
        "%s '%s', %s '%s' %s, %s to %s: off by %.3g, limit %.3g; [%lld] is %.9g, want %.9g\n",
        vt_op_name(r->kind), name, where->backend->name, where->impl ? where->impl->name : "best",
        vt_dtype_name(where->dtype), vt_dtype_name(c->program.maps[r->source[0].id].dtype),
        vt_dtype_name(c->program.maps[r->dst.id].dtype), d, limit, (long long)at, (double)got[at],
        (double)want[at]);
    return false;
}
