/* SPDX-License-Identifier: Apache-2.0 */
/* Launchers of the CUDA kernels: plain C, device pointers, an explicit stream. Each returns the
 * status of its launch and does not wait. Maps are dense NHWC in f32, bf16 or f16; vectors are f32;
 * statistics, softmax and sums are f32. */
#ifndef VT_CUDA_KERNELS_H
#define VT_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "vertebra/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dst[r] = residual[r] + (src[r] - mean) / sqrt(variance + eps) * scale + shift for `rows` rows of
 * `cols`; scale, shift and residual may be NULL; dst may be src or residual. */
typedef struct vt_cuda_norm {
    const void *src, *residual;
    void *dst;
    vt_dtype src_dtype, residual_dtype, dst_dtype;
    int64_t rows, cols;
    const float *scale, *shift;
    float eps;
} vt_cuda_norm;
cudaError_t vt_cuda_norm_rows(const vt_cuda_norm *args, cudaStream_t stream);

/* The patch x patch pixels under each output pixel side by side as (dy, dx, c), zero outside;
 * normalised as above when scale is not NULL or eps > 0 (eps < 0: no norm). */
typedef struct vt_cuda_patches {
    const void *src;
    void *dst;
    vt_dtype src_dtype, dst_dtype;
    vt_shape shape; /* of src */
    int patch;
    const float *scale, *shift;
    float eps;
} vt_cuda_patches;
cudaError_t vt_cuda_gather_patches(const vt_cuda_patches *args, cudaStream_t stream);

/* dst = residual + act(src + bias[col]); bias and residual may be NULL; dst may be src. */
typedef struct vt_cuda_finish {
    const void *src, *residual;
    void *dst;
    vt_dtype src_dtype, residual_dtype, dst_dtype;
    int64_t rows, cols;
    const float *bias;
    vt_activation act;
} vt_cuda_finish;
cudaError_t vt_cuda_finish_rows(const vt_cuda_finish *args, cudaStream_t stream);

/* A linear map of few rows on the tensor cores, one kernel for all of
 *   dst[r] = residual[r] + act(bias + weight norm(src[r])), or residual[r] * act(...) if `gated`,
 * with weight [cols, depth]. residual, bias, scale and shift may be NULL; eps < 0: no norm; dst is
 * neither src nor residual. src, weight and residual have one type; dst has it too or is f32. */
typedef struct vt_cuda_linear_small {
    const void *src, *weight, *residual;
    void *dst;
    vt_dtype dtype, dst_dtype;
    int64_t rows;
    int depth, cols;
    const float *bias, *scale, *shift;
    float eps;
    vt_activation act;
    bool gated;
    /* 32 or 64 rows and columns of a tile, and 1, 2, 4 or 8 blocks that share its sums; all 0: as
     * suits the device. */
    int tile_rows, tile_cols, split;
} vt_cuda_linear_small;

/* NULL when it takes these arguments on the current device, else the reason why not. */
const char *vt_cuda_linear_small_refuse(const vt_cuda_linear_small *args);
/* The same, and the reason why the library's product is expected to be as fast; from times on an
 * H100 (bench/cuda_kernels --small). */
const char *vt_cuda_linear_small_slow(const vt_cuda_linear_small *args);
cudaError_t vt_cuda_linear_small_run(const vt_cuda_linear_small *args, cudaStream_t stream);

/* dst[n, c] = mean over the pixels of src[n, :, c] */
typedef struct vt_cuda_mean {
    const void *src;
    void *dst;
    vt_dtype src_dtype, dst_dtype;
    vt_shape shape;
} vt_cuda_mean;
cudaError_t vt_cuda_mean_pool(const vt_cuda_mean *args, cudaStream_t stream);

/* Dense convolution; weight as in vt_conv2d. */
typedef struct vt_cuda_conv2d {
    const void *src, *weight;
    const float *bias; /* or NULL */
    void *dst;
    vt_dtype src_dtype, weight_dtype, dst_dtype;
    vt_shape src_shape, dst_shape;
    vt_conv2d conv; /* geometry and activation only */
} vt_cuda_conv2d;

/* Any shape, into an f32 map, without its activation. */
cudaError_t vt_cuda_conv2d_plain(const vt_cuda_conv2d *args, cudaStream_t stream);

/* Few input channels: a source of f32 or the type of the weights and the result, bf16 or f16.
 * NULL when the kernel takes these arguments, else the reason why not. */
const char *vt_cuda_conv_few_refuse(const vt_cuda_conv2d *args);
cudaError_t vt_cuda_conv_few(const vt_cuda_conv2d *args, cudaStream_t stream);

/* Any strides (in elements) to dense NHWC, from any type to any. */
typedef struct vt_cuda_layout {
    const void *src;
    void *dst;
    vt_dtype dst_dtype;
    vt_shape shape;
    int64_t stride_n, stride_h, stride_w, stride_c;
    vt_dtype src_dtype;
} vt_cuda_layout;
cudaError_t vt_cuda_to_nhwc(const vt_cuda_layout *args, cudaStream_t stream);

/* Pictures packed as in io/packed.h, resized, cropped and normalised into the network's input,
 * dense NHWC [n, h, w, 3]. Picture i lies at places + i * place_bytes and has as much room between
 * the passes at middles + i * place_bytes; most_middle: the largest `middle` of them. */
typedef struct vt_cuda_pictures {
    const void *places;
    void *middles;
    size_t place_bytes;
    int64_t most_middle, n;
    void *dst;
    vt_dtype dst_dtype;
    int h, w;
    float mean[3], std[3];
    unsigned char fill[3];
} vt_cuda_pictures;
cudaError_t vt_cuda_resize_pictures(const vt_cuda_pictures *args, cudaStream_t stream);

/* Softmax attention under a pattern, as vt_attention defines it. q, k, v and dst point at the first
 * channel of head 0 of pixel 0 of image 0; a pixel is `*_pixel` elements from the next. bias:
 * [heads, (2 wh - 1)(2 ww - 1)] or NULL; temperature: [heads] or NULL (dot score with `scale`);
 * pad_k, pad_v: [heads * width] rows for tokens outside the map, or NULL (zeros). q, k and v have
 * one type. */
typedef struct vt_cuda_attention {
    const void *q, *k, *v;
    void *dst;
    vt_dtype dtype, dst_dtype;
    int64_t n, q_pixel, k_pixel, v_pixel, dst_pixel;
    int h, w, heads, qk_width, v_width;
    int key_h, key_w; /* of the map of k and v */
    float scale;
    const float *temperature, *bias, *pad_k, *pad_v;
    /* vt_attention's rows and cols, or NULL; at multiples of 16 bytes */
    const float *position_rows, *position_cols;
    vt_pattern pattern;
} vt_cuda_attention;

/* Any pattern, any shape. */
cudaError_t vt_cuda_attention_plain(const vt_cuda_attention *args, cudaStream_t stream);

/* Tensor cores: windows and grids, then everything else. NULL when they take these arguments, else
 * the reason why not. */
const char *vt_cuda_attention_mma_refuse(const vt_cuda_attention *args);
cudaError_t vt_cuda_attention_mma(const vt_cuda_attention *args, cudaStream_t stream);
const char *vt_cuda_attention_box_refuse(const vt_cuda_attention *args);
cudaError_t vt_cuda_attention_box(const vt_cuda_attention *args, cudaStream_t stream);

/* Whether this GPU (which must be current) and the code that the library holds for it have the
 * warpgroup products of sm_90a: the kernels below need them. */
bool vt_cuda_has_wgmma(int device);

/* dst[r] = residual[r] + norm_out(down_bias + down act(up_bias + up norm_in(src[r]))) for rows of
 * `cols`; the `hidden` values between the two products never leave the registers. All maps and both
 * matrices (up: [hidden, cols], down: [cols, hidden], dense) have one half type and begin at
 * multiples of 16 bytes. The norms are as in vt_cuda_norm, eps < 0: no norm; biases, scales, shifts
 * and residual may be NULL; residual may be src; dst overlaps nothing. GELU and its tanh form are
 * within 6e-4 max(1, |x|) of their formulas, before the hidden value is rounded. */
typedef struct vt_cuda_mlp {
    const void *src, *residual, *up, *down;
    void *dst;
    vt_dtype dtype;
    int64_t rows, cols, hidden;
    const float *up_bias, *down_bias;
    const float *in_scale, *in_shift, *out_scale, *out_shift;
    float in_eps, out_eps;
    vt_activation act;
} vt_cuda_mlp;

/* NULL when the kernel takes these shapes and types, else the reason why not; pointers are not
 * looked at. */
const char *vt_cuda_mlp_refuse(const vt_cuda_mlp *args);
cudaError_t vt_cuda_mlp_rows(const vt_cuda_mlp *args, cudaStream_t stream);

/* dst[r] = residual[r] + norm_out(act(bias + weight norm_in(src[r]))), times residual[r] instead if
 * `gated`: rows of `depth` channels to rows of `cols`, weight dense [cols, depth]. Types, norms,
 * NULLs and activations as in vt_cuda_mlp; dst may be residual. */
typedef struct vt_cuda_linear {
    const void *src, *residual, *weight;
    void *dst;
    vt_dtype dtype;
    int64_t rows, depth, cols;
    const float *bias;
    const float *in_scale, *in_shift, *out_scale, *out_shift;
    float in_eps, out_eps;
    vt_activation act;
    bool gated;
} vt_cuda_linear;

/* NULL when the kernel takes these shapes and types, else the reason why not; pointers are not
 * looked at. */
const char *vt_cuda_linear_refuse(const vt_cuda_linear *args);
cudaError_t vt_cuda_linear_rows(const vt_cuda_linear *args, cudaStream_t stream);

/* Depthwise convolution as vt_depthwise defines it, with its residual (or NULL); vectors as there,
 * [kernel_h * kernel_w, c] and [c]. */
typedef struct vt_cuda_depthwise {
    const void *src, *residual;
    void *dst;
    vt_dtype src_dtype, residual_dtype, dst_dtype;
    vt_shape src_shape, dst_shape;
    const float *weight, *bias, *scale, *shift; /* all but weight may be NULL */
    vt_conv2d conv;                             /* geometry and activation only */
} vt_cuda_depthwise;
cudaError_t vt_cuda_depthwise_conv(const vt_cuda_depthwise *args, cudaStream_t stream);

/* dst = a * scale[c] + shift[c] (b NULL), or a * b with one row of b for `share` rows of a. */
typedef struct vt_cuda_scale {
    const void *a, *b;
    void *dst;
    vt_dtype a_dtype, b_dtype, dst_dtype;
    int64_t rows, cols, share;
    const float *scale, *shift; /* shift may be NULL */
} vt_cuda_scale;
cudaError_t vt_cuda_scale_rows(const vt_cuda_scale *args, cudaStream_t stream);

/* dst[r, first + i] = src[r, i]: a map into some channels of another. */
typedef struct vt_cuda_place {
    const void *src;
    void *dst;
    vt_dtype src_dtype, dst_dtype;
    int64_t rows, cols, first, dst_cols;
} vt_cuda_place;
cudaError_t vt_cuda_place_channels(const vt_cuda_place *args, cudaStream_t stream);

/* Pooling as vt_pooling defines it. */
typedef struct vt_cuda_pooling {
    const void *src;
    void *dst;
    vt_dtype src_dtype, dst_dtype;
    vt_shape src_shape, dst_shape;
    vt_pooling pooling;
} vt_cuda_pooling;
cudaError_t vt_cuda_pool_map(const vt_cuda_pooling *args, cudaStream_t stream);

/* What a deformable convolution multiplies, as vt_op_deform_patches defines it. */
typedef struct vt_cuda_deform {
    const void *src, *offsets;
    void *dst;
    vt_dtype src_dtype, offsets_dtype, dst_dtype;
    vt_shape src_shape, dst_shape;
    int kernel;
} vt_cuda_deform;
cudaError_t vt_cuda_deform_gather(const vt_cuda_deform *args, cudaStream_t stream);

/* Sums over all pixels of an image of products of two channels of a head, for every head:
 *   state[n, head, c, d] = sum_i left_i[c] right_i[d],  total[n, head, c] = sum_i left_i[c]
 * with left = relu(left) if `relu`. Pointers as in vt_cuda_attention. `partial` holds
 * vt_cuda_gram_bytes; the sums are added in a fixed order. */
typedef struct vt_cuda_gram {
    const void *left, *right;
    vt_dtype dtype;
    int64_t n, pixels, left_pixel, right_pixel;
    int heads, left_width, right_width;
    bool relu;
    float *partial, *state, *total; /* total: may be NULL */
} vt_cuda_gram;
size_t vt_cuda_gram_bytes(const vt_cuda_gram *args);
cudaError_t vt_cuda_gram_matrix(const vt_cuda_gram *args, cudaStream_t stream);

/* Linear attention: dst_i[d] = temperature[head] * sum_c relu(x_i[c]) state[c, d] /
 * max(sum_c relu(x_i[c]) total[c], floor). Channel attention (total NULL): dst_i[c] =
 * sum_d softmax_d(scale * state[c, d]) x_i[d]. */
typedef struct vt_cuda_apply {
    const void *x;
    void *dst;
    vt_dtype dtype, dst_dtype;
    int64_t n, pixels, x_pixel, dst_pixel;
    int heads, x_width, dst_width;
    const float *state, *total, *temperature; /* temperature: may be NULL */
    float scale, floor;
} vt_cuda_apply;

/* NULL when heads of these widths can be served, else the reason why not. */
const char *vt_cuda_apply_refuse(int x_width, int dst_width);
cudaError_t vt_cuda_apply_state(const vt_cuda_apply *args, cudaStream_t stream);

/* Both on the tensor cores, linear attention if gram->relu. The matrices stay inside: state and
 * total of both are not looked at, `partial` holds vt_cuda_gram_mma_bytes. Refuse: NULL when it
 * takes these arguments, else the reason why not. */
const char *vt_cuda_gram_mma_refuse(const vt_cuda_gram *gram, const vt_cuda_apply *apply);
size_t vt_cuda_gram_mma_bytes(const vt_cuda_gram *gram);
cudaError_t vt_cuda_gram_mma(const vt_cuda_gram *gram, const vt_cuda_apply *apply,
                             cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
