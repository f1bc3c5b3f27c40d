/* SPDX-License-Identifier: Apache-2.0 */
#include "model/session.h"

#include <string.h>

#include "core/checked.h"
#include "core/clock.h"
#include "model/model.h"
#include "ops/plan.h"
#include "vertebra_cuda.h"

enum { MAX_PLANS = 8, CHANNELS = 3 };

/* A planned shape. The arena is shared by all plans of the session: it holds one forward at a time.
 * `maps` are addresses in it, refreshed when it has moved. */
typedef struct prepared {
    vt_plan plan;
    int64_t n, h, w;
    uint64_t last_use;
    void **maps;
    double *seconds;
    const void *arena; /* the one that maps point into */
    void *replay;      /* a device's, for this plan in this arena */
    float **fetched;   /* per output: host copy of a device's map, or NULL */
    bool *is_fetched;  /* whether it is that of the last run */
} prepared;

struct vt_session {
    const vt_model *model;
    const vt_allocator *allocator;
    const vt_backend *backend;
    void *stream; /* of a device */
    vt_pool pool; /* output names */
    const char **outputs;
    int output_count;
    bool profile, check_range;
    prepared plans[MAX_PLANS]; /* n = 0: free */
    prepared *current;         /* of the last forward or prepare */
    bool has_run;
    bool is_callers;  /* the last forward went to a caller's stream */
    bool is_recorded; /* and into a graph: it has not run yet */
    double elapsed;   /* of the last run on the host */
    uint64_t clock;
    char *arena;
    size_t arena_bytes;
};

vt_status vt_session_create(vt_session **session, const vt_model *model,
                            const vt_session_settings *settings, vt_error *error)
{
    if (!session || !model) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_session_create: an argument is NULL");
    }
    *session = NULL;
    const char *const standard[] = {model->classes ? "logits" : "C5"};
    const char *const *names = settings && settings->outputs ? settings->outputs : standard;
    int count = settings && settings->outputs ? settings->output_count : 1;
    if (count < 1 || count > VT_MAX_OUTPUTS) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "%d outputs: want 1 to %d", count,
                            VT_MAX_OUTPUTS);
    }
    if (settings && settings->check_range && vt_context_backend(model->context)->device) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "check_range works on the CPU only");
    }
    const vt_allocator *allocator = vt_context_allocator(model->context);
    vt_session *s = vt_alloc_zero(allocator, 1, sizeof *s);
    if (!s) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a session");
    }
    s->model = model;
    s->allocator = allocator;
    s->backend = vt_context_backend(model->context);
    s->pool = (vt_pool){.allocator = allocator};
    s->profile = settings && settings->profile;
    s->check_range = settings && settings->check_range;
    s->outputs = vt_pool_alloc(&s->pool, (size_t)count * sizeof *s->outputs);
    for (int i = 0; s->outputs && i < count; i++) {
        s->outputs[i] = vt_pool_strndup(&s->pool, names[i], strlen(names[i]));
        s->output_count += s->outputs[i] != NULL;
    }
    if (s->output_count != count) {
        vt_session_destroy(&s);
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for a session");
    }
    vt_status status =
        s->backend->device ? s->backend->device->open(s->backend, &s->stream, error) : VT_OK;
    if (status != VT_OK) {
        vt_session_destroy(&s);
        return status;
    }
    *session = s;
    return VT_OK;
}

static void drop_replay(const vt_session *s, prepared *p)
{
    if (p->replay) {
        s->backend->device->drop(s->backend, s->stream, p->replay);
        p->replay = NULL;
    }
}

static void clear_prepared(const vt_session *s, prepared *p)
{
    drop_replay(s, p);
    for (int i = 0; p->fetched && i < p->plan.program.output_count; i++) {
        vt_free(s->allocator, p->fetched[i]);
    }
    vt_free(s->allocator, p->fetched);
    vt_free(s->allocator, p->is_fetched);
    vt_plan_clear(&p->plan);
    vt_free(s->allocator, p->maps);
    vt_free(s->allocator, p->seconds);
    *p = (prepared){0};
}

void vt_session_destroy(vt_session **session)
{
    if (!session || !*session) {
        return;
    }
    vt_session *s = *session;
    for (int i = 0; i < MAX_PLANS; i++) {
        clear_prepared(s, &s->plans[i]);
    }
    vt_backend_release(s->backend, s->allocator, s->arena);
    if (s->stream) {
        s->backend->device->close(s->backend, s->stream);
    }
    vt_pool_clear(&s->pool);
    vt_free(s->allocator, s);
    *session = NULL;
}

/* Records and plans one shape. */
static vt_status make_plan(const vt_session *s, int64_t n, int64_t h, int64_t w, vt_plan *plan,
                           vt_error *error)
{
    const vt_model *m = s->model;
    vt_program program;
    vt_program_init(&program, s->allocator);
    vt_builder b = {
        .program = &program, .weights = m->shapes, .weight_count = m->binder.slot_count};
    vt_status status = VT_OK;
    if (!vt_builder_input(&b, (vt_shape){n, h, w, CHANNELS})) {
        status = b.status;
    } else {
        m->family->forward(&b, m->network);
        status = b.status;
    }
    if (status != VT_OK) {
        vt_error_set(error, status, "%s", b.error.message);
    } else {
        status = vt_program_select(&program, s->outputs, s->output_count, error);
    }
    if (status == VT_OK) {
        status =
            vt_plan_make(plan, m->context, &program, m->shapes, m->dtype, m->f32_residual, error);
    }
    vt_program_clear(&program);
    return status == VT_OK ? VT_OK
                           : vt_error_wrap(error, status, "%s at %lldx%lldx%lld", m->variant->name,
                                           (long long)n, (long long)h, (long long)w);
}

static size_t plan_bytes(const vt_plan *plan)
{
    return plan->map_bytes + plan->scratch_bytes;
}

static bool grow_arena(vt_session *s, size_t bytes)
{
    if (bytes <= s->arena_bytes) {
        return true;
    }
    char *grown = vt_backend_alloc(s->backend, s->allocator, bytes);
    if (!grown) {
        return false;
    }
    vt_backend_release(s->backend, s->allocator, s->arena);
    s->arena = grown;
    s->arena_bytes = bytes;
    s->has_run = false; /* outputs of the last forward are gone */
    return true;
}

static void point_maps(const vt_session *s, prepared *p)
{
    drop_replay(s, p);
    for (size_t i = 0; i < p->plan.program.map_count; i++) {
        p->maps[i] = s->arena + p->plan.offsets[i];
    }
    p->arena = s->arena;
}

/* The plan of that shape, or the place for it: a free one, else the one longest unused. */
static prepared *find_place(vt_session *s, int64_t n, int64_t h, int64_t w)
{
    prepared *oldest = &s->plans[0];
    for (int i = 0; i < MAX_PLANS; i++) {
        prepared *p = &s->plans[i];
        if (p->n == n && p->h == h && p->w == w) {
            return p;
        }
        if (p->last_use < oldest->last_use) {
            oldest = p;
        }
    }
    return oldest;
}

/* A device's outputs get a place in host memory. */
static bool allocate_prepared(const vt_session *s, prepared *p)
{
    const vt_program *program = &p->plan.program;
    size_t outputs = (size_t)program->output_count;
    p->maps = vt_alloc_zero(s->allocator, program->map_count, sizeof *p->maps);
    p->seconds = vt_alloc_zero(s->allocator, program->record_count, sizeof *p->seconds);
    if (!p->maps || !p->seconds) {
        return false;
    }
    if (!s->backend->device) {
        return true;
    }
    p->fetched = vt_alloc_zero(s->allocator, outputs, sizeof *p->fetched);
    p->is_fetched = vt_alloc_zero(s->allocator, outputs, sizeof *p->is_fetched);
    for (size_t i = 0; p->fetched && p->is_fetched && i < outputs; i++) {
        vt_shape shape = program->maps[program->outputs[i].value.id].shape;
        p->fetched[i] = vt_alloc(s->allocator, (size_t)(shape.n * shape.h * shape.w * shape.c) *
                                                   sizeof **p->fetched);
        if (!p->fetched[i]) {
            return false;
        }
    }
    return p->fetched && p->is_fetched;
}

static vt_status check_size(int64_t n, int64_t h, int64_t w, vt_error *error)
{
    return n >= 1 && h >= 1 && w >= 1
               ? VT_OK
               : vt_error_set(error, VT_ERR_ARGUMENT, "an input of %lld pictures of %lldx%lld",
                              (long long)n, (long long)w, (long long)h);
}

static vt_status prepare(vt_session *s, int64_t n, int64_t h, int64_t w, vt_error *error)
{
    vt_status status = check_size(n, h, w, error);
    if (status != VT_OK) {
        return status;
    }
    prepared *p = find_place(s, n, h, w);
    if (p->n != n || p->h != h || p->w != w) {
        prepared fresh = {.n = n, .h = h, .w = w};
        status = make_plan(s, n, h, w, &fresh.plan, error);
        if (status != VT_OK) {
            return status;
        }
        size_t bytes = plan_bytes(&fresh.plan);
        if (!allocate_prepared(s, &fresh) || !grow_arena(s, bytes)) {
            clear_prepared(s, &fresh);
            return vt_error_set(error, VT_ERR_MEMORY, "out of memory: %zu bytes of activations",
                                bytes);
        }
        if (s->current == p) {
            s->current = NULL;
            s->has_run = false;
        }
        clear_prepared(s, p);
        *p = fresh;
    }
    if (p->arena != s->arena) {
        point_maps(s, p);
    }
    p->last_use = ++s->clock;
    if (s->current != p) {
        s->has_run = false;
    }
    s->current = p;
    return VT_OK;
}

vt_status vt_session_prepare(vt_session *session, int64_t n, int64_t h, int64_t w, vt_error *error)
{
    if (!session) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_session_prepare: session is NULL");
    }
    return prepare(session, n, h, w, error);
}

vt_status vt_session_memory(vt_session *session, int64_t n, int64_t h, int64_t w, size_t *bytes,
                            vt_error *error)
{
    if (!session || !bytes) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_session_memory: an argument is NULL");
    }
    vt_plan plan;
    vt_status status = check_size(n, h, w, error);
    if (status == VT_OK) {
        status = make_plan(session, n, h, w, &plan, error);
    }
    if (status == VT_OK) {
        *bytes = plan_bytes(&plan);
        vt_plan_clear(&plan);
    }
    return status;
}

/* Any strides to dense NHWC f32. */
static void stage_input(const vt_tensor *in, float *out)
{
    const float *data = in->data;
    for (int64_t n = 0; n < in->n; n++) {
        for (int64_t y = 0; y < in->h; y++) {
            const float *row = data + n * in->stride_n + y * in->stride_h;
            for (int64_t x = 0; x < in->w; x++) {
                for (int64_t c = 0; c < CHANNELS; c++) {
                    *out++ = row[x * in->stride_w + c * in->stride_c];
                }
            }
        }
    }
}

/* The host's copies of a device's outputs are no longer those of the last run. */
static void forget_outputs(const prepared *p)
{
    memset(p->is_fetched, 0, (size_t)p->plan.program.output_count * sizeof *p->is_fetched);
}

/* The pictures become the input map: from the host, or from the device's own memory. */
static vt_status bring_input(const vt_session *s, const prepared *p, const vt_tensor *input,
                             vt_error *error)
{
    const vt_device_ops *device = s->backend->device;
    vt_value in = p->plan.program.input;
    const vt_map *map = &p->plan.program.maps[in.id];
    if (!device) {
        stage_input(input, p->maps[in.id]);
        return VT_OK;
    }
    forget_outputs(p);
    return (s->is_callers ? device->take : device->stage)(s->backend, s->stream, input, map,
                                                          p->maps[in.id], error);
}

/* The network on the input that is there. */
static vt_status run_current(vt_session *s, vt_error *error)
{
    prepared *p = s->current;
    vt_run run = {.weights = s->model->weights,
                  .maps = p->maps,
                  .scratch = s->arena + p->plan.map_bytes,
                  .seconds = s->profile ? p->seconds : NULL,
                  .check_range = s->check_range,
                  .stream = s->stream,
                  .replay = &p->replay};
    double start = vt_now();
    vt_status status = vt_plan_run(&p->plan, s->model->context, &run, error);
    s->elapsed = vt_now() - start;
    s->has_run = status == VT_OK;
    return status;
}

/* Plans what is new, and turns to the session's own stream. */
static vt_status begin_own(vt_session *s, int64_t n, int64_t h, int64_t w, vt_error *error)
{
    vt_status status = prepare(s, n, h, w, error);
    if (status == VT_OK && s->backend->device) {
        s->is_callers = s->is_recorded = false;
        status = s->backend->device->follow(s->backend, s->stream, NULL, NULL, error);
    }
    s->has_run = s->has_run && status != VT_OK;
    return status;
}

vt_status vt_session_bring(vt_session *s, const vt_tensor *input, vt_error *error)
{
    if (!s || !input || !input->data || input->dtype != VT_F32 || input->c != CHANNELS) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "the input must be f32 with %d channels",
                            CHANNELS);
    }
    vt_status status = begin_own(s, input->n, input->h, input->w, error);
    return status == VT_OK ? bring_input(s, s->current, input, error) : status;
}

vt_status vt_session_bring_packed(vt_session *s, const vt_packed_batch *batch, int64_t n, int64_t h,
                                  int64_t w, vt_error *error)
{
    vt_status status = begin_own(s, n, h, w, error);
    if (status != VT_OK) {
        return status;
    }
    const prepared *p = s->current;
    vt_value in = p->plan.program.input;
    forget_outputs(p);
    return s->backend->device->stage_pictures(s->backend, s->stream, batch,
                                              &p->plan.program.maps[in.id], p->maps[in.id], error);
}

vt_status vt_session_start(vt_session *s, const vt_session *after, vt_error *error)
{
    const vt_device_ops *device = s->backend->device;
    vt_status status =
        device && after ? device->run_after(s->backend, s->stream, after->stream, error) : VT_OK;
    return status == VT_OK ? run_current(s, error) : status;
}

vt_status vt_session_forward(vt_session *s, const vt_tensor *input, vt_error *error)
{
    vt_status status = vt_session_bring(s, input, error);
    return status == VT_OK ? run_current(s, error) : status;
}

static vt_status not_a_gpu(vt_error *error)
{
    return vt_error_set(error, VT_ERR_UNSUPPORTED,
                        "the context's device is not a GPU: want cuda or cuda:N");
}

/* Whether a forward of that size needs nothing but enqueueing. */
static bool is_prepared(vt_session *s, const vt_tensor *in)
{
    const prepared *p = find_place(s, in->n, in->h, in->w);
    return p->n == in->n && p->h == in->h && p->w == in->w && p->arena == s->arena;
}

vt_status vt_session_forward_cuda(vt_session *s, const vt_tensor *input, struct CUstream_st *stream,
                                  vt_error *error)
{
    if (!s || !input || !input->data || input->c != CHANNELS ||
        (input->dtype != VT_F32 && input->dtype != s->model->dtype)) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "the input must be f32 or the model's type, with %d channels",
                            CHANNELS);
    }
    if (!s->backend->device) {
        return not_a_gpu(error);
    }
    bool capturing = false;
    void *handle = stream;
    vt_status status =
        s->backend->device->follow(s->backend, s->stream, &handle, &capturing, error);
    if (status != VT_OK) {
        return status;
    }
    if (capturing && s->profile) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "the stream is being captured, where operations cannot be timed");
    }
    if (capturing && !is_prepared(s, input)) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "the stream is being captured: call vt_session_prepare for %lldx%lldx"
                            "%lld before",
                            (long long)input->n, (long long)input->h, (long long)input->w);
    }
    status = prepare(s, input->n, input->h, input->w, error);
    if (status != VT_OK) {
        return status;
    }
    s->is_callers = true;
    s->is_recorded = capturing;
    s->has_run = false;
    status = bring_input(s, s->current, input, error);
    return status == VT_OK ? run_current(s, error) : status;
}

vt_status vt_session_elapsed(const vt_session *s, double *seconds, vt_error *error)
{
    if (!s || !seconds) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_session_elapsed: an argument is NULL");
    }
    if (!s->has_run || s->is_recorded) {
        return vt_error_set(error, VT_ERR_NOT_FOUND, "nothing has run");
    }
    *seconds = s->elapsed;
    return s->backend->device ? s->backend->device->elapsed(s->backend, s->stream, seconds, error)
                              : VT_OK;
}

/* The output of that name of the last forward, by its index. */
static vt_status find_output(const vt_session *s, const char *name, int *index, vt_error *error)
{
    const prepared *p = s->current;
    for (int i = 0; p && s->has_run && i < p->plan.program.output_count; i++) {
        if (strcmp(p->plan.program.outputs[i].name, name) == 0) {
            *index = i;
            return VT_OK;
        }
    }
    return vt_error_set(
        error, VT_ERR_NOT_FOUND,
        s->has_run ? "this session has no output '%s'" : "no result '%s': nothing has run", name);
}

static vt_tensor map_view(const vt_map *map, vt_dtype dtype, void *data)
{
    vt_shape shape = map->shape;
    return vt_tensor_nhwc(data, dtype, shape.n, shape.h, shape.w, shape.c);
}

vt_status vt_session_output(const vt_session *s, const char *name, vt_tensor *out, vt_error *error)
{
    if (!s || !name || !out) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_session_output: an argument is NULL");
    }
    int i;
    vt_status status = find_output(s, name, &i, error);
    if (status != VT_OK) {
        return status;
    }
    const prepared *p = s->current;
    int id = p->plan.program.outputs[i].value.id;
    const vt_map *map = &p->plan.program.maps[id];
    void *data = p->maps[id];
    if (s->is_recorded) {
        return vt_error_set(error, VT_ERR_NOT_FOUND,
                            "no result '%s': the forward went into the caller's graph", name);
    }
    if (s->backend->device) {
        data = p->fetched[i];
        if (!p->is_fetched[i]) {
            status =
                s->backend->device->fetch(s->backend, s->stream, map, p->maps[id], data, error);
            if (status != VT_OK) {
                return status;
            }
            p->is_fetched[i] = true;
        }
    }
    *out = map_view(map, VT_F32, data);
    return VT_OK;
}

vt_status vt_session_output_cuda(const vt_session *s, const char *name, vt_tensor *out,
                                 vt_error *error)
{
    if (!s || !name || !out) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_session_output_cuda: an argument is NULL");
    }
    if (!s->backend->device) {
        return not_a_gpu(error);
    }
    int i;
    double unused;
    vt_status status = find_output(s, name, &i, error);
    if (status == VT_OK && !s->is_callers) {
        status = vt_session_elapsed(s, &unused, error);
    }
    if (status == VT_OK) {
        int id = s->current->plan.program.outputs[i].value.id;
        const vt_map *map = &s->current->plan.program.maps[id];
        *out = map_view(map, map->dtype, s->current->maps[id]);
    }
    return status;
}

bool vt_session_op(const vt_session *s, size_t i, vt_op_info *info)
{
    const prepared *p = s->current;
    if (!p || i >= p->plan.program.record_count) {
        return false;
    }
    const vt_record *r = &p->plan.program.records[i];
    vt_cost cost = vt_record_cost(&p->plan.program, r, s->model->shapes, s->model->dtype);
    *info = (vt_op_info){vt_op_name(r->kind), r->label,   p->plan.impls[i]->name,
                         cost.flops,          cost.bytes, p->seconds[i]};
    return true;
}
