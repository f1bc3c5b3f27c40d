/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluating many pictures: the same records whatever the batch, workers, models and shards;
 * pictures that fail, stopping, flat memory, and the figures against their definitions. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_memory.h"
#include "support/model_tiny.h"
#include "support/random.h"
#include "vertebra/image.h"

enum { SIDE = 20, FLOATS = 3 * SIDE * SIDE };

/* Pictures made from their number, loaded with delays that differ so that threads overtake. */
typedef struct made {
    int64_t fail_every; /* pictures whose number is a multiple cannot be loaded; 0: none */
    int64_t nan_at;     /* this picture holds a NaN; -1: none */
    bool slow;
    int first, step; /* of a shard: picture i is number first + i * step */
    pthread_mutex_t lock;
    int64_t loads;
} made;

static made made_init(void)
{
    return (made){.nan_at = -1, .step = 1, .lock = PTHREAD_MUTEX_INITIALIZER};
}

static vt_status load_made(void *user, int64_t i, float *out, vt_error *error)
{
    made *m = user;
    int64_t number = m->first + i * m->step;
    pthread_mutex_lock(&m->lock);
    m->loads++;
    pthread_mutex_unlock(&m->lock);
    if (m->slow) {
        usleep((useconds_t)(number * 7919 % 11 * 300));
    }
    if (m->fail_every && number % m->fail_every == 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "picture %lld is broken", (long long)number);
    }
    random_fill(out, FLOATS, (uint32_t)number + 1, 1.0f, 0.0f);
    if (number == m->nan_at) {
        out[5] = NAN;
    }
    return VT_OK;
}

enum { CLASSES = 12 };

static int label_of_number(int64_t number)
{
    return (int)(number * 5 % CLASSES);
}

/* ---- a run ----------------------------------------------------------------------------------- */

enum { MAX_MODELS = 3 };

typedef struct fixture {
    test_memory memory;
    vt_context *contexts[MAX_MODELS];
    vt_model *models[MAX_MODELS];
    int64_t failures; /* that were told */
    int64_t stop_at;  /* progress says no once so many are done; 0: never */
    int64_t last_done;
} fixture;

static void open_models(fixture *f)
{
    memset(f, 0, sizeof *f);
    test_memory_init(&f->memory);
    for (int i = 0; i < MAX_MODELS; i++) {
        vt_context_settings settings = vt_context_settings_default();
        vt_error error = {0};
        settings.threads = 1;
        settings.allocator = test_memory_allocator(&f->memory);
        f->contexts[i] = tiny_context(&settings);
        expect_status(
            vt_model_golden(&f->models[i], f->contexts[i], "tiny_v1", CLASSES, NULL, &error), VT_OK,
            &error);
    }
}

static void close_models(fixture *f)
{
    for (int i = 0; i < MAX_MODELS; i++) {
        vt_model_destroy(&f->models[i]);
        vt_context_destroy(&f->contexts[i]);
    }
    test_memory_close(&f->memory);
}

static void on_failed(void *user, int64_t i, const vt_error *error)
{
    fixture *f = user;
    (void)i;
    f->failures += error->message[0] != '\0'; /* one call at a time: no lock */
}

static bool on_progress(void *user, int64_t done, int64_t total)
{
    fixture *f = user;
    f->last_done = done;
    return done < total && f->stop_at ? done < f->stop_at : true;
}

static vt_status run(fixture *f, int models, made *source, int64_t count, int batch, int workers,
                     vt_evaluate_record *records, vt_error *error)
{
    int *labels = malloc((size_t)count * sizeof *labels);
    for (int64_t i = 0; i < count; i++) {
        labels[i] = label_of_number(source->first + i * source->step);
    }
    const vt_evaluate_source pictures = {.count = count,
                                         .labels = labels,
                                         .load = load_made,
                                         .user = source,
                                         .height = SIDE,
                                         .width = SIDE};
    const vt_evaluate_settings settings = {.batch = batch,
                                           .workers = workers,
                                           .progress = on_progress,
                                           .failed = on_failed,
                                           .user = f};
    const vt_model *const all[] = {f->models[0], f->models[1], f->models[2]};
    vt_status status = vt_evaluate(all, models, &pictures, &settings, records, NULL, error);
    free(labels);
    return status;
}

static void same_record(const vt_evaluate_record *got, const vt_evaluate_record *want, int64_t i)
{
    bool same = got->status == want->status && got->label == want->label;
    if (same && got->status == VT_OK) {
        same = got->rank == want->rank && got->found == want->found &&
               memcmp(&got->loss, &want->loss, sizeof got->loss) == 0 &&
               memcmp(got->top, want->top, sizeof got->top) == 0;
    }
    if (!same) {
        fail_msg("record %lld: status %d, rank %d, loss %.17g; want %d, %d, %.17g", (long long)i,
                 got->status, got->rank, got->loss, want->status, want->rank, want->loss);
    }
}

/* Every picture alone, through a session, with the definitions written out. */
static void expect_by_hand(const vt_model *model, const vt_evaluate_record *records, int64_t count)
{
    vt_session *session = NULL;
    vt_error error = {0};
    expect_status(vt_session_create(&session, model, NULL, &error), VT_OK, &error);
    made source = made_init();
    for (int64_t i = 0; i < count; i++) {
        float picture[FLOATS];
        load_made(&source, i, picture, &error);
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, 1, 3, SIDE, SIDE), out;
        expect_status(vt_session_forward(session, &in, &error), VT_OK, &error);
        expect_status(vt_session_output(session, "logits", &out, &error), VT_OK, &error);
        const float *logits = out.data;
        vt_class_score top[VT_EVALUATE_TOP];
        vt_classify_top(logits, CLASSES, VT_EVALUATE_TOP, top, NULL, &error);
        assert_memory_equal(records[i].top, top, sizeof top);
        long double total = 0;
        int rank = 0, label = label_of_number(i);
        for (int c = 0; c < CLASSES; c++) {
            total += expl((long double)logits[c]);
            rank += logits[c] > logits[label];
        }
        assert_int_equal(records[i].rank, rank);
        expect_near(records[i].loss, (double)(logl(total) - (long double)logits[label]), 1e-12,
                    "loss");
    }
    vt_session_destroy(&session);
}

/* ---- the same records ------------------------------------------------------------------------ */

enum { COUNT = 61 };

static void test_same_records(void **state)
{
    (void)state;
    static const struct {
        int batch, workers, models;
    } ways[] = {{1, 1, 1},  {16, 1, 1}, {16, 5, 1}, {7, 3, 2},   {4, 2, 3},
                {61, 2, 1}, {64, 4, 2}, {1, 8, 3},  {1000, 1, 3}};
    fixture f;
    open_models(&f);
    vt_error error = {0};
    vt_evaluate_record want[COUNT], got[COUNT];
    made source = made_init();
    expect_status(run(&f, 1, &source, COUNT, 5, 1, want, &error), VT_OK, &error);
    assert_int_equal(source.loads, COUNT);
    expect_by_hand(f.models[0], want, COUNT);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        made slow = made_init();
        slow.slow = true;
        memset(got, 0xee, sizeof got);
        expect_status(
            run(&f, ways[w].models, &slow, COUNT, ways[w].batch, ways[w].workers, got, &error),
            VT_OK, &error);
        assert_int_equal(slow.loads, COUNT);
        for (int64_t i = 0; i < COUNT; i++) {
            same_record(&got[i], &want[i], i);
        }
    }
    close_models(&f);
}

static void test_shards(void **state)
{
    (void)state;
    fixture f;
    open_models(&f);
    vt_error error = {0};
    vt_evaluate_record whole[COUNT], part[COUNT], merged[COUNT];
    vt_evaluate_class classes[2][CLASSES];
    vt_evaluate_figures figures[2];
    made source = made_init();
    source.fail_every = 9;
    expect_status(run(&f, 1, &source, COUNT, 8, 2, whole, &error), VT_OK, &error);
    for (int shards = 2; shards <= 5; shards++) {
        for (int shard = 0; shard < shards; shard++) {
            made some = made_init();
            some.fail_every = 9;
            some.first = shard;
            some.step = shards;
            int64_t count = (COUNT - shard + shards - 1) / shards;
            expect_status(run(&f, 1 + shard % 3, &some, count, 3 + shard, 2, part, &error), VT_OK,
                          &error);
            for (int64_t i = 0; i < count; i++) {
                merged[shard + i * shards] = part[i];
            }
        }
        vt_evaluate_summarise(whole, COUNT, classes[0], CLASSES, &figures[0]);
        vt_evaluate_summarise(merged, COUNT, classes[1], CLASSES, &figures[1]);
        assert_memory_equal(&figures[0], &figures[1], sizeof figures[0]);
        assert_memory_equal(classes[0], classes[1], sizeof classes[0]);
    }
    close_models(&f);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void test_broken_pictures(void **state)
{
    (void)state;
    fixture f;
    open_models(&f);
    vt_error error = {0};
    vt_evaluate_record want[COUNT], got[COUNT];
    made source = made_init(), bad = made_init();
    expect_status(run(&f, 1, &source, COUNT, 8, 2, want, &error), VT_OK, &error);
    bad.fail_every = 7;
    bad.nan_at = 10;
    int64_t broken = 0;
    expect_status(run(&f, 2, &bad, COUNT, 4, 3, got, &error), VT_OK, &error);
    for (int64_t i = 0; i < COUNT; i++) {
        vt_status status = i % 7 == 0 ? VT_ERR_FORMAT : i == 10 ? VT_ERR_NUMERIC : VT_OK;
        broken += status != VT_OK;
        assert_int_equal(got[i].status, status);
        if (status == VT_OK) {
            same_record(&got[i], &want[i], i);
        }
    }
    assert_int_equal(f.failures, broken);
    vt_evaluate_class classes[CLASSES];
    vt_evaluate_figures figures;
    vt_evaluate_summarise(got, COUNT, classes, CLASSES, &figures);
    assert_int_equal(figures.broken, broken);
    assert_int_equal(figures.pictures, COUNT - broken);
    assert_int_equal(figures.missing, 0);
    bad.fail_every = 1; /* all of them: no batch runs */
    expect_status(run(&f, 2, &bad, COUNT, 4, 3, got, &error), VT_OK, &error);
    vt_evaluate_summarise(got, COUNT, classes, CLASSES, &figures);
    assert_int_equal(figures.broken, COUNT);
    assert_true(isnan(figures.loss) && isnan(figures.ece) && isnan(figures.mean_class));
    close_models(&f);
}

static void test_stopping(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    fixture f;
    open_models(&f);
    vt_error error = {0};
    vt_evaluate_record *want = calloc(MANY, sizeof *want), *got = calloc(MANY, sizeof *got);
    made source = made_init();
    expect_status(run(&f, 1, &source, MANY, 16, 1, want, &error), VT_OK, &error);
    source.slow = true;
    f.stop_at = 1;
    expect_error(run(&f, 2, &source, MANY, 4, 2, got, &error), VT_ERR_CANCELLED, &error,
                 "cancelled");
    int64_t done = 0;
    for (int64_t i = 0; i < MANY; i++) {
        if (got[i].status == VT_OK) {
            same_record(&got[i], &want[i], i);
            done++;
        } else {
            assert_int_equal(got[i].status, VT_ERR_CANCELLED);
            assert_int_equal(got[i].label, label_of_number(i));
        }
    }
    assert_true(done >= f.last_done && done > 0 && done < MANY);
    free(want);
    free(got);
    close_models(&f);
}

static void test_flat_memory(void **state)
{
    (void)state;
    enum { FEW = 100, MANY = 10000 };
    static vt_evaluate_record records[MANY];
    vt_error error = {0};
    size_t peak[2];
    for (int k = 0; k < 2; k++) {
        fixture f;
        open_models(&f);
        made source = made_init();
        expect_status(run(&f, 1, &source, k ? MANY : FEW, 10, 3, records, &error), VT_OK, &error);
        peak[k] = f.memory.peak;
        close_models(&f);
    }
    assert_int_equal(peak[0], peak[1]);
}

/* A batch of more pictures than there are takes no more memory. */
static void test_memory_of_large_batch(void **state)
{
    (void)state;
    static const int batches[] = {COUNT, 60000};
    vt_error error = {0};
    vt_evaluate_record records[COUNT];
    size_t peak[2];
    for (int k = 0; k < 2; k++) {
        fixture f;
        open_models(&f);
        made source = made_init();
        expect_status(run(&f, 1, &source, COUNT, batches[k], 1, records, &error), VT_OK, &error);
        peak[k] = f.memory.peak;
        close_models(&f);
    }
    assert_int_equal(peak[0], peak[1]);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    vt_error error = {0};
    vt_evaluate_record records[COUNT];
    vt_status status = VT_ERR_MEMORY;
    fixture f;
    open_models(&f);
    for (size_t k = 1; status != VT_OK; k++) {
        made source = made_init();
        f.memory.calls = 0;
        f.memory.fail_at = k;
        f.memory.only = 0;
        status = run(&f, 2, &source, COUNT, 8, 2, records, &error);
        f.memory.fail_at = 0;
        if (status != VT_OK) {
            expect_error(status, VT_ERR_MEMORY, &error, "memory");
        }
        assert_true(k < 10000);
    }
    close_models(&f);
}

static void test_refused(void **state)
{
    (void)state;
    fixture f;
    open_models(&f);
    vt_error error = {0};
    vt_evaluate_record records[3];
    made user = made_init();
    const int good_labels[] = {0, 11, -1}, bad_labels[] = {0, CLASSES, 1},
              other_labels[] = {0, 4, 2};
    const int chosen[] = {0, 2, 11}, unsorted[] = {2, 0};
    const vt_model *const models[] = {f.models[0]};
    vt_evaluate_source good = {.count = 3,
                               .labels = good_labels,
                               .load = load_made,
                               .user = &user,
                               .height = SIDE,
                               .width = SIDE},
                       bad = good;
    vt_evaluate_settings settings = {0};
    expect_status(vt_evaluate(models, 1, &good, NULL, records, NULL, &error), VT_OK, &error);
    assert_int_equal(records[2].rank, -1);
    bad.labels = bad_labels;
    expect_error(vt_evaluate(models, 1, &bad, NULL, records, NULL, &error), VT_ERR_ARGUMENT, &error,
                 "picture 1 has class 12");
    bad.labels = other_labels;
    settings.classes = chosen;
    settings.class_count = 3;
    expect_error(vt_evaluate(models, 1, &bad, &settings, records, NULL, &error), VT_ERR_ARGUMENT,
                 &error, "that compete");
    settings.classes = unsorted;
    settings.class_count = 2;
    expect_error(vt_evaluate(models, 1, &good, &settings, records, NULL, &error), VT_ERR_ARGUMENT,
                 &error, "ascend");
    bad = good;
    bad.width = 0;
    expect_error(vt_evaluate(models, 1, &bad, NULL, records, NULL, &error), VT_ERR_ARGUMENT, &error,
                 "0 x 20");
    settings = (vt_evaluate_settings){.batch = -1};
    expect_error(vt_evaluate(models, 1, &good, &settings, records, NULL, &error), VT_ERR_ARGUMENT,
                 &error, "batch -1");
    settings = (vt_evaluate_settings){.workers = 1 << 20};
    expect_error(vt_evaluate(models, 1, &good, &settings, records, NULL, &error), VT_ERR_ARGUMENT,
                 &error, "workers");
    expect_status(vt_evaluate(models, 0, &good, NULL, records, NULL, &error), VT_ERR_ARGUMENT,
                  &error);
    const vt_preprocess preprocess = *vt_model_preprocess(f.models[0]);
    bad = good;
    bad.preprocess = &preprocess;
    bad.decode = vt_picture_files_decode; /* never called */
    expect_error(vt_evaluate(models, 1, &bad, NULL, records, NULL, &error), VT_ERR_ARGUMENT, &error,
                 "pictures of 20 x 20, prepared as");
    bad.height = preprocess.height;
    bad.width = preprocess.width;
    expect_error(vt_evaluate(models, 1, &bad, NULL, records, NULL, &error), VT_ERR_UNSUPPORTED,
                 &error, "only a GPU can prepare pictures");
    bad.decode = NULL;
    expect_error(vt_evaluate(models, 1, &bad, NULL, records, NULL, &error), VT_ERR_ARGUMENT, &error,
                 "3 pictures");
    bad = good;
    bad.count = 0;
    expect_status(vt_evaluate(models, 1, &bad, NULL, NULL, NULL, &error), VT_OK, &error);
    close_models(&f);
}

/* ---- classes that compete -------------------------------------------------------------------- */

static void test_subset(void **state)
{
    (void)state;
    enum { CHOSEN = 3 };
    fixture f;
    open_models(&f);
    vt_error error = {0};
    const int chosen[CHOSEN] = {1, 6, 11}, labels[] = {6, 1, 11, 11, 6};
    enum { PICTURES = 5 };
    vt_evaluate_record records[PICTURES];
    made user = made_init();
    const vt_model *const models[] = {f.models[0]};
    const vt_evaluate_source source = {.count = PICTURES,
                                       .labels = labels,
                                       .load = load_made,
                                       .user = &user,
                                       .height = SIDE,
                                       .width = SIDE};
    const vt_evaluate_settings settings = {.classes = chosen, .class_count = CHOSEN};
    expect_status(vt_evaluate(models, 1, &source, &settings, records, NULL, &error), VT_OK, &error);
    for (int i = 0; i < PICTURES; i++) {
        double sum = 0;
        assert_int_equal(records[i].found, CHOSEN);
        for (int k = 0; k < CHOSEN; k++) {
            int class = records[i].top[k].index;
            assert_true(class == 1 || class == 6 || class == 11);
            assert_true(k == 0 || records[i].top[k].logit <= records[i].top[k - 1].logit);
            sum += (double)records[i].top[k].probability;
        }
        expect_near(sum, 1, 1e-6, "probabilities");
        assert_int_equal(records[i].top[records[i].rank].index, labels[i]);
        double own = (double)records[i].top[records[i].rank].probability;
        expect_near(records[i].loss, -log(own), 1e-6, "loss");
    }
    close_models(&f);
}

/* ---- figures --------------------------------------------------------------------------------- */

static vt_evaluate_record record_of(int label, int rank, float confidence, double loss)
{
    vt_evaluate_record r = {
        .status = VT_OK, .label = label, .rank = rank, .found = 1, .loss = loss};
    r.top[0].probability = confidence;
    return r;
}

static void test_figures(void **state)
{
    (void)state;
    vt_evaluate_record records[] = {
        record_of(0, 0, 0.95f, 0.25), record_of(0, 4, 0.95f, 2.0), record_of(0, 5, 0.3f, 3.0),
        record_of(2, 0, 0.3f, 0.5),   record_of(2, 0, 1.0f, 0.0),  record_of(1, 0, 0.2f, 1.0),
        record_of(-1, -1, 0.5f, 0),
    };
    records[5].status = VT_ERR_FORMAT;
    vt_evaluate_class classes[4];
    vt_evaluate_figures f;
    vt_evaluate_summarise(records, 7, classes, 4, &f);
    assert_int_equal(f.pictures, 5);
    assert_int_equal(f.broken, 1);
    assert_int_equal(f.top1, 3);
    assert_int_equal(f.top5, 4);
    expect_near(f.loss, 5.75 / 5, 0, "loss");
    expect_near(f.mean_class, (1.0 / 3 + 1.0) / 2, 1e-15, "mean per class");
    assert_int_equal(classes[0].pictures, 3);
    assert_int_equal(classes[0].top1, 1);
    assert_int_equal(classes[0].top5, 2);
    assert_int_equal(classes[1].broken, 1);
    assert_int_equal(classes[3].pictures, 0);
    /* bins of 1/15: 0.3 in (4/15, 5/15], 0.95 and 1.0 in the last */
    assert_int_equal(f.bins[4].pictures, 2);
    assert_int_equal(f.bins[14].pictures, 3);
    assert_int_equal(f.bins[14].right, 2);
    expect_near(f.ece, (fabs(1 - 0.6) + fabs(2 - 2.9)) / 5, 1e-7, "ECE");
}

/* ---- files ----------------------------------------------------------------------------------- */

static void test_files(void **state)
{
    (void)state;
    static const char *const paths[] = {"tests/fixtures/pictures/photo_420.jpg",
                                        "tests/fixtures/pictures/nowhere.png",
                                        "tests/fixtures/pictures/png_rgb.png"};
    enum { FILES = 3 };
    fixture f;
    open_models(&f);
    vt_error error = {0};
    const vt_model *const models[] = {f.models[0]};
    vt_picture_files files = {f.contexts[0], paths, *vt_model_preprocess(f.models[0]),
                              vt_image_settings_default()};
    const vt_evaluate_source source = {.count = FILES,
                                       .load = vt_picture_files_load,
                                       .user = &files,
                                       .height = files.preprocess.height,
                                       .width = files.preprocess.width};
    vt_evaluate_record records[FILES];
    vt_evaluate_times times;
    expect_status(vt_evaluate(models, 1, &source, NULL, records, &times, &error), VT_OK, &error);
    assert_int_equal(records[0].status, VT_OK);
    assert_int_equal(records[1].status, VT_ERR_IO);
    assert_int_equal(records[2].status, VT_OK);
    assert_int_equal(records[0].label, -1);
    assert_true(times.whole > 0 && times.network > 0 && times.load > 0);
    close_models(&f);
}

/* FIPS 180-4's examples, in one piece and in pieces across the blocks. */
static void test_digest(void **state)
{
    (void)state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const struct {
        const char *text, *hex;
    } cases[] = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                 {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                 {two_blocks, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    char hex[VT_SHA256_HEX];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t piece = 1; piece < 70; piece++) {
            vt_sha256 digest;
            vt_sha256_init(&digest);
            size_t size = strlen(cases[i].text);
            for (size_t at = 0; at < size; at += piece) {
                vt_sha256_add(&digest, cases[i].text + at, size - at < piece ? size - at : piece);
            }
            vt_sha256_hex(&digest, hex);
            assert_string_equal(hex, cases[i].hex);
        }
    }
    vt_error error = {0};
    expect_error(vt_sha256_file("nowhere", hex, &error), VT_ERR_IO, &error, "nowhere: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_records),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_broken_pictures),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_flat_memory),
        cmocka_unit_test(test_memory_of_large_batch),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_subset),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
