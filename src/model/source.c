/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint seen through a dialect: keys renamed, slices put together, shapes compared. */
#include "model/source.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CAPTURES = 8, MAX_KEY = 512, LISTED = 4 };

/* ---- patterns -------------------------------------------------------------------------------- */

typedef struct capture {
    const char *start;
    size_t length;
} capture;

typedef struct captures {
    capture numbers[MAX_CAPTURES], texts[MAX_CAPTURES];
    int number_count, text_count;
} captures;

/* Recursion depth is the number of wildcards, at most MAX_CAPTURES of each kind. */
static bool match(const char *pattern, const char *text, captures *found)
{
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            const char *start = text;
            while (isdigit((unsigned char)*text)) {
                text++;
            }
            if (text == start || found->number_count == MAX_CAPTURES) {
                return false;
            }
            found->numbers[found->number_count++] = (capture){start, (size_t)(text - start)};
        } else if (*pattern == '*') {
            captures before = *found;
            for (size_t n = 0; found->text_count < MAX_CAPTURES; n++) {
                *found = before;
                found->texts[found->text_count++] = (capture){text, n};
                if (match(pattern + 1, text + n, found)) {
                    return true;
                }
                if (!text[n]) {
                    return false;
                }
            }
            return false;
        } else if (*pattern != *text++) {
            return false;
        }
    }
    return *text == '\0';
}

/* Appends to out; false when it does not fit. */
static bool put(char *out, size_t size, size_t *used, const char *text, size_t length)
{
    if (length >= size - *used) {
        return false;
    }
    memcpy(out + *used, text, length);
    *used += length;
    out[*used] = '\0';
    return true;
}

bool vt_rename_apply(const char *from, const char *to, const char *text, char *out, size_t size)
{
    captures found = {.number_count = 0};
    if (!match(from, text, &found)) {
        return false;
    }
    size_t used = 0;
    int number = 0, any = 0;
    for (const char *p = to; p && *p; p++) {
        char digits[24];
        capture piece = {p, 1};
        if (*p == '#' && number < found.number_count) {
            piece = found.numbers[number++];
            unsigned long value = 0;
            for (size_t i = 0; i < piece.length && i < 9; i++) {
                value = value * 10 + (unsigned long)(piece.start[i] - '0');
            }
            if (strncmp(p, "#+1", 3) == 0 || strncmp(p, "#/2", 3) == 0) {
                value = p[1] == '+' ? value + 1 : value / 2;
                p += 2;
            }
            piece = (capture){digits, (size_t)snprintf(digits, sizeof digits, "%lu", value)};
        } else if (*p == '*' && any < found.text_count) {
            piece = found.texts[any++];
        }
        if (!put(out, size, &used, piece.start, piece.length)) {
            return false;
        }
    }
    return true;
}

static bool matches(const char *pattern, const char *text)
{
    captures found = {.number_count = 0};
    return match(pattern, text, &found);
}

/* ---- the index ------------------------------------------------------------------------------- */

static size_t bucket_of(const vt_renamed *r, const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name; name++) {
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    }
    return (size_t)(h % r->bucket_count);
}

/* The first piece of a canonical name, or NULL. */
static vt_piece *find(const vt_renamed *r, const char *name)
{
    int32_t i = r->bucket_count ? r->buckets[bucket_of(r, name)] : -1;
    while (i >= 0 && strcmp(r->pieces[i].name, name) != 0) {
        i = r->pieces[i].next;
    }
    return i >= 0 ? &r->pieces[i] : NULL;
}

/* The next piece of the same name, or NULL. */
static vt_piece *next_piece(const vt_renamed *r, const vt_piece *piece)
{
    int32_t i = piece->next;
    while (i >= 0 && strcmp(r->pieces[i].name, piece->name) != 0) {
        i = r->pieces[i].next;
    }
    return i >= 0 ? &r->pieces[i] : NULL;
}

/* A key without the dialect's prefix. */
static const char *bare_key(const vt_dialect *dialect, const char *key)
{
    size_t length = dialect->prefix ? strlen(dialect->prefix) : 0;
    return length && strncmp(key, dialect->prefix, length) == 0 ? key + length : key;
}

static const vt_dialect *find_dialect(const vt_checkpoint *checkpoint, const vt_family *family)
{
    size_t count = vt_checkpoint_count(checkpoint);
    for (const vt_dialect *d = family->dialects; d && d->name; d++) {
        for (size_t i = 0; i < count; i++) {
            if (matches(d->probe, bare_key(d, vt_checkpoint_at(checkpoint, i)->name))) {
                return d;
            }
        }
    }
    return NULL;
}

static bool add_piece(vt_renamed *r, const vt_checkpoint_entry *entry, const vt_rename *rule,
                      const char *name)
{
    const vt_allocator *allocator = r->pool.allocator;
    if (!vt_array_reserve(allocator, (void **)&r->pieces, &r->piece_capacity, r->piece_count,
                          sizeof *r->pieces)) {
        return false;
    }
    vt_piece piece = {.entry = entry,
                      .parts = rule->parts,
                      .to_part = rule->to_part,
                      .from_part = rule->from_part,
                      .order = rule->order,
                      .next = -1};
    piece.name = vt_pool_strndup(&r->pool, name, strlen(name));
    if (!piece.name) {
        return false;
    }
    if (piece.parts == 0) {
        piece.parts = 1;
        piece.to_part = piece.from_part = -1;
    }
    r->pieces[r->piece_count++] = piece;
    return true;
}

/* A key that no rule knows keeps its name, so that it is reported as unexpected. */
static bool rename_entry(vt_renamed *r, const vt_checkpoint_entry *entry)
{
    const char *key = bare_key(r->dialect, entry->name);
    bool known = false;
    for (const vt_rename *rule = r->dialect->renames; rule->from; rule++) {
        char name[MAX_KEY];
        if (vt_rename_apply(rule->from, rule->to, key, name, sizeof name)) {
            if (!add_piece(r, entry, rule, name)) {
                return false;
            }
            known = true;
            if (!rule->more) {
                break;
            }
        }
    }
    return known || add_piece(r, entry, &(vt_rename){0}, entry->name);
}

static bool is_ignored(const vt_dialect *dialect, const char *name)
{
    for (const char *const *p = dialect->ignored; p && *p; p++) {
        if (matches(*p, name)) {
            return true;
        }
    }
    return false;
}

static bool build_buckets(vt_renamed *r)
{
    r->bucket_count = r->piece_count * 2 + 1;
    r->buckets = vt_alloc(r->pool.allocator, r->bucket_count * sizeof *r->buckets);
    if (!r->buckets) {
        return false;
    }
    memset(r->buckets, 0xff, r->bucket_count * sizeof *r->buckets);
    for (size_t i = r->piece_count; i-- > 0;) { /* backwards: chains keep the file's order */
        int32_t *head = &r->buckets[bucket_of(r, r->pieces[i].name)];
        r->pieces[i].next = *head;
        *head = (int32_t)i;
    }
    return true;
}

vt_status vt_renamed_init(vt_renamed *r, const vt_allocator *allocator,
                          const vt_checkpoint *checkpoint, const vt_family *family, vt_error *error)
{
    *r = (vt_renamed){.checkpoint = checkpoint, .pool = {.allocator = allocator}};
    size_t count = vt_checkpoint_count(checkpoint);
    r->dialect = find_dialect(checkpoint, family);
    if (!r->dialect) {
        const vt_checkpoint_entry *first = vt_checkpoint_at(checkpoint, 0);
        return vt_error_set(error, VT_ERR_MISMATCH,
                            "no naming of %s fits its %zu tensors (the first is '%s'): this looks "
                            "like another architecture",
                            family->title, count, first ? first->name : "none");
    }
    for (size_t i = 0; i < count; i++) {
        const vt_checkpoint_entry *entry = vt_checkpoint_at(checkpoint, i);
        if (!is_ignored(r->dialect, bare_key(r->dialect, entry->name)) && !rename_entry(r, entry)) {
            return vt_error_set(error, VT_ERR_MEMORY, "out of memory for the key table");
        }
    }
    return build_buckets(r) ? VT_OK
                            : vt_error_set(error, VT_ERR_MEMORY, "out of memory for the key table");
}

void vt_renamed_clear(vt_renamed *r)
{
    if (r->pool.allocator) {
        vt_free(r->pool.allocator, r->pieces);
        vt_free(r->pool.allocator, r->buckets);
        vt_pool_clear(&r->pool);
    }
    *r = (vt_renamed){0};
}

bool vt_renamed_has(const void *renamed, const char *name)
{
    return find(renamed, name) != NULL;
}

int64_t vt_renamed_rows(const vt_renamed *r, const char *name)
{
    const vt_piece *piece = find(r, name);
    if (!piece || piece->entry->rank < 1) {
        return 0;
    }
    int64_t rows = piece->entry->shape[0];
    return piece->to_part >= 0     ? rows * piece->parts
           : piece->from_part >= 0 ? rows / piece->parts
                                   : rows;
}

vt_slot vt_renamed_slot(const vt_renamed *r, const vt_slot *slot)
{
    vt_slot out = *slot;
    const vt_piece *piece = slot->any_rows || slot->any_size ? find(r, slot->name) : NULL;
    if (piece && slot->any_rows) {
        out.rows = out.shape[0] = vt_renamed_rows(r, slot->name);
    }
    if (piece && slot->any_size) {
        out.cols = 1;
        for (int i = 1; i < slot->rank; i++) {
            out.shape[i] = piece->entry->shape[i];
            out.cols *= out.shape[i];
        }
    }
    return out;
}

/* ---- checking -------------------------------------------------------------------------------- */

static void shape_text(char *out, size_t size, int rank, const int64_t *shape)
{
    size_t used = 0;
    put(out, size, &used, "[", 1);
    for (int i = 0; i < rank; i++) {
        char number[24];
        int n = snprintf(number, sizeof number, "%s%" PRId64, i ? "," : "", shape[i]);
        put(out, size, &used, number, (size_t)n);
    }
    put(out, size, &used, "]", 1);
}

/* Drops axes of length 1, so that [h,1,1] and [h] are the same; returns the rank left. */
static int squeeze(int rank, const int64_t *shape, int64_t *out)
{
    int n = 0;
    for (int i = 0; i < rank; i++) {
        if (shape[i] != 1) {
            out[n++] = shape[i];
        }
    }
    return n;
}

static bool piece_fits(const vt_slot *slot, const vt_piece *piece)
{
    const vt_checkpoint_entry *e = piece->entry;
    int64_t have[VT_CHECKPOINT_MAX_RANK + 1] = {0}, want[VT_WEIGHT_MAX_RANK + 1] = {0};
    int64_t have_shape[VT_CHECKPOINT_MAX_RANK], want_shape[VT_WEIGHT_MAX_RANK];
    memcpy(have_shape, e->shape, sizeof have_shape);
    memcpy(want_shape, slot->shape, sizeof want_shape);
    if (e->rank < 1) {
        return slot->rows * slot->cols == 1;
    }
    if (piece->from_part >= 0) {
        if (have_shape[0] % piece->parts) {
            return false;
        }
        have_shape[0] /= piece->parts;
    }
    if (piece->to_part >= 0) {
        want_shape[0] /= piece->parts;
    }
    if (slot->any_rows) {
        return e->rank == 2 && slot->rank == 2 && have_shape[1] == want_shape[1] &&
               have_shape[0] > 0;
    }
    if (slot->any_size) {
        bool fits = e->rank == slot->rank && have_shape[0] == want_shape[0];
        for (int i = 1; fits && i < e->rank; i++) {
            fits = have_shape[i] > 0;
        }
        return fits;
    }
    int have_rank = squeeze(e->rank, have_shape, have);
    return have_rank == squeeze(slot->rank, want_shape, want) &&
           memcmp(have, want, (size_t)have_rank * sizeof have[0]) == 0;
}

/* A list in a message: the first few names, then how many more. */
typedef struct listing {
    const char *title;
    size_t count, used;
    char text[640];
} listing;

static void list_add(listing *l, const char *item)
{
    if (l->count++ < LISTED) {
        put(l->text, sizeof l->text, &l->used, l->used ? ", " : "", l->used ? 2 : 0);
        put(l->text, sizeof l->text, &l->used, item, strlen(item));
    }
}

static size_t list_print(const listing *l, char *out, size_t size, size_t used)
{
    if (l->count) {
        int n = snprintf(out + used, size - used, "%s%zu %s: %s", used ? "; " : "", l->count,
                         l->title, l->text);
        used += n > 0 ? (size_t)n : 0;
        if (l->count > LISTED && used < size) {
            n = snprintf(out + used, size - used, " and %zu more", l->count - LISTED);
            used += n > 0 ? (size_t)n : 0;
        }
    }
    return used < size ? used : size - 1;
}

static void check_slot(vt_renamed *r, const vt_slot *slot, listing *missing, listing *wrong)
{
    int found = 0, needed = 1;
    for (vt_piece *p = find(r, slot->name); p; p = next_piece(r, p)) {
        p->used = true;
        found++;
        needed = p->to_part >= 0 ? p->parts : 1;
        if (!piece_fits(slot, p)) {
            char want[128], have[256], line[512];
            shape_text(want, sizeof want, slot->rank, slot->shape);
            shape_text(have, sizeof have, p->entry->rank, p->entry->shape);
            snprintf(line, sizeof line, "%s: want %s%s, file has %s", p->entry->name, want,
                     p->to_part >= 0 ? " in parts" : "", have);
            list_add(wrong, line);
        }
    }
    if (found < needed) {
        list_add(missing, slot->name);
    }
}

vt_status vt_renamed_check(vt_renamed *r, const vt_binder *binder, size_t *unused, vt_error *error)
{
    listing missing = {.title = "missing"}, wrong = {.title = "of another shape"};
    listing unexpected = {.title = "unexpected"};
    for (size_t i = 1; i < binder->slot_count; i++) {
        if (!binder->slots[i].derive) {
            check_slot(r, &binder->slots[i], &missing, &wrong);
        }
    }
    for (size_t i = 0; i < r->piece_count;) { /* pieces of one entry stand side by side */
        const vt_checkpoint_entry *entry = r->pieces[i].entry;
        bool used = false;
        for (; i < r->piece_count && r->pieces[i].entry == entry; i++) {
            used |= r->pieces[i].used;
        }
        if (!used) {
            list_add(&unexpected, entry->name);
        }
    }
    *unused = unexpected.count;
    if (missing.count == 0 && wrong.count == 0) {
        return VT_OK;
    }
    char text[VT_ERROR_CAPACITY];
    size_t used = list_print(&missing, text, sizeof text, 0);
    used = list_print(&wrong, text, sizeof text, used);
    list_print(&unexpected, text, sizeof text, used);
    return vt_error_set(error, VT_ERR_MISMATCH, "keys (%s naming) do not fit: %s", r->dialect->name,
                        text);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Rows whose columns stand in another order in the file; first and count are whole rows. */
static vt_status read_unfolded(const vt_renamed *r, const vt_slot *slot, const vt_piece *piece,
                               int64_t first, int64_t count, float *out, vt_error *error)
{
    const vt_allocator *allocator = r->pool.allocator;
    int64_t cols = slot->cols, channels = cols / 4;
    float *row = vt_alloc(allocator, (size_t)cols * sizeof *row);
    vt_status status = row ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    for (int64_t i = 0; status == VT_OK && i < count; i += cols) {
        status = vt_checkpoint_read(r->checkpoint, piece->entry, first + i, cols, row, error);
        for (int64_t j = 0; status == VT_OK && j < cols; j++) {
            int64_t block = j / channels, dy = block & 1, dx = block >> 1;
            out[i + j] = row[j % channels * 4 + dy * 2 + dx];
        }
    }
    vt_free(allocator, row);
    return status;
}

vt_status vt_renamed_read(const vt_renamed *r, const vt_slot *slot, int64_t first, int64_t count,
                          float *out, vt_error *error)
{
    for (const vt_piece *p = find(r, slot->name); p; p = next_piece(r, p)) {
        if (p->order == VT_ORDER_UNFOLD_2X2 && slot->cols % 4 == 0) {
            return read_unfolded(r, slot, p, first, count, out, error);
        }
        int64_t total = p->entry->elements / (p->from_part >= 0 ? p->parts : 1);
        int64_t skip = p->from_part >= 0 ? p->from_part * total : 0; /* in the entry */
        int64_t begin = p->to_part >= 0 ? p->to_part * total : 0;    /* in the slot */
        int64_t from = first > begin ? first : begin;
        int64_t to = first + count < begin + total ? first + count : begin + total;
        if (from < to) {
            vt_status status = vt_checkpoint_read(r->checkpoint, p->entry, skip + from - begin,
                                                  to - from, out + (from - first), error);
            if (status != VT_OK) {
                return status;
            }
        }
        if (p->to_part < 0) {
            break; /* a second key for the same parameter: the first one counts */
        }
    }
    return VT_OK;
}
