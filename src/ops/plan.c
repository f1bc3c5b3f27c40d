/* SPDX-License-Identifier: Apache-2.0 */
#include "ops/plan.h"

#include <string.h>

#include "core/checked.h"
#include "core/clock.h"

/* In half-precision models the residual stream, norms and outputs stay f32. A map is half where its
 * readers round it anyway, or pass it on to such readers without adding it to anything. */

/* Whether the record rounds its source number k: it is the operand of a product. */
static bool is_operand(const vt_record *r, int k)
{
    switch (r->kind) {
    case VT_OP_LINEAR: return k == 0 && r->as.linear.norm_place != VT_NORM_INPUT;
    case VT_OP_CONV2D: return k == 0;
    case VT_OP_ATTENTION:
    case VT_OP_LINEAR_ATTENTION:
    case VT_OP_CHANNEL_ATTENTION: return true;
    default: return false;
    }
}

/* Whether the record's result is as precise as its source number k, apart from a few roundings. */
static bool passes_on(const vt_record *r, int k)
{
    switch (r->kind) {
    case VT_OP_LINEAR: return k == 1 && r->as.linear.gated;
    case VT_OP_DEPTHWISE: return k == 0 && r->source[1].id < 0;
    case VT_OP_DEFORM_PATCHES: return k == 0;
    case VT_OP_AFFINE:
    case VT_OP_MUL:
    case VT_OP_CONCAT:
    case VT_OP_POOL:
    case VT_OP_MEAN_POOL:
    case VT_OP_SPACE_TO_DEPTH: return true;
    default: return false;
    }
}

static bool can_be_half(const vt_record *r)
{
    switch (r->kind) {
    case VT_OP_LINEAR:
    case VT_OP_CONV2D:
    case VT_OP_ATTENTION:
    case VT_OP_LINEAR_ATTENTION:
    case VT_OP_CHANNEL_ATTENTION: return true;
    default: return passes_on(r, 0);
    }
}

/* Whether nothing that reads the result of `writer` wants it in f32. The types of later results are
 * chosen. */
static bool half_will_do(const vt_program *p, const vt_record *writer)
{
    vt_value value = writer->dst;
    bool stream =
        writer->kind == VT_OP_LINEAR && writer->source[1].id >= 0 && !writer->as.linear.gated;
    for (const vt_record *r = writer + 1; r < p->records + p->record_count; r++) {
        bool passed = !stream && p->maps[r->dst.id].dtype != VT_F32;
        for (int k = 0; k < VT_MAX_SOURCES; k++) {
            if (r->source[k].id == value.id && !is_operand(r, k) && !(passed && passes_on(r, k))) {
                return false;
            }
        }
    }
    for (int i = 0; i < p->output_count; i++) {
        if (p->outputs[i].value.id == value.id) {
            return false;
        }
    }
    return true;
}

/* A map that is only an output, such as the logits. */
static bool nobody_reads(const vt_program *p, vt_value value)
{
    for (size_t i = 0; i < p->record_count; i++) {
        for (int k = 0; k < VT_MAX_SOURCES; k++) {
            if (p->records[i].source[k].id == value.id) {
                return false;
            }
        }
    }
    return true;
}

static void choose_dtypes(vt_program *p, vt_dtype dtype, bool half_maps)
{
    for (size_t i = p->record_count; i-- > 0;) {
        const vt_record *r = &p->records[i];
        bool half = half_maps ? !nobody_reads(p, r->dst) : can_be_half(r) && half_will_do(p, r);
        p->maps[r->dst.id].dtype = half ? dtype : VT_F32;
    }
}

static vt_status choose_impls(vt_plan *plan, vt_context *context, const vt_plan_input *in,
                              vt_error *error)
{
    for (size_t i = 0; i < plan->program.record_count; i++) {
        const vt_record *r = &plan->program.records[i];
        const char *why = "there is none";
        for (const vt_impl *const *list = in->backend->impls[r->kind]; list && *list; list++) {
            why = (*list)->refuse ? (*list)->refuse(in, r) : NULL;
            if (!why) {
                plan->impls[i] = *list;
                break;
            }
            vt_log(context, VT_LOG_DEBUG, "%s: %s '%s' steps aside: %s", r->label,
                   vt_op_name(r->kind), (*list)->name, why);
        }
        if (!plan->impls[i]) {
            return vt_error_set(error, VT_ERR_UNSUPPORTED, "%s: no implementation of %s: %s",
                                r->label, vt_op_name(r->kind), why);
        }
        const vt_impl *impl = plan->impls[i];
        vt_status status = impl->choose ? impl->choose(in, r, vt_context_allocator(context),
                                                       &plan->choices[i], error)
                                        : VT_OK;
        if (status != VT_OK) {
            return vt_error_wrap(error, status, "%s", r->label);
        }
        size_t scratch = impl->scratch ? impl->scratch(in, r) : 0;
        plan->scratch_bytes = scratch > plan->scratch_bytes ? scratch : plan->scratch_bytes;
        vt_cost cost = vt_record_cost(&plan->program, r, in->weights, in->dtype);
        plan->flops += cost.flops;
        plan->bytes += cost.bytes;
    }
    return VT_OK;
}

/* When a map is alive: from the record that writes it to the last one that reads it. */
typedef struct span {
    size_t first, last, offset, bytes;
    bool placed;
} span;

/* Maps, and the scratch behind them, begin on lines that every library accepts as a workspace. */
enum { MAP_ALIGNMENT = 256 };

static bool map_size(const vt_map *m, size_t *out)
{
    size_t bytes = (size_t)(m->shape.n * m->shape.h * m->shape.w * m->shape.c);
    return vt_mul_size(bytes, vt_dtype_size(m->dtype), &bytes) &&
           vt_align_size(bytes, MAP_ALIGNMENT, out);
}

static bool find_spans(const vt_program *p, span *spans)
{
    for (size_t i = 0; i < p->record_count; i++) {
        const vt_record *r = &p->records[i];
        span *dst = &spans[r->dst.id];
        dst->first = dst->last = i + 1;
        if (!map_size(&p->maps[r->dst.id], &dst->bytes)) {
            return false;
        }
        for (int k = 0; k < VT_MAX_SOURCES; k++) {
            if (r->source[k].id >= 0) {
                spans[r->source[k].id].last = i + 1;
            }
        }
    }
    for (int i = 0; i < p->output_count; i++) {
        spans[p->outputs[i].value.id].last = p->record_count + 1;
    }
    span *input = &spans[p->input.id]; /* written before the first record */
    return map_size(&p->maps[p->input.id], &input->bytes);
}

/* The lowest offset at which `s` overlaps no placed map that is alive at the same time. */
static size_t lowest_gap(const span *spans, size_t count, const span *s)
{
    size_t offset = 0;
    bool moved = true;
    while (moved) {
        moved = false;
        for (size_t i = 0; i < count; i++) {
            const span *o = &spans[i];
            bool together = o->placed && o->first <= s->last && s->first <= o->last;
            if (together && offset < o->offset + o->bytes && o->offset < offset + s->bytes) {
                offset = o->offset + o->bytes;
                moved = true;
            }
        }
    }
    return offset;
}

static vt_status too_much(vt_error *error)
{
    return vt_error_set(error, VT_ERR_LIMIT, "the network needs more memory than there can be");
}

static vt_status place_maps(vt_plan *plan, vt_error *error)
{
    const vt_program *p = &plan->program;
    const vt_allocator *allocator = p->pool.allocator;
    span *spans = vt_alloc_zero(allocator, p->map_count, sizeof *spans);
    if (!spans) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a plan");
    }
    vt_status status = find_spans(p, spans) ? VT_OK : too_much(error);
    for (size_t i = 0; status == VT_OK && i < p->map_count; i++) {
        span *s = &spans[i];
        if (s->bytes) {
            s->offset = plan->offsets[i] = lowest_gap(spans, p->map_count, s);
            s->placed = true;
            size_t end;
            if (!vt_add_size(s->offset, s->bytes, &end) || end > SIZE_MAX / 2) {
                status = too_much(error); /* half is left for the scratch behind it */
                continue;
            }
            plan->map_bytes = end > plan->map_bytes ? end : plan->map_bytes;
        }
    }
    vt_free(allocator, spans);
    return status;
}

vt_status vt_plan_make(vt_plan *plan, vt_context *context, vt_program *program,
                       const vt_weight_shape *weights, vt_dtype dtype, bool f32_residual,
                       vt_error *error)
{
    const vt_allocator *allocator = vt_context_allocator(context);
    *plan = (vt_plan){.program = *program};
    *program = (vt_program){.pool = {.allocator = allocator}};
    if (vt_context_fuses(context)) {
        vt_program_rewrite(&plan->program, VT_ALL_REWRITES);
    }
    choose_dtypes(&plan->program, dtype, vt_context_backend(context)->half_maps && !f32_residual);
    vt_plan_input in = {.backend = vt_context_backend(context),
                        .program = &plan->program,
                        .weights = weights,
                        .dtype = dtype,
                        .threads = vt_context_threads(context),
                        .reproducible = vt_context_reproducible(context)};
    if (vt_context_fuses(context)) {
        vt_program_fuse(&plan->program, &in);
    }
    plan->impls = vt_alloc_zero(allocator, plan->program.record_count, sizeof *plan->impls);
    plan->choices = vt_alloc_zero(allocator, plan->program.record_count, sizeof *plan->choices);
    plan->offsets = vt_alloc_zero(allocator, plan->program.map_count, sizeof *plan->offsets);
    vt_status status = VT_OK;
    if (!plan->impls || !plan->choices || !plan->offsets) {
        status = vt_error_set(error, VT_ERR_MEMORY, "out of memory for a plan");
    }
    if (status == VT_OK) {
        status = choose_impls(plan, context, &in, error);
    }
    if (status == VT_OK) {
        status = place_maps(plan, error);
    }
    if (status != VT_OK) {
        vt_plan_clear(plan);
    }
    return status;
}

void vt_plan_clear(vt_plan *plan)
{
    const vt_allocator *allocator = plan->program.pool.allocator;
    if (allocator) {
        for (size_t i = 0; plan->choices && i < plan->program.record_count; i++) {
            vt_free(allocator, plan->choices[i]);
        }
        vt_free(allocator, plan->choices);
        vt_free(allocator, plan->impls);
        vt_free(allocator, plan->offsets);
        vt_program_clear(&plan->program);
    }
    *plan = (vt_plan){0};
}

/* Whether every element of the map is a finite number: no exponent is all ones. */
static bool is_finite(const vt_map *map, const void *data)
{
    int64_t count = map->shape.n * map->shape.h * map->shape.w * map->shape.c;
    bool wide = map->dtype == VT_F32;
    uint32_t exponent = wide ? 0x7f800000u : map->dtype == VT_BF16 ? 0x7f80u : 0x7c00u;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = wide ? ((const uint32_t *)data)[i] : ((const uint16_t *)data)[i];
        if ((bits & exponent) == exponent) {
            return false;
        }
    }
    return true;
}

vt_status vt_plan_run(const vt_plan *plan, vt_context *context, const vt_run *run, vt_error *error)
{
    const vt_program *p = &plan->program;
    const vt_backend *backend = vt_context_backend(context);
    vt_exec exec = {.backend = backend,
                    .program = p,
                    .weights = run->weights,
                    .maps = run->maps,
                    .scratch = run->scratch,
                    .threads = vt_context_threads(context),
                    .stream = run->stream,
                    .seconds = run->seconds,
                    .error = error};
    if (backend->device) {
        return backend->device->run(backend, plan, &exec, run->replay, error);
    }
    for (size_t i = 0; i < p->record_count; i++) {
        const vt_record *r = &p->records[i];
        if (!vt_progress(context, "forward", i, p->record_count)) {
            return vt_error_set(error, VT_ERR_CANCELLED, "cancelled");
        }
        double start = run->seconds ? vt_now() : 0;
        exec.choice = plan->choices[i];
        plan->impls[i]->run(&exec, r);
        if (run->seconds) {
            run->seconds[i] = vt_now() - start;
        }
        if (run->check_range && !is_finite(&p->maps[r->dst.id], run->maps[r->dst.id])) {
            return vt_error_set(error, VT_ERR_NUMERIC,
                                "%s: the result of %s is the first that is not finite", r->label,
                                vt_op_name(r->kind));
        }
    }
    return VT_OK;
}
