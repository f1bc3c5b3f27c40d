/* SPDX-License-Identifier: Apache-2.0 */
/* An allocator that counts, and that fails when it is told to. */
#ifndef TESTS_SUPPORT_MODEL_MEMORY_H
#define TESTS_SUPPORT_MODEL_MEMORY_H

#include <pthread.h>

#include "vertebra/context.h"

typedef struct test_memory {
    pthread_mutex_t lock;
    size_t calls;   /* of alloc, failed ones too */
    size_t fail_at; /* the call, counted from 1, from which on nothing is given; 0: never */
    size_t only;    /* 0: all calls from fail_at on fail; else so many of them */
    size_t blocks, bytes, peak;
} test_memory;

void test_memory_init(test_memory *memory);
vt_allocator test_memory_allocator(test_memory *memory);

#endif
