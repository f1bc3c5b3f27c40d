/* SPDX-License-Identifier: Apache-2.0 */
/* The context: device, threads, allocator and callbacks. Everything else hangs off one. */
#ifndef VERTEBRA_CONTEXT_H
#define VERTEBRA_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vertebra/status.h"
#include "vertebra/tensor.h"

VT_BEGIN_DECLS

typedef struct vt_context vt_context;

/* Memory comes from here. `alloc` returns at least `size` bytes at a multiple of `alignment` (a
 * power of two), or NULL; `free` accepts what `alloc` returned. Both are called from any thread
 * that calls the library. */
typedef struct vt_allocator {
    void *(*alloc)(void *user, size_t size, size_t alignment);
    void (*free)(void *user, void *pointer);
    void *user;
} vt_allocator;

typedef enum vt_log_level { VT_LOG_DEBUG, VT_LOG_INFO, VT_LOG_WARNING } vt_log_level;

/* Receives one line without a newline. The library prints nothing by itself. */
typedef void (*vt_log_fn)(void *user, vt_log_level level, const char *line);

/* Called now and then during long calls (loading weights, running a network). `done` of `total`
 * steps of `what` are finished. Return false to stop: the call then fails with VT_ERR_CANCELLED. */
typedef bool (*vt_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

/* Which instructions the CPU path may use. AUTO takes the best that the processor has. */
typedef enum vt_isa {
    VT_ISA_AUTO = 0,
    VT_ISA_PORTABLE,   /* plain C, any processor */
    VT_ISA_AVX2,       /* AVX2 + FMA */
    VT_ISA_AVX512,     /* AVX-512 F/BW/DQ/VL */
    VT_ISA_AVX512_BF16 /* the same with bf16 dot products */
} vt_isa;

/* Fill with vt_context_settings_default() and change what is needed; later versions may append
 * fields. */
typedef struct vt_context_settings {
    /* "cpu": the fast path; "ref": the plain C reference, slow, one thread; "cuda", "cuda:N". */
    const char *device;
    /* Worker threads of one forward call; 0 (default) = the processors this process may use (its
     * affinity mask and its control group's quota), at most 64. The library pins no thread and
     * leaves the caller's OpenMP settings alone. */
    int threads;
    vt_isa isa;
    /* Whether the planner may fuse operations (default true). Results agree to rounding. */
    bool fuse;
    vt_allocator allocator; /* all NULL (default): the C library's */
    vt_log_fn log;          /* NULL: silence */
    void *log_user;
    vt_progress_fn progress; /* NULL: none */
    void *progress_user;
    /* A GPU takes the library kernels that a rule names instead of those that were fastest when the
     * shape was prepared (default false). Every process then computes the same bits on GPUs of one
     * type with the same libraries, a few percent slower. On the CPU it is always so. */
    bool reproducible;
} vt_context_settings;

vt_context_settings vt_context_settings_default(void);

/* Creates a context. `settings` may be NULL for the defaults. A context may be used by several
 * threads at once and must outlive the models and images made with it.
 * Errors: VT_ERR_ARGUMENT (unknown device, negative threads), VT_ERR_UNSUPPORTED (the processor
 * lacks the instructions asked for, this build has no such device), VT_ERR_DEVICE,
 * VT_ERR_MEMORY. */
vt_status vt_context_create(vt_context **context, const vt_context_settings *settings,
                            vt_error *error);

/* Destroys the context and sets *context to NULL. Accepts NULL and a pointer to NULL. */
void vt_context_destroy(vt_context **context);

/* The device in words, such as "cpu, avx512_bf16, 2 threads". Owned by the context. */
const char *vt_context_description(const vt_context *context);

/* Measures, for a fraction of a second, the highest rate of multiply-adds that this context's
 * device and threads reach for an element type, in GFLOP/s; 0 when it cannot be told. */
double vt_context_peak(const vt_context *context, vt_dtype dtype);

/* Measures in the same way at what rate this device and its threads copy large blocks of its
 * memory, in GB/s, bytes read and bytes written counted together; 0 when it cannot be told. */
double vt_context_copy_rate(const vt_context *context);

/* "MAJOR.MINOR.PATCH" of the library in use. */
const char *vt_version(void);

VT_END_DECLS
#endif
