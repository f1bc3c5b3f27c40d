/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHIPPED "swin_nano_objects.safetensors"

/* Prints a path; whether it fits and can be read. */
static bool readable(char *out, size_t size, const char *format, ...) VT_PRINTF(3, 4);
static bool readable(char *out, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out, size, format, args);
    va_end(args);
    return n > 0 && n < (int)size && access(out, R_OK) == 0;
}

bool files_shipped(char *out, size_t size, const char *in_tree, const char *installed)
{
    char exe[512];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length < 0) {
        return false;
    }
    exe[length] = '\0';
    *strrchr(exe, '/') = '\0';
    return readable(out, size, "%s/../%s", exe, in_tree) ||       /* apps/ */
           readable(out, size, "%s/../../../%s", exe, in_tree) || /* build/release/apps/ */
           readable(out, size, "%s/../share/vertebra/%s", exe, installed);
}

bool files_default_weights(char *out, size_t size)
{
    const char *chosen = getenv("VERTEBRA_WEIGHTS");
    if (chosen && *chosen) {
        return snprintf(out, size, "%s", chosen) < (int)size;
    }
    return files_shipped(out, size, "weights/" SHIPPED, SHIPPED);
}

/* The folder of fetched weights. */
static bool cache_folder(char *out, size_t size)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"VERTEBRA_CACHE", "weights"},
                  {"XDG_CACHE_HOME", "vertebra/weights"},
                  {"HOME", ".cache/vertebra/weights"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *folder = getenv(places[i].variable);
        if (folder && *folder) {
            return snprintf(out, size, "%s/%s", folder, places[i].below) < (int)size;
        }
    }
    return false;
}

static bool find_cached(char *out, size_t size, const char *folder, const char *name)
{
    static const char *const endings[] = {
        "safetensors", "safetensors.index.json", "pth", "pth.tar", "pt", "bin", "ckpt"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        if (readable(out, size, "%s/%s.%s", folder, name, endings[i])) {
            return true;
        }
    }
    return false;
}

/* Whether `name` means the file that the table of variants names: the variant's own name, or with
 * the tag of that file behind it ("....ms_in1k"). */
static bool is_published(const char *name, const vt_variant *variant)
{
    const char *file = strrchr(variant->checkpoint, '/');
    return strcmp(name, variant->name) == 0 || (file && strcmp(name, file + 1) == 0);
}

int files_find_weights(char *out, size_t size, const cli_options *o, const vt_context *context,
                       const char *name)
{
    char folder[1024];
    const vt_variant *variant = vt_variant_find(context, name, NULL);
    if (!variant) {
        return cli_fail(o, "--model %s: there is no such model (info lists them)", name);
    }
    bool published = is_published(name, variant);
    bool ships = strncmp(variant->checkpoint, "weights/", strlen("weights/")) == 0;
    if (published && ships &&
        files_shipped(out, size, variant->checkpoint, strrchr(variant->checkpoint, '/') + 1)) {
        return CLI_OK;
    }
    if (!cache_folder(folder, sizeof folder)) {
        return cli_fail(o,
                        "--model %s: no folder of fetched weights (VERTEBRA_CACHE and HOME are "
                        "not set); give --weights FILE",
                        name);
    }
    if (find_cached(out, size, folder, name) ||
        (published && find_cached(out, size, folder, variant->name))) {
        return CLI_OK;
    }
    if (published && ships) {
        return cli_fail(o, "--model %s: %s is not there; give --weights FILE", name,
                        variant->checkpoint);
    }
    if (published && strncmp(variant->checkpoint, "https://", strlen("https://")) != 0) {
        return cli_fail(o, "--model %s: no weights of it are published; give --weights FILE", name);
    }
    bool installed = strncmp(o->program, "vertebra-", strlen("vertebra-")) == 0;
    return cli_fail(o, "--model %s: its weights are not in %s; run: %s %s (or give --weights FILE)",
                    name, folder, installed ? "vertebra-fetch" : "weights/fetch", name);
}
