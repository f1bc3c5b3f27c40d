/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confusion.h"
#include "html.h"
#include "output.h"

enum { GALLERY = 24, THUMB = 150, ALL_BARS = 60, WORST = 40, BEST = 10 };

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:1060px;"
    "margin:2em auto;padding:0 1em}\n"
    "h1{font-size:1.5em;margin-bottom:.2em}h2{font-size:1.15em;margin-top:2em;"
    "border-bottom:1px solid #ddd}\n"
    ".note{color:#666;font-size:.9em;max-width:46em}\n"
    ".cards{display:flex;flex-wrap:wrap;gap:12px;margin:1em 0}\n"
    ".card{border:1px solid #ddd;border-radius:6px;padding:.5em 1em;min-width:7em}\n"
    ".card b{display:block;font-size:1.5em;font-weight:600}.card span{color:#666;font-size:.85em}\n"
    "table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;text-align:left;"
    "vertical-align:middle}td.r,th.r{text-align:right}\n"
    "th{font-weight:600;color:#666;font-size:.9em}td.hash{font-family:monospace;font-size:.85em;"
    "word-break:break-all}\n"
    "svg text{font:11px system-ui,sans-serif;fill:#222}svg text.n{font-size:10px}\n"
    ".matrix image{image-rendering:pixelated}.matrix{max-width:100%;height:auto}\n"
    ".bar{position:relative;width:420px;max-width:45vw;height:13px;background:#f0f0f0}\n"
    ".bar i{position:absolute;left:0;top:0;height:13px;background:#b9d3ea}\n"
    ".bar i+i{background:#2166ac}\n"
    ".sides{display:flex;flex-wrap:wrap;gap:2em}.sides div{max-width:100%}\n"
    ".gallery{display:flex;flex-wrap:wrap;gap:12px}\n"
    ".gallery figure{width:156px;margin:0;font-size:.8em;line-height:1.35;overflow-wrap:anywhere}\n"
    ".gallery .frame{width:156px;height:156px;background:#f4f4f4;display:flex;align-items:center;"
    "justify-content:center}\n"
    ".wrong{color:#b2182b}.path{color:#888}\n";

int report_prepare(const cli_options *options, const char *folder)
{
    struct stat about;
    if (mkdir(folder, 0777) == 0 || (errno == EEXIST && stat(folder, &about) == 0 &&
                                     S_ISDIR(about.st_mode) && access(folder, W_OK) == 0)) {
        return CLI_OK;
    }
    return cli_fail(options, "%s: cannot write a report there: %s", folder, strerror(errno));
}

/* ---- head ------------------------------------------------------------------------------------ */

static void write_card(FILE *out, const char *name, const char *format, double value)
{
    fputs("<div class=\"card\"><b>", out);
    fprintf(out, format, value);
    fprintf(out, "</b><span>%s</span></div>\n", name);
}

static void write_cards(const evaluation *e, FILE *out)
{
    const vt_evaluate_figures *f = &e->figures;
    double n = (double)f->pictures;
    fputs("<div class=\"cards\">\n", out);
    write_card(out, "top-1", "%.2f %%", 100.0 * (double)f->top1 / n);
    write_card(out, "top-5", "%.2f %%", 100.0 * (double)f->top5 / n);
    write_card(out, "mean of the classes", "%.2f %%", 100.0 * f->mean_class);
    write_card(out, "cross entropy", "%.4f", f->loss);
    write_card(out, "calibration error", "%.4f", f->ece);
    write_card(out, "pictures", "%.0f", n);
    if (f->broken) {
        write_card(out, "broken, left out", "%.0f", (double)f->broken);
    }
    fputs("</div>\n", out);
}

static void write_members(const json_t *object, FILE *out)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        char *text =
            json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
        fputs("<tr><td>", out);
        html_text(out, key);
        fputs("</td><td class=\"hash\">", out);
        html_text(out, json_is_string(value) ? json_string_value(value) : text ? text : "");
        fputs("</td></tr>\n", out);
        free(text);
    }
}

static void write_head(const evaluation *e, FILE *out)
{
    const char *model = json_string_value(json_object_get(e->run, "model"));
    fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Evaluation of ");
    html_text(out, model ? model : "?");
    fprintf(out, "</title>\n<style>\n%s</style></head><body>\n<h1>", style);
    html_text(out, model ? model : "?");
    fputs("</h1>\n<div class=\"note\">", out);
    html_text(out, e->folder);
    if (e->shards > 1) {
        fprintf(out, ", shard %d of %d", e->shard, e->shards);
    }
    fputs("</div>\n", out);
    if (!e->complete) {
        fprintf(out, "<p class=\"wrong\">Stopped before its end: %lld pictures are missing.</p>\n",
                (long long)e->figures.missing);
    }
    if (e->figures.pictures) {
        write_cards(e, out);
    }
    fputs("<details><summary>What was run</summary><table>\n", out);
    write_members(e->run, out);
    write_members(e->about, out);
    write_members(e->speed, out);
    fputs("</table></details>\n", out);
}

/* ---- classes --------------------------------------------------------------------------------- */

typedef struct ranked {
    int class;
    double share;
} ranked;

static int worst_first(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->share != y->share ? (x->share > y->share) - (x->share < y->share)
                                : (x->class > y->class) - (x->class < y->class);
}

static void write_bars(const evaluation *e, FILE *out, const ranked *order, int from, int to)
{
    fputs("<table><tr><th>class</th><th></th><th class=\"r\">top-1</th><th class=\"r\">top-5</th>"
          "<th class=\"r\">pictures</th></tr>\n",
          out);
    for (int i = from; i < to; i++) {
        const vt_evaluate_class *c = &e->classes[order[i].class];
        double n = (double)c->pictures, top1 = 100.0 * (double)c->top1 / n,
               top5 = 100.0 * (double)c->top5 / n;
        fputs("<tr><td>", out);
        html_text(out, e->class_names[order[i].class]);
        fprintf(out,
                "</td><td><div class=\"bar\"><i style=\"width:%.1f%%\"></i>"
                "<i style=\"width:%.1f%%\"></i></div></td><td class=\"r\">%.1f %%</td>"
                "<td class=\"r\">%.1f %%</td><td class=\"r\">%lld</td></tr>\n",
                top5, top1, top1, top5, (long long)c->pictures);
    }
    fputs("</table>\n", out);
}

static vt_status write_classes(const evaluation *e, FILE *out, vt_error *error)
{
    ranked *order = malloc(((size_t)e->class_count + 1) * sizeof *order);
    int count = 0;
    if (!order) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    for (int c = 0; c < e->class_count; c++) {
        if (e->classes[c].pictures) {
            double share = (double)e->classes[c].top1 / (double)e->classes[c].pictures;
            order[count++] = (ranked){c, share};
        }
    }
    qsort(order, (size_t)count, sizeof *order, worst_first);
    fputs("<h2>Classes, worst first</h2>\n<p class=\"note\">Dark: top-1; light: top-5.</p>\n", out);
    if (count <= ALL_BARS) {
        write_bars(e, out, order, 0, count);
    } else {
        write_bars(e, out, order, 0, WORST);
        fprintf(out, "<details><summary>the %d between</summary>\n", count - WORST - BEST);
        write_bars(e, out, order, WORST, count - BEST);
        fputs("</details>\n", out);
        write_bars(e, out, order, count - BEST, count);
    }
    free(order);
    return VT_OK;
}

/* ---- calibration ----------------------------------------------------------------------------- */

static void write_reliability(const evaluation *e, FILE *out)
{
    enum { LEFT = 44, TOP = 10, SIDE = 330 };
    fprintf(out,
            "<h2>Calibration</h2>\n<svg width=\"%d\" height=\"%d\">\n"
            "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#fafafa\"/>\n",
            LEFT + SIDE + 20, TOP + SIDE + 44, LEFT, TOP, SIDE, SIDE);
    for (int b = 0; b < VT_EVALUATE_BINS; b++) {
        const vt_evaluate_bin *bin = &e->figures.bins[b];
        double n = (double)bin->pictures, width = (double)SIDE / VT_EVALUATE_BINS;
        if (bin->pictures) {
            double right = (double)bin->right / n, sure = bin->confidence / n;
            double low = right < sure ? right : sure, high = right < sure ? sure : right;
            fprintf(out,
                    "<g><title>%lld pictures, confidence %.3f, right %.3f</title>"
                    "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                    "fill=\"#2166ac\"/>"
                    "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#b2182b\" "
                    "fill-opacity=\".35\"/></g>\n",
                    (long long)bin->pictures, sure, right, LEFT + b * width,
                    TOP + SIDE * (1 - right), width - 1, SIDE * right, LEFT + b * width,
                    TOP + SIDE * (1 - high), width - 1, SIDE * (high - low));
        }
    }
    for (int k = 0; k <= 5; k++) {
        double at = SIDE * k / 5.0;
        fprintf(out,
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f</text>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.1f</text>\n",
                LEFT - 6, TOP + SIDE - at + 4, k / 5.0, LEFT + at, TOP + SIDE + 16, k / 5.0);
    }
    fprintf(out,
            "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#444\" "
            "stroke-dasharray=\"4 3\"/>\n"
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">confidence of the answer</text>\n"
            "<text transform=\"translate(12 %d) rotate(-90)\" text-anchor=\"middle\">share that is "
            "right</text>\n</svg>\n",
            LEFT, TOP + SIDE, LEFT + SIDE, TOP, LEFT + SIDE / 2, TOP + SIDE + 36, TOP + SIDE / 2);
    fprintf(out,
            "<p class=\"note\">Blue: how many answers of a confidence are right; on the dashed "
            "line they would be as sure as they should be. Red: the gap. Its mean over all "
            "pictures is the calibration error, %.4f.</p>\n",
            e->figures.ece);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* The GALLERY wrong answers of the highest confidence, highest first; of equal ones the earlier
 * picture. */
static int pick_errors(const evaluation *e, int64_t *picked)
{
    int count = 0;
    for (int64_t i = 0; i < e->count; i++) {
        const vt_evaluate_record *r = &e->records[i];
        if (r->status != VT_OK || r->rank <= 0) {
            continue;
        }
        int place = count;
        while (place > 0 &&
               r->top[0].probability > e->records[picked[place - 1]].top[0].probability) {
            place--;
        }
        count += count < GALLERY;
        for (int k = count - 1; k > place; k--) {
            picked[k] = picked[k - 1];
        }
        if (place < count) {
            picked[place] = i;
        }
    }
    return count;
}

/* The picture at most THUMB pixels wide and high, inline. */
static vt_status write_thumb(const evaluation *e, int64_t i, FILE *out, vt_context *context,
                             const char *scratch, vt_error *error)
{
    char path[4096];
    vt_image image;
    vt_image_settings settings = vt_image_settings_default();
    const char *exif = json_string_value(json_object_get(e->run, "exif"));
    settings.apply_exif = exif && strcmp(exif, "apply") == 0;
    settings.max_pixels = 2 * settings.max_pixels + 1; /* the evaluation has warned of it */
    snprintf(path, sizeof path, "%s/%s", e->folder, e->pictures[i].path);
    vt_status status = vt_image_load(&image, context, path, &settings, error);
    if (status != VT_OK) {
        return status;
    }
    int longer = image.width > image.height ? image.width : image.height;
    int width = image.width * THUMB / longer, height = image.height * THUMB / longer;
    width = width ? width : 1;
    height = height ? height : 1;
    uint8_t *data = malloc((size_t)width * (size_t)height * 3);
    vt_pixels from = vt_image_pixels(&image),
              to = {data, width, height, 3 * (ptrdiff_t)width, VT_PIXELS_RGB};
    status = data ? vt_resize(context, &from, width, height, VT_FILTER_BICUBIC, data, error)
                  : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        fprintf(out, "<img width=\"%d\" height=\"%d\" alt=\"\" src=\"", width, height);
        status = html_png(out, context, scratch, &to, error);
        fputs("\">", out);
    }
    free(data);
    vt_image_clear(&image, context);
    return status;
}

static void write_errors(const evaluation *e, FILE *out, vt_context *context, const char *scratch)
{
    int64_t picked[GALLERY];
    int count = pick_errors(e, picked);
    fputs("<h2>Wrong and sure of it</h2>\n<div class=\"gallery\">\n", out);
    for (int k = 0; k < count; k++) {
        const vt_evaluate_record *r = &e->records[picked[k]];
        fputs("<figure><div class=\"frame\">", out);
        if (write_thumb(e, picked[k], out, context, scratch, NULL) != VT_OK) {
            fputs("<span class=\"note\">not here</span>", out);
        }
        fprintf(out, "</div><span class=\"wrong\">");
        html_text(out, e->class_names[r->top[0].index]);
        fprintf(out, " %.1f %%</span><br>is ", 100.0 * (double)r->top[0].probability);
        html_text(out, e->class_names[r->label]);
        fputs("<br><span class=\"path\">", out);
        html_text(out, e->pictures[picked[k]].path);
        fputs("</span></figure>\n", out);
    }
    fputs("</div>\n", out);
    unlink(scratch);
}

static void write_broken(const evaluation *e, FILE *out)
{
    if (!e->figures.broken) {
        return;
    }
    fputs("<h2>Broken pictures</h2>\n<table>\n", out);
    for (int64_t i = 0; i < e->count; i++) {
        if (e->records[i].status != VT_OK && e->records[i].status != VT_ERR_CANCELLED) {
            fputs("<tr><td>", out);
            html_text(out, e->pictures[i].path);
            fputs("</td><td>", out);
            html_text(out, e->pictures[i].message ? e->pictures[i].message : "");
            fputs("</td></tr>\n", out);
        }
    }
    fputs("</table>\n", out);
}

/* ---- the page -------------------------------------------------------------------------------- */

static vt_status write_page(const evaluation *e, FILE *out, vt_context *context, const char *folder,
                            vt_error *error)
{
    char confusion[4096], scratch[4096];
    snprintf(confusion, sizeof confusion, "%s/confusion.png", folder);
    snprintf(scratch, sizeof scratch, "%s/thumb.%ld.png", folder, (long)getpid());
    vt_status status = VT_OK;
    write_head(e, out);
    if (e->figures.pictures) {
        fputs("<h2>Confusions</h2>\n<div class=\"sides\"><div>\n", out);
        status = confusion_matrix(e, out, context, confusion, error);
        fputs("</div><div>\n", out);
        status = status == VT_OK ? confusion_pairs(e, out, error) : status;
        fputs("</div></div>\n", out);
        write_errors(e, out, context, scratch);
        status = status == VT_OK ? write_classes(e, out, error) : status;
        write_reliability(e, out);
    }
    write_broken(e, out);
    fputs("</body></html>\n", out);
    return status;
}

int report_write(const evaluation *e, const cli_options *options, vt_context *context,
                 const char *folder)
{
    char path[4096];
    output page;
    vt_error error = {0};
    if (snprintf(path, sizeof path - 64, "%s/index.html", folder) >= (int)sizeof path - 64) {
        return cli_fail(options, "--report: the name is too long");
    }
    int result = output_open(&page, options, path);
    if (result != CLI_OK) {
        return result;
    }
    vt_status status = write_page(e, page.file, context, folder, &error);
    result = output_close(&page, options, status == VT_OK);
    return status == VT_OK ? result : cli_fail(options, "%s", error.message);
}
