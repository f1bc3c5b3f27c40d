/* SPDX-License-Identifier: Apache-2.0 */
#include "op_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/memory.h"

enum { GUARD = 256, CANARY = 0xAB };

static void *plain_alloc(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *p = NULL;
    return posix_memalign(&p, alignment, size) == 0 ? p : NULL;
}

static void plain_free(void *user, void *pointer)
{
    (void)user;
    free(pointer);
}

static const vt_allocator plain = {plain_alloc, plain_free, NULL};

uint64_t op_seed(void)
{
    const char *text = getenv("VT_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
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
    float *x = vt_alloc(&plain, (size_t)count * sizeof *x);
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
    vt_program_init(&c->program, &plain);
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
    assert_true(vt_array_reserve(&plain, (void **)&p->maps, &p->map_capacity, p->map_count,
                                 sizeof *p->maps));
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

vt_weight op_matrix(op_case *c, int64_t rows, int64_t cols, float spread)
{
    return add_weight(c, rows, cols, 0.0f, spread, VT_USE_MATRIX);
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void op_round_bf16(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        values[i] = from_bf16(to_bf16(values[i]));
    }
}

void op_set_dtype(op_case *c, vt_value map, vt_dtype dtype)
{
    vt_map *m = &c->program.maps[map.id];
    m->dtype = dtype;
    if (dtype == VT_BF16 && c->maps[map.id]) {
        op_round_bf16(c->maps[map.id], op_elements(m->shape));
    }
}

typedef struct row_reader {
    const float *data;
    int64_t cols;
} row_reader;

static vt_status read_rows(void *user, int64_t first, int64_t count, float *out, vt_error *error)
{
    (void)error;
    const row_reader *r = user;
    memcpy(out, r->data + first * r->cols, (size_t)(count * r->cols) * sizeof *out);
    return VT_OK;
}

/* A block with a guard band on either side; the middle is aligned. */
static char *guarded(size_t bytes)
{
    char *block = vt_alloc(&plain, bytes + 2 * GUARD);
    assert_non_null(block);
    memset(block, CANARY, bytes + 2 * GUARD);
    return block + GUARD;
}

static void check_guards(const char *middle, size_t bytes, const char *what)
{
    for (int i = 0; i < GUARD; i++) {
        if ((unsigned char)middle[i - GUARD] != CANARY ||
            (unsigned char)middle[bytes + (size_t)i] != CANARY) {
            fail_msg("%s: the guard band was written to", what);
        }
    }
}

static void *make_map(const op_case *c, size_t id, size_t *bytes)
{
    vt_map m = c->program.maps[id];
    int64_t count = op_elements(m.shape);
    *bytes = (size_t)count * vt_dtype_size(m.dtype);
    char *data = guarded(*bytes);
    for (int64_t i = 0; c->maps[id] && i < count; i++) {
        if (m.dtype == VT_BF16) {
            ((uint16_t *)(void *)data)[i] = to_bf16(c->maps[id][i]);
        } else {
            ((float *)(void *)data)[i] = c->maps[id][i];
        }
    }
    return data;
}

static float *widened(const void *data, vt_map m)
{
    int64_t count = op_elements(m.shape);
    float *out = vt_alloc(&plain, (size_t)count * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < count; i++) {
        out[i] =
            m.dtype == VT_BF16 ? from_bf16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
    }
    return out;
}

static void pack_weights(const op_case *c, const vt_backend *backend, vt_dtype dtype,
                         vt_weight_data *packed)
{
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        row_reader reader = {c->weights[i], c->shapes[i].cols};
        vt_row_source source = {read_rows, &reader};
        vt_error error = {0};
        packed[i] = (vt_weight_data){.rows = c->shapes[i].rows,
                                     .cols = c->shapes[i].cols,
                                     .dtype = c->uses[i] == VT_USE_MATRIX ? dtype : VT_F32};
        if (backend->pack(backend, &plain, c->uses[i], &source, &packed[i], &error) != VT_OK) {
            fail_msg("pack: %s", error.message);
        }
    }
}

float *op_run(const op_case *c, const vt_backend *backend, vt_dtype dtype, int threads)
{
    const vt_record *r = &c->program.records[0];
    assert_int_equal(c->program.record_count, 1);
    vt_weight_data packed[OP_MAX_WEIGHTS] = {{0}};
    pack_weights(c, backend, dtype, packed);
    void *maps[OP_MAX_MAPS];
    size_t bytes[OP_MAX_MAPS];
    for (size_t i = 0; i < c->program.map_count; i++) {
        maps[i] = make_map(c, i, &bytes[i]);
    }
    vt_plan_input in = {backend, &c->program, c->shapes, dtype, threads};
    const vt_impl *impl = backend->impls[r->kind][0];
    assert_true(!impl->refuse || !impl->refuse(&in, r));
    size_t scratch_bytes = impl->scratch ? impl->scratch(&in, r) : 0;
    char *scratch = guarded(scratch_bytes);
    vt_exec exec = {.backend = backend,
                    .program = &c->program,
                    .weights = packed,
                    .maps = maps,
                    .scratch = scratch,
                    .threads = threads};
    impl->run(&exec, r);
    check_guards(scratch, scratch_bytes, "scratch");
    float *out = widened(maps[r->dst.id], c->program.maps[r->dst.id]);
    for (size_t i = 0; i < c->program.map_count; i++) {
        check_guards(maps[i], bytes[i], "map");
        free((char *)maps[i] - GUARD);
    }
    free(scratch - GUARD);
    for (size_t i = 1; i < c->builder.weight_count; i++) {
        free(packed[i].data);
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
