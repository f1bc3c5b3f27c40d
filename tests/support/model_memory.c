/* SPDX-License-Identifier: Apache-2.0 */
#include "model_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    FREED = 0xDD,  /* what is in a block that was given back */
    MOST = 1 << 30 /* no test needs a larger block; a sanitizer would stop at one */
};

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

/* Frees a held block; false when somebody wrote into it. */
static bool release(struct held_block *held)
{
    bool clean = true;
    const unsigned char *bytes = held->data;
    for (size_t i = 0; i < held->size; i++) {
        clean &= bytes[i] == FREED;
    }
    free(held->start);
    *held = (struct held_block){0};
    return clean;
}

static void give(void *user, void *pointer)
{
    test_memory *m = user;
    if (pointer) {
        header h;
        memcpy(&h, (char *)pointer - sizeof h, sizeof h);
        memset(pointer, FREED, h.size);
        pthread_mutex_lock(&m->lock);
        m->blocks--;
        m->bytes -= h.size;
        struct held_block *held = &m->held[m->next_held++ % MEMORY_HELD];
        m->dirty |= !release(held);
        *held = (struct held_block){h.start, pointer, h.size};
        pthread_mutex_unlock(&m->lock);
    }
}

void test_memory_close(test_memory *m)
{
    for (int i = 0; i < MEMORY_HELD; i++) {
        m->dirty |= !release(&m->held[i]);
    }
    pthread_mutex_destroy(&m->lock);
    assert_int_equal(m->blocks, 0);
    assert_int_equal(m->bytes, 0);
    assert_false(m->dirty);
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
