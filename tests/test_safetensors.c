/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: values, metadata, shards, and headers that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/checkpoint_support.h"

static vt_checkpoint *open_fixture(vt_context *context, const char *name)
{
    vt_checkpoint *cp;
    vt_error error = {0};
    if (vt_checkpoint_open(&cp, context, name, NULL, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return cp;
}

static void test_values(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    vt_checkpoint *cp = open_fixture(context, CK_FIXTURES "standard.safetensors");
    assert_string_equal(vt_checkpoint_format(cp), "safetensors");
    assert_string_equal(vt_checkpoint_root(cp), "");
    assert_int_equal(vt_checkpoint_count(cp), 25);
    assert_string_equal(vt_checkpoint_metadata(cp, "format"), "pt");
    assert_string_equal(vt_checkpoint_metadata(cp, "note"), "a \"b\" \xc3\xa9");
    assert_null(vt_checkpoint_metadata(cp, "nothing"));
    assert_null(vt_checkpoint_find(cp, "nothing"));
    assert_null(vt_checkpoint_at(cp, 25));
    const vt_checkpoint_entry *e = vt_checkpoint_find(cp, "patch.weight");
    assert_int_equal(e->rank, 4);
    assert_int_equal(e->shape[1], 3);
    assert_int_equal(e->elements, 48);
    assert_int_equal(vt_checkpoint_find(cp, "norm.bf16")->dtype, VT_BF16);
    assert_int_equal(vt_checkpoint_find(cp, "scalar")->rank, 0);
    assert_int_equal(vt_checkpoint_find(cp, "empty")->elements, 0);
    ck_check_values(cp, 0);
    vt_checkpoint_close(&cp);
    assert_null(cp);
    vt_context_destroy(&context);
}

static void test_read_arguments(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    vt_checkpoint *cp = open_fixture(context, CK_FIXTURES "standard.safetensors");
    const vt_checkpoint_entry *e = vt_checkpoint_find(cp, "patch.bias");
    vt_checkpoint_entry copy = *e;
    float out[4];
    assert_int_equal(vt_checkpoint_read(cp, e, 0, 5, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, e, -1, 1, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, e, 1, INT64_MAX, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, e, 0, -1, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, e, 0, 1, NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, &copy, 0, 1, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, NULL, 0, 1, out, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_read(cp, e, 4, 0, NULL, NULL), VT_OK);
    vt_checkpoint_close(&cp);
    vt_checkpoint_close(&cp);
    vt_checkpoint_close(NULL);
    assert_int_equal(vt_checkpoint_open(NULL, context, "x", NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_open(&cp, NULL, "x", NULL, NULL), VT_ERR_ARGUMENT);
    assert_int_equal(vt_checkpoint_open(&cp, context, NULL, NULL, NULL), VT_ERR_ARGUMENT);
    vt_context_destroy(&context);
}

/* The conversion of every f16 and bf16 bit pattern, against arithmetic. */
static void test_halves(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    static const char *const types[] = {"F16", "BF16"};
    for (int bf = 0; bf < 2; bf++) {
        ck_bytes file = {0};
        char header[128];
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"%s\",\"shape\":[65536],\"data_offsets\":[0,131072]}}",
                 types[bf]);
        ck_safetensors(&file, header, 0);
        for (unsigned i = 0; i < 65536; i++) {
            ck_number(&file, i, 2);
        }
        vt_checkpoint *cp;
        assert_int_equal(ck_open(&cp, context, &file, NULL, NULL), VT_OK);
        float *out = malloc(65536 * sizeof *out);
        assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_at(cp, 0), 0, 65536, out, NULL),
                         VT_OK);
        int width = bf ? 7 : 10, bias = bf ? 127 : 15, top = bf ? 0xFF : 0x1F;
        for (unsigned i = 0; i < 65536; i++) {
            int exponent = (int)(i >> width) & top, fraction = (int)i & ((1 << width) - 1);
            double value =
                exponent ? 1.0 + fraction / (double)(1 << width) : fraction / (double)(1 << width);
            for (int k = exponent ? exponent : 1; k > bias; k--) {
                value *= 2;
            }
            for (int k = exponent ? exponent : 1; k < bias; k++) {
                value /= 2;
            }
            value = i & 0x8000 ? -value : value;
            if (exponent == top) {
                assert_true(fraction ? out[i] != out[i] : out[i] * 0.0f != 0.0f);
            } else if ((double)out[i] != value) {
                fail_msg("%s %04x: %g, want %g", types[bf], i, (double)out[i], value);
            }
        }
        free(out);
        vt_checkpoint_close(&cp);
        ck_clear(&file);
    }
    vt_context_destroy(&context);
}

#define F32(name, shape, begin, end)                                                               \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

typedef struct header_case {
    const char *header;
    size_t data;
    vt_status status;
    const char *message; /* part of it */
} header_case;

static const header_case headers[] = {
    /* legal */
    {"{}", 0, VT_OK, NULL},
    {"{}      ", 0, VT_OK, NULL},
    {"{" F32("a", "[2]", 0, 8) "}", 8, VT_OK, NULL},
    {"{" F32("a", "[0,99999]", 0, 0) "," F32("b", "[]", 0, 4) "," F32("c", "[0]", 4, 4) "}", 4,
     VT_OK, NULL},
    {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3],\"x\":1}}", 3, VT_OK,
     NULL},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, VT_OK, NULL},
    {"{\"a\":{\"dtype\":\"NEW\",\"shape\":[3],\"data_offsets\":[0,9]}}", 9, VT_OK, NULL},
    {"{\"\\u00e9\\ud83d\\ude00\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     VT_OK, NULL},
    /* positions */
    {"{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 0, 8) "}", 8, VT_ERR_FORMAT, "overlaps"},
    {"{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 4, 12) "}", 12, VT_ERR_FORMAT, "overlaps"},
    {"{" F32("a", "[2]", 0, 8) "," F32("b", "[1]", 12, 16) "}", 16, VT_ERR_FORMAT, "hole"},
    {"{" F32("a", "[1]", 4, 8) "}", 8, VT_ERR_FORMAT, "hole"},
    {"{" F32("a", "[2]", 8, 0) "}", 8, VT_ERR_FORMAT, "not a range"},
    {"{" F32("a", "[2]", 0, 8) "}", 12, VT_ERR_FORMAT, "4 bytes follow"},
    {"{" F32("a", "[2]", 0, 8) "}", 4, VT_ERR_FORMAT, "beyond the end"},
    {"{}", 4, VT_ERR_FORMAT, "4 bytes follow"},
    {"{" F32("a", "[3]", 0, 8) "}", 8, VT_ERR_FORMAT, "do not fill"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, VT_ERR_FORMAT, "fill"},
    {"{" F32("a", "[4294967296,4294967296]", 0, 0) "}", 0, VT_ERR_FORMAT, "too many"},
    {"{" F32("a", "[4294967296,1073741824]", 0, 0) "}", 0, VT_ERR_FORMAT, "fill"},
    {"{" F32("a", "[1]", 9223372036854775807, 9223372036854775807) "}", 0, VT_ERR_FORMAT, "fill"},
    {"{" F32("a", "[1]", 0, 18446744073709551615) "}", 0, VT_ERR_FORMAT, "too big"},
    /* types */
    {"{" F32("a", "[-1]", 0, 4) "}", 4, VT_ERR_FORMAT, "whole numbers"},
    {"{" F32("a", "[1.0]", 0, 4) "}", 4, VT_ERR_FORMAT, "whole numbers"},
    {"{" F32("a", "[\"1\"]", 0, 4) "}", 4, VT_ERR_FORMAT, "whole numbers"},
    {"{" F32("a", "[true]", 0, 4) "}", 4, VT_ERR_FORMAT, "whole numbers"},
    {"{" F32("a", "1", 0, 4) "}", 4, VT_ERR_FORMAT, "wants a dtype"},
    {"{" F32("a", "[1]", 0.0, 4) "}", 4, VT_ERR_FORMAT, "not a range"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, VT_ERR_FORMAT, "wants"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, VT_ERR_FORMAT,
     "wants"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, VT_ERR_FORMAT, "wants"},
    {"{\"a\":[]}", 0, VT_ERR_FORMAT, "wants"},
    {"{\"a\":3}", 0, VT_ERR_FORMAT, "wants"},
    {"{\"__metadata__\":{\"a\":1}}", 0, VT_ERR_FORMAT, "else than strings"},
    {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, VT_ERR_FORMAT, "else than strings"},
    {"{\"__metadata__\":\"a\"}", 0, VT_ERR_FORMAT, "not an object"},
    /* JSON */
    {"{" F32("a", "[1]", 0, 4) "," F32("a", "[1]", 4, 8) "}", 8, VT_ERR_FORMAT, "duplicate"},
    {"{" F32("a", "[1]", 0, 4) "}x", 4, VT_ERR_FORMAT, "end of file expected"},
    {"{" F32("a", "[1]", 0, 4), 4, VT_ERR_FORMAT, "JSON header"},
    {"{\"\xff\":1}", 0, VT_ERR_FORMAT, "unable to decode"},
    {"{\"a\\u0000\":1}", 0, VT_ERR_FORMAT, "JSON header"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, VT_ERR_FORMAT, "empty"},
    {"{\"a\":[[[[1]]]]}", 0, VT_ERR_LIMIT, "nested deeper"},
};

static void test_headers(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        const header_case *c = &headers[i];
        ck_bytes file = {0};
        vt_checkpoint *cp;
        vt_error error = {0};
        ck_safetensors(&file, c->header, c->data);
        vt_status status = ck_open(&cp, context, &file, NULL, &error);
        if (status != c->status || (c->message && !strstr(error.message, c->message))) {
            fail_msg("%s: %s (%s)", c->header, vt_status_name(status), error.message);
        }
        if (status == VT_OK) {
            ck_read_all(cp);
        }
        vt_checkpoint_close(&cp);
        ck_clear(&file);
    }
    vt_context_destroy(&context);
}

/* Unknown element types and too many dimensions fail only the tensor that has them. */
static void test_unreadable_tensors(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    ck_bytes file = {0};
    ck_safetensors(&file,
                   "{\"a\":{\"dtype\":\"F8_E5M2\",\"shape\":[2],\"data_offsets\":[0,2]},"
                   "\"b\":{\"dtype\":\"NEW\",\"shape\":[2],\"data_offsets\":[2,4]},"
                   "\"c\":{\"dtype\":\"U8\",\"shape\":[2,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"
                   "\"data_offsets\":[4,6]},"
                   "\"d\":{\"dtype\":\"U8\",\"shape\":[1,2],\"data_offsets\":[6,8]}}",
                   8);
    vt_checkpoint *cp;
    vt_error error = {0};
    float out[2];
    assert_int_equal(ck_open(&cp, context, &file, NULL, &error), VT_OK);
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "a"), 0, 2, out, &error),
                     VT_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "tensor 'a'"));
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "b"), 0, 0, out, &error),
                     VT_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "'NEW'"));
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "c"), 0, 0, out, &error),
                     VT_ERR_LIMIT);
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "d"), 0, 2, out, &error), VT_OK);
    assert_true(out[0] == 6.0f && out[1] == 7.0f);
    vt_checkpoint_close(&cp);
    ck_clear(&file);
    vt_context_destroy(&context);
}

static void test_header_lengths(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0,         1, 3, 101, 100000001, UINT32_MAX, UINT64_MAX - 7,
                                       UINT64_MAX};
    vt_context *context = ck_context(NULL);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        ck_bytes file = {0};
        vt_checkpoint *cp;
        ck_safetensors(&file, "{" F32("a", "[2]", 0, 8) "}", 8);
        ck_patch(&file, 0, lengths[i], 8);
        vt_error error = {0};
        assert_int_equal(ck_open(&cp, context, &file, NULL, &error), VT_ERR_FORMAT);
        ck_clear(&file);
    }
    vt_context_destroy(&context);
}

/* A header of a million entries costs no more than a small multiple of its size, or is refused. */
static void test_many_entries(void **state)
{
    (void)state;
    ck_allocations allocations = {0};
    vt_context *context = ck_context(&allocations);
    ck_bytes header = {0}, file = {0};
    ck_text(&header, "{");
    for (int i = 0; i < 400000; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "%s\"%d\":{\"shape\":[0]}", i ? "," : "", i);
        ck_text(&header, entry);
    }
    ck_put(&header, "}", 2);
    ck_safetensors(&file, (const char *)header.data, 0);
    vt_checkpoint *cp;
    vt_error error = {0};
    assert_int_equal(ck_open(&cp, context, &file, NULL, &error), VT_ERR_LIMIT);
    assert_non_null(strstr(error.message, "more than"));
    assert_int_equal(allocations.live, 1); /* the context */
    ck_clear(&header);
    ck_clear(&file);
    vt_context_destroy(&context);
}

/* ---- shards ---------------------------------------------------------------------------------- */
static void test_shards(void **state)
{
    (void)state;
    vt_context *context = ck_context(NULL);
    vt_checkpoint *cp = open_fixture(context, CK_FIXTURES "model.safetensors.index.json");
    assert_string_equal(vt_checkpoint_format(cp), "safetensors (sharded)");
    assert_int_equal(vt_checkpoint_count(cp), 3);
    ck_check_values(cp, 0);
    vt_checkpoint_close(&cp);
    cp = open_fixture(context, CK_FIXTURES "pytorch_model.bin.index.json");
    assert_string_equal(vt_checkpoint_format(cp), "pytorch (sharded)");
    assert_int_equal(vt_checkpoint_count(cp), 3);
    ck_check_values(cp, 0);
    vt_checkpoint_close(&cp);
    vt_context_destroy(&context);
}

static void test_bad_indices(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        vt_status status;
        const char *message;
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"two\"}}", VT_OK, NULL},
        {"{\"weight_map\":{\"a\":\"one\",\"b\":\"gone\"}}", VT_ERR_IO, "shard 'gone'"},
        {"{\"weight_map\":{\"a\":\"one\"}}", VT_OK, NULL},
        {"{\"weight_map\":{\"a\":\"two\"}}", VT_ERR_FORMAT, "does not place there"},
        {"{\"weight_map\":{\"a\":\"two\",\"b\":\"one\"}}", VT_ERR_FORMAT, "does not place there"},
        {"{\"weight_map\":{\"a\":\"one\",\"c\":\"one\"}}", VT_ERR_FORMAT, "names 2 tensors"},
        {"{\"weight_map\":{\"a\":\"index\"}}", VT_ERR_FORMAT, "an index stands"},
        {"{\"weight_map\":{\"a\":\"../one\"}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"x\\\\one\"}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\".\"}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":\"\"}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{\"a\":7}}", VT_ERR_FORMAT, "plain file name"},
        {"{\"weight_map\":{}}", VT_ERR_FORMAT, "no tensors"},
        {"{\"weight_map\":[]}", VT_ERR_FORMAT, "without a \"weight_map\""},
        {"{\"error\":\"Repository not found\"}", VT_ERR_FORMAT, "without a \"weight_map\""},
        {"{\"weight_map\":{\"a\":\"one\",", VT_ERR_FORMAT, "JSON"},
        {"{\"weight_map\":{\"a\":\"one\",\"a\":\"two\"}}", VT_ERR_FORMAT, "duplicate"},
    };
    vt_context *context = ck_context(NULL);
    ck_bytes one = {0}, two = {0};
    ck_safetensors(&one, "{" F32("a", "[2]", 0, 8) "}", 8);
    ck_safetensors(&two, "{" F32("b", "[1]", 0, 4) "}", 4);
    ck_save(ck_path("one"), one.data, one.size);
    ck_save(ck_path("two"), two.data, two.size);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vt_checkpoint *cp;
        vt_error error = {0};
        const char *path = ck_path("index");
        ck_save(path, cases[i].text, strlen(cases[i].text));
        vt_status status = vt_checkpoint_open(&cp, context, path, NULL, &error);
        if (status != cases[i].status ||
            (cases[i].message && !strstr(error.message, cases[i].message))) {
            fail_msg("%s: %s (%s)", cases[i].text, vt_status_name(status), error.message);
        }
        vt_checkpoint_close(&cp);
    }
    ck_clear(&one);
    ck_clear(&two);
    vt_context_destroy(&context);
}

static int remove_files(void **state)
{
    (void)state;
    ck_remove_folder();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_read_arguments),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_unreadable_tensors),
        cmocka_unit_test(test_header_lengths),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_bad_indices),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, remove_files);
}
