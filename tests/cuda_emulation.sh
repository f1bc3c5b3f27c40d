#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shape table, the evaluation and small networks of most families through the emulated CUDA
# kernels (tests/cuda_emulation), the types side by side.
# Needs g++, no GPU and no nvcc.
set -u
folder=build/release/cuda_emulation
program=$folder/test_cuda_ops
make -j"$(nproc)" --no-print-directory "$program" "$folder/test_cuda_evaluate" \
    "$folder/test_cuda_models" || exit 1
VT_TEST_DEVICE=cuda:1 "$folder/test_cuda_evaluate" >"$folder/evaluate.log" 2>&1 &
waiting="$!:$folder/evaluate.log"
VT_TEST_DEVICE=cuda:1 "$folder/test_cuda_models" 'f32 *_fashion*' >"$folder/models.log" 2>&1 &
waiting="$waiting $!:$folder/models.log"
for part in test_f32 test_bf16 test_f16 'test_large*'; do
    log=$(echo "$folder/$part.log" | tr -d '*')
    "$program" "$part" >"$log" 2>&1 &
    waiting="$waiting $!:$log"
done
failed=0
for one in $waiting; do
    wait "${one%%:*}" || failed=1
    cat "${one#*:}"
done
exit $failed
