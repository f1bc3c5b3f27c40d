/* SPDX-License-Identifier: Apache-2.0 */
/* Workers load pictures into a ring of batches; consumers take whole batches from it in order and
 * run the network. A picture's place follows from its number alone: batch i / batch, row i % batch,
 * ring slot (i / batch) % slots.
 *
 * Nobody can wait for ever: workers take pictures in order, so all pictures of the oldest batch
 * that is not yet run are with workers that have their slot, and that batch becomes full.
 *
 * A model on a device has two consumers, each with a session: while the network runs for one of
 * them, the other brings its pictures (from pinned memory, or the device prepares them). So copies
 * need not be short, only shorter than the network: f32 takes 0.6 MB a picture of 224 x 224, which
 * PCIe carries at 80,000 a second, and smaller types would cost the workers a conversion. A
 * consumer judges the logits of one run while the device is busy with its next one, for what it
 * does between them may leave the device without work. One network runs at a time, so that the time
 * of each is its own.
 *
 * A device has other kernels for other numbers of pictures, whose last bits may differ. So it
 * always runs the same number at a time, also where a batch has more or the last one fewer; a
 * picture's logits then depend neither on the batch nor on how many there are. */
#include "vertebra/evaluate.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "core/checked.h"
#include "core/clock.h"
#include "core/context.h"
#include "io/packed.h"
#include "model/model.h"
#include "model/session.h"
#include "tasks/score.h"

enum {
    DEFAULT_BATCH = 16,
    MAX_BATCH = 1 << 20,
    MAX_WORKERS = 256,
    MAX_MODELS = 64,
    REPORT_MS = 100
};
enum { LOADED = -1 }; /* a record's `found` between loading and judging */

typedef struct slot {
    int64_t batch;     /* the one that it holds or waits for */
    int64_t filled;    /* pictures of it that are loaded, or have failed */
    uint8_t *pictures; /* f32 [batch, 3, height, width], or packed for the device */
} slot;

/* The consumers of one model run their networks one after the other. */
typedef struct turn {
    pthread_mutex_t lock;
    const vt_session *last; /* the one that was started last */
} turn;

typedef struct pipeline {
    const vt_model *const *models;
    const vt_evaluate_source *source;
    vt_evaluate_settings settings;
    vt_evaluate_record *records;
    const vt_allocator *allocator;
    int model_count, consumer_count, slot_count;
    int64_t batches;
    size_t picture_bytes;
    slot *slots;
    turn turns[MAX_MODELS];
    const vt_backend *device; /* of one of the models that has one: slots lie in its host memory */
    vt_packing packing;       /* where devices prepare the pictures */
    vt_context *packer;       /* of one thread, for what is too large for them; NULL: `load` */

    pthread_mutex_t lock; /* of everything below, and of the slots' numbers */
    pthread_cond_t changed;
    int64_t next_picture, next_batch, done;
    int running, warming; /* consumers */
    bool stop;
    vt_status status;
    vt_error error;
    vt_evaluate_times times;
    pthread_mutex_t report; /* one call of `failed` at a time */
} pipeline;

typedef struct consumer {
    pipeline *p;
    const vt_model *model;
    turn *turn;
    double seconds; /* of its networks */
    vt_session *session;
    float *row;       /* logits of the classes that compete, or NULL: all do */
    float *logits;    /* of its last run */
    int64_t first, n; /* the pictures of that run that have no records yet; n = 0: none */
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
static int64_t take_picture(pipeline *p, uint8_t **out)
{
    pthread_mutex_lock(&p->lock);
    int64_t i = p->stop || p->next_picture == p->source->count ? -1 : p->next_picture++;
    if (i >= 0) {
        slot *s = &p->slots[i / p->settings.batch % p->slot_count];
        while (!p->stop && s->batch != i / p->settings.batch) {
            pthread_cond_wait(&p->changed, &p->lock);
        }
        i = p->stop ? -1 : i;
        *out = s->pictures + (size_t)(i < 0 ? 0 : i % p->settings.batch) * p->picture_bytes;
    }
    pthread_mutex_unlock(&p->lock);
    return i;
}

/* Fills a picture's place. One that fails leaves something there too, since the batch runs. */
static vt_status load_picture(pipeline *p, int64_t i, uint8_t *out, vt_error *error)
{
    const vt_evaluate_source *s = p->source;
    vt_status status;
    if (!p->packer) {
        status = s->load(s->user, i, (float *)(void *)out, error);
        if (status != VT_OK) {
            memset(out, 0, p->picture_bytes);
        }
        return status;
    }
    vt_pixels pixels = {0};
    status = s->decode(s->user, i, &pixels, error);
    if (status != VT_OK) {
        vt_pack_nothing(out);
        return status;
    }
    status = vt_pack_picture(p->packer, s->preprocess, &p->packing, &pixels, out, error);
    if (s->release) {
        s->release(s->user, &pixels);
    }
    return status;
}

static void *work(void *user)
{
    pipeline *p = user;
    double seconds = 0;
    uint8_t *out = NULL;
    for (int64_t i; (i = take_picture(p, &out)) >= 0;) {
        vt_error error = {0};
        double start = vt_now();
        vt_status status = load_picture(p, i, out, &error);
        seconds += vt_now() - start;
        if (status == VT_OK) {
            p->records[i].found = LOADED;
        } else {
            picture_failed(p, i, status, &error);
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
    if (record->found == LOADED) {
        vt_error error = {0};
        vt_status status = vt_score(record, logits, vt_model_classes(c->model), p->settings.classes,
                                    p->settings.class_count, c->row, &error);
        record->status = status;
        if (status != VT_OK) {
            picture_failed(p, i, status, &error);
        }
    }
}

static void count_done(pipeline *p, int64_t n)
{
    pthread_mutex_lock(&p->lock);
    p->done += n;
    pthread_mutex_unlock(&p->lock);
}

/* The records of the last run. */
static void judge_last(consumer *c)
{
    for (int64_t i = 0; i < c->n; i++) {
        judge(c, c->first + i, c->logits + i * vt_model_classes(c->model));
    }
    count_done(c->p, c->n);
    c->n = 0;
}

static bool has_device(const vt_model *model)
{
    return vt_context_backend(model->context)->device != NULL;
}

/* `n` pictures of a slot become the session's input. */
static vt_status bring(consumer *c, uint8_t *pictures, int64_t n, vt_error *error)
{
    const pipeline *p = c->p;
    const int64_t h = p->source->height, w = p->source->width, whole = p->settings.gpu_batch;
    if (p->packer) {
        const vt_packed_batch batch = {&p->packing, pictures, n};
        return vt_session_bring_packed(c->session, &batch, whole, h, w, error);
    }
    if (has_device(c->model)) {
        memset(pictures + (size_t)n * p->picture_bytes, 0, (size_t)(whole - n) * p->picture_bytes);
        n = whole;
    }
    vt_tensor in = vt_tensor_nchw(pictures, VT_F32, n, 3, h, w);
    return vt_session_bring(c->session, &in, error);
}

/* One network after the other. */
static vt_status start_network(consumer *c, vt_error *error)
{
    pthread_mutex_lock(&c->turn->lock);
    vt_status status = vt_session_start(c->session, c->turn->last, error);
    c->turn->last = c->session;
    pthread_mutex_unlock(&c->turn->lock);
    return status;
}

/* Waits for the network and keeps its logits of `n` pictures from `first` on. */
static vt_status end_network(consumer *c, int64_t first, int64_t n, vt_error *error)
{
    vt_tensor logits;
    double seconds;
    vt_status status = vt_session_elapsed(c->session, &seconds, error);
    status = status == VT_OK ? vt_session_output(c->session, "logits", &logits, error) : status;
    if (status == VT_OK) {
        c->seconds += seconds;
        memcpy(c->logits, logits.data, (size_t)(n * logits.c) * sizeof(float));
        c->first = first;
        c->n = n;
    }
    return status;
}

/* The slot is free for a later batch. */
static void release(pipeline *p, slot *s)
{
    pthread_mutex_lock(&p->lock);
    s->batch += p->slot_count;
    s->filled = 0;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* One forward of the slot's pictures from `at` on, and meanwhile the records of the one before.
 * Where none could be loaded there is nothing to run. The slot is free once its last pictures are
 * brought. */
static vt_status run_part(consumer *c, slot *s, int64_t at, int64_t n, bool is_last,
                          vt_error *error)
{
    pipeline *p = c->p;
    int64_t first = s->batch * p->settings.batch + at, good = 0;
    for (int64_t i = 0; i < n; i++) {
        good += p->records[first + i].found == LOADED;
    }
    vt_status status =
        good ? bring(c, s->pictures + (size_t)at * p->picture_bytes, n, error) : VT_OK;
    if (is_last) {
        release(p, s);
    }
    if (!good) {
        count_done(p, n);
        return VT_OK;
    }
    if (status != VT_OK) {
        return status;
    }
    status = start_network(c, error);
    judge_last(c);
    return status == VT_OK ? end_network(c, first, n, error) : status;
}

/* A device takes its own number of pictures at a time, the processor all. */
static vt_status run_batch(consumer *c, slot *s, vt_error *error)
{
    const int64_t n = batch_size(c->p, s->batch);
    const int64_t most = has_device(c->model) ? c->p->settings.gpu_batch : n;
    vt_status status = VT_OK;
    for (int64_t at = 0; at < n && status == VT_OK; at += most) {
        const bool is_last = n - at <= most;
        status = run_part(c, s, at, is_last ? n - at : most, is_last, error);
    }
    return status;
}

/* The first forward of a session on a device loads kernels, times products and records a graph,
 * which is no part of the pictures' time. The first slot is still blank. */
static vt_status warm_up(consumer *c, vt_error *error)
{
    pipeline *p = c->p;
    double unused;
    vt_status status = VT_OK;
    if (has_device(c->model)) {
        status = bring(c, p->slots[0].pictures, p->settings.gpu_batch, error);
        status = status == VT_OK ? start_network(c, error) : status;
        status = status == VT_OK ? vt_session_elapsed(c->session, &unused, error) : status;
    }
    pthread_mutex_lock(&p->lock);
    p->warming--;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return status;
}

static void *consume(void *user)
{
    consumer *c = user;
    pipeline *p = c->p;
    vt_error error = {0};
    vt_status status = warm_up(c, &error);
    for (slot *s; status == VT_OK && (s = take_batch(p));) {
        status = run_batch(c, s, &error);
    }
    judge_last(c);
    if (status != VT_OK) {
        stop(p, status, &error);
    }
    pthread_mutex_lock(&p->lock);
    p->running--;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- setting up ------------------------------------------------------------------------------ */

/* The one place where batch buffers come from. */
static uint8_t *alloc_pictures(const pipeline *p)
{
    size_t bytes;
    if (!vt_mul_size((size_t)p->settings.batch, p->picture_bytes, &bytes)) {
        return NULL;
    }
    return p->device ? p->device->device->host_alloc(p->device, bytes)
                     : vt_alloc(p->allocator, bytes);
}

static void free_pictures(const pipeline *p, uint8_t *pictures)
{
    if (p->device && pictures) {
        p->device->device->host_release(p->device, pictures);
    } else {
        vt_free(p->allocator, pictures);
    }
}

/* What a device's first forward sees. */
static void blank(const pipeline *p, uint8_t *pictures)
{
    for (int i = 0; i < p->settings.batch; i++, pictures += p->picture_bytes) {
        if (p->packer) {
            vt_pack_nothing(pictures);
        } else {
            memset(pictures, 0, p->picture_bytes);
        }
    }
}

static vt_status check_labels(const pipeline *p, vt_error *error)
{
    const int classes = vt_model_classes(p->models[0]), *chosen = p->settings.classes;
    for (int k = 0; chosen && k < p->settings.class_count; k++) {
        if (chosen[k] < 0 || chosen[k] >= classes || (k > 0 && chosen[k] <= chosen[k - 1])) {
            return vt_error_set(error, VT_ERR_ARGUMENT,
                                "the classes that compete must ascend, below %d", classes);
        }
    }
    for (int64_t i = 0; i < p->source->count; i++) {
        int label = p->source->labels ? p->source->labels[i] : -1;
        if (label < -1 || label >= classes ||
            (label >= 0 && chosen && vt_score_column(label, chosen, p->settings.class_count) < 0)) {
            return vt_error_set(error, VT_ERR_ARGUMENT,
                                "picture %lld has class %d, which is not one of the model's %d%s",
                                (long long)i, label, classes, chosen ? " that compete" : "");
        }
        p->records[i] =
            (vt_evaluate_record){.status = VT_ERR_CANCELLED, .label = label, .rank = -1};
    }
    return VT_OK;
}

static vt_status check_preprocess(const pipeline *p, vt_error *error)
{
    const vt_evaluate_source *s = p->source;
    if (s->preprocess->height != s->height || s->preprocess->width != s->width) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "pictures of %d x %d, prepared as %d x %d",
                            s->width, s->height, s->preprocess->width, s->preprocess->height);
    }
    for (int i = 0; i < p->model_count; i++) {
        if (!has_device(p->models[i])) {
            return vt_error_set(
                error, VT_ERR_UNSUPPORTED,
                "only a GPU can prepare pictures itself, and a model's device is '%s'",
                vt_context_backend(p->models[i]->context)->name);
        }
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
                                "the models have no head, or not the same one");
        }
    }
    const bool can_load = s->preprocess ? s->decode != NULL : s->load != NULL;
    if (s->count < 0 || s->height < 1 || s->width < 1 || !can_load || (s->count && !p->records)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "%lld pictures of %d x %d", (long long)s->count,
                            s->width, s->height);
    }
    if (p->settings.batch < 1 || p->settings.batch > MAX_BATCH || p->settings.gpu_batch < 1 ||
        p->settings.gpu_batch > MAX_BATCH || p->settings.workers < 1 ||
        p->settings.workers > MAX_WORKERS || (p->settings.classes && p->settings.class_count < 1)) {
        return vt_error_set(
            error, VT_ERR_ARGUMENT,
            "batch %d, on a GPU %d (at most %d), %d workers (at most %d), %d classes",
            p->settings.batch, p->settings.gpu_batch, MAX_BATCH, p->settings.workers, MAX_WORKERS,
            p->settings.class_count);
    }
    vt_status status = s->preprocess ? check_preprocess(p, error) : VT_OK;
    return status == VT_OK ? check_labels(p, error) : status;
}

/* How much room a picture takes, and who fills it. */
static vt_status size_pictures(pipeline *p, vt_error *error)
{
    const vt_evaluate_source *s = p->source;
    if (!s->preprocess) {
        size_t area, floats;
        bool fits = vt_mul_size((size_t)s->height, (size_t)s->width, &area) &&
                    vt_mul_size(area, 3, &floats) &&
                    vt_mul_size(floats, sizeof(float), &p->picture_bytes);
        return fits
                   ? VT_OK
                   : vt_error_set(error, VT_ERR_MEMORY, "pictures of %d x %d", s->width, s->height);
    }
    vt_context_settings settings = vt_context_settings_default();
    settings.threads = 1;
    settings.allocator = *p->allocator;
    vt_status status = vt_packing_init(&p->packing, s->preprocess, error);
    p->picture_bytes = p->packing.room;
    return status == VT_OK ? vt_context_create(&p->packer, &settings, error) : status;
}

static vt_status make_slots(pipeline *p, vt_error *error)
{
    vt_status status = size_pictures(p, error);
    if (status != VT_OK) {
        return status;
    }
    p->slots = vt_alloc_zero(p->allocator, (size_t)p->slot_count, sizeof *p->slots);
    bool fits = p->slots != NULL;
    for (int i = 0; p->slots && i < p->slot_count; i++) {
        p->slots[i].batch = i;
        p->slots[i].pictures = fits ? alloc_pictures(p) : NULL;
        fits = fits && p->slots[i].pictures;
    }
    if (fits && p->device) {
        blank(p, p->slots[0].pictures);
    }
    return fits ? VT_OK
                : vt_error_set(error, VT_ERR_MEMORY, "out of memory for batches of %d pictures",
                               p->settings.batch);
}

static void free_slots(pipeline *p)
{
    for (int i = 0; p->slots && i < p->slot_count; i++) {
        free_pictures(p, p->slots[i].pictures);
    }
    vt_free(p->allocator, p->slots);
    vt_context_destroy(&p->packer);
}

static vt_status open_consumer(consumer *c, vt_error *error)
{
    static const char *const outputs[] = {"logits"};
    const vt_session_settings settings = {.outputs = outputs, .output_count = 1};
    const pipeline *p = c->p;
    const int64_t most = has_device(c->model) ? p->settings.gpu_batch : batch_size(p, 0);
    const size_t classes = (size_t)vt_model_classes(c->model);
    vt_status status = vt_session_create(&c->session, c->model, &settings, error);
    if (status != VT_OK) {
        return status;
    }
    c->logits = vt_alloc(p->allocator, (size_t)most * classes * sizeof(float));
    c->row = p->settings.classes ? vt_alloc(p->allocator, classes * sizeof(float)) : NULL;
    return c->logits && (c->row || !p->settings.classes)
               ? VT_OK
               : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
}

/* The second of a device comes after the first of all models. */
static vt_status open_consumers(pipeline *p, consumer *consumers, vt_error *error)
{
    vt_status status = VT_OK;
    int count = 0;
    for (int i = 0; i < 2 * p->model_count && status == VT_OK; i++) {
        const int m = i % p->model_count;
        if (i == m || has_device(p->models[m])) {
            consumer *c = &consumers[count++];
            *c = (consumer){.p = p, .model = p->models[m], .turn = &p->turns[m]};
            status = open_consumer(c, error);
        }
    }
    return status;
}

static void close_consumers(pipeline *p, consumer *consumers)
{
    for (int i = 0; i < p->consumer_count; i++) {
        vt_session_destroy(&consumers[i].session);
        vt_free(p->allocator, consumers[i].row);
        vt_free(p->allocator, consumers[i].logits);
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
    static const vt_error stopped = {VT_ERR_CANCELLED, "cancelled"};
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

/* Starts threads[from] to threads[to - 1]; how many there are then. */
static int start_threads(pipeline *p, consumer *consumers, pthread_t *threads, int from, int to)
{
    static const vt_error none = {VT_ERR_LIMIT, "a thread cannot be started"};
    for (int i = from; i < to; i++) {
        bool first = i < p->consumer_count;
        pthread_mutex_lock(&p->lock);
        p->running += first;
        p->warming += first;
        pthread_mutex_unlock(&p->lock);
        if (!start(&threads[i], first ? consume : work,
                   first ? (void *)&consumers[i] : (void *)p)) {
            pthread_mutex_lock(&p->lock);
            p->running -= first;
            p->warming -= first;
            pthread_mutex_unlock(&p->lock);
            stop(p, VT_ERR_LIMIT, &none);
            return i;
        }
    }
    return to;
}

/* Starts everybody, waits for everybody. Loading begins when the consumers are warm. */
static void run_threads(pipeline *p, consumer *consumers, pthread_t *threads)
{
    int consuming = start_threads(p, consumers, threads, 0, p->consumer_count), count = consuming;
    pthread_mutex_lock(&p->lock);
    while (p->warming > 0) {
        pthread_cond_wait(&p->changed, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    double begin = vt_now();
    if (consuming == p->consumer_count) {
        count = start_threads(p, consumers, threads, consuming, consuming + p->settings.workers);
    }
    watch(p);
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    p->times.whole = vt_now() - begin;
    p->times.workers = p->settings.workers;
    p->times.models = p->model_count;
    for (int i = 0; i < p->consumer_count; i++) {
        p->times.network += consumers[i].seconds;
    }
}

static vt_status run(pipeline *p, vt_error *error)
{
    int wanted = p->consumer_count + p->settings.workers;
    pthread_t *threads = vt_alloc_zero(p->allocator, (size_t)wanted, sizeof *threads);
    consumer *consumers = vt_alloc_zero(p->allocator, (size_t)p->consumer_count, sizeof *consumers);
    vt_status status = threads && consumers ? make_slots(p, error)
                                            : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        status = open_consumers(p, consumers, error);
    }
    if (status == VT_OK) {
        run_threads(p, consumers, threads);
        status = p->status;
        if (p->stop) {
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

static void find_devices(pipeline *p)
{
    for (int i = 0; i < p->model_count; i++) {
        bool device = has_device(p->models[i]);
        p->consumer_count += device ? 2 : 1;
        p->device = device ? vt_context_backend(p->models[i]->context) : p->device;
    }
    if (p->device) { /* whole runs of the device */
        p->settings.batch =
            (int)vt_div_up(p->settings.batch, p->settings.gpu_batch) * p->settings.gpu_batch;
    }
}

vt_status vt_evaluate(const vt_model *const *models, int model_count,
                      const vt_evaluate_source *source, const vt_evaluate_settings *settings,
                      vt_evaluate_record *records, vt_evaluate_times *times, vt_error *error)
{
    if (!models || !source || model_count < 1 || model_count > MAX_MODELS || !models[0]) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "no pictures, or %d models", model_count);
    }
    pipeline p = {.models = models,
                  .source = source,
                  .records = records,
                  .allocator = vt_context_allocator(models[0]->context),
                  .model_count = model_count,
                  .slot_count = 2 * model_count + 1};
    p.settings = settings ? *settings : (vt_evaluate_settings){0};
    p.settings.batch = p.settings.batch ? p.settings.batch : DEFAULT_BATCH;
    p.settings.gpu_batch = p.settings.gpu_batch ? p.settings.gpu_batch : VT_EVALUATE_GPU_BATCH;
    p.settings.workers = p.settings.workers ? p.settings.workers : model_count;
    vt_status status = check(&p, error);
    if (status != VT_OK) {
        return status;
    }
    if (source->count && p.settings.batch > source->count) { /* no memory for what never comes */
        p.settings.batch = (int)source->count;
    }
    find_devices(&p);
    p.batches = vt_div_up(source->count, p.settings.batch);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&p.lock, NULL);
    pthread_mutex_init(&p.report, NULL);
    for (int i = 0; i < model_count; i++) {
        pthread_mutex_init(&p.turns[i].lock, NULL);
    }
    status = source->count ? run(&p, error) : VT_OK;
    pthread_cond_destroy(&p.changed);
    pthread_mutex_destroy(&p.report);
    pthread_mutex_destroy(&p.lock);
    for (int i = 0; i < model_count; i++) {
        pthread_mutex_destroy(&p.turns[i].lock);
    }
    if (times) {
        *times = p.times;
    }
    return status;
}
