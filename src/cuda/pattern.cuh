/* SPDX-License-Identifier: Apache-2.0 */
/* The index rule of src/ops/pattern.h for the device: which pixel stands at which place of which
 * window, and which region it belongs to. Coordinates within one image fit 32 bits. */
#ifndef VT_CUDA_PATTERN_CUH
#define VT_CUDA_PATTERN_CUH

#include "cuda/convert.cuh"

#define VT_CUDA_MASK_VALUE (-100.0f)
#define VT_LOG2_E          1.44269504f

/* One axis. Place z of the padded and rolled map shows map coordinate (z + roll) mod bound, if
 * z < bound and that is < size; bound is what the roll wraps at. In a grid pattern place z shows
 * map coordinate (z mod window) * windows + z / window. */
typedef struct vt_window_axis {
    int size, bound, roll;
    int window, shift, windows;
    bool grid;
} vt_window_axis;

typedef struct vt_window_map {
    vt_window_axis rows, cols;
    int tokens;          /* of a window */
    unsigned reciprocal; /* 2^20 / window width, rounded up */
} vt_window_map;

static inline vt_window_axis vt_window_axis_make(int size, int window, int shift,
                                                 const vt_pattern *p)
{
    vt_window_axis a = {};
    a.grid = p->kind == VT_PATTERN_GRID;
    a.size = size;
    a.window = window;
    a.shift = shift;
    a.windows = (size + window - 1) / window;
    a.bound = p->roll == VT_ROLL_MAP ? size : a.windows * window;
    a.roll = shift % a.bound;
    return a;
}

static inline vt_window_map vt_window_map_make(const vt_cuda_attention *a)
{
    const vt_pattern *p = &a->pattern;
    vt_window_map map = {};
    map.rows = vt_window_axis_make(a->h, p->window_h, p->shift_h, p);
    map.cols = vt_window_axis_make(a->w, p->window_w, p->shift_w, p);
    map.tokens = p->window_h * p->window_w;
    map.reciprocal = ((1u << 20) + (unsigned)p->window_w - 1) / (unsigned)p->window_w;
    return map;
}

static inline int64_t vt_window_count(const vt_cuda_attention *a, const vt_window_map *map)
{
    return a->n * map->rows.windows * map->cols.windows;
}

/* Whether pixels can be read 8 channels at a time. */
static inline bool vt_is_vector_map(const void *p, int64_t pixel)
{
    return vt_is_aligned(p, 16) && pixel % 8 == 0;
}

/* Why the types or the maps do not suit tensor cores, or NULL. */
static inline const char *vt_tensor_core_refuse(const vt_cuda_attention *a)
{
    if ((a->dtype != VT_F16 && a->dtype != VT_BF16) || a->dst_dtype != a->dtype) {
        return "tensor cores take f16 or bf16, the same in and out";
    }
    if (!vt_is_vector_map(a->q, a->q_pixel) || !vt_is_vector_map(a->k, a->k_pixel) ||
        !vt_is_vector_map(a->v, a->v_pixel) || !vt_is_vector_map(a->dst, a->dst_pixel)) {
        return "a map is not aligned to 16 bytes";
    }
    return NULL;
}

/* Why no kernel for windows can take these arguments, or NULL. */
static inline const char *vt_window_refuse(const vt_cuda_attention *a)
{
    const vt_pattern *p = &a->pattern;
    if (p->kind != VT_PATTERN_WINDOW && p->kind != VT_PATTERN_GRID) {
        return "the pattern is not made of windows";
    }
    if (a->position_rows) {
        return "positions depend on the query";
    }
    if (a->h < 1 || a->w < 1 || a->h > 1 << 24 || a->w > 1 << 24 ||
        (int64_t)a->h * a->w > 1 << 30) {
        return "the map is empty or beyond 2^30 pixels";
    }
    if (p->window_h < 1 || p->window_w < 1 || p->window_h > 1 << 12 || p->window_w > 1 << 12 ||
        p->shift_h < 0 || p->shift_w < 0 || p->shift_h >= p->window_h ||
        p->shift_w >= p->window_w) {
        return "the window or its shift is out of range";
    }
    return a->heads < 1 || a->qk_width < 1 || a->v_width < 1 ? "there are no heads" : NULL;
}

__device__ __forceinline__ int vt_place_source(const vt_window_axis &a, int z)
{
    if (a.grid) {
        int source = z % a.window * a.windows + z / a.window;
        return source < a.size ? source : -1;
    }
    int source = z + a.roll;
    source -= source >= a.bound ? a.bound : 0;
    return z < a.bound && source < a.size ? source : -1;
}

__device__ __forceinline__ int vt_place_region(const vt_window_axis &a, int z)
{
    int padded = a.windows * a.window;
    if (a.shift == 0 || z >= padded - a.shift) {
        return 2;
    }
    return z >= padded - a.window ? 1 : 0;
}

/* token / window width without a division, for tokens below VT_WINDOW_ROW_TOKENS: the product is
 * off by less than token / 2^20, which is below 1 / width. */
enum { VT_WINDOW_ROW_TOKENS = 1024 };
__device__ __forceinline__ int vt_window_row(const vt_window_map &m, int token)
{
    return (int)((unsigned)token * m.reciprocal >> 20);
}

/* Pixel index within its image at place (zy, zx), or -1 where there is only padding. */
__device__ __forceinline__ int vt_window_pixel(const vt_window_map &m, int zy, int zx)
{
    int y = vt_place_source(m.rows, zy), x = vt_place_source(m.cols, zx);
    return y < 0 || x < 0 ? -1 : y * m.cols.size + x;
}

__device__ __forceinline__ int vt_window_region(const vt_window_map &m, int zy, int zx)
{
    return 3 * vt_place_region(m.rows, zy) + vt_place_region(m.cols, zx);
}

/* Does the window with its first token at (zy, zx) hold more than one region? */
__device__ __forceinline__ bool vt_window_at_seam(const vt_window_map &m, int zy, int zx)
{
    return (m.rows.shift > 0 && zy == (m.rows.windows - 1) * m.rows.window) ||
           (m.cols.shift > 0 && zx == (m.cols.windows - 1) * m.cols.window);
}

#endif
