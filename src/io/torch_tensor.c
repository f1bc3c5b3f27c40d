/* SPDX-License-Identifier: Apache-2.0 */
/* From the calls that rebuild a tensor, as the pickle holds them, to a record.
 *
 *   torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)
 *     storage: persistent id ('storage', torch.FloatStorage, '0', 'cpu', 4096)
 *
 * Offset and strides count elements. Nothing that is wrong here fails the whole file: it becomes
 * the problem of this one tensor.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/checked.h"
#include "io/torch_checkpoint.h"

enum {
    MAX_WRAPPERS = 8,      /* parameter of a parameter of ... */
    MAX_KEY = 256,         /* bytes of a storage's key */
    MAX_EXPANDED = 1 << 20 /* elements that a view may always have, however small its storage */
};

/* ---- storages -------------------------------------------------------------------------------- */
static const vt_storage_type storage_types[] = {
    {"FloatStorage", VT_F32, 4, false, false},
    {"HalfStorage", VT_F16, 2, false, false},
    {"BFloat16Storage", VT_BF16, 2, false, false},
    {"DoubleStorage", VT_F64, 8, false, false},
    {"LongStorage", VT_I64, 8, false, false},
    {"IntStorage", VT_I32, 4, false, false},
    {"ShortStorage", VT_I16, 2, false, false},
    {"CharStorage", VT_I8, 1, false, false},
    {"ByteStorage", VT_U8, 1, false, false},
    {"BoolStorage", VT_BOOL, 1, false, false},
    {"ComplexFloatStorage", VT_DTYPE_OTHER, 8, false, false},
    {"ComplexDoubleStorage", VT_DTYPE_OTHER, 16, false, false},
    {"QInt8Storage", VT_DTYPE_OTHER, 1, true, false},
    {"QUInt8Storage", VT_DTYPE_OTHER, 1, true, false},
    {"QInt32Storage", VT_DTYPE_OTHER, 4, true, false},
    {"QUInt4x2Storage", VT_DTYPE_OTHER, 1, true, false},
    {"QUInt2x4Storage", VT_DTYPE_OTHER, 1, true, false},
    {"UntypedStorage", VT_DTYPE_OTHER, 1, false, true},
};

/* Element types named by value, for tensors over untyped storages. */
static const struct {
    const char *name;
    vt_dtype dtype;
    unsigned item;
} dtypes[] = {
    {"float32", VT_F32, 4},
    {"float16", VT_F16, 2},
    {"bfloat16", VT_BF16, 2},
    {"float64", VT_F64, 8},
    {"int64", VT_I64, 8},
    {"int32", VT_I32, 4},
    {"int16", VT_I16, 2},
    {"int8", VT_I8, 1},
    {"uint8", VT_U8, 1},
    {"bool", VT_BOOL, 1},
    {"uint16", VT_DTYPE_OTHER, 2},
    {"uint32", VT_DTYPE_OTHER, 4},
    {"uint64", VT_DTYPE_OTHER, 8},
    {"float8_e4m3fn", VT_DTYPE_OTHER, 1},
    {"float8_e5m2", VT_DTYPE_OTHER, 1},
    {"float8_e4m3fnuz", VT_DTYPE_OTHER, 1},
    {"float8_e5m2fnuz", VT_DTYPE_OTHER, 1},
    {"float8_e8m0fnu", VT_DTYPE_OTHER, 1},
};

static bool get_integer(const vt_pickle_value *value, int64_t *out)
{
    if (!vt_pickle_is(value, VT_PICKLE_INT)) {
        return false;
    }
    *out = value->integer;
    return true;
}

const char *vt_storage_id_read(const vt_pickle_value *value, vt_storage_id *id)
{
    const vt_pickle_value *tuple =
        vt_pickle_is(value, VT_PICKLE_PERSISTENT) ? value->persistent.id : NULL;
    const vt_pickle_value *class = vt_pickle_item(tuple, 1), *key = vt_pickle_item(tuple, 2);
    const vt_pickle_value *view = vt_pickle_item(tuple, 5);
    *id = (vt_storage_id){0};
    if (!vt_pickle_is(tuple, VT_PICKLE_TUPLE) ||
        !vt_pickle_is_string(vt_pickle_item(tuple, 0), "storage")) {
        return "it has no storage";
    }
    if (!vt_pickle_is(class, VT_PICKLE_GLOBAL)) {
        return "its storage has no type";
    }
    if (!vt_pickle_is(key, VT_PICKLE_STRING) || key->text.length == 0 ||
        key->text.length > MAX_KEY || memchr(key->text.at, '\0', key->text.length)) {
        return "its storage's key is not a plain text";
    }
    if (!get_integer(vt_pickle_item(tuple, 4), &id->numel) || id->numel < 0) {
        return "its storage's size is not a number of elements";
    }
    id->key = key->text;
    id->view = vt_pickle_is(view, VT_PICKLE_TUPLE) ? view : NULL;
    if (view && !id->view && !vt_pickle_is(view, VT_PICKLE_NONE)) {
        return "its storage's view is damaged";
    }
    /* The module is torch, torch.cuda or torch.storage, by age of the file. */
    const vt_pickle_text module = class->global.module;
    if (module.length < 5 || memcmp(module.at, "torch", 5) != 0) {
        return "its storage's type is not PyTorch's";
    }
    for (size_t i = 0; i < sizeof storage_types / sizeof *storage_types; i++) {
        if (vt_pickle_text_is(class->global.name, storage_types[i].name)) {
            id->type = &storage_types[i];
            return NULL;
        }
    }
    return "its storage's type is not known";
}

int vt_storage_compare_keys(vt_pickle_text a, vt_pickle_text b)
{
    if (a.length != b.length) {
        return a.length < b.length ? -1 : 1;
    }
    return memcmp(a.at, b.at, a.length);
}

/* ---- tensors --------------------------------------------------------------------------------- */
/* The innermost rebuilding call: parameters and subclasses wrap the tensor that they hold. */
typedef struct rebuild {
    vt_pickle_text name; /* of the function in torch._utils */
    const vt_pickle_value *args;
} rebuild;

static bool find_rebuild(const vt_pickle_value *value, rebuild *found)
{
    if (!vt_pickle_is(value, VT_PICKLE_OBJECT)) {
        return false;
    }
    const vt_pickle_value *function = value->object.callable, *args = value->object.args;
    for (int i = 0; i < MAX_WRAPPERS; i++) {
        if (vt_pickle_is_global(function, "torch._tensor", "_rebuild_from_type_v2")) {
            function = vt_pickle_item(args, 0);
            args = vt_pickle_item(args, 2);
        } else if (vt_pickle_is_global(function, "torch._utils", "_rebuild_parameter") ||
                   vt_pickle_is_global(function, "torch._utils", "_rebuild_parameter_with_state")) {
            const vt_pickle_value *inner = vt_pickle_item(args, 0);
            if (!vt_pickle_is(inner, VT_PICKLE_OBJECT)) {
                return false;
            }
            function = inner->object.callable;
            args = inner->object.args;
        } else {
            break;
        }
    }
    if (!vt_pickle_is(function, VT_PICKLE_GLOBAL) ||
        !vt_pickle_text_is(function->global.module, "torch._utils") ||
        function->global.name.length < 8 || memcmp(function->global.name.at, "_rebuild", 8) != 0) {
        return false;
    }
    *found = (rebuild){function->global.name, args};
    return true;
}

bool vt_torch_is_tensor(const vt_pickle_value *value)
{
    rebuild unused;
    return find_rebuild(value, &unused);
}

/* What is wrong with a tensor; empty while nothing is. */
typedef struct trouble {
    vt_status status;
    char text[384];
} trouble;

VT_PRINTF(3, 4)
static bool blame(trouble *t, vt_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(t->text, sizeof t->text, format, args);
    va_end(args);
    t->status = status;
    return false;
}

/* Finds the storage's bytes in the zip or the legacy file. */
static bool locate(const vt_storage_source *source, const vt_storage_id *id, vt_stored *r,
                   trouble *t)
{
    vt_shown key = vt_show(id->key.at, id->key.length);
    if (!vt_mul_u64((uint64_t)id->numel, id->type->item, &r->bytes)) {
        return blame(t, VT_ERR_FORMAT, "its storage '%s' is too large", key.text);
    }
    if (source->zip) {
        char name[4 * MAX_KEY];
        int length = snprintf(name, sizeof name, "%s/data/%.*s", source->prefix,
                              (int)id->key.length, id->key.at);
        const vt_zip_entry *entry =
            length > 0 && (size_t)length < sizeof name ? vt_zip_find(source->zip, name) : NULL;
        if (!entry) {
            return blame(t, VT_ERR_FORMAT, "its storage '%s' is missing", key.text);
        }
        if (entry->size != r->bytes) {
            return blame(t, VT_ERR_FORMAT,
                         "its storage '%s' has %llu bytes, not the %llu that "
                         "are claimed",
                         key.text, (unsigned long long)entry->size, (unsigned long long)r->bytes);
        }
        r->position = entry->position;
        r->swap = source->swap;
        return id->view ? blame(t, VT_ERR_FORMAT, "its storage '%s' is a view", key.text) : true;
    }
    size_t low = 0, high = source->place_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = vt_storage_compare_keys(id->key, source->places[middle].id.key);
        if (order == 0) {
            low = high = middle;
            break;
        }
        low = order > 0 ? middle + 1 : low;
        high = order < 0 ? middle : high;
    }
    const vt_storage_place *place = low < source->place_count ? &source->places[low] : NULL;
    if (!place || vt_storage_compare_keys(id->key, place->id.key) != 0 || !place->placed) {
        return blame(t, VT_ERR_FORMAT, "its storage '%s' is missing", key.text);
    }
    r->position = place->position;
    if (id->view) {
        int64_t offset, numel, end;
        if (!get_integer(vt_pickle_item(id->view, 1), &offset) || offset < 0 ||
            !get_integer(vt_pickle_item(id->view, 2), &numel) || numel < 0 ||
            !vt_add_i64(offset, numel, &end) || end > id->numel) {
            return blame(t, VT_ERR_FORMAT, "its view of storage '%s' is out of bounds", key.text);
        }
        r->position += (uint64_t)offset * id->type->item;
        r->bytes = (uint64_t)numel * id->type->item;
    }
    return true;
}

/* A tuple or list, or torch.Size of one. */
static const vt_pickle_value *as_sequence(const vt_pickle_value *value)
{
    if (vt_pickle_is(value, VT_PICKLE_OBJECT) &&
        vt_pickle_is_global(value->object.callable, "torch", "Size")) {
        value = vt_pickle_item(value->object.args, 0);
    }
    bool good = vt_pickle_is(value, VT_PICKLE_TUPLE) || vt_pickle_is(value, VT_PICKLE_LIST);
    return good ? value : NULL;
}

static bool read_shape(const vt_pickle_value *args, vt_stored *r, trouble *t)
{
    const vt_pickle_value *sizes = as_sequence(vt_pickle_item(args, 2));
    const vt_pickle_value *strides = as_sequence(vt_pickle_item(args, 3));
    if (!get_integer(vt_pickle_item(args, 1), &r->offset) || r->offset < 0) {
        return blame(t, VT_ERR_FORMAT, "its offset is not a whole number");
    }
    if (!sizes || !strides || sizes->items.count != strides->items.count) {
        return blame(t, VT_ERR_FORMAT, "its shape and strides do not fit each other");
    }
    if (sizes->items.count > VT_CHECKPOINT_MAX_RANK) {
        return blame(t, VT_ERR_LIMIT, "it has %zu dimensions, more than %d", sizes->items.count,
                     VT_CHECKPOINT_MAX_RANK);
    }
    int64_t product = 1;
    bool empty = false;
    for (size_t d = 0; d < sizes->items.count; d++) {
        if (!get_integer(sizes->items.at[d], &r->entry.shape[d]) || r->entry.shape[d] < 0 ||
            !get_integer(strides->items.at[d], &r->stride[d]) || r->stride[d] < 0) {
            return blame(t, VT_ERR_FORMAT, "its shape or strides are negative or not numbers");
        }
        empty = empty || r->entry.shape[d] == 0;
    }
    for (size_t d = 0; d < sizes->items.count && !empty; d++) {
        if (!vt_mul_i64(product, r->entry.shape[d], &product)) {
            return blame(t, VT_ERR_FORMAT, "its shape has too many elements");
        }
    }
    r->entry.rank = (int)sizes->items.count;
    r->entry.elements = empty ? 0 : product;
    return true;
}

/* Every element lies inside the storage, and there are not absurdly more of them than the storage
 * has: a view that repeats elements could claim any number. */
static bool check_bounds(const vt_storage_source *source, const vt_stored *r, unsigned item,
                         trouble *t)
{
    int64_t last = r->offset, reach, stored = (int64_t)(r->bytes / item);
    if (r->entry.elements == 0) {
        return true;
    }
    for (int d = 0; d < r->entry.rank; d++) {
        if (!vt_mul_i64(r->entry.shape[d] - 1, r->stride[d], &reach) ||
            !vt_add_i64(last, reach, &last)) {
            return blame(t, VT_ERR_FORMAT, "its strides are too large");
        }
    }
    if (last >= stored) {
        return blame(t, VT_ERR_FORMAT, "its last element is number %lld of a storage of %lld",
                     (long long)last, (long long)stored);
    }
    uint64_t allowed = source->checkpoint->files[source->file].size;
    allowed = allowed > MAX_EXPANDED ? allowed : MAX_EXPANDED;
    if (r->entry.elements > stored && (uint64_t)r->entry.elements > allowed) {
        return blame(t, VT_ERR_LIMIT, "it expands %lld stored elements to %lld", (long long)stored,
                     (long long)r->entry.elements);
    }
    return true;
}

static bool read_dtype(const rebuild *call, const vt_storage_type *type, vt_stored *r,
                       unsigned *item, trouble *t)
{
    r->entry.dtype = type->dtype;
    *item = type->item;
    if (type->quantised) {
        return blame(t, VT_ERR_FORMAT, "its storage is quantised");
    }
    bool named = vt_pickle_text_is(call->name, "_rebuild_tensor_v3");
    if (!named && !type->untyped) {
        return true;
    }
    const vt_pickle_value *dtype = named ? vt_pickle_item(call->args, 6) : NULL;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (vt_pickle_is_global(dtype, "torch", dtypes[i].name)) {
            r->entry.dtype = dtypes[i].dtype;
            *item = dtypes[i].item;
            return true;
        }
    }
    return blame(t, VT_ERR_FORMAT, "its element type is not known");
}

static bool fill_record(const vt_storage_source *source, const rebuild *call, vt_stored *r,
                        trouble *t)
{
    vt_storage_id id;
    unsigned item;
    if (!vt_pickle_text_is(call->name, "_rebuild_tensor_v2") &&
        !vt_pickle_text_is(call->name, "_rebuild_tensor_v3") &&
        !vt_pickle_text_is(call->name, "_rebuild_tensor")) {
        return blame(t, VT_ERR_FORMAT, "it is not a plain dense tensor (torch._utils.%s)",
                     vt_show(call->name.at, call->name.length).text);
    }
    const char *why = vt_storage_id_read(vt_pickle_item(call->args, 0), &id);
    if (why) {
        return blame(t, VT_ERR_FORMAT, "%s", why);
    }
    return read_dtype(call, id.type, r, &item, t) && read_shape(call->args, r, t) &&
           locate(source, &id, r, t) && check_bounds(source, r, item, t);
}

vt_status vt_torch_add_tensor(const vt_storage_source *source, vt_pickle_text name,
                              const vt_pickle_value *value, vt_error *error)
{
    rebuild call = {0};
    trouble t = {0};
    vt_stored *record;
    vt_status status =
        vt_checkpoint_add_record(source->checkpoint, name.at, name.length, &record, error);
    if (status != VT_OK) {
        return status;
    }
    record->file = source->file;
    find_rebuild(value, &call);
    if (fill_record(source, &call, record, &t)) {
        return VT_OK;
    }
    return vt_stored_refuse(source->checkpoint, record, t.status, error, "%s", t.text);
}
