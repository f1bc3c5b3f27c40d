/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the instruction set when the program runs. */
#include "core/context.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/pack.h"

static const char *refuse_dtype(vt_dtype dtype)
{
    switch (dtype) {
    case VT_F32:
    case VT_BF16: return NULL;
    case VT_F16: return "f16 is for GPUs; use f32 or bf16";
    default: return "the CPU computes in f32 or bf16";
    }
}

#define ONLY(impl) ((const vt_impl *const[]){&impl, NULL})
static const vt_impl *const conv2d_impls[] = {&vt_cpu_conv2d, &vt_cpu_conv2d_groups, NULL};
#define CPU_BACKEND(isa)                                                                           \
    {                                                                                              \
        .name = "cpu " #isa,                                                                       \
        .impls =                                                                                   \
            {                                                                                      \
                [VT_OP_LINEAR] = ONLY(vt_cpu_linear),                                              \
                [VT_OP_CONV2D] = conv2d_impls,                                                     \
                [VT_OP_NORM] = ONLY(vt_cpu_norm),                                                  \
                [VT_OP_ATTENTION] = ONLY(vt_cpu_attention),                                        \
                [VT_OP_ADD] = ONLY(vt_cpu_add),                                                    \
                [VT_OP_SPACE_TO_DEPTH] = ONLY(vt_cpu_space_to_depth),                              \
                [VT_OP_MEAN_POOL] = ONLY(vt_cpu_mean_pool),                                        \
                [VT_OP_DEPTHWISE] = ONLY(vt_cpu_depthwise_rows),                                   \
                [VT_OP_AFFINE] = ONLY(vt_cpu_affine),                                              \
                [VT_OP_MUL] = ONLY(vt_cpu_mul),                                                    \
                [VT_OP_CONCAT] = ONLY(vt_cpu_concat),                                              \
                [VT_OP_POOL] = ONLY(vt_cpu_pooling),                                               \
                [VT_OP_LINEAR_ATTENTION] = ONLY(vt_cpu_summed_attention),                          \
                [VT_OP_CHANNEL_ATTENTION] = ONLY(vt_cpu_summed_attention),                         \
                [VT_OP_DEFORM_PATCHES] = ONLY(vt_cpu_deform_patches),                              \
            },                                                                                     \
        .refuse_dtype = refuse_dtype, .pack = vt_cpu_pack, .peak = vt_cpu_peak,                    \
        .copy_rate = vt_cpu_copy_rate, .kernels = &vt_cpu_kernels_##isa,                           \
    }

static const vt_backend backend_portable = CPU_BACKEND(portable);
#if defined(__x86_64__)
static const vt_backend backend_avx2 = CPU_BACKEND(avx2);
static const vt_backend backend_avx512 = CPU_BACKEND(avx512);
static const vt_backend backend_avx512_bf16 = CPU_BACKEND(avx512_bf16);
#endif

/* Whether the processor has everything that kernels.c was compiled with. */
static bool processor_has(vt_isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    switch (isa) {
    case VT_ISA_AVX2: return avx2;
    case VT_ISA_AVX512: return avx512;
    case VT_ISA_AVX512_BF16: return avx512 && __builtin_cpu_supports("avx512bf16");
    default: return true;
    }
#else
    return isa == VT_ISA_AUTO || isa == VT_ISA_PORTABLE;
#endif
}

static const vt_backend *backend_of(vt_isa isa)
{
    switch (isa) {
#if defined(__x86_64__)
    case VT_ISA_AVX2: return &backend_avx2;
    case VT_ISA_AVX512: return &backend_avx512;
    case VT_ISA_AVX512_BF16: return &backend_avx512_bf16;
#endif
    default: return &backend_portable;
    }
}

vt_status vt_backend_cpu(const vt_backend **backend, vt_isa isa, vt_error *error)
{
    static const char *const names[] = {
        [VT_ISA_AUTO] = "auto",     [VT_ISA_PORTABLE] = "portable",       [VT_ISA_AVX2] = "avx2",
        [VT_ISA_AVX512] = "avx512", [VT_ISA_AVX512_BF16] = "avx512_bf16",
    };
    if ((int)isa < VT_ISA_AUTO || isa > VT_ISA_AVX512_BF16) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "unknown instruction set %d", (int)isa);
    }
    if (isa == VT_ISA_AUTO) {
        isa = VT_ISA_AVX512_BF16;
        while (!processor_has(isa)) {
            isa--;
        }
    }
    if (!processor_has(isa)) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "this processor has no %s", names[isa]);
    }
    *backend = backend_of(isa);
    return VT_OK;
}
