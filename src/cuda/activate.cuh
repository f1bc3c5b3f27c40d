/* SPDX-License-Identifier: Apache-2.0 */
/* The activations of vt_activation on V neighbours in f32. */
#ifndef VT_CUDA_ACTIVATE_CUH
#define VT_CUDA_ACTIVATE_CUH

#include "vertebra/ops.h"

/* x * (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2 without a branch.
 * erfc by Abramowitz and Stegun 7.1.26: off by at most 1.5e-7, far below a rounding of the half
 * types it is used for; a fourth of erff's instructions. */
__device__ __forceinline__ float vt_gelu_short(float x)
{
    float z = fabsf(x) * 0.70710678f;
    float t = __fdividef(1.0f, 1.0f + 0.3275911f * z);
    float poly =
        t * (0.254829592f +
             t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    return fmaxf(x, 0.0f) - 0.5f * fabsf(x) * poly * __expf(-z * z);
}

/* x / (1 + e^-y): x times the logistic function of y, within a few roundings of f32. */
__device__ __forceinline__ float vt_times_logistic(float x, float y)
{
    return __fdividef(x, 1.0f + __expf(-y));
}

/* EXACT: for f32 results. */
template <bool EXACT, int V>
__device__ __forceinline__ void vt_activate(vt_activation act, float (&x)[V])
{
    if (act == VT_ACT_GELU) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            x[i] = EXACT ? 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f)) : vt_gelu_short(x[i]);
        }
    } else if (act == VT_ACT_GELU_TANH) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float inner = 0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
            x[i] =
                EXACT ? 0.5f * x[i] * (1.0f + tanhf(inner)) : vt_times_logistic(x[i], 2.0f * inner);
        }
    } else if (act == VT_ACT_SILU) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            x[i] = EXACT ? x[i] / (1.0f + expf(-x[i])) : vt_times_logistic(x[i], x[i]);
        }
    } else if (act == VT_ACT_RELU) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            x[i] = x[i] > 0.0f ? x[i] : 0.0f;
        }
    } else if (act == VT_ACT_SIGMOID) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            x[i] = EXACT ? 1.0f / (1.0f + expf(-x[i])) : vt_times_logistic(1.0f, x[i]);
        }
    } else if (act == VT_ACT_TANH) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            x[i] = tanhf(x[i]);
        }
    }
}

#endif
