/* SPDX-License-Identifier: Apache-2.0 */
/* The times of bench/cuda_kernels. */
#include <cublasLt.h>

#include "cuda_kernels.cuh"

enum { BATCH = 64, ROUNDS = 41 };

/* ---- times ----------------------------------------------------------------------------------- */

static double copy_rate;

/* Median milliseconds of call(set) over sets that together exceed the L2 cache. */
static double median_ms(int sets, const std::function<cudaError_t(int)> &call)
{
    cudaEvent_t start, stop;
    must(cudaEventCreate(&start), "event");
    must(cudaEventCreate(&stop), "event");
    std::vector<float> times;
    for (int round = -5; round < ROUNDS; round++) {
        must(cudaEventRecord(start), "event");
        for (int set = 0; set < sets; set++) {
            must(call(set), "launch");
        }
        must(cudaEventRecord(stop), "event");
        must(cudaEventSynchronize(stop), "kernel");
        float ms;
        must(cudaEventElapsedTime(&ms, start, stop), "event");
        if (round >= 0) {
            times.push_back(ms / (float)sets);
        }
    }
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

static void report(const char *what, double ms, double bytes)
{
    double rate = bytes / ms * 1e-6;
    printf("%-58s %8.4f ms %7.0f GB/s %5.1f %% of copy\n", what, ms, rate,
           copy_rate > 0 ? 100 * rate / copy_rate : 100);
}

/* Fills half of a pool with random values of a type, and repeats them. */
struct pool {
    unsigned char *data = NULL;
    size_t bytes;
    pool(vt_dtype t, size_t n) : bytes(n)
    {
        size_t unit = 1 << 20;
        std::vector<unsigned char> host(unit);
        for (size_t i = 0; i < unit / size_of(t); i++) {
            put(host.data(), t, i, random_unit());
        }
        must(cudaMalloc(&data, bytes + unit), "pool");
        for (size_t at = 0; at < bytes; at += unit) {
            must(cudaMemcpy(data + at, host.data(), unit, cudaMemcpyHostToDevice), "pool");
        }
    }
    ~pool()
    {
        cudaFree(data);
    }
    pool(const pool &) = delete;
};

static int sets_for(size_t bytes) /* at least 256 MB in flight */
{
    return (int)std::min<size_t>(16, (256u << 20) / bytes + 1);
}

/* One kernel over rotating sets: `in` and `out` bytes of two pools per set. */
static void time_map(const char *what, const pool &in, size_t in_bytes, const pool &out,
                     size_t out_bytes, int sets,
                     const std::function<cudaError_t(void *, void *)> &call)
{
    double ms = median_ms(sets, [&](int set) {
        return call(in.data + (size_t)set * in_bytes, out.data + (size_t)set * out_bytes);
    });
    report(what, ms, (double)in_bytes + (double)out_bytes);
}

static void time_stage(vt_dtype t, int64_t size, int64_t c, int heads)
{
    vt_shape shape = {BATCH, size, size, c};
    int64_t rows = BATCH * size * size;
    size_t map = (size_t)(rows * c) * 2;
    int sets = sets_for(4 * map);
    pool in(t, (size_t)sets * 4 * map), out(t, (size_t)sets * 4 * map), vectors(VT_F32, 1 << 20);
    const float *vector = (const float *)vectors.data;
    for (int shift = 0; shift <= 3; shift += 3) {
        snprintf(label, sizeof label, "attention_mma %s %lldx%lldx%lld heads %d shift %d",
                 name_of(t), (long long)size, (long long)size, (long long)c, heads, shift);
        time_map(label, in, 3 * map, out, map, sets, [&](void *src, void *dst) {
            vt_pattern pattern = {VT_PATTERN_WINDOW, 7, 7, shift, shift, VT_ROLL_PADDED};
            vt_cuda_attention a = attention_of(t, src, dst, shape, heads, pattern);
            a.bias = vector;
            return vt_cuda_attention_mma(&a, 0);
        });
        if (size == 7) {
            break;
        }
    }
    snprintf(label, sizeof label, "norm %s %lld x %lld", name_of(t), (long long)rows, (long long)c);
    time_map(label, in, map, out, map, sets, [&](void *src, void *dst) {
        vt_cuda_norm a = {src, NULL, dst, t, t, t, rows, c, vector, vector + c, 1e-5f};
        return vt_cuda_norm_rows(&a, 0);
    });
    snprintf(label, sizeof label, "finish bias gelu %s %lld x %lld", name_of(t), (long long)rows,
             (long long)(4 * c));
    time_map(label, in, 4 * map, out, 4 * map, sets, [&](void *src, void *dst) {
        vt_cuda_finish a = {src, NULL, dst, t, t, t, rows, 4 * c, vector, VT_ACT_GELU};
        return vt_cuda_finish_rows(&a, 0);
    });
    snprintf(label, sizeof label, "finish bias residual %s %lld x %lld", name_of(t),
             (long long)rows, (long long)c);
    time_map(label, in, 2 * map, out, map, sets, [&](void *src, void *dst) {
        const void *residual = (char *)src + map;
        vt_cuda_finish a = {src, residual, dst, t, t, t, rows, c, vector, VT_ACT_NONE};
        return vt_cuda_finish_rows(&a, 0);
    });
    if (size > 7) {
        snprintf(label, sizeof label, "patch merging with norm %s %lldx%lldx%lld", name_of(t),
                 (long long)size, (long long)size, (long long)c);
        time_map(label, in, map, out, map, sets, [&](void *src, void *dst) {
            vt_cuda_patches a = {src, dst, t, t, shape, 2, vector, vector + 4 * c, 1e-5f};
            return vt_cuda_gather_patches(&a, 0);
        });
    } else {
        time_map("mean pool", in, map, out, (size_t)(BATCH * c * 2), sets,
                 [&](void *src, void *dst) {
                     vt_cuda_mean a = {src, dst, t, t, shape};
                     return vt_cuda_mean_pool(&a, 0);
                 });
    }
}

/* Windows beyond 64 tokens, and the plain kernel beside the fast one. */
static void time_attention(const char *what, vt_dtype t, int n, int size, int heads, int window,
                           bool cosine, bool plain)
{
    int64_t c = heads * 32;
    size_t map = (size_t)n * (size_t)(size * size) * (size_t)c * size_of(t);
    int sets = sets_for(4 * map);
    pool in(t, (size_t)sets * 3 * map), out(t, (size_t)sets * map), vectors(VT_F32, 1 << 20);
    time_map(what, in, 3 * map, out, map, sets, [&](void *src, void *dst) {
        vt_pattern pattern = {VT_PATTERN_WINDOW, window, window, 0, 0, VT_ROLL_PADDED};
        vt_cuda_attention a = attention_of(t, src, dst, {n, size, size, c}, heads, pattern);
        a.temperature = cosine ? (const float *)vectors.data : NULL;
        a.bias = (const float *)vectors.data;
        return plain ? vt_cuda_attention_plain(&a, 0) : vt_cuda_attention_mma(&a, 0);
    });
}

/* Products: the time beside the least that it can be. */
static void report_product(const char *what, double ms, double flops, double bytes)
{
    double least = std::max(flops / 650e9, bytes / 2.6e9);
    printf("%-58s %8.4f ms %7.0f TFLOP/s, floor %.4f ms\n", what, ms, flops / ms * 1e-9, least);
}

static void time_mlp(vt_dtype t, int64_t rows, int64_t c, int64_t hidden, vt_activation act)
{
    size_t map = (size_t)(rows * c) * 2;
    int sets = sets_for(2 * map);
    pool in(t, (size_t)sets * map), out(t, (size_t)sets * map), weights(t, (size_t)(8 * c * c) * 2);
    pool vectors(VT_F32, 1 << 20);
    const float *v = (const float *)vectors.data;
    vt_cuda_mlp a = {};
    a.up = weights.data;
    a.down = weights.data + 8 * c * c;
    a.dtype = t;
    a.rows = rows;
    a.cols = c;
    a.hidden = hidden;
    a.up_bias = v;
    a.down_bias = a.in_scale = v + 4 * c;
    a.in_shift = v + 8 * c;
    a.in_eps = 1e-5f;
    a.out_eps = -1.0f;
    a.act = act;
    double ms = median_ms(sets, [&](int set) {
        a.src = a.residual = in.data + (size_t)set * map;
        a.dst = out.data + (size_t)set * map;
        return vt_cuda_mlp_rows(&a, 0);
    });
    snprintf(label, sizeof label, "mlp %s %lld x %lld, %lld act %d", name_of(t), (long long)rows,
             (long long)c, (long long)hidden, act);
    report_product(label, ms, 4.0 * (double)(rows * c * hidden), 2.0 * (double)map);
}

static void time_linear(vt_dtype t, const linear_case &k)
{
    size_t in_bytes = (size_t)(k.rows * k.depth) * 2, out_bytes = (size_t)(k.rows * k.cols) * 2;
    int sets = sets_for(in_bytes + out_bytes);
    pool in(t, (size_t)sets * in_bytes), out(t, (size_t)sets * out_bytes);
    pool other(t, (size_t)sets * out_bytes), weight(t, (size_t)(k.depth * k.cols) * 2);
    pool vectors(VT_F32, 1 << 20);
    const float *v = (const float *)vectors.data;
    vt_cuda_linear a = {};
    a.weight = weight.data;
    a.dtype = t;
    a.rows = k.rows;
    a.depth = k.depth;
    a.cols = k.cols;
    a.bias = a.in_scale = a.in_shift = a.out_scale = a.out_shift = v;
    a.in_eps = k.norm_in ? 1e-5f : -1.0f;
    a.out_eps = k.norm_out ? 1e-5f : -1.0f;
    a.act = k.act;
    double ms = median_ms(sets, [&](int set) {
        a.src = in.data + (size_t)set * in_bytes;
        a.residual = k.residual ? other.data + (size_t)set * out_bytes : NULL;
        a.dst = out.data + (size_t)set * out_bytes;
        return vt_cuda_linear_rows(&a, 0);
    });
    snprintf(label, sizeof label, "linear %s %lld x %lld to %lld act %d norms %d%d residual %d",
             name_of(t), (long long)k.rows, (long long)k.depth, (long long)k.cols, k.act, k.norm_in,
             k.norm_out, k.residual);
    report_product(label, ms, 2.0 * (double)(k.rows * k.depth * k.cols),
                   (double)in_bytes + (double)out_bytes * (k.residual ? 2 : 1));
}

void time_products(void)
{
    static const vt_activation NONE = VT_ACT_NONE, GELU = VT_ACT_GELU;
    static const linear_case linears[] = {{200704, 48, 96, NONE, false, true, true, 0, 0, 0},
                                          {200704, 96, 288, NONE, true, false, true, 0, 0, 0},
                                          {200704, 96, 96, NONE, false, false, true, 1, 0, 0},
                                          {200704, 128, 384, NONE, true, false, true, 0, 0, 0},
                                          {200704, 128, 128, NONE, false, false, true, 1, 0, 0}};
    for (auto &k : linears) {
        time_linear(VT_F16, k);
    }
    static const int64_t shapes[][3] = {{200704, 64, 256}, {200704, 96, 384},  {200704, 128, 512},
                                        {50176, 192, 768}, {50176, 256, 1024}, {4096, 96, 384},
                                        {25088, 96, 384},  {12544, 192, 768},  {200704, 96, 64},
                                        {200704, 96, 192}, {200704, 96, 768}};
    for (auto &s : shapes) {
        time_mlp(VT_F16, s[0], s[1], s[2], GELU);
    }
    for (vt_activation act : {VT_ACT_GELU_TANH, VT_ACT_RELU}) {
        time_mlp(VT_F16, 200704, 96, 384, act);
    }
    time_mlp(VT_BF16, 200704, 96, 384, GELU);
    time_mlp(VT_BF16, 50176, 192, 768, GELU);
}

void time_all(void)
{
    {
        pool a(VT_F16, 512u << 20), b(VT_F16, 512u << 20);
        double ms = median_ms(1, [&](int) {
            return cudaMemcpyAsync(b.data, a.data, a.bytes, cudaMemcpyDeviceToDevice, 0);
        });
        copy_rate = 2.0 * (double)a.bytes / ms * 1e-6;
        report("device copy 512 MiB", ms, 2.0 * (double)a.bytes);
        size_t count = BATCH * 224 * 224 * 3;
        for (vt_dtype d : {VT_F32, VT_F16}) {
            snprintf(label, sizeof label, "layout NCHW f32 to NHWC %s 224x224x3", name_of(d));
            time_map(label, a, count * 4, b, count * size_of(d), 8, [&](void *src, void *dst) {
                vt_cuda_layout l = {(const float *)src, dst, d, {BATCH, 224, 224, 3},
                                    3 * 224 * 224,      224, 1, 224 * 224};
                return vt_cuda_to_nhwc(&l, 0);
            });
        }
        for (vt_dtype s : {VT_F32, VT_F16}) {
            snprintf(label, sizeof label, "patch embed 4x4x3 %s to f16 224x224", name_of(s));
            time_map(label, a, count * size_of(s), b, count * 2, 8, [&](void *src, void *dst) {
                vt_cuda_patches p = {src, dst, s, VT_F16, {BATCH, 224, 224, 3}, 4, NULL, NULL, -1};
                return vt_cuda_gather_patches(&p, 0);
            });
        }
    }
    for (vt_dtype t : {VT_F16, VT_BF16}) {
        time_stage(t, 56, 96, 3);
        time_stage(t, 28, 192, 6);
        time_stage(t, 14, 384, 12);
        time_stage(t, 7, 768, 24);
    }
    static const struct {
        vt_dtype type;
        int n, size, heads, window;
        bool cosine, plain;
    } cases[] = {{VT_F16, 1, 56, 3, 7, false, false},  {VT_F16, 1, 14, 12, 7, false, false},
                 {VT_F16, 64, 64, 3, 8, true, false},  {VT_F16, 16, 96, 4, 12, false, false},
                 {VT_F16, 64, 64, 3, 16, true, false}, {VT_F16, 16, 96, 4, 24, true, false},
                 {VT_F16, 64, 56, 3, 7, false, true},  {VT_F32, 64, 56, 3, 7, false, true}};
    for (auto &k : cases) {
        snprintf(label, sizeof label, "attention_%s %s batch %d %dx%d heads %d window %d%s",
                 k.plain ? "plain" : "mma", name_of(k.type), k.n, k.size, k.size, k.heads, k.window,
                 k.cosine ? " cosine" : "");
        time_attention(label, k.type, k.n, k.size, k.heads, k.window, k.cosine, k.plain);
    }
}

/* ---- short products -------------------------------------------------------------------------- */

/* Microseconds of a launch among REPEATS that follow each other in a graph. */
static double graph_us(const std::function<cudaError_t(int, cudaStream_t)> &call)
{
    enum { REPEATS = 50, TIMES = 15 };
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t start, stop;
    std::vector<float> times;
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    must(cudaEventCreate(&start), "event");
    must(cudaEventCreate(&stop), "event");
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capture");
    for (int i = 0; i < REPEATS; i++) {
        must(call(i, stream), "launch");
    }
    must(cudaStreamEndCapture(stream, &graph), "capture");
    must(cudaGraphInstantiate(&exec, graph, 0), "graph");
    for (int i = -3; i < TIMES; i++) {
        float ms;
        must(cudaEventRecord(start, stream), "event");
        must(cudaGraphLaunch(exec, stream), "graph");
        must(cudaEventRecord(stop, stream), "event");
        must(cudaEventSynchronize(stop), "graph");
        must(cudaEventElapsedTime(&ms, start, stop), "event");
        if (i >= 0) {
            times.push_back(ms);
        }
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    cudaStreamDestroy(stream);
    std::sort(times.begin(), times.end());
    return 1e3 * times[times.size() / 2] / REPEATS;
}

/* The library's first proposal for rows x cols x depth in f16, with bias, tanh GELU, residual. */
struct library_product {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t weight, src, dst;
    cublasLtMatmulHeuristicResult_t found;
    void *workspace = NULL;
    float beta;

    library_product(int64_t rows, int64_t cols, int64_t depth, bool gelu, bool residual)
        : beta(residual ? 1.0f : 0.0f)
    {
        cublasOperation_t transpose = CUBLAS_OP_T;
        cublasLtEpilogue_t end = gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
        cublasLtMatmulPreference_t preference;
        size_t bytes = 32 << 20;
        int count = 0;
        cublasLtCreate(&handle);
        cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
        cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                       sizeof transpose);
        cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end);
        cublasLtMatrixLayoutCreate(&weight, CUDA_R_16F, (uint64_t)depth, (uint64_t)cols, depth);
        cublasLtMatrixLayoutCreate(&src, CUDA_R_16F, (uint64_t)depth, (uint64_t)rows, depth);
        cublasLtMatrixLayoutCreate(&dst, CUDA_R_16F, (uint64_t)cols, (uint64_t)rows, cols);
        cublasLtMatmulPreferenceCreate(&preference);
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &bytes, sizeof bytes);
        cublasLtMatmulAlgoGetHeuristic(handle, desc, weight, src, dst, dst, preference, 1, &found,
                                       &count);
        cublasLtMatmulPreferenceDestroy(preference);
        must(count == 1 ? cudaMalloc(&workspace, bytes) : cudaErrorUnknown, "cublasLt");
    }
    ~library_product()
    {
        cudaFree(workspace);
        cublasLtMatrixLayoutDestroy(weight);
        cublasLtMatrixLayoutDestroy(src);
        cublasLtMatrixLayoutDestroy(dst);
        cublasLtMatmulDescDestroy(desc);
        cublasLtDestroy(handle);
    }
    cudaError_t run(const void *w, const void *x, const void *bias, const void *residual, void *y,
                    cudaStream_t stream)
    {
        float one = 1.0f;
        cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
        return cublasLtMatmul(handle, desc, &one, w, weight, x, src, &beta, residual, dst, y, dst,
                              &found.algo, workspace, 32 << 20, stream) == CUBLAS_STATUS_SUCCESS
                   ? cudaSuccess
                   : cudaErrorUnknown;
    }
};

/* A linear map of a block at `batch` pictures: ours in every layout against the library with the
 * norm in front. Weights rotate within the bytes of a network, as they do there. */
static void time_small(int64_t rows, int depth, int cols, bool norm, bool gelu, bool residual)
{
    size_t weight_bytes = (size_t)depth * (size_t)cols * 2, map = (size_t)rows * (size_t)cols * 2;
    size_t sets = std::max<size_t>(1, std::min<size_t>(50, (57u << 20) / weight_bytes));
    pool weights(VT_F16, sets * weight_bytes), src(VT_F16, (size_t)rows * (size_t)depth * 2);
    pool added(VT_F16, map), dst(VT_F16, map), normed(VT_F16, (size_t)rows * (size_t)depth * 2);
    pool vectors(VT_F32, 1 << 20);
    const float *vector = (const float *)vectors.data;
    library_product library(rows, cols, depth, gelu, residual);
    double theirs = graph_us([&](int i, cudaStream_t stream) {
        const void *x = src.data;
        cudaError_t e = cudaSuccess;
        if (norm) {
            vt_cuda_norm n = {x,    NULL,  normed.data, VT_F16,         VT_F16, VT_F16,
                              rows, depth, vector,      vector + depth, 1e-5f};
            e = vt_cuda_norm_rows(&n, stream);
            x = normed.data;
        }
        return e ? e
                 : library.run(weights.data + (size_t)i % sets * weight_bytes, x, vector,
                               residual ? added.data : dst.data, dst.data, stream);
    });
    vt_cuda_linear_small a = {};
    a.src = src.data;
    a.residual = residual ? added.data : NULL;
    a.dst = dst.data;
    a.dtype = a.dst_dtype = VT_F16;
    a.rows = rows;
    a.depth = depth;
    a.cols = cols;
    a.bias = vector;
    a.scale = vector;
    a.shift = vector + depth;
    a.eps = norm ? 1e-5f : -1.0f;
    a.act = gelu ? VT_ACT_GELU : VT_ACT_NONE;
    auto ours = [&](int i, cudaStream_t stream) {
        a.weight = weights.data + (size_t)i % sets * weight_bytes;
        return vt_cuda_linear_small_run(&a, stream);
    };
    double chosen = vt_cuda_linear_small_refuse(&a) ? NAN : graph_us(ours);
    printf("small %5lld x %4d x %4d %s%s%s: library %6.2f us, ours %6.2f;", (long long)rows, depth,
           cols, norm ? "n" : "-", gelu ? "g" : "-", residual ? "r" : "-", theirs, chosen);
    std::vector<std::pair<double, std::string>> all;
    for (int layout = 0; layout < 16; layout++) {
        a.split = 1 << layout / 4;
        a.tile_rows = layout & 1 ? 64 : 32;
        a.tile_cols = layout & 2 ? 64 : 32;
        if (!vt_cuda_linear_small_refuse(&a)) {
            snprintf(label, sizeof label, "%dx%d/%d", a.tile_rows, a.tile_cols, a.split);
            all.push_back({graph_us(ours), label});
        }
    }
    std::sort(all.begin(), all.end());
    for (size_t i = 0; i < std::min<size_t>(all.size(), 5); i++) {
        printf(" %s %.2f", all[i].second.c_str(), all[i].first);
    }
    printf("\n");
}

void time_smalls(int batch)
{
    for (int stage = 0; stage < 4; stage++) {
        int64_t rows = (int64_t)batch * (3136 >> 2 * stage);
        for (int width : {96, 128}) {
            int c = width << stage;
            time_small(rows, c, 3 * c, true, false, false);
            time_small(rows, c, c, false, false, true);
            time_small(rows, c, 4 * c, true, true, false);
            time_small(rows, 4 * c, c, false, false, true);
        }
    }
    time_small(batch, 768, 1000, false, false, false);
}

/* ---- linear and channel attention ------------------------------------------------------------ */

/* A stage's linear attention, or attention among channels, with heads of 32 in one map of q, k and
 * v: at a large batch the maps rotate beyond the L2, at batch 1 they stay there, as in a network.
 */
static void time_summed(vt_dtype t, bool linear, int n, int size, int heads)
{
    int64_t pixels = (int64_t)size * size, c = heads * 32;
    size_t map = (size_t)(n * pixels * c) * 2;
    int sets = n == 1 ? 1 : sets_for(4 * map);
    pool in(t, (size_t)sets * 3 * map), out(t, (size_t)sets * map);
    vt_cuda_gram g = {};
    g.dtype = t;
    g.n = n;
    g.pixels = pixels;
    g.left_pixel = g.right_pixel = 3 * c;
    g.heads = heads;
    g.left_width = g.right_width = 32;
    g.relu = linear;
    pool scratch(VT_F32, vt_cuda_gram_mma_bytes(&g));
    g.partial = (float *)scratch.data;
    vt_cuda_apply a = {};
    a.dtype = a.dst_dtype = t;
    a.n = n;
    a.pixels = pixels;
    a.x_pixel = 3 * c;
    a.dst_pixel = c;
    a.heads = heads;
    a.x_width = a.dst_width = 32;
    a.scale = 0.02f;
    a.floor = 100;
    double us = graph_us([&](int i, cudaStream_t stream) {
        const unsigned char *q = in.data + (size_t)(i % sets) * 3 * map;
        a.x = q;
        g.left = q + 2 * c;
        g.right = q + 4 * c;
        a.dst = out.data + (size_t)(i % sets) * map;
        return vt_cuda_gram_mma(&g, &a, stream);
    });
    snprintf(label, sizeof label, "%s attention %s batch %d %dx%dx%lld",
             linear ? "linear" : "channel", name_of(t), n, size, size, (long long)c);
    printf("%-58s %8.2f us, floor %6.2f us, %3.0f %% of it\n", label, us, (double)(4 * map) / 3e6,
           100 * (double)(4 * map) / 3e6 / us);
}

void time_summed_all(void)
{
    for (bool linear : {false, true}) {
        for (int n : {64, 1}) {
            for (int stage = 0; stage < 4; stage++) {
                time_summed(VT_F16, linear, n, 56 >> stage, 3 << stage);
            }
        }
    }
}

/* ---- attention of boxes of keys -------------------------------------------------------------- */

/* What a map of size x size queries meets in one of the networks that have it. */
struct box_case {
    const char *what;
    int size, key_size, heads, width;
    vt_pattern pattern;
    bool bias, relative;
};

static vt_pattern box_pattern(vt_pattern_kind kind, int window, int dilation, int halo, int stride)
{
    vt_pattern p = {};
    p.kind = kind;
    p.window_h = p.window_w = window;
    p.dilation_h = p.dilation_w = dilation;
    p.halo_h = p.halo_w = halo;
    p.stride_h = p.stride_w = stride;
    return p;
}

/* At a large batch the maps rotate beyond the L2, at batch 1 they stay there. */
static void time_box(vt_dtype t, const box_case &k, int n)
{
    int64_t c = k.heads * k.width;
    size_t q = (size_t)(n * k.size * k.size * c) * 2;
    size_t kv = (size_t)(n * k.key_size * k.key_size * c) * 4, in_bytes = q + kv;
    int sets = n == 1 ? 1 : sets_for(in_bytes + q);
    pool in(t, (size_t)sets * in_bytes), out(t, (size_t)sets * q), vectors(VT_F32, 1 << 18);
    const float *vector = (const float *)vectors.data;
    vt_cuda_attention a = {};
    a.dtype = a.dst_dtype = t;
    a.n = n;
    a.h = a.w = k.size;
    a.key_h = a.key_w = k.key_size;
    a.heads = k.heads;
    a.qk_width = a.v_width = k.width;
    a.q_pixel = a.dst_pixel = c;
    a.k_pixel = a.v_pixel = 2 * c;
    a.scale = 1.0f / sqrtf((float)k.width);
    a.pattern = k.pattern;
    a.bias = k.bias ? vector : NULL;
    a.position_rows = k.relative ? vector : NULL;
    a.position_cols = k.relative ? vector + 8192 : NULL;
    double us = graph_us([&](int i, cudaStream_t stream) {
        const unsigned char *from = in.data + (size_t)(i % sets) * in_bytes;
        a.q = from;
        a.k = from + q;
        a.v = from + q + c * 2;
        a.dst = out.data + (size_t)(i % sets) * q;
        return vt_cuda_attention_box(&a, stream);
    });
    snprintf(label, sizeof label, "attention_box %s %s batch %d", k.what, name_of(t), n);
    double least = (double)(in_bytes + q) / 3e6;
    printf("%-58s %8.2f us, floor %6.2f us, %3.0f %% of it\n", label, us, least, 100 * least / us);
}

void time_boxes(void)
{
    vt_pattern near = box_pattern(VT_PATTERN_NEIGHBORHOOD, 7, 1, 0, 1);
    vt_pattern sparse = box_pattern(VT_PATTERN_NEIGHBORHOOD, 7, 4, 0, 1);
    vt_pattern halo = box_pattern(VT_PATTERN_HALO, 8, 0, 2, 1);
    vt_pattern strided = box_pattern(VT_PATTERN_HALO, 8, 0, 2, 2);
    vt_pattern all = box_pattern(VT_PATTERN_GLOBAL, 0, 0, 0, 0);
    const box_case cases[] = {
        {"7x7 of 56x56x64", 56, 56, 2, 32, near, true, false},
        {"7x7 of 28x28x128", 28, 28, 4, 32, near, true, false},
        {"7x7 of 14x14x256", 14, 14, 8, 32, near, true, false},
        {"7x7 of 7x7x512", 7, 7, 16, 32, near, true, false},
        {"7x7 of 28x28x128, every 4th", 28, 28, 4, 32, sparse, true, false},
        {"halo 2 of 16x16x256", 16, 16, 8, 32, halo, false, true},
        {"halo 2 of 16x16x512, 8x8 queries", 8, 16, 8, 64, strided, false, true},
        {"halo 2 of 8x8x512", 8, 8, 8, 64, halo, false, true},
        {"7x7 keys of 14x14x352", 14, 7, 11, 32, all, false, false},
        {"7x7 keys of 7x7x768", 7, 7, 24, 32, all, false, false}};
    for (int n : {64, 1}) {
        for (const box_case &k : cases) {
            time_box(VT_F16, k, n);
        }
    }
}

/* ---- depthwise convolution ------------------------------------------------------------------- */

struct depthwise_case {
    const char *what;
    int size, channels, kernel, dilation;
    vt_activation act;
    bool residual;
};

/* As time_box; the floor counts the multiply-adds in f32 as well, at 51 TFLOP/s. */
static void time_depthwise(vt_dtype t, const depthwise_case &k, int n)
{
    size_t map = (size_t)n * k.size * k.size * k.channels * 2, all = (k.residual ? 3 : 2) * map;
    int sets = n == 1 ? 1 : sets_for(all);
    pool maps(t, (size_t)sets * all), vectors(VT_F32, 1 << 19);
    vt_cuda_depthwise a = {};
    a.src_dtype = a.dst_dtype = a.residual_dtype = t;
    a.src_shape = a.dst_shape = {n, k.size, k.size, k.channels};
    a.weight = a.bias = (const float *)vectors.data;
    a.conv.kernel_h = a.conv.kernel_w = k.kernel;
    a.conv.stride_h = a.conv.stride_w = 1;
    a.conv.dilation_h = a.conv.dilation_w = k.dilation;
    a.conv.pad_top = a.conv.pad_left = k.kernel / 2 * k.dilation;
    a.conv.act = k.act;
    double us = graph_us([&](int i, cudaStream_t stream) {
        unsigned char *set = maps.data + (size_t)(i % sets) * all;
        a.src = set;
        a.dst = set + map;
        a.residual = k.residual ? set + 2 * map : NULL;
        return vt_cuda_depthwise_conv(&a, stream);
    });
    snprintf(label, sizeof label, "depthwise %s %s batch %d", k.what, name_of(t), n);
    double bytes = (double)all / 3e6;
    double products = (double)map * k.kernel * k.kernel / 51e6; /* half the bytes, two each */
    double least = std::max(bytes, products);
    printf("%-58s %8.2f us, floor %6.2f us, %3.0f %% of it\n", label, us, least, 100 * least / us);
}

void time_depthwises(void)
{
    const depthwise_case cases[] = {
        {"7x7 of 56x56x96", 56, 96, 7, 1, VT_ACT_NONE, false},
        {"7x7 of 28x28x192", 28, 192, 7, 1, VT_ACT_NONE, false},
        {"7x7 of 14x14x384", 14, 384, 7, 1, VT_ACT_NONE, false},
        {"7x7 of 7x7x768", 7, 768, 7, 1, VT_ACT_NONE, false},
        {"7x7, every 3rd, of 56x56x64", 56, 64, 7, 3, VT_ACT_NONE, false},
        {"7x7, every 3rd, of 28x28x128", 28, 128, 7, 3, VT_ACT_NONE, false},
        {"7x7, every 3rd, of 14x14x320", 14, 320, 7, 3, VT_ACT_NONE, false},
        {"7x7, every 3rd, of 7x7x512", 7, 512, 7, 3, VT_ACT_NONE, false},
        {"5x5 of 56x56x64", 56, 64, 5, 1, VT_ACT_NONE, false},
        {"5x5 of 28x28x128", 28, 128, 5, 1, VT_ACT_NONE, false},
        {"3x3, GELU, of 56x56x512", 56, 512, 3, 1, VT_ACT_GELU, false},
        {"3x3, GELU, of 14x14x1280", 14, 1280, 3, 1, VT_ACT_GELU, false},
        {"3x3, residual, of 56x56x96", 56, 96, 3, 1, VT_ACT_NONE, true},
        {"3x3, residual, of 14x14x384", 14, 384, 3, 1, VT_ACT_NONE, true}};
    for (int n : {64, 1}) {
        for (const depthwise_case &k : cases) {
            time_depthwise(VT_F16, k, n);
        }
    }
}
