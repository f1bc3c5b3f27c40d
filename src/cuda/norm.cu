/* SPDX-License-Identifier: Apache-2.0 */
/* LayerNorm of rows: dst = residual + (src - mean) / sqrt(variance + eps) * scale + shift.
 *
 * Bound by memory: each element is read once and written once, 16 bytes at a time (32 for f32), and
 * the row waits in registers between the passes over it. A group of 4 to 32 lanes owns a row, 2 to
 * 16 chunks of 8 columns per lane, so a warp takes 8 rows of 96 columns or one of 768. Rows that
 * are no multiple of 8, badly aligned or beyond 4096 columns take a loop of one warp per row
 * that reads the row three times (from the caches). No shared memory. */
#include "cuda/launch.cuh"
#include "cuda/rows.cuh"

enum { WIDE = 8 };

template <typename S, typename D, int K>
__global__ void __launch_bounds__(VT_ROW_THREADS, vt_row_blocks(K, (int)sizeof(S)))
    norm_kernel(vt_cuda_norm a, vt_row_split split)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int lane = (int)threadIdx.x & (split.lanes - 1);
    int64_t row = ((int64_t)blockIdx.x * VT_ROW_THREADS + threadIdx.x) >> split.log2_lanes;
    bool live = row < a.rows;
    const S *src = (const S *)a.src + row * a.cols;
    vt_pack<S, WIDE> raw[K];
#pragma unroll
    for (int k = 0; k < K; k++) {
        int chunk = lane + k * split.lanes;
        if (live && chunk < split.chunks) {
            raw[k] = vt_load<S, WIDE>(src + chunk * WIDE);
        } else {
            raw[k] = {};
        }
    }
    float mean, inverse;
    vt_row_moments(raw, split, lane, a.eps, &mean, &inverse);
    D *dst = (D *)a.dst + row * a.cols;
#pragma unroll
    for (int k = 0; k < K; k++) {
        int chunk = lane + k * split.lanes;
        if (live && chunk < split.chunks) {
            float x[WIDE];
            vt_unpack(raw[k], x);
            vt_row_affine(x, mean, inverse, a.scale, a.shift, chunk * WIDE);
            if (a.residual) {
                vt_add_any(a.residual, a.residual_dtype, row * a.cols + chunk * WIDE, x);
            }
            vt_store(dst + chunk * WIDE, x);
        }
    }
}

template <typename S, typename D>
__global__ void __launch_bounds__(VT_ROW_THREADS) norm_loop_kernel(vt_cuda_norm a)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int lane = (int)threadIdx.x % 32;
    int64_t row = (int64_t)blockIdx.x * (VT_ROW_THREADS / 32) + threadIdx.x / 32;
    if (row >= a.rows) {
        return;
    }
    const S *src = (const S *)a.src + row * a.cols;
    D *dst = (D *)a.dst + row * a.cols;
    float mean, inverse;
    auto at = [src](int64_t c) { return vt_to_float(src[c]); };
    vt_row_statistics(at, a.cols, lane, a.eps, &mean, &inverse);
    for (int64_t c = lane; c < a.cols; c += 32) {
        float x[1] = {(at(c) - mean) * inverse};
        x[0] = x[0] * (a.scale ? a.scale[c] : 1.0f) + (a.shift ? a.shift[c] : 0.0f);
        if (a.residual) {
            vt_add_any(a.residual, a.residual_dtype, row * a.cols + c, x);
        }
        dst[c] = vt_from_float<D>(x[0]);
    }
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_norm *a, bool wide, cudaStream_t stream)
{
    if (!wide) {
        unsigned grid = vt_grid(a->rows, VT_ROW_THREADS / 32);
        return vt_cuda_launch(norm_loop_kernel<S, D>, grid, VT_ROW_THREADS, 0, stream, *a);
    }
    vt_row_split split = vt_row_split_make(a->cols / WIDE);
    unsigned grid = vt_grid(a->rows, VT_ROW_THREADS / split.lanes);
    auto kernel = split.per_lane == 2   ? norm_kernel<S, D, 2>
                  : split.per_lane == 3 ? norm_kernel<S, D, 3>
                  : split.per_lane == 4 ? norm_kernel<S, D, 4>
                  : split.per_lane == 6 ? norm_kernel<S, D, 6>
                  : split.per_lane == 8 ? norm_kernel<S, D, 8>
                                        : norm_kernel<S, D, 16>;
    return vt_cuda_launch(kernel, grid, VT_ROW_THREADS, 0, stream, *a, split);
}

typedef cudaError_t launcher(const vt_cuda_norm *, bool, cudaStream_t);

cudaError_t vt_cuda_norm_rows(const vt_cuda_norm *a, cudaStream_t stream)
{
    static launcher *const table[3][3] = VT_TYPE_TABLE(launch);
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) ||
        (a->residual && !vt_is_float_type(a->residual_dtype)) || a->cols < 1) {
        return cudaErrorInvalidValue;
    }
    if (a->rows < 1) {
        return cudaSuccess;
    }
    bool wide = a->cols % WIDE == 0 && a->cols / WIDE <= VT_ROW_MOST_CHUNKS &&
                vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16) &&
                vt_is_aligned(a->residual, 16) && vt_is_aligned(a->scale, 16) &&
                vt_is_aligned(a->shift, 16);
    return table[a->src_dtype][a->dst_dtype](a, wide, stream);
}
