/* SPDX-License-Identifier: Apache-2.0 */
/* The records that one kernel each serves. */
#include "cuda/cuda.h"

/* ---- norm ------------------------------------------------------------------------------------ */

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

/* ---- attention ------------------------------------------------------------------------------- */

static const char *at_channel(const vt_exec *exec, const vt_heads *h)
{
    size_t size = vt_dtype_size(vt_map_dtype(exec->program, h->map));
    const char *map = exec->maps ? vt_exec_map(exec, h->map) : NULL;
    return map ? map + (size_t)h->offset * size : NULL;
}

/* A vector, or while exec->weights is NULL something that is not NULL where there is one. */
static const float *vector_or_mark(const vt_exec *exec, vt_weight w)
{
    static const float mark;
    return exec->weights ? vt_exec_vector(exec, w) : w.id > 0 ? &mark : NULL;
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
        .key_h = (int)k.h,
        .key_w = (int)k.w,
        .temperature = vector_or_mark(exec, p->temperature),
        .bias = vector_or_mark(exec, p->bias),
        .position_rows = vector_or_mark(exec, p->rows),
        .position_cols = vector_or_mark(exec, p->cols),
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

static const char *attention_box_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    vt_cuda_attention args = attention_args(&shapes, r);
    return vt_cuda_attention_box_refuse(&args);
}

static void attention_box_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_attention args = attention_args(exec, r);
    vt_cuda_note(exec, r, vt_cuda_attention_box(&args, vt_cuda_stream_of(exec)->stream));
}

static void attention_plain_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_attention args = attention_args(exec, r);
    vt_cuda_note(exec, r, vt_cuda_attention_plain(&args, vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_attention = {
    .name = "mma", .refuse = attention_refuse, .run = attention_run};
const vt_impl vt_impl_cuda_attention_box = {
    .name = "box", .refuse = attention_box_refuse, .run = attention_box_run};
const vt_impl vt_impl_cuda_attention_plain = {.name = "plain", .run = attention_plain_run};

/* ---- add, space_to_depth, mean_pool, conv2d -------------------------------------------------- */

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

/* exec->maps and exec->weights may be NULL: then only shapes and types are filled in. */
static vt_cuda_conv2d conv2d_args(const vt_exec *exec, const vt_record *r, vt_dtype weight_dtype)
{
    const vt_conv2d *p = &r->as.conv2d;
    return (vt_cuda_conv2d){.src = exec->maps ? vt_exec_map(exec, r->source[0]) : NULL,
                            .weight = exec->weights ? exec->weights[p->weight.id].data : NULL,
                            .bias = exec->weights ? vt_exec_vector(exec, p->bias) : NULL,
                            .dst = exec->maps ? vt_exec_map(exec, r->dst) : NULL,
                            .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                            .weight_dtype = weight_dtype,
                            .dst_dtype = vt_map_dtype(exec->program, r->dst),
                            .src_shape = vt_exec_shape(exec, r->source[0]),
                            .dst_shape = vt_exec_shape(exec, r->dst),
                            .conv = *p};
}

static const char *conv_few_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    vt_cuda_conv2d args = conv2d_args(&shapes, r, in->dtype);
    return vt_cuda_conv_few_refuse(&args);
}

static void conv_few_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_conv2d args = conv2d_args(exec, r, exec->weights[r->as.conv2d.weight.id].dtype);
    vt_cuda_note(exec, r, vt_cuda_conv_few(&args, vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_conv_few = {
    .name = "few", .refuse = conv_few_refuse, .run = conv_few_run};

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
    vt_cuda_conv2d args = conv2d_args(exec, r, exec->weights[p->weight.id].dtype);
    args.dst = exec->scratch;
    vt_cuda_note(exec, r, vt_cuda_conv2d_plain(&args, vt_cuda_stream_of(exec)->stream));
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

const vt_impl vt_impl_cuda_conv2d = {.name = "plain", .scratch = conv2d_scratch, .run = conv2d_run};

/* ---- depthwise, affine, mul, concat, pool, deform_patches ------------------------------------ */

static void depthwise_run(const vt_exec *exec, const vt_record *r)
{
    const vt_depthwise *p = &r->as.depthwise;
    vt_cuda_note(
        exec, r,
        vt_cuda_depthwise_conv(
            &(vt_cuda_depthwise){.src = vt_exec_map(exec, r->source[0]),
                                 .residual = vt_exec_map(exec, r->source[1]),
                                 .dst = vt_exec_map(exec, r->dst),
                                 .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                 .residual_dtype = vt_map_dtype(exec->program, r->source[1]),
                                 .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                 .src_shape = vt_exec_shape(exec, r->source[0]),
                                 .dst_shape = vt_exec_shape(exec, r->dst),
                                 .weight = vt_exec_vector(exec, p->conv.weight),
                                 .bias = vt_exec_vector(exec, p->conv.bias),
                                 .scale = vt_exec_vector(exec, p->affine.scale),
                                 .shift = vt_exec_vector(exec, p->affine.shift),
                                 .conv = p->conv},
            vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_depthwise = {.name = "strips", .run = depthwise_run};

static void affine_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst);
    vt_cuda_note(
        exec, r,
        vt_cuda_scale_rows(&(vt_cuda_scale){.a = vt_exec_map(exec, r->source[0]),
                                            .dst = vt_exec_map(exec, r->dst),
                                            .a_dtype = vt_map_dtype(exec->program, r->source[0]),
                                            .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                            .rows = s.n * s.h * s.w,
                                            .cols = s.c,
                                            .scale = vt_exec_vector(exec, r->as.affine.scale),
                                            .shift = vt_exec_vector(exec, r->as.affine.shift)},
                           vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_affine = {.name = "scale", .run = affine_run};

static void mul_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape s = vt_exec_shape(exec, r->dst), t = vt_exec_shape(exec, r->source[1]);
    vt_cuda_note(
        exec, r,
        vt_cuda_scale_rows(&(vt_cuda_scale){.a = vt_exec_map(exec, r->source[0]),
                                            .b = vt_exec_map(exec, r->source[1]),
                                            .dst = vt_exec_map(exec, r->dst),
                                            .a_dtype = vt_map_dtype(exec->program, r->source[0]),
                                            .b_dtype = vt_map_dtype(exec->program, r->source[1]),
                                            .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                            .rows = s.n * s.h * s.w,
                                            .cols = s.c,
                                            .share = s.h * s.w / (t.h * t.w)},
                           vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_mul = {.name = "scale", .run = mul_run};

static void concat_run(const vt_exec *exec, const vt_record *r)
{
    vt_shape d = vt_exec_shape(exec, r->dst);
    int64_t first = 0;
    for (int i = 0; i < 2; i++) {
        int64_t cols = vt_exec_shape(exec, r->source[i]).c;
        vt_cuda_note(exec, r,
                     vt_cuda_place_channels(
                         &(vt_cuda_place){.src = vt_exec_map(exec, r->source[i]),
                                          .dst = vt_exec_map(exec, r->dst),
                                          .src_dtype = vt_map_dtype(exec->program, r->source[i]),
                                          .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                          .rows = d.n * d.h * d.w,
                                          .cols = cols,
                                          .first = first,
                                          .dst_cols = d.c},
                         vt_cuda_stream_of(exec)->stream));
        first += cols;
    }
}

const vt_impl vt_impl_cuda_concat = {.name = "place", .run = concat_run};

static void pool_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_note(
        exec, r,
        vt_cuda_pool_map(&(vt_cuda_pooling){.src = vt_exec_map(exec, r->source[0]),
                                            .dst = vt_exec_map(exec, r->dst),
                                            .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                            .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                            .src_shape = vt_exec_shape(exec, r->source[0]),
                                            .dst_shape = vt_exec_shape(exec, r->dst),
                                            .pooling = r->as.pooling},
                         vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_pool = {.name = "pool", .run = pool_run};

static void deform_patches_run(const vt_exec *exec, const vt_record *r)
{
    vt_cuda_note(exec, r,
                 vt_cuda_deform_gather(
                     &(vt_cuda_deform){.src = vt_exec_map(exec, r->source[0]),
                                       .offsets = vt_exec_map(exec, r->source[1]),
                                       .dst = vt_exec_map(exec, r->dst),
                                       .src_dtype = vt_map_dtype(exec->program, r->source[0]),
                                       .offsets_dtype = vt_map_dtype(exec->program, r->source[1]),
                                       .dst_dtype = vt_map_dtype(exec->program, r->dst),
                                       .src_shape = vt_exec_shape(exec, r->source[0]),
                                       .dst_shape = vt_exec_shape(exec, r->dst),
                                       .kernel = r->as.block},
                     vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_deform_patches = {.name = "deform", .run = deform_patches_run};

/* ---- linear_attention, channel_attention ----------------------------------------------------- */

/* Where the matrices of all heads lie in the scratch. */
typedef struct gram_scratch {
    size_t state_at, total_at, bytes;
} gram_scratch;

static gram_scratch lay_out(const vt_cuda_gram *g)
{
    gram_scratch s = {.state_at = vt_cuda_gram_bytes(g)};
    size_t heads = (size_t)g->n * (size_t)g->heads, left = (size_t)g->left_width;
    s.total_at = s.state_at + heads * left * (size_t)g->right_width * sizeof(float);
    s.bytes = s.total_at + heads * left * sizeof(float);
    return s;
}

/* exec->maps may be NULL: then only shapes and types are filled in. */
static vt_cuda_gram gram_args(const vt_exec *exec, int heads, const vt_heads *left,
                              const vt_heads *right)
{
    vt_shape s = vt_exec_shape(exec, left->map);
    return (vt_cuda_gram){.left = at_channel(exec, left),
                          .right = at_channel(exec, right),
                          .dtype = vt_map_dtype(exec->program, left->map),
                          .n = s.n,
                          .pixels = s.h * s.w,
                          .left_pixel = s.c,
                          .right_pixel = vt_exec_shape(exec, right->map).c,
                          .heads = heads,
                          .left_width = left->width,
                          .right_width = right->width};
}

/* The use of the matrices of `g`. */
static vt_cuda_apply apply_args(const vt_exec *exec, const vt_record *r, const vt_cuda_gram *g,
                                const vt_heads *x)
{
    vt_shape d = vt_exec_shape(exec, r->dst);
    return (vt_cuda_apply){.x = at_channel(exec, x),
                           .dst = exec->maps ? vt_exec_map(exec, r->dst) : NULL,
                           .dtype = vt_map_dtype(exec->program, x->map),
                           .dst_dtype = vt_map_dtype(exec->program, r->dst),
                           .n = d.n,
                           .pixels = d.h * d.w,
                           .x_pixel = vt_exec_shape(exec, x->map).c,
                           .dst_pixel = d.c,
                           .heads = g->heads,
                           .x_width = x->width,
                           .dst_width = (int)(d.c / g->heads)};
}

/* Both steps of a record; exec->maps and exec->weights may be NULL: then only shapes and types are
 * filled in. */
typedef struct gram_steps {
    vt_cuda_gram gram;
    vt_cuda_apply apply;
} gram_steps;

static gram_steps linear_attention_steps(const vt_exec *exec, const vt_record *r)
{
    const vt_linear_attention *p = &r->as.linear_attention;
    gram_steps s = {.gram = gram_args(exec, p->heads, &p->k, &p->v)};
    s.gram.relu = true;
    s.apply = apply_args(exec, r, &s.gram, &p->q);
    s.apply.floor = p->floor;
    s.apply.temperature = vector_or_mark(exec, p->temperature);
    return s;
}

static gram_steps channel_attention_steps(const vt_exec *exec, const vt_record *r)
{
    const vt_channel_attention *p = &r->as.channel_attention;
    gram_steps s = {.gram = gram_args(exec, p->heads, &p->left, &p->right)};
    s.apply = apply_args(exec, r, &s.gram, &p->value);
    s.apply.scale = p->scale;
    return s;
}

static gram_steps gram_steps_of(const vt_exec *exec, const vt_record *r)
{
    return r->kind == VT_OP_LINEAR_ATTENTION ? linear_attention_steps(exec, r)
                                             : channel_attention_steps(exec, r);
}

static const char *gram_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    gram_steps s = gram_steps_of(&shapes, r);
    return vt_cuda_apply_refuse(s.apply.x_width, s.apply.dst_width);
}

static size_t gram_scratch_bytes(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    gram_steps s = gram_steps_of(&shapes, r);
    return lay_out(&s.gram).bytes;
}

/* The matrices, then their products with the pixels. */
static void gram_run(const vt_exec *exec, const vt_record *r)
{
    gram_steps s = gram_steps_of(exec, r);
    gram_scratch at = lay_out(&s.gram);
    char *scratch = exec->scratch;
    s.gram.partial = (float *)(void *)scratch;
    s.gram.state = (float *)(void *)(scratch + at.state_at);
    s.gram.total = s.gram.relu ? (float *)(void *)(scratch + at.total_at) : NULL;
    s.apply.state = s.gram.state;
    s.apply.total = s.gram.total;
    vt_cuda_note(exec, r, vt_cuda_gram_matrix(&s.gram, vt_cuda_stream_of(exec)->stream));
    vt_cuda_note(exec, r, vt_cuda_apply_state(&s.apply, vt_cuda_stream_of(exec)->stream));
}

static const char *gram_mma_refuse(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    gram_steps s = gram_steps_of(&shapes, r);
    const vt_linear_attention *l = &r->as.linear_attention;
    const vt_channel_attention *c = &r->as.channel_attention;
    int offsets = r->kind == VT_OP_LINEAR_ATTENTION
                      ? l->q.offset | l->k.offset | l->v.offset
                      : c->left.offset | c->right.offset | c->value.offset;
    return offsets % 8 ? "heads do not begin at 16 bytes"
                       : vt_cuda_gram_mma_refuse(&s.gram, &s.apply);
}

static size_t gram_mma_scratch(const vt_plan_input *in, const vt_record *r)
{
    vt_exec shapes = {.program = in->program};
    gram_steps s = gram_steps_of(&shapes, r);
    return vt_cuda_gram_mma_bytes(&s.gram);
}

static void gram_mma_run(const vt_exec *exec, const vt_record *r)
{
    gram_steps s = gram_steps_of(exec, r);
    s.gram.partial = exec->scratch;
    vt_cuda_note(exec, r, vt_cuda_gram_mma(&s.gram, &s.apply, vt_cuda_stream_of(exec)->stream));
}

const vt_impl vt_impl_cuda_linear_attention_mma = {
    .name = "mma", .refuse = gram_mma_refuse, .scratch = gram_mma_scratch, .run = gram_mma_run};
const vt_impl vt_impl_cuda_linear_attention = {
    .name = "gram", .refuse = gram_refuse, .scratch = gram_scratch_bytes, .run = gram_run};
const vt_impl vt_impl_cuda_channel_attention_mma = {
    .name = "mma", .refuse = gram_mma_refuse, .scratch = gram_mma_scratch, .run = gram_mma_run};
const vt_impl vt_impl_cuda_channel_attention = {
    .name = "gram", .refuse = gram_refuse, .scratch = gram_scratch_bytes, .run = gram_run};
