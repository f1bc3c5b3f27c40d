/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for CUDA's header. */
#ifndef VT_EMULATION_CUDA_FP16_H
#define VT_EMULATION_CUDA_FP16_H

#include "core/half.h"

struct __half {
    uint16_t bits;
};

static inline float __half2float(__half x)
{
    return vt_from_f16(x.bits);
}
static inline __half __float2half_rn(float x)
{
    return {vt_to_f16(x)};
}

#endif
