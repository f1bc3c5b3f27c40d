/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluating on a GPU: pictures that it prepares itself have the processor's bits, and records do
 * not depend on who prepared them, on the workers, on the models, on the batch, nor on how a list
 * is split. Skipped, and said so, where there is no GPU or no CUDA side. VT_TEST_DEVICE names
 * another device than "cuda"; tests/cuda_emulation.sh runs this on the processor. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "io/packed.h"
#include "support/blocks.h"
#include "support/gpu_model.h"
#include "support/model_compare.h"
#include "support/model_tiny.h"
#include "vertebra/evaluate.h"
#include "vertebra/image.h"

/* Networks are slow there, and it has one type and one kernel for every batch. */
static bool is_emulated(void)
{
    return getenv("VT_TEST_DEVICE") != NULL;
}

/* Numbers of the picture's own, the same on every machine; extremes are frequent. */
static void fill_pixels(uint8_t *bytes, size_t size, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        uint32_t value = x >> 11;
        bytes[i] = value % 5 == 0 ? 0 : value % 5 == 1 ? 255 : (uint8_t)(value >> 8);
    }
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static vt_context *cpu;

/* Shrinking and growing, tall ones whose columns come first, single pixels and lines, and two whose
 * needed part does not fit a place of the smaller inputs. */
static const struct {
    int width, height;
} sizes[] = {{1, 1},   {1, 37},   {41, 1},  {2, 3},     {24, 24},  {64, 48},  {33, 97},
             {97, 33}, {23, 120}, {120, 9}, {300, 200}, {27, 500}, {61, 135}, {256, 256}};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static const struct {
    vt_preprocess preprocess;
    const char *name;
} transforms[] = {
#define MEAN_STD .mean = VT_IMAGENET_MEAN, .std = VT_IMAGENET_STD
    {{24, 24, 0.875, 0, VT_CROP_CENTER, VT_FILTER_BICUBIC, MEAN_STD}, "bicubic"},
    {{24, 24, 0.9, 0, VT_CROP_CENTER, VT_FILTER_BILINEAR, MEAN_STD}, "bilinear"},
    {{17, 31, 0.95, 0, VT_CROP_CENTER, VT_FILTER_LANCZOS, MEAN_STD}, "lanczos, not square"},
    {{32, 32, 1.0, 0, VT_CROP_CENTER, VT_FILTER_BOX, MEAN_STD}, "box"},
    {{19, 19, 0.7, 0, VT_CROP_SQUASH, VT_FILTER_HAMMING, MEAN_STD}, "hamming, squash"},
    {{40, 28, 0.9, 0, VT_CROP_BORDER, VT_FILTER_BICUBIC, MEAN_STD}, "bicubic, border"},
    {{24, 24, 0, 21, VT_CROP_CENTER, VT_FILTER_BILINEAR, MEAN_STD}, "shorter side 21, padded"},
    {{24, 24, 0, 27, VT_CROP_CENTER, VT_FILTER_BICUBIC, {0.5f, 0.1f, 0}, {0.5f, 0.3f, 3}},
     "shorter side 27"},
    {{1, 1, 1.0, 0, VT_CROP_CENTER, VT_FILTER_BICUBIC, MEAN_STD}, "one pixel"},
#undef MEAN_STD
};
enum { TRANSFORMS = sizeof transforms / sizeof transforms[0] };

/* A picture in a layout that depends on its number: dense or not, either order of colours, upside
 * down. The pixels are allocated. */
typedef struct made_picture {
    uint8_t *block;
    vt_pixels pixels;
} made_picture;

static made_picture make_picture(int i, int width, int height)
{
    const ptrdiff_t stride = 3 * (ptrdiff_t)width + (i % 3 == 1 ? 5 : 0);
    const size_t size = (size_t)stride * (size_t)height;
    made_picture m = {.block = malloc(size)};
    assert_non_null(m.block);
    fill_pixels(m.block, size, (uint32_t)i + 1);
    const bool upside_down = i % 4 == 3;
    m.pixels = (vt_pixels){upside_down ? m.block + (height - 1) * stride : m.block, width, height,
                           upside_down ? -stride : stride, i % 2 ? VT_PIXELS_BGR : VT_PIXELS_RGB};
    return m;
}

/* How the pictures were packed: all kinds must occur. */
static struct {
    int as_they_are, resized, down_first, padded;
} seen;

static void count_kind(const vt_packed_picture *p, const vt_preprocess *s, const vt_pixels *pixels)
{
    const bool keeps = p->across.taps == 1 && p->down.taps == 1 &&
                       p->across.samples == p->across.outputs && p->down.samples == p->down.outputs;
    seen.as_they_are += !keeps;
    seen.resized += keeps && (pixels->width > 3 * s->width || pixels->height > 3 * s->height);
    seen.down_first += p->down_first && p->down.taps > 1 && p->across.taps > 1;
    seen.padded += p->left > 0 || p->top > 0;
}

/* What the input map holds for value x. */
static uint32_t in_type(float x, vt_dtype dtype)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return dtype == VT_F32 ? bits : dtype == VT_BF16 ? vt_to_bf16(x) : vt_to_f16(x);
}

static uint32_t element(const void *map, vt_dtype dtype, size_t i)
{
    return dtype == VT_F32 ? ((const uint32_t *)map)[i] : ((const uint16_t *)map)[i];
}

/* CHW floats against pixel-interleaved elements; `want` NULL: zeros. */
static void expect_input(const void *map, const float *want, const vt_preprocess *s, int picture,
                         vt_dtype dtype, const char *name)
{
    const size_t area = (size_t)s->height * (size_t)s->width;
    for (size_t i = 0; i < 3 * area; i++) {
        const uint32_t got = element(map, dtype, (size_t)picture * 3 * area + i);
        const uint32_t bits = want ? in_type(want[i % 3 * area + i / 3], dtype) : 0;
        if (got != bits) {
            fail_msg("%s, %s, picture %d, pixel %zu, colour %zu: bits %x, want %x", name,
                     vt_dtype_name(dtype), picture, i / 3, i % 3, got, bits);
        }
    }
}

typedef struct packed_pictures {
    vt_packing packing;
    uint8_t *places;
    float *want; /* of all pictures, by vt_preprocess_run */
} packed_pictures;

/* All sizes and, as the last one, a picture that could not be loaded. */
static packed_pictures pack_all(const vt_backend *backend, const vt_preprocess *s)
{
    const size_t floats = 3 * (size_t)s->height * (size_t)s->width;
    packed_pictures p = {.want = calloc((SIZES + 1) * floats, sizeof(float))};
    vt_error error = {0};
    expect_status(vt_packing_init(&p.packing, s, &error), VT_OK, &error);
    p.places = backend->device->host_alloc(backend, (SIZES + 1) * p.packing.room);
    assert_non_null(p.places);
    assert_non_null(p.want);
    for (int i = 0; i < SIZES; i++) {
        made_picture m = make_picture(i, sizes[i].width, sizes[i].height);
        uint8_t *place = p.places + (size_t)i * p.packing.room;
        expect_status(vt_preprocess_run(cpu, s, &m.pixels, p.want + (size_t)i * floats, &error),
                      VT_OK, &error);
        expect_status(vt_pack_picture(cpu, s, &p.packing, &m.pixels, place, &error), VT_OK, &error);
        assert_true(((const vt_packed_picture *)(const void *)place)->bytes <= p.packing.room);
        count_kind((const void *)place, s, &m.pixels);
        free(m.block);
    }
    vt_pack_nothing(p.places + SIZES * p.packing.room);
    return p;
}

static void check_transform(const vt_backend *backend, void *stream, int t, vt_dtype dtype)
{
    const vt_preprocess *s = &transforms[t].preprocess;
    const size_t floats = 3 * (size_t)s->height * (size_t)s->width;
    enum { ROWS = SIZES + 2 };
    const vt_map map = {.shape = {ROWS, s->height, s->width, 3}, .dtype = dtype};
    packed_pictures p = pack_all(backend, s);
    const vt_packed_batch batch = {&p.packing, p.places, SIZES + 1};
    test_block block = block_make(backend, stream, ROWS * floats * vt_dtype_size(dtype));
    vt_error error = {0};
    for (int round = 0; round < 2; round++) { /* the second one finds room that was used */
        expect_status(backend->device->stage_pictures(backend, stream, &batch, &map,
                                                      block_data(&block), &error),
                      VT_OK, &error);
    }
    uint32_t *got = malloc(ROWS * floats * sizeof *got);
    assert_non_null(got);
    block_read(&block, got, transforms[t].name);
    for (int i = 0; i < SIZES; i++) {
        expect_input(got, p.want + (size_t)i * floats, s, i, dtype, transforms[t].name);
    }
    expect_input(got, NULL, s, SIZES + 1, dtype, "behind the last picture");
    free(got);
    block_release(&block, transforms[t].name);
    backend->device->host_release(backend, p.places);
    free(p.want);
}

static void test_inputs(void **state)
{
    (void)state;
    const vt_backend *backend;
    void *stream;
    vt_error error = {0};
    vt_status status = vt_backend_cuda(&backend, gpu_device(), &plain_allocator, &error);
    if (status != VT_OK) {
        assert_true(status == VT_ERR_UNSUPPORTED || status == VT_ERR_DEVICE);
        print_message("%s\n", error.message);
        skip();
        return;
    }
    expect_status(backend->device->open(backend, &stream, &error), VT_OK, &error);
    for (int t = 0; t < TRANSFORMS; t++) {
        for (vt_dtype dtype = VT_F32; dtype <= VT_F16; dtype++) {
            check_transform(backend, stream, t, dtype);
        }
    }
    print_message("%d pictures as they are (%d of them columns first), %d resized before, %d "
                  "padded\n",
                  seen.as_they_are, seen.down_first, seen.resized, seen.padded);
    assert_true(seen.as_they_are > 0 && seen.down_first > 0 && seen.resized > 0 && seen.padded > 0);
    backend->device->close(backend, stream);
    backend->destroy(backend);
}

/* ---- runs ------------------------------------------------------------------------------------ */

enum { CLASSES = 12, COUNT = 61, MODELS = 2 };

/* Pictures made from their number. */
typedef struct list {
    vt_context *context;
    const vt_preprocess *preprocess;
    int fail_every;  /* pictures whose number is a multiple cannot be decoded; 0: none */
    int first, step; /* of a shard: picture i is number first + i * step */
    pthread_mutex_t lock;
    int decoded, released;
} list;

static vt_status decode(void *user, int64_t i, vt_pixels *pixels, vt_error *error)
{
    list *l = user;
    const int number = l->first + (int)i * l->step;
    if (l->fail_every && number % l->fail_every == 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "picture %d is broken", number);
    }
    const int width = 1 + number * 37 % 120, height = 1 + number * 53 % 90;
    uint8_t *data = malloc(3 * (size_t)width * (size_t)height);
    fill_pixels(data, 3 * (size_t)width * (size_t)height, (uint32_t)number + 1);
    *pixels = (vt_pixels){data, width, height, 3 * (ptrdiff_t)width, VT_PIXELS_RGB};
    pthread_mutex_lock(&l->lock);
    l->decoded++;
    pthread_mutex_unlock(&l->lock);
    return VT_OK;
}

static void release(void *user, vt_pixels *pixels)
{
    list *l = user;
    free((uint8_t *)(size_t)pixels->data);
    pthread_mutex_lock(&l->lock);
    l->released++;
    pthread_mutex_unlock(&l->lock);
}

static vt_status load(void *user, int64_t i, float *out, vt_error *error)
{
    list *l = user;
    vt_pixels pixels;
    vt_status status = decode(user, i, &pixels, error);
    if (status == VT_OK) {
        status = vt_preprocess_run(l->context, l->preprocess, &pixels, out, error);
        release(user, &pixels);
    }
    return status;
}

/* Two contexts on one GPU. */
typedef struct fixture {
    vt_context *contexts[MODELS];
    vt_model *models[MODELS];
    vt_preprocess preprocess;
} fixture;

/* False where there is no such device. */
static bool open_models(fixture *f, const char *name, vt_dtype dtype, int side)
{
    *f = (fixture){.preprocess = transforms[0].preprocess};
    f->preprocess.height = f->preprocess.width = side;
    for (int i = 0; i < MODELS; i++) {
        vt_context_settings settings = vt_context_settings_default();
        vt_model_settings model = vt_model_settings_default();
        vt_error error = {0};
        settings.device = gpu_device();
        settings.reproducible = true;
        if (vt_context_create(&f->contexts[i], &settings, &error) != VT_OK) {
            assert_true(error.status == VT_ERR_UNSUPPORTED || error.status == VT_ERR_DEVICE);
            print_message("%s\n", error.message);
            return false;
        }
        expect_status(vt_context_register(f->contexts[i], &tiny_family, &error), VT_OK, &error);
        model.dtype = dtype;
        expect_status(vt_model_golden(&f->models[i], f->contexts[i], name, CLASSES, &model, &error),
                      VT_OK, &error);
    }
    return true;
}

static void close_models(fixture *f)
{
    for (int i = 0; i < MODELS; i++) {
        vt_model_destroy(&f->models[i]);
        vt_context_destroy(&f->contexts[i]);
    }
}

/* One way to run a list. */
typedef struct way {
    int batch, gpu_batch, workers, models;
    bool on_device; /* prepares the pictures */
    int fail_every, first, step, count;
} way;

static void run(const fixture *f, const way *w, vt_evaluate_record *records)
{
    list l = {.context = cpu,
              .preprocess = &f->preprocess,
              .fail_every = w->fail_every,
              .first = w->first,
              .step = w->step ? w->step : 1,
              .lock = PTHREAD_MUTEX_INITIALIZER};
    int labels[COUNT];
    for (int i = 0; i < w->count; i++) {
        labels[i] = (l.first + i * l.step) * 5 % CLASSES;
    }
    const vt_evaluate_source source = {.count = w->count,
                                       .labels = labels,
                                       .load = load,
                                       .user = &l,
                                       .height = f->preprocess.height,
                                       .width = f->preprocess.width,
                                       .preprocess = w->on_device ? &f->preprocess : NULL,
                                       .decode = decode,
                                       .release = release};
    const vt_evaluate_settings settings = {
        .batch = w->batch, .gpu_batch = w->gpu_batch, .workers = w->workers};
    const vt_model *const models[] = {f->models[0], f->models[1]};
    vt_evaluate_times times;
    vt_error error = {0};
    memset(records, 0xee, (size_t)w->count * sizeof *records);
    expect_status(vt_evaluate(models, w->models, &source, &settings, records, &times, &error),
                  VT_OK, &error);
    assert_int_equal(l.decoded, l.released);
    assert_true(times.network > 0 && times.load > 0);
    assert_true(times.network <= times.whole * w->models);
}

static bool is_same(const vt_evaluate_record *got, const vt_evaluate_record *want)
{
    return got->status == want->status && got->label == want->label &&
           (got->status != VT_OK || (got->rank == want->rank && got->found == want->found &&
                                     memcmp(&got->loss, &want->loss, sizeof got->loss) == 0 &&
                                     memcmp(got->top, want->top, sizeof got->top) == 0));
}

/* got[i] is the record of picture first + i * step */
static void expect_same(const vt_evaluate_record *got, const vt_evaluate_record *want, const way *w,
                        const char *what)
{
    for (int i = 0; i < w->count; i++) {
        const int number = w->first + i * (w->step ? w->step : 1);
        if (!is_same(&got[i], &want[number])) {
            fail_msg("%s: batch %d of %d, %d workers, %d models: picture %d: status %d, rank %d, "
                     "loss %.17g; want %d, %d, %.17g",
                     what, w->batch, w->gpu_batch, w->workers, w->models, number, got[i].status,
                     got[i].rank, got[i].loss, want[number].status, want[number].rank,
                     want[number].loss);
        }
    }
}

/* Where the GPU runs one number of pictures at a time every bit is the same: whoever prepares the
 * pictures, for any batch, workers, models and shards, and however many pictures the last batch
 * has.
 */
static void check_splits(const fixture *f, int gpu_batch)
{
    vt_evaluate_record want[COUNT], got[COUNT];
    run(f, &(way){.batch = 16, .gpu_batch = gpu_batch, .workers = 1, .models = 1, .count = COUNT},
        want);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(want[i].status, VT_OK);
    }
    const way ways[] = {
        {.batch = 1, .workers = 3, .models = 1, .count = COUNT},
        {.batch = 7, .workers = 1, .models = 1, .on_device = true, .count = COUNT},
        {.batch = 64, .workers = 4, .models = 1, .on_device = true, .count = COUNT},
        {.batch = 40, .workers = 3, .models = 2, .count = COUNT},
        {.batch = 16, .workers = 3, .models = 2, .on_device = true, .count = COUNT},
        {.batch = 64, .workers = 2, .models = 1, .first = 0, .step = 3, .count = 21},
        {.batch = 7,
         .workers = 2,
         .models = 2,
         .on_device = true,
         .first = 1,
         .step = 3,
         .count = 20},
        {.batch = 20,
         .workers = 2,
         .models = 1,
         .on_device = true,
         .first = 2,
         .step = 3,
         .count = 20},
        {.batch = 64, .workers = 2, .models = 1, .count = 50},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        way w = ways[i];
        w.gpu_batch = gpu_batch;
        run(f, &w, got);
        expect_same(got, want, &w, w.on_device ? "prepared on the device" : "prepared on the host");
    }
}

/* The logit of a class among the best ones; NaN when it is not. */
static double logit_of(const vt_evaluate_record *r, int class)
{
    for (int k = 0; k < r->found; k++) {
        if (r->top[k].index == class) {
            return (double)r->top[k].logit;
        }
    }
    return NAN;
}

/* Another number of pictures at a time may run other kernels. Their logits differ by no more than
 * `bound` of the largest, and the answers only where the best two are closer than that. */
static void compare_batches(const vt_evaluate_record *got, const vt_evaluate_record *want,
                            int batch, double bound)
{
    double largest = 0, off = 0, margin = INFINITY;
    int other_bits = 0, other_answers = 0;
    for (int i = 0; i < COUNT; i++) {
        other_bits += !is_same(&got[i], &want[i]);
        largest = fmax(largest, fabs((double)want[i].top[0].logit));
        margin = fmin(margin, (double)want[i].top[0].logit - (double)want[i].top[1].logit);
        for (int k = 0; k < want[i].found; k++) {
            double d = logit_of(&got[i], want[i].top[k].index) - (double)want[i].top[k].logit;
            off = isnan(d) ? off : fmax(off, fabs(d));
        }
    }
    for (int i = 0; i < COUNT; i++) {
        if (got[i].top[0].index != want[i].top[0].index) {
            double gap = (double)want[i].top[0].logit - (double)want[i].top[1].logit;
            print_message("  picture %d: class %d, with 64 at a time %d, margin %.3g\n", i,
                          got[i].top[0].index, want[i].top[0].index, gap);
            other_answers++;
            assert_true(gap <= 2 * off);
        }
    }
    print_message(
        "%d at a time against 64: %d of %d records have other bits, largest difference of a "
        "logit %.3g, smallest margin %.3g, %d other answers\n",
        batch, other_bits, COUNT, off, margin, other_answers);
    assert_true(off <= bound * largest);
}

static void check_network(const char *name, vt_dtype dtype, int side, double bound)
{
    static const int batches[] = {64, 16, 7, 1};
    vt_evaluate_record records[4][COUNT];
    fixture f;
    if (!open_models(&f, name, dtype, side)) {
        close_models(&f);
        skip();
        return;
    }
    for (int b = 0; b < 4; b++) {
        if (!is_emulated() || batches[b] == 16) {
            check_splits(&f, batches[b]);
        }
        run(&f,
            &(way){.gpu_batch = batches[b],
                   .workers = 2,
                   .models = 1,
                   .on_device = true,
                   .count = COUNT},
            records[b]);
        compare_batches(records[b], records[0], batches[b], bound);
    }
    close_models(&f);
}

static void test_network(void **state)
{
    (void)state;
    check_network("tiny_v1", VT_F32, 20, 1e-5);
}

/* A published network's shape. */
static void test_half(void **state)
{
    (void)state;
    if (is_emulated()) {
        skip();
    }
    check_network(NANO, VT_F16, 64, 1e-2);
}

static void test_broken_pictures(void **state)
{
    (void)state;
    vt_evaluate_record want[COUNT], got[COUNT];
    fixture f;
    if (!open_models(&f, "tiny_v1", VT_F32, 20)) {
        close_models(&f);
        skip();
        return;
    }
    run(&f, &(way){.batch = 8, .gpu_batch = 8, .workers = 1, .models = 1, .count = COUNT}, want);
    for (int i = 0; i < COUNT; i += 7) {
        want[i].status = VT_ERR_FORMAT;
    }
    for (int on_device = 0; on_device < 2; on_device++) {
        const way w = {.batch = 24,
                       .gpu_batch = 8,
                       .workers = 3,
                       .models = 2,
                       .on_device = on_device == 1,
                       .fail_every = 7,
                       .count = COUNT};
        run(&f, &w, got);
        expect_same(got, want, &w, "some are broken");
    }
    close_models(&f);
}

static int set_up(void **state)
{
    (void)state;
    vt_context_settings settings = vt_context_settings_default();
    settings.threads = 1;
    return vt_context_create(&cpu, &settings, NULL) == VT_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    vt_context_destroy(&cpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inputs),
        cmocka_unit_test(test_network),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_broken_pictures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
