/* SPDX-License-Identifier: Apache-2.0 */
#include "model_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blocks.h"
#include "core/context.h"
#include "model_compare.h"
#include "random.h"

size_t shape_count(vt_shape s)
{
    return (size_t)(s.n * s.h * s.w * s.c);
}

void program_begin(test_program *t, vt_shape input)
{
    memset(t, 0, sizeof *t);
    vt_program_init(&t->program, &plain_allocator);
    t->builder = (vt_builder){.program = &t->program, .weights = t->shapes, .weight_count = 1};
    t->shapes[0].name = "none";
    assert_true(vt_builder_input(&t->builder, input));
}

void program_end(test_program *t)
{
    vt_program_clear(&t->program);
    for (int i = 0; i < PROGRAM_MAX_WEIGHTS; i++) {
        free(t->values[i]);
    }
}

static vt_weight add_weight(test_program *t, int64_t rows, int64_t cols, bool matrix)
{
    size_t i = t->builder.weight_count++;
    assert_true(i < PROGRAM_MAX_WEIGHTS);
    t->shapes[i] = (vt_weight_shape){matrix ? "matrix" : "vector", rows, cols};
    t->matrix[i] = matrix;
    t->values[i] = malloc((size_t)(rows * cols) * sizeof(float));
    assert_non_null(t->values[i]);
    return (vt_weight){(int32_t)i};
}

static vt_weight filled(test_program *t, vt_weight w, const float *values)
{
    size_t count = (size_t)(t->shapes[w.id].rows * t->shapes[w.id].cols);
    memcpy(t->values[w.id], values, count * sizeof *values);
    return w;
}

vt_weight program_matrix(test_program *t, int64_t rows, int64_t cols, const float *values)
{
    return filled(t, add_weight(t, rows, cols, true), values);
}

vt_weight program_vector(test_program *t, int64_t count, const float *values)
{
    return filled(t, add_weight(t, 1, count, false), values);
}

vt_weight random_matrix(test_program *t, int64_t rows, int64_t cols, uint32_t seed)
{
    vt_weight w = add_weight(t, rows, cols, true);
    random_fill(t->values[w.id], (size_t)(rows * cols), seed, 0.5f, 0.0f);
    return w;
}

vt_weight random_vector(test_program *t, int64_t count, uint32_t seed, float scale, float offset)
{
    vt_weight w = add_weight(t, 1, count, false);
    random_fill(t->values[w.id], (size_t)count, seed, scale, offset);
    return w;
}

/* ---- running --------------------------------------------------------------------------------- */

void program_pack(const test_program *t, vt_context *context, vt_weight_data *packed)
{
    const vt_backend *backend = vt_context_backend(context);
    memset(packed, 0, PROGRAM_MAX_WEIGHTS * sizeof *packed);
    for (size_t i = 1; i < t->builder.weight_count; i++) {
        array_rows values = {t->values[i], t->shapes[i].cols};
        vt_row_source rows = array_source(&values);
        vt_error error = {0};
        packed[i] = (vt_weight_data){.rows = t->shapes[i].rows, .cols = t->shapes[i].cols};
        expect_status(backend->pack(backend, vt_context_allocator(context),
                                    t->matrix[i] ? VT_USE_MATRIX : VT_USE_VECTOR, &rows, &packed[i],
                                    &error),
                      VT_OK, &error);
    }
}

void program_unpack(vt_context *context, vt_weight_data *packed)
{
    for (int i = 0; i < PROGRAM_MAX_WEIGHTS; i++) {
        vt_free(vt_context_allocator(context), packed[i].data);
    }
}

static program_result copy_outputs(const vt_program *p, void *const *maps)
{
    program_result result = {.count = p->output_count};
    for (int i = 0; i < p->output_count; i++) {
        int32_t id = p->outputs[i].value.id;
        result.names[i] = strdup(p->outputs[i].name);
        result.shapes[i] = p->maps[id].shape;
        size_t bytes = shape_count(result.shapes[i]) * sizeof(float);
        result.data[i] = malloc(bytes);
        assert_non_null(result.data[i]);
        memcpy(result.data[i], maps[id], bytes);
    }
    return result;
}

program_result program_run(test_program *t, const char *device, unsigned rewrites,
                           const float *input)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.device = device;
    settings.threads = 2;
    settings.fuse = false;
    vt_context *context = test_context_with(&settings);
    vt_weight_data packed[PROGRAM_MAX_WEIGHTS];
    vt_error error = {0};
    expect_status(t->builder.status, VT_OK, &t->builder.error);
    program_pack(t, context, packed);
    vt_program_rewrite(&t->program, rewrites);
    vt_plan plan;
    expect_status(vt_plan_make(&plan, context, &t->program, t->shapes, VT_F32, false, &error),
                  VT_OK, &error);
    const vt_program *p = &plan.program;
    const vt_backend *backend = vt_context_backend(context);
    test_block *blocks = calloc(p->map_count, sizeof *blocks);
    void **maps = calloc(p->map_count, sizeof *maps);
    assert_true(blocks && maps);
    for (size_t i = 0; i < p->map_count; i++) {
        blocks[i] = block_make(backend, NULL, shape_count(p->maps[i].shape) * sizeof(float));
        maps[i] = block_data(&blocks[i]);
    }
    block_write(&blocks[p->input.id], input);
    test_block scratch = block_make(backend, NULL, plan.scratch_bytes);
    vt_run run = {.weights = packed, .maps = maps, .scratch = block_data(&scratch)};
    expect_status(vt_plan_run(&plan, context, &run, &error), VT_OK, &error);
    program_result result = copy_outputs(p, maps);
    for (size_t i = 0; i < p->map_count; i++) {
        block_release(&blocks[i], "map");
    }
    block_release(&scratch, "scratch");
    free(blocks);
    free(maps);
    vt_plan_clear(&plan);
    program_unpack(context, packed);
    vt_context_destroy(&context);
    return result;
}

const float *result_data(const program_result *result, const char *name, size_t *count)
{
    for (int i = 0; i < result->count; i++) {
        if (strcmp(result->names[i], name) == 0) {
            *count = shape_count(result->shapes[i]);
            return result->data[i];
        }
    }
    fail_msg("the program has no output '%s'", name);
    return NULL;
}

void result_clear(program_result *result)
{
    for (int i = 0; i < result->count; i++) {
        free((char *)result->names[i]);
        free(result->data[i]);
    }
    *result = (program_result){0};
}
