/* SPDX-License-Identifier: Apache-2.0 */
/* Attention against its formulas written out in double, on every device: every pattern, with tables
 * of bias, rows and columns and maps of different sizes; linear attention and attention among
 * channels. More of windows, and all of their shifts, is in test_ops_ref.c, more of neighborhoods in
 * test_neighborhood.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/formula.h"
#include "support/model_compare.h"

/* ---- patterns -------------------------------------------------------------------------------- */

enum { HEADS = 3, WIDTH = 5, V_WIDTH = 7, SPARE = 2 };
enum {
    Q_OFFSET = SPARE,
    K_OFFSET = Q_OFFSET + HEADS * WIDTH,
    V_OFFSET = K_OFFSET + HEADS * WIDTH,
    TOTAL = V_OFFSET + HEADS * V_WIDTH + SPARE, /* channels of a map; the spare ones nobody reads */
    MAX_SPAN = 16
};

typedef struct pattern_case {
    const char *name;
    int h, w;           /* of the larger map */
    int step_h, step_w; /* the other one has every step-th pixel: HALO: queries, GLOBAL: keys */
    vt_pattern pattern;
    bool bias, relative, pad, cosine;
} pattern_case;

/* clang-format off */
static const pattern_case pattern_cases[] = {
    {"grid", 7, 9, 1, 1, {.kind = VT_PATTERN_GRID, .window_h = 3, .window_w = 2},
     true, false, true, false},
    {"grid, cosine, rows outside of zeros", 5, 11, 1, 1,
     {.kind = VT_PATTERN_GRID, .window_h = 2, .window_w = 4}, true, false, false, true},
    {"grid, tables of rows and columns", 9, 4, 1, 1,
     {.kind = VT_PATTERN_GRID, .window_h = 4, .window_w = 3}, true, true, true, false},
    {"grid larger than the map", 1, 3, 1, 1,
     {.kind = VT_PATTERN_GRID, .window_h = 3, .window_w = 5}, true, false, true, false},
    {"windows, tables of rows and columns", 7, 9, 1, 1,
     {.kind = VT_PATTERN_WINDOW, .window_h = 3, .window_w = 4}, true, true, true, false},
    {"neighborhoods, tables of rows and columns", 11, 9, 1, 1,
     {.kind = VT_PATTERN_NEIGHBORHOOD, .window_h = 3, .window_w = 4, .dilation_h = 2,
      .stride_w = 3}, false, true, true, false},
    {"neighborhoods larger than the map", 3, 7, 1, 1,
     {.kind = VT_PATTERN_NEIGHBORHOOD, .window_h = 5, .window_w = 3, .dilation_w = 3},
     true, true, true, false},
    {"halo", 9, 4, 1, 1,
     {.kind = VT_PATTERN_HALO, .window_h = 3, .window_w = 2, .halo_h = 1, .halo_w = 3},
     false, true, true, false},
    {"halo, bias and tables", 4, 10, 1, 1,
     {.kind = VT_PATTERN_HALO, .window_h = 4, .window_w = 5, .halo_h = 2, .halo_w = 1},
     true, true, true, false},
    {"halo, fewer queries", 8, 12, 2, 3,
     {.kind = VT_PATTERN_HALO, .window_h = 4, .window_w = 6, .stride_h = 2, .stride_w = 3,
      .halo_h = 1, .halo_w = 2}, false, true, false, false},
    {"halo, fewer queries, one a block", 6, 9, 2, 3,
     {.kind = VT_PATTERN_HALO, .window_h = 2, .window_w = 3, .stride_h = 2, .stride_w = 3,
      .halo_h = 3, .halo_w = 0}, true, true, true, true},
    {"no halo", 6, 9, 1, 1, {.kind = VT_PATTERN_HALO, .window_h = 2, .window_w = 3},
     true, false, false, false},
    {"global", 7, 5, 1, 1, {.kind = VT_PATTERN_GLOBAL}, false, false, false, false},
    {"global, fewer keys", 11, 7, 2, 3, {.kind = VT_PATTERN_GLOBAL}, false, false, false, false},
    {"global, one key", 3, 5, 3, 5, {.kind = VT_PATTERN_GLOBAL}, false, false, false, true},
};
/* clang-format on */

/* Key number `index` of a query on one axis. */
typedef struct axis_key {
    int64_t at; /* outside of the map too */
    int offset; /* in the tables */
} axis_key;

/* One axis of a pattern over a key map of `size`. */
typedef struct axis {
    vt_pattern_kind kind;
    int window, dilation, stride, halo;
    int64_t size;
} axis;

/* Whether a query sees coordinate j >= -halo, which may be outside of the map, and the offset. */
static bool sees(const axis *a, int64_t query, int64_t j, int64_t *offset)
{
    int64_t own = 0, key = j;        /* places of the query and of j */
    int64_t low = 0, high = a->size; /* of what is seen */
    if (a->kind == VT_PATTERN_WINDOW) {
        own = query;
        low = query / a->window * a->window;
        high = low + a->window;
    } else if (a->kind == VT_PATTERN_GRID) {
        int64_t cells = (a->size + a->window - 1) / a->window;
        own = query / cells;
        key = j % cells == query % cells ? j / cells : -1;
        high = a->window;
    } else if (a->kind == VT_PATTERN_NEIGHBORHOOD) {
        int64_t least = (int64_t)a->window * a->dilation, rest = query % a->dilation;
        int64_t padded = a->size > least ? a->size : least;
        int64_t length = (padded - rest + a->dilation - 1) / a->dilation;
        own = query / a->dilation;
        key = j % a->dilation == rest ? j / a->dilation : -1;
        int64_t leader = own / a->stride * a->stride + a->stride / 2;
        low = (leader < length ? leader : length - 1) - a->window / 2;
        low = low < 0 ? 0 : low > length - a->window ? length - a->window : low;
        high = low + a->window;
    } else if (a->kind == VT_PATTERN_HALO) {
        int64_t block = query * a->stride / a->window; /* a query stands on every stride-th key */
        own = query % (a->window / a->stride);
        key = j - (block * a->window - a->halo);
        high = a->window + 2 * a->halo;
    }
    *offset = key - own + a->window + 2 * a->halo - 1;
    return key >= low && key < high;
}

/* Goes through all coordinates of an axis and picks the keys of a query. */
static int keys_of(const axis *a, int64_t query, axis_key *keys)
{
    int64_t offset, end = a->size + a->halo + (int64_t)a->window * a->dilation;
    int count = 0;
    for (int64_t j = -a->halo; j < end; j++) {
        if (sees(a, query, j, &offset)) {
            assert_true(count < MAX_SPAN);
            keys[count++] = (axis_key){j, (int)offset};
        }
    }
    return count;
}

typedef struct pattern_with {
    const pattern_case *k;
    vt_attention op;
    vt_shape q, keys;
} pattern_with;

static double product(const float *a, const float *b, int width)
{
    double sum = 0;
    for (int c = 0; a && b && c < width; c++) {
        sum += (double)a[c] * (double)b[c];
    }
    return sum;
}

static double score(const test_program *t, const vt_attention *a, int head, const float *q,
                    const float *k)
{
    double dot = product(q, k, WIDTH);
    if (!a->temperature.id) {
        return (double)a->scale * dot;
    }
    double lengths = fmax(sqrt(product(q, q, WIDTH)), 1e-12);
    lengths *= fmax(sqrt(product(k, k, WIDTH)), 1e-12);
    return exp(fmin((double)t->values[a->temperature.id][head], log(100.0))) * dot / lengths;
}

/* What the tables add: bias[head, dy, dx] + q . rows[dy] + q . cols[dx]. */
static double of_position(const test_program *t, const pattern_with *u, int head, const float *q,
                          int dy, int dx)
{
    const vt_pattern *p = &u->op.pattern;
    int size_h = 2 * (p->window_h + 2 * p->halo_h) - 1;
    int size_w = 2 * (p->window_w + 2 * p->halo_w) - 1;
    double sum = 0;
    if (u->op.bias.id) {
        sum += (double)t->values[u->op.bias.id][(head * size_h + dy) * size_w + dx];
    }
    if (u->op.rows.id) {
        sum += product(q, t->values[u->op.rows.id] + dy * WIDTH, WIDTH);
        sum += product(q, t->values[u->op.cols.id] + dx * WIDTH, WIDTH);
    }
    return sum;
}

/* One head of query pixel i of image n. */
static void attend(const test_program *t, const pattern_with *u, const float *q, const float *keys,
                   int64_t n, int64_t i, int head, float *out)
{
    const vt_pattern *p = &u->op.pattern;
    axis high = {p->kind,
                 p->window_h,
                 p->dilation_h > 1 ? p->dilation_h : 1,
                 p->stride_h > 1 ? p->stride_h : 1,
                 p->halo_h,
                 u->keys.h};
    axis wide = {p->kind,
                 p->window_w,
                 p->dilation_w > 1 ? p->dilation_w : 1,
                 p->stride_w > 1 ? p->stride_w : 1,
                 p->halo_w,
                 u->keys.w};
    axis_key rows[MAX_SPAN], cols[MAX_SPAN];
    int row_count = keys_of(&high, i / u->q.w, rows);
    int col_count = keys_of(&wide, i % u->q.w, cols);
    double total = 0, sum[V_WIDTH] = {0};
    q += (n * u->q.h * u->q.w + i) * TOTAL + Q_OFFSET + head * WIDTH;
    for (int j = 0; j < row_count * col_count; j++) {
        axis_key y = rows[j / col_count], x = cols[j % col_count];
        bool inside = y.at >= 0 && y.at < u->keys.h && x.at >= 0 && x.at < u->keys.w;
        const float *row = inside ? keys + ((n * u->keys.h + y.at) * u->keys.w + x.at) * TOTAL
                                  : t->values[u->op.pad.id]; /* NULL: zeros */
        double weight = exp(score(t, &u->op, head, q, row ? row + K_OFFSET + head * WIDTH : NULL) +
                            of_position(t, u, head, q, y.offset, x.offset));
        total += weight;
        for (int c = 0; row && c < V_WIDTH; c++) {
            sum[c] += weight * (double)row[V_OFFSET + head * V_WIDTH + c];
        }
    }
    for (int c = 0; c < V_WIDTH; c++) {
        out[c] = (float)(sum[c] / total);
    }
}

static void plain_patterns(const test_program *t, const void *with, const float *in,
                           const float *second, float *want)
{
    const pattern_with *u = with;
    bool global = u->op.pattern.kind == VT_PATTERN_GLOBAL;
    const float *other = second ? second : in;
    int64_t pixels = u->q.h * u->q.w;
    for (int64_t r = 0; r < u->q.n * pixels * HEADS; r++) {
        int64_t n = r / HEADS / pixels;
        attend(t, u, global ? in : other, global ? other : in, n, r / HEADS % pixels,
               (int)(r % HEADS), want + r * V_WIDTH);
    }
}

/* The smaller map: a convolution of 1x1 with steps. */
static vt_value stepped_map(test_program *t, const pattern_case *k)
{
    vt_conv2d conv = {.weight = random_matrix(t, TOTAL, TOTAL, 78),
                      .kernel_h = 1,
                      .kernel_w = 1,
                      .stride_h = k->step_h,
                      .stride_w = k->step_w,
                      .dilation_h = 1,
                      .dilation_w = 1};
    vt_value y = vt_op_conv2d(&t->builder, vt_input(&t->builder), &conv);
    vt_output(&t->builder, "second", y);
    return y;
}

static void add_tables(test_program *t, const pattern_case *k, vt_attention *a)
{
    const vt_pattern *p = &k->pattern;
    int rows = 2 * (p->window_h + 2 * p->halo_h) - 1, cols = 2 * (p->window_w + 2 * p->halo_w) - 1;
    if (k->bias) {
        a->bias = random_vector(t, (int64_t)HEADS * rows * cols, 11, 1.5f, 0.0f);
    }
    if (k->relative) {
        a->rows = random_vector(t, (int64_t)rows * WIDTH, 12, 0.7f, 0.0f);
        a->cols = random_vector(t, (int64_t)cols * WIDTH, 13, 0.7f, 0.0f);
    }
    if (k->pad) {
        a->pad = random_vector(t, TOTAL, 14, 1.0f, 0.0f);
    }
    if (k->cosine) { /* the last one is above ln 100 */
        a->temperature = program_vector(t, HEADS, (const float[HEADS]){-1.0f, 1.5f, 7.0f});
    }
}

static void check_pattern(const pattern_case *k, const char *device)
{
    vt_shape shape = {2, k->h, k->w, TOTAL};
    test_program t;
    program_begin(&t, shape);
    bool global = k->pattern.kind == VT_PATTERN_GLOBAL;
    vt_value x = vt_input(&t.builder);
    vt_value other = k->step_h * k->step_w > 1 ? stepped_map(&t, k) : x;
    vt_value q = global ? x : other, keys = global ? other : x;
    pattern_with u = {.k = k,
                      .op = {.heads = HEADS,
                             .q = {q, Q_OFFSET, WIDTH},
                             .k = {keys, K_OFFSET, WIDTH},
                             .v = {keys, V_OFFSET, V_WIDTH},
                             .scale = 0.6f,
                             .pattern = k->pattern},
                      .q = vt_value_shape(&t.builder, q),
                      .keys = vt_value_shape(&t.builder, keys)};
    add_tables(&t, k, &u.op);
    vt_output(&t.builder, "y", vt_op_attention(&t.builder, &u.op));
    float *in = random_map(shape, (uint32_t)(k->h * 31 + k->w), 1.0f, 0.0f);
    for (int i = 0; k->cosine && i < k->h * k->w * TOTAL; i++) { /* tiny q and k in one image */
        in[i] *= i % TOTAL < V_OFFSET ? 1e-5f : 1.0f;
    }
    char what[96];
    snprintf(what, sizeof what, "attention '%s'", k->name);
    run_and_compare_formula(&t, device, in, plain_patterns, &u, k->cosine ? 5e-5 : 1e-5, what);
    free(in);
}

static void test_patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof pattern_cases / sizeof pattern_cases[0]); i++) {
        check_pattern(&pattern_cases[i / 2], test_devices[i % 2]);
    }
}

/* ---- without a pattern ----------------------------------------------------------------------- */

/* Three operands: the first and the last in the input, the second in a map of its own; every one
 * with channels before and behind it that nobody reads. */
typedef struct heads_case {
    int h, w, heads, width, v_width;
    float limit; /* floor of a linear attention, scale among channels */
    bool temperature;
} heads_case;

typedef struct heads_with {
    const heads_case *k;
    vt_shape in, second;
    int first_offset, second_offset, last_offset;
    vt_weight temperature;
} heads_with;

enum { BATCH = 2 };

static heads_with heads_begin(test_program *t, const heads_case *k, vt_value *second)
{
    heads_with u = {.k = k, .first_offset = 2, .second_offset = 1};
    u.last_offset = u.first_offset + k->heads * k->width;
    u.in = (vt_shape){BATCH, k->h, k->w, u.last_offset + k->heads * k->v_width + 3};
    program_begin(t, u.in);
    *second = second_map(t, u.second_offset + k->heads * k->width + 1);
    u.second = vt_value_shape(&t->builder, *second);
    return u;
}

/* Ends the program with `y`, case i / 2 on device i % 2, and compares. */
static void heads_end(test_program *t, vt_value y, const heads_with *u, size_t i, const char *name,
                      formula *write)
{
    char what[64];
    vt_output(&t->builder, "y", y);
    float *in = random_map(u->in, (uint32_t)i / 2 + 1, 1.5f, 0.1f);
    snprintf(what, sizeof what, "%s case %zu", name, i / 2);
    run_and_compare_formula(t, test_devices[i % 2], in, write, u, 1e-5, what);
    free(in);
}

/* Channel c of a head that begins at `offset`, at pixel i of image n. */
static double at(const float *map, vt_shape s, int64_t n, int64_t i, int64_t offset, int64_t c)
{
    return (double)map[(n * s.h * s.w + i) * s.c + offset + c];
}

/* S[c,d] = sum_n relu(k_n[c]) v_n[d] of a head, or with d < 0 z[c] = sum_n relu(k_n[c]) */
static double state_of(const heads_with *u, const float *in, const float *second, int64_t n,
                       int head, int c, int d)
{
    const heads_case *k = u->k;
    double sum = 0;
    for (int i = 0; i < k->h * k->w; i++) {
        double key = at(second, u->second, n, i, u->second_offset + head * k->width, c);
        double value = d < 0 ? 1.0 : at(in, u->in, n, i, u->last_offset + head * k->v_width, d);
        sum += fmax(key, 0.0) * value;
    }
    return sum;
}

static void plain_linear_attention(const test_program *t, const void *with, const float *in,
                                   const float *second, float *want)
{
    const heads_with *u = with;
    const heads_case *k = u->k;
    const float *temperature = t->values[u->temperature.id];
    int pixels = k->h * k->w, width = k->heads * k->v_width;
    for (int r = 0; r < BATCH * pixels * width; r++) {
        int head = r % width / k->v_width, d = r % k->v_width, i = r / width;
        double above = 0, below = 0;
        for (int c = 0; c < k->width; c++) {
            double q = at(in, u->in, i / pixels, i % pixels, u->first_offset + head * k->width, c);
            above += fmax(q, 0.0) * state_of(u, in, second, i / pixels, head, c, d);
            below += fmax(q, 0.0) * state_of(u, in, second, i / pixels, head, c, -1);
        }
        above *= temperature ? (double)temperature[head] : 1.0;
        want[r] = (float)(above / fmax(below, (double)k->limit));
    }
}

static void test_linear_attention(void **state)
{
    (void)state;
    static const heads_case cases[] = {
        {5, 7, 3, 4, 6, 60.0f, true}, /* the floor holds for some queries only */
        {3, 5, 2, 8, 8, 1e-6f, false},
        {1, 1, 2, 5, 3, 0.5f, true},
    };
    for (size_t i = 0; i < 2 * (sizeof cases / sizeof cases[0]); i++) {
        const heads_case *k = &cases[i / 2];
        test_program t;
        vt_value second;
        heads_with u = heads_begin(&t, k, &second);
        if (k->temperature) {
            u.temperature = random_vector(&t, k->heads, 5, 2.0f, 0.5f);
        }
        vt_value x = vt_input(&t.builder);
        vt_linear_attention a = {.heads = k->heads,
                                 .q = {x, u.first_offset, k->width},
                                 .k = {second, u.second_offset, k->width},
                                 .v = {x, u.last_offset, k->v_width},
                                 .floor = k->limit,
                                 .temperature = u.temperature};
        heads_end(&t, vt_op_linear_attention(&t.builder, &a), &u, i, "linear_attention",
                  plain_linear_attention);
    }
}

static void plain_channel_attention(const test_program *t, const void *with, const float *in,
                                    const float *second, float *want)
{
    (void)t;
    const heads_with *u = with;
    const heads_case *k = u->k;
    int pixels = k->h * k->w, width = k->heads * k->width;
    for (int r = 0; r < BATCH * width; r++) {
        int64_t n = r / width, offset = r % width / k->width * k->width;
        double total = 0, a[32];
        for (int d = 0; d < k->width; d++) {
            double dot = 0;
            for (int i = 0; i < pixels; i++) {
                dot += at(in, u->in, n, i, u->first_offset, r % width) *
                       at(second, u->second, n, i, u->second_offset + offset, d);
            }
            a[d] = exp((double)k->limit * dot);
            total += a[d];
        }
        for (int i = 0; i < pixels; i++) {
            double sum = 0;
            for (int d = 0; d < k->width; d++) {
                sum += a[d] / total * at(in, u->in, n, i, u->last_offset + offset, d);
            }
            want[(n * pixels + i) * width + r % width] = (float)sum;
        }
    }
}

static void test_channel_attention(void **state)
{
    (void)state;
    static const heads_case cases[] = {
        {5, 7, 3, 4, 4, 0.1f, false},
        {3, 9, 2, 7, 7, 0.25f, false},
        {1, 1, 2, 5, 5, 1.0f, false},
        {7, 3, 1, 32, 32, 0.05f, false},
    };
    for (size_t i = 0; i < 2 * (sizeof cases / sizeof cases[0]); i++) {
        const heads_case *k = &cases[i / 2];
        test_program t;
        vt_value second;
        heads_with u = heads_begin(&t, k, &second);
        vt_value x = vt_input(&t.builder);
        vt_channel_attention a = {.heads = k->heads,
                                  .left = {x, u.first_offset, k->width},
                                  .right = {second, u.second_offset, k->width},
                                  .value = {x, u.last_offset, k->v_width},
                                  .scale = k->limit};
        heads_end(&t, vt_op_channel_attention(&t.builder, &a), &u, i, "channel_attention",
                  plain_channel_attention);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_linear_attention),
        cmocka_unit_test(test_channel_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
