/* SPDX-License-Identifier: Apache-2.0 */
/* An allocator that counts, that fails when it is told to, and that notices writes into blocks
 * which were given back a short while ago. */
#ifndef TESTS_SUPPORT_MODEL_MEMORY_H
#define TESTS_SUPPORT_MODEL_MEMORY_H

#include <pthread.h>

#include "vertebra/context.h"

enum { MEMORY_HELD = 32 };

typedef struct test_memory {
    pthread_mutex_t lock;
    size_t calls;   /* of alloc, failed ones too */
    size_t fail_at; /* the call, counted from 1, from which on nothing is given; 0: never */
    size_t only;    /* 0: all calls from fail_at on fail; else so many of them */
    size_t blocks, bytes, peak;
    struct held_block { /* given back, filled with a pattern, not yet freed */
        void *start, *data;
        size_t size;
    } held[MEMORY_HELD];
    size_t next_held;
    bool dirty; /* a held block was written to */
} test_memory;

void test_memory_init(test_memory *memory);
/* Frees what is held back. Fails the test when blocks are lost, or were written to once freed. */
void test_memory_close(test_memory *memory);
vt_allocator test_memory_allocator(test_memory *memory);

#endif
