/* SPDX-License-Identifier: Apache-2.0 */
#include "core/context.h"

#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/backend.h"
#include "vertebra_cuda.h"

#define VT_VERSION "0.1.0"

enum { MAX_DEFAULT_THREADS = 64, MAX_THREADS = 1024 };

struct vt_context {
    vt_context_settings settings;
    const vt_backend *backend;
    char description[128];
    const struct vt_family **families; /* registered by the caller */
    size_t family_count, family_capacity;
};

static void *libc_alloc(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *p = NULL;
    return posix_memalign(&p, alignment, size) == 0 ? p : NULL;
}

static void libc_free(void *user, void *pointer)
{
    (void)user;
    free(pointer);
}

/* The processors that this process may use: its affinity mask, and the quota of its control group,
 * which containers set instead of a mask. */
static int usable_processors(void)
{
    int processors = omp_get_num_procs();
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    double quota, period;
    if (file) {
        if (fscanf(file, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
            int allowed = (int)(quota / period + 0.999);
            processors = allowed < processors ? allowed : processors;
        }
        fclose(file);
    }
    return processors < 1 ? 1 : processors < MAX_DEFAULT_THREADS ? processors : MAX_DEFAULT_THREADS;
}

vt_context_settings vt_context_settings_default(void)
{
    return (vt_context_settings){.device = "cpu", .fuse = true};
}

static vt_status choose_backend(vt_context *ctx, vt_error *error)
{
    const char *device = ctx->settings.device ? ctx->settings.device : "cpu";
    if (strcmp(device, "ref") == 0) {
        ctx->backend = &vt_backend_ref;
        ctx->settings.threads = 1;
        return VT_OK;
    }
    if (strcmp(device, "cpu") == 0) {
        return vt_backend_cpu(&ctx->backend, ctx->settings.isa, error);
    }
    if (strncmp(device, "cuda", 4) == 0) {
        return vt_backend_cuda(&ctx->backend, device, &ctx->settings.allocator, error);
    }
    return vt_error_set(error, VT_ERR_ARGUMENT, "unknown device '%s': want 'cpu', 'cuda' or 'ref'",
                        device);
}

vt_status vt_context_create(vt_context **context, const vt_context_settings *settings,
                            vt_error *error)
{
    if (!context) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_context_create: context is NULL");
    }
    *context = NULL;
    vt_context_settings s = settings ? *settings : vt_context_settings_default();
    if (s.threads < 0 || s.threads > MAX_THREADS) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "threads = %d: want 0 to %d", s.threads,
                            MAX_THREADS);
    }
    if (!s.allocator.alloc != !s.allocator.free) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "allocator: give both alloc and free");
    }
    if (!s.allocator.alloc) {
        s.allocator = (vt_allocator){libc_alloc, libc_free, NULL};
    }
    if (s.threads == 0) {
        s.threads = usable_processors();
    }
    vt_context *ctx = vt_alloc_zero(&s.allocator, 1, sizeof *ctx);
    if (!ctx) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the context");
    }
    ctx->settings = s;
    vt_status status = choose_backend(ctx, error);
    if (status != VT_OK) {
        vt_free(&s.allocator, ctx);
        return status;
    }
    ctx->settings.device = NULL; /* borrowed for the call only */
    snprintf(ctx->description, sizeof ctx->description, "%s, %d thread%s", ctx->backend->name,
             ctx->settings.threads, ctx->settings.threads == 1 ? "" : "s");
    *context = ctx;
    return VT_OK;
}

void vt_context_destroy(vt_context **context)
{
    if (context && *context) {
        vt_allocator allocator = (*context)->settings.allocator;
        if ((*context)->backend->destroy) {
            (*context)->backend->destroy((*context)->backend);
        }
        vt_free(&allocator, (*context)->families);
        vt_free(&allocator, *context);
        *context = NULL;
    }
}

const char *vt_context_description(const vt_context *context)
{
    return context->description;
}

const vt_allocator *vt_context_allocator(const vt_context *context)
{
    return &context->settings.allocator;
}

void vt_log(const vt_context *context, vt_log_level level, const char *format, ...)
{
    if (context->settings.log) {
        char line[1024];
        va_list args;
        va_start(args, format);
        vsnprintf(line, sizeof line, format, args);
        va_end(args);
        context->settings.log(context->settings.log_user, level, line);
    }
}

bool vt_progress(const vt_context *context, const char *what, uint64_t done, uint64_t total)
{
    const vt_context_settings *s = &context->settings;
    return !s->progress || s->progress(s->progress_user, what, done, total);
}

int vt_context_threads(const vt_context *context)
{
    return context->settings.threads;
}

bool vt_context_fuses(const vt_context *context)
{
    return context->settings.fuse;
}

bool vt_context_reproducible(const vt_context *context)
{
    return context->settings.reproducible;
}

const struct vt_family *vt_context_registered(const vt_context *context, size_t i)
{
    return i < context->family_count ? context->families[i] : NULL;
}

bool vt_context_add_family(vt_context *context, const struct vt_family *family)
{
    if (!vt_array_reserve(&context->settings.allocator, (void **)&context->families,
                          &context->family_capacity, context->family_count,
                          sizeof *context->families)) {
        return false;
    }
    context->families[context->family_count++] = family;
    return true;
}

const vt_backend *vt_context_backend(const vt_context *context)
{
    return context->backend;
}

double vt_context_peak(const vt_context *context, vt_dtype dtype)
{
    const vt_backend *b = context->backend;
    return b->peak ? b->peak(b, dtype, context->settings.threads) : 0.0;
}

double vt_context_copy_rate(const vt_context *context)
{
    const vt_backend *b = context->backend;
    return b->copy_rate ? b->copy_rate(b, context->settings.threads) : 0.0;
}

vt_status vt_context_cuda_memory(const vt_context *context, size_t *free_bytes, size_t *total_bytes,
                                 vt_error *error)
{
    const vt_backend *b = context->backend;
    size_t available = 0, all = 0;
    if (!b->device) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "the context's device is not a GPU: want cuda or cuda:N");
    }
    vt_status status = b->device->memory(b, &available, &all, error);
    if (status == VT_OK && free_bytes) {
        *free_bytes = available;
    }
    if (status == VT_OK && total_bytes) {
        *total_bytes = all;
    }
    return status;
}

const char *vt_version(void)
{
    return VT_VERSION;
}
