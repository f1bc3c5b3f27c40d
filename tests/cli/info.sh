#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# info: models, files, costs.
. "$(dirname "$0")/common.sh"
build_json
info=$apps/info
cd "$tmp"
mkdir folder

usage info
devices info
for batch in 0 -1 x 65537 ''; do
    misused "--batch '$batch'" '--batch .*: want 1 to 65536' "$info" --batch "$batch"
done
misused 'two files' 'one file at a time' "$info" a b

# ---- models --------------------------------------------------------------------------------------
works 'the models' '^  swin_tiny_patch4_window7_224 .* 224x224 .*1000 classes' "$info"
works 'their source and licence' '^swin: Swin Transformer.*github.com.*MIT' "$info"
family=$("$info" | sed -n 's/^\([a-z0-9_]*\): .*/\1/p' | sed -n 1p)
json 'the models as JSON' 0.family "$family" "$info" --json
holds 'all there is to know as JSON' sh -c "$tmp/json 1.name 1.family 1.height 1.classes 1.license \
    1.checkpoint <out"
{
    code=0
    "$info" 2>err || code=$?
    echo "$code" >code
} | head -n 1 >out
case $(cat code) in 0 | 141) ok ;; *) bad '| head -n 1' "exit code $(cat code)" ;; esac
is '| head -n 1 says nothing' "$(cat err)" ''

# ---- one model -----------------------------------------------------------------------------------
fails 'unknown model' "no model 'nonsense' .*info" "$info" --model nonsense
works 'a model' 'parameters   28.29 M' "$info" --model swin_tiny_patch4_window7_224
works 'a model: work' 'operations   .* GFLOP' "$info" --model $nano
works 'a model: batch and size' 'input        3 x 3 x 65 x 129$' \
    "$info" --model $nano --batch 3 --size 65x129
works 'windows follow --size' 'input        1 x 3 x 64 x 96$' \
    "$info" --model maxvit_tiny_tf_224 --size 64x96
works 'a name with a tag of timm' 'parameters   28.29 M' \
    "$info" --model swin_tiny_patch4_window7_224.ms_in1k
json 'a model as JSON' parameters 28288354 "$info" --json --model swin_tiny_patch4_window7_224
json 'batch as JSON' batch 3 "$info" --json --model $nano --batch 3 --size 64
works '--keys' '^patch_embed.proj.weight \[48, 3, 4, 4\]$' "$info" --model $nano --keys
works '--ops' '^patch_embed .*MFLOP' "$info" --model $nano --ops
works '--ops of the reference' '^patch_embed ' "$info" --model $nano --ops --device ref
works 'a size that no memory holds' 'memory       [0-9.]+ MB' "$info" --model $nano --size 16384
works 'bf16' 'as bf16' "$info" --model $nano --dtype bf16

# ---- files ---------------------------------------------------------------------------------------
works 'safetensors' '^f32   patch.weight \[4, 3, 2, 2\]$' \
    "$info" "$checkpoints/standard.safetensors"
works 'safetensors: sum' '^25 tensors, .*safetensors$' "$info" "$checkpoints/standard.safetensors"
json 'safetensors as JSON' elements 347 "$info" --json "$checkpoints/standard.safetensors"
works 'an index of shards' 'safetensors \(sharded\)' \
    "$info" "$checkpoints/model.safetensors.index.json"
for file in zip_p2.pth zip_p5.pth legacy_p2.pth legacy_p5.pth mmcv.pth mmengine.pth timm.pth.tar \
    parameters.pth mixed.pth nested_ema.pth odd.pth; do
    works "$file" '^[0-9]+ tensors, .*pytorch' "$info" "$checkpoints/$file"
    run "$info" --json "$checkpoints/$file"
    holds "$file as JSON" sh -c "$tmp/json format root elements tensors.0.name <out"
done
works 'where the weights are' 'weights under ' "$info" "$checkpoints/timm.pth.tar"
works '--verify' 'tensors' "$info" --verify "$checkpoints/zip_p4.pth"
works '--ema' 'tensors.*ema' "$info" --ema "$checkpoints/nested_ema.pth"
fails 'a whole pickled module' "state_dict" "$info" "$checkpoints/module.pth"
fails 'no weights inside' 'no dictionary of tensors' "$info" "$checkpoints/nothing.pth"
fails 'a bare pickle' 'bare pickle' "$info" "$checkpoints/bare.pkl"
fails 'no such file' 'nowhere: cannot open: No such file' "$info" nowhere
fails 'an empty name' 'cannot open' "$info" ''
fails 'a folder' 'folder: is a folder' "$info" folder
fails 'a device' 'not a regular file' "$info" /dev/zero
: >empty
fails 'an empty file' 'empty: the file is empty' "$info" empty
echo '<html>' >page.pth
fails 'a web page' 'a web page, not a checkpoint' "$info" page.pth
fails 'a picture' 'not a checkpoint' "$info" "$pictures/photo_420.jpg"
cp "$checkpoints/model.safetensors.index.json" .
fails 'an index without its shards' 'model-0000.-of-00002.safetensors' \
    "$info" model.safetensors.index.json
printf '{"metadata": {}, "weight_map": {"a": "../secret.safetensors"}}' >up.index.json
fails 'an index that points elsewhere' 'up.index.json: ' "$info" up.index.json

# Every length of a small file: one line and exit code 1, or the whole answer.
h='{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
# shellcheck disable=SC2059
{ printf "\\$(printf %o ${#h})\\0\\0\\0\\0\\0\\0\\0"; printf '%s12345678' "$h"; } >tiny.safetensors
works 'a file of one tensor' '^f32   a \[2\]$' "$info" tiny.safetensors
size=$(($(wc -c <tiny.safetensors)))
keep=1
while [ $keep -lt $size ]; do
    head -c $keep tiny.safetensors >cut.safetensors
    fails "cut at $keep" '^info: cut.safetensors: ' "$info" cut.safetensors
    keep=$((keep + 1))
done
printf x >>tiny.safetensors
fails 'a byte too many' '^info: tiny.safetensors: ' "$info" tiny.safetensors

h='{"a\u001b[2J\u0007b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
# shellcheck disable=SC2059
{ printf "\\$(printf %o ${#h})\\0\\0\\0\\0\\0\\0\\0"; printf '%s1234' "$h"; } >escape.safetensors
works 'a name cannot drive the terminal' '^f32   a\?\[2J\?b \[1\]$' "$info" escape.safetensors
json 'a name in JSON' tensors.0.dtype f32 "$info" --json escape.safetensors
if [ -f "$root/weights/swin_nano_objects.safetensors" ]; then
    works 'shipped weights' "tensors, .*safetensors, for $nano$" \
        "$info" "$root/weights/swin_nano_objects.safetensors"
else
    skip 'shipped weights' 'weights/swin_nano_objects.safetensors is not there'
fi
finish
