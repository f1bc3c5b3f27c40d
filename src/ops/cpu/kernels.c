/* SPDX-License-Identifier: Apache-2.0 */
/* The fast CPU kernels. This one source is compiled once per instruction set, each time with
 * another VT_ISA_NAME; it holds no state and knows no threads.
 *
 * Matrix product. One tile of MR rows x NR columns lives in registers while the whole depth K runs
 * by: per step, NR / lanes vectors of the packed panel are loaded, and for each row one element of
 * `a` is broadcast and multiplied in. `a` is read where it lies, row by row; the depth is never
 * split, so that an element is summed in the same order whatever the tile, the threads and the
 * batch. bf16 with AVX512-BF16 runs the same loop on pairs: a step takes two products per lane. */
#include "ops/cpu/kernels.h"

#include <math.h>

#include "ops/cpu/simd.h"
#include "ops/cpu/vmath.h"
#include "ops/pattern.h"

#if defined(__AVX512F__)
enum { MR = 14, NR = 32 };
#elif defined(__AVX2__)
enum { MR = 6, NR = 16 };
#elif defined(__aarch64__)
enum { MR = 6, NR = 16 };
#else
enum { MR = 4, NR = 8 };
#endif

enum { LANES = VF_LANES, NV = NR / VF_LANES };

#if defined(__AVX512BF16__)
#define BF16_PAIRS true
#else
#define BF16_PAIRS false
#endif

/* ---- matrix product -------------------------------------------------------------------------- */

enum panel_kind {
    PANEL_F32,
    PANEL_WIDEN, /* [k][NR] bf16, widened on the way */
    PANEL_PAIRS  /* [k/2][NR][2] bf16, meets pairs of a */
};

/* What one lane of a row gives at one step: four bytes, an f32 or two bf16. */
VT_INLINE vf broadcast(const char *a)
{
    float x;
    memcpy(&x, a, sizeof x);
    return vf_all(x);
}

VT_INLINE vf panel_vector(const enum panel_kind kind, const char *panel, int j)
{
    if (kind == PANEL_WIDEN) {
        return vf_load_bf16((const uint16_t *)(const void *)panel + j * LANES);
    }
    return vf_load((const float *)(const void *)panel + j * LANES);
}

VT_INLINE vf multiply_add(const enum panel_kind kind, vf acc, vf a, vf b)
{
#if defined(__AVX512BF16__)
    if (kind == PANEL_PAIRS) {
        return vf_dot_bf16(acc, (vi)a, (vi)b);
    }
#endif
    (void)kind;
    return acc + a * b;
}

/* Stops the compiler from turning four row pointers and one stride into MR pointers on the stack.
 */
#define KEEP_IN_REGISTER(x) __asm__("" : "+r"(x))

VT_INLINE void tile_step(const enum panel_kind kind, const int rows, vf acc[MR][NV],
                         const char *const a[4], int64_t stride, int64_t stride3, int at,
                         const char *panel)
{
    vf b[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; j++) {
        b[j] = panel_vector(kind, panel, j);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        int64_t row = r % 4 == 3 ? stride3 : r % 4 * stride;
        vf x = broadcast(a[r / 4] + row + at);
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) {
            acc[r][j] = multiply_add(kind, acc[r][j], x, b[j]);
        }
    }
}

/* Asks early for the lines that the end of the tile reads or writes. */
VT_INLINE void fetch_rows(const int rows, const float *first, int64_t stride)
{
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        const char *line = (const char *)first + r * stride;
#pragma GCC unroll 4
        for (int at = 0; at < NR * 4; at += 64) {
            __builtin_prefetch(line + at, 1, 3);
        }
    }
}

VT_INLINE void tile_rows(const enum panel_kind kind, const int rows, const vt_cpu_tile *t)
{
    enum { STEP = 4 };
    const int64_t width = NR * (kind == PANEL_WIDEN ? 2 : 4);
    vf acc[MR][NV];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) {
            acc[r][j] = (vf){0};
        }
    }
    int64_t stride = t->a_stride, stride3 = 3 * t->a_stride, k = t->k;
    const char *a0 = t->a, *a1 = a0 + 4 * stride, *a2 = a1 + 4 * stride, *a3 = a2 + 4 * stride;
    const char *panel = t->panel, *ahead = t->ahead;
    fetch_rows(rows, t->c, t->c_stride);
    if (t->residual) {
        fetch_rows(rows, t->residual, t->residual_stride);
    }
    for (; k >= STEP; k -= STEP) {
        __builtin_prefetch(ahead, 0, 2);
        __builtin_prefetch(ahead + 64, 0, 2);
        ahead += t->ahead_step;
        KEEP_IN_REGISTER(stride);
        KEEP_IN_REGISTER(stride3);
#pragma GCC unroll 4
        for (int i = 0; i < STEP; i++) {
            tile_step(kind, rows, acc, (const char *const[4]){a0, a1, a2, a3}, stride, stride3,
                      4 * i, panel + i * width);
        }
        a0 += 4 * STEP, a1 += 4 * STEP, a2 += 4 * STEP, a3 += 4 * STEP;
        panel += STEP * width;
        KEEP_IN_REGISTER(a0);
        KEEP_IN_REGISTER(a1);
        KEEP_IN_REGISTER(a2);
        KEEP_IN_REGISTER(a3);
        KEEP_IN_REGISTER(panel);
    }
    for (; k > 0; k--) {
        tile_step(kind, rows, acc, (const char *const[4]){a0, a1, a2, a3}, stride, stride3, 0,
                  panel);
        a0 += 4, a1 += 4, a2 += 4, a3 += 4;
        panel += width;
    }
    const float *residual = t->residual;
    float *c = t->c;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) {
            vf sum = acc[r][j] + vf_load(t->bias + j * LANES);
            if (residual) {
                sum += vf_load(residual + j * LANES);
            }
            vf_store(c + j * LANES, sum);
        }
        residual = residual ? residual + t->residual_stride / 4 : NULL;
        c += t->c_stride / 4;
    }
}

#define ROWS_CASE(kind, n)                                                                         \
    case n:                                                                                        \
        tile_rows(kind, n < MR ? n : MR, t);                                                       \
        break;

#define TILE_FUNCTION(name, kind)                                                                  \
    static void name(const vt_cpu_tile *t)                                                         \
    {                                                                                              \
        switch (t->rows) {                                                                         \
            ROWS_CASE(kind, 1)                                                                     \
            ROWS_CASE(kind, 2)                                                                     \
            ROWS_CASE(kind, 3)                                                                     \
            ROWS_CASE(kind, 4)                                                                     \
            MORE_ROWS(kind)                                                                        \
            MOST_ROWS(kind)                                                                        \
        default: break;                                                                            \
        }                                                                                          \
    }

#if defined(__AVX2__) || defined(__aarch64__)
#define MORE_ROWS(kind) ROWS_CASE(kind, 5) ROWS_CASE(kind, 6)
#else
#define MORE_ROWS(kind)
#endif
#if defined(__AVX512F__)
#define MOST_ROWS(kind)                                                                            \
    ROWS_CASE(kind, 7)                                                                             \
    ROWS_CASE(kind, 8)                                                                             \
    ROWS_CASE(kind, 9)                                                                             \
    ROWS_CASE(kind, 10)                                                                            \
    ROWS_CASE(kind, 11)                                                                            \
    ROWS_CASE(kind, 12)                                                                            \
    ROWS_CASE(kind, 13)                                                                            \
    ROWS_CASE(kind, 14)
#else
#define MOST_ROWS(kind)
#endif

TILE_FUNCTION(tile_f32, PANEL_F32)
TILE_FUNCTION(tile_bf16, BF16_PAIRS ? PANEL_PAIRS : PANEL_WIDEN)

/* ---- activation, residual, store ------------------------------------------------------------- */

VT_INLINE void finish_vector(const vt_activation act, const vt_cpu_finish *f, int64_t r, int64_t c,
                             int64_t count)
{
    vf x = vf_activate(act, vf_load_some(f->src, false, r * f->src_stride + c, count));
    if (f->residual) {
        vf other = vf_load_some(f->residual, f->residual_bf16, r * f->residual_stride + c, count);
        x = f->gated ? x * other : x + other;
    }
    vf_store_some(f->dst, f->dst_bf16, r * f->dst_stride + c, count, x);
}

VT_INLINE void finish_rows(const vt_activation act, const vt_cpu_finish *p)
{
    const vt_cpu_finish f = *p; /* what is stored below can't change it */
    for (int64_t r = 0; r < f.rows; r++) {
        int64_t c = 0;
        for (; c + LANES <= f.cols; c += LANES) {
            finish_vector(act, &f, r, c, LANES);
        }
        if (c < f.cols) {
            finish_vector(act, &f, r, c, f.cols - c);
        }
    }
}

static void finish(const vt_cpu_finish *f)
{
    switch (f->act) {
    case VT_ACT_NONE: finish_rows(VT_ACT_NONE, f); break;
    case VT_ACT_GELU: finish_rows(VT_ACT_GELU, f); break;
    case VT_ACT_GELU_TANH: finish_rows(VT_ACT_GELU_TANH, f); break;
    case VT_ACT_SILU: finish_rows(VT_ACT_SILU, f); break;
    case VT_ACT_RELU: finish_rows(VT_ACT_RELU, f); break;
    case VT_ACT_SIGMOID: finish_rows(VT_ACT_SIGMOID, f); break;
    case VT_ACT_TANH: finish_rows(VT_ACT_TANH, f); break;
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* sum over c of (x[c] - centre)^power, power 1 or 2 (and of power 1 in *drift) */
VT_INLINE float row_sum(const float *x, int64_t n, float centre, bool squared, float *drift)
{
    vf sum[2] = {{0}, {0}}, one[2] = {{0}, {0}};
    int64_t c = 0;
    for (; c + 2 * LANES <= n; c += 2 * LANES) {
        for (int i = 0; i < 2; i++) {
            vf d = vf_load(x + c + i * LANES) - centre;
            sum[i] = squared ? sum[i] + d * d : sum[i] + d;
            one[i] += d;
        }
    }
    float total = vf_sum(sum[0] + sum[1]), first = vf_sum(one[0] + one[1]);
    for (; c < n; c++) {
        float d = x[c] - centre;
        total += squared ? d * d : d;
        first += d;
    }
    if (drift) {
        *drift = first;
    }
    return total;
}

/* Two passes: the mean, then the squares about it. What rounding left of the mean is measured in
 * the second pass and taken out, so that a mean of 1000 costs no digits. */
static void norm_row(const float *x, int64_t n, const float *scale, const float *shift, float eps,
                     float *dst)
{
    float count = (float)n, drift;
    float mean = row_sum(x, n, 0.0f, false, NULL) / count;
    float squares = row_sum(x, n, mean, true, &drift);
    drift /= count;
    float variance = squares / count - drift * drift;
    float inverse = 1.0f / sqrtf((variance > 0.0f ? variance : squares * 0.0f) + eps);
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        vf y = (vf_load(x + c) - mean - drift) * inverse;
        vf a = scale ? vf_load(scale + c) : vf_all(1.0f);
        vf b = shift ? vf_load(shift + c) : (vf){0};
        vf_store(dst + c, y * a + b);
    }
    if (c < n) {
        vf y = (vf_load_some(x, false, c, n - c) - mean - drift) * inverse;
        vf a = scale ? vf_load_some(scale, false, c, n - c) : vf_all(1.0f);
        vf b = shift ? vf_load_some(shift, false, c, n - c) : (vf){0};
        vf_store_some(dst, false, c, n - c, y * a + b);
    }
}

static void widen(const uint16_t *src, int64_t n, float *dst)
{
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        vf_store(dst + c, vf_load_bf16(src + c));
    }
    if (c < n) {
        vf_store_some(dst, false, c, n - c, vf_load_some(src, true, c, n - c));
    }
}

static void narrow(const float *src, int64_t n, uint16_t *dst)
{
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        vf_store_bf16(dst + c, vf_load(src + c));
    }
    if (c < n) {
        vf_store_some(dst, true, c, n - c, vf_load_some(src, false, c, n - c));
    }
}

static void add(const float *a, const float *b, int64_t n, float *dst)
{
    for (int64_t c = 0; c < n; c++) {
        dst[c] = a[c] + b[c];
    }
}

static void scale(const float *src, int64_t n, float factor, float *dst)
{
    for (int64_t c = 0; c < n; c++) {
        dst[c] = src[c] * factor;
    }
}

static float square_sum(const float *x, int64_t n)
{
    return row_sum(x, n, 0.0f, true, NULL);
}

/* ---- attention ------------------------------------------------------------------------------- */

VT_INLINE void fill_vectors(float *dst, int64_t count, vf x)
{
    for (int64_t c = 0; c < count; c += LANES) {
        vf_store(dst + c, x);
    }
}

/* In ascending order: each run of whole vectors overwrites what the one before wrote too far. */
static void positions(const vt_cpu_positions *args)
{
    const vt_cpu_positions p = *args; /* what is stored below can't change it */
    const vf unseen = vf_all(VT_CPU_UNSEEN);
    const int64_t last_col = p.first_col + p.seen_cols;
    for (int64_t i = 0; i < p.rows; i++) {
        float *row = p.dst + i * p.cols;
        int64_t y = i - p.first_row;
        if (y < 0 || y >= p.seen_rows) {
            fill_vectors(row, p.cols, unseen);
            continue;
        }
        fill_vectors(row, p.first_col, unseen);
        vf along = vf_all(p.along ? p.along[y] : 0.0f);
        for (int64_t x = 0; x < p.seen_cols; x += LANES) {
            vf s = vf_load(p.table + y * p.table_step + x) + along;
            if (p.base) {
                s += vf_load(p.base + i * p.cols + p.first_col + x);
            }
            vf_store(row + p.first_col + x, s);
        }
        fill_vectors(row + last_col, p.cols - last_col, unseen);
    }
    int64_t end = p.rows * p.cols;
    fill_vectors(p.dst + end, p.columns - end, (vf){0});
}

/* Rows are short chains of dependent steps, so each step is taken for all rows in turn. */
static void softmax_rows(const vt_cpu_softmax *args)
{
    const vt_cpu_softmax p = *args;
    float top[MR];
    for (int64_t r = 0; r < p.rows; r++) {
        float *row = p.scores + r * p.stride;
        vf largest = vf_all(-INFINITY);
        for (int64_t c = 0; c < p.n; c += LANES) {
            vf s = vf_load(row + c);
            if (p.regions) {
                vi ids;
                memcpy(&ids, p.regions + c, sizeof ids);
                s += (vf)((vi)vf_all(VT_MASK_VALUE) & (ids != p.region[r]));
                vf_store(row + c, s);
            }
            largest = vf_max(largest, s);
        }
        top[r] = vf_largest(largest);
    }
    for (int64_t r = 0; p.running && r < p.rows; r++) {
        float before = p.top[r];
        p.top[r] = top[r] = before > top[r] ? before : top[r];
        p.factor[r] = vf_exp(vf_all(before - top[r]))[0];
    }
    for (int64_t r = 0; r < p.rows; r++) {
        float *row = p.scores + r * p.stride;
        vf sum = {0};
        for (int64_t c = 0; c < p.n; c += LANES) {
            vf e = vf_exp(vf_load(row + c) - top[r]);
            sum += e;
            vf_store(row + c, e);
        }
        p.sum[r] = vf_sum(sum) + (p.running ? p.sum[r] * p.factor[r] : 0.0f);
    }
}

static void weigh(const vt_cpu_weigh *p)
{
    for (int64_t r = 0; r < p->rows; r++) {
        const float *row = p->block + r * p->width;
        vf sum = {0};
        int64_t c = 0;
        for (; c + LANES <= p->width; c += LANES) {
            sum += vf_load(row + c) * vf_load(p->weights + c);
        }
        if (c < p->width) {
            sum += vf_load_some(row, false, c, p->width - c) *
                   vf_load_some(p->weights, false, c, p->width - c);
        }
        float weight = vf_sum(sum);
        p->factors[r] = p->numerator / (weight < p->floor ? p->floor : weight);
    }
}

VT_INLINE void gather_rows(const bool bf16, const vt_cpu_rows *p)
{
    const vt_cpu_rows g = *p; /* what is stored below can't change it */
    const vf least = vf_all(g.relu ? 0.0f : -INFINITY);
    int64_t whole = g.width / LANES * LANES;
    for (int64_t i = 0; i < g.rows; i++) {
        float *out = g.block + i * g.block_stride;
        if (g.pixel[i] < 0) {
            for (int64_t c = 0; c < g.width; c++) {
                out[c] = g.pad ? g.pad[c] * g.factor : 0.0f;
            }
            continue;
        }
        int64_t at = g.first + g.pixel[i] * g.step, c = 0;
        for (; c < whole; c += LANES) {
            vf x = vf_load_some(g.map, bf16, at + c, LANES) * g.factor;
            vf_store(out + c, vf_max(least, x));
        }
        if (c < g.width) {
            vf x = vf_load_some(g.map, bf16, at + c, g.width - c) * g.factor;
            vf_store_some(out, false, c, g.width - c, vf_max(least, x));
        }
    }
}

static void gather(const vt_cpu_rows *p)
{
    if (p->bf16) {
        gather_rows(true, p);
    } else {
        gather_rows(false, p);
    }
}

VT_INLINE void scatter_rows(const bool bf16, const vt_cpu_rows *p)
{
    const vt_cpu_rows g = *p;
    for (int64_t i = 0; i < g.rows; i++) {
        if (g.pixel[i] >= 0) {
            const float *src = g.block + i * g.block_stride;
            int64_t at = g.first + g.pixel[i] * g.step, c = 0;
            vf factor = vf_all(g.factors[i]);
            for (; c + LANES <= g.width; c += LANES) {
                vf_store_some(g.map, bf16, at + c, LANES, vf_load(src + c) * factor);
            }
            if (c < g.width) {
                vf_store_some(g.map, bf16, at + c, g.width - c, vf_load(src + c) * factor);
            }
        }
    }
}

static void scatter(const vt_cpu_rows *p)
{
    if (p->bf16) {
        scatter_rows(true, p);
    } else {
        scatter_rows(false, p);
    }
}

/* A square of LANES x LANES: log2(LANES) rounds of interleaving row i with row i + LANES / 2. */
VT_INLINE void transpose_square(const float *src, int64_t src_stride, float *dst,
                                int64_t dst_stride)
{
    vf a[LANES], b[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        a[i] = vf_load(src + i * src_stride);
    }
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = vf_interleave_low(a[i], a[i + LANES / 2]);
            b[2 * i + 1] = vf_interleave_high(a[i], a[i + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            a[i] = b[i];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        vf_store(dst + i * dst_stride, a[i]);
    }
}

static void transpose(const float *src, int64_t src_stride, int64_t cols, float *dst,
                      int64_t dst_stride)
{
    int64_t j = 0;
    for (; j + LANES <= cols; j += LANES) {
        transpose_square(src + j, src_stride, dst + j * dst_stride, dst_stride);
    }
    for (; j < cols; j++) {
        for (int64_t i = 0; i < LANES; i++) {
            dst[j * dst_stride + i] = src[i * src_stride + j];
        }
    }
}

/* ---- peak ------------------------------------------------------------------------------------ */

/* Keeps the compiler from folding a chain of multiply-adds. */
#if defined(__x86_64__)
#define KEEP_VECTOR(x) __asm__ volatile("" : "+x"(x))
#elif defined(__aarch64__)
#define KEEP_VECTOR(x) __asm__ volatile("" : "+w"(x))
#else
#define KEEP_VECTOR(x) __asm__ volatile("" : "+m"(x))
#endif

VT_INLINE double spin_kind(const enum panel_kind kind, int64_t rounds)
{
    enum { CHAINS = 12 }; /* more than latency times throughput of any processor */
    vf acc[CHAINS], x = {0}, y = {0};
    KEEP_VECTOR(x);
    KEEP_VECTOR(y);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
        acc[i] = x;
    }
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = multiply_add(kind, acc[i], x, y);
            KEEP_VECTOR(acc[i]);
        }
    }
    return 2.0 * (kind == PANEL_PAIRS ? 2 : 1) * LANES * CHAINS * (double)rounds;
}

static double spin(bool bf16, int64_t rounds)
{
    return bf16 && BF16_PAIRS ? spin_kind(PANEL_PAIRS, rounds) : spin_kind(PANEL_F32, rounds);
}

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const vt_cpu_kernels VT_CPU_TABLE(vt_cpu_kernels_, VT_ISA_NAME) = {
    .name = TEXT(VT_ISA_NAME),
    .lanes = LANES,
    .mr = MR,
    .nr = NR,
    .bf16_pairs = BF16_PAIRS,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .finish = finish,
    .norm_row = norm_row,
    .widen = widen,
    .narrow = narrow,
    .add = add,
    .positions = positions,
    .softmax_rows = softmax_rows,
    .weigh = weigh,
    .gather = gather,
    .scatter = scatter,
    .transpose = transpose,
    .scale = scale,
    .square_sum = square_sum,
    .spin = spin,
    .maps = &VT_CPU_TABLE(vt_cpu_map_kernels_, VT_ISA_NAME),
};
