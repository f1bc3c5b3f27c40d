/* SPDX-License-Identifier: Apache-2.0 */
/* The legacy form of PyTorch files (default until 1.5): pickles and storages in one stream.
 *
 *   +--------------+--------------+---------------------+------------------+------------------+
 *   | pickle:      | pickle:      | pickle: {little_    | pickle: the      | pickle: list of  |
 *   | magic number | 1001         | endian, type_sizes} | object           | storage keys     |
 *   +--------------+--------------+---------------------+------------------+------------------+
 *   | i64 numel | bytes of the storage named first | i64 numel | bytes of the second | ...     |
 *   +-----------------------------------------------------------------------------------------+
 *
 * A pickle's length is known only once it has been read, so the front of the file is taken in
 * growing pieces until all five are inside. Storages are unaligned and always little-endian; their
 * element size stands in the object, so they are found by walking from one to the next.
 */
#include <stdlib.h>
#include <string.h>

#include "core/checked.h"
#include "io/torch_checkpoint.h"

enum { PICKLES = 5, FIRST_PIECE = 1 << 20, PROTOCOL = 1001 };

typedef struct stream {
    vt_checkpoint *checkpoint;
    const vt_file *file;
    unsigned char *bytes;
    vt_pool pool;
    vt_pickle pickles[PICKLES];
    uint64_t end; /* of the pickles */
    vt_storage_place *places;
    size_t place_count, place_capacity;
} stream;

/* ---- the pickles ----------------------------------------------------------------------------- */
/* Reads the pickles in the first `size` bytes; *cut says that there may be more to them. */
static vt_status read_piece(stream *s, size_t size, bool *cut, vt_error *error)
{
    s->pool = vt_torch_pool(s->checkpoint, size);
    s->bytes = vt_alloc(s->checkpoint->allocator, size);
    if (!s->bytes) {
        return vt_out_of_memory(error);
    }
    vt_status status = vt_file_read(s->file, 0, s->bytes, size, error);
    size_t at = 0;
    for (int i = 0; i < PICKLES && status == VT_OK; i++) {
        status = vt_unpickle(&s->pickles[i], &s->pool, s->checkpoint->context, s->bytes + at,
                             size - at, error);
        *cut = s->pickles[i].cut;
        at += s->pickles[i].used;
    }
    s->end = at;
    return status;
}

static void drop_piece(stream *s)
{
    vt_pool_clear(&s->pool);
    vt_free(s->checkpoint->allocator, s->bytes);
    s->bytes = NULL;
}

static vt_status read_pickles(stream *s, vt_error *error)
{
    uint64_t most = s->file->size < VT_TORCH_MAX_PICKLE ? s->file->size : VT_TORCH_MAX_PICKLE;
    for (uint64_t size = FIRST_PIECE;; size *= 4) {
        bool cut = false, whole = size >= most;
        vt_status status = read_piece(s, (size_t)(whole ? most : size), &cut, error);
        if (status == VT_OK || !cut || whole) {
            return cut && most < s->file->size
                       ? vt_error_set(error, VT_ERR_LIMIT,
                                      "the pickles are longer than %llu "
                                      "bytes",
                                      (unsigned long long)VT_TORCH_MAX_PICKLE)
                       : status;
        }
        drop_piece(s);
    }
}

static vt_status check_pickles(const stream *s, vt_error *error)
{
    const vt_pickle_value *protocol = s->pickles[1].root;
    if (!vt_pickle_is(protocol, VT_PICKLE_INT) || protocol->integer != PROTOCOL) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "legacy PyTorch file: its protocol version "
                            "is not %d",
                            PROTOCOL);
    }
    if (!vt_pickle_pairs(s->pickles[2].root)) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "legacy PyTorch file: its system record is "
                            "damaged");
    }
    if (!vt_pickle_is(s->pickles[4].root, VT_PICKLE_LIST)) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "legacy PyTorch file: its list of storages is "
                            "damaged");
    }
    return VT_OK;
}

/* ---- the storages ---------------------------------------------------------------------------- */
static int compare_places(const void *a, const void *b)
{
    const vt_storage_place *x = a, *y = b;
    return vt_storage_compare_keys(x->id.key, y->id.key);
}

/* Lists the storages that the object speaks of, each once, sorted by key. */
static vt_status list_storages(stream *s, vt_error *error)
{
    const vt_pickle_value *value = s->pickles[3].persistent;
    for (; value; value = value->persistent.next) {
        vt_storage_place place = {0};
        void *places = s->places;
        if (vt_storage_id_read(value, &place.id)) {
            continue; /* trouble of those who use it */
        }
        if (!vt_array_reserve(s->checkpoint->allocator, &places, &s->place_capacity, s->place_count,
                              sizeof place)) {
            return vt_out_of_memory(error);
        }
        s->places = places;
        s->places[s->place_count++] = place;
    }
    if (s->place_count == 0) {
        return VT_OK;
    }
    qsort(s->places, s->place_count, sizeof *s->places, compare_places);
    size_t kept = 1;
    for (size_t i = 1; i < s->place_count; i++) {
        const vt_storage_id *before = &s->places[kept - 1].id, *id = &s->places[i].id;
        if (vt_storage_compare_keys(before->key, id->key) != 0) {
            s->places[kept++] = s->places[i];
        } else if (before->type != id->type || before->numel != id->numel) {
            return vt_error_set(error, VT_ERR_FORMAT, "storage '%s' is described in two ways",
                                vt_show(id->key.at, id->key.length).text);
        }
    }
    s->place_count = kept;
    return VT_OK;
}

/* Walks the storages behind the pickles in the order of the list of keys. */
static vt_status place_storages(stream *s, vt_error *error)
{
    const vt_pickle_items *keys = &s->pickles[4].root->items;
    uint64_t at = s->end;
    for (size_t i = 0; i < keys->count; i++) {
        vt_storage_place wanted = {0}, *place = NULL;
        if (keys->at[i]->kind == VT_PICKLE_STRING && s->place_count > 0) {
            wanted.id.key = keys->at[i]->text;
            place = bsearch(&wanted, s->places, s->place_count, sizeof wanted, compare_places);
        }
        if (!place || place->placed) {
            return vt_error_set(error, VT_ERR_FORMAT, "entry %zu of the list of storages is %s", i,
                                place ? "there twice" : "not used by the object");
        }
        unsigned char count[8];
        vt_status status = vt_file_read(s->file, at, count, sizeof count, error);
        if (status != VT_OK) {
            return status;
        }
        vt_shown key = vt_show(place->id.key.at, place->id.key.length);
        if (vt_le64(count) != (uint64_t)place->id.numel) {
            return vt_error_set(error, VT_ERR_FORMAT,
                                "storage '%s' has %llu elements, not the "
                                "%lld that are claimed",
                                key.text, (unsigned long long)vt_le64(count),
                                (long long)place->id.numel);
        }
        uint64_t bytes;
        at += sizeof count;
        if (!vt_mul_u64((uint64_t)place->id.numel, place->id.type->item, &bytes) ||
            bytes > s->file->size - at) {
            return vt_error_set(error, VT_ERR_FORMAT,
                                "storage '%s' reaches beyond the end of the "
                                "file: cut short?",
                                key.text);
        }
        place->position = at;
        place->placed = true;
        at += bytes;
    }
    return VT_OK;
}

vt_status vt_torch_legacy_parse(vt_checkpoint *cp, size_t file, vt_error *error)
{
    stream s = {.checkpoint = cp, .file = &cp->files[file]};
    vt_status status = read_pickles(&s, error);
    if (status == VT_OK) {
        status = check_pickles(&s, error);
    }
    if (status == VT_OK) {
        status = list_storages(&s, error);
    }
    if (status == VT_OK) {
        status = place_storages(&s, error);
    }
    if (status == VT_OK) {
        vt_storage_source source = {
            .checkpoint = cp, .file = file, .places = s.places, .place_count = s.place_count};
        status = vt_torch_collect(&source, s.pickles[3].root, error);
    }
    vt_free(cp->allocator, s.places);
    drop_piece(&s);
    return status;
}
