/* SPDX-License-Identifier: Apache-2.0 */
/* Two evaluations of the same pictures on other devices, in other types: which answers differ, and
 * whether rounding explains it.
 *
 * A class that led by more than `bound` of the run's largest logit cannot have lost its lead to
 * rounding, where `bound` is what docs/testing.md allows the coarser of the two types. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "evaluation.h"

/* What is counted while two runs are gone through. */
typedef struct comparison {
    const evaluation *a, *b;
    const char *a_path, *b_path;
    double allowed; /* a lead that rounding may have taken */
    int64_t same_bits, other_answers, unexplained;
    double off, smallest_lead; /* largest difference of a logit; the least lead in `a` */
} comparison;

static double bound_of(const evaluation *e)
{
    const char *dtype = json_string_value(json_object_get(e->run, "dtype"));
    const bool is_f16 = dtype && strcmp(dtype, vt_dtype_name(VT_F16)) == 0;
    const bool is_bf16 = dtype && strcmp(dtype, vt_dtype_name(VT_BF16)) == 0;
    return is_bf16 ? 4e-2 : is_f16 ? 1e-2 : 1e-5;
}

static double largest_logit(const evaluation *e)
{
    double largest = 0;
    for (int64_t i = 0; i < e->count; i++) {
        for (int k = 0; e->records[i].status == VT_OK && k < e->records[i].found; k++) {
            largest = fmax(largest, fabs((double)e->records[i].top[k].logit));
        }
    }
    return largest;
}

/* The logit of a class; minus infinity where it is not among the best. */
static double logit_of(const vt_evaluate_record *r, int class)
{
    for (int k = 0; k < r->found; k++) {
        if (r->top[k].index == class) {
            return (double)r->top[k].logit;
        }
    }
    return -INFINITY;
}

static double lead_over(const vt_evaluate_record *r, int class)
{
    return (double)r->top[0].logit - logit_of(r, class);
}

static bool has_same_bits(const vt_evaluate_record *a, const vt_evaluate_record *b)
{
    bool same = a->rank == b->rank && a->found == b->found && a->loss == b->loss;
    for (int k = 0; same && k < a->found; k++) {
        same = a->top[k].index == b->top[k].index && a->top[k].logit == b->top[k].logit &&
               a->top[k].probability == b->top[k].probability;
    }
    return same;
}

static void print_answer(const comparison *c, int64_t i, double a_lead, double b_lead)
{
    const vt_evaluate_record *a = &c->a->records[i], *b = &c->b->records[i];
    cli_print_text(c->a->pictures[i].path);
    printf(": %d ", a->top[0].index);
    cli_print_text(c->a->class_names[a->top[0].index]);
    printf(", ahead by %.3g; %d ", a_lead, b->top[0].index);
    cli_print_text(c->b->class_names[b->top[0].index]);
    printf(", ahead by %.3g%s\n", b_lead,
           fmax(a_lead, b_lead) > c->allowed ? "; more than rounding" : "");
}

static void compare_answers(comparison *c, int64_t i)
{
    const vt_evaluate_record *a = &c->a->records[i], *b = &c->b->records[i];
    c->same_bits += has_same_bits(a, b);
    for (int k = 0; k < a->found; k++) {
        const double off = fabs((double)a->top[k].logit - logit_of(b, a->top[k].index));
        c->off = isfinite(off) ? fmax(c->off, off) : c->off;
    }
    if (a->found > 1) {
        c->smallest_lead = fmin(c->smallest_lead, lead_over(a, a->top[1].index));
    }
    if (a->top[0].index != b->top[0].index) {
        const double a_lead = lead_over(a, b->top[0].index), b_lead = lead_over(b, a->top[0].index);
        c->other_answers++;
        c->unexplained += fmax(a_lead, b_lead) > c->allowed;
        print_answer(c, i, a_lead, b_lead);
    }
}

/* Broken in both is the same; in one, no rounding. */
static void compare_broken(comparison *c, int64_t i)
{
    const bool in_a = c->a->records[i].status != VT_OK, in_b = c->b->records[i].status != VT_OK;
    c->same_bits += in_a == in_b;
    if (in_a != in_b) {
        c->other_answers++;
        c->unexplained++;
        cli_print_text(c->a->pictures[i].path);
        printf(": broken in %s alone\n", in_a ? c->a_path : c->b_path);
    }
}

static void print_comparison(const comparison *c)
{
    const vt_evaluate_figures *a = &c->a->figures, *b = &c->b->figures;
    printf("pictures       %lld, %lld of them broken\n", (long long)c->a->count,
           (long long)a->broken);
    printf("top-1          %lld in %s, %lld in %s\n", (long long)a->top1, c->a_path,
           (long long)b->top1, c->b_path);
    printf("top-5          %lld and %lld\n", (long long)a->top5, (long long)b->top5);
    printf("same bits      %lld records\n", (long long)c->same_bits);
    printf("logits         differ by %.3g at most\n", c->off);
    printf("other answers  %lld; a lead of %.3g may be lost to rounding, the smallest is %.3g\n",
           (long long)c->other_answers, c->allowed, c->smallest_lead);
}

int evaluation_compare(const cli_options *options, const evaluation *a, const char *a_path,
                       const evaluation *b, const char *b_path)
{
    static const char *const may_differ[] = {"version",      "device",    "dtype",
                                             "f32_residual", "gpu_batch", NULL};
    comparison c = {.a = a, .b = b, .a_path = a_path, .b_path = b_path, .smallest_lead = INFINITY};
    int result = evaluation_check_same(options, a, a_path, b, b_path, may_differ);
    if (result != CLI_OK) {
        return result;
    }
    if (a->shard != b->shard || a->shards != b->shards || a->count != b->count) {
        return cli_fail(options,
                        "%s: is shard %d of %d with %lld pictures, %s shard %d of %d with "
                        "%lld",
                        b_path, b->shard, b->shards, (long long)b->count, a_path, a->shard,
                        a->shards, (long long)a->count);
    }
    c.allowed = fmax(bound_of(a), bound_of(b)) * fmax(largest_logit(a), largest_logit(b));
    for (int64_t i = 0; i < a->count; i++) {
        if (a->pictures[i].index != b->pictures[i].index) {
            return cli_fail(options, "%s: picture %lld is another one than in %s", b_path,
                            (long long)i, a_path);
        }
        if (a->records[i].status == VT_OK && b->records[i].status == VT_OK) {
            compare_answers(&c, i);
        } else {
            compare_broken(&c, i);
        }
    }
    print_comparison(&c);
    return c.unexplained
               ? cli_fail(options, "%s: %lld answers differ from %s by more than rounding", b_path,
                          (long long)c.unexplained, a_path)
               : CLI_OK;
}
