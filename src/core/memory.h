/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a context: single blocks, growing arrays, and pools that are freed at once. */
#ifndef VT_CORE_MEMORY_H
#define VT_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "vertebra/context.h"

VT_BEGIN_DECLS /* libvertebra_image uses these */

    enum {
        VT_ALIGNMENT = 64
    };

/* The context's allocator (the C library's where the caller gave none). Never NULL. */
const vt_allocator *vt_context_allocator(const vt_context *context);

/* `size` bytes (0 is taken as 1) aligned to VT_ALIGNMENT, or NULL. */
void *vt_alloc(const vt_allocator *allocator, size_t size);
/* count * size bytes, zeroed; NULL also when the product overflows. */
void *vt_alloc_zero(const vt_allocator *allocator, size_t count, size_t size);
void vt_free(const vt_allocator *allocator, void *pointer);
char *vt_strdup(const vt_allocator *allocator, const char *text);

/* Makes room for one more element in a growing array: reallocates *items (capacity doubling) when
 * count == *capacity. False when out of memory; the array is then unchanged. */
bool vt_array_reserve(const vt_allocator *allocator, void **items, size_t *capacity, size_t count,
                      size_t item_size);

/* A pool of small blocks with one lifetime. Zero-initialise with the allocator set; blocks are
 * zeroed and 16-byte aligned. */
typedef struct vt_pool {
    const vt_allocator *allocator;
    struct vt_pool_chunk *chunks;
    size_t total; /* bytes taken from the allocator */
    size_t limit; /* 0, or the most bytes the pool may take */
} vt_pool;

void *vt_pool_alloc(vt_pool *pool, size_t size);
char *vt_pool_strndup(vt_pool *pool, const char *text, size_t length);
void vt_pool_clear(vt_pool *pool);

VT_END_DECLS

#endif
