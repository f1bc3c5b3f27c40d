/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of fewer stages than their family has room for. */
#ifndef VT_BACKBONES_STAGES_H
#define VT_BACKBONES_STAGES_H

/* How many stages a network has: a depth of 0 stands where there is none. */
static inline int vt_stage_count(const int *depths, int room)
{
    int count = 0;
    while (count < room && depths[count] > 0) {
        count++;
    }
    return count;
}

#endif
