/* SPDX-License-Identifier: Apache-2.0 */
/* A small Swin V2 that the library does not ship, composed from its public layers the way a user
 * would: "swinv2_nano_window8_128", trained (so to say) with windows 6, 6, 6, 3. The parameter
 * names are timm's, and the fixtures hold what timm's network of this shape answers. */
#ifndef TESTS_SUPPORT_MODEL_NANO_V2_H
#define TESTS_SUPPORT_MODEL_NANO_V2_H

#include "vertebra/backbone.h"

extern const vt_family nano_v2_family;

#endif
