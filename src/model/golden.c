/* SPDX-License-Identifier: Apache-2.0 */
/* The golden rule: every parameter is a hash of its checkpoint key, so that naming, shapes and
 * arithmetic can be checked with no file at all. With u(key, e) in [0, 1) from mix(fnv1a(key) +
 * e * 0x9E3779B9) >> 8 and r = 2u - 1, element e of a parameter is, by its name and rank,
 *   running_var 1 + 0.25u | running_mean 0.1r | *gamma* 1 + 0.1r | *temperature* 0.2 (1 + 0.1r) |
 *   vectors: *.weight 1 + 0.1r, others 0.1r | *bias*, *pos_embed*, *cls_token* 0.5r |
 *   others r sqrt(3 / (elements of one row)). */
#include <math.h>
#include <string.h>

#include "model/source.h"

static uint32_t fnv1a(const char *text)
{
    uint32_t h = 2166136261u;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        h = (h ^ *p) * 16777619u;
    }
    return h;
}

/* u(key, e) */
static double unit(uint32_t key, uint64_t e)
{
    uint32_t h = key + (uint32_t)e * 0x9E3779B9u;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return ((h ^ h >> 16) >> 8) / 16777216.0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The value is offset + factor * u or, with `symmetric`, offset + factor * r. */
typedef struct rule {
    double offset, factor;
    bool symmetric, temperature;
} rule;

static rule rule_of(const vt_slot *slot)
{
    const char *name = slot->name;
    if (ends_with(name, "running_var")) {
        return (rule){1.0, 0.25, false, false};
    }
    if (ends_with(name, "running_mean")) {
        return (rule){0.0, 0.1, true, false};
    }
    if (strstr(name, "gamma")) {
        return (rule){1.0, 0.1, true, false};
    }
    if (strstr(name, "temperature")) {
        return (rule){1.0, 0.1, true, true};
    }
    if (slot->rank <= 1) {
        return (rule){ends_with(name, ".weight") ? 1.0 : 0.0, 0.1, true, false};
    }
    if (strstr(name, "bias") || strstr(name, "pos_embed") || strstr(name, "cls_token")) {
        return (rule){0.0, 0.5, true, false};
    }
    return (rule){0.0, sqrt(3.0 / (double)slot->cols), true, false};
}

void vt_golden_read(const vt_slot *slot, int64_t first, int64_t count, float *out)
{
    rule k = rule_of(slot);
    uint32_t key = fnv1a(slot->name);
    for (int64_t i = 0; i < count; i++) {
        double u = unit(key, (uint64_t)(first + i));
        double x = k.factor * (k.symmetric ? 2.0 * u - 1.0 : u);
        x = k.offset == 0.0 ? x : k.offset + x;
        out[i] = (float)(k.temperature ? 0.2 * x : x);
    }
}

void vt_golden_input(int64_t first, int64_t count, float *out)
{
    uint32_t key = fnv1a("input");
    for (int64_t i = 0; i < count; i++) {
        out[i] = (float)(2.0 * (2.0 * unit(key, (uint64_t)(first + i)) - 1.0));
    }
}
