/* SPDX-License-Identifier: Apache-2.0 */
/* A whole MLP in one pass over its rows (sm_90a):
 *   dst[r] = residual[r] + norm_out(b2 + W2 act(b1 + W1 norm_in(src[r])))
 *
 * A block stays on its multiprocessor and takes tiles of 128 or 192 rows. Each of its two or three
 * warpgroups (three where their registers suffice: more warps hide more latency) owns 64 of them:
 * it reads the rows, takes their norm in registers, and goes over the hidden channels 64 at a time:
 * S = X W1_j^T, P = act(S) as halves in the layout of a left operand, O += P W2_j^T. The hidden
 * values stay in registers; the activation of one chunk runs beside the product O += of the one
 * before it, and beside the products of the other warpgroup.
 *
 * One more warpgroup moves data: one warp the weights, chunk by chunk, through a ring of slots
 * (when all of them fit they are loaded once), and one per computing warpgroup its rows and its
 * results, which are written over the rows that they were made from.
 *
 * Shared memory: slots, rows (64 x C per warpgroup and buffer), vectors in f32, barriers. */
#include "cuda/launch.cuh"
#include "cuda/wgmma_rows.cuh"

enum {
    ROWS = 64, /* of a warpgroup */
    MOST_GROUPS = 3,
    CHUNK = 64, /* hidden channels at a time */
    MOST_SLOTS = 32,
    MOST_BUFFERS = 2
};

/* Warpgroups that compute, and what else depends on the channels. */
constexpr int groups_for(int64_t cols)
{
    return cols <= 96 ? 3 : 2;
}
constexpr int buffers_for(int64_t cols)
{
    return cols <= 192 ? 2 : 1;
}

template <int C> struct layout {
    static constexpr int groups = groups_for(C), buffers = buffers_for(C);
    static constexpr int threads = 128 * (groups + 1);
    static constexpr int box = C % 64 ? 32 : 64; /* columns of a box of rows */
    static constexpr bool keeps = C <= 192;      /* the left operand stays in registers */
    static constexpr uint32_t row_bytes = ROWS * C * 2, slot_bytes = CHUNK * C * 2;
    static constexpr uint32_t box_bytes = ROWS * box * 2, up_box_bytes = CHUNK * box * 2;
};

struct params {
    CUtensorMap src, dst, up, down;
    vt_cuda_mlp args;
    vt_gate act;
    int slots, tiles;
    bool stays;        /* the weights: a slot for each chunk */
    bool own_residual; /* the rows as they were read */
};

struct barriers {
    uint64_t full[MOST_SLOTS], empty[MOST_SLOTS];
    uint64_t rows_full[MOST_GROUPS][MOST_BUFFERS], result_full[MOST_GROUPS][MOST_BUFFERS];
};

/* Vectors in shared memory, one behind the other; without a norm or bias 1 or 0. */
struct vectors {
    float *up_bias; /* halved, see activate() */
    float *down_bias, *in_scale, *in_shift, *out_scale, *out_shift;
};

#if VT_HAS_WGMMA

template <int C> struct memory {
    uint32_t slots, rows;
    vectors v;
    barriers *b;

    __device__ __forceinline__ memory(unsigned char *base, int slot_count, int hidden)
    {
        using L = layout<C>;
        unsigned char *at = base + (size_t)slot_count * L::slot_bytes;
        slots = vt_shared_address(base);
        rows = vt_shared_address(at);
        at += L::groups * L::buffers * L::row_bytes;
        v.up_bias = (float *)at;
        v.down_bias = v.up_bias + hidden;
        v.in_scale = v.down_bias + C;
        v.in_shift = v.in_scale + C;
        v.out_scale = v.in_shift + C;
        v.out_shift = v.out_scale + C;
        b = (barriers *)(v.out_shift + C);
    }
    __device__ __forceinline__ uint32_t slot(int i) const
    {
        return slots + (uint32_t)i * layout<C>::slot_bytes;
    }
    __device__ __forceinline__ uint32_t row_block(int group, int buffer) const
    {
        return rows + (uint32_t)(group * layout<C>::buffers + buffer) * layout<C>::row_bytes;
    }
};

template <int C> __device__ void prepare(const params &p, const memory<C> &m)
{
    const vt_cuda_mlp &a = p.args;
    vt_copy_vector(m.v.up_bias, a.up_bias, (int)a.hidden, (int)a.hidden, 0.0f, 0.5f);
    vt_copy_vector(m.v.down_bias, a.down_bias, C, C, 0.0f, 1.0f);
    vt_copy_vector(m.v.in_scale, a.in_scale, C, C, 1.0f, 1.0f);
    vt_copy_vector(m.v.in_shift, a.in_shift, C, C, 0.0f, 1.0f);
    vt_copy_vector(m.v.out_scale, a.out_scale, C, C, 1.0f, 1.0f);
    vt_copy_vector(m.v.out_shift, a.out_shift, C, C, 0.0f, 1.0f);
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.slots; i++) {
            vt_barrier_init(&m.b->full[i], 1);
            vt_barrier_init(&m.b->empty[i], layout<C>::groups * 4);
        }
        for (int i = 0; i < layout<C>::groups * layout<C>::buffers; i++) {
            int group = i / layout<C>::buffers, buffer = i % layout<C>::buffers;
            vt_barrier_init(&m.b->rows_full[group][buffer], 1);
            vt_barrier_init(&m.b->result_full[group][buffer], 128);
        }
        vt_barrier_publish();
    }
    __syncthreads();
}

/* ---- moving data: one lane of a warp each ---------------------------------------------------- */

/* Chunks come in the order of their use: up 0, up 1, down 0, up 2, down 1 ... down n - 1. */
template <int C> __device__ void load_weights(const params &p, const memory<C> &m)
{
    using L = layout<C>;
    int chunks = (int)p.args.hidden / CHUNK, last = 2 * chunks - 1;
    vt_ring ring;
    for (int tile = (int)blockIdx.x; tile < p.tiles; tile += (int)gridDim.x) {
        for (int i = 0; i <= last; i++) {
            uint64_t *full = &m.b->full[ring.slot];
            uint32_t dst = m.slot(ring.slot);
            vt_barrier_wait(&m.b->empty[ring.slot], ring.parity ^ 1);
            vt_barrier_expect(full, L::slot_bytes);
            if (i == last || (i > 0 && i % 2 == 0)) {
                int chunk = i == last ? chunks - 1 : i / 2 - 1;
                vt_box_load(&p.down, full, dst, chunk * CHUNK, 0);
            } else {
                int chunk = (i + 1) / 2;
                for (int box = 0; box < C / L::box; box++) {
                    vt_box_load(&p.up, full, dst + (uint32_t)box * L::up_box_bytes, box * L::box,
                                chunk * CHUNK);
                }
            }
            ring.advance(p.slots);
        }
        if (p.stays) {
            return;
        }
    }
}

template <int C>
__device__ void load_rows(const params &p, const memory<C> &m, int group, int buffer, int tile)
{
    using L = layout<C>;
    if (tile >= p.tiles) {
        return;
    }
    uint64_t *full = &m.b->rows_full[group][buffer];
    vt_barrier_expect(full, L::row_bytes);
    for (int box = 0; box < C / L::box; box++) {
        vt_box_load(&p.src, full, m.row_block(group, buffer) + (uint32_t)box * L::box_bytes,
                    box * L::box, (tile * L::groups + group) * ROWS);
    }
}

/* Stores the results of a warpgroup, each followed by the rows that take its place. */
template <int C> __device__ void move_rows(const params &p, const memory<C> &m, int group)
{
    using L = layout<C>;
    int step = (int)gridDim.x;
    vt_ring ring;
    for (int i = 0; i < L::buffers; i++) {
        load_rows(p, m, group, i, (int)blockIdx.x + i * step);
    }
    for (int tile = (int)blockIdx.x; tile < p.tiles; tile += step) {
        uint32_t src = m.row_block(group, ring.slot);
        vt_barrier_wait(&m.b->result_full[group][ring.slot], ring.parity);
        for (int box = 0; box < C / L::box; box++) {
            vt_box_store(&p.dst, src + (uint32_t)box * L::box_bytes, box * L::box,
                         (tile * L::groups + group) * ROWS);
        }
        vt_box_store_read();
        load_rows(p, m, group, ring.slot, tile + L::buffers * step);
        ring.advance(L::buffers);
    }
}

/* ---- a warpgroup's rows ---------------------------------------------------------------------- */

/* The left operand: in registers, or where the rows were read. */
template <typename T, int C>
__device__ __forceinline__ void take_rows(const params &p, const vectors &v, uint32_t block,
                                          int group, uint32_t (&x)[C / 16][4])
{
    using L = layout<C>;
    bool norm = p.args.in_eps >= 0;
    if (L::keeps || norm) {
        vt_read_rows<C, L::box>(block, x);
    }
    if (norm) {
        vt_norm_rows<T, C>(x, v.in_scale, v.in_shift, C, p.args.in_eps);
    }
    if (L::keeps) {
        vt_pin(x);
    } else if (norm) {
        __syncwarp();
#pragma unroll
        for (int e = 0; e < C / 4; e++) {
            vt_store_shared(
                vt_pair_at<L::box>(block, vt_own_row() + e % 2 * 8, e / 4 * 2 + e % 4 / 2),
                x[e / 4][e % 4]);
        }
        vt_fence_shared_stores();
        vt_barrier_sync(1 + group, 128);
    }
}

/* ---- products and activation ----------------------------------------------------------------- */

/* s = X W1_j^T */
template <typename T, int C>
__device__ __forceinline__ void multiply_up(float (&s)[CHUNK / 2], const uint32_t (&x)[C / 16][4],
                                            uint32_t block, uint32_t slot)
{
    using L = layout<C>;
#pragma unroll
    for (int k = 0; k < C / 16; k++) {
        int box = 16 * k / L::box, byte = 16 * k % L::box * 2;
        uint64_t w = vt_operand<L::box>(slot + (uint32_t)box * L::up_box_bytes + (uint32_t)byte);
        if (L::keeps) {
            vt_product<T, CHUNK>::registers(s, x[k], w, k > 0);
        } else {
            vt_product<T, CHUNK>::shared(
                s, vt_operand<L::box>(block + (uint32_t)box * L::box_bytes + (uint32_t)byte), w,
                k > 0);
        }
    }
    vt_products_commit();
}

/* o += P W2_j^T */
template <typename T, int C>
__device__ __forceinline__ void multiply_down(float (&o)[C / 2], const uint32_t (&p)[CHUNK / 16][4],
                                              uint32_t slot, bool add)
{
#pragma unroll
    for (int k = 0; k < CHUNK / 16; k++) {
        vt_product<T, C>::registers(o, p[k], vt_operand<64>(slot + 32 * (uint32_t)k), add || k > 0);
    }
    vt_products_commit();
}

template <typename T>
__device__ __forceinline__ void as_left(const float (&s)[CHUNK / 2], uint32_t (&p)[CHUNK / 16][4])
{
#pragma unroll
    for (int e = 0; e < CHUNK / 4; e++) {
        p[e / 4][e % 4] = vt_pack2<T>(s[2 * e], s[2 * e + 1]);
    }
    vt_pin(p);
}

/* ---- the result ------------------------------------------------------------------------------ */

/* o += rows of a map, where they are inside it. */
template <typename T, int C>
__device__ __forceinline__ void add_rows(float (&o)[C / 2], const void *map, int64_t first,
                                         int64_t rows)
{
#pragma unroll
    for (int e = 0; e < C / 4; e++) {
        int64_t row = first + vt_own_row() + e % 2 * 8;
        if (row < rows) {
            float2 r = vt_unpack2<T>(
                *(const uint32_t *)((const T *)map + row * C + e / 2 * 8 + 2 * (threadIdx.x % 4)));
            o[2 * e] += r.x;
            o[2 * e + 1] += r.y;
        }
    }
}

template <typename T, int C>
__device__ __forceinline__ void finish(const params &p, const vectors &v, float (&o)[C / 2],
                                       uint32_t block, int64_t first_row)
{
    int column = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int e = 0; e < C / 2; e++) {
        o[e] += v.down_bias[column + e / 4 * 8 + e % 2];
    }
    if (p.args.out_eps >= 0) {
        vt_norm_result(o, v.out_scale + column, v.out_shift + column, p.args.out_eps);
    }
    if (p.args.residual && !p.own_residual) {
        add_rows<T, C>(o, p.args.residual, first_row, p.args.rows);
    }
    vt_write_result<T, layout<C>::box>(block, o, p.own_residual);
}

/* ---- a warpgroup ----------------------------------------------------------------------------- */

template <int C> __device__ __forceinline__ uint32_t await(const memory<C> &m, const vt_ring &ring)
{
    vt_barrier_wait(&m.b->full[ring.slot], ring.parity);
    return m.slot(ring.slot);
}

template <int C>
__device__ __forceinline__ void release(const params &p, const memory<C> &m, int slot)
{
    if (!p.stays && threadIdx.x % 32 == 0) {
        vt_barrier_arrive(&m.b->empty[slot]);
    }
}

template <typename T, int C>
__device__ __forceinline__ void compute(const params &p, const memory<C> &m, int group)
{
    using L = layout<C>;
    int chunks = (int)p.args.hidden / CHUNK, column = 2 * ((int)threadIdx.x % 4);
    const float *bias = m.v.up_bias + column;
    vt_ring ring, rows;
    for (int tile = (int)blockIdx.x; tile < p.tiles; tile += (int)gridDim.x) {
        uint32_t block = m.row_block(group, rows.slot), x[C / 16][4], left[CHUNK / 16][4];
        float s[CHUNK / 2], o[C / 2];
        if (p.stays) {
            ring = {};
        }
        vt_barrier_wait(&m.b->rows_full[group][rows.slot], rows.parity);
        take_rows<T, C>(p, m.v, block, group, x);
        uint32_t up = await(m, ring);
        vt_products_begin();
        multiply_up<T, C>(s, x, block, up);
        vt_products_wait<0>();
        vt_pin(s);
        release(p, m, ring.slot);
        ring.advance(p.slots);
        vt_activate(s, bias, p.act);
        as_left<T>(s, left);
        for (int j = 0; j + 1 < chunks; j++) {
            int up_slot = ring.slot;
            up = await(m, ring);
            vt_pin(s);
            vt_products_begin();
            multiply_up<T, C>(s, x, block, up);
            ring.advance(p.slots);
            multiply_down<T, C>(o, left, await(m, ring), j > 0);
            vt_products_wait<1>();
            vt_pin(s);
            release(p, m, up_slot);
            vt_activate(s, bias + (j + 1) * CHUNK, p.act);
            vt_products_wait<0>();
            release(p, m, ring.slot);
            ring.advance(p.slots);
            as_left<T>(s, left);
        }
        uint32_t down = await(m, ring);
        vt_products_begin();
        multiply_down<T, C>(o, left, down, chunks > 1);
        vt_products_wait<0>();
        vt_pin(o);
        release(p, m, ring.slot);
        ring.advance(p.slots);
        if (!L::keeps) { /* the last product of every warp has read the rows */
            vt_barrier_sync(1 + group, 128);
        }
        finish<T, C>(p, m.v, o, block, ((int64_t)tile * L::groups + group) * ROWS);
        vt_barrier_arrive(&m.b->result_full[group][rows.slot]);
        rows.advance(L::buffers);
    }
}

#endif

template <typename T, int C>
__global__ void __launch_bounds__(layout<C>::threads, 1)
    mlp_kernel(const __grid_constant__ params p)
{
#if VT_HAS_WGMMA
    extern __shared__ __align__(1024) unsigned char shared_bytes[];
    memory<C> m(shared_bytes, p.slots, (int)p.args.hidden);
    prepare(p, m);
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (warp < 4) {
        vt_registers_give<24>();
        if (lane == 0 && warp == 0) {
            load_weights(p, m);
        } else if (lane == 0 && warp <= layout<C>::groups) {
            move_rows(p, m, warp - 1);
        }
    } else {
        vt_registers_take<layout<C>::groups == 3 ? 160 : 240>();
        compute<T, C>(p, m, warp / 4 - 1);
    }
#endif
}

/* ---- launching ------------------------------------------------------------------------------- */

enum { SHARED_LIMIT = 227 * 1024 };

/* Shared bytes besides the slots. */
static size_t fixed_bytes(int64_t cols, int64_t hidden)
{
    size_t rows = (size_t)(groups_for(cols) * buffers_for(cols) * ROWS * cols) * 2;
    return rows + (size_t)(hidden + 5 * cols) * sizeof(float) + sizeof(barriers);
}

static int slots_of(int64_t cols, int64_t hidden)
{
    size_t fixed = fixed_bytes(cols, hidden), slot = (size_t)(CHUNK * cols) * 2;
    int64_t fit = fixed < SHARED_LIMIT ? (int64_t)((SHARED_LIMIT - fixed) / slot) : 0;
    fit = fit < MOST_SLOTS ? fit : MOST_SLOTS;
    return (int)(fit < 2 * hidden / CHUNK ? fit : 2 * hidden / CHUNK);
}

const char *vt_cuda_mlp_refuse(const vt_cuda_mlp *a)
{
    if (a->dtype != VT_F16 && a->dtype != VT_BF16) {
        return "computes in half types only";
    }
    if (a->cols != 64 && a->cols != 96 && a->cols != 128 && a->cols != 192 && a->cols != 256) {
        return "takes 64, 96, 128, 192 or 256 channels";
    }
    if (!vt_gate_takes(a->act)) {
        return "knows GELU, SiLU and ReLU";
    }
    if (a->hidden < CHUNK || a->hidden % CHUNK != 0 || a->hidden > 16 * 1024) {
        return "hidden channels come in chunks of 64";
    }
    if (slots_of(a->cols, a->hidden) < 2) {
        return "there are too many hidden channels";
    }
    return a->rows > INT32_MAX - MOST_GROUPS * ROWS ? "there are too many rows" : NULL;
}

template <typename T, int C> static cudaError_t launch(const vt_cuda_mlp *a, cudaStream_t stream)
{
    using L = layout<C>;
    params p = {.args = *a, .act = vt_gate_of(a->act)};
    bool norm_in = a->in_eps >= 0;
    p.slots = slots_of(C, a->hidden);
    p.stays = p.slots == 2 * a->hidden / CHUNK;
    p.tiles = (int)((a->rows + L::groups * ROWS - 1) / (L::groups * ROWS));
    /* without registers for them the normalised rows take the place of the raw ones */
    p.own_residual = a->residual && a->residual == a->src && (L::keeps || !norm_in);
    if (!vt_cuda_boxes(&p.src, a->src, a->dtype, a->rows, C, ROWS, L::box) ||
        !vt_cuda_boxes(&p.dst, a->dst, a->dtype, a->rows, C, ROWS, L::box) ||
        !vt_cuda_boxes(&p.up, a->up, a->dtype, a->hidden, C, CHUNK, L::box) ||
        !vt_cuda_boxes(&p.down, a->down, a->dtype, C, a->hidden, C, CHUNK)) {
        return cudaErrorInvalidValue;
    }
    size_t bytes = fixed_bytes(C, a->hidden) + (size_t)p.slots * L::slot_bytes;
    int processors;
    cudaError_t code = vt_cuda_multiprocessors(&processors);
    code = code ? code : vt_cuda_allow_shared((const void *)mlp_kernel<T, C>);
    if (code != cudaSuccess) {
        return code;
    }
    unsigned grid = (unsigned)(p.tiles < processors ? p.tiles : processors);
    mlp_kernel<T, C><<<grid, L::threads, bytes, stream>>>(p);
    return cudaGetLastError();
}

template <typename T> static cudaError_t launch_width(const vt_cuda_mlp *a, cudaStream_t stream)
{
    switch (a->cols) {
    case 64: return launch<T, 64>(a, stream);
    case 96: return launch<T, 96>(a, stream);
    case 128: return launch<T, 128>(a, stream);
    case 192: return launch<T, 192>(a, stream);
    default: return launch<T, 256>(a, stream);
    }
}

cudaError_t vt_cuda_mlp_rows(const vt_cuda_mlp *a, cudaStream_t stream)
{
    if (vt_cuda_mlp_refuse(a) || a->dst == a->src) {
        return cudaErrorInvalidValue;
    }
    if (a->rows < 1) {
        return cudaSuccess;
    }
    return a->dtype == VT_F16 ? launch_width<__half>(a, stream)
                              : launch_width<__nv_bfloat16>(a, stream);
}
