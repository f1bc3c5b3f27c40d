#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# selftest: what it prints and how it ends. tests/run.sh runs all its cases.
. "$(dirname "$0")/common.sh"
build_json
selftest=$apps/selftest
one='--model swinv2_tiny_window8_256'
cd "$tmp"

usage selftest
devices selftest
misused 'an argument' "'x'\?" "$selftest" x
fails 'unknown model' "there is no model 'nonsense'" "$selftest" --model nonsense
check 'a model without published values' 0 'plain reference' '64x96 .* pass$' \
    "$selftest" --model nat_tiny
check 'one that takes its own size alone' 0 '1 passed' '224x224 .* pass$' \
    "$selftest" --model vitrpb_small
check 'one without a head, at a size' 0 '1 passed' '40x70 .* pass$' \
    "$selftest" --model dinat_mini_coco --size 40x70 --dtype bf16
fails 'a size that it refuses' 'both must be at least 32' "$selftest" --model convnext_base --size 20
check 'one model' 0 ', f32: 1 passed, 0 failed \(bound 1e-05\)$' '256x256 .* pass$' "$selftest" $one
check 'bf16' 0 ', bf16: 1 passed, 0 failed' 'pass$' "$selftest" $one --dtype bf16
check 'portable kernels, one thread' 0 'cpu,? portable, 1 thread, f32: 1 passed' 'pass$' \
    "$selftest" $one --isa portable --threads 1
check '--json' 0 '1 passed' '^\{.*\}$' "$selftest" $one --json
is '--json is valid' "$("$tmp/json" model passed <out 2>&1)" \
    "$(printf 'swinv2_tiny_window8_256\ntrue')"
check '--quick' 0 '[1-9][0-9] passed, 0 failed' 'swin_tiny.*pass$' "$selftest" --quick
check 'f16 is refused' 1 'f16 is for GPUs; use f32 or bf16' '' "$selftest" $one --dtype f16

"$selftest" --device ref >out 2>err &
pid=$!
sleep 1
kill -INT $pid
code=0
wait $pid || code=$?
judge 'Ctrl-C' 1 'cancelled' '.*'
finish
