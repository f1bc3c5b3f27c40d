/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory.h"

#include <stdint.h>
#include <string.h>

#include "core/checked.h"

void *vt_alloc(const vt_allocator *allocator, size_t size)
{
    return allocator->alloc(allocator->user, size ? size : 1, VT_ALIGNMENT);
}

void *vt_alloc_zero(const vt_allocator *allocator, size_t count, size_t size)
{
    size_t bytes;
    if (!vt_mul_size(count, size, &bytes)) {
        return NULL;
    }
    void *p = vt_alloc(allocator, bytes);
    if (p) {
        memset(p, 0, bytes ? bytes : 1);
    }
    return p;
}

void vt_free(const vt_allocator *allocator, void *pointer)
{
    if (pointer) {
        allocator->free(allocator->user, pointer);
    }
}

char *vt_strdup(const vt_allocator *allocator, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = vt_alloc(allocator, size);
    if (copy) {
        memcpy(copy, text, size);
    }
    return copy;
}

bool vt_array_reserve(const vt_allocator *allocator, void **items, size_t *capacity, size_t count,
                      size_t item_size)
{
    if (count < *capacity) {
        return true;
    }
    size_t wanted, bytes;
    if (!vt_mul_size(*capacity ? *capacity : 4, 2, &wanted) ||
        !vt_mul_size(wanted, item_size, &bytes)) {
        return false;
    }
    void *grown = vt_alloc(allocator, bytes);
    if (!grown) {
        return false;
    }
    if (*items) {
        memcpy(grown, *items, count * item_size);
        vt_free(allocator, *items);
    }
    *items = grown;
    *capacity = wanted;
    return true;
}

struct vt_pool_chunk {
    struct vt_pool_chunk *next;
    size_t used, size;
};

enum { POOL_CHUNK = 64 * 1024, POOL_ALIGN = 16 };

static size_t pool_header(void)
{
    return (sizeof(struct vt_pool_chunk) + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1);
}

void *vt_pool_alloc(vt_pool *pool, size_t size)
{
    size_t need;
    if (!vt_align_size(size ? size : 1, POOL_ALIGN, &need)) {
        return NULL;
    }
    struct vt_pool_chunk *chunk = pool->chunks;
    if (!chunk || chunk->size - chunk->used < need) {
        size_t bytes = need > POOL_CHUNK ? need : POOL_CHUNK;
        size_t total;
        if (!vt_add_size(bytes, pool_header(), &bytes) ||
            !vt_add_size(pool->total, bytes, &total) || (pool->limit && total > pool->limit)) {
            return NULL;
        }
        chunk = vt_alloc(pool->allocator, bytes);
        if (!chunk) {
            return NULL;
        }
        chunk->next = pool->chunks;
        chunk->used = pool_header();
        chunk->size = bytes;
        pool->chunks = chunk;
        pool->total = total;
    }
    void *p = (char *)chunk + chunk->used;
    chunk->used += need;
    memset(p, 0, need);
    return p;
}

char *vt_pool_strndup(vt_pool *pool, const char *text, size_t length)
{
    if (length == SIZE_MAX) {
        return NULL;
    }
    char *copy = vt_pool_alloc(pool, length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

void vt_pool_clear(vt_pool *pool)
{
    while (pool->chunks) {
        struct vt_pool_chunk *next = pool->chunks->next;
        vt_free(pool->allocator, pool->chunks);
        pool->chunks = next;
    }
    pool->total = 0;
}
