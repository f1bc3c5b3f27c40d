/* SPDX-License-Identifier: Apache-2.0 */
#include "model_attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int round_up(int a, int b)
{
    return (a + b - 1) / b * b;
}

/* torch.roll(map, (-shift_h, -shift_w)) of a dense h x w map of rows of `width` */
static float *roll(const float *map, int h, int w, int shift_h, int shift_w, int width)
{
    float *out = malloc((size_t)(h * w * width) * sizeof *out);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            int from_y = ((y + shift_h) % h + h) % h, from_x = ((x + shift_w) % w + w) % w;
            memcpy(out + (y * w + x) * width, map + (from_y * w + from_x) * width,
                   (size_t)width * sizeof *out);
        }
    }
    return out;
}

/* F.pad at the bottom and right; the new rows hold `fill` (NULL: zeros) */
static float *pad(const float *map, int h, int w, int to_h, int to_w, int width, const float *fill)
{
    float *out = calloc((size_t)(to_h * to_w * width), sizeof *out);
    for (int y = 0; y < to_h; y++) {
        for (int x = 0; x < to_w; x++) {
            const float *from = y < h && x < w ? map + (y * w + x) * width : fill;
            if (from) {
                memcpy(out + (y * to_w + x) * width, from, (size_t)width * sizeof *out);
            }
        }
    }
    return out;
}

/* window_partition: [H, W, width] -> [windows, window_h * window_w, width] */
static float *cut(const float *map, int h, int w, int window_h, int window_w, int width)
{
    float *out = malloc((size_t)(h * w * width) * sizeof *out), *p = out;
    for (int y0 = 0; y0 < h; y0 += window_h) {
        for (int x0 = 0; x0 < w; x0 += window_w) {
            for (int y = y0; y < y0 + window_h; y++) {
                memcpy(p, map + (y * w + x0) * width, (size_t)(window_w * width) * sizeof *out);
                p += window_w * width;
            }
        }
    }
    return out;
}

/* window_reverse */
static float *join(const float *windows, int h, int w, int window_h, int window_w, int width)
{
    float *out = malloc((size_t)(h * w * width) * sizeof *out);
    const float *p = windows;
    for (int y0 = 0; y0 < h; y0 += window_h) {
        for (int x0 = 0; x0 < w; x0 += window_w) {
            for (int y = y0; y < y0 + window_h; y++) {
                memcpy(out + (y * w + x0) * width, p, (size_t)(window_w * width) * sizeof *out);
                p += window_w * width;
            }
        }
    }
    return out;
}

/* Begin and end of the three slices slice(0, -window), slice(-window, -shift), slice(-shift, None)
 * with Python's meaning of -0. */
static void slices(int size, int window, int shift, int begin[3], int end[3])
{
    begin[0] = 0;
    end[0] = size - window;
    begin[1] = size - window;
    end[1] = shift ? size - shift : 0;
    begin[2] = shift ? size - shift : 0;
    end[2] = size;
}

/* The region number of every place of the padded map, as a map of width 1. */
static float *regions(const plain_attention *a, int h, int w)
{
    int yb[3], ye[3], xb[3], xe[3];
    float *out = calloc((size_t)(h * w), sizeof *out);
    slices(h, a->window_h, a->shift_h, yb, ye);
    slices(w, a->window_w, a->shift_w, xb, xe);
    for (int i = 0; i < 9; i++) {
        for (int y = yb[i / 3]; y < ye[i / 3]; y++) {
            for (int x = xb[i % 3]; x < xe[i % 3]; x++) {
                out[y * w + x] = (float)i;
            }
        }
    }
    return out;
}

/* Padded, rolled and cut, in the order of the rule. */
static float *windows_of(const plain_attention *a, const float *map, int width, const float *fill)
{
    int h = round_up(a->h, a->window_h), w = round_up(a->w, a->window_w);
    float *first, *second;
    if (a->roll == VT_ROLL_PADDED) {
        first = pad(map, a->h, a->w, h, w, width, fill);
        second = roll(first, h, w, a->shift_h, a->shift_w, width);
    } else {
        first = roll(map, a->h, a->w, a->shift_h, a->shift_w, width);
        second = pad(first, a->h, a->w, h, w, width, fill);
    }
    float *out = cut(second, h, w, a->window_h, a->window_w, width);
    free(first);
    free(second);
    return out;
}

/* The first h rows and w columns of a map that is `from_w` wide. */
static void crop(const float *map, int from_w, int h, int w, int width, float *out)
{
    for (int y = 0; y < h; y++) {
        memcpy(out + y * w * width, map + y * from_w * width, (size_t)(w * width) * sizeof *out);
    }
}

/* The inverse of windows_of, into out [h, w, width]. */
static void undo_windows(const plain_attention *a, const float *windows, int width, float *out)
{
    int h = round_up(a->h, a->window_h), w = round_up(a->w, a->window_w);
    float *map = join(windows, h, w, a->window_h, a->window_w, width), *back;
    if (a->roll == VT_ROLL_PADDED) {
        back = roll(map, h, w, -a->shift_h, -a->shift_w, width);
        crop(back, w, a->h, a->w, width, out);
    } else {
        float *cropped = malloc((size_t)(a->h * a->w * width) * sizeof *cropped);
        crop(map, w, a->h, a->w, width, cropped);
        back = roll(cropped, a->h, a->w, -a->shift_h, -a->shift_w, width);
        memcpy(out, back, (size_t)(a->h * a->w * width) * sizeof *out);
        free(cropped);
    }
    free(map);
    free(back);
}

static double product(const float *a, const float *b, int width)
{
    double sum = 0;
    for (int i = 0; i < width; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static double score(const plain_attention *a, int head, const float *q, const float *k)
{
    double dot = product(q, k, a->q_width);
    if (!a->temperature) {
        return dot * (double)a->scale;
    }
    double q_norm = fmax(sqrt(product(q, q, a->q_width)), 1e-12);
    double k_norm = fmax(sqrt(product(k, k, a->q_width)), 1e-12);
    return dot / q_norm / k_norm * exp(fmin((double)a->temperature[head], log(100.0)));
}

/* One window of one head: rows of q, k, v and region numbers stand token by token. */
static void attend(const plain_attention *a, int head, const float *q, const float *k,
                   const float *v, const float *region, float *out)
{
    int tokens = a->window_h * a->window_w, qw = a->heads * a->q_width, vw = a->heads * a->v_width;
    double *p = malloc((size_t)tokens * sizeof *p);
    for (int i = 0; i < tokens; i++) {
        double total = 0, largest = -INFINITY;
        for (int j = 0; j < tokens; j++) {
            int dy = i / a->window_w - j / a->window_w, dx = i % a->window_w - j % a->window_w;
            int index = (dy + a->window_h - 1) * (2 * a->window_w - 1) + dx + a->window_w - 1;
            p[j] = score(a, head, q + i * qw + head * a->q_width, k + j * qw + head * a->q_width);
            p[j] += a->table ? (double)a->table[index * a->heads + head] : 0.0;
            p[j] += region[i] != region[j] ? -100.0 : 0.0;
            largest = fmax(largest, p[j]);
        }
        for (int j = 0; j < tokens; j++) {
            p[j] = exp(p[j] - largest);
            total += p[j];
        }
        for (int c = 0; c < a->v_width; c++) {
            double sum = 0;
            for (int j = 0; j < tokens; j++) {
                sum += p[j] / total * (double)v[j * vw + head * a->v_width + c];
            }
            out[i * vw + head * a->v_width + c] = (float)sum;
        }
    }
    free(p);
}

void plain_attention_run(const plain_attention *a, float *out)
{
    int h = round_up(a->h, a->window_h), w = round_up(a->w, a->window_w);
    int tokens = a->window_h * a->window_w, qw = a->heads * a->q_width, vw = a->heads * a->v_width;
    float *map = regions(a, h, w);
    float *region = cut(map, h, w, a->window_h, a->window_w, 1);
    for (int n = 0; n < a->n; n++) {
        float *q = windows_of(a, a->q + n * a->h * a->w * qw, qw, NULL);
        float *k = windows_of(a, a->k + n * a->h * a->w * qw, qw, a->k_pad);
        float *v = windows_of(a, a->v + n * a->h * a->w * vw, vw, a->v_pad);
        float *y = malloc((size_t)(h * w * vw) * sizeof *y);
        for (int i = 0; i < h * w / tokens; i++) {
            for (int head = 0; head < a->heads; head++) {
                attend(a, head, q + i * tokens * qw, k + i * tokens * qw, v + i * tokens * vw,
                       region + i * tokens, y + i * tokens * vw);
            }
        }
        undo_windows(a, y, vw, out + n * a->h * a->w * vw);
        free(q);
        free(k);
        free(v);
        free(y);
    }
    free(map);
    free(region);
}
