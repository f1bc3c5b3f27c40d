/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs share: options, messages, progress, opening a model. Results go to stdout,
 * everything else to stderr; exit codes are 0 ok, 1 failed, 2 wrong usage. */
#ifndef APPS_COMMON_CLI_H
#define APPS_COMMON_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "vertebra/vertebra.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef struct cli_options {
    const char *program;
    const char *model, *weights, *device, *isa;
    vt_model_settings settings;
    int threads;
    int height, width; /* --size; 0: the model's own */
    bool golden, json, verbose;
    bool reproducible;        /* see vt_context_settings; no option of its own */
    time_t started;           /* the step that is in progress */
    const char *weights_file; /* the one that cli_open_model took; NULL: none */
    char found[1024];         /* its name where --weights did not give it */
} cli_options;

/* The options that every program that runs a model takes; put first in its table. */
/* clang-format off */
#define CLI_COMMON_OPTIONS                                                                         \
    {"model", required_argument, NULL, 'm'}, {"weights", required_argument, NULL, 'w'},            \
    {"golden", no_argument, NULL, 'G'},      {"device", required_argument, NULL, 'd'},             \
    {"isa", required_argument, NULL, 'I'},   {"dtype", required_argument, NULL, 'D'},              \
    {"threads", required_argument, NULL, 't'}, {"size", required_argument, NULL, 's'},             \
    {"ema", no_argument, NULL, 'E'},         {"verify", no_argument, NULL, 'V'},                   \
    {"f32-residual", no_argument, NULL, 'Z'},                                                      \
    {"swin-rule", required_argument, NULL, 'R'}, {"json", no_argument, NULL, 'j'},                 \
    {"verbose", no_argument, NULL, 'v'},     {"help", no_argument, NULL, 'h'}
#define CLI_SHORT_OPTIONS "m:w:d:t:jvh"
#define CLI_MODEL_HELP                                                                             \
    "  -m, --model NAME       which network (info lists them); default: what the file says\n" \
    "  -w, --weights FILE     .safetensors, .safetensors.index.json, .pth, .pt;\n"                 \
    "                         default: what weights/fetch brought for --model, or the shipped\n"   \
    "                         object classifier\n"                                                 \
    "      --golden           weights made from a hash instead of a file (self-test, timing)\n"    \
    "      --ema              take the moving average of the weights where the file has one\n"     \
    "      --verify           check the file's stored checksums first\n"                           \
    "      --size H[xW]       run at this input size instead of the model's own\n"                 \
    "      --swin-rule RULE   pad, mm or timm: how windows meet sizes they do not divide\n"        \
    "  -d, --device DEVICE    cpu (default), cuda or cuda:N, ref (the slow plain reference)\n"     \
    "      --isa ISA          portable, avx2, avx512, avx512_bf16; default: the best there is\n"   \
    "      --dtype TYPE       f32 (default), bf16, f16 (GPU)\n"                                      \
    "      --f32-residual     on a GPU in bf16 and f16: sums of layers and norms stay f32, as they\n" \
    "                         do on the CPU\n"                                                      \
    "  -t, --threads N        default: all processors\n"
#define CLI_LAST_HELP                                                                              \
    "  -v, --verbose          say more on stderr\n"                                                \
    "  -h, --help             this text\n"
#define CLI_COMMON_HELP                                                                            \
    CLI_MODEL_HELP "  -j, --json             machine-readable result\n" CLI_LAST_HELP
/* clang-format on */

/* Starts a program: remembers its name and catches Ctrl-C, SIGTERM and SIGHUP. */
void cli_init(cli_options *options, const char *program);

/* Takes one option returned by getopt_long, '?' included. CLI_OK, or CLI_USAGE after a message. */
int cli_common_option(cli_options *options, int opt, const char *argument);

/* Prints "program: message" to stderr, cleaned as by cli_print_text; returns CLI_FAILED, or CLI_USAGE
 * with a hint at --help. */
int cli_fail(const cli_options *options, const char *format, ...) VT_PRINTF(2, 3);
int cli_usage(const cli_options *options, const char *format, ...) VT_PRINTF(2, 3);

/* Ends a program: `result`, or a message and CLI_FAILED when the results did not reach stdout (the
 * disk is full). */
int cli_finish(const cli_options *options, int result);

/* Text from a file or a file's name, for stdout: control characters, which could drive a terminal,
 * become '?'. For JSON: where it is no UTF-8, all that is not ASCII becomes U+FFFD. */
void cli_print_text(const char *text);
json_t *cli_json_text(const char *text);

/* A whole number within [low, high]; false when the text is anything else. */
bool cli_number(const char *text, long low, long high, int *out);

/* Takes the argument of the option --name, a file to write: CLI_OK, or CLI_USAGE after a message
 * where it is empty, as a variable that is not set. */
int cli_output_path(const cli_options *options, const char *name, const char *argument,
                    const char **path);

/* The context and the model of the options, or a message and CLI_FAILED. */
int cli_open_context(cli_options *options, vt_context **context);
int cli_open_model(cli_options *options, vt_context *context, vt_model **model);

/* The transform to use: the model's, at --size where it was given. */
vt_preprocess cli_preprocess(const cli_options *options, const vt_model *model);

/* On a terminal, redraws a bar on stderr: `done` of `total` of `what`, then `note`, in one line. At
 * the end of the step it stays. */
void cli_bar(const char *what, uint64_t done, uint64_t total, const char *note);

/* Leaves the line of a bar that did not come to its end. */
void cli_end_bar(void);

/* Whether Ctrl-C was pressed, or another of those signals came. */
bool cli_interrupted(void);

#endif
