/* SPDX-License-Identifier: Apache-2.0 */
/* The checkpoint object: opening, the table of entries, names and metadata. The formats have their
 * own files; reading tensors is in checkpoint_read.c. */
#include "io/checkpoint.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/checked.h"

enum {
    HEAD = 512,            /* bytes looked at to tell the format */
    MAX_RECORDS = 1 << 20, /* tensors in one checkpoint; published ones have a few thousand */
    MAX_NAME = 4096        /* bytes of a tensor's name */
};

/* ---- messages -------------------------------------------------------------------------------- */
vt_status vt_out_of_memory(vt_error *error)
{
    return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
}

vt_shown vt_show(const char *text, size_t length)
{
    vt_shown shown;
    size_t kept = length < sizeof shown.text - 4 ? length : sizeof shown.text - 4;
    for (size_t i = 0; i < kept; i++) {
        unsigned char c = (unsigned char)text[i];
        shown.text[i] = c < 0x20 || c == 0x7F ? '?' : (char)c;
    }
    strcpy(shown.text + kept, kept < length ? "..." : "");
    return shown;
}

vt_status vt_stored_refuse(vt_checkpoint *checkpoint, vt_stored *record, vt_status status,
                           vt_error *error, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    record->problem = vt_pool_strndup(&checkpoint->pool, line, strlen(line));
    record->problem_status = status;
    return record->problem ? VT_OK : vt_out_of_memory(error);
}

/* ---- filling --------------------------------------------------------------------------------- */
vt_status vt_checkpoint_add_file(vt_checkpoint *cp, const char *path, size_t *file, vt_error *error)
{
    void *files = cp->files;
    if (!vt_array_reserve(cp->allocator, &files, &cp->file_capacity, cp->file_count,
                          sizeof *cp->files)) {
        return vt_out_of_memory(error);
    }
    cp->files = files;
    vt_status status = vt_file_open(&cp->files[cp->file_count], path, error);
    if (status == VT_OK) {
        *file = cp->file_count++;
    }
    return status;
}

vt_status vt_checkpoint_add_record(vt_checkpoint *cp, const char *name, size_t length,
                                   vt_stored **record, vt_error *error)
{
    if (length == 0 || length > MAX_NAME || memchr(name, '\0', length)) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "a tensor's name is empty, holds a NUL byte or "
                            "is longer than %d bytes: '%s'",
                            MAX_NAME, vt_show(name, length).text);
    }
    if (cp->count >= MAX_RECORDS) {
        return vt_error_set(error, VT_ERR_LIMIT, "more than %d tensors", MAX_RECORDS);
    }
    void *records = cp->records;
    if (!vt_array_reserve(cp->allocator, &records, &cp->capacity, cp->count, sizeof *cp->records)) {
        return vt_out_of_memory(error);
    }
    cp->records = records;
    char *copy = vt_pool_strndup(&cp->pool, name, length);
    if (!copy) {
        return vt_out_of_memory(error);
    }
    *record = &cp->records[cp->count++];
    **record = (vt_stored){.entry = {.name = copy, .dtype = VT_DTYPE_OTHER}};
    return VT_OK;
}

vt_status vt_checkpoint_add_metadata(vt_checkpoint *cp, const char *key, const char *value,
                                     vt_error *error)
{
    if (vt_checkpoint_metadata(cp, key)) {
        return VT_OK;
    }
    void *metadata = cp->metadata;
    if (!vt_array_reserve(cp->allocator, &metadata, &cp->metadata_capacity, cp->metadata_count,
                          sizeof *cp->metadata)) {
        return vt_out_of_memory(error);
    }
    cp->metadata = metadata;
    vt_metadata item = {vt_pool_strndup(&cp->pool, key, strlen(key)),
                        vt_pool_strndup(&cp->pool, value, strlen(value))};
    if (!item.key || !item.value) {
        return vt_out_of_memory(error);
    }
    cp->metadata[cp->metadata_count++] = item;
    return VT_OK;
}

void vt_stored_set_dense(vt_stored *record)
{
    int64_t stride = 1;
    for (int d = record->entry.rank - 1; d >= 0; d--) {
        record->stride[d] = stride;
        stride *= record->entry.shape[d] > 0 ? record->entry.shape[d] : 1;
    }
}

/* ---- which format ---------------------------------------------------------------------------- */
typedef struct signature {
    size_t offset, length;
    const char *bytes;
    vt_status status;
    const char *message;
} signature;

/* Formats that are known by name and refused. */
static const signature refused[] = {
    {0, 42, "version https://git-lfs.github.com/spec/v1", VT_ERR_FORMAT,
     "this is a Git LFS pointer, not the file itself: fetch it with 'git lfs pull'"},
    {0, 4, "GGUF", VT_ERR_UNSUPPORTED,
     "GGUF files are not supported: use the publisher's "
     ".safetensors or .pth"},
    {0, 8, "PYTORCH1", VT_ERR_UNSUPPORTED,
     "the abandoned PYTORCH1 preview format is not supported"},
    {0, 28, "L119547037146038801333356L\n.", VT_ERR_UNSUPPORTED,
     "pickle protocols 0 and 1 are not supported: save the file again with protocol 2"},
    {0, 8, "\x89HDF\r\n\x1a\n", VT_ERR_UNSUPPORTED, "HDF5 (Keras .h5) files are not supported"},
    {257, 5, "ustar", VT_ERR_UNSUPPORTED,
     "tar archives (PyTorch before 0.1.10) are not supported; unpack any other archive first"},
    {0, 2, "\x1f\x8b", VT_ERR_UNSUPPORTED, "the file is compressed (gzip): unpack it first"},
    {0, 3, "BZh", VT_ERR_UNSUPPORTED, "the file is compressed (bzip2): unpack it first"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     VT_ERR_UNSUPPORTED, "the file is compressed (xz): unpack it first"},
    {0, 4, "\x28\xb5\x2f\xfd", VT_ERR_UNSUPPORTED,
     "the file is compressed (zstd): unpack it first"},
    {0, 6, "7z\xbc\xaf\x27\x1c", VT_ERR_UNSUPPORTED, "7z archives are not supported"},
    {0, 6, "\x93NUMPY", VT_ERR_UNSUPPORTED, "a single NumPy array (.npy) is not a checkpoint"},
    {4, 4, "TFL3", VT_ERR_UNSUPPORTED, "TensorFlow Lite files are not supported"},
    {0, 4, "PK\5\6", VT_ERR_FORMAT, "an empty zip archive"},
};

static bool starts_like_html(const unsigned char *head, size_t size)
{
    size_t i = 0;
    while (i < size && (head[i] == ' ' || (head[i] >= '\t' && head[i] <= '\r'))) {
        i++;
    }
    const char *text = (const char *)head + i;
    return (size - i >= 14 && strncasecmp(text, "<!doctype html", 14) == 0) ||
           (size - i >= 5 && strncasecmp(text, "<html", 5) == 0);
}

/* ONNX has no signature: a protobuf message that opens with field 1 (ir_version, a small number)
 * and goes on with field 2 (producer_name, a printable string) or field 7 (graph). */
static bool looks_like_onnx(const unsigned char *head, size_t size)
{
    return size > 5 && head[0] == 0x08 && head[1] >= 1 && head[1] < 0x20 &&
           (head[2] == 0x3A || (head[2] == 0x12 && head[3] > 0 && head[3] < 0x40 &&
                                head[4] >= 0x20 && head[4] < 0x7F));
}

/* `80 0x`, a frame header where the protocol has frames, then the magic number as LONG1. */
static bool is_legacy_torch(const unsigned char *head, size_t size)
{
    static const unsigned char magic[] = {0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9,
                                          0x20, 0x6A, 0xA8, 0x50, 0x19, '.'};
    size_t at = size > 2 && head[2] == 0x95 ? 11 : 2;
    return size >= at + sizeof magic && memcmp(head + at, magic, sizeof magic) == 0;
}

typedef enum format { SAFETENSORS, TORCH_ZIP, TORCH_LEGACY, INDEX, REFUSED } format;

static vt_status tell_format(const vt_file *file, format *found, vt_error *error)
{
    unsigned char head[HEAD] = {0};
    size_t size = file->size < HEAD ? (size_t)file->size : HEAD;
    *found = REFUSED;
    if (size == 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "the file is empty");
    }
    vt_status status = vt_file_read(file, 0, head, size, error);
    if (status != VT_OK) {
        return status;
    }
    bool header_fits = size > 8 && vt_le64(head) <= file->size - 8;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const signature *s = &refused[i];
        if (size >= s->offset + s->length && memcmp(head + s->offset, s->bytes, s->length) == 0) {
            return vt_error_set(error, s->status, "%s", s->message);
        }
    }
    /* The order matters: the first byte of a safetensors file may be any character, and byte 8 of
     * a JSON file may be a brace. */
    if (size >= 4 && memcmp(head, "PK\3\4", 4) == 0) {
        *found = TORCH_ZIP;
    } else if (header_fits && head[8] == '{') {
        *found = SAFETENSORS;
    } else if (head[0] == '{') {
        *found = INDEX;
    } else if (size > 8 && head[8] == '{') {
        *found = SAFETENSORS; /* its reader says what is wrong with the header's length */
    } else if (is_legacy_torch(head, size)) {
        *found = TORCH_LEGACY;
    } else if (size >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "a bare pickle (as of detectron2 .pkl), "
                            "not a file written by torch.save: not supported");
    } else if (starts_like_html(head, size)) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "this is a web page, not a checkpoint: download failed?");
    } else if (looks_like_onnx(head, size)) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "this looks like an ONNX model: not "
                            "supported; use the publisher's .safetensors or .pth");
    } else {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "not a checkpoint: neither safetensors nor a "
                            "PyTorch file");
    }
    return VT_OK;
}

vt_status vt_checkpoint_parse_file(vt_checkpoint *cp, size_t file, const char *path,
                                   vt_error *error)
{
    format found;
    vt_status status = tell_format(&cp->files[file], &found, error);
    if (status != VT_OK) {
        return status;
    }
    switch (found) {
    case SAFETENSORS: cp->format = "safetensors"; return vt_safetensors_parse(cp, file, error);
    case TORCH_ZIP: cp->format = "pytorch zip"; return vt_torch_zip_parse(cp, file, error);
    case TORCH_LEGACY: cp->format = "pytorch legacy"; return vt_torch_legacy_parse(cp, file, error);
    case INDEX:
        if (path) {
            return vt_shards_parse(cp, path, error);
        }
        break;
    case REFUSED: break;
    }
    return vt_error_set(error, VT_ERR_FORMAT, "an index stands where a shard should be");
}

/* ---- after the readers ----------------------------------------------------------------------- */
static int compare_names(const void *a, const void *b)
{
    const vt_stored *const *x = a, *const *y = b;
    return strcmp((*x)->entry.name, (*y)->entry.name);
}

/* Sorts the names for lookups (a hash table's worst case would be in the file's hands) and refuses
 * duplicates. */
static vt_status index_names(vt_checkpoint *cp, vt_error *error)
{
    cp->by_name = vt_alloc_zero(cp->allocator, cp->count, sizeof *cp->by_name);
    if (!cp->by_name) {
        return vt_out_of_memory(error);
    }
    for (size_t i = 0; i < cp->count; i++) {
        cp->by_name[i] = &cp->records[i];
    }
    qsort(cp->by_name, cp->count, sizeof *cp->by_name, compare_names);
    for (size_t i = 1; i < cp->count; i++) {
        const char *name = cp->by_name[i]->entry.name;
        if (strcmp(cp->by_name[i - 1]->entry.name, name) == 0) {
            return vt_error_set(error, VT_ERR_FORMAT, "two tensors are named '%s'",
                                vt_show(name, strlen(name)).text);
        }
    }
    return VT_OK;
}

/* Data-parallel and compiled training prepend these to every name, sometimes both. Dropping one
 * from all names keeps their order, so the sorted table stays valid. */
static void strip_prefixes(vt_checkpoint *cp)
{
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    bool again = cp->count > 0;
    while (again) {
        again = false;
        for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++) {
            size_t length = strlen(prefixes[p]), i = 0;
            while (i < cp->count && strncmp(cp->records[i].entry.name, prefixes[p], length) == 0 &&
                   cp->records[i].entry.name[length]) {
                i++;
            }
            if (i == cp->count) {
                for (i = 0; i < cp->count; i++) {
                    cp->records[i].entry.name += length;
                }
                again = true;
            }
        }
    }
}

/* ---- the public face ------------------------------------------------------------------------- */
vt_checkpoint_settings vt_checkpoint_settings_default(void)
{
    return (vt_checkpoint_settings){0};
}

static vt_status open_and_parse(vt_checkpoint *cp, const char *path, vt_error *error)
{
    size_t file;
    vt_status status = vt_checkpoint_add_file(cp, path, &file, error);
    if (status == VT_OK) {
        status = vt_checkpoint_parse_file(cp, file, path, error);
    }
    if (status == VT_OK) {
        status = index_names(cp, error);
    }
    if (status == VT_OK) {
        strip_prefixes(cp);
    }
    return status;
}

vt_status vt_checkpoint_open(vt_checkpoint **checkpoint, vt_context *context, const char *path,
                             const vt_checkpoint_settings *settings, vt_error *error)
{
    if (checkpoint) {
        *checkpoint = NULL;
    }
    if (!checkpoint || !context || !path) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "vt_checkpoint_open: checkpoint, context or path is NULL");
    }
    const vt_allocator *allocator = vt_context_allocator(context);
    vt_checkpoint *cp = vt_alloc_zero(allocator, 1, sizeof *cp);
    if (!cp) {
        vt_out_of_memory(error);
        return vt_error_wrap(error, VT_ERR_MEMORY, "%s", path);
    }
    cp->context = context;
    cp->allocator = allocator;
    cp->settings = settings ? *settings : vt_checkpoint_settings_default();
    cp->pool.allocator = allocator;
    cp->format = cp->root = "";
    vt_status status = open_and_parse(cp, path, error);
    cp->settings.root = NULL; /* borrowed for the call only */
    if (status != VT_OK) {
        vt_checkpoint_close(&cp);
        return vt_error_wrap(error, status, "%s", path);
    }
    *checkpoint = cp;
    return VT_OK;
}

void vt_checkpoint_close(vt_checkpoint **checkpoint)
{
    if (!checkpoint || !*checkpoint) {
        return;
    }
    vt_checkpoint *cp = *checkpoint;
    for (size_t i = 0; i < cp->file_count; i++) {
        vt_file_close(&cp->files[i]);
    }
    vt_free(cp->allocator, cp->files);
    vt_free(cp->allocator, cp->records);
    vt_free(cp->allocator, (void *)cp->by_name);
    vt_free(cp->allocator, cp->metadata);
    vt_pool_clear(&cp->pool);
    vt_free(cp->allocator, cp);
    *checkpoint = NULL;
}

const char *vt_checkpoint_format(const vt_checkpoint *checkpoint)
{
    return checkpoint->format;
}

const char *vt_checkpoint_root(const vt_checkpoint *checkpoint)
{
    return checkpoint->root;
}

size_t vt_checkpoint_count(const vt_checkpoint *checkpoint)
{
    return checkpoint->count;
}

const vt_checkpoint_entry *vt_checkpoint_at(const vt_checkpoint *checkpoint, size_t i)
{
    return i < checkpoint->count ? &checkpoint->records[i].entry : NULL;
}

const vt_checkpoint_entry *vt_checkpoint_find(const vt_checkpoint *checkpoint, const char *name)
{
    size_t low = 0, high = name ? checkpoint->count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, checkpoint->by_name[middle]->entry.name);
        if (order == 0) {
            return &checkpoint->by_name[middle]->entry;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *vt_checkpoint_metadata(const vt_checkpoint *checkpoint, const char *key)
{
    for (size_t i = 0; key && i < checkpoint->metadata_count; i++) {
        if (strcmp(checkpoint->metadata[i].key, key) == 0) {
            return checkpoint->metadata[i].value;
        }
    }
    return NULL;
}
