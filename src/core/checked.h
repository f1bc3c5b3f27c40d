/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on sizes that came from outside: each function returns false on overflow and leaves
 * *out alone. The one place for it; nobody multiplies file-supplied dimensions by hand. */
#ifndef VT_CORE_CHECKED_H
#define VT_CORE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool vt_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool vt_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool vt_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool vt_add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool vt_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool vt_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Rounds up to a multiple of `alignment`, a power of two. */
static inline bool vt_align_size(size_t a, size_t alignment, size_t *out)
{
    size_t sum;
    if (!vt_add_size(a, alignment - 1, &sum)) {
        return false;
    }
    *out = sum & ~(alignment - 1);
    return true;
}

static inline int64_t vt_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

#endif
