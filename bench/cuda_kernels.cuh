/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks and the times of bench/cuda_kernels share. */
#ifndef BENCH_CUDA_KERNELS_CUH
#define BENCH_CUDA_KERNELS_CUH

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "cuda/convert.cuh"

inline int failures;    /* of all checks */
inline char label[160]; /* of the check or time under way */

inline void must(cudaError_t e, const char *what)
{
    if (e != cudaSuccess) {
        fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
        exit(2);
    }
}

/* ---- data ------------------------------------------------------------------------------------ */

inline uint32_t random_state = 12345;
inline float random_unit(void) /* about normal, in (-3, 3) */
{
    float sum = 0.0f;
    for (int i = 0; i < 6; i++) {
        random_state = random_state * 1664525u + 1013904223u;
        sum += (float)(random_state >> 8) / 16777216.0f;
    }
    return (sum - 3.0f) * 1.4f;
}

inline size_t size_of(vt_dtype dtype)
{
    return dtype == VT_F32 ? 4 : 2;
}
inline const char *name_of(vt_dtype dtype)
{
    return dtype == VT_F32 ? "f32" : dtype == VT_F16 ? "f16" : "bf16";
}
inline void put(void *data, vt_dtype dtype, size_t i, float x)
{
    if (dtype == VT_F32) {
        ((float *)data)[i] = x;
    } else if (dtype == VT_F16) {
        ((__half *)data)[i] = __float2half_rn(x);
    } else {
        ((__nv_bfloat16 *)data)[i] = __float2bfloat16_rn(x);
    }
}

struct linear_case {
    int64_t rows, depth, cols;
    vt_activation act;
    bool norm_in, norm_out, bias;
    int residual; /* 0 none, 1 another map, 2 dst itself, 3 another map as a factor */
    float centre, spread;
};

/* Attention from one map of [q | k | v] channels to a map of the heads side by side. */
inline vt_cuda_attention attention_of(vt_dtype t, void *map, void *dst, vt_shape shape, int heads,
                                      const vt_pattern &pattern)
{
    int64_t c = shape.c;
    vt_cuda_attention a = {};
    a.q = map;
    a.k = (char *)map + c * (int64_t)size_of(t);
    a.v = (char *)map + 2 * c * (int64_t)size_of(t);
    a.dst = dst;
    a.dtype = a.dst_dtype = t;
    a.n = shape.n;
    a.q_pixel = a.k_pixel = a.v_pixel = 3 * c;
    a.dst_pixel = c;
    a.h = (int)shape.h;
    a.w = (int)shape.w;
    a.heads = heads;
    a.qk_width = a.v_width = (int)c / heads;
    a.scale = 1.0f / sqrtf((float)a.qk_width);
    a.pattern = pattern;
    return a;
}

/* ---- cuda_kernels_check.cu, cuda_kernels_check_products.cu ----------------------------------- */

/* All kernels, or those of the products of a warpgroup alone; prints a line for each check. */
void check_kernels(void);
void check_products(void);

/* ---- cuda_kernels_time.cu -------------------------------------------------------------------- */

void time_all(void);      /* at Swin-T's shapes */
void time_products(void); /* of a warpgroup */
void time_smalls(int batch);
void time_summed_all(void);
void time_boxes(void);
void time_depthwises(void);

#endif
