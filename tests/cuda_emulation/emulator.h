/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA kernels on the processor, for tests: what nvcc knows without a header. Included before every
 * kernel source, which kernels.sed has made C++ of.
 *
 * Blocks run one after the other; the threads of a block are fibers, each of which runs until it
 * waits for its warp or its block. Every second launch takes threads in the opposite order, so that
 * a missing barrier shows as another result. Shared memory begins as NaN and lies between guards.
 * A warp or block that cannot go on, because a thread has ended or waits elsewhere, ends the
 * program with a message. What is not emulated: bank conflicts, caches, the order of writes to
 * global memory, and everything that sm_90a adds. */
#ifndef VT_EMULATION_EMULATOR_H
#define VT_EMULATION_EMULATOR_H

#include <algorithm>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(2) uchar2 {
    unsigned char x, y;
};
struct alignas(4) ushort2 {
    unsigned short x, y;
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* Of the thread that runs. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

using std::max;
using std::min;
static inline float __fdividef(float a, float b)
{
    return a / b;
}
#define __expf expf
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}

/* ---- the threads of a warp and of a block ---------------------------------------------------- */

void __syncthreads(void);

/* All lanes hand in `count` words; once the last has come, perform(in, out) makes what each gets
 * back, at most 4 words. */
enum { VT_EMULATED_IN = 12, VT_EMULATED_OUT = 4 };
typedef void vt_emulated_perform(const uint32_t (*in)[VT_EMULATED_IN],
                                 uint32_t (*out)[VT_EMULATED_OUT]);
const uint32_t *vt_emulated_together(vt_emulated_perform *perform, const uint32_t *in, int count);

/* in: two words, then the lane whose words are wanted */
vt_emulated_perform vt_emulated_shuffle;
unsigned vt_emulated_lane(void);
void vt_emulated_need_full(unsigned mask);

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    vt_emulated_need_full(mask);
    vt_emulated_together(vt_emulated_shuffle, NULL, 0);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T x, int lane)
{
    uint32_t in[3] = {0, 0, (uint32_t)lane % 32};
    static_assert(sizeof x <= 8, "one or two words");
    vt_emulated_need_full(mask);
    memcpy(in, &x, sizeof x);
    memcpy(&x, vt_emulated_together(vt_emulated_shuffle, in, 3), sizeof x);
    return x;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T x, int step)
{
    return __shfl_sync(mask, x, (int)vt_emulated_lane() ^ step);
}

/* ---- shared memory --------------------------------------------------------------------------- */

/* The block's memory of a variable, the same for all its threads. */
void *vt_emulated_shared(int line, size_t bytes);
template <typename T> static inline T &vt_emulated_variable(int line)
{
    return *static_cast<T *>(vt_emulated_shared(line, sizeof(T)));
}

/* The memory that the launch asked for, and `bytes` of it at a 32-bit address, which must be a
 * multiple of `bytes`. */
void *vt_emulated_dynamic(void);
void *vt_emulated_at(uint32_t address, size_t bytes);
uint32_t vt_emulated_address(const void *p);

/* cp.async: nothing lands before the thread has waited. */
void vt_emulated_copy(uint32_t dst, const void *src);
void vt_emulated_copy_commit(void);
void vt_emulated_copy_wait(int pending); /* for all but so many groups */

/* ---- launch ---------------------------------------------------------------------------------- */

struct vt_emulated_grid {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared;
    bool overlaps; /* started by vt_cuda_launch */
};
void vt_emulated_run(const vt_emulated_grid &grid, void (*thread)(void *), void *data);
void vt_emulated_wait_for_predecessor(void);

template <typename... P> struct vt_emulated_kernel {
    vt_emulated_grid grid;
    void (*kernel)(P...);
    void operator()(P... args) const
    {
        struct call {
            void (*kernel)(P...);
            std::tuple<P...> args;
            static void thread(void *data)
            {
                call *c = static_cast<call *>(data);
                std::apply(c->kernel, c->args);
            }
        } c = {kernel, {args...}};
        vt_emulated_run(grid, call::thread, &c);
    }
};

/* kernel<<<grid, block, shared, stream>>>, as kernels.sed writes it */
template <typename... P>
static vt_emulated_kernel<P...> vt_emulated_launch(const char *name, void (*kernel)(P...),
                                                   dim3 grid, dim3 block, size_t shared,
                                                   cudaStream_t stream)
{
    (void)stream;
    return {{name, (const void *)kernel, grid, block, shared, false}, kernel};
}

#endif
