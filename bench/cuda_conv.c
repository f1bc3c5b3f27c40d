/* SPDX-License-Identifier: Apache-2.0 */
/* Dense convolutions on the GPU: every implementation that takes the shape, f16 with bias, median
 * time of a replayed graph. Build (after `make lib`) and run:
 *   gcc -O2 -fopenmp -Iinclude -Isrc -D_GNU_SOURCE bench/cuda_conv.c build/release/libvertebra.a \
 *       -o build/cuda_conv -ljansson -lz -lm
 *   build/cuda_conv [bf16 | f32] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "ops/plan.h"

typedef struct layer {
    const char *of;
    int size, in, kernel, stride, pad_before, pad_after, out;
    vt_activation act;
    int groups;
} layer;

static const layer layers[] = {
    {"MaxViT-T stem 1", 224, 3, 3, 2, 0, 1, 64, VT_ACT_GELU_TANH, 1},
    {"MaxViT-T stem 2", 112, 64, 3, 1, 1, 1, 64, VT_ACT_NONE, 1},
    {"DaViT-T stem", 224, 3, 7, 4, 3, 3, 96, VT_ACT_NONE, 1},
    {"VAN-B1 stem", 224, 3, 7, 4, 3, 3, 64, VT_ACT_NONE, 1},
    {"VAN-B1 patch 2", 56, 64, 3, 2, 1, 1, 128, VT_ACT_NONE, 1},
    {"VAN-B1 patch 3", 28, 128, 3, 2, 1, 1, 320, VT_ACT_NONE, 1},
    {"VAN-B1 patch 4", 14, 320, 3, 2, 1, 1, 512, VT_ACT_NONE, 1},
    {"NAT-T stem 1", 224, 3, 3, 2, 1, 1, 32, VT_ACT_NONE, 1},
    {"NAT-T stem 2", 112, 32, 3, 2, 1, 1, 64, VT_ACT_NONE, 1},
    {"L2ViT-T stem 1", 224, 3, 3, 2, 1, 1, 48, VT_ACT_RELU, 1},
    {"L2ViT-T stem 2", 112, 48, 3, 2, 1, 1, 96, VT_ACT_NONE, 1},
    {"HaloNet-26t stem 1", 256, 3, 3, 2, 1, 1, 24, VT_ACT_RELU, 1},
    {"HaloNet-26t stem 2", 128, 24, 3, 1, 1, 1, 32, VT_ACT_RELU, 1},
    {"HaloNet-26t stem 3", 128, 32, 3, 1, 1, 1, 64, VT_ACT_RELU, 1},
    {"HaloNet-26t stage 1", 64, 64, 3, 1, 1, 1, 64, VT_ACT_RELU, 1},
    {"HaloNet-26t stage 2", 64, 256, 1, 2, 0, 0, 512, VT_ACT_NONE, 1},
    {"ECA-HaloNeXt-26ts", 64, 64, 3, 1, 1, 1, 64, VT_ACT_SILU, 4},
    {"padded on one side", 56, 64, 3, 2, 0, 1, 128, VT_ACT_NONE, 1},
};
static const int batches[] = {1, 64};
enum {
    LAYERS = sizeof layers / sizeof *layers,
    BATCHES = 2,
    RUNS = 21,
    LARGEST = 64 * 128 * 128 * 64
};

/* Operations beyond which the plain kernel is not waited for. */
static const double too_many = 4e9;

static vt_error error;
static vt_context *context;
static float *noise; /* small numbers of both signs */

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, error.message);
        exit(1);
    }
}

static vt_status read_noise(void *cols, int64_t first, int64_t count, float *out, vt_error *e)
{
    (void)e;
    int64_t width = *(const int64_t *)cols;
    memcpy(out, noise + first * width, (size_t)(count * width) * sizeof *out);
    return VT_OK;
}

static vt_weight_data pack(const vt_backend *gpu, vt_weight_use use, int64_t rows, int64_t cols,
                           vt_dtype dtype)
{
    vt_weight_data w = {.rows = rows, .cols = cols, .dtype = dtype};
    vt_row_source source = {read_noise, &cols};
    must(gpu->pack(gpu, vt_context_allocator(context), use, &source, &w, &error) == VT_OK, "pack");
    return w;
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds, median of RUNS. */
static double time_impl(const vt_backend *gpu, void *stream, const vt_plan_input *in,
                        const vt_program *p, const vt_weight_data *weights, void *const *maps,
                        const vt_impl *impl)
{
    const vt_allocator *allocator = vt_context_allocator(context);
    const vt_device_ops *device = gpu->device;
    void *choice = NULL, *replay = NULL;
    double seconds[RUNS];
    must(!impl->choose || impl->choose(in, p->records, allocator, &choice, &error) == VT_OK,
         impl->name);
    void *scratch = device->alloc(gpu, impl->scratch ? impl->scratch(in, p->records) : 0);
    must(scratch != NULL, "scratch");
    vt_plan plan = {.program = *p, .impls = &impl, .choices = &choice};
    vt_exec exec = {.backend = gpu,
                    .program = p,
                    .weights = weights,
                    .maps = maps,
                    .scratch = scratch,
                    .threads = 1,
                    .stream = stream,
                    .error = &error};
    for (int i = -3; i < RUNS; i++) {
        double t;
        must(device->run(gpu, &plan, &exec, &replay, &error) == VT_OK &&
                 device->elapsed(gpu, stream, &t, &error) == VT_OK,
             impl->name);
        seconds[i < 0 ? 0 : i] = t;
    }
    qsort(seconds, RUNS, sizeof *seconds, by_time);
    device->drop(gpu, stream, replay);
    device->release(gpu, scratch);
    vt_free(allocator, choice);
    return seconds[RUNS / 2];
}

static void bench(const vt_backend *gpu, void *stream, const layer *l, int batch, vt_dtype dtype)
{
    const vt_device_ops *device = gpu->device;
    vt_program p;
    int64_t depth = (int64_t)l->kernel * l->kernel * l->in / l->groups;
    vt_weight_shape shapes[] = {{"none", 0, 0}, {"w", l->out, depth}, {"b", 1, l->out}};
    vt_program_init(&p, vt_context_allocator(context));
    vt_builder b = {.program = &p, .weights = shapes, .weight_count = 3};
    must(vt_builder_input(&b, (vt_shape){batch, l->size, l->size, l->in}), "input");
    vt_conv2d c = {.weight = {1},
                   .bias = {2},
                   .kernel_h = l->kernel,
                   .kernel_w = l->kernel,
                   .stride_h = l->stride,
                   .stride_w = l->stride,
                   .dilation_h = 1,
                   .dilation_w = 1,
                   .pad_top = l->pad_before,
                   .pad_left = l->pad_before,
                   .pad_bottom = l->pad_after,
                   .pad_right = l->pad_after,
                   .act = l->act,
                   .groups = l->groups};
    vt_value dst = vt_op_conv2d(&b, p.input, &c);
    must(b.status == VT_OK, b.error.message);
    vt_shape d = p.maps[dst.id].shape;
    p.maps[0].dtype = l->in == 3 ? VT_F32 : dtype; /* pictures are staged so */
    p.maps[1].dtype = dtype;
    vt_weight_data weights[3] = {{0},
                                 pack(gpu, l->groups > 1 ? VT_USE_VECTOR : VT_USE_MATRIX, l->out,
                                      depth, l->groups > 1 ? VT_F32 : dtype),
                                 pack(gpu, VT_USE_VECTOR, 1, l->out, VT_F32)};
    size_t pixels = (size_t)batch * (size_t)l->size * (size_t)l->size;
    void *maps[] = {device->alloc(gpu, pixels * (size_t)l->in * 4),
                    device->alloc(gpu, (size_t)(d.n * d.h * d.w * d.c) * 4)};
    must(maps[0] && maps[1], "memory");
    vt_tensor picture = vt_tensor_nchw(noise, VT_F32, batch, l->in, l->size, l->size);
    must(device->stage(gpu, stream, &picture, &p.maps[0], maps[0], &error) == VT_OK, "input");
    vt_plan_input in = {gpu, &p, shapes, dtype, 1, false};
    double flops = 2.0 * (double)(d.n * d.h * d.w * d.c) * (double)depth;
    printf("%-20s %3d %3dx%3dx%-3d %dx%d/%d %4lld", l->of, batch, l->size, l->size, l->in,
           l->kernel, l->kernel, l->stride, (long long)d.c);
    for (const vt_impl *const *i = gpu->impls[VT_OP_CONV2D]; *i; i++) {
        const char *why = (*i)->refuse ? (*i)->refuse(&in, p.records) : NULL;
        if (why || (!(*i)->refuse && flops > too_many)) {
            continue;
        }
        double s = time_impl(gpu, stream, &in, &p, weights, maps, *i);
        printf("  %s %7.1f us %6.1f TFLOP/s", (*i)->name, 1e6 * s, 1e-12 * flops / s);
    }
    printf("\n");
    for (int i = 0; i < 2; i++) {
        device->release(gpu, maps[i]);
        device->release(gpu, weights[1 + i].data);
    }
    vt_program_clear(&p);
}

int main(int argc, char **argv)
{
    void *stream;
    vt_context_settings settings = vt_context_settings_default();
    settings.device = "cuda";
    vt_dtype dtype = argc < 2 ? VT_F16 : strcmp(argv[1], "bf16") == 0 ? VT_BF16 : VT_F32;
    must(vt_context_create(&context, &settings, &error) == VT_OK, "cuda");
    const vt_backend *gpu = vt_context_backend(context);
    must(gpu->device->open(gpu, &stream, &error) == VT_OK, "stream");
    noise = malloc(sizeof *noise * LARGEST);
    must(noise != NULL, "memory");
    for (int i = 0; i < LARGEST; i++) {
        noise[i] = (float)(i * 2654435761u >> 20) / 4096.0f - 0.5f;
    }
    printf("%s, %s\n", gpu->name, vt_dtype_name(dtype));
    for (int i = 0; i < LAYERS * BATCHES; i++) {
        bench(gpu, stream, &layers[i / BATCHES], batches[i % BATCHES], dtype);
    }
    gpu->device->close(gpu, stream);
    vt_context_destroy(&context);
    free(noise);
    return 0;
}
