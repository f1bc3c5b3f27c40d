/* SPDX-License-Identifier: Apache-2.0 */
#include "random.h"

uint32_t random_next(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

int random_int(uint32_t *seed, int low, int high)
{
    return low + (int)((random_next(seed) >> 8) % (uint32_t)(high - low + 1));
}

float random_float(uint32_t *seed)
{
    return (float)(random_next(seed) >> 8) / 8388608.0f - 1.0f;
}

void random_fill(float *out, size_t count, uint32_t seed, float scale, float offset)
{
    seed = seed * 2654435761u | 1u;
    for (size_t i = 0; i < count; i++) {
        out[i] = offset + scale * random_float(&seed);
    }
}
