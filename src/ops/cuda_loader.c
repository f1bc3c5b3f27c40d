/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the CUDA side when a GPU is asked for. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/backend.h"
#include "ops/cuda_entry.h"

static bool parse_index(const char *device, int *index)
{
    char *end;
    *index = 0;
    if (device[4] == '\0') {
        return true;
    }
    long value = device[4] == ':' ? strtol(device + 5, &end, 10) : -1;
    if (device[4] != ':' || end == device + 5 || *end || value < 0 || value > 1023) {
        return false;
    }
    *index = (int)value;
    return true;
}

/* $VERTEBRA_CUDA, the loader's own search, then beside this library or program. */
static void *open_library(char *reason, size_t size)
{
    static const char name[] = "libvertebra_cuda.so.0";
    static const char *const places[] = {"", "../lib/", "../build/release/", "../"};
    const char *chosen = getenv("VERTEBRA_CUDA");
    void *library = dlopen(chosen && *chosen ? chosen : name, RTLD_NOW | RTLD_LOCAL);
    const char *why = library ? NULL : dlerror();
    snprintf(reason, size, "%s", why ? why : "");
    Dl_info self;
    if (library || (chosen && *chosen) || !dladdr((void *)(size_t)&vt_backend_cuda, &self)) {
        return library;
    }
    const char *slash = strrchr(self.dli_fname, '/');
    int folder = slash ? (int)(slash - self.dli_fname) + 1 : 0;
    for (size_t i = 0; !library && i < sizeof places / sizeof places[0]; i++) {
        char path[1024];
        int n = snprintf(path, sizeof path, "%.*s%s%s", folder, self.dli_fname, places[i], name);
        library = n > 0 && n < (int)sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        why = library ? NULL : dlerror();
        if (why && !strstr(why, "No such file")) {
            snprintf(reason, size, "%s", why); /* it is there, but something it needs is not */
        }
    }
    return library;
}

vt_status vt_backend_cuda(const vt_backend **backend, const char *device,
                          const vt_allocator *allocator, vt_error *error)
{
    char reason[512];
    int index;
    if (!parse_index(device, &index)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "device '%s': want cuda or cuda:N", device);
    }
    void *library = open_library(reason, sizeof reason);
    if (!library) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "device '%s': the CUDA side cannot be loaded (%s); use --device cpu",
                            device, reason);
    }
    vt_cuda_open_fn *open = (vt_cuda_open_fn *)(size_t)dlsym(library, VT_CUDA_OPEN_NAME);
    if (!open) {
        dlclose(library);
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "device '%s': libvertebra_cuda belongs to another version", device);
    }
    /* the library stays loaded: the driver's threads may outlive the context */
    return open(backend, index, allocator, error);
}
