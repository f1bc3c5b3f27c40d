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
    "Prints the largest difference relative to the largest logit; exits with 1 on any failure.\n\n"
    "  selftest\n"
    "  selftest --model swinv2_tiny_window8_256 --dtype bf16\n\n"
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

static int run_case(const cli_options *options, vt_context *context, const vt_golden_case *want,
                    outcome *out)
{
    vt_model_settings settings = options->settings;
    settings.window_rule = want->window_rule;
    settings.image_height = want->height;
    settings.image_width = want->width;
    vt_error error = {0};
    vt_model *model = NULL;
    vt_session *session = NULL;
    vt_tensor logits;
    float *picture = malloc(3 * (size_t)want->height * (size_t)want->width * sizeof *picture);
    vt_status status = picture ? VT_OK : vt_error_set(&error, VT_ERR_MEMORY, "out of memory");
    if (status == VT_OK) {
        vt_golden_picture(1, want->height, want->width, picture);
        status = vt_model_golden(&model, context, want->variant, 0, &settings, &error);
    }
    if (status == VT_OK) {
        status = vt_session_create(&session, model, NULL, &error);
    }
    if (status == VT_OK) {
        vt_tensor in = vt_tensor_nchw(picture, VT_F32, 1, 3, want->height, want->width);
        status = vt_session_forward(session, &in, &error);
    }
    if (status == VT_OK) {
        status = vt_session_output(session, "logits", &logits, &error);
    }
    if (status == VT_OK) {
        *out = compare(want, logits.data, logits.c);
    }
    vt_session_destroy(&session);
    vt_model_destroy(&model);
    free(picture);
    return status == VT_OK ? CLI_OK : cli_fail(options, "%s: %s", want->variant, error.message);
}

static void print_case(const cli_options *options, const vt_golden_case *want, const outcome *o,
                       bool passed)
{
    static const char *const rules[] = {"auto", "pad", "mm", "timm"};
    if (options->json) {
        json_t *line =
            json_pack("{s:s, s:i, s:i, s:s, s:f, s:b}", "model", want->variant, "height",
                      want->height, "width", want->width, "rule", rules[want->window_rule],
                      "difference", o->difference, "passed", passed);
        json_dumpf(line, stdout, JSON_REAL_PRECISION(4));
        putchar('\n');
        json_decref(line);
        return;
    }
    printf("%-34s %4dx%-4d %-5s max diff %.1e  %s\n", want->variant, want->height, want->width,
           rules[want->window_rule], o->difference, passed ? "pass" : "FAIL");
    fflush(stdout);
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

static int run_all(const cli_options *options, vt_context *context, bool quick)
{
    const vt_family *family, *previous = NULL;
    int passed = 0, failed = 0;
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
            bool good = o.finite && o.difference <= bound(options->settings.dtype) &&
                        (o.argmax_same || options->settings.dtype != VT_F32);
            print_case(options, c, &o, good);
            passed += good;
            failed += !good;
        }
    }
    if (passed + failed == 0) {
        return cli_fail(options, "there is no golden case for %s", options->model);
    }
    fprintf(stderr, "%s, %s: %d passed, %d failed (bound %.0e)\n", vt_context_description(context),
            vt_dtype_name(options->settings.dtype), passed, failed, bound(options->settings.dtype));
    return failed ? CLI_FAILED : CLI_OK;
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
