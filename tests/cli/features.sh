#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# features: the maps of the stages as files.
. "$(dirname "$0")/common.sh"
build_json
features=$apps/features
png=$pictures/png_rgb.png
jpeg=$pictures/photo_420.jpg
cd "$tmp"
mkdir folder

usage features
devices features $golden --out f "$png"
misused 'no --out' '--out PREFIX is missing' "$features" "$png"
misused 'no picture' 'give one picture or --input-npy' "$features" --out f
misused 'two pictures' 'give one picture or --input-npy' "$features" --out f "$png" "$jpeg"
misused 'a picture and a tensor' 'give one picture or' "$features" --out f --input-npy in.npy "$png"
misused "--out ''" '--out: the name is empty' "$features" --out '' "$png"
misused '--layout chw' '--layout chw: want nchw or nhwc' "$features" --layout chw --out f "$png"
misused '--outputs of nothing' 'name at least one' "$features" --outputs , --out f "$png"
misused '--outputs of too many' 'at most 16' \
    "$features" --outputs a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q --out f "$png"
misused '--exif turn' 'want apply or ignore' "$features" --exif turn --out f "$png"
fails 'unknown output' "no output 'C9'" "$features" $golden --outputs C2,C9 --out f "$png"
fails 'no such picture' 'nowhere.png: cannot open' "$features" $golden --out f nowhere.png
fails 'a folder as picture' 'folder: is a folder' "$features" $golden --out f folder
fails 'unknown model' "no model 'nonsense'" "$features" --golden --model nonsense --out f "$png"
fails 'weights of another architecture' 'another architecture' \
    "$features" --model $nano --weights "$checkpoints/zip_p2.pth" --out f "$png"
fails 'into no folder' 'nowhere/f.C2.npy: cannot write' "$features" $golden --out nowhere/f "$png"
absent 'failures write nothing' f.*

works 'the default outputs' '^f.C2.npy  \[1, 48, 16, 16\]$' "$features" $golden --out f "$png"
npy 'C2' f.C2.npy '1, 48, 16, 16'
npy 'C3' f.C3.npy '1, 96, 8, 8'
npy 'C4' f.C4.npy '1, 192, 4, 4'
npy 'C5' f.C5.npy '1, 384, 2, 2'
npy 'embedding' f.embedding.npy '1, 384, 1, 1'
works '--layout nhwc' '^h.C2.npy  \[1, 16, 16, 48\]$' \
    "$features" $golden --layout nhwc --outputs C2,embedding --out h "$png"
npy 'C2 as NHWC' h.C2.npy '1, 16, 16, 48'
npy 'embedding as NHWC' h.embedding.npy '1, 1, 1, 384'
absent 'only what was asked for' h.C3.npy
# The same numbers in another order.
for map in f h; do
    tail -c +129 $map.C2.npy | od -An -v -tx4 -w4 | sort >$map.sorted
done
same 'NCHW and NHWC: same values' f.sorted h.sorted
differ 'NCHW and NHWC: another order' f.C2.npy h.C2.npy
tail -c +129 f.embedding.npy >f.values
tail -c +129 h.embedding.npy >h.values
same 'an embedding has one order' f.values h.values

works 'a height and a width' '\[1, 48, 12, 7\]$' \
    "$features" --golden --model $nano --size 45x26 --threads 1 --outputs C2 --out odd "$png"
npy 'an odd size is rounded up' odd.C2.npy '1, 48, 12, 7'
works '--threads 2' 'C5' "$features" $golden --threads 2 --out two "$png"
same 'one thread and two: same C5' f.C5.npy two.C5.npy
works 'logits as an output' '\[1, 1000, 1, 1\]$' "$features" $golden --outputs logits --out l "$png"
run "$apps/classify" $golden --logits c.npy --dump-input in.npy "$png"
tail -c 4000 l.logits.npy >a
tail -c 4000 c.npy >b
same 'features and classify: same logits' a b
works '--input-npy' 'C5' "$features" --golden --model $nano --threads 1 --input-npy in.npy --out n
same 'a picture and its tensor: same C5' f.C5.npy n.C5.npy
works 'a prefix with blanks and UTF-8' 'größe.C5' \
    "$features" $golden --outputs C5 --out 'folder/a größe' "$png"
npy 'a prefix with blanks and UTF-8' 'folder/a größe.C5.npy' '1, 384, 2, 2'
json '--json' shape.1 "$(printf '192\n384')" \
    "$features" $golden --json --outputs C4,C5 --out f "$png"
json '--json names the file' file f.C5.npy "$features" $golden --json --outputs C5 --out f "$png"
long=$(printf 'x%.0s' $(seq 1 1200))
fails 'a prefix that is too long' 'too long' "$features" $golden --outputs C5 --out "$long" "$png"

"$features" --golden --model $nano --size 3072 --threads 1 --out big "$png" >out 2>err &
pid=$!
sleep 1
kill -INT $pid
code=0
wait $pid || code=$?
judge 'Ctrl-C' 1 'cancelled' ''
absent 'Ctrl-C writes nothing' big.C2.npy
finish
