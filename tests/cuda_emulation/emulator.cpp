/* SPDX-License-Identifier: Apache-2.0 */
#include "emulator.h"

#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <vector>

enum {
    WARP = 32,
    MOST_THREADS = 1024,
    STACK_BYTES = (64 << 10) + 1088, /* no power of two: neighbours would share cache lines' sets */
    MOST_SHARED = 99 << 10,          /* what every GPU from sm_80 on has */
    UNASKED_SHARED = 48 << 10,       /* what a launch gets without cudaFuncSetAttribute */
    GUARD = 256,
    POISON = 0xff, /* NaN in every type */
    CANARY = 0xa5
};

enum thread_state { READY, AT_WARP, AT_BLOCK, ENDED };

struct pending_copy {
    uint32_t dst;
    const void *src;
    int group;
};

struct fiber {
    void *place[5]; /* of __builtin_setjmp */
    bool begun;
    thread_state state;
    std::vector<pending_copy> copies;
    int groups; /* of copies, committed */
};

/* Two sets of words: a lane reads its answer before it can hand in for the operation after the
 * next. */
struct warp {
    int arrived;
    unsigned turn;
    vt_emulated_perform *perform;
    uint32_t in[WARP][VT_EMULATED_IN], out[2][WARP][VT_EMULATED_OUT];
};

struct variable {
    int line;
    size_t at, bytes;
};

uint3 threadIdx, blockIdx;
dim3 blockDim(1), gridDim(1);

static fiber fibers[MOST_THREADS];
static warp warps[MOST_THREADS / WARP];
static int running, threads, arrived; /* thread; of the block; at its barrier */
static bool backwards, waited; /* this launch's order; the block waited for the predecessor */
static void *scheduler[5];
static unsigned launches;
static void (*body)(void *);
static void *body_data;
static const vt_emulated_grid *now;
static cudaError_t last_error;
static std::map<const void *, size_t> shared_limits;

/* [guard, dynamic, guard, variable, guard ...] */
alignas(1024) static unsigned char memory[GUARD + MOST_SHARED + 64 * GUARD];
static size_t used;
static std::vector<variable> variables;

[[noreturn]] static void fail(const char *what)
{
    fprintf(stderr, "%s, block (%u, %u), thread %d: %s\n", now ? now->name : "no kernel",
            blockIdx.x, blockIdx.y, running, what);
    abort();
}

/* ---- fibers ---------------------------------------------------------------------------------- */

__attribute__((noipa, noreturn)) static void leave(void **place)
{
    __builtin_longjmp(place, 1);
}

__attribute__((noipa)) static void to_scheduler(void)
{
    if (__builtin_setjmp(fibers[running].place) == 0) {
        leave(scheduler);
    }
}

static void fiber_main(void)
{
    for (;;) { /* a fiber serves one thread after the other */
        body(body_data);
        fibers[running].state = ENDED;
        to_scheduler();
    }
}

static void begin_fiber(int thread)
{
    static char *stacks;
    static ucontext_t begin;
    stacks = stacks ? stacks : static_cast<char *>(malloc((size_t)MOST_THREADS * STACK_BYTES));
    int failed = getcontext(&begin);
    if (!stacks || failed) {
        fail("no memory for threads");
    }
    begin.uc_stack.ss_sp = stacks + (size_t)thread * STACK_BYTES;
    begin.uc_stack.ss_size = STACK_BYTES;
    begin.uc_link = NULL;
    makecontext(&begin, fiber_main, 0);
    fibers[thread].begun = true;
    setcontext(&begin);
}

__attribute__((noipa)) static void resume(int thread)
{
    fiber *f = &fibers[thread];
    running = thread;
    threadIdx.x = (unsigned)thread;
    if (__builtin_setjmp(scheduler) != 0) {
        return;
    }
    if (f->begun) {
        leave(f->place);
    }
    begin_fiber(thread);
}

static void wait_as(thread_state state)
{
    fiber *f = &fibers[running];
    f->state = state;
    do {
        to_scheduler();
    } while (f->state != READY);
}

void __syncthreads(void)
{
    if (++arrived < threads) {
        wait_as(AT_BLOCK);
        return;
    }
    arrived = 0;
    for (int i = 0; i < threads; i++) {
        if (i != running && fibers[i].state != AT_BLOCK) {
            fail("__syncthreads while a thread has ended or waits for its warp");
        }
        fibers[i].state = READY;
    }
}

unsigned vt_emulated_lane(void)
{
    return (unsigned)running % WARP;
}

void vt_emulated_need_full(unsigned mask)
{
    if (mask != 0xffffffffu) {
        fail("only full warps are emulated");
    }
}

void vt_emulated_shuffle(const uint32_t (*in)[VT_EMULATED_IN], uint32_t (*out)[VT_EMULATED_OUT])
{
    for (int lane = 0; lane < WARP; lane++) {
        const uint32_t *from = in[in[lane][2] % WARP];
        out[lane][0] = from[0];
        out[lane][1] = from[1];
    }
}

const uint32_t *vt_emulated_together(vt_emulated_perform *perform, const uint32_t *in, int count)
{
    int first = running / WARP * WARP, lane = running % WARP;
    warp *w = &warps[running / WARP];
    if (threads % WARP) {
        fail("only full warps are emulated");
    }
    if (w->arrived > 0 && w->perform != perform) {
        fail("lanes of a warp wait in different places");
    }
    w->perform = perform;
    for (int i = 0; i < count; i++) {
        w->in[lane][i] = in[i];
    }
    uint32_t(*out)[VT_EMULATED_OUT] = w->out[w->turn % 2];
    if (++w->arrived < WARP) {
        wait_as(AT_WARP);
        return out[lane];
    }
    for (int i = first; i < first + WARP; i++) {
        fibers[i].state = READY;
    }
    w->arrived = 0;
    w->turn++;
    perform(w->in, out);
    return out[lane];
}

/* ---- shared memory --------------------------------------------------------------------------- */

static void check_guard(size_t at)
{
    for (size_t i = 0; i < GUARD; i++) {
        if (memory[at + i] != CANARY) {
            fail("shared memory was written out of bounds");
        }
    }
}

/* `bytes` bytes of poison and a guard behind them; returns where. */
static size_t add_region(size_t bytes)
{
    size_t at = used;
    used += (bytes + 127) / 128 * 128 + GUARD;
    if (used > sizeof memory) {
        fail("more shared memory than there is");
    }
    memset(memory + at, POISON, bytes);
    memset(memory + at + bytes, CANARY, used - at - bytes);
    return at;
}

static void begin_shared(void)
{
    memset(memory, CANARY, GUARD);
    used = GUARD;
    variables.clear();
    add_region(now->shared);
}

static void end_shared(void)
{
    check_guard(0);
    check_guard(GUARD + now->shared);
    for (const variable &v : variables) {
        check_guard(v.at + v.bytes);
    }
}

void *vt_emulated_shared(int line, size_t bytes)
{
    for (const variable &v : variables) {
        if (v.line == line) {
            return memory + v.at;
        }
    }
    variables.push_back({line, add_region(bytes), bytes});
    return memory + variables.back().at;
}

void *vt_emulated_dynamic(void)
{
    return memory + GUARD;
}

void *vt_emulated_at(uint32_t address, size_t bytes)
{
    if (address % bytes || address + bytes > now->shared) {
        fail("an address in shared memory is out of bounds or not aligned");
    }
    return memory + GUARD + address;
}

uint32_t vt_emulated_address(const void *p)
{
    return (uint32_t)(static_cast<const unsigned char *>(p) - memory - GUARD);
}

void vt_emulated_copy(uint32_t dst, const void *src)
{
    vt_emulated_at(dst, 16);
    if ((uintptr_t)src % 16) {
        fail("a copy to shared memory begins at no multiple of 16 bytes");
    }
    fibers[running].copies.push_back({dst, src, fibers[running].groups});
}

void vt_emulated_copy_commit(void)
{
    fibers[running].groups++;
}

void vt_emulated_copy_wait(int pending)
{
    fiber *f = &fibers[running];
    std::vector<pending_copy> waiting;
    for (const pending_copy &c : f->copies) {
        if (c.group < f->groups - pending) {
            memcpy(vt_emulated_at(c.dst, 16), c.src, 16);
        } else {
            waiting.push_back(c);
        }
    }
    f->copies.swap(waiting);
}

/* ---- launch ---------------------------------------------------------------------------------- */

/* Each of `count` threads that can go on does so until it waits; whether there was one. */
static bool step(int first, int count)
{
    bool moved = false;
    for (int i = 0; i < count; i++) {
        int thread = first + (backwards ? count - 1 - i : i);
        if (fibers[thread].state == READY) {
            resume(thread);
            moved = true;
        }
    }
    return moved;
}

/* Warp after warp goes on until all of it waits for the block. */
static bool step_block(void)
{
    bool moved = false;
    for (int i = 0; i < threads; i += WARP) {
        int first = backwards ? (threads - 1) / WARP * WARP - i : i;
        while (step(first, std::min((int)WARP, threads - first))) {
            moved = true;
        }
    }
    return moved;
}

static void run_block(void)
{
    begin_shared();
    arrived = 0;
    waited = false;
    for (int i = 0; i < threads; i++) {
        fibers[i].state = READY;
        fibers[i].copies.clear();
        fibers[i].groups = 0;
        warps[i / WARP].arrived = 0;
    }
    while (step_block()) {
    }
    for (int i = 0; i < threads; i++) {
        if (fibers[i].state != ENDED) {
            running = i;
            fail("waits for threads that have ended or wait elsewhere");
        }
    }
    if (now->overlaps && !waited) {
        fail("a block ends without vt_wait_for_predecessor");
    }
    end_shared();
}

void vt_emulated_wait_for_predecessor(void)
{
    waited = true;
}

void vt_emulated_run(const vt_emulated_grid &grid, void (*thread)(void *), void *data)
{
    auto limit = shared_limits.find(grid.kernel);
    size_t most = limit == shared_limits.end() ? (size_t)UNASKED_SHARED : limit->second;
    threads = (int)grid.block.x;
    if (grid.grid.x < 1 || grid.grid.x > 0x7fffffff || grid.grid.y < 1 || grid.grid.y > 65535 ||
        grid.grid.z != 1 || threads < 1 || threads > MOST_THREADS || grid.block.y != 1 ||
        grid.block.z != 1 || grid.shared > most) {
        last_error = cudaErrorInvalidConfiguration;
        return;
    }
    now = &grid;
    gridDim = grid.grid;
    blockDim = grid.block;
    body = thread;
    body_data = data;
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++) {
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
            run_block();
        }
    }
    backwards = __builtin_parity(++launches); /* pairs and triples of launches meet both orders */
    now = NULL;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

/* A small GPU, so that blocks have to loop. */
cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    *value = 2;
    return attribute == cudaDevAttrMultiProcessorCount && device == 0 ? cudaSuccess
                                                                      : cudaErrorInvalidValue;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int, size_t)
{
    *blocks = 2;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value)
{
    if (value < 0 || value > MOST_SHARED) {
        return cudaErrorInvalidValue;
    }
    shared_limits[kernel] = (size_t)value;
    return cudaSuccess;
}
