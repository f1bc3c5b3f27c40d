#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench: what it prints, not how fast it is.
. "$(dirname "$0")/common.sh"
build_json
bench=$apps/bench
png=$pictures/png_rgb.png
quick="--model $nano --size 64 --threads 1 --seconds 0 --batch 2"
cd "$tmp"

usage bench
devices bench
for batch in 0 -1 x 65537 ''; do
    misused "--batch '$batch'" '--batch .*: want 1 to 65536' "$bench" --batch "$batch"
done
for runs in 0 2 -1 x ''; do
    misused "--runs '$runs'" '--runs .*: want 3 or more' "$bench" --runs "$runs"
done
for seconds in -1 0.5 x ''; do
    misused "--seconds '$seconds'" '--seconds .*: want a whole number' "$bench" --seconds "$seconds"
done
misused 'two pictures' 'one picture at most' "$bench" "$png" "$png"
fails 'unknown model' "no model 'nonsense'" "$bench" --model nonsense
fails 'no such weights' 'nowhere.pth: cannot open' "$bench" --model $nano --weights nowhere.pth
fails 'f16 is refused' 'f16 is for GPUs; use f32 or bf16' "$bench" $quick --dtype f16

works 'the table' '^ +batch +min ms +median +p99 +images/s' "$bench" $quick
is 'a line for each batch size' "$(grep -cE '^ +(1|2) +[0-9]' out)" 2
holds 'what was measured' grep -q "^$nano at 64x64, f32, cpu" out
holds 'memory' grep -q '^weights [0-9.]* MB, peak memory of the process [0-9.]* MB$' out
works 'batch 1 only' '^ +1 +[0-9]' "$bench" $quick --batch 1
is 'batch 1 only: one line' "$(grep -cE '^ +[0-9]+ +[0-9]' out)" 1
holds 'the rates' grep -qE '^measured peak [0-9]+ GFLOP/s, copies [0-9.]+ GB/s' out
works '--ops' '^patch_embed +linear ' "$bench" $quick --batch 1 --ops
holds '--ops: the floor' grep -qE '^sum of floors [0-9.]+ ms: [0-9.]+ % of the operations' out
works '--ops: both batch sizes' '^batch 2, operations one by one$' "$bench" $quick --ops
works '--device ref' 'ref' "$bench" $quick --batch 1 --device ref
works 'bf16' ', bf16, ' "$bench" $quick --batch 1 --dtype bf16
works 'a picture' 'decode [0-9.]+ ms, preprocess [0-9.]+ ms' "$bench" $quick --batch 1 "$png"
check 'no such picture' 1 'nowhere.png: cannot open' '.*' "$bench" $quick --batch 1 nowhere.png
json '--json: runs' latency_ms.runs 3 "$bench" $quick --json
holds '--json: times' sh -c "$tmp/json latency_ms.min latency_ms.median latency_ms.p99 \
    batches.1.latency_ms.p99 batches.1.latency_with_copies_ms.median batches.1.images_per_second \
    batches.1.floor_ms batches.1.activation_bytes peak_gflops copy_gbs weight_bytes \
    peak_memory_bytes <out"
json '--json: model' model $nano "$bench" $quick --json
json '--json: batch' batches.1.batch 2 "$bench" $quick --json
json '--json: runs as asked' latency_ms.runs 7 "$bench" $quick --seconds 60 --runs 7 --json
json '--json with --ops' batches.0.ops.0.where patch_embed "$bench" $quick --json --ops
holds '--json with --ops: both batch sizes' sh -c \
    "$tmp/json batches.0.ops.0.us batches.1.ops.0.us batches.1.ops.0.floor_us <out"
json '--json with a picture' model $nano "$bench" $quick --json "$png"
holds '--json with a picture: its times' sh -c "$tmp/json decode_ms preprocess_ms <out"

"$bench" --model $nano --size 2048 --threads 1 >out 2>err &
pid=$!
sleep 2
kill -INT $pid
code=0
wait $pid || code=$?
judge 'Ctrl-C' 1 'cancelled' '.*'
finish
