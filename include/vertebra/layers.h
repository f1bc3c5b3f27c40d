/* SPDX-License-Identifier: Apache-2.0 */
/* Every layer module. A layer is a struct of parameter ids, a `_bind` that declares its parameters,
 * and a `_forward` that records its operations. Layers own no kernels and see no data. */
#ifndef VERTEBRA_LAYERS_H
#define VERTEBRA_LAYERS_H

#include "vertebra/layers/attention.h"
#include "vertebra/layers/basic.h"
#include "vertebra/layers/channel_attention.h"
#include "vertebra/layers/classifier.h"
#include "vertebra/layers/conv.h"
#include "vertebra/layers/conv_mlp.h"
#include "vertebra/layers/convnext_block.h"
#include "vertebra/layers/deform_conv.h"
#include "vertebra/layers/halo_attention.h"
#include "vertebra/layers/hilo_attention.h"
#include "vertebra/layers/large_kernel_attention.h"
#include "vertebra/layers/linear_attention.h"
#include "vertebra/layers/local_concentration.h"
#include "vertebra/layers/mbconv.h"
#include "vertebra/layers/mlp.h"
#include "vertebra/layers/multi_axis_attention.h"
#include "vertebra/layers/neighborhood_attention.h"
#include "vertebra/layers/patch_embed.h"
#include "vertebra/layers/patch_merge.h"
#include "vertebra/layers/position_encoding.h"
#include "vertebra/layers/squeeze_excite.h"
#include "vertebra/layers/stage_output.h"
#include "vertebra/layers/window_attention.h"

#endif
