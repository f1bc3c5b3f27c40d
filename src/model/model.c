/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"

#include <string.h>

#include "core/checked.h"
#include "core/context.h"
#include "model/source.h"

vt_model_settings vt_model_settings_default(void)
{
    return (vt_model_settings){.dtype = VT_F32, .checkpoint = vt_checkpoint_settings_default()};
}

/* ---- reading parameters into the device's form ----------------------------------------------- */

/* Where one slot's rows come from while it is packed. Exactly one of renamed, values is used;
 * neither means the golden rule. */
typedef struct slot_reader {
    const vt_allocator *allocator;
    const vt_renamed *renamed;
    const vt_slot *slot;
    const float *values; /* a derived parameter, ready */
} slot_reader;

static vt_status read_canonical(const slot_reader *r, int64_t first, int64_t count, float *out,
                                vt_error *error)
{
    if (r->renamed) {
        return vt_renamed_read(r->renamed, r->slot, first, count, out, error);
    }
    vt_golden_read(r->slot, first, count, out);
    return VT_OK;
}

/* vt_row_source.read */
static vt_status read_rows(void *user, int64_t first, int64_t count, float *out, vt_error *error)
{
    const slot_reader *r = user;
    int64_t cols = r->slot->cols;
    if (r->values) {
        memcpy(out, r->values + first * cols, (size_t)(count * cols) * sizeof *out);
        return VT_OK;
    }
    if (!r->slot->columns) {
        return read_canonical(r, first * cols, count * cols, out, error);
    }
    float *row = vt_alloc(r->allocator, (size_t)cols * sizeof *row);
    vt_status status = row ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    for (int64_t i = 0; status == VT_OK && i < count; i++) {
        status = read_canonical(r, (first + i) * cols, cols, row, error);
        for (int64_t j = 0; status == VT_OK && j < cols; j++) {
            out[i * cols + j] = row[r->slot->columns[j]];
        }
    }
    vt_free(r->allocator, row);
    return status;
}

/* Loads the sources of a derived slot and computes it; *out is the caller's to free. */
static vt_status derive(const slot_reader *base, const vt_binder *binder, float **out,
                        vt_error *error)
{
    const vt_slot *slot = base->slot;
    vt_source_array arrays[VT_MAX_DERIVE_SOURCES] = {{0}};
    float *blocks[VT_MAX_DERIVE_SOURCES] = {0};
    vt_status status = VT_OK;
    *out = NULL;
    for (int i = 0; status == VT_OK && i < slot->source_count; i++) {
        vt_slot s = binder->slots[slot->sources[i].id];
        s = base->renamed ? vt_renamed_slot(base->renamed, &s) : s;
        slot_reader reader = {base->allocator, base->renamed, &s, NULL};
        size_t elements;
        blocks[i] = vt_mul_size((size_t)s.rows, (size_t)s.cols, &elements)
                        ? vt_alloc_zero(base->allocator, elements, sizeof(float))
                        : NULL;
        arrays[i] = (vt_source_array){.data = blocks[i], .rows = s.rows, .cols = s.cols};
        memcpy(arrays[i].shape, s.shape, sizeof s.shape);
        status = blocks[i] ? read_rows(&reader, 0, s.rows, blocks[i], error)
                           : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    if (status == VT_OK) {
        *out = vt_alloc_zero(base->allocator, (size_t)(slot->rows * slot->cols), sizeof(float));
        status = *out ? slot->derive(slot->user, arrays, slot->source_count, slot->rows, slot->cols,
                                     *out, error)
                      : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    for (int i = 0; i < slot->source_count; i++) {
        vt_free(base->allocator, blocks[i]);
    }
    return status;
}

static vt_status load_slot(vt_model *m, const vt_renamed *renamed, size_t i, vt_error *error)
{
    const vt_allocator *allocator = vt_context_allocator(m->context);
    const vt_backend *backend = vt_context_backend(m->context);
    const vt_slot *slot = &m->binder.slots[i];
    bool matrix = slot->role == VT_WEIGHT_MATRIX;
    slot_reader reader = {allocator, renamed, slot, NULL};
    vt_row_source source = {read_rows, &reader};
    vt_weight_data *w = &m->weights[i];
    float *values = NULL;
    vt_status status = VT_OK;
    if (slot->derive) {
        status = derive(&reader, &m->binder, &values, error);
        reader.values = values;
    }
    if (status == VT_OK) {
        *w = (vt_weight_data){
            .rows = slot->rows, .cols = slot->cols, .dtype = matrix ? m->dtype : VT_F32};
        status = backend->pack(backend, allocator, matrix ? VT_USE_MATRIX : VT_USE_VECTOR, &source,
                               w, error);
        m->bytes += status == VT_OK ? w->bytes : 0;
    }
    vt_free(allocator, values);
    return status == VT_OK ? VT_OK : vt_error_wrap(error, status, "%s", slot->name);
}

static vt_status load_slots(vt_model *m, const vt_renamed *renamed, vt_error *error)
{
    for (size_t i = 1; i < m->binder.slot_count; i++) {
        if (!vt_progress(m->context, "loading weights", i, m->binder.slot_count)) {
            return vt_error_set(error, VT_ERR_CANCELLED, "cancelled");
        }
        vt_status status = VT_OK;
        if (m->binder.slots[i].role != VT_WEIGHT_SOURCE) {
            status = load_slot(m, renamed, i, error);
        }
        if (status != VT_OK) {
            return status;
        }
    }
    return VT_OK;
}

/* ---- building the network -------------------------------------------------------------------- */

static vt_status bind_network(vt_model *m, const vt_renamed *renamed,
                              const vt_model_settings *settings, vt_error *error)
{
    const vt_allocator *allocator = vt_context_allocator(m->context);
    const vt_preprocess *native = &m->variant->preprocess;
    const vt_dialect none = {0}, *dialect = renamed ? renamed->dialect : &none;
    vt_bind_settings s = {
        .classes = m->classes,
        .image_height = settings->image_height ? settings->image_height : native->height,
        .image_width = settings->image_width ? settings->image_width : native->width,
        .window_rule = settings->window_rule ? settings->window_rule : dialect->window_rule,
        .norm_eps = settings->norm_eps > 0 ? settings->norm_eps : dialect->norm_eps};
    if (s.window_rule == VT_WINDOW_AUTO) {
        s.window_rule = VT_WINDOW_PAD;
    }
    m->network = vt_alloc_zero(allocator, 1, m->family->network_size);
    if (!m->network || vt_binder_init(&m->binder, allocator) != VT_OK) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the network");
    }
    if (renamed) {
        m->binder.has = vt_renamed_has;
        m->binder.has_user = renamed;
    }
    m->family->bind(&m->binder, m->variant, &s, m->network);
    m->binder.has = NULL;
    if (m->binder.status != VT_OK) {
        return vt_error_set(error, m->binder.status, "%s", m->binder.error.message);
    }
    size_t count = m->binder.slot_count;
    m->shapes = vt_alloc_zero(allocator, count, sizeof *m->shapes);
    m->weights = vt_alloc_zero(allocator, count, sizeof *m->weights);
    if (!m->shapes || !m->weights) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the network");
    }
    for (size_t i = 0; i < count; i++) {
        const vt_slot *slot = &m->binder.slots[i];
        m->shapes[i] = (vt_weight_shape){slot->name, slot->rows, slot->cols};
    }
    return VT_OK;
}

static vt_status create(vt_model **model, vt_context *context, const char *name,
                        const vt_model_settings *settings, vt_error *error)
{
    const vt_allocator *allocator = vt_context_allocator(context);
    const vt_family *family;
    const vt_variant *variant = vt_variant_find(context, name, &family);
    if (!variant) {
        return vt_error_set(error, VT_ERR_NOT_FOUND,
                            "there is no model '%s' (the info program lists them)", name);
    }
    const vt_backend *backend = vt_context_backend(context);
    const char *why = backend->refuse_dtype ? backend->refuse_dtype(settings->dtype) : NULL;
    if (why) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "dtype %s: %s",
                            vt_dtype_name(settings->dtype), why);
    }
    if (settings->image_height < 0 || settings->image_width < 0) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "image size %dx%d", settings->image_width,
                            settings->image_height);
    }
    vt_model *m = vt_alloc_zero(allocator, 1, sizeof *m);
    if (!m) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the model");
    }
    m->context = context;
    m->variant = variant;
    m->family = family;
    m->dialect = "golden";
    m->dtype = settings->dtype;
    m->f32_residual = settings->f32_residual;
    m->pool = (vt_pool){.allocator = allocator};
    *model = m;
    return VT_OK;
}

/* Newline-separated class names, when there is one for each class. */
static vt_status take_labels(vt_model *m, const char *text, vt_error *error)
{
    int count = 0;
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        count++;
    }
    if (count == 0 || count != m->classes) {
        return VT_OK;
    }
    m->labels = vt_pool_alloc(&m->pool, (size_t)count * sizeof *m->labels);
    for (int i = 0; m->labels && i < count; i++) {
        size_t length = strcspn(text, "\n");
        m->labels[i] = vt_pool_strndup(&m->pool, text, length);
        text += length + (text[length] == '\n');
        m->label_count = m->labels[i] ? i + 1 : 0;
        if (!m->labels[i]) {
            m->labels = NULL;
        }
    }
    return m->labels ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "out of memory for labels");
}

/* Says once that the file was made for other windows. */
static void log_resized(const vt_model *m, const vt_renamed *renamed)
{
    int resized = 0;
    for (size_t i = 1; i < m->binder.slot_count; i++) {
        const vt_slot *s = &m->binder.slots[i];
        vt_slot file = vt_renamed_slot(renamed, s);
        resized += memcmp(file.shape, s->shape, sizeof file.shape) != 0;
    }
    if (resized) {
        vt_log(m->context, VT_LOG_WARNING,
               "%d position tables of the file belong to other windows and are resized", resized);
    }
}

static vt_status fill_from_checkpoint(vt_model *m, const vt_checkpoint *checkpoint,
                                      const vt_model_settings *settings, vt_error *error)
{
    const vt_allocator *allocator = vt_context_allocator(m->context);
    vt_renamed renamed = {0};
    size_t unused = 0;
    vt_status status = vt_renamed_init(&renamed, allocator, checkpoint, m->family, error);
    if (status == VT_OK) {
        int64_t classes = vt_renamed_rows(&renamed, m->family->head);
        m->classes = classes > 0 && classes < INT32_MAX ? (int)classes : 0;
        m->dialect = renamed.dialect->name;
        status = bind_network(m, &renamed, settings, error);
    }
    if (status == VT_OK) {
        status = vt_renamed_check(&renamed, &m->binder, &unused, error);
    }
    if (status == VT_OK && unused) {
        vt_log(m->context, VT_LOG_WARNING, "%zu tensors of the file belong to no parameter of %s",
               unused, m->variant->name);
    }
    if (status == VT_OK) {
        log_resized(m, &renamed);
        status = load_slots(m, &renamed, error);
    }
    if (status == VT_OK) {
        const char *labels = vt_checkpoint_metadata(checkpoint, "vertebra.labels");
        labels = labels ? labels : vt_checkpoint_metadata(checkpoint, "classes");
        status = take_labels(m, labels, error);
    }
    vt_renamed_clear(&renamed);
    return status;
}

vt_status vt_model_load(vt_model **model, vt_context *context, const char *name, const char *path,
                        const vt_model_settings *settings, vt_error *error)
{
    if (!model || !context || !path) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_model_load: an argument is NULL");
    }
    *model = NULL;
    vt_model_settings s = settings ? *settings : vt_model_settings_default();
    vt_checkpoint *checkpoint = NULL;
    vt_status status = vt_checkpoint_open(&checkpoint, context, path, &s.checkpoint, error);
    if (status != VT_OK) {
        return status;
    }
    if (!name) {
        name = vt_checkpoint_metadata(checkpoint, "vertebra.model");
    }
    status = name ? create(model, context, name, &s, error)
                  : vt_error_set(error, VT_ERR_ARGUMENT,
                                 "%s does not say which model it is for: name one", path);
    if (status == VT_OK) {
        status = fill_from_checkpoint(*model, checkpoint, &s, error);
        if (status != VT_OK) {
            vt_error_wrap(error, status, "%s: %s", path, (*model)->variant->name);
            vt_model_destroy(model);
        }
    }
    vt_checkpoint_close(&checkpoint);
    return status;
}

vt_status vt_model_golden(vt_model **model, vt_context *context, const char *name, int classes,
                          const vt_model_settings *settings, vt_error *error)
{
    if (!model || !context || !name || classes < 0) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_model_golden: bad argument");
    }
    *model = NULL;
    vt_model_settings s = settings ? *settings : vt_model_settings_default();
    vt_status status = create(model, context, name, &s, error);
    if (status != VT_OK) {
        return status;
    }
    (*model)->classes = classes ? classes : (*model)->variant->classes;
    status = bind_network(*model, NULL, &s, error);
    if (status == VT_OK) {
        status = load_slots(*model, NULL, error);
    }
    if (status != VT_OK) {
        vt_error_wrap(error, status, "%s", (*model)->variant->name);
        vt_model_destroy(model);
    }
    return status;
}

void vt_model_destroy(vt_model **model)
{
    if (!model || !*model) {
        return;
    }
    vt_model *m = *model;
    const vt_allocator *allocator = vt_context_allocator(m->context);
    for (size_t i = 0; m->weights && i < m->binder.slot_count; i++) {
        vt_backend_release(vt_context_backend(m->context), allocator, m->weights[i].data);
    }
    vt_free(allocator, m->weights);
    vt_free(allocator, m->shapes);
    vt_free(allocator, m->network);
    vt_binder_clear(&m->binder);
    vt_pool_clear(&m->pool);
    vt_free(allocator, m);
    *model = NULL;
}

void vt_golden_picture(int64_t n, int64_t h, int64_t w, float *out)
{
    vt_golden_input(0, n * 3 * h * w, out);
}

/* ---- what it is ------------------------------------------------------------------------------ */

const vt_variant *vt_model_variant(const vt_model *m)
{
    return m->variant;
}

const vt_family *vt_model_family(const vt_model *m)
{
    return m->family;
}

vt_dtype vt_model_dtype(const vt_model *m)
{
    return m->dtype;
}

int vt_model_classes(const vt_model *m)
{
    return m->classes;
}

const char *vt_model_dialect(const vt_model *m)
{
    return m->dialect;
}

const char *vt_model_label(const vt_model *m, int i)
{
    return i >= 0 && i < m->label_count ? m->labels[i] : NULL;
}

const vt_preprocess *vt_model_preprocess(const vt_model *m)
{
    return &m->variant->preprocess;
}

int64_t vt_model_parameters(const vt_model *m)
{
    int64_t count = 0;
    for (size_t i = 1; i < m->binder.slot_count; i++) {
        const vt_slot *slot = &m->binder.slots[i];
        count += slot->derive ? 0 : slot->rows * slot->cols;
    }
    return count;
}

size_t vt_model_bytes(const vt_model *m)
{
    return m->bytes;
}

bool vt_model_parameter(const vt_model *m, size_t i, const char **name, int *rank,
                        const int64_t **shape)
{
    for (size_t k = 1; k < m->binder.slot_count; k++) {
        const vt_slot *slot = &m->binder.slots[k];
        if (!slot->derive && i-- == 0) {
            *name = slot->name;
            *rank = slot->rank;
            *shape = slot->shape;
            return true;
        }
    }
    return false;
}
