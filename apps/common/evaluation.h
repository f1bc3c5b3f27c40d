/* SPDX-License-Identifier: Apache-2.0 */
/* The result of an evaluation: every picture's record and what was run. As JSON it holds all that
 * merging needs, so that shards put together are the single run to the last digit. */
#ifndef APPS_COMMON_EVALUATION_H
#define APPS_COMMON_EVALUATION_H

#include "cli.h"

typedef struct evaluated_picture {
    int64_t index; /* in the list of all shards */
    char *path;    /* below the folder */
    char *message; /* why it is broken, or NULL */
} evaluated_picture;

typedef struct evaluation {
    json_t *run;       /* model, transform, list of pictures ...: the same in all shards */
    json_t *about;     /* folder, device, batch ...: may differ */
    json_t *speed;     /* NULL after merging */
    char *folder;      /* where the pictures lie */
    int shard, shards; /* 1 of 1: all pictures */
    bool complete;
    int64_t total; /* pictures of all shards */
    int64_t count; /* of this one */
    evaluated_picture *pictures;
    vt_evaluate_record *records;
    int class_count;
    char **class_names;
    vt_evaluate_class *classes;
    vt_evaluate_figures figures;
} evaluation;

/* Makes room for `count` pictures and `class_count` classes; false: no memory. */
bool evaluation_allocate(evaluation *e, int64_t count, int class_count);
void evaluation_clear(evaluation *e);

/* Fills classes and figures from the records. */
void evaluation_summarise(evaluation *e);

/* A name, which may be any bytes, as the JSON has it: a backslash is doubled, and where the name is
 * no UTF-8 each byte beyond ASCII is \xHH; NULL: no memory. And back, to be freed; NULL: is none. */
json_t *evaluation_text(const char *name);
char *evaluation_name(const json_t *text);

void evaluation_write_json(const evaluation *e, FILE *file);
void evaluation_write_csv(const evaluation *e, FILE *file);

/* The figures for people. */
void evaluation_print(const evaluation *e);

/* Reads what evaluation_write_json wrote. The file is not trusted. */
int evaluation_read(evaluation *e, const cli_options *options, const char *path);

/* Whether both were run to the end over the same pictures in the same way, but for the settings
 * `may_differ` (ends with NULL); else a message. Paths name the files. */
int evaluation_check_same(const cli_options *options, const evaluation *first,
                          const char *first_path, const evaluation *e, const char *path,
                          const char *const *may_differ);

/* Prints every picture whose answer is another one in `b`, with the leads, then a summary.
 * CLI_FAILED also where an answer differs that led by more than rounding explains. */
int evaluation_compare(const cli_options *options, const evaluation *a, const char *a_path,
                       const evaluation *b, const char *b_path);

/* All shards of one run, in any order, into one. `paths` name them in messages. */
int evaluation_merge(evaluation *out, const cli_options *options, const evaluation *parts,
                     char *const *paths, int count);

#endif
