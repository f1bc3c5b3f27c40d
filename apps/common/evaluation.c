/* SPDX-License-Identifier: Apache-2.0 */
#include "evaluation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool evaluation_allocate(evaluation *e, int64_t count, int class_count)
{
    e->count = count;
    e->class_count = class_count;
    e->pictures = calloc((size_t)count + 1, sizeof *e->pictures);
    e->records = calloc((size_t)count + 1, sizeof *e->records);
    e->classes = calloc((size_t)class_count + 1, sizeof *e->classes);
    e->class_names = calloc((size_t)class_count + 1, sizeof *e->class_names);
    return e->pictures && e->records && e->classes && e->class_names;
}

void evaluation_clear(evaluation *e)
{
    for (int64_t i = 0; e->pictures && i < e->count; i++) {
        free(e->pictures[i].path);
        free(e->pictures[i].message);
    }
    for (int c = 0; e->class_names && c < e->class_count; c++) {
        free(e->class_names[c]);
    }
    free(e->folder);
    free(e->class_names);
    free(e->pictures);
    free(e->records);
    free(e->classes);
    json_decref(e->run);
    json_decref(e->about);
    json_decref(e->speed);
    *e = (evaluation){0};
}

void evaluation_summarise(evaluation *e)
{
    vt_evaluate_summarise(e->records, e->count, e->classes, e->class_count, &e->figures);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

json_t *evaluation_text(const char *name)
{
    json_t *text = json_string(name);
    const bool is_utf8 = text != NULL;
    if (is_utf8 && !strchr(name, '\\')) {
        return text;
    }
    json_decref(text);
    char *escaped = malloc(4 * strlen(name) + 1), *out = escaped;
    for (; escaped && *name; name++) {
        const unsigned char byte = (unsigned char)*name;
        if (byte == '\\') {
            out = stpcpy(out, "\\\\");
        } else if (byte < 0x80 || is_utf8) {
            *out++ = *name;
        } else {
            out += sprintf(out, "\\x%02x", byte);
        }
    }
    text = escaped ? json_stringn(escaped, (size_t)(out - escaped)) : NULL;
    free(escaped);
    return text;
}

char *evaluation_name(const json_t *text)
{
    const char *from = json_string_value(text);
    char *name = from ? strdup(from) : NULL, *out = name;
    while (name && *from) {
        unsigned byte = (unsigned char)*from, length = 1;
        if (byte == '\\' && from[1] == '\\') {
            length = 2;
        } else if (byte == '\\') {
            static const char hex[] = "0123456789abcdef";
            const char *high = from[1] == 'x' && from[2] ? strchr(hex, from[2]) : NULL;
            const char *low = high && from[3] ? strchr(hex, from[3]) : NULL;
            byte = low ? (unsigned)(16 * (high - hex) + (low - hex)) : 0;
            length = 4;
        }
        if (byte == 0) {
            free(name);
            return NULL;
        }
        *out++ = (char)byte;
        from += length;
    }
    if (name) {
        *out = '\0';
    }
    return name;
}

static double percent(int64_t part, int64_t of)
{
    return of ? 100.0 * (double)part / (double)of : 0;
}

/* A figure, or null where there is none. */
static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *result_json(const evaluation *e)
{
    const vt_evaluate_figures *f = &e->figures;
    double nothing = f->pictures ? 0 : NAN;
    json_t *out = json_object();
    json_object_set_new(out, "pictures", json_integer(f->pictures));
    json_object_set_new(out, "broken", json_integer(f->broken));
    json_object_set_new(out, "missing", json_integer(f->missing));
    json_object_set_new(out, "top1", json_integer(f->top1));
    json_object_set_new(out, "top5", json_integer(f->top5));
    json_object_set_new(out, "top1_percent", real_or_null(nothing + percent(f->top1, f->pictures)));
    json_object_set_new(out, "top5_percent", real_or_null(nothing + percent(f->top5, f->pictures)));
    json_object_set_new(out, "mean_class_percent", real_or_null(100 * f->mean_class));
    json_object_set_new(out, "loss", real_or_null(f->loss));
    json_object_set_new(out, "ece", real_or_null(f->ece));
    return out;
}

static json_t *classes_json(const evaluation *e)
{
    json_t *out = json_array();
    for (int c = 0; c < e->class_count; c++) {
        const vt_evaluate_class *k = &e->classes[c];
        if (k->pictures || k->broken) {
            json_array_append_new(out, json_pack("{s:i, s:I, s:I, s:I, s:I}", "class", c,
                                                 "pictures", (json_int_t)k->pictures, "top1",
                                                 (json_int_t)k->top1, "top5", (json_int_t)k->top5,
                                                 "broken", (json_int_t)k->broken));
        }
    }
    return out;
}

static json_t *bins_json(const evaluation *e)
{
    json_t *out = json_array();
    for (int b = 0; b < VT_EVALUATE_BINS; b++) {
        const vt_evaluate_bin *bin = &e->figures.bins[b];
        json_array_append_new(
            out, json_pack("{s:I, s:I, s:f}", "pictures", (json_int_t)bin->pictures, "right",
                           (json_int_t)bin->right, "confidence_sum", bin->confidence));
    }
    return out;
}

static void write_text(FILE *file, const char *text)
{
    json_t *json = evaluation_text(text);
    char *line = json_dumps(json, JSON_ENCODE_ANY);
    fputs(line ? line : "\"\"", file);
    free(line);
    json_decref(json);
}

/* One line: [index, path, label, rank, loss, [[class, logit, probability] ...]], or
 * [index, path, label, message] of a broken picture. All digits that it takes to get the same
 * numbers back. */
static void write_record(const evaluation *e, int64_t i, FILE *file)
{
    const vt_evaluate_record *r = &e->records[i];
    fprintf(file, "[%lld, ", (long long)e->pictures[i].index);
    write_text(file, e->pictures[i].path);
    fprintf(file, ", %d, ", r->label);
    if (r->status != VT_OK) {
        write_text(file, e->pictures[i].message ? e->pictures[i].message : "");
        fputs("]", file);
        return;
    }
    fprintf(file, "%d, %.17g, [", r->rank, r->loss);
    for (int k = 0; k < r->found; k++) {
        const vt_class_score *s = &r->top[k];
        fprintf(file, "%s[%d, %.9g, %.9g]", k ? ", " : "", s->index, (double)s->logit,
                (double)s->probability);
    }
    fputs("]]", file);
}

void evaluation_write_json(const evaluation *e, FILE *file)
{
    json_t *head = json_object(), *names = json_array();
    for (int c = 0; c < e->class_count; c++) {
        json_array_append_new(names, evaluation_text(e->class_names[c]));
    }
    json_object_set_new(head, "format", json_string("vertebra evaluation 1"));
    json_object_set_new(head, "complete", json_boolean(e->complete));
    json_object_set_new(head, "shard", json_pack("[i, i]", e->shard, e->shards));
    json_object_set_new(head, "result", result_json(e));
    json_object_set(head, "run", e->run);
    json_object_set(head, "about", e->about);
    if (e->speed) {
        json_object_set(head, "speed", e->speed);
    }
    json_object_set_new(head, "classes", classes_json(e));
    json_object_set_new(head, "reliability", bins_json(e));
    json_object_set_new(head, "class_names", names);
    char *text = json_dumps(head, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(head);
    char *end = text ? strrchr(text, '\n') : NULL; /* the closing brace is on a line of its own */
    if (end) {
        *end = '\0';
        fprintf(file, "%s,\n \"records\": [", text);
        bool first = true;
        for (int64_t i = 0; i < e->count; i++) {
            if (e->records[i].status != VT_ERR_CANCELLED) {
                fputs(first ? "\n  " : ",\n  ", file);
                write_record(e, i, file);
                first = false;
            }
        }
        fputs("\n ]\n}\n", file);
    }
    free(text);
}

/* ---- CSV ------------------------------------------------------------------------------------- */

/* A field, in quotes where it must be (RFC 4180). */
static void write_field(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        fputs(*text == '"' ? "\"\"" : (char[]){*text, '\0'}, file);
    }
    fputc('"', file);
}

void evaluation_write_csv(const evaluation *e, FILE *file)
{
    fputs("picture,label,label_name,rank,loss", file);
    for (int k = 1; k <= VT_EVALUATE_TOP; k++) {
        fprintf(file, ",class_%d,probability_%d", k, k);
    }
    fputs(",error\n", file);
    for (int64_t i = 0; i < e->count; i++) {
        const vt_evaluate_record *r = &e->records[i];
        if (r->status == VT_ERR_CANCELLED) {
            continue;
        }
        write_field(file, e->pictures[i].path);
        fprintf(file, ",%d,", r->label);
        write_field(file, e->class_names[r->label]);
        if (r->status == VT_OK) {
            fprintf(file, ",%d,%.17g", r->rank, r->loss);
        } else {
            fputs(",,", file);
        }
        for (int k = 0; k < VT_EVALUATE_TOP; k++) {
            if (r->status == VT_OK && k < r->found) {
                fprintf(file, ",%d,%.9g", r->top[k].index, (double)r->top[k].probability);
            } else {
                fputs(",,", file);
            }
        }
        fputc(',', file);
        write_field(file, e->pictures[i].message ? e->pictures[i].message : "");
        fputc('\n', file);
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_value(const json_t *value, const char *before)
{
    fputs(before, stdout);
    const char *text = json_string_value(value);
    cli_print_text(text ? text : "?");
}

static void print_heading(const evaluation *e)
{
    const json_t *device = json_object_get(e->about, "device"); /* none: of shards it differs */
    print_value(json_object_get(e->run, "model"), "");
    print_value(json_object_get(e->run, "dtype"), ", ");
    print_value(device ? device : json_array_get(json_object_get(e->run, "device"), 0), ", ");
    json_int_t devices = json_integer_value(json_object_get(e->about, "devices"));
    if (devices > 1) {
        printf(" (the first of %lld)", (long long)devices);
    }
    printf("\npictures   ");
    cli_print_text(e->folder);
    int classes = 0;
    for (int c = 0; c < e->class_count; c++) {
        classes += e->classes[c].pictures > 0;
    }
    printf(": %lld of %d classes", (long long)e->figures.pictures, classes);
    print_value(json_object_get(e->run, "classes_from"), " (");
    printf(")\n");
    if (e->shards > 1) {
        printf("shard      %d of %d; all have %lld pictures\n", e->shard, e->shards,
               (long long)e->total);
    }
    if (e->figures.missing) {
        printf("stopped    before %lld pictures\n", (long long)e->figures.missing);
    }
    if (e->figures.broken) {
        printf("broken     %lld, which are not in these figures\n", (long long)e->figures.broken);
    }
}

static void print_speed(const evaluation *e)
{
    double whole = json_number_value(json_object_get(e->speed, "pictures_per_second"));
    double network = json_number_value(json_object_get(e->speed, "network_pictures_per_second"));
    double load = json_number_value(json_object_get(e->speed, "load_pictures_per_second"));
    printf("speed      %.1f pictures/s end to end; network alone %.1f, decoding alone %.1f\n",
           whole, network, load);
}

void evaluation_print(const evaluation *e)
{
    const vt_evaluate_figures *f = &e->figures;
    print_heading(e);
    if (!f->pictures) {
        printf("no figures: no picture was judged\n");
        return;
    }
    printf("top-1      %6.2f %%  (%lld)\n", percent(f->top1, f->pictures), (long long)f->top1);
    printf("top-5      %6.2f %%  (%lld)\n", percent(f->top5, f->pictures), (long long)f->top5);
    printf("per class  %6.2f %%  (mean of the classes' top-1)\n", 100 * f->mean_class);
    printf("loss       %.6f\n", f->loss);
    printf("ECE        %.4f\n", f->ece);
    if (e->speed) {
        print_speed(e);
    }
}
