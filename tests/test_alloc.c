/* SPDX-License-Identifier: Apache-2.0 */
/* The k-th allocation fails, for every k, from the context to the logits: an error code, nothing
 * lost, and where only one failed everything works at the next try. */
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
#include "support/model_writer.h"

static const char *const outputs[] = {"logits", "C2", "cam"};
enum { SIZES = 2 };
static const int64_t sizes[SIZES] = {12, 27};

/* What one life of the library does. */
typedef struct scenario {
    const char *device, *model;
    const char *path; /* NULL: golden weights */
    vt_status status; /* of the last call */
    vt_error error;
    float logits[SIZES][TINY_CLASSES];
} scenario;

static void forward(scenario *s, vt_session *session, int i)
{
    vt_tensor out;
    float picture[3 * 27 * 27];
    vt_golden_picture(1, sizes[i], sizes[i], picture);
    vt_tensor input = vt_tensor_nchw(picture, VT_F32, 1, 3, sizes[i], sizes[i]);
    s->status = vt_session_forward(session, &input, &s->error);
    if (s->status == VT_OK) {
        s->status = vt_session_output(session, "logits", &out, &s->error);
        memcpy(s->logits[i], out.data, sizeof s->logits[i]);
    }
}

/* Stops at the first error; with `again` it repeats the call that failed, once. */
static void live(scenario *s, test_memory *memory, bool again)
{
    vt_context *context = NULL;
    vt_model *model = NULL;
    vt_session *session = NULL;
    int tries = again ? 2 : 1;
    vt_context_settings settings = vt_context_settings_default();
    vt_session_settings wanted = {.outputs = outputs, .output_count = 3};
    settings.device = s->device;
    settings.threads = 2;
    settings.allocator = test_memory_allocator(memory);
    s->error = (vt_error){0};
    do {
        s->status = vt_context_create(&context, &settings, &s->error);
    } while (s->status != VT_OK && --tries);
    while (context && tries) {
        s->status = vt_context_register(context, &tiny_family, &s->error);
        tries -= s->status != VT_OK;
        if (s->status == VT_OK) {
            break;
        }
    }
    while (s->status == VT_OK && !model && tries) {
        s->status = s->path ? vt_model_load(&model, context, s->model, s->path, NULL, &s->error)
                            : vt_model_golden(&model, context, s->model, 0, NULL, &s->error);
        assert_true((s->status == VT_OK) == (model != NULL));
        s->status = s->status != VT_OK && --tries ? VT_OK : s->status;
    }
    while (s->status == VT_OK && !session && tries) {
        s->status = vt_session_create(&session, model, &wanted, &s->error);
        assert_true((s->status == VT_OK) == (session != NULL));
        s->status = s->status != VT_OK && --tries ? VT_OK : s->status;
    }
    for (int i = 0; s->status == VT_OK && i < SIZES; i++) {
        do {
            forward(s, session, i);
        } while (s->status != VT_OK && --tries);
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    vt_context_destroy(&context);
}

static void check(const char *device, const char *model, const char *path)
{
    test_memory memory;
    scenario good = {.device = device, .model = model, .path = path};
    test_memory_init(&memory);
    live(&good, &memory, false);
    expect_status(good.status, VT_OK, &good.error);
    test_memory_close(&memory);
    size_t calls = memory.calls;
    assert_true(calls > 50);
    for (size_t k = 1; k <= calls; k++) {
        for (int one = 0; one < 2; one++) { /* all from k on, or the k-th alone */
            scenario s = {.device = device, .model = model, .path = path};
            test_memory_init(&memory);
            memory.fail_at = k;
            memory.only = (size_t)one;
            live(&s, &memory, one);
            if (s.status != (one ? VT_OK : VT_ERR_MEMORY) || memory.blocks || memory.bytes) {
                fail_msg("%s on %s: allocation %zu of %zu fails (%s): '%s', %zu blocks are lost: "
                         "%s",
                         model, device, k, calls, one ? "alone" : "and all after it",
                         vt_status_name(s.status), memory.blocks, s.error.message);
            }
            test_memory_close(&memory);
            assert_int_equal(s.error.status, VT_ERR_MEMORY);
            if (one) {
                compare_bits(&s.logits[0][0], &good.logits[0][0], SIZES * TINY_CLASSES,
                             "%s, after allocation %zu failed", model, k);
            }
        }
    }
}

static void test_golden_models(void **state)
{
    (void)state;
    for (const char *const *device = test_devices; *device; device++) {
        check(*device, "tiny_v1", NULL);
        check(*device, "tiny_v2", NULL);
    }
}

/* A file with names below "model.", labels, and one tensor that nobody expects. */
static void test_loading(void **state)
{
    (void)state;
    char path[] = "/tmp/vertebra-alloc-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    vt_context *context = tiny_context(NULL);
    static const char *const models[] = {"tiny_v1", "tiny_v2"};
    for (int i = 0; i < 2; i++) {
        vt_model *model = golden_model(context, models[i], VT_WINDOW_PAD, 0, 0);
        model_writer plain = {0}, w = {0};
        writer_add_golden(&plain, model);
        for (size_t k = 0; k < plain.count; k++) {
            char name[200];
            written_tensor *t = &plain.tensors[k];
            snprintf(name, sizeof name, "model.%s", t->name);
            writer_add(&w, name, t->rank, t->shape, t->data);
            t->data = NULL;
        }
        writer_add(&w, "model.more", 1, (int64_t[]){1}, calloc(1, sizeof(float)));
        writer_save(&w, path, "{\"vertebra.labels\":\"a\\nb\\nc\\nd\\ne\"}");
        check("ref", models[i], path);
        writer_clear(&plain);
        writer_clear(&w);
        vt_model_destroy(&model);
    }
    vt_context_destroy(&context);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_models),
        cmocka_unit_test(test_loading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
