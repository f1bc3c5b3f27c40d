/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes and fields that every implementation of every record is tested with, on every backend
 * (tests/test_cpu_ops.c, tests/test_cuda_ops.c). A new kind of record needs rows in op_cases.c and
 * a builder in op_builders.c, nothing else. */
#ifndef VT_TESTS_OP_CASES_H
#define VT_TESTS_OP_CASES_H

#include "op_entry.h"

extern const op_entry op_entries[];
extern const int op_entry_count;

#endif
