/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products of Swin-T: ours beside oneDNN and OpenBLAS, GFLOP/s, best of many.
 * Needs libdnnl-dev and libopenblas-dev. Build and run:
 *   gcc -O2 -fopenmp -Iinclude -Isrc bench/gemm.c build/release/libvertebra.a -o build/gemm \
 *       -ldnnl -lopenblas -ljansson -lz -lm
 *   env -u OPENBLAS_CORETYPE OPENBLAS_CORETYPE=SkylakeX build/gemm [THREADS [PEAK_GFLOPS [ISA]]]
 * ONLY_OURS=1 in the environment skips the peers. PEAK comes from bench/peak.c. ISA: 1 portable ...
 * 4 avx512_bf16. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cblas-openblas.h>
#include <dnnl.h>

#include "core/memory.h"
#include "ops/cpu/gemm.h"

extern void openblas_set_num_threads(int);

enum { ROUNDS = 30 };
#define ONLY_OURS (getenv("ONLY_OURS") != NULL)

typedef struct product {
    int64_t rows, cols, depth;
    float *a, *b, *c;
} product;

static void *plain_alloc(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *p = NULL;
    return posix_memalign(&p, alignment, size) == 0 ? p : NULL;
}

static void plain_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static const vt_allocator plain = {plain_alloc, plain_free, NULL};

static vt_status read_rows(void *user, int64_t first, int64_t count, float *out, vt_error *error)
{
    (void)error;
    const product *p = user;
    memcpy(out, p->b + first * p->depth, (size_t)(count * p->depth) * sizeof *out);
    return VT_OK;
}

/* Best rate of calls that take about 1 ms together. */
static double rate(void (*call)(void *), void *user, const product *p)
{
    double work = 2.0 * (double)p->rows * (double)p->cols * (double)p->depth;
    int calls = (int)(2e8 / work) + 1;
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double start = omp_get_wtime();
        for (int k = 0; k < calls; k++) {
            call(user);
        }
        double r = work * calls / (omp_get_wtime() - start) * 1e-9;
        best = r > best ? r : best;
    }
    return best;
}

typedef struct ours {
    vt_gemm g;
    vt_weight_data packed;
    void *scratch;
    int threads;
} ours;

static void call_ours(void *user)
{
    ours *o = user;
    vt_gemm_run(&o->g, o->scratch, o->threads);
}

static double rate_ours(const product *p, vt_isa isa, vt_dtype dtype, int threads)
{
    const vt_backend *backend;
    if (vt_backend_cpu(&backend, isa, NULL) != VT_OK) {
        return 0;
    }
    ours o = {.threads = threads};
    vt_row_source source = {read_rows, (void *)(uintptr_t)p};
    o.packed = (vt_weight_data){.rows = p->cols, .cols = p->depth, .dtype = dtype};
    if (backend->pack(backend, &plain, VT_USE_MATRIX, &source, &o.packed, NULL) != VT_OK) {
        return 0;
    }
    bool half = dtype == VT_BF16;
    o.g = (vt_gemm){.kernels = vt_cpu_kernels_of(backend),
                    .rows = p->rows,
                    .cols = p->cols,
                    .depth = p->depth,
                    .weight_dtype = dtype,
                    .panels = o.packed.data,
                    .src = p->a,
                    .src_bf16 = half,
                    .dst = p->c};
    float *halves = vt_alloc(&plain, (size_t)(p->rows * p->depth) * 4);
    if (half) {
        o.g.kernels->narrow(p->a, p->rows * p->depth, (uint16_t *)(void *)halves);
        o.g.src = halves;
    }
    o.scratch = vt_alloc(&plain, vt_gemm_scratch(&o.g, threads));
    double r = rate(call_ours, &o, p);
    free(halves);
    free(o.scratch);
    free(o.packed.data);
    return r;
}

typedef struct peer {
    const product *p;
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_exec_arg_t args[3];
} peer;

static void call_blas(void *user)
{
    const product *p = ((peer *)user)->p;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)p->rows, (blasint)p->cols,
                (blasint)p->depth, 1.0f, p->a, (blasint)p->depth, p->b, (blasint)p->depth, 0.0f,
                p->c, (blasint)p->cols);
}

static void call_dnnl(void *user)
{
    peer *d = user;
    dnnl_primitive_execute(d->primitive, d->stream, 3, d->args);
    dnnl_stream_wait(d->stream);
}

/* Inner product with weights in the layout that oneDNN prefers. */
static double rate_dnnl(const product *p, dnnl_data_type_t type)
{
    dnnl_engine_t engine;
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    peer d = {.p = p};
    dnnl_stream_create(&d.stream, engine, dnnl_stream_default_flags);
    dnnl_dims_t a_dims = {p->rows, p->depth}, b_dims = {p->cols, p->depth};
    dnnl_dims_t c_dims = {p->rows, p->cols};
    dnnl_memory_desc_t a, b, c;
    dnnl_memory_desc_init_by_tag(&a, 2, a_dims, type, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&b, 2, b_dims, type, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&c, 2, c_dims, dnnl_f32, dnnl_ab);
    dnnl_inner_product_desc_t desc;
    dnnl_inner_product_forward_desc_init(&desc, dnnl_forward_inference, &a, &b, NULL, &c);
    dnnl_primitive_desc_t pd;
    if (dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL) != dnnl_success) {
        return 0;
    }
    dnnl_primitive_create(&d.primitive, pd);
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_memory_t ma, mb, mc;
    dnnl_memory_create(&ma, &a, engine, DNNL_MEMORY_ALLOCATE);
    dnnl_memory_create(&mb, packed, engine, DNNL_MEMORY_ALLOCATE); /* values don't matter here */
    dnnl_memory_create(&mc, &c, engine, p->c);
    void *data;
    dnnl_memory_get_data_handle(mb, &data);
    memset(data, 0, dnnl_memory_desc_get_size(packed));
    dnnl_memory_get_data_handle(ma, &data);
    memset(data, 0, dnnl_memory_desc_get_size(&a));
    d.args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, ma};
    d.args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, mb};
    d.args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, mc};
    double r = rate(call_dnnl, &d, p);
    dnnl_memory_destroy(ma);
    dnnl_memory_destroy(mb);
    dnnl_memory_destroy(mc);
    dnnl_primitive_destroy(d.primitive);
    dnnl_primitive_desc_destroy(pd);
    dnnl_stream_destroy(d.stream);
    dnnl_engine_destroy(engine);
    return r;
}

static const int64_t shapes[][3] = {
    {3136, 288, 96},  {3136, 96, 96},   {3136, 384, 96}, {3136, 96, 384},  {784, 576, 192},
    {784, 192, 192},  {784, 768, 192},  {784, 192, 768}, {196, 1152, 384}, {196, 384, 384},
    {196, 1536, 384}, {196, 384, 1536}, {49, 2304, 768}, {49, 768, 768},   {49, 3072, 768},
    {49, 768, 3072},  {784, 192, 384},  {196, 384, 768}, {49, 768, 1536},  {3136, 96, 48},
};

static float *filled(int64_t count)
{
    float *x = vt_alloc(&plain, (size_t)count * sizeof *x);
    for (int64_t i = 0; x && i < count; i++) {
        x[i] = (float)(i * 7919 % 1000) / 1000.0f - 0.5f;
    }
    return x;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double peak = argc > 2 ? atof(argv[2]) : 0;
    vt_isa isa = argc > 3 ? (vt_isa)atoi(argv[3]) : VT_ISA_AUTO;
    omp_set_num_threads(threads);
    openblas_set_num_threads(threads);
    printf("%d thread%s, GFLOP/s\n%18s %6s %7s %8s %7s %6s %10s %11s\n", threads,
           threads == 1 ? "" : "s", "M x N x K", "ours", "oneDNN", "OpenBLAS", "ratio", "peak",
           "ours bf16", "oneDNN bf16");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        product p = {shapes[i][0], shapes[i][1], shapes[i][2], NULL, NULL, NULL};
        p.a = filled(p.rows * p.depth);
        p.b = filled(p.cols * p.depth);
        p.c = filled(p.rows * p.cols);
        double best = 0, dnnl = 0, blas = 0, half = 0, dnnl_half = 0;
        for (int turn = 0; turn < 3; turn++) { /* in turns: the machine may be shared */
            peer blas_call = {.p = &p};
            double r[] = {
                rate_ours(&p, isa, VT_F32, threads), ONLY_OURS ? 1 : rate_dnnl(&p, dnnl_f32),
                ONLY_OURS ? 1 : rate(call_blas, &blas_call, &p),
                rate_ours(&p, isa, VT_BF16, threads), ONLY_OURS ? 1 : rate_dnnl(&p, dnnl_bf16)};
            double *top[] = {&best, &dnnl, &blas, &half, &dnnl_half};
            for (int k = 0; k < 5; k++) {
                *top[k] = r[k] > *top[k] ? r[k] : *top[k];
            }
        }
        double rival = dnnl > blas ? dnnl : blas;
        printf("%5d x%5d x%5d %6.0f %7.0f %8.0f %7.2f %5.0f%% %10.0f %11.0f\n", (int)p.rows,
               (int)p.cols, (int)p.depth, best, dnnl, blas, best / rival,
               peak > 0 ? 100 * best / peak : 0, half, dnnl_half);
        fflush(stdout);
        free(p.a);
        free(p.b);
        free(p.c);
    }
    return 0;
}
