/* SPDX-License-Identifier: Apache-2.0 */
/* What kernels.c and map_kernels.c offer for one instruction set. The drivers (gemm.c, attention.c,
 * ...) know tiles, rows and threads; the kernels know vectors. */
#ifndef VT_OPS_CPU_KERNELS_H
#define VT_OPS_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "vertebra/ops.h"

/* One tile of a product: c[r][j] = sum_k a[r][k] * panel[k][j] + bias[j] + residual[r][j] for
 * r < rows <= mr and j < nr. Every element is summed in the order of k, in one chain, whatever the
 * tile. Strides are in bytes. */
typedef struct vt_cpu_tile {
    int rows;
    int64_t k; /* steps: elements, or pairs of bf16 where the panel holds pairs */
    const void *a;
    int64_t a_stride;
    const void *panel;
    const float *bias;     /* [nr] */
    const float *residual; /* or NULL */
    int64_t residual_stride;
    float *c;
    int64_t c_stride;
    const char *ahead;  /* memory that will be needed soon */
    int64_t ahead_step; /* bytes of it to fetch per four steps: 0 or 128 */
} vt_cpu_tile;

/* Rows of floats on their way to the destination: dst = residual + act(src), or with `gated` the
 * product of both. Strides in elements. */
typedef struct vt_cpu_finish {
    int64_t rows, cols;
    const float *src;
    int64_t src_stride;
    vt_activation act;
    const void *residual; /* or NULL */
    bool residual_bf16, gated;
    int64_t residual_stride;
    void *dst;
    bool dst_bf16;
    int64_t dst_stride;
} vt_cpu_finish;

/* Parts of pixels that lie apart in a map, and a block that holds them side by side. Row i is
 * elements [first + pixel[i] * step, ... + width); pixel -1: `pad` [width] or zeros are gathered,
 * and nothing is scattered. */
typedef struct vt_cpu_rows {
    void *map;
    bool bf16;
    const int64_t *pixel;
    int64_t rows, width, first, step;
    const float *pad;
    float *block;
    int64_t block_stride; /* elements */
    float factor;
    const float *factors;
    bool relu; /* of what is gathered */
} vt_cpu_rows;

#define VT_CPU_UNSEEN (-1e30f) /* added to the score of a key that the query does not see */

/* What positions add to the scores of a query for rows x cols keys, of which it sees seen_rows x
 * seen_cols from (first_row, first_col) on; there, counted from that key,
 *   dst[y * cols + x] = table[y * table_step + x] + along[y] + base[y * cols + x]
 * (base counted from the first of all keys), elsewhere VT_CPU_UNSEEN, and zeros up to dst[columns].
 * Whole vectors are read and stored: up to `lanes` floats past the end of each row of the table,
 * and of base and dst. */
typedef struct vt_cpu_positions {
    int64_t rows, cols, columns;
    int64_t first_row, first_col, seen_rows, seen_cols;
    const float *table;
    int64_t table_step;
    const float *along; /* or NULL */
    const float *base;  /* or NULL */
    float *dst;
} vt_cpu_positions;

/* scores[r][j] = exp(scores[r][j] - top[r]) for `rows` <= mr rows of n columns, a multiple of
 * `lanes`; top is the largest of the row, sum[r] the sum of the results. The mask is first added
 * where regions[j] != region[r]. If `running`, top and sum take in what they were: factor[r] is
 * what earlier results must be multiplied by. */
typedef struct vt_cpu_softmax {
    float *scores;
    int64_t rows, n, stride;         /* elements */
    const int32_t *regions, *region; /* or NULL */
    bool running;
    float *top, *sum, *factor;
} vt_cpu_softmax;

/* factors[r] = numerator / max(rows[r] . weights, floor) */
typedef struct vt_cpu_weigh {
    const float *block; /* dense */
    int64_t rows, width;
    const float *weights;
    float numerator, floor;
    float *factors;
} vt_cpu_weigh;

/* Channels [0, channels) of one output row of a depthwise convolution, or of several:
 *   dst[x] = residual[x] + affine(act(bias + sum over the kernel rows that lie in the map))
 * The pointers are those of channel 0; steps are in elements. */
typedef struct vt_cpu_depthwise {
    const void *src; /* pixel 0 of source row `first_row` */
    bool src_bf16;
    int64_t src_w;
    int64_t pixel; /* from a pixel to the next, in src, residual and dst; from a tap to the next */
    int64_t row_step; /* from the source row of a kernel row to that of the next */
    /* Source rows are counted from that under kernel row 0 of the first output row; those that lie
     * in the map are [first_row, end_row). */
    int first_row, end_row;
    int kernel_w, stride_w, dilation_w, pad_left;
    const float *weights; /* [kernel rows][kernel_w] taps */
    int64_t channels;
    const float *bias, *scale, *shift; /* or NULL */
    vt_activation act;
    const void *residual; /* or NULL */
    bool residual_bf16;
    void *dst;
    bool dst_bf16;
    int64_t dst_w;
    int out_rows;    /* 1, or of a 3 x 3 kernel without vertical stride and dilation up to
                        `depthwise_rows` */
    int64_t dst_row; /* from an output row to the next, in residual and dst */
} vt_cpu_depthwise;

/* Some neighbouring output pixels of one group of a convolution:
 *   dst[p][o] = bias[o] + sum over rows, taps and in of weights * src */
typedef struct vt_cpu_group {
    const void *src; /* channel 0 of the group under the first row and tap of pixel 0 */
    bool src_bf16;
    int64_t pixel_step, row_step, tap_step; /* in elements of src */
    int pixels, rows, taps;
    int64_t in, out;      /* out: a multiple of `lanes` */
    const float *weights; /* [rows][taps][in][out] */
    int64_t weight_row;   /* floats from one of the rows to the next */
    const float *bias;
    float *dst; /* [pixels][out] */
} vt_cpu_group;

enum { VT_CPU_GROUP_PIXELS = 8 };

/* dst[r][c] = a[r][c] * b[r * b_stride + c] + shift[c]; rows are dense. */
typedef struct vt_cpu_multiply {
    int64_t rows, cols;
    const void *a, *b;
    bool a_bf16, b_bf16;
    int64_t b_stride;
    const float *shift; /* or NULL */
    void *dst;
    bool dst_bf16;
} vt_cpu_multiply;

/* One output row of a pooling, over the `rows` source rows under it that lie in the map. */
typedef struct vt_cpu_pool {
    const void *src; /* pixel 0 of the first of them */
    bool src_bf16;
    int64_t src_w, channels, row_step; /* step in elements */
    int rows, kernel, stride, pad_left;
    bool largest; /* else the mean, of kernel^2 places */
    void *dst;
    bool dst_bf16;
    int64_t dst_w;
} vt_cpu_pool;

/* dst[c] = sum over 0, 1, 2 or 4 corners of factor * src[at + c] */
typedef struct vt_cpu_blend {
    const void *src;
    bool src_bf16;
    int corners;
    int64_t at[4], channels;
    float factor[4];
    void *dst;
    bool dst_bf16;
} vt_cpu_blend;

/* sum[c] += the sum over `rows` rows, in their order, of src[row * stride + c] */
typedef struct vt_cpu_sums {
    const void *src;
    bool src_bf16;
    int64_t rows, stride, channels;
    float *sum;
} vt_cpu_sums;

/* Of map_kernels.c. */
typedef struct vt_cpu_map_kernels {
    int depthwise_rows; /* output rows that a 3 x 3 kernel is best asked for at once */
    void (*depthwise)(const vt_cpu_depthwise *rows);
    void (*group)(const vt_cpu_group *pixels);
    void (*multiply)(const vt_cpu_multiply *rows);
    void (*pool)(const vt_cpu_pool *row);
    void (*blend)(const vt_cpu_blend *blend);
    void (*sum)(const vt_cpu_sums *sums);
} vt_cpu_map_kernels;

typedef struct vt_cpu_kernels {
    const char *name;
    int lanes;  /* floats in a vector */
    int mr, nr; /* largest tile */
    bool
        bf16_pairs; /* bf16 panels are [k/2][nr][2] and meet bf16 rows; else [k][nr] and f32 rows */
    void (*tile_f32)(const vt_cpu_tile *tile);
    void (*tile_bf16)(const vt_cpu_tile *tile);
    void (*finish)(const vt_cpu_finish *finish);
    /* dst = (x - mean) / sqrt(variance + eps) * scale + shift; scale, shift: or NULL; dst may be
     * x */
    void (*norm_row)(const float *x, int64_t n, const float *scale, const float *shift, float eps,
                     float *dst);
    void (*widen)(const uint16_t *src, int64_t n, float *dst);
    void (*narrow)(const float *src, int64_t n, uint16_t *dst);
    /* dst = a + b */
    void (*add)(const float *a, const float *b, int64_t n, float *dst);
    void (*positions)(const vt_cpu_positions *positions);
    void (*softmax_rows)(const vt_cpu_softmax *softmax);
    void (*weigh)(const vt_cpu_weigh *weigh);
    void (*gather)(const vt_cpu_rows *rows);  /* block[i] = relu(map row i * factor) */
    void (*scatter)(const vt_cpu_rows *rows); /* map row i = block[i] * factors[i] */
    /* dst[j * dst_stride + i] = src[i * src_stride + j] for i < lanes, j < cols; strides in
     * elements */
    void (*transpose)(const float *src, int64_t src_stride, int64_t cols, float *dst,
                      int64_t dst_stride);
    /* dst[i] = src[i] * factor */
    void (*scale)(const float *src, int64_t n, float factor, float *dst);
    /* sum of squares */
    float (*square_sum)(const float *x, int64_t n);
    /* Multiply-adds on registers alone, to measure the peak; returns how many operations were done
     * (a multiply-add is two). */
    double (*spin)(bool bf16, int64_t rounds);
    const vt_cpu_map_kernels *maps;
} vt_cpu_kernels;

enum { VT_CPU_MAX_NR = 64, VT_CPU_MAX_MR = 16 };

extern const vt_cpu_kernels vt_cpu_kernels_portable;
extern const vt_cpu_map_kernels vt_cpu_map_kernels_portable;
#if defined(__x86_64__)
extern const vt_cpu_kernels vt_cpu_kernels_avx2, vt_cpu_kernels_avx512, vt_cpu_kernels_avx512_bf16;
extern const vt_cpu_map_kernels vt_cpu_map_kernels_avx2, vt_cpu_map_kernels_avx512,
    vt_cpu_map_kernels_avx512_bf16;
#endif

/* The name of a table for the instruction set that a source is compiled for. */
#define VT_CPU_TABLE_(prefix, isa) prefix##isa
#define VT_CPU_TABLE(prefix, isa)  VT_CPU_TABLE_(prefix, isa)

#endif
