/* SPDX-License-Identifier: Apache-2.0 */
/* The families that are built in. The table is generated from the files in this folder: each
 * NAME.c defines vt_family_NAME. */
#ifndef VT_BACKBONES_FAMILY_H
#define VT_BACKBONES_FAMILY_H

#include "vertebra/backbone.h"

extern const vt_family *const vt_families[]; /* ends with NULL */

#endif
