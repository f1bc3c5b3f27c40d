#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Our bench program and PyTorch, eager and compiled, one after the other on the same GPU: one table.
#   bench/gpu.sh [MODEL]      a name that timm has as well (default swin_tiny_patch4_window7_224)
# VERTEBRA_BENCH names our program, PYTHON an interpreter that has torch with CUDA, and timm.
set -eu
cd "$(dirname "$0")/.."
model=${1:-swin_tiny_patch4_window7_224}
bench=${VERTEBRA_BENCH:-apps/bench}
python=${PYTHON:-python3}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
command="$bench --device cuda --dtype f16 --model $model --json"
echo "$0 $model: $command"
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm --format=csv,noheader || true
$command >"$tmp/ours.json"
"$python" bench/peers/torch_gpu.py "$model" --batches 1 64 256 --ours "$tmp/ours.json"
