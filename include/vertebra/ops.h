/* SPDX-License-Identifier: Apache-2.0 */
/* The operations a network is recorded from.
 *
 * A backbone's forward pass is recorded, then planned, then run: the functions below append records
 * to a program and return the id of the map that the record will produce. No data is touched while
 * recording, and shapes are known at once. Maps are NHWC; a token sequence is a map whose tokens
 * are its pixels. Every function accepts VT_NO_VALUE (the result of an earlier failure) and returns
 * VT_NO_VALUE then, so a forward function needs no checks: the builder keeps the first error. */
#ifndef VERTEBRA_OPS_H
#define VERTEBRA_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "vertebra/status.h"
#include "vertebra/tensor.h"

VT_BEGIN_DECLS

/* A map of the program that is being recorded. */
typedef struct vt_value {
    int32_t id;
} vt_value;
#define VT_NO_VALUE ((vt_value){-1})

/* A parameter that was bound (see layers.h); `id` 0 means none, so that zeroed structs are safe. */
typedef struct vt_weight {
    int32_t id;
} vt_weight;
#define VT_NO_WEIGHT ((vt_weight){0})

typedef struct vt_builder vt_builder;

typedef struct vt_shape {
    int64_t n, h, w, c;
} vt_shape;

typedef enum vt_activation {
    VT_ACT_NONE = 0,
    VT_ACT_GELU,      /* x * (1 + erf(x / sqrt 2)) / 2 */
    VT_ACT_GELU_TANH, /* x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 */
    VT_ACT_SILU,      /* x / (1 + exp(-x)) */
    VT_ACT_RELU,
    VT_ACT_SIGMOID, /* 1 / (1 + exp(-x)) */
    VT_ACT_TANH
} vt_activation;

/* LayerNorm over the channels of each pixel, two-pass:
 *   m = mean_c x, v = mean_c (x - m)^2, dst = (x - m) / sqrt(v + eps) * scale + shift */
typedef struct vt_norm {
    vt_weight scale, shift; /* [c] each; none: 1 and 0 */
    float eps;
} vt_norm;

/* Where a linear record applies its norm. */
typedef enum vt_norm_place {
    VT_NORM_NONE = 0,
    VT_NORM_INPUT, /* of each input row */
    VT_NORM_OUTPUT /* of each output row, after the activation, before the residual */
} vt_norm_place;

/* dst[n,h,w,o] = residual[n,h,w,o] + norm_out(act(bias[o] + sum_i weight[o,i] * row[i])), or with
 *   `gated`, which goes with no norm_out, residual[n,h,w,o] * act(...),
 * with row = norm_in(x[n,h,w,:]), or of the `patch` x `patch` pixels of x that lie under
 * dst[n,h,w], concatenated as (dy, dx, c), zero outside the map: dst is then ceil(H/patch) x
 * ceil(W/patch). Layers set weight, bias and act; the planner's rewrites fill in the rest. */
typedef struct vt_linear {
    vt_weight weight; /* [out, in] */
    vt_weight bias;   /* [out], or none */
    vt_activation act;
    vt_norm_place norm_place;
    vt_norm norm;
    int patch;  /* 0 or 1: the pixel itself */
    bool gated; /* the residual is a factor */
} vt_linear;

/* Dense convolution: dst[n,y,x,o] = act(bias[o] + sum_{ky,kx,i} weight[o,ky,kx,i] *
 *   src[n, y*stride_h + ky*dilation_h - pad_top, x*stride_w + kx*dilation_w - pad_left, i]),
 * zero outside the map. With `groups`, which must divide in and out, output o sees only the in /
 * groups channels of its own group, o div (out / groups); its weight is a vector (VT_WEIGHT_VECTOR)
 * of that shape, not a matrix. */
typedef struct vt_conv2d {
    vt_weight weight; /* [out, kernel_h * kernel_w * in / groups], columns as (ky, kx, in) */
    vt_weight bias;   /* [out], or none */
    vt_activation act;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int pad_top, pad_left, pad_bottom, pad_right;
    int groups; /* 0 counts as 1 */
} vt_conv2d;

/* dst[n,y,x,c] = x[n,y,x,c] * scale[c] + shift[c]: a batch norm at inference, a layer scale. */
typedef struct vt_affine {
    vt_weight scale; /* [c] */
    vt_weight shift; /* [c], or none */
} vt_affine;

/* Depthwise convolution, every channel with a kernel of its own:
 *   dst[n,y,x,c] = residual[n,y,x,c] + affine(act(bias[c] +
 *     sum_{ky,kx} weight[ky * kernel_w + kx, c] *
 *     src[n, y*stride_h + ky*dilation_h - pad_top, x*stride_w + kx*dilation_w - pad_left, c])),
 * zero outside the map; `conv` as above but for its weight, [kernel_h * kernel_w, c], and without
 * groups. Layers leave `affine` empty; the planner's rewrites fill it in, and the residual. */
typedef struct vt_depthwise {
    vt_conv2d conv;
    vt_affine affine; /* after the activation; scale none: nothing */
} vt_depthwise;

typedef enum vt_pool_kind {
    VT_POOL_MEAN = 0, /* places outside the map count as zeros: the divisor is kernel^2 */
    VT_POOL_MAX       /* places outside the map do not count */
} vt_pool_kind;

/* Pooling of kernel x kernel pixels, every `stride` pixels. */
typedef struct vt_pooling {
    vt_pool_kind kind;
    int kernel, stride;
    int pad_top, pad_left, pad_bottom, pad_right;
} vt_pooling;

/* Which keys a query meets. */
typedef enum vt_pattern_kind {
    VT_PATTERN_WINDOW = 0,   /* the tokens of its own window */
    VT_PATTERN_GRID,         /* the tokens at its own place of every cell (multi-axis attention) */
    VT_PATTERN_NEIGHBORHOOD, /* the tokens nearest to it */
    VT_PATTERN_HALO,         /* its own block and a border around it */
    VT_PATTERN_GLOBAL        /* every token of the key map, which may have another size */
} vt_pattern_kind;

/* What a cyclic shift wraps at. */
typedef enum vt_roll {
    VT_ROLL_PADDED = 0, /* pad first, then roll the padded map (Swin's dense forks, torchvision) */
    VT_ROLL_MAP         /* roll the map, then pad (timm) */
} vt_roll;

/* The index rule of a softmax attention; all rules work on each axis alone.
 *
 * WINDOW: the map is padded at the bottom and right to multiples of the window and rolled by
 *   (-shift_h, -shift_w); windows are cut from the result. Where a shift is set, tokens that were
 *   not neighbours before the roll see each other with `-100` added.
 * GRID: padded likewise; with cells = padded / window, the tokens y, y + cells, y + 2 cells, ... of
 *   an axis belong together: `window` of them.
 * NEIGHBORHOOD: each query sees the `window` keys nearest to it whose distance is a multiple of
 *   `dilation`, never fewer: at a border the keys are those nearest to the border. The map is
 *   padded at the bottom and right to window * dilation where it is smaller. `stride` neighbouring
 *   queries share the keys of the one in their middle (1 <= stride <= window). With p = y div
 *   dilation in the sub-grid of y mod dilation, of length n:
 *     leader = min((p div stride) * stride + stride div 2, n - 1)
 *     first key = clamp(leader - window div 2, 0, n - window)
 * HALO: the key map is cut into blocks of `window`, which must divide it; a block of queries sees
 *   its block of keys and `halo` more on each side. The query map may be `stride` times smaller
 *   than the key map, on both axes, where stride divides the window.
 * GLOBAL: every query sees every key; window and the rest are 0.
 *
 * Tokens outside the map are keys whose k and v rows are given (`pad` below): they are not
 * masked. */
typedef struct vt_pattern {
    vt_pattern_kind kind;
    int window_h, window_w;
    int shift_h, shift_w;       /* WINDOW: 0 <= shift < window */
    vt_roll roll;               /* WINDOW */
    int dilation_h, dilation_w; /* NEIGHBORHOOD; 0 counts as 1 */
    int stride_h, stride_w;     /* NEIGHBORHOOD, HALO; 0 counts as 1 */
    int halo_h, halo_w;         /* HALO */
} vt_pattern;

/* Channels [offset, offset + heads * width) of a map, head h at offset + h * width. */
typedef struct vt_heads {
    vt_value map;
    int offset, width;
} vt_heads;

/* Multi-head softmax attention under a pattern:
 *   s[i,j] = score(q_i, k_j) + bias[head, position j relative to i] + mask[i,j]
 *            + q_i . rows[yj relative to yi] + q_i . cols[xj relative to xi]
 *   dst_i = concat_head sum_j softmax_j(s[i,j]) v_j
 * score: dot: scale * q.k; cosine (temperature set): exp(min(temperature[head], ln 100)) *
 *   q/max(|q|,1e-12) . k/max(|k|,1e-12).
 * Positions: with span = the keys of a query along an axis (window; HALO: window + 2 halo), the
 *   offset along it is in [0, 2 span - 2]:
 *   WINDOW, GRID: place of j - place of i + span - 1, places counted in the window;
 *   NEIGHBORHOOD: (yj - yi) / dilation + span - 1;
 *   HALO: place of j in the window of keys - place of i in its block of queries + span - 1.
 *   All are key minus query, whatever the checkpoint's sign.
 * bias: [heads, (2 span_h - 1) * (2 span_w - 1)], entry offset_y * (2 span_w - 1) + offset_x.
 * rows, cols: [2 span - 1, q.width] each, one for all heads; q without its scale. */
typedef struct vt_attention {
    int heads;
    vt_heads q, k, v;
    float scale;
    vt_weight temperature; /* [heads], or none */
    vt_weight bias;        /* or none; not with GLOBAL */
    vt_weight pad;         /* vector indexed by the channels of k and v: rows outside the map */
    vt_pattern pattern;
    vt_weight rows, cols; /* both or none; not with GLOBAL */
} vt_attention;

/* Linear attention over all tokens of an image, features relu(q) and relu(k):
 *   S = sum_n relu(k_n) v_n^T,  z = sum_n relu(k_n)
 *   dst_n = concat_head temperature[head] * (relu(q_n) S) / max(relu(q_n) . z, floor) */
typedef struct vt_linear_attention {
    int heads;
    vt_heads q, k, v;
    float floor;           /* > 0 */
    vt_weight temperature; /* [heads], or none: 1 */
} vt_linear_attention;

/* Attention among the channels of each head, over all tokens of an image:
 *   A[c,d] = softmax_d(scale * sum_n left_n[c] right_n[d]),  dst_n[c] = sum_d A[c,d] value_n[d] */
typedef struct vt_channel_attention {
    int heads;
    vt_heads left, right, value; /* of one width */
    float scale;
} vt_channel_attention;

/* The input picture, [n, h, w, 3] after normalisation. */
vt_value vt_input(vt_builder *builder);

vt_value vt_op_linear(vt_builder *builder, vt_value x, const vt_linear *linear);
vt_value vt_op_conv2d(vt_builder *builder, vt_value x, const vt_conv2d *conv);
vt_value vt_op_norm(vt_builder *builder, vt_value x, const vt_norm *norm);
vt_value vt_op_attention(vt_builder *builder, const vt_attention *attention);
/* dst = a + b, equal shapes */
vt_value vt_op_add(vt_builder *builder, vt_value a, vt_value b);
/* dst[n,y,x,(dy * block + dx) * c + i] = x[n, y*block + dy, x*block + dx, i], zero outside */
vt_value vt_op_space_to_depth(vt_builder *builder, vt_value x, int block);
vt_value vt_op_depthwise(vt_builder *builder, vt_value x, const vt_depthwise *depthwise);
vt_value vt_op_affine(vt_builder *builder, vt_value x, const vt_affine *affine);
/* dst = a * b; b has a's shape, or is [n, 1, 1, c]: one factor per image and channel */
vt_value vt_op_mul(vt_builder *builder, vt_value a, vt_value b);
/* dst[n,y,x,:] = a[n,y,x,:] followed by b[n,y,x,:] */
vt_value vt_op_concat(vt_builder *builder, vt_value a, vt_value b);
vt_value vt_op_pool(vt_builder *builder, vt_value x, const vt_pooling *pooling);
vt_value vt_op_linear_attention(vt_builder *builder, const vt_linear_attention *attention);
vt_value vt_op_channel_attention(vt_builder *builder, const vt_channel_attention *attention);
/* What a deformable convolution multiplies (arXiv 1703.06211), kernel x kernel taps, stride kernel:
 *   dst[n,y,x, t * c + i] = x[n, :, :, i] at (y*kernel + t div kernel + offsets[n,y,x,2t],
 *                                            x*kernel + t mod kernel + offsets[n,y,x,2t+1])
 * between pixels bilinear, with zeros outside the map; zero where the place is a whole pixel or
 * more outside. offsets [n, h div kernel, w div kernel, 2 * kernel * kernel]. */
vt_value vt_op_deform_patches(vt_builder *builder, vt_value x, vt_value offsets, int kernel);
/* dst[n,0,0,c] = mean over h, w */
vt_value vt_op_mean_pool(vt_builder *builder, vt_value x);

/* The shape of a map; all zero for VT_NO_VALUE. */
vt_shape vt_value_shape(const vt_builder *builder, vt_value value);

/* Names a map as an output of the network, such as "C2" or "logits". */
void vt_output(vt_builder *builder, const char *name, vt_value value);

/* Labels the records that follow, for profiles and messages ("stages.2.blocks.5"). */
void vt_label(vt_builder *builder, const char *format, ...) VT_PRINTF(2, 3);

/* Makes the recording fail with this message, unless it has failed already. */
void vt_builder_fail(vt_builder *builder, vt_status status, const char *format, ...)
    VT_PRINTF(3, 4);

VT_END_DECLS
#endif
