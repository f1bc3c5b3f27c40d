/* SPDX-License-Identifier: Apache-2.0 */
/* Patches to rows: row (n, y, x) of dst = the patch x patch pixels of src under it as (dy, dx, c),
 * zero outside the map, then optionally LayerNorm over the row:
 *   dst[n, y, x, (dy * patch + dx) * c + i] = src[n, y * patch + dy, x * patch + dx, i]
 *
 * Seen as lines of w * c elements, a row is `patch` runs of patch * c neighbours, so the kernels
 * know runs only, no pixels. Without norm one thread moves 8, 4 or 1 elements; with norm a group of
 * lanes owns a row in registers as in norm.cu, or a warp loops over it. No shared memory. */
#include "cuda/launch.cuh"
#include "cuda/rows.cuh"

enum { WIDE = 8, COPY_THREADS = 256 };

/* The map as lines, and the rows cut from it. */
typedef struct runs {
    int64_t rows;
    int out_h, out_w, h, patch;
    int line, run, cols; /* elements: w * c, patch * c, patch * patch * c */
} runs;

/* Where row `row` begins: its first line and the element in it. */
typedef struct corner {
    int64_t first_line; /* n * h + y * patch */
    int lines_left;     /* lines of the image from there on */
    int start;
} corner;

__device__ __forceinline__ corner corner_of(const runs &r, int64_t row)
{
    int x, y;
    int64_t n = vt_divide(vt_divide(row, r.out_w, &x), r.out_h, &y);
    return {n * r.h + (int64_t)y * r.patch, r.h - y * r.patch, x * r.run};
}

/* Index of element `col` of a row in src, or -1 outside the map. */
__device__ __forceinline__ int64_t source_of(const runs &r, const corner &at, int col)
{
    int dy = (int)((unsigned)col / (unsigned)r.run), place = at.start + col - dy * r.run;
    return dy < at.lines_left && place < r.line ? (at.first_line + dy) * r.line + place : -1;
}

template <typename S, typename D, int V>
__global__ void __launch_bounds__(COPY_THREADS) patches_copy_kernel(vt_cuda_patches a, runs r)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int64_t index = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    int chunk;
    int64_t row = vt_divide(index, r.cols / V, &chunk);
    if (row >= r.rows) {
        return;
    }
    int64_t source = source_of(r, corner_of(r, row), chunk * V);
    float x[V] = {};
    if (source >= 0) {
        vt_unpack(vt_load<S, V>((const S *)a.src + source), x);
    }
    vt_store((D *)a.dst + row * r.cols + chunk * V, x);
}

template <typename S, typename D, int K>
__global__ void __launch_bounds__(VT_ROW_THREADS, vt_row_blocks(K, (int)sizeof(S)))
    patches_norm_kernel(vt_cuda_patches a, runs r, vt_row_split split)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int lane = (int)threadIdx.x & (split.lanes - 1);
    int64_t row = ((int64_t)blockIdx.x * VT_ROW_THREADS + threadIdx.x) >> split.log2_lanes;
    bool live = row < r.rows;
    corner at = corner_of(r, live ? row : 0);
    vt_pack<S, WIDE> raw[K];
#pragma unroll
    for (int k = 0; k < K; k++) {
        int chunk = lane + k * split.lanes;
        int64_t source = chunk < split.chunks ? source_of(r, at, chunk * WIDE) : -1;
        if (live && source >= 0) {
            raw[k] = vt_load<S, WIDE>((const S *)a.src + source);
        } else {
            raw[k] = {};
        }
    }
    float mean, inverse;
    vt_row_moments(raw, split, lane, a.eps, &mean, &inverse);
#pragma unroll
    for (int k = 0; k < K; k++) {
        int chunk = lane + k * split.lanes;
        if (live && chunk < split.chunks) {
            float x[WIDE];
            vt_unpack(raw[k], x);
            vt_row_affine(x, mean, inverse, a.scale, a.shift, chunk * WIDE);
            vt_store((D *)a.dst + row * r.cols + chunk * WIDE, x);
        }
    }
}

template <typename S, typename D>
__global__ void __launch_bounds__(VT_ROW_THREADS)
    patches_norm_loop_kernel(vt_cuda_patches a, runs r)
{
    vt_let_successor_begin();
    vt_wait_for_predecessor();
    int lane = (int)threadIdx.x % 32;
    int64_t row = (int64_t)blockIdx.x * (VT_ROW_THREADS / 32) + threadIdx.x / 32;
    if (row >= r.rows) {
        return;
    }
    corner place = corner_of(r, row);
    const S *src = (const S *)a.src;
    auto at = [&r, &place, src](int64_t c) {
        int64_t source = source_of(r, place, (int)c);
        return source < 0 ? 0.0f : vt_to_float(src[source]);
    };
    float mean, inverse;
    vt_row_statistics(at, r.cols, lane, a.eps, &mean, &inverse);
    for (int c = lane; c < r.cols; c += 32) {
        float x = (at(c) - mean) * inverse;
        x = x * (a.scale ? a.scale[c] : 1.0f) + (a.shift ? a.shift[c] : 0.0f);
        ((D *)a.dst)[row * r.cols + c] = vt_from_float<D>(x);
    }
}

/* Largest piece that never straddles two runs or the edge of the map, and is aligned. */
static int piece_of(const vt_cuda_patches *a, const runs *r)
{
    for (int piece = WIDE; piece > 1; piece /= 2) {
        if (piece != 2 && r->run % piece == 0 && r->line % piece == 0 &&
            vt_is_aligned(a->src, 16) && vt_is_aligned(a->dst, 16) && vt_is_aligned(a->scale, 16) &&
            vt_is_aligned(a->shift, 16)) {
            return piece;
        }
    }
    return 1;
}

template <typename S, typename D>
static cudaError_t launch_copy(const vt_cuda_patches *a, const runs *r, int piece,
                               cudaStream_t stream)
{
    unsigned grid = vt_grid(r->rows * (r->cols / piece), COPY_THREADS);
    auto kernel = piece == 8   ? patches_copy_kernel<S, D, 8>
                  : piece == 4 ? patches_copy_kernel<S, D, 4>
                               : patches_copy_kernel<S, D, 1>;
    return vt_cuda_launch(kernel, grid, COPY_THREADS, 0, stream, *a, *r);
}

template <typename S, typename D>
static cudaError_t launch(const vt_cuda_patches *a, const runs *r, cudaStream_t stream)
{
    int piece = piece_of(a, r);
    if (a->eps < 0.0f || (!a->scale && a->eps == 0.0f)) {
        return launch_copy<S, D>(a, r, piece, stream);
    }
    if (piece != WIDE || r->cols / WIDE > VT_ROW_MOST_CHUNKS) {
        unsigned grid = vt_grid(r->rows, VT_ROW_THREADS / 32);
        return vt_cuda_launch(patches_norm_loop_kernel<S, D>, grid, VT_ROW_THREADS, 0, stream, *a,
                              *r);
    }
    vt_row_split s = vt_row_split_make(r->cols / WIDE);
    unsigned grid = vt_grid(r->rows, VT_ROW_THREADS / s.lanes);
    auto kernel = s.per_lane == 2   ? patches_norm_kernel<S, D, 2>
                  : s.per_lane == 3 ? patches_norm_kernel<S, D, 3>
                  : s.per_lane == 4 ? patches_norm_kernel<S, D, 4>
                  : s.per_lane == 6 ? patches_norm_kernel<S, D, 6>
                  : s.per_lane == 8 ? patches_norm_kernel<S, D, 8>
                                    : patches_norm_kernel<S, D, 16>;
    return vt_cuda_launch(kernel, grid, VT_ROW_THREADS, 0, stream, *a, *r, s);
}

typedef cudaError_t launcher(const vt_cuda_patches *, const runs *, cudaStream_t);

cudaError_t vt_cuda_gather_patches(const vt_cuda_patches *a, cudaStream_t stream)
{
    static launcher *const table[3][3] = VT_TYPE_TABLE(launch);
    const vt_shape *s = &a->shape;
    if (!vt_is_float_type(a->src_dtype) || !vt_is_float_type(a->dst_dtype) || a->patch < 1 ||
        s->h < 1 || s->w < 1 || s->c < 1 || s->h > INT32_MAX / 2 || s->w > INT32_MAX / s->c / 2 ||
        a->patch > 4096 || s->c > INT32_MAX / a->patch / a->patch / 2) {
        return cudaErrorInvalidValue;
    }
    runs r = {};
    r.out_h = (int)((s->h + a->patch - 1) / a->patch);
    r.out_w = (int)((s->w + a->patch - 1) / a->patch);
    r.rows = s->n * r.out_h * r.out_w;
    r.h = (int)s->h;
    r.patch = a->patch;
    r.line = (int)(s->w * s->c);
    r.run = (int)(a->patch * s->c);
    r.cols = r.run * a->patch;
    return r.rows < 1 ? cudaSuccess : table[a->src_dtype][a->dst_dtype](a, &r, stream);
}
