/* SPDX-License-Identifier: Apache-2.0 */
/* A linear map of rows together with the norm of its input or of its output (sm_90a):
 *   dst[r] = residual[r] + norm_out(act(bias + W norm_in(src[r])))    (or times the residual)
 *
 * The work is cut into units of 192 rows x N columns of the result, N = 128 or 96; a block stays on
 * its multiprocessor and takes neighbouring units, row by row of units. Each of three warpgroups
 * owns 64 of the rows: it reads them, takes their norm, and keeps them in registers as the left
 * operand for all units of these rows. W passes by in boxes of N rows x 64 columns through a ring
 * of slots (when all of it fits it is loaded once). A fourth warpgroup moves data: one warp W, and
 * one per computing warpgroup its rows, its results and before them the residuals, through a block
 * of their own.
 *
 * Rows of more than 128 channels were slower here than a norm and the library's product (measured
 * up to 512): they read W too often for so few rows.
 *
 * Shared memory: slots, rows, results, vectors in f32, barriers. */
#include "cuda/launch.cuh"
#include "cuda/wgmma_rows.cuh"

enum { ROWS = VT_GROUP_ROWS, GROUPS = 3, BOX = 64, THREADS = 512, MOST_SLOTS = 32 };

/* K: columns of src, rounded up; N: columns of a unit. */
template <int K, int N> struct layout {
    static constexpr int result_box = N % 64 ? 32 : 64;
    static constexpr uint32_t slot_bytes = N * BOX * 2, row_bytes = ROWS * K * 2;
    static constexpr uint32_t result_bytes = ROWS * N * 2;
};

struct params {
    CUtensorMap src, weight, residual, dst;
    vt_cuda_linear args;
    vt_gate act;
    int units, units_per_row, slots;
    bool stays; /* W: a slot for each box */
};

struct barriers {
    uint64_t full[MOST_SLOTS], empty[MOST_SLOTS];
    uint64_t rows_full[GROUPS];
    uint64_t place_free[GROUPS]; /* the block of results: free, or with the residual in it */
    uint64_t result_full[GROUPS];
};

#if VT_HAS_WGMMA

template <int K, int N> struct memory {
    uint32_t slots, rows, results;
    float *bias, *in_scale, *in_shift, *out_scale, *out_shift; /* bias: halved, see vt_activate */
    barriers *b;
    int first, last; /* units of this block */

    __device__ __forceinline__ memory(unsigned char *base, const params &p)
    {
        using L = layout<K, N>;
        slots = vt_shared_address(base);
        rows = slots + (uint32_t)p.slots * L::slot_bytes;
        results = rows + GROUPS * L::row_bytes;
        bias = (float *)(base + (results - slots) + GROUPS * L::result_bytes);
        in_scale = bias + p.units_per_row * N;
        in_shift = in_scale + K;
        out_scale = in_shift + K;
        out_shift = out_scale + N;
        b = (barriers *)(out_shift + N);
        first = (int)((int64_t)p.units * blockIdx.x / gridDim.x);
        last = (int)((int64_t)p.units * (blockIdx.x + 1) / gridDim.x);
    }
    __device__ __forceinline__ uint32_t row_block(int group) const
    {
        return rows + (uint32_t)group * layout<K, N>::row_bytes;
    }
    __device__ __forceinline__ uint32_t result_block(int group) const
    {
        return results + (uint32_t)group * layout<K, N>::result_bytes;
    }
};

template <int K, int N> __device__ void prepare(const params &p, const memory<K, N> &m)
{
    const vt_cuda_linear &a = p.args;
    int room = p.units_per_row * N;
    vt_copy_vector(m.bias, a.bias, (int)a.cols, room, 0.0f, 0.5f);
    vt_copy_vector(m.in_scale, a.in_scale, (int)a.depth, K, a.in_scale ? 0.0f : 1.0f, 1.0f);
    vt_copy_vector(m.in_shift, a.in_shift, (int)a.depth, K, 0.0f, 1.0f);
    vt_copy_vector(m.out_scale, a.out_scale, (int)a.cols, N, 1.0f, 1.0f);
    vt_copy_vector(m.out_shift, a.out_shift, (int)a.cols, N, 0.0f, 1.0f);
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.slots; i++) {
            vt_barrier_init(&m.b->full[i], 1);
            vt_barrier_init(&m.b->empty[i], GROUPS * 4);
        }
        for (int group = 0; group < GROUPS; group++) {
            vt_barrier_init(&m.b->rows_full[group], 1);
            vt_barrier_init(&m.b->place_free[group], 1);
            vt_barrier_init(&m.b->result_full[group], 128);
        }
        vt_barrier_publish();
    }
    __syncthreads();
}

/* ---- moving data: one lane of a warp each ---------------------------------------------------- */

template <int K, int N> __device__ void load_weight(const params &p, const memory<K, N> &m)
{
    vt_ring ring;
    int first = p.stays ? 0 : m.first, last = p.stays ? p.units_per_row : m.last;
    for (int unit = first; unit < last; unit++) {
        for (int box = 0; box < K / BOX; box++) {
            uint64_t *full = &m.b->full[ring.slot];
            vt_barrier_wait(&m.b->empty[ring.slot], ring.parity ^ 1);
            vt_barrier_expect(full, layout<K, N>::slot_bytes);
            vt_box_load(&p.weight, full, m.slots + (uint32_t)ring.slot * layout<K, N>::slot_bytes,
                        box * BOX, unit % p.units_per_row * N);
            ring.advance(p.slots);
        }
    }
    for (int i = 0; p.stays && i < p.slots; i++) { /* shared memory outlives every copy */
        vt_barrier_wait(&m.b->full[i], 0);
    }
}

template <int K, int N>
__device__ void load_rows(const params &p, const memory<K, N> &m, int group, int tile)
{
    vt_barrier_expect(&m.b->rows_full[group], layout<K, N>::row_bytes);
    for (int box = 0; box < K / BOX; box++) {
        vt_box_load(&p.src, &m.b->rows_full[group],
                    m.row_block(group) + (uint32_t)(box * ROWS * BOX * 2), box * BOX,
                    (tile * GROUPS + group) * ROWS);
    }
}

/* Frees the block of results, or brings the residual into it. */
template <int K, int N>
__device__ void load_residual(const params &p, const memory<K, N> &m, int group, int row,
                              int column)
{
    using L = layout<K, N>;
    if (!p.args.residual) {
        vt_barrier_arrive(&m.b->place_free[group]);
        return;
    }
    vt_barrier_expect(&m.b->place_free[group], L::result_bytes);
    for (int box = 0; box < N / L::result_box; box++) {
        vt_box_load(&p.residual, &m.b->place_free[group],
                    m.result_block(group) + (uint32_t)(box * ROWS * L::result_box * 2),
                    column + box * L::result_box, row);
    }
}

template <int K, int N> __device__ void move_rows(const params &p, const memory<K, N> &m, int group)
{
    using L = layout<K, N>;
    uint32_t block = m.result_block(group), parity = 0;
    int tile = m.first / p.units_per_row, last_tile = (m.last - 1) / p.units_per_row;
    load_rows(p, m, group, tile);
    for (int unit = m.first; unit < m.last; unit++) {
        int row = (unit / p.units_per_row * GROUPS + group) * ROWS;
        int column = unit % p.units_per_row * N;
        load_residual(p, m, group, row, column);
        vt_barrier_wait(&m.b->result_full[group], parity);
        /* a first result says that the rows are in registers: the next ones may come */
        if (unit / p.units_per_row == tile && tile++ < last_tile) {
            load_rows(p, m, group, tile);
        }
        for (int box = 0; box < N / L::result_box; box++) {
            vt_box_store(&p.dst, block + (uint32_t)(box * ROWS * L::result_box * 2),
                         column + box * L::result_box, row);
        }
        vt_box_store_read();
        parity ^= 1;
    }
}

/* ---- a warpgroup ----------------------------------------------------------------------------- */

/* Lets the copies have a slot again, when all warps have. */
__device__ __forceinline__ void release(const params &p, uint64_t *empty)
{
    if (!p.stays && threadIdx.x % 32 == 0) {
        vt_barrier_arrive(empty);
    }
}

/* acc = X W^T for N rows of W. A slot is given back while the products of the next one run. */
template <typename T, int K, int N>
__device__ __forceinline__ void multiply(const params &p, const memory<K, N> &m,
                                         const uint32_t (&x)[K / 16][4], vt_ring &ring,
                                         float (&acc)[N / 2])
{
    int before = 0;
    vt_pin(acc);
#pragma unroll
    for (int box = 0; box < K / BOX; box++) {
        uint32_t slot = m.slots + (uint32_t)ring.slot * layout<K, N>::slot_bytes;
        vt_barrier_wait(&m.b->full[ring.slot], ring.parity);
        vt_products_begin();
#pragma unroll
        for (int k = 0; k < BOX / 16; k++) {
            vt_product<T, N>::registers(acc, x[box * (BOX / 16) + k],
                                        vt_operand<BOX>(slot + 32 * (uint32_t)k), box + k > 0);
        }
        vt_products_commit();
        if (box > 0) {
            vt_products_wait<1>();
            release(p, &m.b->empty[before]);
        }
        before = ring.slot;
        ring.advance(p.slots);
    }
    vt_products_wait<0>();
    vt_pin(acc);
    release(p, &m.b->empty[before]);
}

template <typename T, int K, int N>
__device__ __forceinline__ void compute(const params &p, const memory<K, N> &m, int group)
{
    int column = 2 * ((int)threadIdx.x % 4);
    uint32_t rows_parity = 0, place_parity = 0, x[K / 16][4];
    vt_ring ring;
    for (int unit = m.first; unit < m.last; unit++) {
        int n = unit % p.units_per_row;
        float acc[N / 2];
        if (unit == m.first || n == 0) {
            vt_barrier_wait(&m.b->rows_full[group], rows_parity);
            rows_parity ^= 1;
            vt_read_rows<K, BOX>(m.row_block(group), x);
            if (p.args.in_eps >= 0) {
                vt_norm_rows<T, K>(x, m.in_scale, m.in_shift, (int)p.args.depth, p.args.in_eps);
            }
            vt_pin(x);
        }
        if (p.stays) {
            ring.slot = n * (K / BOX);
            ring.parity = 0;
        }
        multiply<T>(p, m, x, ring, acc);
        vt_activate(acc, m.bias + n * N + column, p.act);
        if (p.args.out_eps >= 0) {
            vt_norm_result(acc, m.out_scale + column, m.out_shift + column, p.args.out_eps);
        }
        vt_barrier_wait(&m.b->place_free[group], place_parity);
        place_parity ^= 1;
        vt_write_result<T, layout<K, N>::result_box>(m.result_block(group), acc,
                                                     p.args.residual != NULL, p.args.gated);
        vt_barrier_arrive(&m.b->result_full[group]);
    }
}

#endif

template <typename T, int K, int N>
__global__ void __launch_bounds__(THREADS, 1) linear_kernel(const __grid_constant__ params p)
{
#if VT_HAS_WGMMA
    extern __shared__ __align__(1024) unsigned char shared_bytes[];
    memory<K, N> m(shared_bytes, p);
    prepare(p, m);
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (warp < 4) {
        vt_registers_give<24>();
        if (lane == 0 && warp == 0) {
            load_weight(p, m);
        } else if (lane == 0) {
            move_rows(p, m, warp - 1);
        }
    } else {
        vt_registers_take<160>();
        compute<T>(p, m, warp / 4 - 1);
    }
#endif
}

/* ---- launching ------------------------------------------------------------------------------- */

enum { SHARED_LIMIT = 227 * 1024 };

/* How a product is cut: columns of a unit, and slots beside what else is in shared memory. */
struct cut {
    int wide, padded; /* N, K */
    int units_per_row, units, slots;
    size_t bytes;
};

static int64_t up_to(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static cut cut_by(const vt_cuda_linear *a, int wide, int padded)
{
    cut c = {wide, padded, (int)up_to(a->cols, wide)};
    c.units = c.units_per_row * (int)up_to(a->rows, GROUPS * ROWS);
    size_t fixed = (size_t)GROUPS * ROWS * 2 * (size_t)(padded + wide) +
                   (size_t)(c.units_per_row * wide + 2 * padded + 2 * wide) * sizeof(float) +
                   sizeof(barriers);
    size_t slot = (size_t)wide * BOX * 2;
    int64_t fit = fixed < SHARED_LIMIT ? (int64_t)((SHARED_LIMIT - fixed) / slot) : 0;
    int64_t all = c.units_per_row * (padded / BOX);
    fit = fit < MOST_SLOTS ? fit : MOST_SLOTS;
    c.slots = (int)(fit < all ? fit : all);
    c.bytes = fixed + (size_t)c.slots * slot;
    return c;
}

/* The width whose slowest block has the fewest columns to compute. */
static cut cut_of(const vt_cuda_linear *a, int processors)
{
    int padded = a->depth <= 64 ? 64 : 128;
    cut wide = cut_by(a, 128, padded), narrow = cut_by(a, 96, padded);
    int64_t wide_time = up_to(wide.units, processors) * 128;
    int64_t narrow_time = up_to(narrow.units, processors) * 96;
    bool takes_wide = a->out_eps >= 0 ? a->cols == 128 : wide_time <= narrow_time;
    return takes_wide ? wide : narrow;
}

const char *vt_cuda_linear_refuse(const vt_cuda_linear *a)
{
    if (a->dtype != VT_F16 && a->dtype != VT_BF16) {
        return "computes in half types only";
    }
    if (!vt_gate_takes(a->act)) {
        return "knows GELU, SiLU and ReLU";
    }
    if (a->depth < 16 || a->depth > 128 || a->depth % 16 != 0) {
        return "takes rows of 16, 32, ... 128 channels";
    }
    if (a->cols < 8 || a->cols > 4096 || a->cols % 8 != 0) {
        return "makes rows of 8, 16, ... 4096 channels";
    }
    if (a->out_eps >= 0 && a->cols != 96 && a->cols != 128) {
        return "takes the norm of results of 96 or 128 channels";
    }
    if (a->rows > INT32_MAX / 512) {
        return "there are too many rows";
    }
    return cut_by(a, 128, 128).slots < 2 ? "there are too many channels" : NULL;
}

template <typename T, int K, int N>
static cudaError_t launch(const vt_cuda_linear *a, const cut *c, int processors,
                          cudaStream_t stream)
{
    using L = layout<K, N>;
    params p = {.args = *a, .act = vt_gate_of(a->act)};
    p.units = c->units;
    p.units_per_row = c->units_per_row;
    p.slots = c->slots;
    p.stays = c->slots == c->units_per_row * (K / BOX);
    const void *residual = a->residual ? a->residual : a->dst;
    if (!vt_cuda_boxes(&p.src, a->src, a->dtype, a->rows, a->depth, ROWS, BOX) ||
        !vt_cuda_boxes(&p.weight, a->weight, a->dtype, a->cols, a->depth, N, BOX) ||
        !vt_cuda_boxes(&p.residual, residual, a->dtype, a->rows, a->cols, ROWS, L::result_box) ||
        !vt_cuda_boxes(&p.dst, a->dst, a->dtype, a->rows, a->cols, ROWS, L::result_box)) {
        return cudaErrorInvalidValue;
    }
    cudaError_t code = vt_cuda_allow_shared((const void *)linear_kernel<T, K, N>);
    if (code != cudaSuccess) {
        return code;
    }
    unsigned grid = (unsigned)(p.units < processors ? p.units : processors);
    linear_kernel<T, K, N><<<grid, THREADS, c->bytes, stream>>>(p);
    return cudaGetLastError();
}

template <typename T, int N>
static cudaError_t launch_depth(const vt_cuda_linear *a, const cut *c, int processors,
                                cudaStream_t stream)
{
    return c->padded == 64 ? launch<T, 64, N>(a, c, processors, stream)
                           : launch<T, 128, N>(a, c, processors, stream);
}

template <typename T>
static cudaError_t launch_width(const vt_cuda_linear *a, const cut *c, int processors,
                                cudaStream_t stream)
{
    return c->wide == 128 ? launch_depth<T, 128>(a, c, processors, stream)
                          : launch_depth<T, 96>(a, c, processors, stream);
}

cudaError_t vt_cuda_linear_rows(const vt_cuda_linear *a, cudaStream_t stream)
{
    if (vt_cuda_linear_refuse(a)) {
        return cudaErrorInvalidValue;
    }
    if (a->rows < 1) {
        return cudaSuccess;
    }
    int processors;
    cudaError_t code = vt_cuda_multiprocessors(&processors);
    if (code != cudaSuccess) {
        return code;
    }
    cut c = cut_of(a, processors);
    return a->dtype == VT_F16 ? launch_width<__half>(a, &c, processors, stream)
                              : launch_width<__nv_bfloat16>(a, &c, processors, stream);
}
