/* SPDX-License-Identifier: Apache-2.0 */
#include "blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 256, CANARY = 0xAB, POISON = 0xFF, MOST_POISON = 1 << 20 };

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

const vt_allocator plain_allocator = {plain_alloc, plain_free, NULL};

/* A device offers to copy pictures and maps: raw bytes travel as a map of f32. */
static vt_map words_of(size_t bytes)
{
    return (vt_map){.shape = {1, 1, (int64_t)(bytes / sizeof(float)), 1}, .dtype = VT_F32};
}

static void put(const test_block *b, size_t at, const void *src, size_t bytes)
{
    const vt_device_ops *device = b->backend->device;
    vt_error error = {0};
    if (!device) {
        memcpy(b->base + at, src, bytes);
        return;
    }
    vt_map map = words_of(bytes);
    vt_tensor t = vt_tensor_nchw((void *)(size_t)src, VT_F32, 1, 1, 1, map.shape.w);
    if (device->stage(b->backend, b->stream, &t, &map, b->base + at, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
}

static void get(const test_block *b, size_t at, void *dst, size_t bytes)
{
    const vt_device_ops *device = b->backend->device;
    vt_error error = {0};
    if (!device) {
        memcpy(dst, b->base + at, bytes);
        return;
    }
    vt_map map = words_of(bytes);
    if (device->fetch(b->backend, b->stream, &map, b->base + at, dst, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
}

static size_t whole_words(size_t bytes)
{
    return (bytes + 3) & ~(size_t)3;
}

test_block block_make(const vt_backend *backend, void *stream, size_t bytes)
{
    size_t padded = whole_words(bytes), poison = padded < MOST_POISON ? padded : MOST_POISON;
    test_block b = {backend, stream, NULL, bytes};
    b.base = vt_backend_alloc(backend, &plain_allocator, padded + 2 * GUARD);
    unsigned char *image = malloc(poison + GUARD);
    assert_non_null(b.base);
    assert_non_null(image);
    memset(image, CANARY, GUARD);
    put(&b, GUARD + padded, image, GUARD);
    memset(image + GUARD, POISON, poison);
    if (padded == poison) { /* the guard band begins at once behind an odd end */
        memset(image + GUARD + bytes, CANARY, padded - bytes);
    }
    put(&b, 0, image, GUARD + poison);
    free(image);
    return b;
}

void *block_data(const test_block *b)
{
    return b->base + GUARD;
}

void block_write(const test_block *b, const void *src)
{
    size_t padded = whole_words(b->bytes);
    if (padded == 0) {
        return;
    }
    unsigned char *image = malloc(padded);
    assert_non_null(image);
    memset(image, CANARY, padded);
    memcpy(image, src, b->bytes);
    put(b, GUARD, image, padded);
    free(image);
}

static void check_guard(const unsigned char *bytes, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != CANARY) {
            fail_msg("%s: the guard band was written to", what);
        }
    }
}

static void check_guards(const test_block *b, const char *what)
{
    unsigned char guard[GUARD];
    get(b, 0, guard, GUARD);
    check_guard(guard, GUARD, what);
    get(b, GUARD + whole_words(b->bytes), guard, GUARD);
    check_guard(guard, GUARD, what);
}

void block_read(const test_block *b, void *dst, const char *what)
{
    size_t padded = whole_words(b->bytes);
    check_guards(b, what);
    if (padded == 0) {
        return;
    }
    unsigned char *image = malloc(padded);
    assert_non_null(image);
    get(b, GUARD, image, padded);
    check_guard(image + b->bytes, padded <= MOST_POISON ? padded - b->bytes : 0, what);
    memcpy(dst, image, b->bytes);
    free(image);
}

void block_release(test_block *b, const char *what)
{
    check_guards(b, what);
    vt_backend_release(b->backend, &plain_allocator, b->base);
    b->base = NULL;
}

static vt_status read_rows(void *user, int64_t first, int64_t count, float *out, vt_error *error)
{
    (void)error;
    const array_rows *r = user;
    memcpy(out, r->values + first * r->cols, (size_t)(count * r->cols) * sizeof *out);
    return VT_OK;
}

vt_row_source array_source(const array_rows *rows)
{
    return (vt_row_source){read_rows, (void *)(size_t)rows};
}
