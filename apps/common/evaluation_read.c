/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluations read back from JSON, and shards put together. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "evaluation.h"

enum { MAX_CLASSES = 1 << 20, MAX_SHARDS = 1 << 20 };

/* ---- reading --------------------------------------------------------------------------------- */

static bool integer(const json_t *value, int64_t low, int64_t high, int64_t *out)
{
    *out = json_integer_value(value);
    return json_is_integer(value) && *out >= low && *out <= high;
}

static bool small(const json_t *value, int low, int high, int *out)
{
    int64_t wide;
    bool good = integer(value, low, high, &wide);
    *out = good ? (int)wide : 0;
    return good;
}

static bool number(const json_t *value, double low, double high, double *out)
{
    *out = json_number_value(value);
    return json_is_number(value) && *out >= low && *out <= high;
}

/* The best classes, best first; the label is the one that its rank says. */
static bool read_top(const json_t *list, int class_count, vt_evaluate_record *r)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count < 1 || count > VT_EVALUATE_TOP) {
        return false;
    }
    for (size_t k = 0; k < count; k++) {
        const json_t *entry = json_array_get(list, k);
        vt_class_score *score = &r->top[k];
        double logit, probability;
        if (!small(json_array_get(entry, 0), 0, class_count - 1, &score->index) ||
            !number(json_array_get(entry, 1), -FLT_MAX, FLT_MAX, &logit) ||
            !number(json_array_get(entry, 2), 0, 1, &probability)) {
            return false;
        }
        score->logit = (float)logit;
        score->probability = (float)probability;
        if ((k > 0 &&
             (score->logit > score[-1].logit || score->probability > score[-1].probability)) ||
            (score->index == r->label) != (r->rank == (int)k)) {
            return false;
        }
    }
    r->found = (int)count;
    return true;
}

/* See write_record in evaluation.c. */
static bool read_record(const json_t *line, evaluation *e, int64_t i)
{
    evaluated_picture *picture = &e->pictures[i];
    vt_evaluate_record *r = &e->records[i];
    picture->path = evaluation_name(json_array_get(line, 1));
    if (!integer(json_array_get(line, 0), 0, e->total - 1, &picture->index) || !picture->path ||
        !small(json_array_get(line, 2), 0, e->class_count - 1, &r->label)) {
        return false;
    }
    if (json_array_size(line) == 4) {
        r->status = VT_ERR_FORMAT;
        picture->message = evaluation_name(json_array_get(line, 3));
        return picture->message != NULL;
    }
    return json_array_size(line) == 6 && number(json_array_get(line, 4), 0, DBL_MAX, &r->loss) &&
           small(json_array_get(line, 3), 0, e->class_count - 1, &r->rank) &&
           read_top(json_array_get(line, 5), e->class_count, r);
}

/* The counts that the file states must be those of its records. */
static bool counts_agree(const evaluation *e, const json_t *result)
{
    const vt_evaluate_figures *f = &e->figures;
    const struct {
        const char *key;
        int64_t value;
    } counts[] = {
        {"pictures", f->pictures}, {"broken", f->broken}, {"top1", f->top1}, {"top5", f->top5}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (json_integer_value(json_object_get(result, counts[i].key)) != counts[i].value) {
            return false;
        }
    }
    return true;
}

static bool read_members(evaluation *e, const json_t *root)
{
    const json_t *shard = json_object_get(root, "shard"),
                 *records = json_object_get(root, "records"),
                 *names = json_object_get(root, "class_names");
    const char *format = json_string_value(json_object_get(root, "format"));
    e->run = json_incref(json_object_get(root, "run"));
    e->about = json_incref(json_object_get(root, "about"));
    e->folder = evaluation_name(json_object_get(e->about, "folder"));
    e->complete = json_is_true(json_object_get(root, "complete"));
    int class_count = (int)json_array_size(names);
    if (!format || strcmp(format, "vertebra evaluation 1") != 0 || !json_is_object(e->run) ||
        !json_is_object(e->about) || !e->folder || class_count < 1 || class_count > MAX_CLASSES ||
        !json_is_array(records) ||
        !integer(json_object_get(e->run, "pictures"), 1, INT32_MAX, &e->total) ||
        !small(json_array_get(shard, 1), 1, MAX_SHARDS, &e->shards) ||
        !small(json_array_get(shard, 0), 1, e->shards, &e->shard) ||
        !evaluation_allocate(e, (int64_t)json_array_size(records), class_count)) {
        return false;
    }
    for (int c = 0; c < class_count; c++) {
        e->class_names[c] = evaluation_name(json_array_get(names, (size_t)c));
        if (!e->class_names[c]) {
            return false;
        }
    }
    for (int64_t i = 0; i < e->count; i++) {
        if (!read_record(json_array_get(records, (size_t)i), e, i)) {
            return false;
        }
    }
    evaluation_summarise(e);
    return counts_agree(e, json_object_get(root, "result"));
}

int evaluation_read(evaluation *e, const cli_options *options, const char *path)
{
    json_error_t why;
    *e = (evaluation){0};
    struct stat about;
    if (stat(path, &about) == 0 && S_ISDIR(about.st_mode)) {
        return cli_fail(options, "%s: is a folder; want the JSON files of evaluate --json", path);
    }
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        return cli_fail(options, "%s: %s", path, why.text);
    }
    bool good = read_members(e, root);
    json_decref(root);
    return good ? CLI_OK
                : cli_fail(options, "%s: is not a result of evaluate --json, or is damaged", path);
}

/* ---- one run or several ---------------------------------------------------------------------- */

static bool among(const char *key, const char *const *list)
{
    while (*list && strcmp(key, *list) != 0) {
        list++;
    }
    return *list != NULL;
}

/* The first setting that differs and must not, or NULL. */
static const char *difference(json_t *a, json_t *b, const char *const *may_differ)
{
    const char *key;
    json_t *value;
    json_object_foreach(a, key, value)
    {
        if (!among(key, may_differ) && !json_equal(value, json_object_get(b, key))) {
            return key;
        }
    }
    json_object_foreach(b, key, value)
    {
        if (!among(key, may_differ) && !json_object_get(a, key)) {
            return key;
        }
    }
    return NULL;
}

static bool same_class_names(const evaluation *a, const evaluation *b)
{
    bool same = a->class_count == b->class_count;
    for (int c = 0; c < a->class_count && same; c++) {
        same = strcmp(a->class_names[c], b->class_names[c]) == 0;
    }
    return same;
}

int evaluation_check_same(const cli_options *options, const evaluation *first,
                          const char *first_path, const evaluation *e, const char *path,
                          const char *const *may_differ)
{
    const char *key = difference(first->run, e->run, may_differ);
    if (key) {
        char *here = json_dumps(json_object_get(e->run, key), JSON_ENCODE_ANY);
        char *there = json_dumps(json_object_get(first->run, key), JSON_ENCODE_ANY);
        int result = cli_fail(options, "%s: %s is %s, in %s it is %s", path, key,
                              here ? here : "absent", first_path, there ? there : "absent");
        free(here);
        free(there);
        return result;
    }
    if (!same_class_names(first, e)) {
        return cli_fail(options, "%s: the class names are not those of %s", path, first_path);
    }
    if (!first->complete || !e->complete) {
        return cli_fail(options, "%s: was stopped before its end",
                        first->complete ? path : first_path);
    }
    return CLI_OK;
}

/* ---- merging --------------------------------------------------------------------------------- */

static int check_part(const cli_options *options, const evaluation *parts, char *const *paths,
                      int i)
{
    static const char *const may_differ[] = {NULL};
    const evaluation *e = &parts[i], *first = &parts[0];
    int result = evaluation_check_same(options, first, paths[0], e, paths[i], may_differ);
    if (result != CLI_OK) {
        return result;
    }
    if (e->shards != first->shards) {
        return cli_fail(options, "%s: is a shard of %d, %s one of %d", paths[i], e->shards,
                        paths[0], first->shards);
    }
    for (int k = 0; k < i; k++) {
        if (parts[k].shard == e->shard) {
            return cli_fail(options, "%s and %s: both are shard %d of %d", paths[k], paths[i],
                            e->shard, e->shards);
        }
    }
    for (int64_t k = 0; k < e->count; k++) {
        if (e->pictures[k].index != e->shard - 1 + k * e->shards) {
            return cli_fail(options, "%s: picture %lld is not the one that the shard has there",
                            paths[i], (long long)k);
        }
    }
    return e->count == (e->total - e->shard + e->shards) / e->shards
               ? CLI_OK
               : cli_fail(options, "%s: has %lld pictures, not those of shard %d of %d", paths[i],
                          (long long)e->count, e->shard, e->shards);
}

static int check_parts(const cli_options *options, const evaluation *parts, char *const *paths,
                       int count)
{
    for (int i = 0; i < count; i++) {
        int result = check_part(options, parts, paths, i);
        if (result != CLI_OK) {
            return result;
        }
    }
    for (int shard = 1; count < parts[0].shards; shard++) {
        bool there = false;
        for (int i = 0; i < count; i++) {
            there = there || parts[i].shard == shard;
        }
        if (!there) {
            return cli_fail(options, "shard %d of %d is missing", shard, parts[0].shards);
        }
    }
    return CLI_OK;
}

/* What is true of all parts, and the folder of the first. */
static json_t *common_about(const evaluation *parts, int count)
{
    json_t *about = json_copy(parts[0].about), *value;
    const char *key;
    void *next;
    json_object_foreach_safe(about, next, key, value)
    {
        bool same = true;
        for (int i = 1; i < count; i++) {
            same = same && json_equal(value, json_object_get(parts[i].about, key));
        }
        if (!same && strcmp(key, "folder") != 0) {
            json_object_del(about, key);
        }
    }
    return about;
}

static bool copy_class_names(evaluation *out, const evaluation *from)
{
    bool room = true;
    for (int c = 0; c < from->class_count; c++) {
        out->class_names[c] = strdup(from->class_names[c]);
        room = room && out->class_names[c];
    }
    return room;
}

/* To their places in the list of all shards. */
static bool copy_pictures(evaluation *out, const evaluation *part)
{
    bool room = true;
    for (int64_t i = 0; i < part->count; i++) {
        const evaluated_picture *from = &part->pictures[i];
        evaluated_picture *to = &out->pictures[from->index];
        *to = (evaluated_picture){.index = from->index, .path = strdup(from->path)};
        to->message = from->message ? strdup(from->message) : NULL;
        out->records[from->index] = part->records[i];
        room = room && to->path && !to->message == !from->message;
    }
    return room;
}

int evaluation_merge(evaluation *out, const cli_options *options, const evaluation *parts,
                     char *const *paths, int count)
{
    *out = (evaluation){0};
    int result = check_parts(options, parts, paths, count);
    if (result != CLI_OK) {
        return result;
    }
    const evaluation *first = &parts[0];
    out->folder = strdup(first->folder);
    bool room = out->folder && evaluation_allocate(out, first->total, first->class_count) &&
                copy_class_names(out, first);
    for (int i = 0; i < count && room; i++) {
        room = copy_pictures(out, &parts[i]);
    }
    if (!room) {
        return cli_fail(options, "out of memory");
    }
    out->run = json_incref(first->run);
    out->about = common_about(parts, count);
    out->shard = out->shards = 1;
    out->complete = true;
    out->total = first->total;
    evaluation_summarise(out);
    return CLI_OK;
}
