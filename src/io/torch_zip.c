/* SPDX-License-Identifier: Apache-2.0 */
/* The zip container of PyTorch files.
 *
 *   +-------------------------------+   local header: PyTorch leaves CRC and sizes 0 (flag bit 3),
 *   | local header, padding, data   |   pads so that the data are 64-byte aligned, and writes a
 *   | (descriptor)                  |   descriptor behind them
 *   | local header, padding, data   |
 *   |  ...                          |
 *   +-------------------------------+ <- directory offset
 *   | central directory: one header |   the truth: name, sizes, CRC, position of the local header
 *   | per entry                     |
 *   +-------------------------------+
 *   | ZIP64 end record, locator     |   always written by PyTorch, needed beyond 4 GiB
 *   | end record (22 bytes)         | <- found by scanning back from the end of the file
 *   +-------------------------------+
 *
 * Two readers that trust different copies of a field see two different files in one; so whatever
 * stands twice must agree.
 */
#include "io/torch_zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/checked.h"
#include "io/checkpoint.h"

enum {
    LOCAL_HEADER = 30,
    CENTRAL_HEADER = 46,
    END_RECORD = 22,
    END64_RECORD = 56,
    END64_LOCATOR = 20,
    MAX_COMMENT = 65535,
    MAX_ENTRIES = 1 << 20,
    FLAG_ENCRYPTED = 1 << 0,
    FLAG_DESCRIPTOR = 1 << 3, /* CRC and sizes may be 0 in the local header */
    ZIP64_EXTRA = 1,
    STEP = 64 * 1024
};

#define SATURATED     0xFFFFFFFFu
#define MAX_DIRECTORY ((uint64_t)256 << 20)

typedef struct directory {
    uint64_t offset, size, count;
    uint64_t end; /* where the directory has to end: the first end record */
} directory;

/* ---- the end records ------------------------------------------------------------------------- */
/* Reads the ZIP64 end record that the locator (20 bytes before the end record at `end`) names, and
 * merges it into `dir`. A saturated field of the end record leaves the word to it, any other must
 * be the same. */
static vt_status read_end64(const vt_file *file, uint64_t end, const unsigned char *record,
                            directory *dir, vt_error *error)
{
    unsigned char locator[END64_LOCATOR] = {0}, end64[END64_RECORD];
    if (end >= END64_LOCATOR) {
        vt_status status = vt_file_read(file, end - END64_LOCATOR, locator, sizeof locator, error);
        if (status != VT_OK) {
            return status;
        }
    }
    bool saturated = dir->count == 0xFFFF || dir->size == SATURATED || dir->offset == SATURATED;
    if (memcmp(locator, "PK\6\7", 4) != 0) {
        return saturated ? vt_error_set(error, VT_ERR_FORMAT, "zip: the ZIP64 locator is missing")
                         : VT_OK;
    }
    uint64_t position = vt_le64(locator + 8);
    if (position > end - END64_LOCATOR || end - END64_LOCATOR - position < END64_RECORD) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: the ZIP64 locator points outside");
    }
    vt_status status = vt_file_read(file, position, end64, sizeof end64, error);
    if (status != VT_OK) {
        return status;
    }
    uint64_t count = vt_le64(end64 + 32), size = vt_le64(end64 + 40), offset = vt_le64(end64 + 48);
    if (memcmp(end64, "PK\6\6", 4) != 0 || vt_le32(end64 + 16) != 0 || vt_le32(end64 + 20) != 0 ||
        vt_le64(end64 + 24) != count || vt_le64(end64 + 4) != end - END64_LOCATOR - position - 12) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: the ZIP64 end record is damaged");
    }
    if ((dir->count != 0xFFFF && dir->count != count) ||
        (dir->size != SATURATED && dir->size != size) ||
        (dir->offset != SATURATED && dir->offset != offset) ||
        (vt_le16(record + 8) != 0xFFFF && vt_le16(record + 8) != count)) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: the two end records disagree");
    }
    *dir = (directory){.offset = offset, .size = size, .count = count, .end = position};
    return VT_OK;
}

static vt_status find_directory(const vt_zip *zip, directory *dir, vt_error *error)
{
    const vt_file *file = zip->file;
    size_t tail = file->size < END_RECORD + MAX_COMMENT ? (size_t)file->size
                                                        : (size_t)END_RECORD + MAX_COMMENT;
    unsigned char *bytes = vt_alloc(zip->allocator, tail);
    if (!bytes) {
        return vt_out_of_memory(error);
    }
    vt_status status = vt_file_read(file, file->size - tail, bytes, tail, error);
    unsigned char record[END_RECORD] = {0};
    uint64_t end = 0;
    for (size_t i = tail; status == VT_OK && i >= END_RECORD; i--) {
        const unsigned char *at = bytes + i - END_RECORD;
        if (memcmp(at, "PK\5\6", 4) == 0 && vt_le16(at + 20) == tail - i) {
            memcpy(record, at, sizeof record);
            end = file->size - tail + i - END_RECORD;
            break;
        }
    }
    vt_free(zip->allocator, bytes);
    if (status != VT_OK) {
        return status;
    }
    if (end == 0) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "zip: the end record is missing: the file is "
                            "cut short or damaged");
    }
    if (vt_le16(record + 4) != 0 || vt_le16(record + 6) != 0 ||
        vt_le16(record + 8) != vt_le16(record + 10)) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: archives of several parts are refused");
    }
    *dir = (directory){.offset = vt_le32(record + 16),
                       .size = vt_le32(record + 12),
                       .count = vt_le16(record + 10),
                       .end = end};
    status = read_end64(file, end, record, dir, error);
    if (status != VT_OK) {
        return status;
    }
    if (dir->offset > dir->end || dir->size != dir->end - dir->offset) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "zip: the directory (%llu bytes at %llu) does "
                            "not end where the end record begins",
                            (unsigned long long)dir->size, (unsigned long long)dir->offset);
    }
    if (dir->size > MAX_DIRECTORY || dir->count > MAX_ENTRIES) {
        return vt_error_set(error, VT_ERR_LIMIT, "zip: the directory is too large");
    }
    if (dir->count > dir->size / CENTRAL_HEADER || dir->count == 0) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "zip: a directory of %llu bytes does not hold "
                            "%llu entries",
                            (unsigned long long)dir->size, (unsigned long long)dir->count);
    }
    return VT_OK;
}

/* ---- central headers ------------------------------------------------------------------------- */
/* The payload of extra field `id`, or NULL. Fields are id, length, payload. */
static const unsigned char *find_extra(const unsigned char *extra, size_t size, unsigned id,
                                       size_t *length)
{
    while (size >= 4) {
        size_t n = vt_le16(extra + 2);
        if (n > size - 4) {
            return NULL;
        }
        if (vt_le16(extra) == id) {
            *length = n;
            return extra + 4;
        }
        extra += 4 + n;
        size -= 4 + n;
    }
    return NULL;
}

/* Replaces saturated fields by those of the ZIP64 extra, which holds only these, in this order. */
static bool widen(vt_zip_entry *entry, const unsigned char *extra, size_t extra_size)
{
    uint64_t *const fields[] = {&entry->unpacked, &entry->size, &entry->local};
    size_t length = 0, at = 0;
    const unsigned char *wide = find_extra(extra, extra_size, ZIP64_EXTRA, &length);
    for (size_t i = 0; i < 3; i++) {
        if (*fields[i] == SATURATED) {
            if (!wide || length - at < 8) {
                return false;
            }
            *fields[i] = vt_le64(wide + at);
            at += 8;
        }
    }
    return true;
}

static vt_status read_central(vt_zip *zip, const unsigned char *bytes, size_t size,
                              vt_zip_entry *entry, size_t *used, vt_error *error)
{
    if (size < CENTRAL_HEADER || memcmp(bytes, "PK\1\2", 4) != 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: entry %zu of the directory is damaged",
                            zip->count);
    }
    size_t name = vt_le16(bytes + 28), extra = vt_le16(bytes + 30), comment = vt_le16(bytes + 32);
    if (name + extra + comment > size - CENTRAL_HEADER || name == 0 ||
        memchr(bytes + CENTRAL_HEADER, '\0', name)) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: the name of entry %zu is damaged",
                            zip->count);
    }
    *used = CENTRAL_HEADER + name + extra + comment;
    *entry = (vt_zip_entry){
        .name = vt_pool_strndup(&zip->names, (const char *)bytes + CENTRAL_HEADER, name),
        .flags = vt_le16(bytes + 8),
        .method = vt_le16(bytes + 10),
        .crc = vt_le32(bytes + 16),
        .size = vt_le32(bytes + 20),
        .unpacked = vt_le32(bytes + 24),
        .local = vt_le32(bytes + 42),
    };
    if (!entry->name) {
        return vt_out_of_memory(error);
    }
    const char *shown = entry->name;
    if (!widen(entry, bytes + CENTRAL_HEADER + name, extra)) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: '%s': its ZIP64 field is missing or short",
                            vt_show(shown, name).text);
    }
    if (vt_le16(bytes + 34) != 0 || (entry->flags & FLAG_ENCRYPTED)) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "zip: '%s' is encrypted or in another part",
                            vt_show(shown, name).text);
    }
    if (entry->method == 0 && entry->size != entry->unpacked) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: '%s' is stored, but its two sizes differ",
                            vt_show(shown, name).text);
    }
    return VT_OK;
}

static vt_status read_directory(vt_zip *zip, const directory *dir, vt_error *error)
{
    unsigned char *bytes = vt_alloc(zip->allocator, (size_t)dir->size);
    zip->entries = vt_alloc_zero(zip->allocator, (size_t)dir->count, sizeof *zip->entries);
    vt_status status = bytes && zip->entries ? VT_OK : vt_out_of_memory(error);
    if (status == VT_OK) {
        status = vt_file_read(zip->file, dir->offset, bytes, (size_t)dir->size, error);
    }
    size_t at = 0;
    while (status == VT_OK && zip->count < dir->count) {
        size_t used = 0;
        status = read_central(zip, bytes + at, (size_t)dir->size - at, &zip->entries[zip->count],
                              &used, error);
        at += used;
        zip->count++;
    }
    if (status == VT_OK && at != dir->size) {
        status = vt_error_set(error, VT_ERR_FORMAT,
                              "zip: %llu bytes follow the last entry of the "
                              "directory",
                              (unsigned long long)(dir->size - at));
    }
    vt_free(zip->allocator, bytes);
    return status;
}

/* ---- local headers --------------------------------------------------------------------------- */
/* True if a field of the local header agrees with the directory's. */
static bool agrees(uint64_t local, uint64_t central, const vt_zip_entry *entry)
{
    return local == central || (local == 0 && (entry->flags & FLAG_DESCRIPTOR));
}

/* Reads name and extra of a local header (at most 128 KiB) and compares them with the entry. */
static vt_status check_local(const vt_zip *zip, vt_zip_entry *entry, uint64_t limit,
                             unsigned char *buffer, vt_error *error)
{
    vt_shown shown = vt_show(entry->name, strlen(entry->name));
    unsigned char head[LOCAL_HEADER];
    if (entry->local > limit || limit - entry->local < LOCAL_HEADER) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: '%s' begins outside the file", shown.text);
    }
    vt_status status = vt_file_read(zip->file, entry->local, head, sizeof head, error);
    if (status != VT_OK) {
        return status;
    }
    size_t name = vt_le16(head + 26), extra = vt_le16(head + 28);
    uint64_t room = limit - entry->local - LOCAL_HEADER;
    if (name + extra > room || entry->size > room - name - extra) {
        return vt_error_set(error, VT_ERR_FORMAT, "zip: '%s' reaches beyond the end of the records",
                            shown.text);
    }
    entry->position = entry->local + LOCAL_HEADER + name + extra;
    status = vt_file_read(zip->file, entry->local + LOCAL_HEADER, buffer, name + extra, error);
    if (status != VT_OK) {
        return status;
    }
    uint64_t packed = vt_le32(head + 18), unpacked = vt_le32(head + 22);
    if (packed == SATURATED || unpacked == SATURATED) {
        size_t length = 0;
        const unsigned char *wide = find_extra(buffer + name, extra, ZIP64_EXTRA, &length);
        if (!wide || length < 16) {
            packed = unpacked = UINT64_MAX;
        } else {
            unpacked = vt_le64(wide);
            packed = vt_le64(wide + 8);
        }
    }
    if (memcmp(head, "PK\3\4", 4) != 0 || name != strlen(entry->name) ||
        memcmp(buffer, entry->name, name) != 0 || vt_le16(head + 6) != entry->flags ||
        vt_le16(head + 8) != entry->method || !agrees(vt_le32(head + 14), entry->crc, entry) ||
        !agrees(packed, entry->size, entry) || !agrees(unpacked, entry->unpacked, entry)) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "zip: the local header of '%s' disagrees with "
                            "the directory",
                            shown.text);
    }
    return VT_OK;
}

static int compare_local(const void *a, const void *b)
{
    const vt_zip_entry *x = a, *y = b;
    return x->local < y->local ? -1 : x->local > y->local;
}

static int compare_names(const void *a, const void *b)
{
    const vt_zip_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static vt_status check_entries(vt_zip *zip, uint64_t limit, vt_error *error)
{
    unsigned char *buffer = vt_alloc(zip->allocator, (size_t)2 * 65536);
    if (!buffer) {
        return vt_out_of_memory(error);
    }
    vt_status status = VT_OK;
    uint64_t end = 0;
    qsort(zip->entries, zip->count, sizeof *zip->entries, compare_local);
    for (size_t i = 0; status == VT_OK && i < zip->count; i++) {
        vt_zip_entry *e = &zip->entries[i];
        status = check_local(zip, e, limit, buffer, error);
        if (status == VT_OK && e->local < end) {
            status = vt_error_set(error, VT_ERR_FORMAT, "zip: '%s' overlaps another entry",
                                  vt_show(e->name, strlen(e->name)).text);
        }
        end = e->position + e->size;
    }
    vt_free(zip->allocator, buffer);
    if (status != VT_OK) {
        return status;
    }
    qsort(zip->entries, zip->count, sizeof *zip->entries, compare_names);
    for (size_t i = 1; i < zip->count; i++) {
        const char *name = zip->entries[i].name;
        if (strcmp(zip->entries[i - 1].name, name) == 0) {
            return vt_error_set(error, VT_ERR_FORMAT, "zip: two entries are named '%s'",
                                vt_show(name, strlen(name)).text);
        }
    }
    return VT_OK;
}

/* ---- interface ------------------------------------------------------------------------------- */
vt_status vt_zip_open(vt_zip *zip, const vt_allocator *allocator, const vt_file *file,
                      vt_error *error)
{
    *zip = (vt_zip){.allocator = allocator, .file = file, .names = {.allocator = allocator}};
    directory dir = {0};
    vt_status status = find_directory(zip, &dir, error);
    if (status == VT_OK) {
        status = read_directory(zip, &dir, error);
    }
    if (status == VT_OK) {
        zip->first_name = zip->entries[0].name;
        status = check_entries(zip, dir.offset, error);
    }
    return status;
}

void vt_zip_clear(vt_zip *zip)
{
    vt_free(zip->allocator, zip->entries);
    vt_pool_clear(&zip->names);
    zip->entries = NULL;
    zip->count = 0;
}

const vt_zip_entry *vt_zip_find(const vt_zip *zip, const char *name)
{
    vt_zip_entry key = {.name = name};
    return bsearch(&key, zip->entries, zip->count, sizeof key, compare_names);
}

vt_status vt_zip_verify(const vt_zip *zip, const vt_context *context, vt_error *error)
{
    unsigned char buffer[STEP];
    uint64_t total = zip->file->size;
    uint64_t done = 0;
    for (size_t i = 0; i < zip->count; i++) {
        const vt_zip_entry *e = &zip->entries[i];
        uLong crc = crc32(0, NULL, 0);
        for (uint64_t at = 0; at < e->size;) {
            size_t n = e->size - at < STEP ? (size_t)(e->size - at) : STEP;
            vt_status status = vt_file_read(zip->file, e->position + at, buffer, n, error);
            if (status != VT_OK) {
                return status;
            }
            crc = crc32(crc, buffer, (uInt)n);
            at += n;
            done += n;
        }
        if (e->method == 0 && crc != e->crc) {
            return vt_error_set(error, VT_ERR_FORMAT,
                                "zip: the CRC of '%s' is wrong: the file is "
                                "damaged",
                                vt_show(e->name, strlen(e->name)).text);
        }
        if (!vt_progress(context, "verify", done, total)) {
            return vt_error_set(error, VT_ERR_CANCELLED, "cancelled");
        }
    }
    return VT_OK;
}
