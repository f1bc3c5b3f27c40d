/* SPDX-License-Identifier: Apache-2.0 */
/* Pillow's antialiased resize for 8-bit pixels, bit for bit (checked against Pillow 13.0.0).
 *
 * Two separable passes over an 8-bit intermediate. One pass computes
 *     out[o] = clamp((2^21 + sum_j in[start_o + j] * k_o[j]) >> 22, 0, 255)
 * with weights k that are the filter's values in double precision, normalised to a sum of 1 and
 * rounded to 22 fractional bits. The doubles must be evaluated in the order written here and
 * without contraction into fused multiply-adds; the sum is in integers, so its order is free.
 *
 * Which pass is first changes the result in the last bit. Pillow 13 begins with the vertical pass
 * when the height shrinks by more than twice what the width shrinks by, in pixels; Pillow up to 12
 * always began with the horizontal one. The two differ for tall pictures only. */
#include "io/resize.h"

#include <math.h>
#include <omp.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/checked.h"
#include "core/context.h"
#include "io/packed.h"

enum {
    WEIGHT_BITS = VT_PACKED_WEIGHT_BITS,
    LANES = 8,                 /* 16-bit lanes of one vector; rows of weights are padded to it */
    MAX_VECTOR_TAPS = 1 << 15, /* more would overflow 32 bits: 2^15 * 255 * 255 < 2^31 */
    MIN_WORK = 1 << 17 /* bytes of a pass below which another thread costs more than it gives */
};

/* ---- filters --------------------------------------------------------------------------------- */

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    if (x < 2.0) {
        return (((x - 5) * x + 8) * x - 4) * a;
    }
    return 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double hamming(double x)
{
    x = fabs(x);
    if (x == 0.0) {
        return 1.0;
    }
    if (x >= 1.0) {
        return 0.0;
    }
    x *= M_PI;
    /* Single-precision constants widened to double, as in Pillow. */
    return sin(x) / x * ((double)0.54f + (double)0.46f * cos(x));
}

static double sinc(double x)
{
    if (x == 0.0) {
        return 1.0;
    }
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct {
    const char *name;
    double support;
    double (*value)(double x);
} filters[] = {
    [VT_FILTER_BICUBIC] = {"bicubic", 2.0, bicubic},
    [VT_FILTER_BILINEAR] = {"bilinear", 1.0, bilinear},
    [VT_FILTER_LANCZOS] = {"lanczos", 3.0, lanczos},
    [VT_FILTER_BOX] = {"box", 0.5, box},
    [VT_FILTER_HAMMING] = {"hamming", 1.0, hamming},
};
enum { FILTERS = sizeof filters / sizeof filters[0] };

const char *vt_filter_name(vt_filter filter)
{
    return (unsigned)filter < FILTERS ? filters[filter].name : "unknown";
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Weights of `count` consecutive outputs along one axis. A weight is high * 256 + low with
 * 0 <= low < 256: two 16-bit halves, so that 16-bit multiply-add instructions do the work. */
typedef struct axis {
    int count, taps; /* taps: row length of high and low, a multiple of LANES, padded with zeros */
    int *start;      /* [count] first sample under the filter; never decreases */
    int *length;     /* [count] samples under the filter */
    int16_t *high, *low; /* [count][taps] */
} axis;

/* Which outputs of which axis: `from` samples become `to`, of which [first, first + count). */
typedef struct axis_request {
    int from, to, first, count;
    vt_filter filter;
} axis_request;

/* Samples [first_sample, end_sample) are all that the outputs need. */
static int first_sample(const axis *a)
{
    return a->start[0];
}

static int end_sample(const axis *a)
{
    return a->start[a->count - 1] + a->length[a->count - 1];
}

static void clear_axis(axis *a, const vt_allocator *allocator)
{
    vt_free(allocator, a->start);
    vt_free(allocator, a->length);
    vt_free(allocator, a->high);
    vt_free(allocator, a->low);
    *a = (axis){0};
}

/* Normalised weights of one output, rounded into high and low. No weight reaches 2 in magnitude
 * (the largest, at a clipped border of lanczos, is near 1.3), so `high` fits 16 bits. */
static void store_weights(const double *w, int n, double sum, int16_t *high, int16_t *low)
{
    for (int j = 0; j < n; j++) {
        double v = sum != 0.0 ? w[j] / sum : w[j];
        v *= 1 << WEIGHT_BITS;
        int k = v < 0 ? (int)(v - 0.5) : (int)(v + 0.5);
        int l = k & 255;
        high[j] = (int16_t)((k - l) / 256);
        low[j] = (int16_t)l;
    }
}

static bool init_axis(axis *a, const vt_allocator *allocator, const axis_request *r)
{
    *a = (axis){.count = r->count};
    const double scale = (double)r->from / r->to;
    const double stretch = scale < 1.0 ? 1.0 : scale;
    const double support = filters[r->filter].support * stretch;
    const double inverse = 1.0 / stretch;
    double (*value)(double) = filters[r->filter].value;
    int most = 2 * (int)ceil(support) + 1;
    most = most < r->from ? most : r->from;
    a->taps = (most + LANES - 1) / LANES * LANES;

    size_t row = (size_t)a->taps, rows = (size_t)r->count, cells;
    double *w = vt_alloc_zero(allocator, row, sizeof *w);
    a->start = vt_alloc_zero(allocator, rows, sizeof *a->start);
    a->length = vt_alloc_zero(allocator, rows, sizeof *a->length);
    if (vt_mul_size(rows, row, &cells)) {
        a->high = vt_alloc_zero(allocator, cells, sizeof *a->high);
        a->low = vt_alloc_zero(allocator, cells, sizeof *a->low);
    }
    if (!w || !a->start || !a->length || !a->high || !a->low) {
        vt_free(allocator, w);
        clear_axis(a, allocator);
        return false;
    }
    for (int i = 0; i < r->count; i++) {
        double center = (r->first + i + 0.5) * scale;
        int lo = (int)(center - support + 0.5);
        int hi = (int)(center + support + 0.5);
        lo = lo < 0 ? 0 : lo;
        hi = hi > r->from ? r->from : hi;
        double sum = 0.0;
        for (int j = 0; j < hi - lo; j++) {
            w[j] = value((j + lo - center + 0.5) * inverse);
            sum += w[j];
        }
        a->start[i] = lo;
        a->length[i] = hi - lo;
        store_weights(w, hi - lo, sum, a->high + (size_t)i * row, a->low + (size_t)i * row);
    }
    vt_free(allocator, w);
    return true;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* Rows of interleaved 8-bit pixels. */
typedef struct raster {
    const uint8_t *data;
    ptrdiff_t stride;
} raster;

static uint8_t round_sum(int64_t sum)
{
    int64_t v = (sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* sum_j in[j * step] * k[j]: the plain form, for any number of taps. */
static uint8_t filter_plain(const uint8_t *in, ptrdiff_t step, const int16_t *high,
                            const int16_t *low, int n)
{
    int64_t sum = 0;
    for (int j = 0; j < n; j++) {
        sum += in[j * step] * (high[j] * 256 + low[j]);
    }
    return round_sum(sum);
}

#if defined(__SSE2__)
static __m128i load16(const int16_t *p)
{
    return _mm_load_si128((const __m128i *)(const void *)p);
}

static __m128i loadu16(const int16_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static __m128i loadu8(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* high * 256 + low */
static __m128i join(__m128i high, __m128i low)
{
    return _mm_add_epi32(_mm_slli_epi32(high, 8), low);
}

static __m128i round_shift(__m128i sum)
{
    const __m128i half = _mm_set1_epi32(1 << (WEIGHT_BITS - 1));
    return _mm_srai_epi32(_mm_add_epi32(sum, half), WEIGHT_BITS);
}

static __m128i madd_to(__m128i sum, __m128i a, __m128i b)
{
    return _mm_add_epi32(sum, _mm_madd_epi16(a, b));
}

/* One output pixel from the planes r, g, b, `pitch` samples apart; n is a multiple of LANES. */
static void filter_planes(const int16_t *plane, size_t pitch, const int16_t *high,
                          const int16_t *low, int n, uint8_t *out)
{
    __m128i h0 = _mm_setzero_si128(), h1 = h0, h2 = h0, l0 = h0, l1 = h0, l2 = h0;
    for (int j = 0; j < n; j += LANES) {
        const __m128i kh = load16(high + j), kl = load16(low + j);
        const __m128i r = loadu16(plane + j), g = loadu16(plane + pitch + j);
        const __m128i b = loadu16(plane + 2 * pitch + j);
        h0 = madd_to(h0, r, kh);
        h1 = madd_to(h1, g, kh);
        h2 = madd_to(h2, b, kh);
        l0 = madd_to(l0, r, kl);
        l1 = madd_to(l1, g, kl);
        l2 = madd_to(l2, b, kl);
    }
    /* Add up the four lanes of each colour; lane c of the end is colour c. */
    const __m128i r = join(h0, l0), g = join(h1, l1), b = join(h2, l2);
    const __m128i zero = _mm_setzero_si128();
    __m128i rg = _mm_add_epi32(_mm_unpacklo_epi32(r, g), _mm_unpackhi_epi32(r, g));
    __m128i b0 = _mm_add_epi32(_mm_unpacklo_epi32(b, zero), _mm_unpackhi_epi32(b, zero));
    __m128i sum = _mm_add_epi32(_mm_unpacklo_epi64(rg, b0), _mm_unpackhi_epi64(rg, b0));
    __m128i v = round_shift(sum);
    v = _mm_packus_epi16(_mm_packs_epi32(v, zero), zero);
    const int bytes = _mm_cvtsi128_si32(v);
    out[0] = (uint8_t)(bytes & 255);
    out[1] = (uint8_t)(bytes >> 8 & 255);
    out[2] = (uint8_t)(bytes >> 16 & 255);
}

/* Adds two rows of sixteen samples, weighted with the pair of 16-bit weights `k` (row p's in the
 * even lanes), to the 32-bit sums. */
static void add_rows(__m128i p, __m128i q, __m128i kh, __m128i kl, __m128i h[4], __m128i l[4])
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i a = _mm_unpacklo_epi8(p, q), b = _mm_unpackhi_epi8(p, q);
    const __m128i s0 = _mm_unpacklo_epi8(a, zero), s1 = _mm_unpackhi_epi8(a, zero);
    const __m128i s2 = _mm_unpacklo_epi8(b, zero), s3 = _mm_unpackhi_epi8(b, zero);
    h[0] = madd_to(h[0], s0, kh);
    h[1] = madd_to(h[1], s1, kh);
    h[2] = madd_to(h[2], s2, kh);
    h[3] = madd_to(h[3], s3, kh);
    l[0] = madd_to(l[0], s0, kl);
    l[1] = madd_to(l[1], s1, kl);
    l[2] = madd_to(l[2], s2, kl);
    l[3] = madd_to(l[3], s3, kl);
}

static __m128i pair(const int16_t *k)
{
    int32_t both;
    memcpy(&both, k, sizeof both);
    return _mm_set1_epi32(both);
}

/* Sixteen neighbouring samples of one output row. */
static void filter_column16(const uint8_t *in, ptrdiff_t stride, const int16_t *high,
                            const int16_t *low, int n, uint8_t *out)
{
    __m128i h[4], l[4];
    for (int i = 0; i < 4; i++) {
        h[i] = l[i] = _mm_setzero_si128();
    }
    int j = 0;
    for (; j + 2 <= n; j += 2) {
        add_rows(loadu8(in + j * stride), loadu8(in + (j + 1) * stride), pair(high + j),
                 pair(low + j), h, l);
    }
    if (j < n) { /* the padding behind the last weight is zero */
        add_rows(loadu8(in + j * stride), _mm_setzero_si128(), pair(high + j), pair(low + j), h, l);
    }
    __m128i v[4];
    for (int i = 0; i < 4; i++) {
        v[i] = round_shift(join(h[i], l[i]));
    }
    _mm_storeu_si128((__m128i *)(void *)out,
                     _mm_packus_epi16(_mm_packs_epi32(v[0], v[1]), _mm_packs_epi32(v[2], v[3])));
}
#else
static void filter_planes(const int16_t *plane, size_t pitch, const int16_t *high,
                          const int16_t *low, int n, uint8_t *out)
{
    for (int c = 0; c < 3; c++, plane += pitch) {
        int32_t h = 0, l = 0;
        for (int j = 0; j < n; j++) {
            h += plane[j] * high[j];
            l += plane[j] * low[j];
        }
        out[c] = round_sum((int64_t)h * 256 + l);
    }
}

static void filter_column16(const uint8_t *in, ptrdiff_t stride, const int16_t *high,
                            const int16_t *low, int n, uint8_t *out)
{
    int32_t sum[16] = {0};
    for (int j = 0; j < n; j++) {
        const int32_t k = high[j] * 256 + low[j];
        for (int i = 0; i < 16; i++) {
            sum[i] += in[j * stride + i] * k;
        }
    }
    for (int i = 0; i < 16; i++) {
        out[i] = round_sum(sum[i]);
    }
}
#endif

/* One row: `in` points at the sample first_sample(a); `planes` is scratch, 3 * pitch samples of
 * which the last LANES of each plane are zero. */
static void horizontal_row(const uint8_t *in, const axis *a, int16_t *planes, size_t pitch,
                           uint8_t *out)
{
    const int base = first_sample(a), span = end_sample(a) - base;
    for (int x = 0; x < span; x++) {
        planes[x] = in[3 * (size_t)x];
        planes[pitch + (size_t)x] = in[3 * (size_t)x + 1];
        planes[2 * pitch + (size_t)x] = in[3 * (size_t)x + 2];
    }
    for (int i = 0; i < a->count; i++) {
        const int16_t *high = a->high + (size_t)i * (size_t)a->taps;
        const int16_t *low = a->low + (size_t)i * (size_t)a->taps;
        const size_t at = (size_t)(a->start[i] - base);
        const int n = a->length[i];
        if (n > MAX_VECTOR_TAPS) {
            for (size_t c = 0; c < 3; c++) {
                out[3 * i + (int)c] = filter_plain(in + 3 * at + c, 3, high, low, n);
            }
        } else {
            filter_planes(planes + at, pitch, high, low, (n + LANES - 1) / LANES * LANES,
                          out + 3 * (size_t)i);
        }
    }
}

static int threads_for(const vt_context *context, int rows, size_t row_bytes)
{
    const size_t useful = (size_t)rows * row_bytes / MIN_WORK + 1;
    const int threads = vt_context_threads(context);
    return useful < (size_t)threads ? (int)useful : threads;
}

/* out[y][i] for `rows` rows; in.data points at the sample first_sample(a) of the first row. */
static bool horizontal_pass(const vt_context *context, raster in, int rows, const axis *a,
                            uint8_t *out)
{
    const vt_allocator *allocator = vt_context_allocator(context);
    const size_t span = (size_t)(end_sample(a) - first_sample(a));
    const size_t pitch = (span + 2 * LANES - 1) / LANES * LANES;
    const int threads = threads_for(context, rows, 3 * span);
    int16_t *planes = vt_alloc_zero(allocator, (size_t)threads * 3 * pitch, sizeof *planes);
    if (!planes) {
        return false;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int y = 0; y < rows; y++) {
        horizontal_row(in.data + y * in.stride, a,
                       planes + (size_t)omp_get_thread_num() * 3 * pitch, pitch,
                       out + (size_t)y * 3 * (size_t)a->count);
    }
    vt_free(allocator, planes);
    return true;
}

/* out[i][x] for x < bytes; in.data points at the row first_sample(a). */
static void vertical_pass(const vt_context *context, raster in, size_t bytes, const axis *a,
                          uint8_t *out)
{
    const int threads = threads_for(context, end_sample(a) - first_sample(a), bytes);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < a->count; i++) {
        const int16_t *high = a->high + (size_t)i * (size_t)a->taps;
        const int16_t *low = a->low + (size_t)i * (size_t)a->taps;
        const uint8_t *top = in.data + (a->start[i] - first_sample(a)) * in.stride;
        uint8_t *row = out + (size_t)i * bytes;
        const int n = a->length[i];
        size_t x = 0;
        for (; n <= MAX_VECTOR_TAPS && x + 16 <= bytes; x += 16) {
            filter_column16(top + x, in.stride, high, low, n, row + x);
        }
        for (; x < bytes; x++) {
            row[x] = filter_plain(top + x, in.stride, high, low, n);
        }
    }
}

/* ---- putting them together ------------------------------------------------------------------- */

/* The part of the source that starts at pixel (x, y). */
static raster part(const vt_pixels *p, int x, int y)
{
    return (raster){p->data + y * p->stride + 3 * (ptrdiff_t)x, p->stride};
}

static void copy_rows(raster in, int rows, size_t row_bytes, uint8_t *out)
{
    for (int y = 0; y < rows; y++) {
        memcpy(out + (size_t)y * row_bytes, in.data + y * in.stride, row_bytes);
    }
}

/* Pillow's rule, see above. */
static bool is_down_first(const vt_pixels *p, const vt_resize_window *win)
{
    const int64_t shrink = (int64_t)p->height - win->full_height;
    return shrink > 0 && shrink > 2 * ((int64_t)p->width - win->full_width);
}

static bool both_passes(const vt_context *context, const vt_pixels *p, const vt_resize_window *win,
                        const axis *across, const axis *down, uint8_t *out)
{
    const vt_allocator *allocator = vt_context_allocator(context);
    const int x0 = first_sample(across), y0 = first_sample(down);
    const int columns = end_sample(across) - x0, rows = end_sample(down) - y0;
    const bool down_first = is_down_first(p, win);
    const size_t middle_row = 3 * (size_t)(down_first ? columns : win->width);
    uint8_t *middle =
        vt_alloc_zero(allocator, (size_t)(down_first ? win->height : rows), middle_row);
    if (!middle) {
        return false;
    }
    const raster from_middle = {middle, (ptrdiff_t)middle_row};
    bool ok;
    if (down_first) {
        vertical_pass(context, part(p, x0, y0), middle_row, down, middle);
        ok = horizontal_pass(context, from_middle, win->height, across, out);
    } else {
        ok = horizontal_pass(context, part(p, x0, y0), rows, across, middle);
        if (ok) {
            vertical_pass(context, from_middle, middle_row, down, out);
        }
    }
    vt_free(allocator, middle);
    return ok;
}

/* The axes of a window; one whose side keeps its length stays empty. */
static bool init_axes(const vt_allocator *allocator, const vt_pixels *p,
                      const vt_resize_window *win, vt_filter filter, axis *across, axis *down)
{
    const axis_request x = {p->width, win->full_width, win->x, win->width, filter};
    const axis_request y = {p->height, win->full_height, win->y, win->height, filter};
    *across = *down = (axis){0};
    if (x.from != x.to && !init_axis(across, allocator, &x)) {
        return false;
    }
    if (y.from != y.to && !init_axis(down, allocator, &y)) {
        clear_axis(across, allocator);
        return false;
    }
    return true;
}

/* A side that keeps its length is copied, not filtered. */
static bool resize_window(const vt_context *context, const vt_pixels *p,
                          const vt_resize_window *win, vt_filter filter, uint8_t *out)
{
    const vt_allocator *allocator = vt_context_allocator(context);
    const size_t row_bytes = 3 * (size_t)win->width;
    axis across, down;
    bool ok = true;
    if (!init_axes(allocator, p, win, filter, &across, &down)) {
        return false;
    }
    if (across.count && down.count) {
        ok = both_passes(context, p, win, &across, &down, out);
    } else if (across.count) {
        ok = horizontal_pass(context, part(p, first_sample(&across), win->y), win->height, &across,
                             out);
    } else if (down.count) {
        vertical_pass(context, part(p, win->x, first_sample(&down)), row_bytes, &down, out);
    } else {
        copy_rows(part(p, win->x, win->y), win->height, row_bytes, out);
    }
    clear_axis(&across, allocator);
    clear_axis(&down, allocator);
    return ok;
}

/* ---- packing --------------------------------------------------------------------------------- */

/* A block that is being filled. */
typedef struct packer {
    uint8_t *block;
    size_t used, room;
} packer;

/* Where the next `bytes` bytes go, or NULL when they do not fit. */
static void *reserve(packer *p, size_t bytes)
{
    const size_t at = (p->used + 15) & ~(size_t)15;
    if (at > p->room || bytes > p->room - at) {
        return NULL;
    }
    p->used = at + bytes;
    return p->block + at;
}

static uint32_t position(const packer *p, const void *at)
{
    return (uint32_t)((const uint8_t *)at - p->block);
}

/* `a` is empty where the side keeps its `count` samples. */
static bool pack_axis(packer *p, const axis *a, int count, vt_packed_axis *out)
{
    int taps = 1;
    for (int i = 0; i < a->count; i++) {
        taps = a->length[i] > taps ? a->length[i] : taps;
    }
    const size_t rows = (size_t)count, row = (size_t)taps;
    vt_packed_span *spans = reserve(p, rows * sizeof *spans);
    int32_t *weights = spans ? reserve(p, rows * row * sizeof *weights) : NULL;
    if (!weights) {
        return false;
    }
    for (size_t i = 0; i < rows; i++) {
        spans[i] = a->count ? (vt_packed_span){a->start[i] - first_sample(a), a->length[i]}
                            : (vt_packed_span){(int32_t)i, 1};
        for (size_t j = 0; j < row; j++) {
            const size_t k = i * (size_t)a->taps + j;
            weights[i * row + j] = a->count ? a->high[k] * 256 + a->low[k] : 1 << WEIGHT_BITS;
        }
    }
    *out = (vt_packed_axis){.samples = a->count ? end_sample(a) - first_sample(a) : count,
                            .outputs = count,
                            .taps = taps,
                            .spans = position(p, spans),
                            .weights = position(p, weights)};
    return true;
}

/* Everything but where the window lies in the input. */
static bool pack_window(packer *to, const vt_pixels *p, const vt_resize_window *win,
                        const axis *across, const axis *down)
{
    vt_packed_picture *head = reserve(to, sizeof *head);
    if (!head || !pack_axis(to, across, win->width, &head->across) ||
        !pack_axis(to, down, win->height, &head->down)) {
        return false;
    }
    head->left = head->top = 0;
    head->down_first = is_down_first(p, win);
    head->bgr = p->format == VT_PIXELS_BGR;
    const size_t row_bytes = 3 * (size_t)head->across.samples, rows = (size_t)head->down.samples;
    uint8_t *pixels = rows <= to->room / row_bytes ? reserve(to, rows * row_bytes) : NULL;
    const int64_t middle = head->down_first ? (int64_t)head->down.outputs * head->across.samples
                                            : (int64_t)head->down.samples * head->across.outputs;
    if (!pixels || middle > (int64_t)(to->room / 3)) {
        return false;
    }
    head->middle = (int32_t)middle;
    copy_rows(part(p, across->count ? first_sample(across) : win->x,
                   down->count ? first_sample(down) : win->y),
              head->down.samples, row_bytes, pixels);
    head->pixels = position(to, pixels);
    head->bytes = (uint32_t)to->used;
    return true;
}

/* ---- what is called -------------------------------------------------------------------------- */

static bool side_is_valid(int side)
{
    return side > 0 && side <= VT_RESIZE_MAX_SIDE;
}

static vt_status check(const vt_context *context, const vt_pixels *p, const vt_resize_window *w,
                       vt_filter filter, const void *out, vt_error *error)
{
    if (!context || !p || !p->data || !out) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "resize: context, pixels or out is NULL");
    }
    if (!side_is_valid(p->width) || !side_is_valid(p->height)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "picture of %d x %d: want sides of 1 to %d",
                            p->width, p->height, VT_RESIZE_MAX_SIDE);
    }
    if (p->format != VT_PIXELS_RGB && p->format != VT_PIXELS_BGR) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "pixel format %d is not known", p->format);
    }
    const ptrdiff_t row = 3 * (ptrdiff_t)p->width;
    if (p->height > 1 && p->stride < row && p->stride > -row) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "stride %td is shorter than a row of %d pixels",
                            p->stride, p->width);
    }
    if ((unsigned)filter >= FILTERS) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "filter %d is not known", filter);
    }
    if (!side_is_valid(w->full_width) || !side_is_valid(w->full_height)) {
        return vt_error_set(error, VT_ERR_ARGUMENT,
                            "cannot resize %d x %d to %d x %d: want sides of 1 to %d", p->width,
                            p->height, w->full_width, w->full_height, VT_RESIZE_MAX_SIDE);
    }
    return VT_OK;
}

static vt_status out_of_memory(const vt_pixels *p, const vt_resize_window *w, vt_error *error)
{
    return vt_error_set(error, VT_ERR_MEMORY, "out of memory while resizing %d x %d to %d x %d",
                        p->width, p->height, w->full_width, w->full_height);
}

vt_status vt_resize_part(vt_context *context, const vt_pixels *pixels,
                         const vt_resize_window *window, vt_filter filter, uint8_t *out,
                         vt_error *error)
{
    vt_status status = check(context, pixels, window, filter, out, error);
    if (status == VT_OK && !resize_window(context, pixels, window, filter, out)) {
        status = out_of_memory(pixels, window, error);
    }
    return status;
}

vt_status vt_resize_pack(vt_context *context, const vt_pixels *pixels,
                         const vt_resize_window *window, vt_filter filter, void *block, size_t room,
                         vt_error *error)
{
    vt_status status = check(context, pixels, window, filter, block, error);
    if (status != VT_OK) {
        return status;
    }
    const vt_allocator *allocator = vt_context_allocator(context);
    axis across, down;
    if (!init_axes(allocator, pixels, window, filter, &across, &down)) {
        return out_of_memory(pixels, window, error);
    }
    packer to = {block, 0, room < UINT32_MAX ? room : UINT32_MAX};
    if (!pack_window(&to, pixels, window, &across, &down)) {
        status = vt_error_set(error, VT_ERR_LIMIT, "a picture of %d x %d takes more than %zu bytes",
                              pixels->width, pixels->height, room);
    }
    clear_axis(&across, allocator);
    clear_axis(&down, allocator);
    return status;
}

vt_status vt_resize(vt_context *context, const vt_pixels *pixels, int width, int height,
                    vt_filter filter, uint8_t *out, vt_error *error)
{
    const vt_resize_window whole = {width, height, 0, 0, width, height};
    return vt_resize_part(context, pixels, &whole, filter, out, error);
}
