/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints that are cut, damaged or made to do harm: each gives an error, or only what is really
 * there. Nothing here may crash, hang, leak or read outside (run it under SANITIZE=1 too). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/checkpoint_support.h"

static vt_context *context;
static ck_allocations allocations;

/* ---- any damage ------------------------------------------------------------------------------ */
static const char *const samples[] = {
    "zip_p2.pth",
    "zip_p4.pth",
    "legacy_p2.pth",
    "legacy_p4.pth",
    "standard.safetensors",
    "python2.pth",
    "swin.pth",
    "timm.pth.tar",
    "mmcv.pth",
    "mmengine.pth",
    "cyclic.pth",
    "odd.pth",
    "mixed.pth",
    "bare.pkl",

    "module.pth",
    "model.safetensors.index.json",
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static ck_bytes load_sample(size_t i)
{
    char path[256];
    snprintf(path, sizeof path, CK_FIXTURES "%s", samples[i]);
    return ck_load(path);
}

static void test_cuts(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        ck_bytes file = load_sample(i);
        char path[512];
        snprintf(path, sizeof path, "%s", ck_path("cut"));
        ck_save(path, file.data, file.size);
        while (file.size-- > 0) {
            vt_checkpoint *cp;
            vt_error error = {0};
            assert_int_equal(truncate(path, (off_t)file.size), 0);
            if (vt_checkpoint_open(&cp, context, path, NULL, &error) == VT_OK) {
                fail_msg("%s cut to %zu bytes was opened", samples[i], file.size);
            }
            assert_null(strchr(error.message, '\n'));
        }
        ck_clear(&file);
    }
    assert_int_equal(allocations.live, 1);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_flips(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (size_t i = 0; i < SAMPLES; i++) {
        ck_bytes file = load_sample(i);
        for (int round = 0; round < 600; round++) {
            ck_bytes bad = {0};
            ck_put(&bad, file.data, file.size);
            for (uint32_t flips = 1 + next_random(&seed) % 4; flips > 0; flips--) {
                size_t at = next_random(&seed) % bad.size;
                uint32_t value = next_random(&seed), bit = next_random(&seed) % 8;
                bad.data[at] = (unsigned char)(value & 1 ? value >> 8 : bad.data[at] ^ 1u << bit);
            }
            vt_checkpoint *cp;
            vt_checkpoint_settings settings = {.ema = round % 3 == 0, .verify = round % 5 == 0};
            if (ck_open(&cp, context, &bad, &settings, NULL) == VT_OK) {
                ck_read_all(cp);
            }
            vt_checkpoint_close(&cp);
            ck_clear(&bad);
        }
        ck_clear(&file);
    }
    assert_int_equal(allocations.live, 1);
}

/* The file shrinks while it is open: an error, no signal. */
static void test_shrinking(void **state)
{
    (void)state;
    ck_bytes file = ck_load(CK_FIXTURES "standard.safetensors");
    vt_checkpoint *cp;
    vt_error error = {0};
    float out[9];
    assert_int_equal(ck_open(&cp, context, &file, NULL, NULL), VT_OK);
    assert_int_equal(truncate(ck_path("made"), 100), 0);
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "mask.u8"), 0, 9, out, &error),
                     VT_ERR_IO);
    assert_non_null(strstr(error.message, "tensor 'mask.u8': the file shrank"));
    vt_checkpoint_close(&cp);
    ck_clear(&file);
}

/* ---- what is no checkpoint ------------------------------------------------------------------- */
static void test_other_files(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        vt_status status;
        const char *message;
    } cases[] = {
        {"", 0, VT_ERR_FORMAT, "empty"},
        {"x", 1, VT_ERR_FORMAT, "not a checkpoint"},
        {"\0\0\0\0\0\0\0\0", 8, VT_ERR_FORMAT, "not a checkpoint"},
        {"GGUF\3\0\0\0", 8, VT_ERR_UNSUPPORTED, "GGUF"},
        {"PYTORCH1xxxxx", 13, VT_ERR_UNSUPPORTED, "PYTORCH1"},
        {"\x80\x02}q\0.", 6, VT_ERR_UNSUPPORTED, "bare pickle"},
        {"L119547037146038801333356L\n.", 28, VT_ERR_UNSUPPORTED, "protocols 0 and 1"},
        {"\x89HDF\r\n\x1a\n....", 12, VT_ERR_UNSUPPORTED, "HDF5"},
        {"\x1f\x8b\x08\0\0\0", 6, VT_ERR_UNSUPPORTED, "gzip"},
        {"BZh91AY", 7, VT_ERR_UNSUPPORTED, "bzip2"},
        {"\xfd"
         "7zXZ\0\0",
         7, VT_ERR_UNSUPPORTED, "xz"},
        {"\x28\xb5\x2f\xfd...", 7, VT_ERR_UNSUPPORTED, "zstd"},
        {"\x93NUMPY\1\0", 8, VT_ERR_UNSUPPORTED, ".npy"},
        {"\x08\x08\x12\x07pytorch:\x83", 13, VT_ERR_UNSUPPORTED, "ONNX"},
        {"<!DOCTYPE html><html>", 21, VT_ERR_FORMAT, "web page"},
        {"\n  <!doctype HTML>", 18, VT_ERR_FORMAT, "web page"},
        {"<HTML lang=en>", 14, VT_ERR_FORMAT, "web page"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", 64, VT_ERR_FORMAT,
         "Git LFS pointer"},
        {"{\"error\": \"no\"}", 15, VT_ERR_FORMAT, "weight_map"},
        {"{", 1, VT_ERR_FORMAT, "JSON"},
        {"PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22, VT_ERR_FORMAT, "empty zip"},
        {"PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22, VT_ERR_FORMAT, "end record"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_bytes file = {0};
        vt_checkpoint *cp;
        vt_error error = {0};
        ck_put(&file, cases[i].bytes, cases[i].size);
        vt_status status = ck_open(&cp, context, &file, NULL, &error);
        if (status != cases[i].status || !strstr(error.message, cases[i].message)) {
            fail_msg("case %zu: %s (%s)", i, vt_status_name(status), error.message);
        }
        ck_clear(&file);
    }
    ck_bytes tar = {0};
    for (int i = 0; i < 1024; i++) {
        ck_number(&tar, 0, 1);
    }
    memcpy(tar.data + 257, "ustar", 5);
    vt_checkpoint *cp;
    assert_int_equal(ck_open(&cp, context, &tar, NULL, NULL), VT_ERR_UNSUPPORTED);
    ck_clear(&tar);
}

static void test_other_paths(void **state)
{
    (void)state;
    vt_checkpoint *cp;
    vt_error error = {0};
    assert_int_equal(vt_checkpoint_open(&cp, context, "tests", NULL, &error), VT_ERR_IO);
    assert_string_equal(error.message, "tests: is a folder, not a file");
    assert_int_equal(vt_checkpoint_open(&cp, context, "tests/none.pth", NULL, &error), VT_ERR_IO);
    assert_non_null(strstr(error.message, "tests/none.pth: cannot open: "));
    assert_int_equal(vt_checkpoint_open(&cp, context, "/dev/zero", NULL, &error), VT_ERR_IO);
    assert_int_equal(mkfifo(ck_path("pipe"), 0600), 0);
    assert_int_equal(vt_checkpoint_open(&cp, context, ck_path("pipe"), NULL, &error), VT_ERR_IO);
    assert_non_null(strstr(error.message, "is not a regular file"));
}

/* ---- zip ------------------------------------------------------------------------------------- */
enum where { LOCAL, CENTRAL, END };

typedef struct zip_case {
    enum where where;
    int entry; /* 0: data.pkl, 1: data/0, 2: version */
    size_t offset;
    uint64_t number;
    int width;
    const char *message; /* part of it; NULL: must open */
} zip_case;

static const zip_case zip_cases[] = {
    /* What stands in a local header and may be 0 there: CRC, packed size, size. */
    {LOCAL, 1, 14, 5, 4, "disagrees"},
    {LOCAL, 1, 18, 5, 4, "disagrees"},
    {LOCAL, 1, 18, 64, 4, NULL},
    {LOCAL, 1, 22, 65, 4, "disagrees"},
    {LOCAL, 1, 22, 0xFFFFFFFF, 4, "disagrees"},
    {LOCAL, 1, 6, 0x0800, 2, "disagrees"},
    {LOCAL, 1, 8, 8, 2, "disagrees"},
    {LOCAL, 1, 0, 0, 4, "disagrees"},
    {LOCAL, 1, 26, 13, 2, "disagrees"},
    {LOCAL, 1, 26, 0xFFFF, 2, "beyond the end"},
    {LOCAL, 1, 28, 0xFFFF, 2, "beyond the end"},
    {LOCAL, 1, 30, 'X', 1, "disagrees"},
    {LOCAL, 1, 28, 12, 2, "overlaps"},
    /* The directory. */
    {CENTRAL, 1, 0, 0, 4, "damaged"},
    {CENTRAL, 1, 10, 8, 2, "disagrees"},
    {CENTRAL, 1, 8, 0x0809, 2, "encrypted"},
    {CENTRAL, 1, 20, 63, 4, "two sizes"},
    {CENTRAL, 1, 24, 65, 4, "two sizes"},
    {CENTRAL, 1, 20, 0xFFFFFFFF, 4, "ZIP64"},
    {CENTRAL, 1, 42, 0xFFFFFFFF, 4, "ZIP64"},
    {CENTRAL, 1, 42, 0x7FFFFFFF, 4, "outside"},
    {CENTRAL, 1, 42, 1, 4, "beyond the end"},
    {CENTRAL, 1, 42, 0, 4, "disagrees"},
    {CENTRAL, 1, 28, 0, 2, "damaged"},
    {CENTRAL, 1, 28, 0xFFFF, 2, "damaged"},
    {CENTRAL, 1, 30, 0xFFFF, 2, "damaged"},
    {CENTRAL, 1, 32, 0xFFFF, 2, "damaged"},
    {CENTRAL, 1, 34, 1, 2, "another part"},
    {CENTRAL, 1, 46, 0, 1, "damaged"},
    /* The end record. */
    {END, 0, 4, 1, 2, "several parts"},
    {END, 0, 8, 2, 2, "several parts"},
    {END, 0, 8, 0x00020002, 4, "follow the last entry"},
    {END, 0, 8, 0x00040004, 4, "does not hold 4"},
    {END, 0, 8, 0, 4, "does not hold 0"},
    {END, 0, 8, 0x10001000, 4, "does not hold"},
    {END, 0, 8, 0xFFFFFFFF, 4, "ZIP64 locator"},
    {END, 0, 12, 0xFFFFFFFF, 4, "ZIP64 locator"},
    {END, 0, 12, 1, 4, "does not end"},
    {END, 0, 16, 0xFFFFFFFF, 4, "ZIP64 locator"},
    {END, 0, 16, 0x7FFFFFFF, 4, "does not end"},
    {END, 0, 16, 0, 4, "does not end"},
    {END, 0, 20, 1, 2, "end record is missing"},
};

/* A good archive: data.pkl, data/0 and version. */
static ck_zip good_zip(bool wide, const char *third)
{
    ck_zip zip = {.wide = wide};
    ck_bytes pickle = {0};
    const unsigned char zeros[64] = {0};
    ck_text(&pickle, "\x80\x02}");
    ck_pickle_tensor(&pickle, &ck_weight);
    ck_text(&pickle, ".");
    ck_zip_add(&zip, "a/data.pkl", pickle.data, pickle.size);
    ck_zip_add(&zip, "a/data/0", zeros, sizeof zeros);
    ck_zip_add(&zip, third, "3\n", 2);
    ck_zip_end(&zip);
    ck_clear(&pickle);
    return zip;
}

static void test_zip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof zip_cases / sizeof *zip_cases; i++) {
        const zip_case *c = &zip_cases[i];
        ck_zip zip = good_zip(false, "a/version");
        size_t base = c->where == LOCAL     ? zip.local[c->entry]
                      : c->where == CENTRAL ? zip.central[c->entry]
                                            : zip.end;
        ck_patch(&zip.bytes, base + c->offset, c->number, c->width);
        ck_check_open(context, &zip.bytes, "zip case", i, c->message);
        ck_zip_clear(&zip);
    }
}

static void test_zip_names(void **state)
{
    (void)state;
    static const struct {
        const char *third, *message;
    } cases[] = {
        {"a/version", NULL},
        {"a/data/0", "two entries are named 'a/data/0'"},
        {"a/data.pkl", "two entries are named 'a/data.pkl'"},
        {"a/constants.pkl", "TorchScript"},
        {"a/byteorder", "byte order '3'"},
        {"a/data/../0", NULL},
        {"../../x", NULL},
        {"b/version", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_zip zip = good_zip(false, cases[i].third);
        ck_check_open(context, &zip.bytes, "zip name", i, cases[i].message);
        ck_zip_clear(&zip);
    }
    static const struct {
        const char *name, *data, *message;
    } records[] = {
        {"a/version", "0\n", "version '0'"},
        {"a/version", "11\n", "version '11'"},
        {"a/version", "-3\n", "version '-3'"},
        {"a/version", "", "'version' is damaged"},
        {"a/version", "3", NULL},
        {"a/version", "10\n", NULL},
        {"a/version", "3333333333333333", "'version' is damaged"},
        {"a/byteorder", "little", NULL},
        {"a/byteorder", "big", NULL},
        {"a/byteorder", "middle", "byte order"},
        {"a/version", "3\x1b[2J", "version '3?[2J'"},
    };
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        ck_zip zip = {0};
        ck_zip_add(&zip, "a/data.pkl", "\x80\x02}.", 4);
        ck_zip_add(&zip, records[i].name, records[i].data, strlen(records[i].data));
        ck_zip_end(&zip);
        ck_check_open(context, &zip.bytes, "record", i,
                      records[i].message ? records[i].message : "no dictionary of tensors");
        ck_zip_clear(&zip);
    }
    ck_zip zip = {0};
    ck_zip_add(&zip, "loose", "x", 1);
    ck_zip_end(&zip);
    ck_check_open(context, &zip.bytes, "zip without a folder", 0, "in no folder");
    ck_zip_clear(&zip);
    ck_zip_add(&zip, "word/document.xml", "x", 1);
    zip.count = 1;
    zip.local[0] = 0;
    ck_zip other = {0};
    ck_zip_add(&other, "word/document.xml", "x", 1);
    ck_zip_end(&other);
    ck_check_open(context, &other.bytes, "another zip", 0, "without a data.pkl");
    ck_zip_clear(&zip);
    ck_zip_clear(&other);
}

/* A compressed record is refused, whether or not it would be needed. */
static void test_zip_compressed(void **state)
{
    (void)state;
    for (int entry = 0; entry < 3; entry++) {
        ck_zip zip = good_zip(false, "a/version");
        ck_patch(&zip.bytes, zip.local[entry] + 8, 8, 2);
        ck_patch(&zip.bytes, zip.central[entry] + 10, 8, 2);
        ck_check_open(context, &zip.bytes, "compressed entry", (size_t)entry,
                      "is compressed (method 8)");
        ck_zip_clear(&zip);
    }
}

static void test_zip64(void **state)
{
    (void)state;
    ck_zip zip = good_zip(true, "a/version");
    ck_check_open(context, &zip.bytes, "wide", 0, NULL);
    size_t extra = zip.central[1] + 46 + strlen("a/data/0");
    static const struct {
        size_t offset;
        uint64_t number;
        int width;
        const char *message;
    } fields[] = {
        {0, 2, 2, "ZIP64 field"},        {2, 16, 2, "ZIP64 field"},
        {2, 25, 2, "ZIP64 field"},       {2, 0xFFFF, 2, "ZIP64 field"},
        {4, UINT64_MAX, 8, "two sizes"}, {12, 1, 8, "two sizes"},
        {20, UINT64_MAX, 8, "outside"},  {20, UINT64_MAX - 20, 8, "outside"},
        {20, 0, 8, "disagrees"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        ck_bytes bad = {0};
        ck_put(&bad, zip.bytes.data, zip.bytes.size);
        ck_patch(&bad, extra + fields[i].offset, fields[i].number, fields[i].width);
        ck_check_open(context, &bad, "ZIP64 field", i, fields[i].message);
        ck_clear(&bad);
    }
    ck_bytes huge = {0}; /* both sizes huge */
    ck_put(&huge, zip.bytes.data, zip.bytes.size);
    ck_patch(&huge, extra + 4, UINT64_MAX - 99, 8);
    ck_patch(&huge, extra + 12, UINT64_MAX - 99, 8);
    ck_check_open(context, &huge, "ZIP64 sizes", 0, "beyond the end");
    ck_clear(&huge);
    ck_zip_clear(&zip);

    /* torch writes the ZIP64 end record always: here it and the end record are at odds. */
    ck_bytes file = ck_load(CK_FIXTURES "zip_p2.pth");
    size_t end = file.size - 22, locator = end - 20, end64 = locator - 56;
    const struct {
        size_t at;
        uint64_t number;
        int width;
        const char *message;
    } ends[] = {
        {end + 8, 0xFFFFFFFF, 4, NULL},          {end + 12, 0xFFFFFFFF, 4, NULL},
        {end + 16, 0xFFFFFFFF, 4, NULL},         {end64 + 32, 3, 8, "ZIP64 end record"},
        {end64 + 24, 3, 8, "ZIP64 end record"},  {end64 + 40, 3, 8, "disagree"},
        {end64 + 48, 3, 8, "disagree"},          {end64, 0, 4, "ZIP64 end record"},
        {end64 + 4, 45, 8, "ZIP64 end record"},  {end64 + 16, 1, 4, "ZIP64 end record"},
        {locator + 8, 0, 8, "ZIP64 end record"}, {locator + 8, UINT64_MAX, 8, "points outside"},
        {locator + 8, end, 8, "points outside"}, {locator + 8, locator, 8, "points outside"},
        {locator, 0, 1, "does not end"},
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        ck_bytes bad = {0};
        ck_put(&bad, file.data, file.size);
        ck_patch(&bad, ends[i].at, ends[i].number, ends[i].width);
        ck_check_open(context, &bad, "ZIP64 end", i, ends[i].message);
        ck_clear(&bad);
    }
    ck_clear(&file);
}

static int make_context(void **state)
{
    (void)state;
    context = ck_context(&allocations);
    return 0;
}

static int drop_context(void **state)
{
    (void)state;
    vt_context_destroy(&context);
    ck_remove_folder();
    return allocations.live == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_shrinking),   cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_other_paths), cmocka_unit_test(test_zip),
        cmocka_unit_test(test_zip_names),   cmocka_unit_test(test_zip_compressed),
        cmocka_unit_test(test_zip64),
    };
    return cmocka_run_group_tests_name("bad checkpoints", tests, make_context, drop_context);
}
