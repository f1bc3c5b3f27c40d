/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors, one file or shards named by an index.
 *
 *   +--------+--------------------------------------------------+----------------------------+
 *   | u64 n  | n bytes of JSON, right-padded with spaces        | data, to the end of file   |
 *   +--------+--------------------------------------------------+----------------------------+
 *            {"__metadata__": {"format": "pt"},                  0: first byte of the data
 *             "conv.weight": {"dtype": "F16", "shape": [8, 3], "data_offsets": [0, 48]}, ...}
 *
 * Tensors are dense, row-major and little-endian, at any alignment; sorted by position they cover
 * the data without hole, overlap or rest. An index is a JSON file
 *   {"weight_map": {"conv.weight": "model-00001-of-00002.safetensors", ...}, ...}
 * whose shards lie beside it.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/checked.h"
#include "io/checkpoint.h"

enum {
    MAX_HEADER = 100 * 1000 * 1000, /* bytes of JSON: the limit of the reference reader */
    MAX_DEPTH = 4,                  /* braces and brackets inside each other */
    MAX_VALUES = 1 << 20,           /* JSON values: bounds what the parser may allocate */
    MAX_SHARDS = 512                /* open files */
};

/* ---- JSON ------------------------------------------------------------------------------------ */
/* Counts before parsing, so that a hostile header costs no more than its own size. Only the
 * structure is looked at; the parser finds what is wrong inside it. */
static vt_status check_extent(const char *text, size_t size, vt_error *error)
{
    int depth = 0;
    size_t values = 1;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\') {
                i++;
            }
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            values++;
            if (++depth > MAX_DEPTH) {
                return vt_error_set(error, VT_ERR_LIMIT,
                                    "JSON header: nested deeper than %d at "
                                    "byte %zu",
                                    MAX_DEPTH, i);
            }
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (c == ',' || c == ':') {
            values++;
        }
    }
    if (values > MAX_VALUES) {
        return vt_error_set(error, VT_ERR_LIMIT, "JSON header: more than %d values", MAX_VALUES);
    }
    return VT_OK;
}

/* Reads `size` bytes at `position` as one JSON object. Release with json_decref. */
static vt_status read_json(const vt_checkpoint *cp, const vt_file *file, uint64_t position,
                           uint64_t size, json_t **object, vt_error *error)
{
    *object = NULL;
    if (size > MAX_HEADER) {
        return vt_error_set(error, VT_ERR_LIMIT, "JSON header of %llu bytes: the limit is %d",
                            (unsigned long long)size, MAX_HEADER);
    }
    char *text = vt_alloc(cp->allocator, (size_t)size);
    if (!text) {
        return vt_out_of_memory(error);
    }
    vt_status status = vt_file_read(file, position, text, (size_t)size, error);
    if (status == VT_OK) {
        status = check_extent(text, (size_t)size, error);
    }
    if (status == VT_OK) {
        json_error_t problem;
        json_t *parsed = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &problem);
        if (json_is_object(parsed)) {
            *object = parsed;
        } else if (parsed) {
            json_decref(parsed);
            status = vt_error_set(error, VT_ERR_FORMAT, "JSON header: not an object");
        } else if (json_error_code(&problem) == json_error_out_of_memory) {
            status = vt_out_of_memory(error);
        } else {
            status =
                vt_error_set(error, VT_ERR_FORMAT, "JSON header: byte %d: %s", problem.position,
                             vt_show(problem.text, strlen(problem.text)).text);
        }
    }
    vt_free(cp->allocator, text);
    return status;
}

/* ---- one file -------------------------------------------------------------------------------- */
static const struct {
    const char *name;
    vt_dtype dtype;
    unsigned bits;
} dtypes[] = {
    {"F32", VT_F32, 32},
    {"F16", VT_F16, 16},
    {"BF16", VT_BF16, 16},
    {"F64", VT_F64, 64},
    {"I8", VT_I8, 8},
    {"I16", VT_I16, 16},
    {"I32", VT_I32, 32},
    {"I64", VT_I64, 64},
    {"U8", VT_U8, 8},
    {"BOOL", VT_BOOL, 8},
    {"U16", VT_DTYPE_OTHER, 16},
    {"U32", VT_DTYPE_OTHER, 32},
    {"U64", VT_DTYPE_OTHER, 64},
    {"C64", VT_DTYPE_OTHER, 64},
    {"F8_E4M3", VT_DTYPE_OTHER, 8},
    {"F8_E5M2", VT_DTYPE_OTHER, 8},
    {"F8_E8M0", VT_DTYPE_OTHER, 8},
    {"F8_E4M3FNUZ", VT_DTYPE_OTHER, 8},
    {"F8_E5M2FNUZ", VT_DTYPE_OTHER, 8},
    {"F6_E2M3", VT_DTYPE_OTHER, 6},
    {"F6_E3M2", VT_DTYPE_OTHER, 6},
    {"F4", VT_DTYPE_OTHER, 4},
};

/* False unless `value` is an integer >= 0. */
static bool get_count(const json_t *value, int64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *out = (int64_t)json_integer_value(value);
    return true;
}

static vt_status read_shape(vt_checkpoint *cp, vt_stored *record, const json_t *shape,
                            int64_t *elements, vt_error *error)
{
    size_t rank = json_array_size(shape);
    int64_t product = 1;
    for (size_t d = 0; d < rank; d++) {
        int64_t extent;
        if (!get_count(json_array_get(shape, d), &extent)) {
            return vt_error_set(error, VT_ERR_FORMAT, "its shape is not made of whole numbers");
        }
        if (!vt_mul_i64(product, extent, &product)) {
            return vt_error_set(error, VT_ERR_FORMAT, "its shape has too many elements");
        }
        if (d < VT_CHECKPOINT_MAX_RANK) {
            record->entry.shape[d] = extent;
        }
    }
    *elements = product;
    if (rank > VT_CHECKPOINT_MAX_RANK) {
        return vt_stored_refuse(cp, record, VT_ERR_LIMIT, error,
                                "it has %zu dimensions, more "
                                "than %d",
                                rank, VT_CHECKPOINT_MAX_RANK);
    }
    record->entry.rank = (int)rank;
    record->entry.elements = product;
    vt_stored_set_dense(record);
    return VT_OK;
}

/* One `name: {...}` of the header; positions stay relative to the data. */
static vt_status read_tensor(vt_checkpoint *cp, vt_stored *record, const json_t *value,
                             vt_error *error)
{
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!dtype || !json_is_array(shape) || json_array_size(offsets) != 2) {
        return vt_error_set(error, VT_ERR_FORMAT, "wants a dtype, a shape and two data_offsets");
    }
    int64_t begin, end, elements = 0, bits;
    if (!get_count(json_array_get(offsets, 0), &begin) ||
        !get_count(json_array_get(offsets, 1), &end) || begin > end) {
        return vt_error_set(error, VT_ERR_FORMAT, "its data_offsets are not a range");
    }
    vt_status status = read_shape(cp, record, shape, &elements, error);
    if (status != VT_OK) {
        return status;
    }
    record->position = (uint64_t)begin;
    record->bytes = (uint64_t)(end - begin);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtype, dtypes[i].name) == 0) {
            record->entry.dtype = dtypes[i].dtype;
            if (!vt_mul_i64(elements, dtypes[i].bits, &bits) || bits % 8 != 0 ||
                bits / 8 != end - begin) {
                return vt_error_set(error, VT_ERR_FORMAT,
                                    "%lld elements of %s do not fill its "
                                    "%lld bytes",
                                    (long long)elements, dtype, (long long)(end - begin));
            }
            return VT_OK;
        }
    }
    return record->problem ? VT_OK
                           : vt_stored_refuse(cp, record, VT_ERR_UNSUPPORTED, error,
                                              "its element type '%s' is not known",
                                              vt_show(dtype, strlen(dtype)).text);
}

static vt_status read_header(vt_checkpoint *cp, size_t file, json_t *header, vt_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value)
    {
        vt_status status = VT_OK;
        if (strcmp(key, "__metadata__") == 0) {
            const char *name;
            json_t *text;
            if (!json_is_object(value)) {
                return vt_error_set(error, VT_ERR_FORMAT, "__metadata__ is not an object");
            }
            json_object_foreach(value, name, text)
            {
                if (!json_is_string(text)) {
                    return vt_error_set(error, VT_ERR_FORMAT,
                                        "__metadata__ holds something else than strings");
                }
                status = vt_checkpoint_add_metadata(cp, name, json_string_value(text), error);
                if (status != VT_OK) {
                    return status;
                }
            }
            continue;
        }
        vt_stored *record;
        status = vt_checkpoint_add_record(cp, key, strlen(key), &record, error);
        if (status != VT_OK) {
            return status;
        }
        record->file = file;
        status = read_tensor(cp, record, value, error);
        if (status != VT_OK) {
            return vt_error_wrap(error, status, "tensor '%s'", vt_show(key, strlen(key)).text);
        }
    }
    return VT_OK;
}

static int compare_positions(const void *a, const void *b)
{
    const vt_stored *x = a, *y = b;
    if (x->position != y->position) {
        return x->position < y->position ? -1 : 1;
    }
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? -1 : 1;
    }
    return strcmp(x->entry.name, y->entry.name);
}

/* Sorts by position, checks that the tensors cover the data, and makes positions absolute. */
static vt_status place_records(vt_stored *records, size_t count, uint64_t data, uint64_t size,
                               vt_error *error)
{
    if (count > 0) {
        qsort(records, count, sizeof *records, compare_positions);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        vt_stored *r = &records[i];
        if (r->position != at || r->bytes > size - data - at) {
            return vt_error_set(error, VT_ERR_FORMAT, "tensor '%s': %s",
                                vt_show(r->entry.name, strlen(r->entry.name)).text,
                                r->position < at   ? "overlaps the tensor before it"
                                : r->position > at ? "a hole lies before it"
                                                   : "reaches beyond the end of the file");
        }
        at += r->bytes;
        r->position += data;
    }
    if (at != size - data) {
        return vt_error_set(error, VT_ERR_FORMAT, "%llu bytes follow the last tensor",
                            (unsigned long long)(size - data - at));
    }
    return VT_OK;
}

vt_status vt_safetensors_parse(vt_checkpoint *cp, size_t file, vt_error *error)
{
    const vt_file *f = &cp->files[file];
    unsigned char length[8];
    if (cp->settings.ema || (cp->settings.root && *cp->settings.root)) {
        return vt_error_set(error, VT_ERR_NOT_FOUND,
                            "a safetensors file holds one set of weights: "
                            "neither a moving average nor dictionaries can be asked for");
    }
    vt_status status = vt_file_read(f, 0, length, sizeof length, error);
    if (status != VT_OK) {
        return status;
    }
    uint64_t n = vt_le64(length);
    if (n > f->size - 8) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "safetensors: a header of %llu bytes does not "
                            "fit into the file: cut short?",
                            (unsigned long long)n);
    }
    json_t *header;
    status = read_json(cp, f, 8, n, &header, error);
    if (status == VT_OK) {
        size_t first = cp->count;
        status = read_header(cp, file, header, error);
        if (status == VT_OK) {
            vt_stored *records = cp->count > first ? cp->records + first : NULL;
            status = place_records(records, cp->count - first, 8 + n, f->size, error);
        }
        json_decref(header);
    }
    return status == VT_OK ? VT_OK : vt_error_wrap(error, status, "safetensors");
}

/* ---- shards ---------------------------------------------------------------------------------- */
typedef struct shard_list {
    const char *names[MAX_SHARDS]; /* of file 1, 2, ...; owned by the JSON index */
    size_t count;
} shard_list;

/* Only a plain file name: shards lie in the index's own folder. */
static bool is_plain_name(const char *name)
{
    return *name && strlen(name) < 256 && !strpbrk(name, "/\\") && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static vt_status list_shards(json_t *map, shard_list *shards, vt_error *error)
{
    const char *tensor;
    json_t *value;
    shards->count = 0;
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_plain_name(name)) {
            return vt_error_set(error, VT_ERR_FORMAT,
                                "tensor '%s': its shard is not a plain file "
                                "name: '%s'",
                                vt_show(tensor, strlen(tensor)).text,
                                name ? vt_show(name, strlen(name)).text : "");
        }
        size_t i = shards->count; /* tensors of one shard mostly stand together */
        while (i > 0 && strcmp(shards->names[i - 1], name) != 0) {
            i--;
        }
        if (i == 0) {
            if (shards->count == MAX_SHARDS) {
                return vt_error_set(error, VT_ERR_LIMIT, "more than %d shards", MAX_SHARDS);
            }
            shards->names[shards->count++] = name;
        }
    }
    return VT_OK;
}

static vt_status parse_shard(vt_checkpoint *cp, const char *index_path, const char *name,
                             vt_error *error)
{
    const char *slash = strrchr(index_path, '/');
    size_t folder = slash ? (size_t)(slash - index_path) + 1 : 0;
    char *path = vt_alloc(cp->allocator, folder + strlen(name) + 1);
    if (!path) {
        return vt_out_of_memory(error);
    }
    memcpy(path, index_path, folder);
    strcpy(path + folder, name);
    size_t file;
    vt_status status = vt_checkpoint_add_file(cp, path, &file, error);
    vt_free(cp->allocator, path);
    return status == VT_OK ? vt_checkpoint_parse_file(cp, file, NULL, error) : status;
}

/* The shards hold what the index says, and nothing else. */
static vt_status compare_with_map(const vt_checkpoint *cp, json_t *map, const shard_list *shards,
                                  vt_error *error)
{
    for (size_t i = 0; i < cp->count; i++) {
        const vt_stored *r = &cp->records[i];
        const char *want = json_string_value(json_object_get(map, r->entry.name));
        const char *here = shards->names[r->file - 1];
        if (!want || strcmp(want, here) != 0) {
            return vt_error_set(error, VT_ERR_FORMAT,
                                "shard '%s' holds '%s', which the index "
                                "does not place there",
                                vt_show(here, strlen(here)).text,
                                vt_show(r->entry.name, strlen(r->entry.name)).text);
        }
    }
    /* Names in one shard may repeat in a PyTorch file: that is refused later, for all formats. */
    if (cp->count < json_object_size(map)) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "the index names %zu tensors, the shards hold "
                            "only %zu",
                            json_object_size(map), cp->count);
    }
    return VT_OK;
}

vt_status vt_shards_parse(vt_checkpoint *cp, const char *path, vt_error *error)
{
    json_t *index;
    vt_status status = read_json(cp, &cp->files[0], 0, cp->files[0].size, &index, error);
    if (status != VT_OK) {
        return vt_error_wrap(error, status, "index");
    }
    json_t *map = json_object_get(index, "weight_map");
    shard_list shards;
    if (!json_is_object(map)) {
        status = vt_error_set(error, VT_ERR_FORMAT,
                              "a JSON file without a \"weight_map\": not "
                              "the index of a sharded checkpoint");
    } else if (json_object_size(map) == 0) {
        status = vt_error_set(error, VT_ERR_FORMAT, "the index names no tensors");
    } else {
        status = list_shards(map, &shards, error);
        for (size_t i = 0; status == VT_OK && i < shards.count; i++) {
            status = parse_shard(cp, path, shards.names[i], error);
            if (status != VT_OK) {
                status = vt_error_wrap(error, status, "shard '%s'",
                                       vt_show(shards.names[i], strlen(shards.names[i])).text);
            }
        }
        if (status == VT_OK) {
            status = compare_with_map(cp, map, &shards, error);
        }
    }
    cp->format =
        strcmp(cp->format, "safetensors") == 0 ? "safetensors (sharded)" : "pytorch (sharded)";
    json_decref(index);
    return status;
}
