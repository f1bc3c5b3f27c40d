/* SPDX-License-Identifier: Apache-2.0 */
/* The one file that compiles stb_image, cut down to BMP. Its functions are static, so that a
 * program may carry a stb_image of its own. */
#include <limits.h>

#include "io/image/decode.h"

/* What it declares for the formats that are switched off stays without a body. */
#pragma GCC diagnostic ignored "-Wunused-function"

/* stb_image passes nothing of its caller to the allocation macros: the allocator of the call in
 * progress waits here, one per thread, set only while stb_image runs. */
static _Thread_local struct {
    const vt_allocator *allocator;
    bool failed;
} stb;

static void *stb_malloc(size_t size)
{
    void *p = vt_alloc_zero(stb.allocator, size, 1);
    stb.failed |= !p;
    return p;
}

static void stb_free(void *pointer)
{
    vt_free(stb.allocator, pointer);
}

/* BMP never grows a block. */
static void *stb_realloc(void *pointer, size_t size)
{
    (void)pointer;
    (void)size;
    return NULL;
}

#define STBI_MALLOC(size)           stb_malloc(size)
#define STBI_REALLOC(pointer, size) stb_realloc(pointer, size)
#define STBI_FREE(pointer)          stb_free(pointer)
#define STBI_ASSERT(condition)      ((void)0)
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

vt_status vt_image_decode_stb(const vt_image_source *source, vt_image *image, vt_error *error)
{
    int width = 0, height = 0, channels = 0;
    if (source->size > INT_MAX) {
        return vt_error_set(error, VT_ERR_LIMIT, "file is too large");
    }
    stb.allocator = vt_context_allocator(source->context);
    stb.failed = false;
    uint8_t *data =
        stbi_load_from_memory(source->bytes, (int)source->size, &width, &height, &channels, 3);
    stb.allocator = NULL;
    if (!data) {
        return stb.failed ? vt_error_set(error, VT_ERR_MEMORY, "out of memory")
                          : vt_error_set(error, VT_ERR_FORMAT, "%s", stbi_failure_reason());
    }
    *image = (vt_image){data, width, height, 1};
    return VT_OK;
}
