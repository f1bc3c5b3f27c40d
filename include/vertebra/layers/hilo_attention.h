/* SPDX-License-Identifier: Apache-2.0 */
/* HiLo attention (LITv2, arXiv 2205.13213): some heads look close, the others look far.
 *   Hi-Fi  hi heads attend inside windows of s x s tokens:
 *            q, k, v = h_qkv(x);  high = h_proj(softmax(q k^T head_dim^-0.5) v)
 *   Lo-Fi  lo heads attend from every token to the means of all s x s windows:
 *            q = l_q(x);  k, v = l_kv(mean of each window of x);  low = l_proj(the same)
 *   y = high followed by low on the channels;  lo = heads * alpha rounded down, hi = heads - lo
 * With s = 1 all heads are Lo-Fi, which is then plain attention among all tokens.
 *
 * A map that s does not divide is extended by zeros at the bottom and right: there Hi-Fi keys and
 * values are the bias of h_qkv, and the zeros count in the means. Nothing masks them. */
#ifndef VERTEBRA_LAYERS_HILO_ATTENTION_H
#define VERTEBRA_LAYERS_HILO_ATTENTION_H

#include "vertebra/layers/basic.h"

VT_BEGIN_DECLS

typedef struct vt_hilo_attention_settings {
    int channels, heads; /* head_dim = channels / heads */
    int window;          /* s */
    double alpha;        /* share of Lo-Fi heads, in [0, 1] */
} vt_hilo_attention_settings;

typedef struct vt_hilo_attention {
    vt_linear_layer h_qkv, h_proj;     /* where high > 0 */
    vt_linear_layer l_q, l_kv, l_proj; /* where low > 0 */
    int high, low, head_dim;           /* heads of each kind */
    int window;
} vt_hilo_attention;

/* Parameters below the current scope, D = head_dim: h_qkv.weight [3 hi D, C], h_proj.weight
 * [hi D, hi D] where hi > 0; l_q.weight [lo D, C], l_kv.weight [2 lo D, C], l_proj.weight
 * [lo D, lo D] where lo > 0; a bias of each. */
vt_hilo_attention vt_hilo_attention_bind(vt_binder *binder,
                                         const vt_hilo_attention_settings *settings);

/* x [n,h,w,C] -> [n,h,w,C], any h and w */
vt_value vt_hilo_attention_forward(vt_builder *builder, const vt_hilo_attention *layer, vt_value x);

VT_END_DECLS
#endif
