/* SPDX-License-Identifier: Apache-2.0 */
#include "labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"
#include "imagenet.h"

enum { MAX_BYTES = 16 << 20 };

static vt_status read_text(char **text, const char *path, vt_error *error)
{
    FILE *file = fopen(path, "rb");
    char *buffer = file ? calloc(1, MAX_BYTES + 1) : NULL;
    size_t size = buffer ? fread(buffer, 1, MAX_BYTES + 1, file) : 0;
    int reason = errno;
    bool bad = !buffer || ferror(file) || size > MAX_BYTES;
    if (file) {
        fclose(file);
    }
    if (bad) {
        free(buffer);
        return vt_error_set(error, VT_ERR_IO, "cannot read labels %s: %s", path,
                            size > MAX_BYTES ? "too large" : strerror(reason));
    }
    *text = buffer;
    return VT_OK;
}

vt_status labels_lines(labels *out, const char *path, vt_error *error)
{
    static const char mark[] = "\xef\xbb\xbf"; /* what some editors begin UTF-8 with */
    *out = (labels){0};
    vt_status status = read_text(&out->text, path, error);
    if (status != VT_OK) {
        return status;
    }
    size_t most = 1;
    for (const char *p = out->text; *p; p++) {
        most += *p == '\n' || *p == '\r';
    }
    out->names = calloc(most, sizeof *out->names);
    char *p = out->text + (strncmp(out->text, mark, strlen(mark)) == 0 ? strlen(mark) : 0);
    for (; out->names && *p; out->count++) {
        out->names[out->count] = p;
        char *end = p + strcspn(p, "\r\n");
        p = end + (*end == '\r') + (end[*end == '\r'] == '\n');
        *end = '\0';
    }
    return out->names ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "%s: out of memory", path);
}

vt_status labels_read(labels *out, const char *path, int classes, vt_error *error)
{
    vt_status status = labels_lines(out, path, error);
    if (status == VT_OK && out->count != classes) {
        int lines = out->count;
        labels_clear(out);
        return vt_error_set(error, VT_ERR_MISMATCH, "%s has %d lines, the model %d classes", path,
                            lines, classes);
    }
    return status;
}

/* Each line is a synset, a name and its synonyms, with tabs between: keeps the name. */
static void keep_second_column(labels *l)
{
    for (int i = 0; i < l->count; i++) {
        char *tab = strchr(l->names[i], '\t');
        l->names[i] = tab ? tab + 1 : l->names[i];
        l->names[i][strcspn(l->names[i], "\t")] = '\0';
    }
}

vt_status labels_open(labels *out, const char *path, const vt_model *model, vt_error *error)
{
    char file[1024];
    vt_error ignored = {0};
    int classes = vt_model_classes(model);
    *out = (labels){0};
    if (path) {
        return labels_read(out, path, classes, error);
    }
    bool made_up = strcmp(vt_model_dialect(model), "golden") == 0;
    if (classes == IMAGENET_CLASSES && vt_model_variant(model)->classes == IMAGENET_CLASSES &&
        !made_up && !vt_model_label(model, 0) &&
        files_shipped(file, sizeof file, "datasets/imagenet/classes.tsv", "classes.tsv") &&
        labels_read(out, file, classes, &ignored) == VT_OK) {
        keep_second_column(out);
    }
    return VT_OK;
}

void labels_clear(labels *l)
{
    free(l->text);
    free(l->names);
    *l = (labels){0};
}

const char *label_of(const labels *l, const vt_model *model, int i, char buffer[32])
{
    if (i < l->count) {
        return l->names[i];
    }
    const char *own = vt_model_label(model, i);
    if (own) {
        return own;
    }
    snprintf(buffer, 32, "class %d", i);
    return buffer;
}
