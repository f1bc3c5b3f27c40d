/* SPDX-License-Identifier: Apache-2.0 */
#include "model_memory.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 30 }; /* no test needs a larger block; a sanitizer would stop at one */

/* Stands right before each block. */
typedef struct header {
    void *start;
    size_t size;
} header;

static void *take(void *user, size_t size, size_t alignment)
{
    test_memory *m = user;
    pthread_mutex_lock(&m->lock);
    m->calls++;
    bool fails = m->fail_at && m->calls >= m->fail_at &&
                 (m->only == 0 || m->calls < m->fail_at + m->only);
    pthread_mutex_unlock(&m->lock);
    size_t front = (sizeof(header) + alignment - 1) / alignment * alignment;
    char *start = NULL;
    if (fails || size > MOST ||
        posix_memalign((void **)&start, alignment, front + size) != 0) {
        return NULL;
    }
    memset(start, 0xA5, front + size); /* nobody may count on zeros */
    header h = {start, size};
    memcpy(start + front - sizeof h, &h, sizeof h);
    pthread_mutex_lock(&m->lock);
    m->blocks++;
    m->bytes += size;
    m->peak = m->bytes > m->peak ? m->bytes : m->peak;
    pthread_mutex_unlock(&m->lock);
    return start + front;
}

static void give(void *user, void *pointer)
{
    test_memory *m = user;
    if (pointer) {
        header h;
        memcpy(&h, (char *)pointer - sizeof h, sizeof h);
        pthread_mutex_lock(&m->lock);
        m->blocks--;
        m->bytes -= h.size;
        pthread_mutex_unlock(&m->lock);
        free(h.start);
    }
}

void test_memory_init(test_memory *memory)
{
    memset(memory, 0, sizeof *memory);
    pthread_mutex_init(&memory->lock, NULL);
}

vt_allocator test_memory_allocator(test_memory *memory)
{
    return (vt_allocator){take, give, memory};
}
