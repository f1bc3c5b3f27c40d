/* SPDX-License-Identifier: Apache-2.0 */
/* The golden rule: its values against known ones, and what every family answers for them. Families
 * are found through the registry, so that a new one is tested without an edit here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/source.h"
#include "support/model_compare.h"
#include "support/model_golden.h"

/* ---- the rule -------------------------------------------------------------------------------- */

typedef struct known_values {
    const char *key;
    int rank;
    int64_t shape[4];
    uint32_t hash;
    float first[3];
    uint32_t bits; /* of the first value */
    float last;
} known_values;

/* clang-format off */
static const known_values known[] = {
    {"patch_embed.proj.weight", 4, {96, 3, 4, 4}, 0xcdb5e402,
     {0.058915019f, 0.21999675f, 0.0852763355f}, 0x3d7150e0, 0.165298879f},
    {"patch_embed.norm.weight", 1, {96}, 0xc7ebbed9,
     {1.02787495f, 0.94086802f, 1.0619297f}, 0x3f839168, 0.931805134f},
    {"patch_embed.norm.bias", 1, {96}, 0x93e598e4,
     {-0.0837925896f, -0.0422895923f, 0.0900025368f}, 0xbdab9b73, -0.0973089784f},
    {"layers.0.blocks.0.attn.relative_position_bias_table", 2, {169, 3}, 0x0b52ed89,
     {0.125112653f, 0.0450460911f, -0.234118581f}, 0x3e001d88, 0.241637409f},
    {"levels.0.blocks.0.attn.rpb", 3, {2, 13, 13}, 0x11371991,
     {-0.045114141f, 0.0386829823f, 0.0303608514f}, 0xbd38c99b, -0.110731274f},
    {"block1.0.layer_scale_1", 1, {32}, 0x21ec7005,
     {-0.0825775638f, -0.0987203866f, 0.00867280923f}, 0xbda91e6d, -0.0127339838f},
    {"stem.norm1.running_mean", 1, {64}, 0xdaf97402,
     {-0.0876440853f, -0.0813403502f, 0.0201199055f}, 0xbdb37ebe, 0.00127403741f},
    {"stem.norm1.running_var", 1, {64}, 0x38988744,
     {1.1369499f, 1.13314545f, 1.10381293f}, 0x3f918793, 1.24085879f},
    {"stages.0.blocks.0.gamma", 1, {96}, 0x3bb362f9,
     {0.948950052f, 1.08998084f, 1.06707525f}, 0x3f72ee64, 1.00710702f},
    {"stages.0.1.attn.temperature", 3, {3, 1, 1}, 0x88facbc6,
     {0.215503022f, 0.20968245f, 0.200634584f}, 0x3e5cacd3, 0.200634584f},
    {"cls_token", 3, {1, 1, 256}, 0x10388cb9,
     {-0.421386003f, 0.227652788f, -0.0776218176f}, 0xbed7bfe8, -0.153874278f},
    {"pos_embed", 3, {1, 197, 256}, 0x8fe7baaf,
     {0.303493142f, 0.142352104f, 0.0636849403f}, 0x3e9b6374, 0.351205826f},
    {"layers.0.blocks.0.attn.logit_scale", 3, {3, 1, 1}, 0xcd3a82d6,
     {0.939201295f, -0.926076412f, 1.40072882f}, 0x3f706f7f, 1.40072882f},
    {"stages.2.1.self_attn.pos_embed.height_rel", 2, {23, 32}, 0x621b5220,
     {-0.258292615f, 0.117197275f, -0.150437534f}, 0xbe843eee, 0.245382369f},
    {"stages.0.blocks.0.attn_block.attn.rel_pos.relative_position_bias_table", 3, {2, 13, 13},
     0xba7af999, {-0.278211176f, -0.038924396f, -0.432768643f}, 0xbe8e71b2, -0.335715055f},
};
/* clang-format on */

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void expect_known(const known_values *k, const float *first, float last, const char *who)
{
    if (bits_of(first[0]) != k->bits || memcmp(first, k->first, sizeof k->first) != 0 ||
        last != k->last) {
        fail_msg("%s of %s: %.9g %.9g %.9g ... %.9g, want %.9g %.9g %.9g ... %.9g", k->key, who,
                 (double)first[0], (double)first[1], (double)first[2], (double)last,
                 (double)k->first[0], (double)k->first[1], (double)k->first[2], (double)k->last);
    }
}

/* The library's rule and the tests' own. */
static void test_known_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const known_values *k = &known[i];
        int64_t count = shape_elements(k->rank, k->shape);
        vt_slot slot = {.name = k->key, .rank = k->rank, .rows = k->rank > 1 ? k->shape[0] : 1};
        memcpy(slot.shape, k->shape, sizeof k->shape);
        slot.cols = count / slot.rows;
        float first[3], last;
        vt_golden_read(&slot, 0, 3, first);
        vt_golden_read(&slot, count - 1, 1, &last);
        expect_known(k, first, last, "the library");
        assert_int_equal(golden_hash(k->key), k->hash);
        float *all = golden_tensor(k->key, k->rank, k->shape);
        assert_non_null(all);
        expect_known(k, all, all[count - 1], "the tests");
        free(all);
    }
}

static void test_known_picture(void **state)
{
    (void)state;
    enum { COUNT = 2 * 3 * 224 * 224 };
    static const double units[] = {0.79903311, 0.68517423, 0.98026472, 0.00423962};
    float *picture = malloc(COUNT * sizeof *picture), *single = malloc(COUNT / 2 * sizeof *single);
    assert_int_equal(golden_hash("input"), 0xf9d86f7b);
    vt_golden_picture(2, 224, 224, picture);
    vt_golden_picture(1, 224, 224, single);
    assert_int_equal(bits_of(picture[0]), 0x3f991ade);
    assert_true(picture[1] == 0.740696907f && picture[2] == 1.92105889f);
    assert_true(picture[COUNT / 2 - 1] == -0.911104679f);
    assert_memory_equal(picture, single, COUNT / 2 * sizeof *single);
    for (uint32_t i = 0; i < 4; i++) {
        expect_near(golden_unit("input", i), units[i], 5.1e-9, "u(input)");
    }
    for (uint32_t i = 0; i < COUNT; i += 997) {
        assert_true(picture[i] == (float)(2.0 * (2.0 * golden_unit("input", i) - 1.0)));
    }
    free(picture);
    free(single);
}

/* ---- the families ---------------------------------------------------------------------------- */

static void expect_row(const vt_golden_case *k, const network_output *got, const char *device)
{
    float got_numbers[8], want[8];
    double sum = 0;
    size_t argmax = 0;
    for (size_t i = 0; i < got->count; i++) {
        sum += (double)got->data[i] * (double)got->data[i];
        argmax = got->data[i] > got->data[argmax] ? i : argmax;
    }
    memcpy(got_numbers, got->data, sizeof k->logits);
    memcpy(want, k->logits, sizeof k->logits);
    got_numbers[5] = got->data[argmax];
    want[5] = k->largest;
    compare(got_numbers, want, 6, TOLERANCE_NETWORK_F32, "%s at %dx%d, rule %d, on %s", k->variant,
            k->height, k->width, (int)k->window_rule, device);
    assert_int_equal(argmax, k->argmax);
    expect_near(sqrt(sum), (double)k->l2, 1e-5 * (double)k->l2, k->variant);
}

static void check_family(vt_context *context, const vt_family *family, const char *device)
{
    for (const vt_golden_case *k = family->golden; k && k->variant; k++) {
        vt_model *model = golden_model(context, k->variant, k->window_rule, k->height, k->width);
        assert_string_equal(vt_model_dialect(model), "golden");
        network_output out = run_network(model, "logits", 1, k->height, k->width);
        assert_int_equal(out.count, vt_model_classes(model));
        expect_row(k, &out, device);
        free(out.data);
        vt_model_destroy(&model);
    }
}

static void check_device(const char *device)
{
    vt_context *context = test_context(device);
    const vt_family *family, *seen = NULL;
    int families = 0;
    for (size_t i = 0; vt_variant_at(context, i, &family); i++) {
        if (family != seen) { /* the variants of a family stand side by side */
            assert_non_null(family->golden);
            check_family(context, family, device);
            seen = family;
            families++;
        }
    }
    assert_true(families > 0);
    vt_context_destroy(&context);
}

static void test_rows_ref(void **state)
{
    (void)state;
    if (!test_slow_ones()) {
        skip();
    }
    check_device("ref");
}

static void test_rows_cpu(void **state)
{
    (void)state;
    check_device("cpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_known_picture),
        cmocka_unit_test(test_rows_cpu),
        cmocka_unit_test(test_rows_ref),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
