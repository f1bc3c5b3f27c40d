/* SPDX-License-Identifier: Apache-2.0 */
#include "model_writer.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_golden.h"

void writer_add(model_writer *w, const char *name, int rank, const int64_t *shape, float *data)
{
    if (w->count == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 64;
        w->tensors = realloc(w->tensors, w->capacity * sizeof *w->tensors);
        assert_non_null(w->tensors);
    }
    assert_non_null(data);
    written_tensor *t = &w->tensors[w->count++];
    *t = (written_tensor){.name = strdup(name), .dtype = VT_F32, .rank = rank, .data = data};
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
}

written_tensor *writer_find(const model_writer *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++) {
        if (strcmp(w->tensors[i].name, name) == 0) {
            return &w->tensors[i];
        }
    }
    return NULL;
}

void writer_remove(model_writer *w, const char *name)
{
    written_tensor *t = writer_find(w, name);
    if (!t) {
        fail_msg("there is no '%s' to take out", name);
    }
    free(t->name);
    free(t->data);
    *t = w->tensors[--w->count];
}

void writer_add_golden(model_writer *w, const vt_model *model)
{
    const char *name;
    const int64_t *shape;
    int rank;
    for (size_t i = 0; vt_model_parameter(model, i, &name, &rank, &shape); i++) {
        writer_add(w, name, rank, shape, golden_tensor(name, rank, shape));
    }
}

/* ---- half precision, by arithmetic ----------------------------------------------------------- */

/* x rounded to `bits` significant bits, ties to even, where 2^lowest is the smallest step. */
static double round_to_bits(double x, int bits, int lowest)
{
    int exponent;
    frexp(x, &exponent);
    int step = exponent - bits > lowest ? exponent - bits : lowest;
    return x == 0 ? 0 : ldexp(nearbyint(ldexp(x, -step)), step);
}

float rounded_to(vt_dtype dtype, float x)
{
    return dtype == VT_F16    ? (float)round_to_bits((double)x, 11, -24)
           : dtype == VT_BF16 ? (float)round_to_bits((double)x, 8, -133)
                              : x;
}

/* The bits of a value that f16 can hold. */
static uint16_t f16_bits(float x)
{
    int exponent;
    double m = frexp(fabs((double)x), &exponent); /* m in [0.5, 1) */
    uint16_t sign = (uint16_t)(signbit(x) ? 0x8000 : 0);
    if (x == 0) {
        return sign;
    }
    if (exponent < -13) { /* subnormal */
        return (uint16_t)(sign | (uint16_t)ldexp(m, exponent + 24));
    }
    return (uint16_t)(sign | (exponent + 14) << 10 | ((int)ldexp(m, 11) & 0x3FF));
}

static void put_value(FILE *file, vt_dtype dtype, float x)
{
    unsigned char bytes[8];
    uint64_t bits = 0;
    float rounded = rounded_to(dtype, x);
    if (dtype == VT_I64) {
        bits = (uint64_t)(int64_t)x;
    } else if (dtype == VT_F16) {
        bits = f16_bits(rounded);
    } else {
        uint32_t word;
        memcpy(&word, &rounded, sizeof word);
        bits = dtype == VT_BF16 ? word >> 16 : word;
    }
    for (size_t i = 0; i < vt_dtype_size(dtype); i++) {
        bytes[i] = (unsigned char)(bits >> 8 * i);
    }
    fwrite(bytes, 1, vt_dtype_size(dtype), file);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void write_entry(FILE *header, const written_tensor *t, uint64_t *offset, bool first)
{
    const char *type = t->dtype == VT_F16    ? "F16"
                       : t->dtype == VT_BF16 ? "BF16"
                       : t->dtype == VT_I64  ? "I64"
                                             : "F32";
    uint64_t end = *offset + (uint64_t)shape_elements(t->rank, t->shape) * vt_dtype_size(t->dtype);
    fprintf(header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", first ? "" : ",", t->name, type);
    for (int i = 0; i < t->rank; i++) {
        fprintf(header, "%s%" PRId64, i ? "," : "", t->shape[i]);
    }
    fprintf(header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", *offset, end);
    *offset = end;
}

void writer_save(const model_writer *w, const char *path, const char *metadata)
{
    char *text = NULL;
    size_t size = 0;
    uint64_t offset = 0;
    FILE *header = open_memstream(&text, &size), *file = fopen(path, "wb");
    assert_non_null(file);
    fputc('{', header);
    if (metadata) {
        fprintf(header, "\"__metadata__\":%s", metadata);
    }
    bool first = !metadata;
    for (int wide = 1; wide >= 0; wide--) { /* eight-byte elements stand first: all is aligned */
        for (size_t i = 0; i < w->count; i++) {
            if ((w->tensors[i].dtype == VT_I64) == wide) {
                write_entry(header, &w->tensors[i], &offset, first);
                first = false;
            }
        }
    }
    fputc('}', header);
    while (ftell(header) % 8) {
        fputc(' ', header);
    }
    fclose(header);
    put_value(file, VT_I64, (float)size);
    fwrite(text, 1, size, file);
    for (int wide = 1; wide >= 0; wide--) {
        for (size_t i = 0; i < w->count; i++) {
            const written_tensor *t = &w->tensors[i];
            size_t count = (size_t)shape_elements(t->rank, t->shape);
            if ((t->dtype == VT_I64) != wide) {
                continue;
            }
            if (t->dtype == VT_F32) {
                fwrite(t->data, sizeof *t->data, count, file);
            }
            for (size_t k = 0; t->dtype != VT_F32 && k < count; k++) {
                put_value(file, t->dtype, t->data[k]);
            }
        }
    }
    free(text);
    assert_int_equal(ferror(file), 0);
    assert_int_equal(fclose(file), 0);
}

void writer_clear(model_writer *w)
{
    for (size_t i = 0; i < w->count; i++) {
        free(w->tensors[i].name);
        free(w->tensors[i].data);
    }
    free(w->tensors);
    *w = (model_writer){0};
}
