/* SPDX-License-Identifier: Apache-2.0 */
/* Operations and bytes of a record, from shapes alone. */
#include "core/checked.h"
#include "ops/pattern.h"
#include "ops/program.h"

static double elements(const vt_program *p, vt_value v)
{
    if (v.id < 0) {
        return 0;
    }
    vt_shape s = p->maps[v.id].shape;
    return (double)s.n * (double)s.h * (double)s.w * (double)s.c;
}

static double map_bytes(const vt_program *p, vt_value v)
{
    return v.id < 0 ? 0 : elements(p, v) * (double)vt_dtype_size(p->maps[v.id].dtype);
}

/* Score and weighted sum of every query with its keys. */
static double attention_flops(const vt_program *p, const vt_attention *a)
{
    vt_shape q = p->maps[a->q.map.id].shape, k = p->maps[a->k.map.id].shape;
    double keys = (double)vt_axis_rows(&a->pattern, q.h, k.h).span *
                  (double)vt_axis_cols(&a->pattern, q.w, k.w).span;
    double queries = (double)q.n * (double)q.h * (double)q.w;
    return 2.0 * queries * keys * a->heads * (a->q.width + a->v.width);
}

vt_cost vt_record_cost(const vt_program *p, const vt_record *r, const vt_weight_shape *weights,
                       vt_dtype weight_dtype)
{
    vt_cost cost = {0, 0};
    double out = elements(p, r->dst);
    for (int i = 0; i < VT_MAX_SOURCES; i++) {
        /* q, k and v usually lie in one map: count it once */
        bool seen = false;
        for (int j = 0; j < i; j++) {
            seen |= r->source[j].id == r->source[i].id;
        }
        cost.bytes += seen ? 0 : map_bytes(p, r->source[i]);
    }
    cost.bytes += map_bytes(p, r->dst);
    vt_weight matrices[2] = {{0}, {0}};
    switch (r->kind) {
    case VT_OP_LINEAR:
        matrices[0] = r->as.linear.weight;
        cost.flops = 2.0 * out * (double)weights[matrices[0].id].cols;
        break;
    case VT_OP_CONV2D:
        matrices[0] = r->as.conv2d.weight;
        cost.flops = 2.0 * out * (double)weights[matrices[0].id].cols;
        break;
    case VT_OP_MLP: /* the hidden map costs no bytes */
        matrices[0] = r->as.mlp.up.weight;
        matrices[1] = r->as.mlp.down.weight;
        cost.flops = 2.0 * (elements(p, r->source[0]) + out) * (double)weights[matrices[1].id].cols;
        break;
    case VT_OP_NORM: cost.flops = 8.0 * out; break;
    case VT_OP_ATTENTION: cost.flops = attention_flops(p, &r->as.attention); break;
    case VT_OP_ADD: cost.flops = out; break;
    case VT_OP_MEAN_POOL: cost.flops = elements(p, r->source[0]); break;
    case VT_OP_DEPTHWISE:
        cost.flops = 2.0 * out * r->as.depthwise.conv.kernel_h * r->as.depthwise.conv.kernel_w;
        break;
    case VT_OP_AFFINE: cost.flops = 2.0 * out; break;
    case VT_OP_MUL: cost.flops = out; break;
    case VT_OP_POOL: cost.flops = out * r->as.pooling.kernel * r->as.pooling.kernel; break;
    case VT_OP_LINEAR_ATTENTION: cost.flops = 4.0 * out * r->as.linear_attention.q.width; break;
    case VT_OP_CHANNEL_ATTENTION:
        cost.flops = 4.0 * out * r->as.channel_attention.left.width;
        break;
    case VT_OP_DEFORM_PATCHES: cost.flops = 7.0 * out; break;
    case VT_OP_CONCAT:
    case VT_OP_SPACE_TO_DEPTH:
    case VT_OP_KINDS: break;
    }
    for (int i = 0; i < 2; i++) {
        const vt_weight_shape *w = &weights[matrices[i].id];
        if (matrices[i].id > 0) {
            cost.bytes += (double)w->rows * (double)w->cols * (double)vt_dtype_size(weight_dtype);
        }
    }
    return cost;
}
