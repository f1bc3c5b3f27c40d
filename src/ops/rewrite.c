/* SPDX-License-Identifier: Apache-2.0 */
/* Rewrites: joining records so that a map needs no pass of its own through memory. Each is a small
 * function over the record list and is tested against the program without it. */
#include <string.h>

#include "ops/plan.h"

static bool removed(const vt_record *r)
{
    return r->dst.id < 0;
}

static void remove_record(vt_record *r)
{
    r->dst = VT_NO_VALUE;
}

int vt_program_uses(const vt_program *p, vt_value value)
{
    int uses = 0;
    for (size_t i = 0; i < p->record_count; i++) {
        if (removed(&p->records[i])) {
            continue;
        }
        for (int k = 0; k < VT_MAX_SOURCES; k++) {
            uses += p->records[i].source[k].id == value.id;
        }
    }
    for (int i = 0; i < p->output_count; i++) {
        uses += p->outputs[i].value.id == value.id;
    }
    return uses;
}

/* The record that makes `value`, if it is of `kind` and record `i` is the only one that reads it.
 */
static vt_record *sole_producer(vt_program *p, vt_value value, vt_op_kind kind)
{
    for (size_t k = 0; value.id >= 0 && k < p->record_count; k++) {
        vt_record *r = &p->records[k];
        if (r->dst.id == value.id) {
            return r->kind == kind && vt_program_uses(p, value) == 1 ? r : NULL;
        }
    }
    return NULL;
}

/* A convolution whose kernel tiles the map is a linear map of patches. */
static bool conv_to_patch_linear(vt_program *p, size_t i)
{
    vt_record *r = &p->records[i];
    if (r->kind != VT_OP_CONV2D) {
        return false;
    }
    vt_conv2d c = r->as.conv2d;
    vt_shape s = p->maps[r->source[0].id].shape, d = p->maps[r->dst.id].shape;
    int k = c.kernel_h;
    bool tiles = c.groups <= 1 && c.kernel_w == k && c.stride_h == k && c.stride_w == k &&
                 c.dilation_h == 1 && c.dilation_w == 1 && c.pad_top == 0 && c.pad_left == 0 &&
                 d.h == (s.h + k - 1) / k && d.w == (s.w + k - 1) / k;
    if (!tiles) {
        return false;
    }
    r->kind = VT_OP_LINEAR;
    r->as.linear = (vt_linear){.weight = c.weight, .bias = c.bias, .act = c.act, .patch = k};
    return true;
}

/* linear(norm(x)) */
static bool norm_into_linear(vt_program *p, size_t i)
{
    vt_record *r = &p->records[i];
    if (r->kind != VT_OP_LINEAR || r->as.linear.norm_place != VT_NORM_NONE ||
        r->as.linear.patch != 1) {
        return false;
    }
    vt_record *norm = sole_producer(p, r->source[0], VT_OP_NORM);
    if (!norm) {
        return false;
    }
    r->as.linear.norm_place = VT_NORM_INPUT;
    r->as.linear.norm = norm->as.norm;
    r->source[0] = norm->source[0];
    remove_record(norm);
    return true;
}

/* linear(space_to_depth(x)) */
static bool patches_into_linear(vt_program *p, size_t i)
{
    vt_record *r = &p->records[i];
    if (r->kind != VT_OP_LINEAR || r->as.linear.patch != 1) {
        return false;
    }
    vt_record *s2d = sole_producer(p, r->source[0], VT_OP_SPACE_TO_DEPTH);
    if (!s2d) {
        return false;
    }
    r->as.linear.patch = s2d->as.block;
    r->source[0] = s2d->source[0];
    remove_record(s2d);
    return true;
}

/* norm(linear(x)) */
static bool norm_after_linear(vt_program *p, size_t i)
{
    vt_record *r = &p->records[i];
    if (r->kind != VT_OP_NORM) {
        return false;
    }
    vt_record *linear = sole_producer(p, r->source[0], VT_OP_LINEAR);
    if (!linear || linear->as.linear.norm_place != VT_NORM_NONE || linear->source[1].id >= 0) {
        return false;
    }
    linear->as.linear.norm_place = VT_NORM_OUTPUT;
    linear->as.linear.norm = r->as.norm;
    linear->dst = r->dst;
    remove_record(r);
    return true;
}

/* Whether `value` is there before record `before` runs. */
static bool made_before(const vt_program *p, vt_value value, const vt_record *before)
{
    if (value.id == p->input.id) {
        return true;
    }
    for (const vt_record *r = p->records; r < before; r++) {
        if (r->dst.id == value.id) {
            return true;
        }
    }
    return false;
}

/* The record of `kind` that makes one side of r, if it has room for the other side, which is there
 * before it runs. */
static vt_record *with_room(vt_program *p, const vt_record *r, int side, vt_op_kind kind)
{
    vt_record *producer = sole_producer(p, r->source[side], kind);
    bool takes =
        producer && producer->source[1].id < 0 && made_before(p, r->source[1 - side], producer);
    return takes ? producer : NULL;
}

/* The producer of one side of r takes the other side, and makes what r made. */
static void take_over(vt_record *producer, vt_record *r, int side)
{
    producer->source[1] = r->source[1 - side];
    producer->dst = r->dst;
    remove_record(r);
}

/* a + r(x), r a record of `kind` */
static bool add_into(vt_program *p, size_t i, vt_op_kind kind)
{
    vt_record *r = &p->records[i];
    for (int side = 0; r->kind == VT_OP_ADD && side < 2; side++) {
        vt_record *producer = with_room(p, r, side, kind);
        if (producer) {
            take_over(producer, r, side);
            return true;
        }
    }
    return false;
}

static bool add_into_linear(vt_program *p, size_t i)
{
    return add_into(p, i, VT_OP_LINEAR);
}

static bool add_into_depthwise(vt_program *p, size_t i)
{
    return add_into(p, i, VT_OP_DEPTHWISE);
}

/* a * linear(x), both of one shape */
static bool mul_into_linear(vt_program *p, size_t i)
{
    vt_record *r = &p->records[i];
    if (r->kind != VT_OP_MUL || memcmp(&p->maps[r->source[0].id].shape,
                                       &p->maps[r->source[1].id].shape, sizeof(vt_shape)) != 0) {
        return false;
    }
    for (int side = 0; side < 2; side++) {
        vt_record *linear = with_room(p, r, side, VT_OP_LINEAR);
        if (linear && linear->as.linear.norm_place != VT_NORM_OUTPUT) {
            linear->as.linear.gated = true;
            take_over(linear, r, side);
            return true;
        }
    }
    return false;
}

/* affine(depthwise(x)) */
static bool affine_into_depthwise(vt_program *p, size_t i)
{
    vt_record *r = &p->records[i];
    vt_record *conv =
        r->kind == VT_OP_AFFINE ? sole_producer(p, r->source[0], VT_OP_DEPTHWISE) : NULL;
    if (!conv || conv->as.depthwise.affine.scale.id || conv->source[1].id >= 0) {
        return false;
    }
    conv->as.depthwise.affine = r->as.affine;
    conv->dst = r->dst;
    remove_record(r);
    return true;
}

const vt_rewrite vt_rewrites[] = {
    {"conv_to_patch_linear", conv_to_patch_linear},
    {"norm_into_linear", norm_into_linear},
    {"patches_into_linear", patches_into_linear},
    {"norm_after_linear", norm_after_linear},
    {"add_into_linear", add_into_linear},
    {"affine_into_depthwise", affine_into_depthwise},
    {"add_into_depthwise", add_into_depthwise},
    {"mul_into_linear", mul_into_linear},
    {NULL, NULL},
};

/* Whether an implementation of the backend takes the record. */
static bool backend_takes(const vt_plan_input *in, const vt_record *r)
{
    for (const vt_impl *const *list = in->backend->impls[r->kind]; list && *list; list++) {
        if (!(*list)->refuse || !(*list)->refuse(in, r)) {
            return true;
        }
    }
    return false;
}

/* linear(linear(x)) of each pixel */
static bool mlp_into_one(vt_program *p, size_t i, const vt_plan_input *in)
{
    vt_record *r = &p->records[i];
    const vt_linear *down = &r->as.linear;
    if (r->kind != VT_OP_LINEAR || down->patch != 1 || down->norm_place == VT_NORM_INPUT ||
        down->act != VT_ACT_NONE || down->gated) {
        return false;
    }
    vt_record *up = sole_producer(p, r->source[0], VT_OP_LINEAR);
    if (!up || up->as.linear.patch != 1 || up->as.linear.norm_place == VT_NORM_OUTPUT ||
        up->source[1].id >= 0) {
        return false;
    }
    vt_record mlp = *r;
    mlp.kind = VT_OP_MLP;
    mlp.source[0] = up->source[0];
    mlp.as.mlp = (vt_mlp_pair){up->as.linear, *down};
    if (!backend_takes(in, &mlp)) {
        return false;
    }
    *r = mlp;
    remove_record(up);
    return true;
}

const vt_fusion vt_fusions[] = {{"mlp_into_one", mlp_into_one}, {NULL, NULL}};

static void compact(vt_program *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->record_count; i++) {
        if (!removed(&p->records[i])) {
            p->records[kept++] = p->records[i];
        }
    }
    p->record_count = kept;
}

void vt_program_rewrite(vt_program *p, unsigned mask)
{
    for (unsigned k = 0; vt_rewrites[k].name; k++) {
        for (size_t i = 0; (mask >> k & 1) && i < p->record_count; i++) {
            if (!removed(&p->records[i])) {
                vt_rewrites[k].apply(p, i);
            }
        }
    }
    compact(p);
}

void vt_program_fuse(vt_program *p, const vt_plan_input *in)
{
    for (const vt_fusion *fusion = vt_fusions; fusion->name; fusion++) {
        for (size_t i = 0; i < p->record_count; i++) {
            if (!removed(&p->records[i])) {
                fusion->apply(p, i, in);
            }
        }
    }
    compact(p);
}

vt_status vt_program_select(vt_program *p, const char *const *names, int count, vt_error *error)
{
    if (names) {
        vt_named_output kept[VT_MAX_OUTPUTS];
        for (int i = 0; i < count; i++) {
            int k = 0;
            while (k < p->output_count && strcmp(p->outputs[k].name, names[i]) != 0) {
                k++;
            }
            if (k == p->output_count || i == VT_MAX_OUTPUTS) {
                return vt_error_set(error, VT_ERR_NOT_FOUND, "the network has no output '%s'",
                                    names[i]);
            }
            kept[i] = p->outputs[k];
        }
        memcpy(p->outputs, kept, (size_t)count * sizeof kept[0]);
        p->output_count = count;
    }
    for (size_t i = p->record_count; i-- > 0;) {
        if (vt_program_uses(p, p->records[i].dst) == 0) {
            remove_record(&p->records[i]);
        }
    }
    compact(p);
    return VT_OK;
}
