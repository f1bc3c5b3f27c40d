/* SPDX-License-Identifier: Apache-2.0 */
#include "model/binder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/checked.h"

vt_status vt_binder_init(vt_binder *b, const vt_allocator *allocator)
{
    *b = (vt_binder){.pool = {.allocator = allocator}};
    if (!vt_array_reserve(allocator, (void **)&b->slots, &b->slot_capacity, 0, sizeof *b->slots)) {
        return VT_ERR_MEMORY;
    }
    b->slots[b->slot_count++] = (vt_slot){.name = "none"};
    return VT_OK;
}

void vt_binder_clear(vt_binder *b)
{
    if (b->pool.allocator) {
        vt_free(b->pool.allocator, b->slots);
        vt_pool_clear(&b->pool);
    }
    *b = (vt_binder){0};
}

void vt_binder_fail(vt_binder *b, vt_status status, const char *format, ...)
{
    if (b->status == VT_OK) {
        char text[512];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        b->status =
            vt_error_set(&b->error, status, "%s%s%s", b->scope, b->scope[0] ? ": " : "", text);
    }
}

void vt_scope(vt_binder *b, const char *format, ...)
{
    size_t length = strlen(b->scope);
    size_t room = sizeof b->scope - length;
    if (b->depth == (int)(sizeof b->scope_starts / sizeof b->scope_starts[0])) {
        vt_binder_fail(b, VT_ERR_LIMIT, "parameter names are nested too deeply");
        b->depth++;
        return;
    }
    if (b->depth < (int)(sizeof b->scope_starts / sizeof b->scope_starts[0])) {
        b->scope_starts[b->depth] = length;
        va_list args;
        va_start(args, format);
        int dot = length ? snprintf(b->scope + length, room, ".") : 0;
        int wrote = vsnprintf(b->scope + length + dot, room - (size_t)dot, format, args);
        va_end(args);
        if (wrote < 0 || (size_t)(wrote + dot) >= room) {
            vt_binder_fail(b, VT_ERR_LIMIT, "a parameter name is too long");
        }
    }
    b->depth++;
}

void vt_scope_end(vt_binder *b)
{
    if (b->depth > 0) {
        b->depth--;
        if (b->depth < (int)(sizeof b->scope_starts / sizeof b->scope_starts[0])) {
            b->scope[b->scope_starts[b->depth]] = '\0';
        }
    }
}

static bool full_name(const vt_binder *b, const char *name, char *out, size_t size)
{
    int n = snprintf(out, size, "%s%s%s", b->scope, b->scope[0] ? "." : "", name);
    return n >= 0 && (size_t)n < size;
}

bool vt_bind_available(const vt_binder *b, const char *name, bool otherwise)
{
    char full[320];
    if (!b->has || !full_name(b, name, full, sizeof full)) {
        return otherwise;
    }
    return b->has(b->has_user, full);
}

/* Appends a slot; its name and memory blocks are already the pool's. */
static vt_weight append(vt_binder *b, const vt_slot *slot)
{
    if (!vt_array_reserve(b->pool.allocator, (void **)&b->slots, &b->slot_capacity, b->slot_count,
                          sizeof *b->slots)) {
        vt_binder_fail(b, VT_ERR_MEMORY, "out of memory for a parameter");
        return (vt_weight){0};
    }
    b->slots[b->slot_count] = *slot;
    return (vt_weight){(int32_t)b->slot_count++};
}

/* A copy of `size` bytes in the pool; fails the binder when there is no memory. */
static void *copy(vt_binder *b, const void *data, size_t size)
{
    void *p = vt_pool_alloc(&b->pool, size);
    if (p) {
        memcpy(p, data, size);
    } else {
        vt_binder_fail(b, VT_ERR_MEMORY, "out of memory for a parameter");
    }
    return p;
}

vt_weight vt_bind(vt_binder *b, const vt_weight_desc *desc)
{
    char name[320];
    if (b->status != VT_OK) {
        return (vt_weight){0};
    }
    vt_slot slot = {.role = desc->role,
                    .rank = desc->rank,
                    .rows = 1,
                    .cols = 1,
                    .any_rows = desc->any_rows,
                    .any_size = desc->any_size};
    bool good = full_name(b, desc->name, name, sizeof name) && desc->rank >= 1 &&
                desc->rank <= VT_WEIGHT_MAX_RANK;
    for (int i = 0; good && i < desc->rank; i++) {
        int64_t *extent = i == 0 && desc->rank > 1 ? &slot.rows : &slot.cols;
        slot.shape[i] = desc->shape[i];
        good = desc->shape[i] > 0 && vt_mul_i64(*extent, desc->shape[i], extent);
    }
    if (!good || slot.cols > INT32_MAX || slot.rows > INT32_MAX) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "%s: the shape is not possible", desc->name);
        return (vt_weight){0};
    }
    slot.name = copy(b, name, strlen(name) + 1);
    if (desc->columns) {
        slot.columns = copy(b, desc->columns, (size_t)slot.cols * sizeof *desc->columns);
    }
    return b->status == VT_OK ? append(b, &slot) : (vt_weight){0};
}

vt_weight vt_bind_derived(vt_binder *b, const vt_derived_desc *desc)
{
    char name[320];
    if (b->status != VT_OK) {
        return (vt_weight){0};
    }
    if (!full_name(b, desc->name, name, sizeof name) || desc->rows < 1 || desc->cols < 1 ||
        desc->source_count < 0 || desc->source_count > VT_MAX_DERIVE_SOURCES) {
        vt_binder_fail(b, VT_ERR_ARGUMENT, "%s: not a valid derived parameter", desc->name);
        return (vt_weight){0};
    }
    vt_slot slot = {.role = desc->role,
                    .rank = 2,
                    .shape = {desc->rows, desc->cols},
                    .rows = desc->rows,
                    .cols = desc->cols,
                    .derive = desc->derive,
                    .source_count = desc->source_count};
    memcpy(slot.sources, desc->sources, sizeof slot.sources);
    slot.name = copy(b, name, strlen(name) + 1);
    if (desc->user_size) {
        slot.user = copy(b, desc->user, desc->user_size);
    }
    return b->status == VT_OK ? append(b, &slot) : (vt_weight){0};
}
