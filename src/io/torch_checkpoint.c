/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch checkpoints: where the weights are inside the saved object, and the zip form.
 *
 *   NAME/data.pkl       the object, with storages left out (see unpickle.h, torch_tensor.c)
 *   NAME/data/0, 1 ...  one record per storage: its bytes
 *   NAME/version        "3"
 *   NAME/byteorder      "little" or "big"; little where absent
 *
 * NAME is whatever the author called the file; it has nothing to do with its name now.
 */
#include "io/torch_checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "core/checked.h"

enum { MAX_PREFIX = 512, MAX_KEYS_SHOWN = 8, MAX_CLASSES = 1 << 16 };

#define POOL_MOST ((size_t)1 << 30)

vt_pool vt_torch_pool(const vt_checkpoint *checkpoint, uint64_t pickle_size)
{
    /* An empty list costs a byte in the pickle and 64 here, a tuple of one a byte and 80. */
    uint64_t limit = pickle_size * 128 + (4 << 20);
    return (vt_pool){.allocator = checkpoint->allocator,
                     .limit = limit < POOL_MOST ? (size_t)limit : POOL_MOST};
}

/* ---- finding the weights --------------------------------------------------------------------- */
static const char *const ema_names[] = {"state_dict_ema", "model_ema", "ema"};
static const char *const plain_names[] = {"state_dict", "model_state_dict", "model", "module",
                                          "net",        "teacher"};

typedef struct found {
    const vt_pickle_value *dict;
    char path[64];
} found;

static const vt_pickle_value *get(const vt_pickle_value *dict, const char *key)
{
    return vt_pickle_get(dict, key, strlen(key));
}

/* Whether a dictionary holds tensors under text keys: mostly, or at least one. */
static bool holds_tensors(const vt_pickle_value *dict, bool mostly)
{
    const vt_pickle_items *pairs = vt_pickle_pairs(dict);
    size_t tensors = 0;
    for (size_t i = 0; pairs && i + 1 < pairs->count; i += 2) {
        tensors += pairs->at[i]->kind == VT_PICKLE_STRING && vt_torch_is_tensor(pairs->at[i + 1]);
    }
    return tensors > 0 && (!mostly || tensors * 2 >= pairs->count / 2);
}

/* Looks under the names in turn, and under the plain names inside each of them. */
static bool find_under(const vt_pickle_value *dict, const char *const *names, size_t count,
                       bool mostly, found *f)
{
    for (size_t i = 0; i < count; i++) {
        const vt_pickle_value *value = get(dict, names[i]);
        if (holds_tensors(value, mostly)) {
            f->dict = value;
            snprintf(f->path, sizeof f->path, "%s", names[i]);
            return true;
        }
        for (size_t j = 0; j < sizeof plain_names / sizeof *plain_names; j++) {
            const vt_pickle_value *inner = get(value, plain_names[j]);
            if (holds_tensors(inner, mostly)) {
                f->dict = inner;
                snprintf(f->path, sizeof f->path, "%s.%s", names[i], plain_names[j]);
                return true;
            }
        }
    }
    return false;
}

static bool find_plain(const vt_pickle_value *top, bool mostly, found *f)
{
    if (find_under(top, plain_names, sizeof plain_names / sizeof *plain_names, mostly, f)) {
        return true;
    }
    f->dict = top;
    f->path[0] = '\0';
    return holds_tensors(top, mostly);
}

/* A path of keys joined by dots; keys may hold dots themselves, so the longest fit is taken. */
static const vt_pickle_value *find_path(const vt_pickle_value *top, const char *path)
{
    while (top && *path) {
        size_t length = strlen(path);
        const vt_pickle_value *next = vt_pickle_get(top, path, length);
        while (!next && length > 0) {
            length--;
            if (path[length] == '.') {
                next = vt_pickle_get(top, path, length);
            }
        }
        top = next;
        path += length;
        if (*path == '.' && *++path == '\0') {
            return NULL; /* nothing behind the last dot */
        }
    }
    return top;
}

/* Says what the file holds instead of weights. */
static vt_status no_weights(const vt_pickle_value *top, vt_error *error)
{
    char what[400], keys[640] = "";
    const vt_pickle_items *pairs = vt_pickle_pairs(top);
    vt_pickle_describe(top, what, sizeof what);
    if (!pairs) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "the file holds %s, not a dictionary of "
                            "tensors: save the model's state_dict() instead",
                            what);
    }
    size_t used = 0;
    for (size_t i = 0; i + 1 < pairs->count && i / 2 < MAX_KEYS_SHOWN; i += 2) {
        const vt_pickle_value *key = pairs->at[i];
        vt_pickle_describe(pairs->at[i + 1], what, sizeof what);
        if (key->kind == VT_PICKLE_STRING && used < sizeof keys) {
            int n =
                snprintf(keys + used, sizeof keys - used, "%s'%.40s' (%.60s)", used > 0 ? ", " : "",
                         vt_show(key->text.at, key->text.length).text, what);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    return vt_error_set(error, VT_ERR_FORMAT, "no dictionary of tensors found; its keys are: %s",
                        keys);
}

static vt_status find_weights(vt_checkpoint *cp, const vt_pickle_value *top, found *f,
                              vt_error *error)
{
    const char *root = cp->settings.root;
    if (root) {
        f->dict = find_path(top, root);
        if (!holds_tensors(f->dict, false)) {
            return vt_error_set(error, VT_ERR_NOT_FOUND, "%s '%s' that holds tensors",
                                "there is no dictionary", root);
        }
        cp->root = vt_pool_strndup(&cp->pool, root, strlen(root));
        return cp->root ? VT_OK : vt_out_of_memory(error);
    }
    size_t emas = sizeof ema_names / sizeof *ema_names;
    bool hit = cp->settings.ema ? find_under(top, ema_names, emas, true, f) ||
                                      find_under(top, ema_names, emas, false, f)
                                : find_plain(top, true, f) || find_plain(top, false, f);
    if (!hit && cp->settings.ema && vt_pickle_pairs(top)) {
        return vt_error_set(error, VT_ERR_NOT_FOUND,
                            "the file has no moving average of the "
                            "weights (state_dict_ema, model_ema or ema)");
    }
    if (!hit) {
        return no_weights(top, error);
    }
    cp->root = vt_pool_strndup(&cp->pool, f->path, strlen(f->path));
    return cp->root ? VT_OK : vt_out_of_memory(error);
}

/* ---- class names ----------------------------------------------------------------------------- */
/* meta.CLASSES (mmcv 1.x) or meta.dataset_meta.classes (mmengine), joined by newlines. */
static vt_status add_classes(vt_checkpoint *cp, const vt_pickle_value *top, vt_error *error)
{
    const vt_pickle_value *meta = get(top, "meta"), *data = get(meta, "dataset_meta");
    const vt_pickle_value *const places[] = {get(meta, "CLASSES"), get(meta, "classes"),
                                             get(data, "classes"), get(data, "CLASSES")};
    const vt_pickle_value *classes = NULL;
    for (size_t i = 0; i < 4 && !classes; i++) {
        classes = vt_pickle_item(places[i], 0) ? places[i] : NULL;
    }
    size_t size = 1;
    const vt_pickle_value *name;
    for (size_t i = 0; (name = vt_pickle_item(classes, i)) != NULL; i++) {
        if (name->kind != VT_PICKLE_STRING || i == MAX_CLASSES ||
            !vt_add_size(size, name->text.length + 1, &size)) {
            return VT_OK; /* something else than names: not worth failing */
        }
    }
    if (size == 1) {
        return VT_OK;
    }
    char *text = vt_alloc(cp->allocator, size);
    if (!text) {
        return vt_out_of_memory(error);
    }
    char *at = text;
    for (size_t i = 0; (name = vt_pickle_item(classes, i)) != NULL; i++) {
        for (size_t k = 0; k < name->text.length; k++) {
            char c = name->text.at[k];
            *at++ = c == '\n' || c == '\0' ? ' ' : c;
        }
        *at++ = '\n';
    }
    at[-1] = '\0';
    vt_status status = vt_checkpoint_add_metadata(cp, "classes", text, error);
    vt_free(cp->allocator, text);
    return status;
}

vt_status vt_torch_collect(const vt_storage_source *source, const vt_pickle_value *top,
                           vt_error *error)
{
    found f;
    vt_status status = find_weights(source->checkpoint, top, &f, error);
    if (status != VT_OK) {
        return status;
    }
    const vt_pickle_items *pairs = vt_pickle_pairs(f.dict);
    for (size_t i = 0; i + 1 < pairs->count; i += 2) {
        if (pairs->at[i]->kind == VT_PICKLE_STRING && vt_torch_is_tensor(pairs->at[i + 1])) {
            status = vt_torch_add_tensor(source, pairs->at[i]->text, pairs->at[i + 1], error);
            if (status != VT_OK) {
                return status;
            }
        }
    }
    return add_classes(source->checkpoint, top, error);
}

/* ---- the zip form ---------------------------------------------------------------------------- */
/* The record PREFIX/NAME, or NULL. */
static const vt_zip_entry *find_record(const vt_storage_source *source, const char *name)
{
    char full[MAX_PREFIX + 32];
    snprintf(full, sizeof full, "%s/%s", source->prefix, name);
    return vt_zip_find(source->zip, full);
}

/* A short record of text, such as "3\n"; "" where there is none. */
static vt_status read_text(const vt_storage_source *source, const char *name, char out[16],
                           vt_error *error)
{
    const vt_zip_entry *entry = find_record(source, name);
    memset(out, 0, 16);
    if (!entry) {
        return VT_OK;
    }
    if (entry->size == 0 || entry->size > 15) {
        return vt_error_set(error, VT_ERR_FORMAT, "the record '%s' is damaged", name);
    }
    vt_status status =
        vt_file_read(source->zip->file, entry->position, out, (size_t)entry->size, error);
    out[strcspn(out, "\r\n ")] = '\0';
    return status;
}

static vt_status check_records(vt_storage_source *source, vt_error *error)
{
    const vt_zip *zip = source->zip;
    if (find_record(source, "constants.pkl")) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "a TorchScript archive is not supported: "
                            "save the model's state_dict() instead");
    }
    if (!find_record(source, "data.pkl")) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "a zip archive without a data.pkl: not a "
                            "PyTorch checkpoint");
    }
    for (size_t i = 0; i < zip->count; i++) {
        if (zip->entries[i].method != 0) {
            const char *name = zip->entries[i].name;
            return vt_error_set(error, VT_ERR_UNSUPPORTED,
                                "zip: '%s' is compressed (method %u); "
                                "PyTorch stores its records",
                                vt_show(name, strlen(name)).text, zip->entries[i].method);
        }
    }
    char version[16], order[16];
    vt_status status = read_text(source, "version", version, error);
    if (status == VT_OK) {
        status = read_text(source, "byteorder", order, error);
    }
    if (status != VT_OK) {
        return status;
    }
    bool known = *version == '\0' || strcmp(version, "10") == 0 ||
                 (version[0] >= '1' && version[0] <= '9' && version[1] == '\0');
    if (!known) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "PyTorch file version '%s': 1 to 10 are "
                            "supported",
                            vt_show(version, strlen(version)).text);
    }
    source->swap = strcmp(order, "big") == 0;
    if (*order && !source->swap && strcmp(order, "little") != 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "byte order '%s' is not known",
                            vt_show(order, strlen(order)).text);
    }
    return VT_OK;
}

static vt_status read_object(const vt_storage_source *source, vt_error *error)
{
    vt_checkpoint *cp = source->checkpoint;
    const vt_zip_entry *entry = find_record(source, "data.pkl");
    if (entry->size > VT_TORCH_MAX_PICKLE) {
        return vt_error_set(error, VT_ERR_LIMIT, "data.pkl has %llu bytes: the limit is %llu",
                            (unsigned long long)entry->size,
                            (unsigned long long)VT_TORCH_MAX_PICKLE);
    }
    unsigned char *bytes = vt_alloc(cp->allocator, (size_t)entry->size);
    if (!bytes) {
        return vt_out_of_memory(error);
    }
    vt_pool pool = vt_torch_pool(cp, entry->size);
    vt_pickle pickle;
    vt_status status =
        vt_file_read(source->zip->file, entry->position, bytes, (size_t)entry->size, error);
    if (status == VT_OK) {
        status = vt_unpickle(&pickle, &pool, cp->context, bytes, (size_t)entry->size, error);
    }
    if (status == VT_OK) {
        status = vt_torch_collect(source, pickle.root, error);
    }
    vt_pool_clear(&pool);
    vt_free(cp->allocator, bytes);
    return status;
}

vt_status vt_torch_zip_parse(vt_checkpoint *cp, size_t file, vt_error *error)
{
    vt_zip zip;
    vt_status status = vt_zip_open(&zip, cp->allocator, &cp->files[file], error);
    char prefix[MAX_PREFIX];
    vt_storage_source source = {.checkpoint = cp, .file = file, .zip = &zip, .prefix = prefix};
    if (status == VT_OK) {
        const char *slash = strchr(zip.first_name, '/');
        size_t length = slash ? (size_t)(slash - zip.first_name) : 0;
        if (!slash || length >= sizeof prefix) {
            status = vt_error_set(error, VT_ERR_FORMAT,
                                  "a zip archive whose records are in no "
                                  "folder: not a PyTorch checkpoint");
        } else {
            memcpy(prefix, zip.first_name, length);
            prefix[length] = '\0';
            status = check_records(&source, error);
        }
    }
    if (status == VT_OK && cp->settings.verify) {
        status = vt_zip_verify(&zip, cp->context, error);
    }
    if (status == VT_OK) {
        status = read_object(&source, error);
    }
    vt_zip_clear(&zip);
    return status;
}
