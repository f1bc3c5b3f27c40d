/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of bench/cuda_kernels share: against plain loops on the CPU, in double. Every
 * destination is poisoned first and lies between guard bands. Errors are the largest difference over
 * the largest value expected, or over 1e-3 where all are smaller. */
#ifndef BENCH_CUDA_KERNELS_CHECK_CUH
#define BENCH_CUDA_KERNELS_CHECK_CUH

#include "cuda_kernels.cuh"

enum { GUARD = 256 };
static const unsigned char POISON = 0xff; /* NaN in every type */

/* ---- data ------------------------------------------------------------------------------------ */

inline double tolerance_of(vt_dtype in, vt_dtype out)
{
    return in == VT_BF16 || out == VT_BF16 ? 1e-2 : in == VT_F16 || out == VT_F16 ? 1.5e-3 : 5e-6;
}

inline float get(const void *data, vt_dtype dtype, size_t i)
{
    return dtype == VT_F32   ? ((const float *)data)[i]
           : dtype == VT_F16 ? __half2float(((const __half *)data)[i])
                             : __bfloat162float(((const __nv_bfloat16 *)data)[i]);
}

/* A device array between guards with its copy on the host, as the device rounds it. */
struct array {
    vt_dtype dtype;
    size_t count;
    unsigned char *block = NULL;
    std::vector<float> host;

    array(vt_dtype t, size_t n, float spread = 1.0f, float centre = 0.0f) : dtype(t), count(n)
    {
        std::vector<unsigned char> bytes(n * size_of(t));
        host.resize(n);
        for (size_t i = 0; i < n; i++) {
            put(bytes.data(), t, i, centre + spread * random_unit());
            host[i] = get(bytes.data(), t, i);
        }
        must(cudaMalloc(&block, bytes.size() + 2 * GUARD), "cudaMalloc");
        must(cudaMemset(block, POISON, bytes.size() + 2 * GUARD), "cudaMemset");
        must(cudaMemcpy(data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "copy");
    }
    ~array()
    {
        cudaFree(block);
    }
    array(const array &) = delete;
    void *data() const
    {
        return block + GUARD;
    }
    float *floats() const
    {
        return (float *)(block + GUARD);
    }
    void poison()
    {
        must(cudaMemset(block, POISON, count * size_of(dtype) + 2 * GUARD), "poison");
    }
};

inline void check(const char *what, cudaError_t launched, const array &dst,
                  const std::vector<double> &want, double tolerance)
{
    must(launched, what);
    must(cudaDeviceSynchronize(), what);
    size_t bytes = dst.count * size_of(dst.dtype);
    std::vector<unsigned char> got(bytes + 2 * GUARD);
    must(cudaMemcpy(got.data(), dst.block, got.size(), cudaMemcpyDeviceToHost), "copy");
    double largest = 1e-3, worst = 0.0;
    size_t at = 0;
    for (size_t i = 0; i < dst.count; i++) {
        double error = fabs((double)get(got.data() + GUARD, dst.dtype, i) - want[i]);
        largest = std::max(largest, fabs(want[i]));
        if (!(error <= worst)) {
            worst = isnan(error) ? 1e30 : error;
            at = i;
        }
    }
    bool guards = true;
    for (size_t i = 0; i < GUARD; i++) {
        guards = guards && got[i] == POISON && got[GUARD + bytes + i] == POISON;
    }
    bool pass = guards && worst / largest <= tolerance;
    failures += !pass;
    printf("%s %-78s error %.2e%s", pass ? "ok  " : "FAIL", what, worst / largest,
           guards ? "" : " GUARDS");
    if (!pass) {
        printf(" at %zu: %g, want %g", at, (double)get(got.data() + GUARD, dst.dtype, at),
               want[at]);
    }
    printf("\n");
}

/* ---- references ------------------------------------------------------------------------------ */

inline void norm_row(const std::vector<double> &x, const array *scale, const array *shift,
                     float eps, double *dst)
{
    double mean = 0, variance = 0;
    size_t cols = x.size();
    for (double v : x) {
        mean += v / (double)cols;
    }
    for (double v : x) {
        variance += (v - mean) * (v - mean) / (double)cols;
    }
    for (size_t c = 0; c < cols; c++) {
        dst[c] = (x[c] - mean) / sqrt(variance + eps) * (scale ? scale->host[c] : 1) +
                 (shift ? shift->host[c] : 0);
    }
}

inline double activation(vt_activation act, double x)
{
    switch (act) {
    case VT_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case VT_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
    case VT_ACT_SILU: return x / (1 + exp(-x));
    case VT_ACT_RELU: return std::max(x, 0.0);
    default: return x;
    }
}

#endif
