#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Our bench program and PyTorch, eager and compiled, one after the other on the same GPU: one table.
#   bench/gpu.sh [MODEL ...]      our names (default swin_tiny_patch4_window7_224)
# VERTEBRA_BENCH names our program, PYTHON an interpreter that has torch with CUDA, and timm; BATCH
# the large batch (64). PyTorch compiles first, for all models at the same time.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- swin_tiny_patch4_window7_224
bench=${VERTEBRA_BENCH:-apps/bench}
python=${PYTHON:-python3}
batch=${BATCH:-64}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader || true
"$python" bench/peers/torch_gpu.py "$@" --batches 1 "$batch" --warm-cache ||
    echo "some networks could not be compiled" >&2
for model; do
    command="$bench --device cuda --dtype f16 --golden --batch $batch --model $model --json"
    echo "$command"
    $command >"$tmp/$model.json" || echo "no times of ours for $model" >&2
done
"$python" bench/peers/torch_gpu.py "$@" --batches 1 "$batch" --ours "$tmp"
