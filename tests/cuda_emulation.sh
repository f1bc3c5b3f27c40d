#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shape table through the emulated CUDA kernels (tests/cuda_emulation): the types side by side.
# Needs g++, no GPU and no nvcc.
set -u
program=build/release/cuda_emulation/test_cuda_ops
make -j"$(nproc)" --no-print-directory "$program" || exit 1
for part in test_f32 test_bf16 test_f16 'test_large*'; do
    log=$(echo "build/release/cuda_emulation/$part.log" | tr -d '*')
    "$program" "$part" >"$log" 2>&1 &
    waiting="${waiting:-} $!:$log"
done
failed=0
for one in $waiting; do
    wait "${one%%:*}" || failed=1
    cat "${one#*:}"
done
exit $failed
