/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of vectors. The coefficients and the errors stated come from tools/fit_erf.py. */
#ifndef VT_OPS_CPU_VMATH_H
#define VT_OPS_CPU_VMATH_H

#include "ops/cpu/simd.h"
#include "vertebra/ops.h"

/* e^x, off by at most 1.1 ulp on [-87.3, 88.3]; ends of that range beyond it, NaN for NaN.
 * x = n ln 2 + r, |r| <= ln 2 / 2; e^x = 2^n e^r. */
VT_INLINE vf vf_exp(vf x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = vf_max(vf_all(-87.3f), vf_min(vf_all(88.3f), x));
    vf shifted = x * 1.44269504f + magic;
    vf n = shifted - magic;
    vf r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf s = vf_all(0.00138146116f);
    s = s * r + 0.00836871006f;
    s = s * r + 0.041668389f;
    s = s * r + 0.166665211f;
    s = s * r + 0.49999994f;
    vf e = s * (r * r) + r + 1.0f;
    vi power = ((vi)shifted - (vi)vf_all(magic) + 127) << 23;
    return e * (vf)power;
}

/* x * Phi(x), erf form; the error of Phi is at most 1.7e-7 (2.2e-7 without fused multiply-adds).
 * Phi(x) = 1/2 + x P(x^2) / Q(x^2) on [-5.4, 5.4], 0 below, 1 above. */
VT_INLINE vf vf_gelu(vf x)
{
    const float clamp = 5.4f;
    vf c = vf_max(vf_all(-clamp), vf_min(vf_all(clamp), x));
    vf t = c * c;
    vf p = vf_all(2.33872335e-08f);
    p = p * t + 6.35980177e-06f;
    p = p * t + 0.000164305166f;
    p = p * t + 0.00465074833f;
    p = p * t + 0.0333707221f;
    p = p * t + 0.398942232f;
    vf q = vf_all(1.21658957e-06f);
    q = q * t + 7.23943522e-05f;
    q = q * t + 0.00185888773f;
    q = q * t + 0.0283777993f;
    q = q * t + 0.250314087f;
    q = q * t + 1.0f;
    vf phi = c * (p / q) + 0.5f;
    phi = (vf)((vi)phi & (x >= -clamp));
    return x * phi;
}

/* x * sigmoid(y) */
VT_INLINE vf vf_gate(vf x, vf y)
{
    return x / (vf_exp(-y) + 1.0f);
}

VT_INLINE vf vf_sigmoid(vf x)
{
    return vf_gate(vf_all(1.0f), x);
}

/* tanh x = 2 sigmoid(2 x) - 1; off by at most 2.4e-7, not relative to small x */
VT_INLINE vf vf_tanh(vf x)
{
    return vf_sigmoid(x * 2.0f) * 2.0f - 1.0f;
}

VT_INLINE vf vf_silu(vf x)
{
    return vf_gate(x, x);
}

/* x * (1 + tanh u) / 2 = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
VT_INLINE vf vf_gelu_tanh(vf x)
{
    return vf_gate(x, x * (x * x * (1.59576912f * 0.044715f) + 1.59576912f));
}

VT_INLINE vf vf_relu(vf x)
{
    return vf_max(vf_all(0.0f), x);
}

VT_INLINE vf vf_activate(const vt_activation act, vf x)
{
    switch (act) {
    case VT_ACT_GELU: return vf_gelu(x);
    case VT_ACT_GELU_TANH: return vf_gelu_tanh(x);
    case VT_ACT_SILU: return vf_silu(x);
    case VT_ACT_RELU: return vf_relu(x);
    case VT_ACT_SIGMOID: return vf_sigmoid(x);
    case VT_ACT_TANH: return vf_tanh(x);
    case VT_ACT_NONE: break;
    }
    return x;
}

#endif
