/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of bench/cuda_kernels, but for the products of a warpgroup
 * (cuda_kernels_check_products.cu). */
#include "cuda_kernels_check.cuh"

static const vt_dtype TYPES[] = {VT_F32, VT_BF16, VT_F16};

static void check_norm(void)
{
    static const struct {
        int64_t rows, cols;
        float centre;
        bool affine;
        int residual; /* 0 none, 1 separate, 2 in place of dst */
    } cases[] = {{1, 1, 0, true, 0},    {5, 37, 0, true, 1},    {3, 16, 0, false, 0},
                 {67, 96, 0, true, 0},  {33, 96, 0, true, 2},   {129, 192, 30, true, 1},
                 {31, 384, 0, true, 1}, {17, 768, 0, true, 0},  {9, 1536, 0, true, 1},
                 {5, 3072, 0, true, 0}, {3, 4096, 0, true, 1},  {3, 4104, 0, true, 1},
                 {7, 1000, 0, true, 0}, {40, 128, 0, false, 1}, {1000, 8, 0, true, 0},
                 {13, 100, 0, true, 0}};
    for (auto &k : cases) {
        for (vt_dtype s : TYPES) {
            for (vt_dtype d : TYPES) {
                vt_dtype r = k.residual == 2 ? d : TYPES[(s + d + 1) % 3];
                size_t count = (size_t)(k.rows * k.cols);
                array src(s, count, 1.5f, s == VT_F32 ? 1000 * k.centre / 30 : k.centre);
                array residual(r, count), dst(d, count);
                array scale(VT_F32, (size_t)k.cols), shift(VT_F32, (size_t)k.cols);
                std::vector<double> want(count);
                for (int64_t i = 0; i < k.rows; i++) {
                    std::vector<double> row(src.host.begin() + i * k.cols,
                                            src.host.begin() + (i + 1) * k.cols);
                    norm_row(row, k.affine ? &scale : NULL, k.affine ? &shift : NULL, 1e-5f,
                             &want[(size_t)(i * k.cols)]);
                }
                for (size_t i = 0; k.residual && i < count; i++) {
                    want[i] += residual.host[i];
                }
                dst.poison();
                if (k.residual == 2) {
                    must(cudaMemcpy(dst.data(), residual.data(), count * size_of(d),
                                    cudaMemcpyDeviceToDevice),
                         "copy");
                }
                const void *added = k.residual == 2 ? dst.data() : residual.data();
                const float *a1 = k.affine ? scale.floats() : NULL;
                const float *a0 = k.affine ? shift.floats() : NULL;
                vt_cuda_norm a = {src.data(), k.residual ? added : NULL,
                                  dst.data(), s,
                                  r,          d,
                                  k.rows,     k.cols,
                                  a1,         a0,
                                  1e-5f};
                snprintf(label, sizeof label, "norm %lld x %lld %s to %s residual %d",
                         (long long)k.rows, (long long)k.cols, name_of(s), name_of(d), k.residual);
                double slack = s == VT_F32 && k.centre > 0 ? 2e-4 : 0; /* mean 1000 in f32 */
                check(label, vt_cuda_norm_rows(&a, 0), dst, want, tolerance_of(r, d) + slack);
            }
        }
    }
}

static void check_patches(void)
{
    static const struct {
        vt_shape shape;
        int patch;
        bool norm;
    } cases[] = {{{2, 8, 12, 3}, 4, false},  {{1, 9, 13, 3}, 4, false}, {{2, 8, 12, 3}, 4, true},
                 {{1, 7, 5, 96}, 2, true},   {{2, 6, 8, 96}, 2, false}, {{1, 5, 5, 384}, 2, true},
                 {{1, 3, 5, 768}, 2, true},  {{3, 7, 9, 5}, 2, true},   {{1, 1, 1, 8}, 2, true},
                 {{1, 11, 7, 16}, 3, false}, {{1, 4, 5, 20}, 2, false}, {{2, 6, 4, 128}, 2, true}};
    for (auto &k : cases) {
        for (vt_dtype s : TYPES) {
            for (vt_dtype d : TYPES) {
                vt_shape m = k.shape;
                int64_t oh = (m.h + k.patch - 1) / k.patch, ow = (m.w + k.patch - 1) / k.patch;
                size_t cols = (size_t)(k.patch * k.patch * m.c), rows = (size_t)(m.n * oh * ow);
                array src(s, (size_t)(m.n * m.h * m.w * m.c)), dst(d, rows * cols);
                array scale(VT_F32, cols), shift(VT_F32, cols);
                std::vector<double> want(rows * cols), row(cols);
                for (size_t i = 0; i < rows; i++) {
                    int64_t x = (int64_t)i % ow, y = (int64_t)i / ow % oh, n = (int64_t)i / ow / oh;
                    for (size_t e = 0; e < cols; e++) {
                        int64_t c = (int64_t)e % m.c, dx = (int64_t)e / m.c % k.patch;
                        int64_t sy = y * k.patch + (int64_t)e / m.c / k.patch,
                                sx = x * k.patch + dx;
                        row[e] = sy < m.h && sx < m.w
                                     ? src.host[(size_t)(((n * m.h + sy) * m.w + sx) * m.c + c)]
                                     : 0;
                    }
                    std::copy(row.begin(), row.end(), &want[i * cols]);
                    if (k.norm) {
                        norm_row(row, &scale, &shift, 1e-5f, &want[i * cols]);
                    }
                }
                dst.poison();
                vt_cuda_patches a = {src.data(),
                                     dst.data(),
                                     s,
                                     d,
                                     m,
                                     k.patch,
                                     k.norm ? scale.floats() : NULL,
                                     k.norm ? shift.floats() : NULL,
                                     k.norm ? 1e-5f : -1.0f};
                snprintf(label, sizeof label, "patches %lldx%lldx%lldx%lld / %d %s to %s norm %d",
                         (long long)m.n, (long long)m.h, (long long)m.w, (long long)m.c, k.patch,
                         name_of(s), name_of(d), k.norm);
                check(label, vt_cuda_gather_patches(&a, 0), dst, want, tolerance_of(VT_F32, d));
            }
        }
    }
}

static void check_finish(void)
{
    static const int64_t shapes[][2] = {{1, 1}, {3, 37}, {7, 96}, {129, 384}, {5, 1000}};
    for (auto &shape : shapes) {
        for (vt_dtype s : TYPES) {
            for (vt_dtype d : TYPES) {
                for (int act = VT_ACT_NONE; act <= VT_ACT_RELU; act++) {
                    bool with_residual = (act + s + d) % 2, with_bias = (act + s) % 3;
                    vt_dtype r = TYPES[(s + act) % 3];
                    size_t count = (size_t)(shape[0] * shape[1]);
                    array src(s, count, 2.0f), residual(r, count), dst(d, count);
                    array bias(VT_F32, (size_t)shape[1]);
                    std::vector<double> want(count);
                    for (size_t i = 0; i < count; i++) {
                        float b = with_bias ? bias.host[i % (size_t)shape[1]] : 0;
                        want[i] = activation((vt_activation)act, (double)src.host[i] + b) +
                                  (with_residual ? residual.host[i] : 0);
                    }
                    dst.poison();
                    vt_cuda_finish a = {src.data(),
                                        with_residual ? residual.data() : NULL,
                                        dst.data(),
                                        s,
                                        r,
                                        d,
                                        shape[0],
                                        shape[1],
                                        with_bias ? bias.floats() : NULL,
                                        (vt_activation)act};
                    snprintf(label, sizeof label, "finish %lld x %lld %s to %s act %d residual %d",
                             (long long)shape[0], (long long)shape[1], name_of(s), name_of(d), act,
                             with_residual);
                    check(label, vt_cuda_finish_rows(&a, 0), dst, want, tolerance_of(VT_F32, d));
                }
            }
        }
    }
}

static void check_pool(void)
{
    static const vt_shape shapes[] = {
        {1, 1, 1, 1}, {3, 7, 7, 768}, {2, 5, 9, 37}, {1, 13, 11, 136}};
    for (auto &m : shapes) {
        for (vt_dtype s : TYPES) {
            for (vt_dtype d : TYPES) {
                size_t pixels = (size_t)(m.h * m.w), c = (size_t)m.c;
                array src(s, (size_t)m.n * pixels * c, 1.0f, 2.0f), dst(d, (size_t)m.n * c);
                std::vector<double> want((size_t)m.n * c);
                for (size_t i = 0; i < src.count; i++) {
                    want[i / (pixels * c) * c + i % c] += src.host[i] / (double)pixels;
                }
                dst.poison();
                vt_cuda_mean a = {src.data(), dst.data(), s, d, m};
                snprintf(label, sizeof label, "mean %lldx%lldx%lldx%lld %s to %s", (long long)m.n,
                         (long long)m.h, (long long)m.w, (long long)m.c, name_of(s), name_of(d));
                check(label, vt_cuda_mean_pool(&a, 0), dst, want, tolerance_of(VT_F32, d));
            }
        }
    }
}

static void check_layout(void)
{
    static const struct {
        vt_shape m;
        int order, gap; /* 0 NCHW, 1 NHWC, 2 flipped rows; elements between lines */
    } cases[] = {{{2, 5, 16, 3}, 0, 0}, {{1, 7, 9, 3}, 0, 0},  {{2, 3, 8, 3}, 1, 0},
                 {{1, 4, 8, 1}, 0, 4},  {{2, 4, 24, 4}, 0, 8}, {{2, 6, 8, 3}, 2, 0},
                 {{1, 3, 5, 40}, 0, 0}, {{1, 2, 8, 2}, 0, 3}};
    for (auto &k : cases) {
        for (vt_dtype d : TYPES) {
            vt_shape m = k.m;
            int64_t line = k.order == 1 ? m.w * m.c + k.gap : m.w + k.gap;
            int64_t plane = k.order == 1 ? 1 : m.h * line;
            int64_t image = k.order == 1 ? m.h * line : m.c * plane;
            array src(VT_F32, (size_t)(m.n * image)), dst(d, (size_t)(m.n * m.h * m.w * m.c));
            int64_t base = k.order == 2 ? (m.h - 1) * line : 0;
            vt_cuda_layout a = {
                src.floats() + base,    dst.data(), d, m, image, k.order == 2 ? -line : line,
                k.order == 1 ? m.c : 1, plane};
            std::vector<double> want(dst.count);
            size_t i = 0;
            for (int64_t n = 0; n < m.n; n++) {
                for (int64_t y = 0; y < m.h; y++) {
                    for (int64_t x = 0; x < m.w; x++) {
                        for (int64_t c = 0; c < m.c; c++) {
                            want[i++] = src.host[(size_t)(base + n * a.stride_n + y * a.stride_h +
                                                          x * a.stride_w + c * a.stride_c)];
                        }
                    }
                }
            }
            dst.poison();
            snprintf(label, sizeof label, "layout %lldx%lldx%lldx%lld order %d to %s",
                     (long long)m.n, (long long)m.h, (long long)m.w, (long long)m.c, k.order,
                     name_of(d));
            check(label, vt_cuda_to_nhwc(&a, 0), dst, want, tolerance_of(VT_F32, d));
        }
    }
}

/* The variants of a linear map of one shape. */
struct small_case {
    int64_t rows;
    int depth, cols;
    float spread, centre; /* of the rows */
};

/* One linear map with all its operands, and sums[norm] = weight (norm of) rows. */
struct small_data {
    small_case k;
    array src, weight, residual, bias, scale, shift;
    std::vector<double> sums[2];

    small_data(const small_case &c, vt_dtype t)
        : k(c), src(t, (size_t)(c.rows * c.depth), c.spread, c.centre),
          weight(t, (size_t)(c.cols * c.depth), 1.0f / sqrtf((float)c.depth)),
          residual(t, (size_t)(c.rows * c.cols)), bias(VT_F32, (size_t)c.cols),
          scale(VT_F32, (size_t)c.depth), shift(VT_F32, (size_t)c.depth)
    {
        std::vector<double> row((size_t)c.depth), normed(row.size());
        for (int norm = 0; norm < 2; norm++) {
            for (int64_t i = 0; i < c.rows; i++) {
                row.assign(src.host.begin() + i * c.depth, src.host.begin() + (i + 1) * c.depth);
                norm_row(row, &scale, &shift, 1e-5f, normed.data());
                const double *x = norm ? normed.data() : row.data();
                for (int o = 0; o < c.cols; o++) {
                    double sum = 0;
                    const float *w = &weight.host[(size_t)o * row.size()];
                    for (int e = 0; e < c.depth; e++) {
                        sum += x[e] * w[e];
                    }
                    sums[norm].push_back(sum);
                }
            }
        }
    }
};

/* bits: 1 norm, 2 bias, 4 residual */
static void check_small_one(const small_data &l, vt_dtype t, vt_dtype d, int bits,
                            vt_activation act, int tile_rows, int tile_cols, int split)
{
    bool norm = bits & 1;
    array dst(d, (size_t)(l.k.rows * l.k.cols));
    std::vector<double> want(dst.count);
    for (size_t i = 0; i < want.size(); i++) {
        double x = l.sums[norm][i] + (bits & 2 ? l.bias.host[i % (size_t)l.k.cols] : 0);
        want[i] = activation(act, x) + (bits & 4 ? l.residual.host[i] : 0);
    }
    dst.poison();
    vt_cuda_linear_small a = {};
    a.src = l.src.data();
    a.weight = l.weight.data();
    a.residual = bits & 4 ? l.residual.data() : NULL;
    a.dst = dst.data();
    a.dtype = t;
    a.dst_dtype = d;
    a.rows = l.k.rows;
    a.depth = l.k.depth;
    a.cols = l.k.cols;
    a.bias = bits & 2 ? l.bias.floats() : NULL;
    a.scale = norm ? l.scale.floats() : NULL;
    a.shift = norm ? l.shift.floats() : NULL;
    a.eps = norm ? 1e-5f : -1.0f;
    a.act = act;
    a.tile_rows = tile_rows;
    a.tile_cols = tile_cols;
    a.split = split;
    if (vt_cuda_linear_small_refuse(&a)) {
        bool expected = l.k.cols % 8 || l.k.depth % 16 || (norm && l.k.depth > 1024) || tile_rows;
        failures += !expected;
        return;
    }
    snprintf(label, sizeof label, "small %lld x %d x %d %s to %s bits %d act %d tile %dx%d/%d",
             (long long)l.k.rows, l.k.depth, l.k.cols, name_of(t), name_of(d), bits, act, tile_rows,
             tile_cols, split);
    check(label, vt_cuda_linear_small_run(&a, 0), dst, want, tolerance_of(t, t));
}

static void check_small(void)
{
    static const small_case cases[] = {
        {1, 768, 1000, 1, 0},   {7, 96, 96, 1, 30},      {49, 768, 72, 1, 30},
        {49, 3072, 40, 300, 0}, {196, 384, 136, 300, 0}, {3136, 96, 40, 1, 30},
        {65, 16, 8, 1, 0},      {33, 112, 200, 1, -30},  {129, 208, 264, 30, 100},
        {5, 100, 32, 1, 0},     {5, 96, 33, 1, 0},       {49, 512, 64, 1, 0},
        {66, 1024, 48, 1, 0},   {300, 128, 72, 1e3f, 0}, {10, 640, 104, 1, 1}};
    for (auto &k : cases) {
        for (vt_dtype t : {VT_BF16, VT_F16}) {
            small_data l(k, t);
            for (int bits = 0; bits < 8; bits++) {
                for (int act = VT_ACT_NONE; act <= VT_ACT_RELU; act++) {
                    check_small_one(l, t, (bits + act) % 4 == 3 ? VT_F32 : t, bits,
                                    (vt_activation)act, 0, 0, 0);
                }
            }
            for (int layout = 0; layout < 16; layout++) {
                int split = 1 << layout / 4, down = layout & 1 ? 64 : 32,
                    across = layout & 2 ? 64 : 32;
                check_small_one(l, t, t, 6, VT_ACT_GELU, down, across, split);
                check_small_one(l, t, t, 7, VT_ACT_NONE, down, across, split);
            }
        }
    }
}

/* The rule of src/ops/ref/attention.c in double. */
static int source_of(int size, int padded, int shift, vt_roll roll, int z)
{
    if (roll == VT_ROLL_MAP) {
        return z < size ? (z + shift) % size : -1;
    }
    int source = (z + shift) % padded;
    return source < size ? source : -1;
}
static int region_of(int padded, int window, int shift, int z)
{
    return shift == 0 || z >= padded - shift ? 2 : z >= padded - window ? 1 : 0;
}

struct attention_case {
    int n, h, w, heads, width, window_h, window_w, shift_h, shift_w;
    vt_roll roll;
    bool cosine, bias, pad;
};

/* want[pixel][head][c] from one map of [q | k | v] channels, as the device rounds it */
static void attention_reference(const attention_case &k, const array &map, const array &temperature,
                                const array &bias, const array &pad, std::vector<double> &want)
{
    int c3 = 3 * k.heads * k.width, c1 = k.heads * k.width, keys = k.window_h * k.window_w;
    int ph = (k.h + k.window_h - 1) / k.window_h * k.window_h;
    int pw = (k.w + k.window_w - 1) / k.window_w * k.window_w, tw = 2 * k.window_w - 1;
    std::vector<double> s((size_t)keys), o((size_t)k.width);
    auto element = [&](int n, int y, int x, int which, int head, int c) -> double {
        size_t channel = (size_t)(head * k.width + c);
        if (y < 0 || x < 0) {
            return k.pad ? pad.host[(size_t)(which - 1) * (size_t)c1 + channel] : 0.0;
        }
        return map
            .host[(size_t)((n * k.h + y) * k.w + x) * (size_t)c3 + (size_t)(which * c1) + channel];
    };
    for (int n = 0; n < k.n; n++) {
        for (int place = 0; place < ph * pw * k.heads; place++) {
            int head = place % k.heads, zx = place / k.heads % pw, zy = place / k.heads / pw;
            int y = source_of(k.h, ph, k.shift_h, k.roll, zy),
                x = source_of(k.w, pw, k.shift_w, k.roll, zx);
            if (y < 0 || x < 0) {
                continue;
            }
            double top = -1e300, total = 0;
            std::fill(o.begin(), o.end(), 0.0);
            for (int pass = 0; pass < 2; pass++) {
                for (int j = 0; j < keys; j++) {
                    int ky = zy - zy % k.window_h + j / k.window_w,
                        kx = zx - zx % k.window_w + j % k.window_w;
                    int sy = source_of(k.h, ph, k.shift_h, k.roll, ky);
                    int sx = source_of(k.w, pw, k.shift_w, k.roll, kx);
                    if (pass == 1) {
                        double weight = exp(s[(size_t)j] - top);
                        total += weight;
                        for (int c = 0; c < k.width; c++) {
                            o[(size_t)c] += weight * element(n, sy, sx, 2, head, c);
                        }
                        continue;
                    }
                    double dot = 0, qq = 0, kk = 0;
                    for (int c = 0; c < k.width; c++) {
                        double a = element(n, y, x, 0, head, c), b = element(n, sy, sx, 1, head, c);
                        dot += a * b;
                        qq += a * a;
                        kk += b * b;
                    }
                    double v = dot / sqrt((double)k.width);
                    if (k.cosine) {
                        v = exp(std::min((double)temperature.host[(size_t)head], log(100.0))) *
                            dot / (std::max(sqrt(qq), 1e-12) * std::max(sqrt(kk), 1e-12));
                    }
                    if (k.bias) {
                        v += bias.host[(size_t)(head * tw * (2 * k.window_h - 1) +
                                                (ky - zy + k.window_h - 1) * tw + kx - zx +
                                                k.window_w - 1)];
                    }
                    bool same = region_of(ph, k.window_h, k.shift_h, ky) ==
                                    region_of(ph, k.window_h, k.shift_h, zy) &&
                                region_of(pw, k.window_w, k.shift_w, kx) ==
                                    region_of(pw, k.window_w, k.shift_w, zx);
                    s[(size_t)j] = v + (same ? 0.0 : -100.0);
                    top = std::max(top, s[(size_t)j]);
                }
            }
            for (int c = 0; c < k.width; c++) {
                want[(size_t)((n * k.h + y) * k.w + x) * (size_t)c1 +
                     (size_t)(head * k.width + c)] = o[(size_t)c] / total;
            }
        }
    }
}

static void check_attention(void)
{
    static const vt_roll P = VT_ROLL_PADDED, M = VT_ROLL_MAP;
    static const attention_case cases[] = {{1, 1, 1, 1, 32, 1, 1, 0, 0, P, false, false, false},
                                           {2, 14, 14, 3, 32, 7, 7, 0, 0, P, false, true, false},
                                           {2, 14, 21, 3, 32, 7, 7, 3, 3, P, false, true, false},
                                           {1, 9, 17, 2, 32, 7, 7, 3, 3, P, false, true, true},
                                           {1, 9, 17, 2, 32, 7, 7, 3, 3, M, false, true, true},
                                           {1, 13, 11, 2, 32, 7, 7, 3, 0, M, true, true, true},
                                           {1, 16, 16, 2, 32, 8, 8, 4, 4, P, true, true, false},
                                           {3, 10, 9, 2, 32, 4, 4, 2, 2, P, false, false, true},
                                           {1, 6, 5, 3, 32, 3, 5, 1, 2, P, false, true, true},
                                           {1, 14, 15, 3, 16, 7, 7, 3, 3, P, false, true, true},
                                           {1, 14, 15, 3, 16, 8, 8, 3, 3, P, true, true, true},
                                           {1, 14, 15, 2, 64, 7, 7, 3, 3, P, false, true, true},
                                           {1, 16, 15, 2, 64, 8, 8, 4, 4, M, true, true, true},
                                           {1, 12, 24, 2, 32, 12, 12, 6, 6, P, false, true, false},
                                           {1, 25, 20, 1, 32, 14, 14, 7, 7, P, true, true, true},
                                           {1, 16, 16, 2, 32, 16, 16, 0, 0, P, true, true, false},
                                           {1, 20, 30, 1, 16, 24, 24, 12, 12, P, false, true, true},
                                           {1, 13, 13, 1, 64, 9, 11, 4, 5, M, false, true, true},
                                           {1, 7, 10, 2, 24, 7, 7, 3, 3, P, false, true, true},
                                           {1, 5, 9, 1, 100, 5, 3, 2, 1, P, true, true, true},
                                           {1, 13, 13, 1, 7, 9, 11, 4, 5, M, false, false, true}};
    for (auto &k : cases) {
        for (vt_dtype t : TYPES) {
            size_t c = (size_t)(k.heads * k.width), pixels = (size_t)(k.n * k.h * k.w);
            size_t table = (size_t)((2 * k.window_h - 1) * (2 * k.window_w - 1));
            array map(t, pixels * 3 * c), dst(t, pixels * c), pad(VT_F32, 2 * c);
            array temperature(VT_F32, (size_t)k.heads, 1.5f, 3.0f);
            array bias(VT_F32, (size_t)k.heads * table, 2.0f);
            std::vector<double> want(dst.count);
            attention_reference(k, map, temperature, bias, pad, want);
            vt_pattern pattern = {VT_PATTERN_WINDOW, k.window_h, k.window_w,
                                  k.shift_h,         k.shift_w,  k.roll};
            vt_shape shape = {k.n, k.h, k.w, (int64_t)c};
            vt_cuda_attention a = attention_of(t, map.data(), dst.data(), shape, k.heads, pattern);
            a.temperature = k.cosine ? temperature.floats() : NULL;
            a.bias = k.bias ? bias.floats() : NULL;
            a.pad_k = k.pad ? pad.floats() : NULL;
            a.pad_v = k.pad ? pad.floats() + c : NULL;
            for (int mma = 0; mma < 2; mma++) {
                const char *reason = mma ? vt_cuda_attention_mma_refuse(&a) : NULL;
                snprintf(
                    label, sizeof label,
                    "attention_%s %dx%dx%d heads %dx%d window %dx%d shift %d,%d roll %d cos %d %s",
                    mma ? "mma" : "plain", k.n, k.h, k.w, k.heads, k.width, k.window_h, k.window_w,
                    k.shift_h, k.shift_w, k.roll, k.cosine, name_of(t));
                if (reason) {
                    bool expected =
                        t == VT_F32 || (k.width != 16 && k.width != 32 && k.width != 64);
                    failures += !expected;
                    continue;
                }
                dst.poison();
                cudaError_t e = mma ? vt_cuda_attention_mma(&a, 0) : vt_cuda_attention_plain(&a, 0);
                check(label, e, dst, want, t == VT_F32 ? 2e-5 : 2 * tolerance_of(t, t));
            }
        }
    }
}

void check_kernels(void)
{
    check_norm();
    check_patches();
    check_finish();
    check_pool();
    check_layout();
    check_small();
    check_attention();
    check_products();
}
