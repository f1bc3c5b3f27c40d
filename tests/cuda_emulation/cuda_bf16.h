/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for CUDA's header. */
#ifndef VT_EMULATION_CUDA_BF16_H
#define VT_EMULATION_CUDA_BF16_H

#include "core/half.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 x)
{
    return vt_from_bf16(x.bits);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    return {vt_to_bf16(x)};
}

#endif
