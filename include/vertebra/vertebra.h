/* SPDX-License-Identifier: Apache-2.0 */
/* All of libvertebra. Picture files are in vertebra/image.h (libvertebra_image). */
#ifndef VERTEBRA_VERTEBRA_H
#define VERTEBRA_VERTEBRA_H

#include "vertebra/backbone.h"
#include "vertebra/checkpoint.h"
#include "vertebra/classify.h"
#include "vertebra/context.h"
#include "vertebra/digest.h"
#include "vertebra/evaluate.h"
#include "vertebra/layers.h"
#include "vertebra/model.h"
#include "vertebra/npy.h"
#include "vertebra/ops.h"
#include "vertebra/preprocess.h"
#include "vertebra/session.h"
#include "vertebra/status.h"
#include "vertebra/tensor.h"

#endif
