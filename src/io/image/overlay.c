/* SPDX-License-Identifier: Apache-2.0 */
/* Heat maps over pictures. */
#include <math.h>

#include "core/checked.h"
#include "vertebra/image.h"

/* Rises from 0 at `from` to 1 at `to` without a kink. */
static double ramp(double t, double from, double to)
{
    t = (t - from) / (to - from);
    t = t < 0.0 ? 0.0 : t > 1.0 ? 1.0 : t;
    return t * t * (3.0 - 2.0 * t);
}

/* From dark blue over violet and orange to light yellow: the lightness only rises, so that the
 * order of values also shows in print and to people who cannot tell red from green. */
static void heat_colour(double t, double rgb[3])
{
    rgb[0] = 255.0 * ramp(t, 0.0, 0.7);
    rgb[1] = 255.0 * ramp(t, 0.3, 1.05);
    rgb[2] = 255.0 * (0.45 + 0.25 * ramp(t, 0.0, 0.35) - 0.5 * ramp(t, 0.35, 0.95));
}

typedef struct heat {
    const float *map;
    int width, height;
    double low, scale; /* (value - low) * scale is in 0..1 */
} heat;

static double value_at(const heat *h, int x, int y)
{
    const double v = (double)h->map[(size_t)y * (size_t)h->width + (size_t)x];
    return isfinite(v) ? (v - h->low) * h->scale : 0.0;
}

/* Splits a position in map cells (cell i is centred on i + 0.5) into two neighbours and a weight;
 * beyond the outer centres the outer cell goes on. */
static void neighbours(double position, int cells, int *a, int *b, double *weight)
{
    double p = position - 0.5;
    p = p < 0.0 ? 0.0 : p > cells - 1 ? cells - 1 : p;
    *a = (int)p;
    *b = *a + 1 < cells ? *a + 1 : *a;
    *weight = p - *a;
}

/* Bilinear. */
static double sample(const heat *h, double x, double y)
{
    int x0, x1, y0, y1;
    double wx, wy;
    neighbours(x, h->width, &x0, &x1, &wx);
    neighbours(y, h->height, &y0, &y1, &wy);
    const double top = value_at(h, x0, y0) * (1.0 - wx) + value_at(h, x1, y0) * wx;
    const double bottom = value_at(h, x0, y1) * (1.0 - wx) + value_at(h, x1, y1) * wx;
    return top * (1.0 - wy) + bottom * wy;
}

/* Values that are not finite count as cold; where all are equal nothing is hot. */
static void find_range(heat *h)
{
    double low = INFINITY, high = -INFINITY;
    const size_t cells = (size_t)h->width * (size_t)h->height;
    for (size_t i = 0; i < cells; i++) {
        const double v = (double)h->map[i];
        if (isfinite(v)) {
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    h->low = low;
    h->scale = high > low ? 1.0 / (high - low) : 0.0;
}

void vt_image_overlay_heat(vt_image *image, const float *map, int map_width, int map_height,
                           const vt_region *region)
{
    if (!image || !image->data || !map || map_width < 1 || map_height < 1) {
        return;
    }
    const vt_region whole = {0, 0, image->width, image->height};
    const vt_region r = region ? *region : whole;
    if (!(r.width > 0.0) || !(r.height > 0.0)) {
        return;
    }
    heat h = {.map = map, .width = map_width, .height = map_height};
    find_range(&h);
    for (int y = 0; y < image->height; y++) {
        const double v = (y + 0.5 - r.y) / r.height;
        for (int x = 0; x < image->width; x++) {
            const double u = (x + 0.5 - r.x) / r.width;
            if (!(u >= 0.0 && u < 1.0 && v >= 0.0 && v < 1.0)) {
                continue; /* the network did not look there */
            }
            const double t = sample(&h, u * map_width, v * map_height);
            const double opacity = 0.25 + 0.4 * t; /* the hot is what people look for */
            double colour[3];
            heat_colour(t, colour);
            uint8_t *pixel = image->data + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
            for (int c = 0; c < 3; c++) {
                const double mixed = pixel[c] * (1.0 - opacity) + colour[c] * opacity;
                pixel[c] = (uint8_t)(mixed + 0.5);
            }
        }
    }
}
