/* SPDX-License-Identifier: Apache-2.0 */
/* L2ViT against a network written from the formulas in Python (tests/fixtures/l2vit, made by
 * tools/fixtures/l2vit.py), parameter counts, published namings; linear attention against its
 * quadratic form and against values that were computed elsewhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/model_compare.h"
#include "support/model_fixture.h"
#include "support/model_golden.h"
#include "support/model_naming.h"
#include "support/model_program.h"
#include "support/random.h"

/* ---- linear attention ------------------------------------------------------------------------ */

typedef struct linear_case {
    int n, h, w, heads, key_width, value_width;
    float floor;
    bool temperature;
} linear_case;

/* The last channels of the input belong to nobody. */
enum { SPARE = 3 };

static int channels_of(const linear_case *k)
{
    return k->heads * (2 * k->key_width + k->value_width) + SPARE;
}

/* Runs the operation; q, k and v lie behind one another in the channels of `in`. The caller frees.
 */
static float *run_linear(const linear_case *k, const char *device, const float *in,
                         const float *temperature, size_t *count)
{
    vt_shape shape = {k->n, k->h, k->w, channels_of(k)};
    int keys = k->heads * k->key_width;
    test_program t;
    program_begin(&t, shape);
    vt_value x = vt_input(&t.builder);
    vt_linear_attention a = {.heads = k->heads,
                             .q = {x, 0, k->key_width},
                             .k = {x, keys, k->key_width},
                             .v = {x, 2 * keys, k->value_width},
                             .floor = k->floor};
    if (k->temperature) {
        a.temperature = program_vector(&t, k->heads, temperature);
    }
    vt_output(&t.builder, "y", vt_op_linear_attention(&t.builder, &a));
    program_result result = program_run(&t, device, 0, in);
    const float *data = result_data(&result, "y", count);
    float *copy = malloc(*count * sizeof *copy);
    memcpy(copy, data, *count * sizeof *copy);
    result_clear(&result);
    program_end(&t);
    return copy;
}

/* One output row: every key gets the weight relu(q) . relu(k). */
static void attend(const linear_case *k, const float *image, int query, int head, double factor,
                   float *out)
{
    int channels = channels_of(k), keys = k->heads * k->key_width;
    const float *q = image + (size_t)(query * channels) + head * k->key_width;
    double total = 0, sum[16] = {0};
    for (int m = 0; m < k->h * k->w; m++) {
        const float *row = image + (size_t)(m * channels);
        const float *key = row + keys + head * k->key_width;
        double weight = 0;
        for (int c = 0; c < k->key_width; c++) {
            weight += fmax((double)q[c], 0) * fmax((double)key[c], 0);
        }
        total += weight;
        for (int c = 0; c < k->value_width; c++) {
            sum[c] += weight * (double)row[2 * keys + head * k->value_width + c];
        }
    }
    for (int c = 0; c < k->value_width; c++) {
        out[c] = (float)(factor * sum[c] / fmax(total, (double)k->floor));
    }
}

static void test_linear_attention(void **state)
{
    (void)state;
    static const linear_case cases[] = {
        {1, 7, 9, 2, 8, 8, 100.0f, true}, /* the floor holds for some queries only */
        {2, 5, 6, 3, 4, 7, 1e-6f, true},    {1, 1, 1, 1, 8, 8, 0.5f, false},
        {2, 13, 11, 2, 16, 16, 5.0f, true}, {1, 3, 4, 4, 5, 3, 1e9f, false},
    };
    static const float temperature[] = {0.5f, -1.25f, 3.0f, 0.1f};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const linear_case *k = &cases[i];
        vt_shape shape = {k->n, k->h, k->w, channels_of(k)};
        float *in = malloc(shape_count(shape) * sizeof *in);
        size_t pixels = (size_t)(k->n * k->h * k->w), count;
        float *want = malloc(pixels * (size_t)(k->heads * k->value_width) * sizeof *want);
        random_fill(in, shape_count(shape), (uint32_t)i + 1, 1.5f, 0.0f);
        for (int c = 0; c < k->key_width; c++) {
            in[c] = -1.0f; /* a query that no feature is left of */
        }
        for (int r = 0; r < (int)pixels * k->heads; r++) {
            int image = r / k->heads / (k->h * k->w), head = r % k->heads;
            attend(k, in + image * k->h * k->w * shape.c, r / k->heads % (k->h * k->w), head,
                   k->temperature ? (double)temperature[head] : 1.0, want + r * k->value_width);
        }
        for (const char *const *device = test_devices; *device; device++) {
            float *got = run_linear(k, *device, in, temperature, &count);
            assert_true(got[0] == 0.0f);
            compare(got, want, count, 1e-5, "linear attention %zu on %s", i, *device);
            free(got);
        }
        free(in);
        free(want);
    }
}

/* q, k, v [1, 2 heads, 12 tokens, 4] = 3 r of the keys "q", "k", "v"; temperature 0.5. */
static void test_linear_attention_known(void **state)
{
    (void)state;
    enum { HEADS = 2, TOKENS = 12, WIDTH = 4 };
    static const struct {
        float floor;
        double fourth, fifth, last, sum; /* elements 4 and 5 of [head, token, channel] */
    } known[] = {{100.0f, -0.0311992, 0.0010680, -0.1136396, -6.798874},
                 {5.0f, -0.6239838, NAN, -0.4322467, -16.914887}};
    static const char *const keys[] = {"q", "k", "v"};
    float in[TOKENS * (3 * HEADS * WIDTH + SPARE)] = {0};
    float temperature[HEADS] = {0.5f, 0.5f};
    for (int i = 0; i < 3 * HEADS * TOKENS * WIDTH; i++) {
        int e = i % (HEADS * TOKENS * WIDTH), which = i / (HEADS * TOKENS * WIDTH);
        int head = e / (TOKENS * WIDTH), token = e / WIDTH % TOKENS, c = e % WIDTH;
        in[token * (3 * HEADS * WIDTH + SPARE) + (which * HEADS + head) * WIDTH + c] =
            (float)(3.0 * (2.0 * golden_unit(keys[which], (uint32_t)e) - 1.0));
    }
    for (int i = 0; i < 2; i++) {
        for (const char *const *device = test_devices; *device; device++) {
            linear_case k = {1, 3, 4, HEADS, WIDTH, WIDTH, known[i].floor, true};
            size_t count;
            float *got = run_linear(&k, *device, in, temperature, &count);
            double sum = 0;
            for (size_t e = 0; e < count; e++) {
                sum += (double)got[e];
            }
            /* got is [token, head, channel]: token 0 of head 0 is nothing, token 1 comes next */
            for (int c = 0; c < WIDTH; c++) {
                assert_true(got[c] == 0.0f);
            }
            expect_near((double)got[HEADS * WIDTH], known[i].fourth, 1e-6, "element 4");
            if (!isnan(known[i].fifth)) {
                expect_near((double)got[HEADS * WIDTH + 1], known[i].fifth, 1e-6, "element 5");
            }
            expect_near((double)got[count - 1], known[i].last, 1e-6, "last element");
            expect_near(sum, known[i].sum, 1e-5, "sum");
            free(got);
        }
    }
}

/* ---- the networks ---------------------------------------------------------------------------- */

static void test_fixtures(void **state)
{
    (void)state;
    assert_int_equal(fixture_check_all("l2vit", "cpu", test_slow_ones() ? 1e9 : 1.2e4),
                     test_slow_ones() ? 8 : 4);
    assert_int_equal(fixture_check_all("l2vit", "ref", test_slow_ones() ? 1.2e4 : 3e2),
                     test_slow_ones() ? 4 : 1);
}

/* As the authors' modules count them. */
static void test_parameter_counts(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        int64_t parameters;
        int64_t normed; /* channels of batch norms, whose means and variances are not counted */
    } counts[] = {
        {"L2ViT_Tiny", 28596781, 144 + 96 + 192 + 3 * 384 + 768},
        {"L2ViT_Small", 50199157, 144 + 96 + 192 + 9 * 384 + 768},
        {"L2ViT_Base", 88577188, 192 + 128 + 256 + 9 * 512 + 1024},
        {"L2ViT_Base_384", 88577188, 192 + 128 + 256 + 9 * 512 + 1024},
    };
    vt_context *context = test_context("ref");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t tensors;
        assert_int_equal(variant_parameters(context, counts[i].model, &tensors),
                         counts[i].parameters + 2 * counts[i].normed);
    }
    vt_context_destroy(&context);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const classifier[] = {"logits", "C2", "C5", NULL};
    static const char *const dense[] = {"C2", "C3", "C4", "C5", NULL};
    static const char *const tail[] = {"norm.", "head.", NULL};
    static const char *const nothing[] = {NULL};
    static const naming_case plain = {"L2ViT_Tiny",
                                      "authors",
                                      "stages.2.3.attn.temperature",
                                      "stages.2.3.attn.temperature",
                                      classifier,
                                      45,
                                      60};
    static const naming_case forks = {
        "L2ViT_Tiny", "authors", "backbone.norm3.bias", "norm3.bias", dense, 45, 60};
    model_writer w = naming_canonical("L2ViT_Tiny"), file = naming_prefixed(&w, "", nothing);
    writer_add(&file, "stages.0.1.local_mp.bn.num_batches_tracked", 1, (int64_t[]){1},
               calloc(1, sizeof(float)));
    check_naming(&plain, &file, &w);
    writer_clear(&file);

    model_writer headless = naming_prefixed(&w, "", tail);
    naming_add_norms(&headless, "", 96);
    file = naming_prefixed(&headless, "backbone.", nothing);
    writer_add(&file, "neck.lateral_convs.0.conv.bias", 1, (int64_t[]){1},
               calloc(1, sizeof(float)));
    check_naming(&forks, &file, &headless);
    writer_clear(&file);
    writer_clear(&headless);
    writer_clear(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_attention),
        cmocka_unit_test(test_linear_attention_known),
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_fixtures),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
