/* SPDX-License-Identifier: Apache-2.0 */
/* selftest: does this machine compute what the papers' code computes? Weights and picture are a
 * hash of their names, so no file is needed; the expected values are built in. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"

static const char help[] =
    "Usage: selftest [options]\n"
    "Runs every golden case (or those of --model) on this device and compares the logits.\n"
    "A --model that has none is compared with the plain reference (--device ref) on a small\n"
    "picture, or one of --size.\n"
    "Prints the largest difference relative to the largest logit; exits with 1 on any failure.\n\n"
    "  selftest\n"
    "  selftest --model swinv2_tiny_window8_256 --dtype bf16\n"
    "  selftest --model swin_large_patch4_window7_224 --device cuda\n\n"
    "      --all              every case of every model (the default without --model)\n"
    "      --quick            only the first case of each model\n";

/* Largest accepted |difference| / max |logit|, see docs/testing.md. */
static double bound(vt_dtype dtype)
{
    return dtype == VT_F32 ? 1e-5 : dtype == VT_F16 ? 1e-2 : 4e-2;
}

typedef struct outcome {
    double difference; /* relative to the largest |logit| */
    bool argmax_same, finite;
} outcome;

/* A network with hashed weights on the hashed picture. */
typedef struct trial {
    const char *variant;
    vt_window_rule window_rule;
    int height, width;
} trial;

static outcome compare(const vt_golden_case *want, const float *logits, int64_t count)
{
    int best = 0;
    double l2 = 0, largest = 0, difference = 0;
    bool finite = true;
    for (int64_t i = 0; i < count; i++) {
        double x = (double)logits[i];
        finite &= isfinite(logits[i]) != 0;
        best = logits[i] > logits[best] ? (int)i : best;
        largest = fmax(largest, fabs(x));
        l2 += x * x;
    }
    largest = fmax(largest, fabs((double)want->largest));
    for (int i = 0; i < 5; i++) {
        difference = fmax(difference, fabs((double)logits[i] - (double)want->logits[i]));
    }
    difference = fmax(difference, fabs((double)logits[want->argmax] - (double)want->largest));
    difference /= largest;
    /* the length of the vector sees the logits that are not listed */
    difference = fmax(difference, fabs(sqrt(l2) / (double)want->l2 - 1.0));
    return (outcome){difference, best == want->argmax, finite};
}

/* Logits, or the last stage's map of a model without a head; free `values`. */
typedef struct answer {
    float *values;
    int64_t count;
} answer;

static vt_status take_answer(const vt_session *session, answer *out, vt_error *error)
{
    vt_tensor y;
    if (vt_session_output(session, "logits", &y, error) != VT_OK) {
        vt_status status = vt_session_output(session, "C5", &y, error);
        if (status != VT_OK) {
            return status;
        }
    }
    out->count = y.n * y.h * y.w * y.c;
    out->values = malloc((size_t)out->count * sizeof *out->values);
    if (!out->values) {
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    memcpy(out->values, y.data, (size_t)out->count * sizeof *out->values);
    return VT_OK;
}

static vt_status run_trial(vt_context *context, const trial *t, vt_model_settings settings,
                           answer *out, vt_error *error)
{
    settings.window_rule = t->window_rule;
    settings.image_height = t->height;
    settings.image_width = t->width;
    vt_model *model = NULL;
    vt_session *session = NULL;
    float *picture = malloc(3 * (size_t)t->height * (size_t)t->width * sizeof *picture);
    vt_status status = picture ? VT_OK : vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        vt_golden_picture(1, t->height, t->width, picture);
        status = vt_model_golden(&model, context, t->variant, 0, &settings, error);
    }
    if (status == VT_OK) {
        status = vt_session_create(&session, model, NULL, error);
    }
    if (status == VT_OK) {
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, 1, 3, t->height, t->width);
        status = vt_session_forward(session, &in, error);
    }
    if (status == VT_OK) {
        status = take_answer(session, out, error);
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    free(picture);
    return status;
}

static int run_case(const cli_options *options, vt_context *context, const vt_golden_case *want,
                    outcome *out)
{
    trial t = {want->variant, want->window_rule, want->height, want->width};
    vt_error error = {0};
    answer got = {0};
    vt_status status = run_trial(context, &t, options->settings, &got, &error);
    if (status == VT_OK) {
        *out = compare(want, got.values, got.count);
    }
    free(got.values);
    return status == VT_OK ? CLI_OK : cli_fail(options, "%s: %s", want->variant, error.message);
}

static outcome compare_answers(const answer *got, const answer *want)
{
    int64_t best_got = 0, best_want = 0;
    double largest = 0, difference = 0;
    bool finite = got->count == want->count;
    for (int64_t i = 0; finite && i < want->count; i++) {
        finite = isfinite(got->values[i]) != 0;
        best_got = got->values[i] > got->values[best_got] ? i : best_got;
        best_want = want->values[i] > want->values[best_want] ? i : best_want;
        largest = fmax(largest, fabs((double)want->values[i]));
        difference = fmax(difference, fabs((double)got->values[i] - (double)want->values[i]));
    }
    return (outcome){difference / largest, best_got == best_want, finite};
}

/* This device against the reference, on a small picture, or where the model refuses that on one of
 * its own size. */
static int run_against_reference(const cli_options *options, vt_context *context, trial *t,
                                 outcome *out)
{
    enum { SMALL_HEIGHT = 64, SMALL_WIDTH = 96 };
    const vt_variant *variant = vt_variant_find(context, options->model, NULL);
    cli_options plain = *options;
    vt_context *reference = NULL;
    vt_error error = {0};
    answer got = {0}, want = {0};
    bool given = options->height > 0;
    *t = (trial){options->model, options->settings.window_rule,
                 given ? options->height : SMALL_HEIGHT, given ? options->width : SMALL_WIDTH};
    vt_status status = run_trial(context, t, options->settings, &got, &error);
    if (status == VT_ERR_ARGUMENT && variant && !given) {
        t->height = variant->preprocess.height;
        t->width = variant->preprocess.width;
        status = run_trial(context, t, options->settings, &got, &error);
    }
    plain.device = "ref";
    plain.isa = NULL;
    plain.settings.dtype = VT_F32;
    int code = status == VT_OK ? cli_open_context(&plain, &reference)
                               : cli_fail(options, "%s", error.message);
    if (code == CLI_OK && run_trial(reference, t, plain.settings, &want, &error) != VT_OK) {
        code = cli_fail(options, "%s", error.message);
    }
    if (code == CLI_OK) {
        *out = compare_answers(&got, &want);
    }
    vt_context_destroy(&reference);
    free(got.values);
    free(want.values);
    return code;
}

/* `against`: "golden", values of the published code, or "reference". */
static void print_case(const cli_options *options, const trial *t, const char *against,
                       const outcome *o, bool passed)
{
    static const char *const rules[] = {"auto", "pad", "mm", "timm"};
    if (options->json) {
        json_t *line =
            json_pack("{s:s, s:i, s:i, s:s, s:s, s:f, s:b}", "model", t->variant, "height",
                      t->height, "width", t->width, "rule", rules[t->window_rule], "against",
                      against, "difference", o->difference, "passed", passed);
        json_dumpf(line, stdout, JSON_REAL_PRECISION(4));
        putchar('\n');
        json_decref(line);
        return;
    }
    printf("%-34s %4dx%-4d %-5s max diff %.1e  %s\n", t->variant, t->height, t->width,
           rules[t->window_rule], o->difference, passed ? "pass" : "FAIL");
    fflush(stdout);
}

static bool judge(const cli_options *options, const trial *t, const char *against, const outcome *o)
{
    bool good = o->finite && o->difference <= bound(options->settings.dtype) &&
                (o->argmax_same || options->settings.dtype != VT_F32);
    print_case(options, t, against, o, good);
    return good;
}

/* Whether an earlier case of the family has the same model. */
static bool repeats(const vt_family *family, const vt_golden_case *c)
{
    for (const vt_golden_case *earlier = family->golden; earlier < c; earlier++) {
        if (strcmp(earlier->variant, c->variant) == 0) {
            return true;
        }
    }
    return false;
}

typedef struct counts {
    int passed, failed;
} counts;

static int run_golden(const cli_options *options, vt_context *context, bool quick, counts *n)
{
    const vt_family *family, *previous = NULL;
    for (size_t i = 0; vt_variant_at(context, i, &family); i++) {
        if (family == previous) {
            continue;
        }
        previous = family;
        for (const vt_golden_case *c = family->golden; c && c->variant; c++) {
            if ((options->model && strcmp(options->model, c->variant) != 0) ||
                (quick && repeats(family, c))) {
                continue;
            }
            outcome o = {0};
            if (cli_interrupted() || run_case(options, context, c, &o) != CLI_OK) {
                return CLI_FAILED;
            }
            trial t = {c->variant, c->window_rule, c->height, c->width};
            bool good = judge(options, &t, "golden", &o);
            n->passed += good;
            n->failed += !good;
        }
    }
    return CLI_OK;
}

static int run_all(const cli_options *options, vt_context *context, bool quick)
{
    counts n = {0};
    if (run_golden(options, context, quick, &n) != CLI_OK) {
        return CLI_FAILED;
    }
    if (n.passed + n.failed == 0) {
        outcome o = {0};
        trial t;
        if (run_against_reference(options, context, &t, &o) != CLI_OK) {
            return CLI_FAILED;
        }
        fprintf(stderr,
                "%s has no published values built in: compared with this library's plain "
                "reference\n",
                options->model);
        n.passed = judge(options, &t, "reference", &o);
        n.failed = !n.passed;
    }
    fprintf(stderr, "%s, %s: %d passed, %d failed (bound %.0e)\n", vt_context_description(context),
            vt_dtype_name(options->settings.dtype), n.passed, n.failed,
            bound(options->settings.dtype));
    return n.failed ? CLI_FAILED : CLI_OK;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {CLI_COMMON_OPTIONS,
                                          {"all", no_argument, NULL, 'A'},
                                          {"quick", no_argument, NULL, 'Q'},
                                          {0}};
    bool quick = false;
    cli_options options;
    vt_context *context = NULL;
    cli_init(&options, argv[0]);
    int opt;
    while ((opt = getopt_long(argc, argv, CLI_SHORT_OPTIONS, table, NULL)) != -1) {
        if (opt == 'h') {
            printf("%s\n%s", help, CLI_COMMON_HELP);
            return cli_finish(&options, CLI_OK);
        }
        int result = opt == 'A'   ? (options.model = NULL, CLI_OK)
                     : opt == 'Q' ? (quick = true, CLI_OK)
                                  : cli_common_option(&options, opt, optarg);
        if (result != CLI_OK) {
            return result;
        }
    }
    if (optind < argc) {
        return cli_usage(&options, "'%s'?", argv[optind]);
    }
    int result = cli_open_context(&options, &context);
    if (result == CLI_OK) {
        result = run_all(&options, context, quick);
    }
    vt_context_destroy(&context);
    return cli_finish(&options, result);
}
