/* SPDX-License-Identifier: Apache-2.0 */
/* Half-precision tiles in shared memory and the tensor-core products on them (sm_80 and later).
 *
 * A tile is rows of D elements (D = 16, 32, 64), cut into chunks of 8 (16 bytes). Chunk c of row r
 * lies where chunk c ^ swizzle(r) would: 8 rows of one chunk then touch every bank once, so that
 * neither ldmatrix nor the 16-byte copies meet bank conflicts. Tiles start at multiples of 128
 * bytes, hence chunk c + d of a row is at (address of chunk c) ^ (16 d) where c has no bit of d.
 *
 * Fragments are those of mma.m16n8k16: lane l = 4 g + t holds of a 16 x 8 accumulator the elements
 * (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). */
#ifndef VT_CUDA_MMA_CUH
#define VT_CUDA_MMA_CUH

#include "cuda/convert.cuh"
#include "cuda/instructions.cuh"

template <int D> __device__ __forceinline__ uint32_t vt_tile_offset(int row, int chunk)
{
    constexpr int chunks = D / 8, rows_per_line = 8 / chunks; /* 128 bytes: all banks */
    return (uint32_t)(row * D * 2 + ((chunk ^ (row / rows_per_line % chunks)) << 4));
}

/* The 16 rows from `row` of a tile as the left operand of D / 16 products. */
template <int D>
__device__ __forceinline__ void vt_load_left(uint32_t tile, int row, int lane,
                                             uint32_t (&a)[D / 16][4])
{
    uint32_t base = tile + vt_tile_offset<D>(row + lane % 16, lane / 16);
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        vt_load_blocks(base ^ (uint32_t)(step << 5), a[step]);
    }
}

/* s = init + a k^T over 8 N keys, the first of a tile: s[i] is the accumulator of keys
 * 8i .. 8i + 7. s and init may be the same. For D = 16 and odd N the tile has 8 rows more. */
template <typename T, int D, int N>
__device__ __forceinline__ void vt_multiply_keys(const uint32_t (&a)[D / 16][4], uint32_t tile,
                                                 int lane, const float (&init)[N][4],
                                                 float (&s)[N][4])
{
    constexpr int chunks = D / 8, blocks = N * chunks;
    int row = D == 16 ? lane / 16 * 8 + lane % 8 : lane % 8;
    uint32_t base = tile + vt_tile_offset<D>(row, D == 16 ? lane / 8 % 2 : lane / 8);
#pragma unroll
    for (int block = 0; block < blocks; block += 4) {
        uint32_t r[4];
        uint32_t address = base ^ (uint32_t)((D == 64 ? block % chunks : 0) << 4);
        vt_load_blocks(address + (uint32_t)(block / chunks * 8 * D * 2), r);
#pragma unroll
        for (int half = 0; half < 4; half += 2) {
            int i = (block + half) / chunks, step = (block + half) % chunks / 2;
            if (i < N && step == 0) {
                vt_mma<T>(s[i], a[0], r[half], r[half + 1], init[i]);
            } else if (i < N) {
                vt_mma<T>(s[i], a[step], r[half], r[half + 1], s[i]);
            }
        }
    }
}

/* o += p v over 16 keys from `row` of a tile: o[c] is the accumulator of channels 8c .. 8c + 7. */
template <typename T, int D>
__device__ __forceinline__ void vt_multiply_values(const uint32_t (&p)[4], uint32_t tile, int row,
                                                   int lane, float (&o)[D / 8][4])
{
    uint32_t base = tile + vt_tile_offset<D>(lane % 16, lane / 16) + (uint32_t)(row * D * 2);
#pragma unroll
    for (int c = 0; c < D / 8; c += 2) {
        uint32_t r[4];
        vt_load_blocks_transposed(base ^ (uint32_t)(c << 4), r);
        vt_mma<T>(o[c], p, r[0], r[1], o[c]);
        vt_mma<T>(o[c + 1], p, r[2], r[3], o[c + 1]);
    }
}

/* dst = the two halves of an accumulator times factors, as elements of rows row + g, row + g + 8 of
 * a tile, chunk c. */
template <typename T, int D>
__device__ __forceinline__ void vt_store_rows(uint32_t tile, int row, int lane, float low_factor,
                                              float high_factor, const float (&o)[D / 8][4])
{
    int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int c = 0; c < D / 8; c++) {
        vt_store_shared(tile + vt_tile_offset<D>(row + g, c) + 4 * (uint32_t)t,
                        vt_pack2<T>(o[c][0] * low_factor, o[c][1] * low_factor));
        vt_store_shared(tile + vt_tile_offset<D>(row + g + 8, c) + 4 * (uint32_t)t,
                        vt_pack2<T>(o[c][2] * high_factor, o[c][3] * high_factor));
    }
}

/* Chunk of 8 channels of a padding row. */
template <typename T> __device__ __forceinline__ uint4 vt_pad_chunk(const float *pad, int channel)
{
    if (!pad) {
        return make_uint4(0, 0, 0, 0);
    }
    const float *x = pad + channel;
    return make_uint4(vt_pack2<T>(x[0], x[1]), vt_pack2<T>(x[2], x[3]), vt_pack2<T>(x[4], x[5]),
                      vt_pack2<T>(x[6], x[7]));
}

#endif
