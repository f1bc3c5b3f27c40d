/* SPDX-License-Identifier: Apache-2.0 */
/* The records that one kernel each serves. */
#include "cuda/cuda.h"

/* ---- norm
 * ----------------------------------------------------------------------------------------- */

static void norm_run(const vt_exec *exec, const vt_record *r)
{
    const vt_norm *p = &r->as.norm;
    vt_shape s = vt_exec_shape(exec, r->dst);
    vt_cuda_note(
        exec, r,
        vt_cuda_norm_rows(&(vt_cuda_norm){.src = vt_exec_map(exec, r->source[0]),
                                          .dst = vt_exec_map(exec, r->dst),
                                          .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                          .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                          .rows = s.n * s.h * s.w,
                                          .cols = s.c,
                                          .scale = vt_exec_vector(exec, p->scale),
                                          .shift = vt_exec_vector(exec, p->shift),
                                          .eps = p->eps},
                          vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_norm = {.name = "norm", .run = norm_run};

/* ---- attention
 * ------------------------------------------------------------------------------------ */

static const char *at_channel(const vt_exec *exec, const vt_heads *h)
{
    size_t size = vt_dtype_size(vt_map_dtype(exec->program, h->map));
    const char *map = exec->maps ? vt_exec_map(exec, h->map) : NULL;
    return map ? map + (size_t)h->offset * size : NULL;
}

/* exec->maps and exec->weights may be NULL: then only shapes and types are filled in. */
static vt_cuda_attention attention_args(const vt_exec *exec, const vt_record *r)
{
    const vt_attention *p = &r->as.attention;
    vt_shape q = vt_exec_shape(exec, p->q.map), k = vt_exec_shape(exec, p->k.map);
    vt_shape v = vt_exec_shape(exec, p->v.map), d = vt_exec_shape(exec, r->dst);
    const float *pad = exec->weights ? vt_exec_vector(exec, p->pad) : NULL;
    return (vt_cuda_attention){
        .q = at_channel(exec, &p->q),
        .k = at_channel(exec, &p->k),
        .v = at_channel(exec, &p->v),
        .dst = exec->maps ? vt_exec_map(exec, r->dst) : NULL,
        .dtype = vt_map_dtype(exec->program, p->q.map),
        .dst_dtype = vt_map_dtype(exec->program, r->dst),
        .n = q.n,
        .q_pixel = q.c,
        .k_pixel = k.c,
        .v_pixel = v.c,
        .dst_pixel = d.c,
        .h = (int)q.h,
        .w = (int)q.w,
        .heads = p->heads,
        .qk_width = p->q.width,
        .v_width = p->v.width,
        .scale = p->scale,
        .temperature = exec->weights ? vt_exec_vector(exec, p->temperature) : NULL,
        .bias = exec->weights ? vt_exec_vector(exec, p->bias) : NULL,
        .pad_k = pad ? pad + p->k.offset : NULL,
        .pad_v = pad ? pad + p->v.offset : NULL,
        .pattern = p->pattern,
    };
}

static const char *attention_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    vt_cuda_attention args = attention_args(&shapes, r);
    return vt_cuda_attention_mma_refuse(&args);
}

static void attention_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_attention args = attention_args(exec, r);
    vt_cuda_note(exec, r, vt_cuda_attention_mma(&args, vt_cuda_stream_of(exec)->stream));
}

static void attention_plain_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_attention args = attention_args(exec, r);
    vt_cuda_note(exec, r, vt_cuda_attention_plain(&args, vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_attention = {
    .name = "mma", .refuse = attention_refuse, .run = attention_run};
const vt_impl vt_impl_cuda_attention_plain = {.name = "plain", .run = attention_plain_run};

/* ---- add, space_to_depth, mean_pool, conv2d
 * ------------------------------------------------------- */

static void add_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst);
    vt_cuda_note(exec, r,
                 vt_cuda_finish_rows(
                     &(vt_cuda_finish){.src = vt_exec_map(exec, r->source[0]),
                                       .residual = vt_exec_map(exec, r->source[1]),
                                       .dst = vt_exec_map(exec, r->dst),
                                       .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                       .residual_dtype = vt_map_dtype(exec->program, r->source[1]),
                                       .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                       .rows = s.n * s.h * s.w,
                                       .cols = s.c},
                     vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_add = {.name = "finish", .run = add_run};

static void space_to_depth_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_note(exec, r,
                 vt_cuda_gather_patches(
                     &(vt_cuda_patches){.src = vt_exec_map(exec, r->source[0]),
                                        .dst = vt_exec_map(exec, r->dst),
                                        .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                        .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                        .shape = vt_exec_shape(exec, r->source[0]),
                                        .patch = r->as.block,
                                        .eps = -1.0f},
                     vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_space_to_depth = {.name = "patches", .run = space_to_depth_run};

static void mean_pool_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_note(
        exec, r,
        vt_cuda_mean_pool(&(vt_cuda_mean){.src = vt_exec_map(exec, r->source[0]),
                                          .dst = vt_exec_map(exec, r->dst),
                                          .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                          .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                          .shape = vt_exec_shape(exec, r->source[0])},
                          vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_mean_pool = {.name = "mean", .run = mean_pool_run};

static const char *conv2d_refuse(const vt_plan_input *in, const vt_record *r)
{
    (void)in;
    return r->as.conv2d.groups > 1 ? "it has groups" : NULL;
}

static size_t conv2d_scratch(const vt_plan_input *in, const vt_record *r)
{
    vt_shape d = in->program->maps[r->dst.id].shape;
    return (size_t)(d.n * d.h * d.w * d.c) * sizeof(float);
}

/* The sums in f32 in the scratch, then activation and type. */
static void conv2d_run(const vt_exec *exec, const vt_record *r)
{
    const vt_conv2d *p = &r->as.conv2d;
    vt_shape d = vt_exec_shape(exec, r->dst);
    const vt_weight_data *weight = &exec->weights[p->weight.id];
    vt_cuda_note(exec, r,
                 vt_cuda_conv2d_plain(
                     &(vt_cuda_conv2d){.src = vt_exec_map(exec, r->source[0]),
                                       .weight = weight->data,
                                       .bias = vt_exec_vector(exec, p->bias),
                                       .dst = exec->scratch,
                                       .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                       .weight_dtype = weight->dtype,
                                       .src_shape = vt_exec_shape(exec, r->source[0]),
                                       .dst_shape = d,
                                       .conv = *p},
                     vt_cuda_stream_of(exec)->stream));
    vt_cuda_note(
        exec, r,
        vt_cuda_finish_rows(&(vt_cuda_finish){.src = exec->scratch,
                                              .dst = vt_exec_map(exec, r->dst),
                                              .src_dtype = VT_F32,
                                              .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                              .rows = d.n * d.h * d.w,
                                              .cols = d.c,
                                              .act = p->act},
                            vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_conv2d = {
    .name = "plain", .refuse = conv2d_refuse, .scratch = conv2d_scratch, .run = conv2d_run};
