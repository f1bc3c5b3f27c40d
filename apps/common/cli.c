/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "files.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

/* Where the caller closed a standard stream, a file that we open must not take its number: put
 * something there that cannot be used. */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) {
            return;
        }
    }
}

/* A second Ctrl-C ends the program at once. The other two may come twice for one reason: `timeout`
 * sends to the process and to its group, a terminal that closes as its shell does. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    sigaction(SIGTERM, &action, NULL);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) { /* nohup */
        sigaction(SIGHUP, &action, NULL);
    }
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &action, NULL);
}

void cli_init(cli_options *options, const char *program)
{
    hold_standard_streams();
    const char *slash = strrchr(program, '/');
    *options = (cli_options){.program = slash ? slash + 1 : program,
                             .device = "cpu",
                             .settings = vt_model_settings_default()};
    catch_signals();
}

/* What may drive a terminal. */
static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static void print_line(const cli_options *options, const char *format, va_list args)
{
    char line[3 * 4096]; /* two paths and what is to be said */
    vsnprintf(line, sizeof line, format, args);
    for (char *p = line; *p; p++) {
        *p = is_control(*p) ? '?' : *p;
    }
    fprintf(stderr, "%s: %s\n", options->program, line);
}

int cli_fail(const cli_options *options, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(options, format, args);
    va_end(args);
    return CLI_FAILED;
}

int cli_finish(const cli_options *options, int result)
{
    bool lost = ferror(stdout) != 0;
    if (fflush(stdout) != 0) {
        return cli_fail(options, "cannot write the result: %s", strerror(errno));
    }
    return lost ? cli_fail(options, "cannot write the result") : result;
}

/* What went wrong has been printed. */
static int bad_option(const cli_options *options)
{
    fprintf(stderr, "%s --help shows what it takes\n", options->program);
    return CLI_USAGE;
}

int cli_usage(const cli_options *options, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(options, format, args);
    va_end(args);
    return bad_option(options);
}

void cli_print_text(const char *text)
{
    for (const char *p = text; *p; p++) {
        putchar(is_control(*p) ? '?' : *p);
    }
}

json_t *cli_json_text(const char *text)
{
    json_t *json = json_string(text);
    char *clean = json ? NULL : calloc(strlen(text) + 1, 3);
    if (clean) {
        char *out = clean;
        for (const char *p = text; *p; p++) {
            out = (unsigned char)*p < 0x80 ? (*out = *p, out + 1) : stpcpy(out, "\xEF\xBF\xBD");
        }
        json = json_string(clean);
        free(clean);
    }
    return json;
}

int cli_output_path(const cli_options *options, const char *name, const char *argument,
                    const char **path)
{
    *path = argument;
    return *argument ? CLI_OK : cli_usage(options, "--%s: the name is empty", name);
}

bool cli_number(const char *text, long low, long high, int *out)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || !strchr("-0123456789", *text) || end == text || *end || value < low ||
        value > high) {
        return false;
    }
    *out = (int)value;
    return true;
}

/* "H" or "HxW" */
static bool parse_size(const char *text, int *height, int *width)
{
    char first[16];
    const char *x = strchr(text, 'x');
    size_t length = x ? (size_t)(x - text) : strlen(text);
    if (length >= sizeof first) {
        return false;
    }
    memcpy(first, text, length);
    first[length] = '\0';
    return cli_number(first, 1, 16384, height) &&
           (x ? cli_number(x + 1, 1, 16384, width) : (*width = *height, true));
}

/* The index of `text` among `names` (which ends with NULL), or -1. */
static int choice(const char *text, const char *const *names)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int cli_common_option(cli_options *o, int opt, const char *argument)
{
    static const char *const dtypes[] = {"f32", "bf16", "f16", NULL};
    static const char *const rules[] = {"auto", "pad", "mm", "timm", NULL};
    static const char *const isas[] = {"auto", "portable", "avx2", "avx512", "avx512_bf16", NULL};
    int k;
    switch (opt) {
    case 'm': o->model = argument; return CLI_OK;
    case 'w': o->weights = argument; return CLI_OK;
    case 'G': o->golden = true; return CLI_OK;
    case 'd': o->device = argument; return CLI_OK;
    case 'E': o->settings.checkpoint.ema = true; return CLI_OK;
    case 'V': o->settings.checkpoint.verify = true; return CLI_OK;
    case 'Z': o->settings.f32_residual = true; return CLI_OK;
    case 'j': o->json = true; return CLI_OK;
    case 'v': o->verbose = true; return CLI_OK;
    case 'I':
        o->isa = argument;
        return choice(argument, isas) >= 0 ? CLI_OK : cli_usage(o, "--isa %s: unknown", argument);
    case 'D':
        k = choice(argument, dtypes);
        o->settings.dtype = k == 1 ? VT_BF16 : k == 2 ? VT_F16 : VT_F32;
        return k >= 0 ? CLI_OK : cli_usage(o, "--dtype %s: want f32 or bf16", argument);
    case 'R':
        k = choice(argument, rules);
        o->settings.window_rule = (vt_window_rule)(k < 0 ? 0 : k);
        return k >= 0 ? CLI_OK : cli_usage(o, "--swin-rule %s: want pad, mm or timm", argument);
    case 't':
        return cli_number(argument, 1, 1024, &o->threads)
                   ? CLI_OK
                   : cli_usage(o, "--threads %s: want 1 to 1024", argument);
    case 's':
        return parse_size(argument, &o->height, &o->width)
                   ? CLI_OK
                   : cli_usage(o, "--size %s: want H or HxW, 1 to 16384", argument);
    default: return bad_option(o); /* getopt_long has said what is wrong */
    }
}

static void print_log(void *user, vt_log_level level, const char *line)
{
    const cli_options *o = user;
    if (level == VT_LOG_WARNING || o->verbose) {
        (void)cli_fail(o, "%s%s", level == VT_LOG_WARNING ? "warning: " : "", line);
    }
}

enum {
    BAR = 40,     /* characters */
    COLUMNS = 80, /* of a terminal that does not say how many it has */
    PATIENCE = 1  /* seconds before a bar is worth showing */
};

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : COLUMNS;
}

void cli_bar(const char *what, uint64_t done, uint64_t total, const char *note)
{
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    char line[512];
    int room = terminal_columns() - 1; /* after the last column the next line may begin */
    int width = room - (int)(strlen(what) + strlen(" []") + strlen(note));
    width = width < 0 ? 0 : width < BAR ? width : BAR;
    int filled = (int)((uint64_t)width * done / (total ? total : 1));
    snprintf(line, sizeof line, "%s [%.*s%*s]%s", what, filled,
             "########################################", width - filled, "", note);
    fprintf(stderr, "\r%.*s\033[K%s", room, line, done >= total ? "\n" : "");
}

void cli_end_bar(void)
{
    if (isatty(STDERR_FILENO)) {
        fputc('\n', stderr);
    }
}

/* On a terminal, shows how far a long step (loading weights) is. */
static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    cli_options *o = user;
    if (!isatty(STDERR_FILENO) || strcmp(what, "forward") == 0) {
        return !interrupted;
    }
    time_t now = time(NULL);
    o->started = done <= 1 ? now : o->started;
    if (now - o->started > PATIENCE) {
        cli_bar(what, done + (done + 1 == total), total, "");
    }
    return !interrupted;
}

int cli_open_context(cli_options *o, vt_context **context)
{
    static const char *const isas[] = {"auto", "portable", "avx2", "avx512", "avx512_bf16", NULL};
    vt_context_settings s = vt_context_settings_default();
    vt_error error = {0};
    s.device = o->device;
    s.threads = o->threads;
    s.isa = o->isa ? (vt_isa)choice(o->isa, isas) : VT_ISA_AUTO;
    s.reproducible = o->reproducible;
    s.log = print_log;
    s.log_user = o;
    s.progress = on_progress;
    s.progress_user = o;
    return vt_context_create(context, &s, &error) == VT_OK ? CLI_OK
                                                           : cli_fail(o, "%s", error.message);
}

int cli_open_model(cli_options *o, vt_context *context, vt_model **model)
{
    vt_error error = {0};
    vt_status status;
    o->weights_file = o->golden ? NULL : o->weights;
    o->settings.image_height = o->height;
    o->settings.image_width = o->width;
    if (o->golden) {
        const char *name = o->model ? o->model : "swin_tiny_patch4_window7_224";
        status = vt_model_golden(model, context, name, 0, &o->settings, &error);
    } else if (o->weights) {
        status = vt_model_load(model, context, o->model, o->weights, &o->settings, &error);
    } else if (o->model) {
        if (files_find_weights(o->found, sizeof o->found, o, context, o->model) != CLI_OK) {
            return CLI_FAILED;
        }
        o->weights_file = o->found;
        status = vt_model_load(model, context, o->model, o->found, &o->settings, &error);
    } else if (files_default_weights(o->found, sizeof o->found)) {
        o->weights_file = o->found;
        status = vt_model_load(model, context, NULL, o->found, &o->settings, &error);
    } else {
        return cli_fail(o, "the shipped weights were not found; give --weights FILE");
    }
    return status == VT_OK ? CLI_OK : cli_fail(o, "%s", error.message);
}

vt_preprocess cli_preprocess(const cli_options *o, const vt_model *model)
{
    vt_preprocess p = *vt_model_preprocess(model);
    if (o->height) {
        p.height = o->height;
        p.width = o->width;
    }
    return p;
}
