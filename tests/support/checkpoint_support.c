/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

/* ---- contexts -------------------------------------------------------------------------------- */
static void *counted_alloc(void *user, size_t size, size_t alignment)
{
    ck_allocations *a = user;
    void *p = NULL;
    a->calls++;
    if ((a->fail_at && a->calls >= a->fail_at) || posix_memalign(&p, alignment, size) != 0) {
        return NULL;
    }
    a->live++;
    return p;
}

static void counted_free(void *user, void *pointer)
{
    ck_allocations *a = user;
    a->live--;
    free(pointer);
}

vt_context *ck_context(ck_allocations *allocations)
{
    vt_context_settings settings = vt_context_settings_default();
    settings.device = "ref";
    if (allocations) {
        settings.allocator = (vt_allocator){counted_alloc, counted_free, allocations};
    }
    vt_context *context;
    assert_int_equal(vt_context_create(&context, &settings, NULL), VT_OK);
    return context;
}

/* ---- files ----------------------------------------------------------------------------------- */
void ck_put(ck_bytes *bytes, const void *data, size_t size)
{
    if (bytes->capacity - bytes->size < size) {
        bytes->capacity = (bytes->size + size) * 2 + 64;
        bytes->data = realloc(bytes->data, bytes->capacity);
        assert_non_null(bytes->data);
    }
    if (size > 0) {
        memcpy(bytes->data + bytes->size, data, size);
    }
    bytes->size += size;
}

void ck_text(ck_bytes *bytes, const char *text)
{
    ck_put(bytes, text, strlen(text));
}

void ck_number(ck_bytes *bytes, uint64_t number, int width)
{
    size_t at = bytes->size;
    ck_put(bytes, &number, (size_t)width);
    ck_patch(bytes, at, number, width);
}

void ck_patch(ck_bytes *bytes, size_t at, uint64_t number, int width)
{
    for (int i = 0; i < width; i++) {
        bytes->data[at + (size_t)i] = (unsigned char)(number >> 8 * i);
    }
}

void ck_clear(ck_bytes *bytes)
{
    free(bytes->data);
    *bytes = (ck_bytes){0};
}

ck_bytes ck_load(const char *path)
{
    ck_bytes bytes = {0};
    char buffer[4096];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fail_msg("cannot open %s", path);
    }
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;) {
        ck_put(&bytes, buffer, n);
    }
    fclose(f);
    return bytes;
}

void ck_save(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static char folder[256];

const char *ck_path(const char *name)
{
    static char path[512];
    if (!*folder) {
        /* Thousands of small files are written: in memory where that can be had. */
        const char *base = getenv("TMPDIR");
        base = base ? base : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(folder, sizeof folder, "%s/vertebra-XXXXXX", base);
        assert_non_null(mkdtemp(folder));
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void ck_remove_folder(void)
{
    char command[300];
    if (*folder) {
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        assert_int_equal(system(command), 0);
        *folder = '\0';
    }
}

vt_status ck_open(vt_checkpoint **checkpoint, vt_context *context, const ck_bytes *bytes,
                  const vt_checkpoint_settings *settings, vt_error *error)
{
    const char *path = ck_path("made");
    ck_save(path, bytes->data ? bytes->data : (unsigned char *)"", bytes->size);
    return vt_checkpoint_open(checkpoint, context, path, settings, error);
}

void ck_check_open(vt_context *context, const ck_bytes *bytes, const char *what, size_t number,
                   const char *message)
{
    vt_checkpoint *cp;
    vt_error error = {0};
    vt_status status = ck_open(&cp, context, bytes, NULL, &error);
    if (message ? status == VT_OK || !strstr(error.message, message) : status != VT_OK) {
        fail_msg("%s %zu: %s (%s), want '%s'", what, number, vt_status_name(status), error.message,
                 message ? message : "no error");
    }
    if (status == VT_OK) {
        ck_read_all(cp);
    }
    vt_checkpoint_close(&cp);
}

/* ---- safetensors and zip --------------------------------------------------------------------- */
void ck_safetensors(ck_bytes *out, const char *header, size_t data_size)
{
    ck_number(out, strlen(header), 8);
    ck_text(out, header);
    for (size_t i = 0; i < data_size; i++) {
        ck_number(out, i & 0x3F, 1);
    }
}

void ck_zip_add(ck_zip *zip, const char *name, const void *data, size_t size)
{
    uint32_t crc = (uint32_t)crc32(0, data, (uInt)size);
    ck_bytes *b = &zip->bytes, *d = &zip->directory;
    zip->local[zip->count] = b->size;
    zip->central[zip->count] = d->size;
    ck_text(b, "PK\3\4");
    ck_number(b, 0, 2); /* version needed */
    ck_number(b, 0x0808, 2);
    ck_number(b, 0, 2); /* stored */
    ck_number(b, 0, 4); /* time */
    ck_number(b, 0, 4); /* CRC and sizes: as PyTorch leaves them */
    ck_number(b, 0, 4);
    ck_number(b, 0, 4);
    ck_number(b, strlen(name), 2);
    ck_number(b, 8, 2);
    ck_text(b, name);
    ck_text(b, "FB");
    ck_number(b, 4, 2);
    ck_text(b, "ZZZZ");
    ck_put(b, data, size);

    ck_text(d, "PK\1\2");
    ck_number(d, 0, 4);
    ck_number(d, 0x0808, 2);
    ck_number(d, 0, 2);
    ck_number(d, 0, 4);
    ck_number(d, crc, 4);
    ck_number(d, zip->wide ? UINT32_MAX : size, 4);
    ck_number(d, zip->wide ? UINT32_MAX : size, 4);
    ck_number(d, strlen(name), 2);
    ck_number(d, zip->wide ? 28 : 0, 2); /* extra */
    ck_number(d, 0, 2);                  /* comment */
    ck_number(d, 0, 2);                  /* disk */
    ck_number(d, 0, 2);
    ck_number(d, 0, 4);
    ck_number(d, zip->wide ? UINT32_MAX : zip->local[zip->count], 4);
    ck_text(d, name);
    if (zip->wide) {
        ck_number(d, 1, 2);
        ck_number(d, 24, 2);
        ck_number(d, size, 8);
        ck_number(d, size, 8);
        ck_number(d, zip->local[zip->count], 8);
    }
    zip->count++;
}

void ck_zip_end(ck_zip *zip)
{
    size_t offset = zip->bytes.size;
    ck_put(&zip->bytes, zip->directory.data, zip->directory.size);
    for (size_t i = 0; i < zip->count; i++) {
        zip->central[i] += offset;
    }
    zip->end = zip->bytes.size;
    ck_text(&zip->bytes, "PK\5\6");
    ck_number(&zip->bytes, 0, 4);
    ck_number(&zip->bytes, zip->count, 2);
    ck_number(&zip->bytes, zip->count, 2);
    ck_number(&zip->bytes, zip->directory.size, 4);
    ck_number(&zip->bytes, offset, 4);
    ck_number(&zip->bytes, 0, 2);
}

void ck_zip_clear(ck_zip *zip)
{
    ck_clear(&zip->bytes);
    ck_clear(&zip->directory);
}

/* ---- pickles --------------------------------------------------------------------------------- */
const ck_tensor ck_weight = {"w", NULL, NULL, 16, 0, 1, {16}, {1}};

void ck_pickle_string(ck_bytes *p, const char *text)
{
    ck_text(p, "X");
    ck_number(p, strlen(text), 4);
    ck_text(p, text);
}

void ck_pickle_integer(ck_bytes *p, int64_t value)
{
    ck_text(p, "\x8a\x08");
    ck_number(p, (uint64_t)value, 8);
}

void ck_pickle_tensor(ck_bytes *p, const ck_tensor *t)
{
    ck_pickle_string(p, t->name);
    ck_text(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    ck_pickle_string(p, "storage");
    ck_text(p, "ctorch\n");
    ck_text(p, t->storage ? t->storage : "FloatStorage");
    ck_text(p, "\n");
    ck_pickle_string(p, t->key ? t->key : "0");
    ck_pickle_string(p, "cpu");
    ck_pickle_integer(p, t->numel);
    ck_text(p, "tQ");
    ck_pickle_integer(p, t->offset);
    for (int part = 0; part < 2; part++) {
        ck_text(p, "(");
        for (int d = 0; d < t->rank; d++) {
            ck_pickle_integer(p, part == 0 ? t->shape[d] : t->stride[d]);
        }
        ck_text(p, "t");
    }
    ck_text(p, "\x89"
               "ccollections\nOrderedDict\n)RtRs");
}

static void torch_zip(ck_bytes *out, const void *pickle, size_t pickle_size, const void *storage,
                      size_t storage_size)
{
    ck_zip zip = {0};
    ck_zip_add(&zip, "archive/data.pkl", pickle, pickle_size);
    ck_zip_add(&zip, "archive/data/0", storage, storage_size);
    ck_zip_add(&zip, "archive/version", "3\n", 2);
    ck_zip_end(&zip);
    *out = zip.bytes;
    ck_clear(&zip.directory);
}

void ck_torch(ck_bytes *out, const ck_tensor *tensors, size_t count, const void *storage,
              size_t storage_size)
{
    ck_bytes pickle = {0};
    ck_text(&pickle, "\x80\x02}");
    for (size_t i = 0; i < count; i++) {
        ck_pickle_tensor(&pickle, &tensors[i]);
    }
    ck_text(&pickle, ".");
    torch_zip(out, pickle.data, pickle.size, storage, storage_size);
    ck_clear(&pickle);
}

void ck_torch_pickle(ck_bytes *out, const void *pickle, size_t size)
{
    const unsigned char zeros[64] = {0};
    torch_zip(out, pickle, size, zeros, sizeof zeros);
}

/* ---- values ---------------------------------------------------------------------------------- */
float ck_expected(const char *name, vt_dtype dtype, int64_t e, float plus)
{
    uint32_t hash = 0x811C9DC5u;
    for (const char *c = name; *c && *c != '@'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x01000193u;
    }
    if (strncmp(name, "expand5", 7) == 0) {
        e %= 5;
    }
    int n = (int)((7 * e + 13 * (int64_t)(hash % 251)) % 251);
    switch (dtype) {
    case VT_U8: return (float)n;
    case VT_BOOL: return (float)(n % 2);
    case VT_I8:
    case VT_I16:
    case VT_I32:
    case VT_I64: return (float)(n - 125);
    default: return (float)(n - 125) / 8 + plus;
    }
}

void ck_check_values(const vt_checkpoint *checkpoint, float plus)
{
    vt_error error = {0};
    for (size_t i = 0; i < vt_checkpoint_count(checkpoint); i++) {
        const vt_checkpoint_entry *entry = vt_checkpoint_at(checkpoint, i);
        int64_t n = entry->elements;
        float *out = malloc((size_t)(n + 1) * sizeof *out);
        assert_non_null(out);
        assert_ptr_equal(vt_checkpoint_find(checkpoint, entry->name), entry);
        for (int64_t first = 0; first <= n; first++) {
            for (int64_t count = 0; count <= n - first; count += first == 0 ? n : 1 + n / 3) {
                out[count] = 1234.0f;
                if (vt_checkpoint_read(checkpoint, entry, first, count, out, &error) != VT_OK) {
                    fail_msg("%s", error.message);
                }
                for (int64_t k = 0; k < count; k++) {
                    float want = ck_expected(entry->name, entry->dtype, first + k, plus);
                    if (out[k] != want) {
                        fail_msg("%s[%lld]: %g, want %g", entry->name, (long long)(first + k),
                                 (double)out[k], (double)want);
                    }
                }
                assert_true(out[count] == 1234.0f);
                if (n == 0) {
                    break;
                }
            }
        }
        free(out);
    }
}

void ck_read_all(const vt_checkpoint *checkpoint)
{
    float out[256];
    for (size_t i = 0; i < vt_checkpoint_count(checkpoint); i++) {
        const vt_checkpoint_entry *entry = vt_checkpoint_at(checkpoint, i);
        int64_t n = entry->elements < 256 ? entry->elements : 256;
        vt_checkpoint_read(checkpoint, entry, 0, n, out, NULL);
        vt_checkpoint_read(checkpoint, entry, entry->elements - n, n, out, NULL);
    }
}
