/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of the products of a warpgroup: a linear map, and two of them as an MLP. */
#include "cuda_kernels_check.cuh"

/* Rows repeat after so many, so that one reference serves many rows. */
static const size_t PERIOD = 389;

static void repeat_rows(array &a, size_t cols)
{
    size_t bytes = PERIOD * cols * size_of(a.dtype), total = a.count * size_of(a.dtype);
    for (size_t at = bytes; at < total; at += bytes) {
        must(cudaMemcpy((char *)a.data() + at, a.data(), std::min(bytes, total - at),
                        cudaMemcpyDeviceToDevice),
             "copy");
    }
}

static double rounded(vt_dtype dtype, double x)
{
    unsigned char bytes[4];
    put(bytes, dtype, 0, (float)x);
    return get(bytes, dtype, 0);
}

/* Row r and all that repeat it. */
static void repeat_result(std::vector<double> &want, size_t r, const std::vector<double> &y)
{
    for (size_t at = r * y.size(); at < want.size(); at += PERIOD * y.size()) {
        std::copy(y.begin(), y.end(), want.begin() + (ptrdiff_t)at);
    }
}

static std::vector<double> product_row(const std::vector<double> &x, const array &weight,
                                       const array *bias)
{
    std::vector<double> y(weight.count / x.size());
    for (size_t o = 0; o < y.size(); o++) {
        y[o] = bias ? bias->host[o] : 0;
        for (size_t i = 0; i < x.size(); i++) {
            y[o] += x[i] * weight.host[o * x.size() + i];
        }
    }
    return y;
}

/* Scales and shifts of the norm of the operand and of that of the result. */
struct norms {
    array in_scale, in_shift, out_scale, out_shift;

    norms(size_t in, size_t out)
        : in_scale(VT_F32, in, 0.5f, 1.0f), in_shift(VT_F32, in),
          out_scale(VT_F32, out, 0.5f, 1.0f), out_shift(VT_F32, out)
    {
    }
};

/* Row r as a product takes it. */
static std::vector<double> operand_row(const array &src, size_t r, size_t cols, bool norm,
                                       const norms &n)
{
    std::vector<double> x(src.host.begin() + (ptrdiff_t)(r * cols),
                          src.host.begin() + (ptrdiff_t)((r + 1) * cols));
    if (norm) {
        norm_row(x, &n.in_scale, &n.in_shift, 1e-5f, x.data());
    }
    for (double &v : x) {
        v = rounded(src.dtype, v);
    }
    return x;
}

/* What both products are told alike. */
template <typename product, typename product_case>
static product product_of(const product_case &k, const array &src, const array &dst, const norms &n)
{
    product a = {};
    a.src = src.data();
    a.dst = dst.data();
    a.dtype = src.dtype;
    a.rows = k.rows;
    a.cols = k.cols;
    a.in_scale = n.in_scale.floats();
    a.in_shift = n.in_shift.floats();
    a.out_scale = n.out_scale.floats();
    a.out_shift = n.out_shift.floats();
    a.in_eps = k.norm_in ? 1e-5f : -1.0f;
    a.out_eps = k.norm_out ? 1e-5f : -1.0f;
    a.act = k.act;
    return a;
}

struct mlp_case {
    int64_t rows, cols, hidden;
    vt_activation act;
    bool norm_in, norm_out, bias;
    int residual; /* 0 none, 1 src, 2 another map */
    float centre, spread;
};

static void check_mlp_case(const mlp_case &k, vt_dtype t)
{
    size_t cols = (size_t)k.cols, hidden = (size_t)k.hidden;
    size_t rows = (size_t)k.rows, distinct = std::min(rows, PERIOD);
    array src(t, rows * cols, k.spread, k.centre), other(t, rows * cols), dst(t, rows * cols);
    array up(t, hidden * cols, 1 / sqrtf((float)cols)),
        down(t, cols * hidden, 1 / sqrtf((float)hidden));
    array up_bias(VT_F32, hidden), down_bias(VT_F32, cols);
    norms n(cols, cols);
    std::vector<double> want(dst.count);
    repeat_rows(src, cols);
    repeat_rows(other, cols);
    for (size_t r = 0; r < distinct; r++) {
        std::vector<double> x = operand_row(src, r, cols, k.norm_in, n);
        std::vector<double> h = product_row(x, up, k.bias ? &up_bias : NULL);
        for (double &v : h) {
            v = rounded(t, activation(k.act, v));
        }
        std::vector<double> y = product_row(h, down, k.bias ? &down_bias : NULL);
        if (k.norm_out) {
            norm_row(y, &n.out_scale, &n.out_shift, 1e-5f, y.data());
        }
        for (size_t c = 0; c < cols; c++) {
            size_t i = r * cols + c;
            y[c] += k.residual == 1 ? src.host[i] : k.residual == 2 ? other.host[i] : 0;
        }
        repeat_result(want, r, y);
    }
    vt_cuda_mlp a = product_of<vt_cuda_mlp>(k, src, dst, n);
    a.residual = k.residual == 1 ? src.data() : k.residual == 2 ? other.data() : NULL;
    a.up = up.data();
    a.down = down.data();
    a.hidden = k.hidden;
    a.up_bias = k.bias ? up_bias.floats() : NULL;
    a.down_bias = k.bias ? down_bias.floats() : NULL;
    snprintf(label, sizeof label, "mlp %lld x %lld, %lld %s act %d norms %d%d res %d mean %g",
             (long long)k.rows, (long long)k.cols, (long long)k.hidden, name_of(t), k.act,
             k.norm_in, k.norm_out, k.residual, (double)k.centre);
    dst.poison();
    check(label, vt_cuda_mlp_rows(&a, 0), dst, want, tolerance_of(t, t));
}

static void check_mlp(void)
{
    static const vt_activation NONE = VT_ACT_NONE, GELU = VT_ACT_GELU, TANH = VT_ACT_GELU_TANH;
    static const mlp_case cases[] = {{128, 96, 384, NONE, false, false, false, 0, 0, 1},
                                     {128, 96, 64, GELU, false, false, true, 0, 0, 1},
                                     {1, 96, 384, GELU, true, false, true, 1, 0, 1},
                                     {130, 96, 384, GELU, true, false, true, 1, 0.5f, 2},
                                     {45067, 96, 384, GELU, true, false, true, 1, 0, 1},
                                     {45067, 96, 384, TANH, false, true, true, 2, 0, 1},
                                     {1000, 96, 128, VT_ACT_SILU, true, true, false, 0, 0, 1},
                                     {333, 96, 768, VT_ACT_RELU, true, false, true, 2, 0, 1},
                                     {777, 64, 256, GELU, true, false, true, 1, 0, 1},
                                     {40001, 64, 192, VT_ACT_RELU, false, true, true, 1, 0, 1},
                                     {500, 128, 512, GELU, true, false, true, 1, 0, 1},
                                     {52001, 128, 512, VT_ACT_SILU, true, false, true, 2, 0, 1},
                                     {300, 192, 768, GELU, true, false, true, 1, 0, 1},
                                     {51003, 192, 768, TANH, true, false, true, 1, 0, 1},
                                     {191, 192, 64, GELU, false, true, false, 1, 0, 1},
                                     {257, 256, 1024, GELU, true, false, true, 1, 0, 1},
                                     {50011, 256, 1024, GELU, false, true, true, 1, 0, 1},
                                     {640, 256, 128, NONE, true, true, true, 2, 0, 1},
                                     {200, 96, 384, GELU, true, false, true, 1, 30, 1.5f},
                                     {200, 192, 768, GELU, true, false, true, 2, -30, 1.5f},
                                     {200, 256, 512, GELU, true, false, true, 0, 30, 1.5f},
                                     {150, 96, 384, GELU, false, false, true, 1, 0, 300},
                                     {150, 192, 384, VT_ACT_SILU, false, false, true, 1, 0, 300},
                                     {150, 256, 384, TANH, true, false, true, 1, 0, 300}};
    if (!vt_cuda_has_wgmma(0)) {
        printf("mlp: not for this GPU\n");
        return;
    }
    for (auto &k : cases) {
        check_mlp_case(k, VT_F16);
        check_mlp_case(k, VT_BF16);
    }
}

static void check_linear_case(const linear_case &k, vt_dtype t)
{
    size_t depth = (size_t)k.depth, cols = (size_t)k.cols;
    size_t rows = (size_t)k.rows, distinct = std::min(rows, PERIOD);
    array src(t, rows * depth, k.spread, k.centre), other(t, rows * cols), dst(t, rows * cols);
    array weight(t, cols * depth, 1 / sqrtf((float)depth)), bias(VT_F32, cols);
    norms n(depth, cols);
    std::vector<double> want(dst.count);
    repeat_rows(src, depth);
    repeat_rows(other, cols);
    for (size_t r = 0; r < distinct; r++) {
        std::vector<double> x = operand_row(src, r, depth, k.norm_in, n);
        std::vector<double> y = product_row(x, weight, k.bias ? &bias : NULL);
        for (double &v : y) {
            v = activation(k.act, v);
        }
        if (k.norm_out) {
            norm_row(y, &n.out_scale, &n.out_shift, 1e-5f, y.data());
        }
        for (size_t c = 0; c < cols; c++) {
            size_t i = r * cols + c;
            y[c] = k.residual == 3 ? y[c] * other.host[i] : y[c] + (k.residual ? other.host[i] : 0);
        }
        repeat_result(want, r, y);
    }
    vt_cuda_linear a = product_of<vt_cuda_linear>(k, src, dst, n);
    a.residual = k.residual == 2 ? dst.data() : k.residual ? other.data() : NULL;
    a.gated = k.residual == 3;
    a.weight = weight.data();
    a.depth = k.depth;
    a.bias = k.bias ? bias.floats() : NULL;
    snprintf(label, sizeof label, "linear %lld x %lld to %lld %s act %d norms %d%d res %d mean %g",
             (long long)k.rows, (long long)k.depth, (long long)k.cols, name_of(t), k.act, k.norm_in,
             k.norm_out, k.residual, (double)k.centre);
    dst.poison();
    if (k.residual == 2) {
        must(cudaMemcpy(dst.data(), other.data(), dst.count * size_of(t), cudaMemcpyDeviceToDevice),
             "copy");
    }
    check(label, vt_cuda_linear_rows(&a, 0), dst, want, tolerance_of(t, t));
}

static void check_linear(void)
{
    static const vt_activation NONE = VT_ACT_NONE, GELU = VT_ACT_GELU, TANH = VT_ACT_GELU_TANH;
    static const linear_case cases[] = {{128, 64, 128, NONE, false, false, false, 0, 0, 1},
                                        {1, 96, 288, NONE, true, false, true, 0, 0, 1},
                                        {130, 96, 288, NONE, true, false, true, 1, 0.5f, 2},
                                        {40007, 96, 288, NONE, true, false, true, 0, 0, 1},
                                        {20001, 48, 96, NONE, false, true, true, 0, 0, 1},
                                        {777, 48, 128, GELU, false, true, true, 1, 0, 1},
                                        {33001, 96, 96, NONE, false, false, true, 2, 0, 1},
                                        {5000, 112, 576, TANH, true, false, true, 0, 0, 1},
                                        {300, 16, 40, VT_ACT_SILU, true, false, true, 1, 0, 1},
                                        {20011, 128, 384, VT_ACT_RELU, true, false, false, 1, 0, 1},
                                        {6001, 128, 384, NONE, false, false, true, 1, 0, 1},
                                        {40003, 64, 64, NONE, false, false, true, 3, 0, 1},
                                        {7001, 128, 128, GELU, true, false, true, 3, 0, 1},
                                        {9001, 80, 1024, GELU, true, false, true, 0, 0, 1},
                                        {3000, 128, 520, GELU, true, false, true, 2, 0, 1},
                                        {200, 96, 96, NONE, true, true, true, 1, 30, 1.5f},
                                        {200, 128, 200, NONE, true, false, true, 0, -30, 1.5f},
                                        {200, 128, 200, NONE, false, false, true, 0, 0, 300}};
    if (!vt_cuda_has_wgmma(0)) {
        printf("linear: not for this GPU\n");
        return;
    }
    for (auto &k : cases) {
        check_linear_case(k, VT_F16);
        check_linear_case(k, VT_BF16);
    }
}

void check_products(void)
{
    check_linear();
    check_mlp();
    printf("%s: %d failed\n", failures ? "FAIL" : "all checks pass", failures);
}
