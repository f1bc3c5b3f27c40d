/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>

enum { SUCCESS = 0, NOT_READY = 600, NON_BLOCKING = 1, MOST_GPUS = 16 };

/* The driver's functions that are used here, under the names that its library exports. */
static struct driver {
    int (*init)(unsigned flags);
    int (*count)(int *count);
    int (*retain)(void **context, int device);
    int (*set_current)(void *context);
    int (*get_current)(void **context);
    int (*get_device)(int *device);
    int (*alloc)(uint64_t *pointer, size_t bytes);
    int (*release)(uint64_t pointer);
    int (*upload)(uint64_t dst, const void *src, size_t bytes);
    int (*download)(void *dst, uint64_t src, size_t bytes);
    int (*copy)(uint64_t dst, uint64_t src, size_t bytes, struct CUstream_st *stream);
    int (*fill)(uint64_t dst, unsigned char value, size_t bytes, struct CUstream_st *stream);
    int (*stream_create)(struct CUstream_st **stream, unsigned flags);
    int (*stream_destroy)(struct CUstream_st *stream);
    int (*stream_wait)(struct CUstream_st *stream);
    int (*stream_query)(struct CUstream_st *stream);
    int (*begin_capture)(struct CUstream_st *stream, int mode);
    int (*end_capture)(struct CUstream_st *stream, void **graph);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*launch)(void *executable, struct CUstream_st *stream);
    int (*graph_destroy)(void *graph);
    int (*executable_destroy)(void *executable);
} driver;

static const char *const names[] = {"cuInit",
                                    "cuDeviceGetCount",
                                    "cuDevicePrimaryCtxRetain",
                                    "cuCtxSetCurrent",
                                    "cuCtxGetCurrent",
                                    "cuCtxGetDevice",
                                    "cuMemAlloc_v2",
                                    "cuMemFree_v2",
                                    "cuMemcpyHtoD_v2",
                                    "cuMemcpyDtoH_v2",
                                    "cuMemcpyDtoDAsync_v2",
                                    "cuMemsetD8Async",
                                    "cuStreamCreate",
                                    "cuStreamDestroy_v2",
                                    "cuStreamSynchronize",
                                    "cuStreamQuery",
                                    "cuStreamBeginCapture_v2",
                                    "cuStreamEndCapture",
                                    "cuGraphInstantiateWithFlags",
                                    "cuGraphLaunch",
                                    "cuGraphDestroy",
                                    "cuGraphExecDestroy"};

_Static_assert(sizeof driver == sizeof names, "a name for every function");

static void *contexts[MOST_GPUS];

#define MUST(call) assert_int_equal(call, SUCCESS)

int gpu_count(void)
{
    static int count = -1;
    if (count >= 0) {
        return count;
    }
    count = 0;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    bool found = library != NULL;
    for (size_t i = 0; found && i < sizeof names / sizeof names[0]; i++) {
        ((void **)&driver)[i] = dlsym(library, names[i]);
        found = ((void **)&driver)[i] != NULL;
    }
    if (!found || driver.init(0) != SUCCESS || driver.count(&count) != SUCCESS) {
        count = 0;
    }
    count = count < MOST_GPUS ? count : MOST_GPUS;
    return count;
}

void gpu_make_current(int device)
{
    assert_true(device < gpu_count());
    if (!contexts[device]) {
        MUST(driver.retain(&contexts[device], device));
    }
    MUST(driver.set_current(contexts[device]));
}

int gpu_current(void)
{
    void *context = NULL;
    int device = -1;
    MUST(driver.get_current(&context));
    if (context) {
        MUST(driver.get_device(&device));
    }
    return device;
}

static uint64_t address(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

void *gpu_alloc(size_t bytes)
{
    uint64_t pointer;
    MUST(driver.alloc(&pointer, bytes));
    return (void *)(uintptr_t)pointer;
}

void gpu_free(void *pointer)
{
    MUST(driver.release(address(pointer)));
}

void gpu_upload(void *dst, const void *src, size_t bytes)
{
    MUST(driver.upload(address(dst), src, bytes));
    MUST(driver.stream_wait(NULL)); /* the last piece may still be under way */
}

void gpu_download(void *dst, const void *src, size_t bytes)
{
    MUST(driver.download(dst, address(src), bytes));
}

struct CUstream_st *gpu_stream_open(void)
{
    struct CUstream_st *stream;
    MUST(driver.stream_create(&stream, NON_BLOCKING));
    return stream;
}

void gpu_stream_close(struct CUstream_st *stream)
{
    MUST(driver.stream_destroy(stream));
}

void gpu_wait(struct CUstream_st *stream)
{
    MUST(driver.stream_wait(stream));
}

bool gpu_is_busy(struct CUstream_st *stream)
{
    int code = driver.stream_query(stream);
    assert_true(code == SUCCESS || code == NOT_READY);
    return code == NOT_READY;
}

void gpu_copy(void *dst, const void *src, size_t bytes, struct CUstream_st *stream)
{
    MUST(driver.copy(address(dst), address(src), bytes, stream));
}

void gpu_delay(struct CUstream_st *stream)
{
    enum { BYTES = 1 << 29, ROUNDS = 40 };
    static void *block[MOST_GPUS];
    void **mine = &block[gpu_current()];
    *mine = *mine ? *mine : gpu_alloc(BYTES);
    for (int i = 0; i < ROUNDS; i++) {
        MUST(driver.fill(address(*mine), (unsigned char)i, BYTES, stream));
    }
}

void gpu_capture_begin(struct CUstream_st *stream)
{
    enum { GLOBAL = 0 };
    MUST(driver.begin_capture(stream, GLOBAL));
}

void *gpu_capture_end(struct CUstream_st *stream)
{
    void *graph, *executable;
    MUST(driver.end_capture(stream, &graph));
    MUST(driver.instantiate(&executable, graph, 0));
    MUST(driver.graph_destroy(graph));
    return executable;
}

void gpu_graph_launch(void *graph, struct CUstream_st *stream)
{
    MUST(driver.launch(graph, stream));
}

void gpu_graph_close(void *graph)
{
    MUST(driver.executable_destroy(graph));
}
