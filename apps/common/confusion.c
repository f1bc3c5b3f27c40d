/* SPDX-License-Identifier: Apache-2.0 */
#include "confusion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "html.h"

enum { MAX_CELLS = 250, NAMED = 40, SIDE = 800, MAX_CELL = 44, PAIRS = 20 };

/* ---- matrix ---------------------------------------------------------------------------------- */

typedef struct matrix {
    int *row;   /* of each class of the model; -1: has no pictures */
    int *class; /* of each row before grouping */
    int classes, rows, group;
    int columns;     /* the rows, and the others where one of them was an answer */
    int64_t *counts; /* [rows, rows + 1] */
    int64_t *totals; /* [rows] */
} matrix;

static bool count_answers(const evaluation *e, matrix *m)
{
    m->row = malloc(((size_t)e->class_count + 1) * sizeof *m->row);
    m->class = malloc(((size_t)e->class_count + 1) * sizeof *m->class);
    for (int c = 0; m->row && m->class && c < e->class_count; c++) {
        bool there = e->classes[c].pictures > 0;
        m->class[m->classes] = c;
        m->row[c] = there ? m->classes++ : -1;
    }
    m->group = (m->classes + MAX_CELLS - 1) / MAX_CELLS;
    m->rows = m->group ? (m->classes + m->group - 1) / m->group : 0;
    m->counts = calloc((size_t)m->rows * ((size_t)m->rows + 1) + 1, sizeof *m->counts);
    m->totals = calloc((size_t)m->rows + 1, sizeof *m->totals);
    m->columns = m->rows;
    if (!m->row || !m->class || !m->counts || !m->totals) {
        return false;
    }
    for (int64_t i = 0; i < e->count; i++) {
        const vt_evaluate_record *r = &e->records[i];
        if (r->status == VT_OK) {
            int answer = m->row[r->top[0].index], row = m->row[r->label] / m->group;
            int column = answer < 0 ? m->rows : answer / m->group;
            m->counts[row * (m->rows + 1) + column]++;
            m->totals[row]++;
            m->columns = answer < 0 ? m->rows + 1 : m->columns;
        }
    }
    return true;
}

static void free_matrix(matrix *m)
{
    free(m->row);
    free(m->class);
    free(m->counts);
    free(m->totals);
}

/* White to blue where the answer is right, white to red where it is wrong. */
static void shade(uint8_t *pixel, double share, bool right)
{
    static const double ends[2][3] = {{178, 24, 43}, {33, 102, 172}};
    double depth = sqrt(share);
    for (int c = 0; c < 3; c++) {
        pixel[c] = (uint8_t)(255 + depth * (ends[right][c] - 255) + 0.5);
    }
}

static uint8_t *draw_matrix(const matrix *m, int cell, vt_pixels *pixels)
{
    int width = m->columns * cell, height = m->rows * cell;
    uint8_t *data = malloc((size_t)width * (size_t)height * 3);
    for (int y = 0; data && y < height; y++) {
        for (int x = 0; x < width; x++) {
            int row = y / cell, column = x / cell;
            int64_t count = m->counts[row * (m->rows + 1) + column], total = m->totals[row];
            shade(data + 3 * ((size_t)y * (size_t)width + (size_t)x),
                  total ? (double)count / (double)total : 0, row == column);
        }
    }
    *pixels = (vt_pixels){data, width, height, 3 * (ptrdiff_t)width, VT_PIXELS_RGB};
    return data;
}

/* The names beside the rows and, turned, above the columns; counts in the cells. */
static void write_edges(const evaluation *e, const matrix *m, FILE *out, int cell, int left,
                        int top)
{
    for (int i = 0; i < m->columns; i++) {
        const char *name = i < m->rows ? e->class_names[m->class[i]] : "(others)";
        double centre = (i + 0.5) * cell;
        if (i < m->rows) {
            fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", left - 6,
                    top + centre + 4);
            html_text(out, name);
            fputs("</text>", out);
        }
        fprintf(out, "<text transform=\"translate(%.1f %d) rotate(-50)\">", left + centre, top - 6);
        html_text(out, name);
        fputs("</text>\n", out);
    }
    for (int row = 0; cell >= 16 && row < m->rows; row++) {
        for (int column = 0; column < m->columns; column++) {
            int64_t count = m->counts[row * (m->rows + 1) + column];
            if (count) {
                bool dark = 4 * count > m->totals[row];
                fprintf(out,
                        "<text class=\"n\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" "
                        "style=\"fill:%s\">%lld</text>",
                        left + (column + 0.5) * cell, top + (row + 0.5) * cell + 3.5,
                        dark ? "#fff" : "#333", (long long)count);
            }
        }
    }
}

static vt_status write_matrix(const evaluation *e, const matrix *m, FILE *out, vt_context *context,
                              const char *path, vt_error *error)
{
    vt_pixels pixels;
    bool named = m->classes <= NAMED;
    int cell = SIDE / (m->rows + 4); /* four more: few classes need no large matrix */
    cell = cell < 1 ? 1 : cell < MAX_CELL ? cell : MAX_CELL;
    int left = named ? 150 : 2, top = named ? 120 : 2;
    uint8_t *data = draw_matrix(m, cell, &pixels);
    if (!data) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    fprintf(out,
            "<svg class=\"matrix\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n"
            "<image x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" href=\"",
            left + pixels.width + 60, top + pixels.height + 2, left + pixels.width + 60,
            top + pixels.height + 2, left, top, pixels.width, pixels.height);
    vt_status status = html_png(out, context, path, &pixels, error);
    fprintf(out,
            "\"/>\n<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" "
            "stroke=\"#888\"/>\n",
            left, top, pixels.width, pixels.height);
    if (named) {
        write_edges(e, m, out, cell, left, top);
    }
    fprintf(
        out,
        "</svg>\n<p class=\"note\">A row is the true class, a column the answer%s. The shade is "
        "the square root of the share of the row: blue is right, red is wrong.",
        m->columns > m->rows ? "; the last column is all classes that have no pictures here" : "");
    if (m->group > 1) {
        fprintf(out,
                " Each row and column stands for %d neighbouring classes: blue "
                "includes mistakes among them.",
                m->group);
    }
    fputs("</p>\n", out);
    free(data);
    return status;
}

vt_status confusion_matrix(const evaluation *e, FILE *out, vt_context *context, const char *path,
                           vt_error *error)
{
    matrix m = {0};
    vt_status status = count_answers(e, &m) ? write_matrix(e, &m, out, context, path, error)
                                            : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    free_matrix(&m);
    return status;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

typedef struct pair {
    int label, answer;
    int64_t count;
} pair;

static int by_classes(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    return x->label != y->label ? (x->label > y->label) - (x->label < y->label)
                                : (x->answer > y->answer) - (x->answer < y->answer);
}

static int by_count(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : by_classes(a, b);
}

/* All mistakes, equal ones joined, commonest first. */
static int64_t collect(const evaluation *e, pair *pairs)
{
    int64_t count = 0, joined = 0;
    for (int64_t i = 0; i < e->count; i++) {
        const vt_evaluate_record *r = &e->records[i];
        if (r->status == VT_OK && r->rank > 0) {
            pairs[count++] = (pair){r->label, r->top[0].index, 1};
        }
    }
    qsort(pairs, (size_t)count, sizeof *pairs, by_classes);
    for (int64_t i = 0; i < count; i++) {
        if (joined && by_classes(&pairs[joined - 1], &pairs[i]) == 0) {
            pairs[joined - 1].count++;
        } else {
            pairs[joined++] = pairs[i];
        }
    }
    qsort(pairs, (size_t)joined, sizeof *pairs, by_count);
    return joined;
}

vt_status confusion_pairs(const evaluation *e, FILE *out, vt_error *error)
{
    pair *pairs = malloc(((size_t)e->count + 1) * sizeof *pairs);
    if (!pairs) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    int64_t count = collect(e, pairs);
    fputs("<table><tr><th>true class</th><th>answer</th><th>pictures</th><th>of the "
          "class</th></tr>\n",
          out);
    for (int64_t i = 0; i < count && i < PAIRS; i++) {
        fputs("<tr><td>", out);
        html_text(out, e->class_names[pairs[i].label]);
        fputs("</td><td>", out);
        html_text(out, e->class_names[pairs[i].answer]);
        fprintf(out, "</td><td class=\"r\">%lld</td><td class=\"r\">%.1f %%</td></tr>\n",
                (long long)pairs[i].count,
                100.0 * (double)pairs[i].count / (double)e->classes[pairs[i].label].pictures);
    }
    fputs("</table>\n", out);
    free(pairs);
    return VT_OK;
}
