/* SPDX-License-Identifier: Apache-2.0 */
#include "model_golden.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

uint32_t golden_hash(const char *key)
{
    uint32_t h = 0x811C9DC5u;
    while (*key) {
        h ^= (uint8_t)*key++;
        h *= 0x01000193u;
    }
    return h;
}

static double unit(uint32_t hash, uint32_t element)
{
    uint32_t h = hash + element * 0x9E3779B9u;
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    h ^= h >> 16;
    return (double)(h >> 8) / 16777216.0;
}

double golden_unit(const char *key, uint32_t element)
{
    return unit(golden_hash(key), element);
}

int64_t shape_elements(int rank, const int64_t *shape)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++) {
        count *= shape[i];
    }
    return count;
}

static bool ends(const char *key, const char *end)
{
    size_t n = strlen(key), m = strlen(end);
    return n >= m && strcmp(key + n - m, end) == 0;
}

/* The clauses of the rule in their order; the first that fits counts. */
static float value(const char *key, int rank, const int64_t *shape, double u)
{
    double r = 2.0 * u - 1.0;
    if (ends(key, "running_var")) {
        return (float)(1.0 + 0.25 * u);
    }
    if (ends(key, "running_mean")) {
        return (float)(0.1 * r);
    }
    if (strstr(key, "gamma")) {
        return (float)(1.0 + 0.1 * r);
    }
    if (strstr(key, "temperature")) {
        return (float)(0.2 * (1.0 + 0.1 * r));
    }
    if (rank <= 1) {
        return (float)(ends(key, ".weight") ? 1.0 + 0.1 * r : 0.1 * r);
    }
    if (strstr(key, "bias") || strstr(key, "pos_embed") || strstr(key, "cls_token")) {
        return (float)(0.5 * r);
    }
    return (float)(r * sqrt(3.0 / (double)shape_elements(rank - 1, shape + 1)));
}

float golden_value(const char *key, int rank, const int64_t *shape, uint32_t element)
{
    return value(key, rank, shape, golden_unit(key, element));
}

float *golden_tensor(const char *key, int rank, const int64_t *shape)
{
    int64_t count = shape_elements(rank, shape);
    float *out = malloc((size_t)count * sizeof *out);
    uint32_t hash = golden_hash(key);
    for (int64_t i = 0; out && i < count; i++) {
        out[i] = value(key, rank, shape, unit(hash, (uint32_t)i));
    }
    return out;
}
