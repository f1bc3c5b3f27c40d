/* SPDX-License-Identifier: Apache-2.0 */
/* Workers load pictures into a ring of batches; one consumer per model takes whole batches from it
 * in order and runs the network. A picture's place follows from its number alone: batch i / batch,
 * row i % batch, ring slot (i / batch) % slots.
 *
 * Nobody can wait for ever: workers take pictures in order, so all pictures of the oldest batch
 * that is not yet run are with workers that have their slot, and that batch becomes full. */
#include "vertebra/evaluate.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "core/checked.h"
#include "core/clock.h"
#include "core/context.h"
#include "model/model.h"
#include "tasks/score.h"
#include "vertebra/session.h"

enum { DEFAULT_BATCH = 16, MAX_WORKERS = 256, MAX_MODELS = 64, REPORT_MS = 100 };

typedef struct slot {
    int64_t batch;  /* the one that it holds or waits for */
    int64_t filled; /* pictures of it that are loaded, or have failed */
    float *pictures;
} slot;

typedef struct pipeline {
    const vt_model *const *models;
    const vt_evaluate_source *source;
    vt_evaluate_settings settings;
    vt_evaluate_record *records;
    const vt_allocator *allocator;
    int model_count, slot_count;
    int64_t batches;
    size_t picture_floats;
    slot *slots;

    pthread_mutex_t lock; /* of everything below, and of the slots' numbers */
    pthread_cond_t changed;
    int64_t next_picture, next_batch, done;
    int running; /* consumers */
    bool stop;
    vt_status status;
    vt_error error;
    vt_evaluate_times times;
    pthread_mutex_t report; /* one call of `failed` at a time */
} pipeline;

typedef struct consumer {
    pipeline *p;
    const vt_model *model;
    vt_session *session;
    float *row; /* logits of the classes that compete, or NULL: all do */
} consumer;

/* ---- the end of a run ------------------------------------------------------------------------ */

/* Stops everybody; the first reason counts. */
static void stop(pipeline *p, vt_status status, const vt_error *error)
{
    pthread_mutex_lock(&p->lock);
    if (!p->stop) {
        p->stop = true;
        p->status = status;
        p->error = *error;
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void picture_failed(pipeline *p, int64_t i, vt_status status, const vt_error *error)
{
    p->records[i].status = status;
    if (p->settings.failed) {
        pthread_mutex_lock(&p->report);
        p->settings.failed(p->settings.user, i, error);
        pthread_mutex_unlock(&p->report);
    }
}

/* ---- loading --------------------------------------------------------------------------------- */

static int64_t batch_size(const pipeline *p, int64_t batch)
{
    int64_t first = batch * p->settings.batch, left = p->source->count - first;
    return left < p->settings.batch ? left : p->settings.batch;
}

/* The next picture and where it goes, once there is room; -1: no more. */
static int64_t take_picture(pipeline *p, float **out)
{
    pthread_mutex_lock(&p->lock);
    int64_t i = p->stop || p->next_picture == p->source->count ? -1 : p->next_picture++;
    if (i >= 0) {
        slot *s = &p->slots[i / p->settings.batch % p->slot_count];
        while (!p->stop && s->batch != i / p->settings.batch) {
            pthread_cond_wait(&p->changed, &p->lock);
        }
        i = p->stop ? -1 : i;
        *out = s->pictures + (size_t)(i < 0 ? 0 : i % p->settings.batch) * p->picture_floats;
    }
    pthread_mutex_unlock(&p->lock);
    return i;
}

static void *work(void *user)
{
    pipeline *p = user;
    double seconds = 0;
    float *out = NULL;
    for (int64_t i; (i = take_picture(p, &out)) >= 0;) {
        vt_error error = {0};
        double start = vt_now();
        vt_status status = p->source->load(p->source->user, i, out, &error);
        seconds += vt_now() - start;
        if (status != VT_OK) {
            memset(out, 0, p->picture_floats * sizeof *out); /* the batch runs all the same */
            picture_failed(p, i, status, &error);
        } else {
            p->records[i].status = VT_OK;
        }
        pthread_mutex_lock(&p->lock);
        slot *s = &p->slots[i / p->settings.batch % p->slot_count];
        if (++s->filled == batch_size(p, s->batch)) {
            pthread_cond_broadcast(&p->changed);
        }
        pthread_mutex_unlock(&p->lock);
    }
    pthread_mutex_lock(&p->lock);
    p->times.load += seconds;
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

/* The next batch once it is full, or NULL: no more. */
static slot *take_batch(pipeline *p)
{
    pthread_mutex_lock(&p->lock);
    slot *s = NULL;
    if (!p->stop && p->next_batch < p->batches) {
        int64_t batch = p->next_batch++;
        s = &p->slots[batch % p->slot_count];
        while (!p->stop && (s->batch != batch || s->filled < batch_size(p, batch))) {
            pthread_cond_wait(&p->changed, &p->lock);
        }
        s = p->stop ? NULL : s;
    }
    pthread_mutex_unlock(&p->lock);
    return s;
}

static void judge(consumer *c, int64_t i, const float *logits)
{
    pipeline *p = c->p;
    vt_evaluate_record *record = &p->records[i];
    if (record->status == VT_OK) {
        vt_error error = {0};
        vt_status status = vt_score(record, logits, vt_model_classes(c->model), p->settings.classes,
                                    p->settings.class_count, c->row, &error);
        if (status != VT_OK) {
            picture_failed(p, i, status, &error);
        }
    }
}

/* One forward and the records of its pictures. Where no picture could be loaded there is nothing to
 * run. */
static vt_status run_batch(consumer *c, const slot *s, double *seconds, vt_error *error)
{
    pipeline *p = c->p;
    int64_t first = s->batch * p->settings.batch, n = batch_size(p, s->batch), good = 0;
    for (int64_t i = 0; i < n; i++) {
        good += p->records[first + i].status == VT_OK;
    }
    if (!good) {
        return VT_OK;
    }
    vt_tensor in = vt_tensor_nchw(s->pictures, VT_F32, n, 3, p->source->height, p->source->width);
    vt_tensor logits;
    double start = vt_now();
    vt_status status = vt_session_forward(c->session, &in, error);
    if (status == VT_OK) {
        status = vt_session_output(c->session, "logits", &logits, error);
    }
    *seconds += vt_now() - start;
    for (int64_t i = 0; status == VT_OK && i < n; i++) {
        judge(c, first + i, (const float *)logits.data + i * logits.c);
    }
    return status;
}

/* A batch that did not get through has no records. */
static void forget_batch(const pipeline *p, const slot *s)
{
    for (int64_t i = 0; i < batch_size(p, s->batch); i++) {
        vt_evaluate_record *record = &p->records[s->batch * p->settings.batch + i];
        record->status = record->status == VT_OK ? VT_ERR_CANCELLED : record->status;
    }
}

static void *consume(void *user)
{
    consumer *c = user;
    pipeline *p = c->p;
    double seconds = 0;
    for (slot *s; (s = take_batch(p));) {
        vt_error error = {0};
        vt_status status = run_batch(c, s, &seconds, &error);
        if (status != VT_OK) {
            stop(p, status, &error);
            break;
        }
        pthread_mutex_lock(&p->lock);
        p->done += batch_size(p, s->batch);
        s->batch += p->slot_count;
        s->filled = 0;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
    }
    pthread_mutex_lock(&p->lock);
    p->times.network += seconds;
    p->running--;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- setting up ------------------------------------------------------------------------------ */

/* The one place where batch buffers come from. */
static float *alloc_pictures(const pipeline *p)
{
    size_t bytes;
    return vt_mul_size((size_t)p->settings.batch, p->picture_floats * sizeof(float), &bytes)
               ? vt_alloc(p->allocator, bytes)
               : NULL;
}

static vt_status check_labels(const pipeline *p, vt_error *error)
{
    const int classes = vt_model_classes(p->models[0]), *chosen = p->settings.classes;
    for (int k = 0; chosen && k < p->settings.class_count; k++) {
        if (chosen[k] < 0 || chosen[k] >= classes || (k > 0 && chosen[k] <= chosen[k - 1])) {
            return vt_error_set(error, VT_ERR_ARGUMENT,
                                "evaluate: the classes that compete must ascend, below %d",
                                classes);
        }
    }
    for (int64_t i = 0; i < p->source->count; i++) {
        int label = p->source->labels ? p->source->labels[i] : -1;
        if (label < -1 || label >= classes ||
            (label >= 0 && chosen && vt_score_column(label, chosen, p->settings.class_count) < 0)) {
            return vt_error_set(error, VT_ERR_ARGUMENT,
                                "evaluate: picture %lld has class %d, which is not one of the "
                                "model's %d%s",
                                (long long)i, label, classes, chosen ? " that compete" : "");
        }
        p->records[i] =
            (vt_evaluate_record){.status = VT_ERR_CANCELLED, .label = label, .rank = -1};
    }
    return VT_OK;
}

static vt_status check(const pipeline *p, vt_error *error)
{
    const vt_evaluate_source *s = p->source;
    for (int i = 0; i < p->model_count; i++) {
        if (!p->models[i] || vt_model_classes(p->models[i]) < 1 ||
            vt_model_classes(p->models[i]) != vt_model_classes(p->models[0])) {
            return vt_error_set(error, VT_ERR_ARGUMENT,
                                "evaluate: the models have no head, or not the same one");
        }
    }
    if (s->count < 0 || s->height < 1 || s->width < 1 || !s->load || (s->count && !p->records)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "evaluate: %lld pictures of %d x %d",
                            (long long)s->count, s->width, s->height);
    }
    if (p->settings.batch < 1 || p->settings.workers < 1 || p->settings.workers > MAX_WORKERS ||
        (p->settings.classes && p->settings.class_count < 1)) {
        return vt_error_set(
            error, VT_ERR_ARGUMENT, "evaluate: batch %d, %d workers (at most %d), %d classes",
            p->settings.batch, p->settings.workers, MAX_WORKERS, p->settings.class_count);
    }
    return check_labels(p, error);
}

static vt_status make_slots(pipeline *p, vt_error *error)
{
    size_t area, floats;
    bool fits = vt_mul_size((size_t)p->source->height, (size_t)p->source->width, &area) &&
                vt_mul_size(area, 3, &floats) && floats < SIZE_MAX / sizeof(float);
    p->picture_floats = fits ? floats : 0;
    p->slots = fits ? vt_alloc_zero(p->allocator, (size_t)p->slot_count, sizeof *p->slots) : NULL;
    for (int i = 0; p->slots && i < p->slot_count; i++) {
        p->slots[i].batch = i;
        p->slots[i].pictures = alloc_pictures(p);
        fits = fits && p->slots[i].pictures;
    }
    return fits && p->slots ? VT_OK
                            : vt_error_set(error, VT_ERR_MEMORY,
                                           "evaluate: out of memory for batches of %d pictures",
                                           p->settings.batch);
}

static void free_slots(pipeline *p)
{
    for (int i = 0; p->slots && i < p->slot_count; i++) {
        vt_free(p->allocator, p->slots[i].pictures);
    }
    vt_free(p->allocator, p->slots);
}

static vt_status open_consumers(pipeline *p, consumer *consumers, vt_error *error)
{
    static const char *const outputs[] = {"logits"};
    const vt_session_settings settings = {.outputs = outputs, .output_count = 1};
    vt_status status = VT_OK;
    for (int i = 0; i < p->model_count && status == VT_OK; i++) {
        consumers[i] = (consumer){.p = p, .model = p->models[i]};
        status = vt_session_create(&consumers[i].session, p->models[i], &settings, error);
        if (status == VT_OK && p->settings.classes) {
            consumers[i].row =
                vt_alloc(p->allocator, (size_t)p->settings.class_count * sizeof(float));
            status = consumers[i].row
                         ? VT_OK
                         : vt_error_set(error, VT_ERR_MEMORY, "evaluate: out of memory");
        }
    }
    return status;
}

static void close_consumers(pipeline *p, consumer *consumers)
{
    for (int i = 0; i < p->model_count; i++) {
        vt_session_destroy(&consumers[i].session);
        vt_free(p->allocator, consumers[i].row);
    }
}

/* Our threads take no signals: they belong to the caller's. */
static bool start(pthread_t *thread, void *(*function)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result == 0;
}

/* Until the consumers are through, tells the caller how far they are. */
static void watch(pipeline *p)
{
    static const vt_error stopped = {VT_ERR_CANCELLED, "evaluate: cancelled"};
    pthread_mutex_lock(&p->lock);
    while (p->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += REPORT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        while (p->running > 0 &&
               pthread_cond_timedwait(&p->changed, &p->lock, &until) != ETIMEDOUT) {
        }
        int64_t done = p->done;
        pthread_mutex_unlock(&p->lock);
        if (p->settings.progress &&
            !p->settings.progress(p->settings.user, done, p->source->count)) {
            stop(p, VT_ERR_CANCELLED, &stopped);
        }
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Starts everybody, waits for everybody. */
static void run_threads(pipeline *p, consumer *consumers, pthread_t *threads)
{
    static const vt_error none = {VT_ERR_LIMIT, "evaluate: a thread cannot be started"};
    int count = 0, wanted = p->model_count + p->settings.workers;
    double begin = vt_now();
    for (; count < wanted; count++) {
        bool first = count < p->model_count;
        pthread_mutex_lock(&p->lock);
        p->running += first;
        pthread_mutex_unlock(&p->lock);
        if (!start(&threads[count], first ? consume : work,
                   first ? (void *)&consumers[count] : (void *)p)) {
            pthread_mutex_lock(&p->lock);
            p->running -= first;
            pthread_mutex_unlock(&p->lock);
            stop(p, VT_ERR_LIMIT, &none);
            break;
        }
    }
    watch(p);
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    p->times.whole = vt_now() - begin;
    p->times.workers = p->settings.workers;
    p->times.models = p->model_count;
}

/* After a stop, pictures that were loaded but not run have no record. */
static void forget_unfinished(const pipeline *p)
{
    for (int i = 0; i < p->slot_count; i++) {
        if (p->slots[i].batch < p->batches) {
            forget_batch(p, &p->slots[i]);
        }
    }
}

static vt_status run(pipeline *p, vt_error *error)
{
    int wanted = p->model_count + p->settings.workers;
    pthread_t *threads = vt_alloc_zero(p->allocator, (size_t)wanted, sizeof *threads);
    consumer *consumers = vt_alloc_zero(p->allocator, (size_t)p->model_count, sizeof *consumers);
    vt_status status = threads && consumers
                           ? make_slots(p, error)
                           : vt_error_set(error, VT_ERR_MEMORY, "evaluate: out of memory");
    if (status == VT_OK) {
        status = open_consumers(p, consumers, error);
    }
    if (status == VT_OK) {
        run_threads(p, consumers, threads);
        status = p->status;
        if (p->stop) {
            forget_unfinished(p);
            (void)vt_error_set(error, status, "%s", p->error.message);
        }
    }
    if (consumers) {
        close_consumers(p, consumers);
    }
    free_slots(p);
    vt_free(p->allocator, consumers);
    vt_free(p->allocator, threads);
    return status;
}

vt_status vt_evaluate(const vt_model *const *models, int model_count,
                      const vt_evaluate_source *source, const vt_evaluate_settings *settings,
                      vt_evaluate_record *records, vt_evaluate_times *times, vt_error *error)
{
    if (!models || !source || model_count < 1 || model_count > MAX_MODELS || !models[0]) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "evaluate: no pictures, or %d models",
                            model_count);
    }
    pipeline p = {.models = models,
                  .source = source,
                  .records = records,
                  .allocator = vt_context_allocator(models[0]->context),
                  .model_count = model_count,
                  .slot_count = 2 * model_count + 1};
    p.settings = settings ? *settings : (vt_evaluate_settings){0};
    p.settings.batch = p.settings.batch ? p.settings.batch : DEFAULT_BATCH;
    p.settings.workers = p.settings.workers ? p.settings.workers : model_count;
    vt_status status = check(&p, error);
    if (status != VT_OK) {
        return status;
    }
    p.batches = vt_div_up(source->count, p.settings.batch);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&p.lock, NULL);
    pthread_mutex_init(&p.report, NULL);
    status = source->count ? run(&p, error) : VT_OK;
    pthread_cond_destroy(&p.changed);
    pthread_mutex_destroy(&p.report);
    pthread_mutex_destroy(&p.lock);
    if (times) {
        *times = p.times;
    }
    return status;
}
