/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of kernels for sm_90a: barriers in shared memory that count bytes, tiles copied by the
 * tensor memory accelerator (TMA), and products of a warpgroup (128 threads) whose right operand,
 * and if wanted the left one, lie in shared memory.
 *
 * Tiles are boxes of rows with B elements each, B = 64 (128 bytes) or 32, swizzled as in mma.cuh:
 * vt_tile_offset<B> gives the place of a chunk, the copies and the products compute the same.
 * Boxes start at multiples of 1024 bytes (512 for B = 32).
 *
 * The accumulator of a 64 x N product: thread 32 w + 4 g + t holds in d[4 i + 2 h + k] the element
 * of row 16 w + g + 8 h and column 8 i + 2 t + k. */
#ifndef VT_CUDA_WGMMA_CUH
#define VT_CUDA_WGMMA_CUH

#include <cuda.h>

#include "cuda/mma.cuh"

/* Device code for other architectures is left out; launchers refuse there. */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define VT_HAS_WGMMA 1
#else
#define VT_HAS_WGMMA 0
#endif

/* ---- registers ------------------------------------------------------------------------------- */

/* All threads of a warpgroup have N registers each from here on: fewer, so that others can have
 * more. Tools that put code of their own into kernels may need more than are left: with
 * VT_KEEP_REGISTERS all keep what they begin with (slower; tests/cuda_sanitize.sh). */
template <int N> __device__ __forceinline__ void vt_registers_give(void)
{
#ifndef VT_KEEP_REGISTERS
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
template <int N> __device__ __forceinline__ void vt_registers_take(void)
{
#ifndef VT_KEEP_REGISTERS
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

/* ---- barriers -------------------------------------------------------------------------------- */

__device__ __forceinline__ void vt_barrier_init(uint64_t *barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(vt_shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
/* Makes the barriers that this thread has initialised known to the copy engine. */
__device__ __forceinline__ void vt_barrier_publish(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void vt_barrier_arrive(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(vt_shared_address(barrier))
                 : "memory");
}
/* Arrives, and keeps the phase open until so many bytes have landed. */
__device__ __forceinline__ void vt_barrier_expect(uint64_t *barrier, uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(vt_shared_address(barrier)),
        "r"(bytes)
        : "memory");
}
/* Until the phase of this parity is over; the phase before the first counts as one of parity 1. */
__device__ __forceinline__ void vt_barrier_wait(uint64_t *barrier, uint32_t parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra ready;\n"
                 "bra again;\n"
                 "ready:\n"
                 "}" ::"r"(vt_shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

/* A barrier of the hardware, 1 to 15, for some of the block's threads. */
__device__ __forceinline__ void vt_barrier_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* What this thread has stored to shared memory becomes visible to copies and products. */
__device__ __forceinline__ void vt_fence_shared_stores(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* A place in a ring of slots, and the parity that a reader waits for. */
struct vt_ring {
    int slot = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void advance(int slots)
    {
        if (++slot == slots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/* ---- copies ---------------------------------------------------------------------------------- */

/* The box at (column, row) of a map into shared memory; its bytes count towards `barrier`. */
__device__ __forceinline__ void vt_box_load(const CUtensorMap *map, uint64_t *barrier, uint32_t dst,
                                            int column, int row)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(dst),
                 "l"(map), "r"(vt_shared_address(barrier)), "r"(column), "r"(row)
                 : "memory");
}
/* The other way; elements outside the map are not written. */
__device__ __forceinline__ void vt_box_store(const CUtensorMap *map, uint32_t src, int column,
                                             int row)
{
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
            map),
        "r"(src), "r"(column), "r"(row)
        : "memory");
}
/* Until the stores of this thread have read their boxes. */
__device__ __forceinline__ void vt_box_store_read(void)
{
    asm volatile("cp.async.bulk.commit_group;\n"
                 "cp.async.bulk.wait_group.read 0;" ::
                     : "memory");
}

/* Two halves as floats. */
template <typename T> __device__ __forceinline__ float2 vt_unpack2(uint32_t pair);
template <> __device__ __forceinline__ float2 vt_unpack2<__half>(uint32_t pair)
{
    return __half22float2(*reinterpret_cast<__half2 *>(&pair));
}
template <> __device__ __forceinline__ float2 vt_unpack2<__nv_bfloat16>(uint32_t pair)
{
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

/* ---- products -------------------------------------------------------------------------------- */

/* The operand at a shared address: rows of B elements with the 16 columns of one step at `address`
 * and the seven bits that the swizzle changes taken from there. */
template <int B> __device__ __forceinline__ uint64_t vt_operand(uint32_t address)
{
    constexpr uint64_t eight_rows = 8 * B * 2 / 16, mode = B == 64 ? 1 : 2;
    return mode << 62 | eight_rows << 32 | 1ull << 16 | (address & 0x3ffff) >> 4;
}

__device__ __forceinline__ void vt_products_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void vt_products_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Until at most `LEFT` of the committed groups are still at work. */
template <int LEFT> __device__ __forceinline__ void vt_products_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
/* Nothing that makes or uses these registers moves across this line. */
template <int N> __device__ __forceinline__ void vt_pin(float (&d)[N])
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        asm volatile("" : "+f"(d[i])::"memory");
    }
}
template <int N> __device__ __forceinline__ void vt_pin(uint32_t (&a)[N][4])
{
#pragma unroll
    for (int i = 0; i < 4 * N; i++) {
        asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
    }
}

/* d = a b^T, or d += a b^T: 64 x N x 16, a from registers or from shared memory. */
template <typename T, int N> struct vt_product;

#define VT_D8(i)                                                                                   \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define VT_D32(i) VT_D8(i), VT_D8(i + 8), VT_D8(i + 16), VT_D8(i + 24)
#define VT_OUT32  VT_D32(0)
#define VT_OUT48  VT_D32(0), VT_D8(32), VT_D8(40)
#define VT_OUT64  VT_D32(0), VT_D32(32)
#define VT_OUT96  VT_OUT64, VT_D32(64)
#define VT_OUT128 VT_OUT96, VT_D32(96)
#define VT_TEN(t)                                                                                  \
    "%" t "0, %" t "1, %" t "2, %" t "3, %" t "4, %" t "5, %" t "6, %" t "7, %" t "8, %" t "9"
#define VT_LIST30 VT_TEN("") ", " VT_TEN("1") ", " VT_TEN("2")
#define VT_LIST32 VT_LIST30 ", %30, %31"
#define VT_LIST48 VT_LIST30 ", " VT_TEN("3") ", %40, %41, %42, %43, %44, %45, %46, %47"
#define VT_LIST60 VT_LIST30 ", " VT_TEN("3") ", " VT_TEN("4") ", " VT_TEN("5")
#define VT_LIST64 VT_LIST60 ", %60, %61, %62, %63"
#define VT_LIST90 VT_LIST60 ", " VT_TEN("6") ", " VT_TEN("7") ", " VT_TEN("8")
#define VT_LIST96 VT_LIST90 ", %90, %91, %92, %93, %94, %95"
#define VT_LIST128                                                                                 \
    VT_LIST90 ", " VT_TEN("9") ", " VT_TEN("10") ", " VT_TEN("11") ", %120, %121, %122, %123, "    \
                                                                   "%124, %125, %126, %127"

/* The numbers are those of the operands behind the accumulators. */
#define VT_PRODUCT(T, type, N, regs, n0, n1, n2, n3, n4, n5)                                       \
    template <> struct vt_product<T, N> {                                                          \
        static __device__ __forceinline__ void registers(float (&d)[regs], const uint32_t (&a)[4], \
                                                         uint64_t b, int add)                      \
        {                                                                                          \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n5 ", 0;\n"                         \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type           \
                         " {" VT_LIST##regs "}, {%" #n0 ", %" #n1 ", %" #n2 ", %" #n3 "}, %" #n4   \
                                            ", p, 1, 1, 0;\n}"                                     \
                         : VT_OUT##regs                                                            \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));          \
        }                                                                                          \
        static __device__ __forceinline__ void shared(float (&d)[regs], uint64_t a, uint64_t b,    \
                                                      int add)                                     \
        {                                                                                          \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #n2 ", 0;\n"                         \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type           \
                         " {" VT_LIST##regs "}, %" #n0 ", %" #n1 ", p, 1, 1, 0, 0;\n}"             \
                         : VT_OUT##regs                                                            \
                         : "l"(a), "l"(b), "r"(add));                                              \
        }                                                                                          \
    };
#define VT_PRODUCTS(T, type)                                                                       \
    VT_PRODUCT(T, type, 64, 32, 32, 33, 34, 35, 36, 37)                                            \
    VT_PRODUCT(T, type, 96, 48, 48, 49, 50, 51, 52, 53)                                            \
    VT_PRODUCT(T, type, 128, 64, 64, 65, 66, 67, 68, 69)                                           \
    VT_PRODUCT(T, type, 192, 96, 96, 97, 98, 99, 100, 101)                                         \
    VT_PRODUCT(T, type, 256, 128, 128, 129, 130, 131, 132, 133)
#if VT_HAS_WGMMA
VT_PRODUCTS(__half, "f16")
VT_PRODUCTS(__nv_bfloat16, "bf16")
#endif

/* ---- host ------------------------------------------------------------------------------------ */

/* Describes a dense [rows, columns] matrix of a half type that is copied in boxes of `box_rows`
 * rows and `box_columns` (32 or 64) columns; false when the driver declines. */
bool vt_cuda_boxes(CUtensorMap *map, const void *matrix, vt_dtype dtype, int64_t rows,
                   int64_t columns, int box_rows, int box_columns);

#endif
