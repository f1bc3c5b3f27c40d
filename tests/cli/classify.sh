#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# classify, as strangers use it.
. "$(dirname "$0")/common.sh"
build_json
classify=$apps/classify
png=$pictures/png_rgb.png
jpeg=$pictures/photo_420.jpg
cd "$tmp"
mkdir folder

# ---- usage ---------------------------------------------------------------------------------------
usage classify
devices classify $golden "$png"
misused 'no picture' 'no picture given' "$classify"
misused 'only --' 'no picture given' "$classify" --
for topk in 0 -1 x 1.5 '' 2x 99999999999999999999; do
    misused "--topk '$topk'" '--topk .*: want a number from 1' "$classify" --topk "$topk" "$png"
done
misused '--exif turn' '--exif turn: want apply or ignore' "$classify" --exif turn "$png"
misused '--topk without a number' 'requires an argument' "$classify" "$png" --topk
for option in cam logits dump-input; do
    misused "--$option ''" "--$option: the name is empty" "$classify" --$option '' "$png"
done
misused '--cam and two pictures' 'exactly one picture' "$classify" --cam cam.png "$png" "$jpeg"
misused '--cam and a tensor' 'exactly one picture' "$classify" --cam cam.png --input-npy in.npy
misused 'a picture and a tensor' 'not both' "$classify" --input-npy in.npy "$png"
absent 'wrong usage writes nothing' cam.png

# ---- models and weights --------------------------------------------------------------------------
fails 'unknown model, no weights' 'nonsense: there is no such model .*info' \
    "$classify" --model nonsense "$png"
fails 'known model, no weights' 'nat_mini: .*run: weights/fetch nat_mini .*--weights' \
    "$classify" --model nat_mini "$png"
fails 'unknown model, golden' "no model 'nonsense' .*info" \
    "$classify" --golden --model nonsense "$png"
fails 'VERTEBRA_WEIGHTS names no file' 'nowhere.safetensors: cannot open' \
    env VERTEBRA_WEIGHTS=nowhere.safetensors "$classify" "$png"
fails 'weights that are not there' 'nowhere.pth: cannot open: No such file' \
    "$classify" --model $nano --weights nowhere.pth "$png"
fails 'a folder as weights' 'folder: is a folder' "$classify" --model $nano --weights folder "$png"
fails 'a device as weights' 'not a regular file' \
    "$classify" --model $nano --weights /dev/zero "$png"
: >empty.pth
fails 'empty weights' 'empty.pth: the file is empty' \
    "$classify" --model $nano --weights empty.pth "$png"
printf '<!DOCTYPE html>\n<html><body>Not found</body></html>\n' >page.pth
fails 'a web page as weights' 'page.pth: this is a web page.*download' \
    "$classify" --model $nano --weights page.pth "$png"
fails 'a picture as weights' 'not a checkpoint' "$classify" --model $nano --weights "$png" "$png"
fails 'weights without a model name' 'does not say which model.*name one' \
    "$classify" --weights "$checkpoints/standard.safetensors" "$png"
fails 'weights of another architecture' 'looks like another architecture' \
    "$classify" --model $nano --weights "$checkpoints/standard.safetensors" "$png"
fails 'pytorch weights of another architecture' 'standard|zip_p2.*another architecture' \
    "$classify" --model $nano --weights "$checkpoints/zip_p2.pth" "$png"
size=$(($(wc -c <"$checkpoints/standard.safetensors")))
for keep in 1 7 8 9 100 1000 1735 1736 2000 $((size - 1)); do
    head -c "$keep" "$checkpoints/standard.safetensors" >cut.safetensors
    fails "safetensors cut at $keep" '^classify: cut.safetensors: ' \
        "$classify" --model $nano --weights cut.safetensors "$png"
done
size=$(($(wc -c <"$checkpoints/zip_p4.pth")))
for keep in 4 30 100 1000 $((size / 2)) $((size - 22)) $((size - 1)); do
    head -c "$keep" "$checkpoints/zip_p4.pth" >cut.pth
    fails "pth cut at $keep" '^classify: cut.pth: ' \
        "$classify" --model $nano --weights cut.pth "$png"
done

# ---- pictures ------------------------------------------------------------------------------------
works 'a PNG' 'class 135$' "$classify" $golden "$png"
works 'a JPEG' 'class 65$' "$classify" $golden "$jpeg"
works 'options behind the picture' 'class 135$' "$classify" "$png" $golden
is '--topk 5 is the default' "$(($(wc -l <out)))" 6
run "$classify" $golden --topk 2000 "$png"
is '--topk beyond the classes' "$(($(wc -l <out)))" 1001
fails 'no such picture' 'nowhere.png: cannot open: No such file' "$classify" $golden nowhere.png
fails 'a picture without a name' 'cannot open' "$classify" $golden ''
fails 'a folder as picture' 'folder: is a folder' "$classify" $golden folder
fails 'a device as picture' '/dev/zero: is not a regular file' "$classify" $golden /dev/zero
: >empty.png
fails 'empty picture' 'empty.png: file is empty' "$classify" $golden empty.png
echo 'This is no picture, whatever its name says.' >text.jpg
fails 'text as picture' 'text.jpg: not a picture.*PNG, JPEG' "$classify" $golden text.jpg
for keep in 1 2 4 100 1000 20000; do
    head -c "$keep" "$jpeg" >cut.jpg
    fails "JPEG cut at $keep" 'cut.jpg: (.*cut short|not a picture)' "$classify" $golden cut.jpg
done
for keep in 1 8 20 33 50 300 1500; do
    head -c "$keep" "$png" >cut.png
    fails "PNG cut at $keep" 'cut.png: ' "$classify" $golden cut.png
done
printf 'GIF89a\001\000\001\000\200\000\000' >a.gif
fails 'GIF' 'a.gif: a GIF picture, .*not supported' "$classify" $golden a.gif
printf 'RIFF\044\000\000\000WEBPVP8 \030\000\000\000' >a.webp
fails 'WebP' 'a.webp: a WebP picture, .*not supported' "$classify" $golden a.webp
cp "$png" 'wrong name.jpg'
works 'told by content, not by name' '^wrong name.jpg$' "$classify" $golden 'wrong name.jpg'
cp "$png" unreadable.png
chmod 000 unreadable.png
if [ -r unreadable.png ]; then
    skip 'a picture without permission' 'this user may read everything'
else
    fails 'a picture without permission' 'unreadable.png: .*Permission denied' \
        "$classify" $golden unreadable.png
fi
check 'one of three pictures is bad' 1 'text.jpg: not a picture' '^  .*class 65$' \
    "$classify" $golden "$png" text.jpg "$jpeg"
is 'the other two are classified' "$(grep -c '^/' out)" 2
works 'picture of one pixel' 'class' "$classify" $golden "$pictures/png_1x1.png"
works 'size of one pixel' 'class' "$classify" --golden --model $nano --size 1 --threads 1 "$png"
works 'an odd size' 'class' "$classify" --golden --model $nano --size 37x53 --threads 1 "$png"

# ---- names and folders ---------------------------------------------------------------------------
mkdir 'a folder'
cp "$png" 'a folder/Katze auf dem Dach – größer.png'
cp "$png" ./-dash.png
cp "$png" ./--json
works 'spaces and UTF-8' 'größer.png$' \
    "$classify" $golden 'a folder/Katze auf dem Dach – größer.png'
works 'a leading dash behind --' '^-dash.png$' "$classify" $golden -- -dash.png
works 'an option as a name behind --' '^--json$' "$classify" $golden -- --json
odd=$(printf 'odd\001\377.png')
cp "$png" "$odd"
works 'a control character in a name' '^odd\?' "$classify" $golden "$odd"
json 'a name that is no UTF-8 in JSON' top.0.index 135 "$classify" $golden --json "$odd"
(cd / && "$classify" $golden "$png") >elsewhere 2>&1 || true
works 'from another folder' 'class 135' "$classify" $golden "$png"
same 'from another folder: same answer' elsewhere out
ln -s "$classify" 'linked classify'
works 'through a link' 'class 135' "./linked classify" $golden "$png"
(PATH=$apps:$PATH && cd / && classify $golden "$png") >elsewhere 2>&1 || true
same 'through PATH: same answer' elsewhere out

# ---- results -------------------------------------------------------------------------------------
json '--json' top.0.index 135 "$classify" $golden --json "$png"
json '--json names the picture' picture "$png" "$classify" $golden --json "$png"
json '--json names the model' model $nano "$classify" $golden --json "$png"
json '--json of two pictures is two lines' top.0.label "$(printf 'class 135\nclass 65')" \
    "$classify" $golden --json --topk 1 "$png" "$jpeg"

seq 1 1000 | sed 's/^/thing "\\ /' >labels.txt
works '--labels' 'thing "\\ 136$' "$classify" $golden --labels labels.txt "$png"
json '--labels with --json' top.0.label 'thing "\ 136' \
    "$classify" $golden --labels labels.txt --json "$png"
sed 's/$/\r/' labels.txt >windows.txt
works '--labels with CR LF' 'thing "\\ 136$' "$classify" $golden --labels windows.txt "$png"
printf '%s' "$(cat labels.txt)" >no-end.txt
works '--labels without a last line end' 'thing' "$classify" $golden --labels no-end.txt "$png"
head -n 999 labels.txt >few.txt
fails 'labels: one too few' 'few.txt has 999 lines, the model 1000 classes' \
    "$classify" $golden --labels few.txt "$png"
echo more >>labels.txt
fails 'labels: one too many' 'labels.txt has 1001 lines' \
    "$classify" $golden --labels labels.txt "$png"
: >none.txt
fails 'labels: empty' 'none.txt has 0 lines' "$classify" $golden --labels none.txt "$png"
fails 'labels: no such file' 'nowhere.txt: No such file' \
    "$classify" $golden --labels nowhere.txt "$png"
fails 'labels: a folder' 'folder: Is a directory' "$classify" $golden --labels folder "$png"

works '--logits and --dump-input' 'class' \
    "$classify" $golden --logits a.npy --dump-input in.npy "$png" "$jpeg"
npy '--logits' a.npy '2, 1000'
npy '--dump-input' in.npy '2, 3, 64, 64'
works '--input-npy' 'in.npy\[1\]$' \
    "$classify" --golden --model $nano --threads 1 --input-npy in.npy --logits b.npy
same 'pictures and their tensors: same logits' a.npy b.npy
works '--threads 2' 'class' "$classify" $golden --threads 2 --logits b.npy "$png" "$jpeg"
same 'one thread and two: same logits' a.npy b.npy
works 'the other order' 'class' "$classify" $golden --logits c.npy "$jpeg" "$png"
differ 'the other order: other rows' a.npy c.npy
tail -c 4000 a.npy >second
tail -c +129 c.npy | head -c 4000 >first
same 'the other order: same values' first second
run "$classify" $golden --logits d.npy "$png" text.jpg "$jpeg"
same 'a bad picture has no row' a.npy d.npy
fails 'only bad pictures' 'text.jpg' "$classify" $golden --logits none.npy text.jpg
absent 'only bad pictures: no file' none.npy
works 'the reference device' 'class 135$' "$classify" $golden --device ref "$png"
works 'bf16' 'class 135$' "$classify" $golden --dtype bf16 "$png"

head -c 200 in.npy >cut.npy
fails 'a tensor cut short' 'cut.npy: ' "$classify" --golden --model $nano --input-npy cut.npy
fails 'a tensor of two axes' 'a.npy: want a tensor \[n, 3, h, w\]' \
    "$classify" --golden --model $nano --input-npy a.npy
fails 'a picture as tensor' 'npy' "$classify" --golden --model $nano --input-npy "$png"
fails 'no such tensor' 'nowhere.npy: cannot open' \
    "$classify" --golden --model $nano --input-npy nowhere.npy

check '--print-preproc' 0 '' '^input 64x64 .*crop_pct 0.9, mode center, filter bicubic' \
    "$classify" $golden --print-preproc
holds '--print-preproc: mean and std' \
    grep -q '^mean 0.485 0.456 0.406, std 0.229 0.224 0.225, exif apply$' out
works '--print-preproc --exif ignore' 'exif ignore$' \
    "$classify" $golden --print-preproc --exif ignore

# Orientation 6 is a turn: applying it and ignoring it show the network different pictures.
for turn in 1 6; do
    file=$pictures/exif_$turn.jpg
    run "$classify" $golden --exif apply --dump-input apply.npy "$file"
    run "$classify" $golden --exif ignore --dump-input ignore.npy "$file"
    run "$classify" $golden --dump-input default.npy "$file"
    same "exif $turn: apply is the default" apply.npy default.npy
    if [ $turn = 1 ]; then
        same 'exif 1: nothing to turn' apply.npy ignore.npy
    else
        differ 'exif 6: turned' apply.npy ignore.npy
    fi
done

works '--cam' 'class 65$' "$classify" $golden --cam 'seen it.png' "$jpeg"
is '--cam writes a PNG' "$(od -An -tx1 -N8 'seen it.png' | tr -d ' ')" 89504e470d0a1a0a
works '--cam result is a picture' 'seen it.png' "$classify" $golden 'seen it.png'
fails '--cam of a bad picture' 'text.jpg' "$classify" $golden --cam bad.png text.jpg
absent '--cam of a bad picture: no file' bad.png

# ---- results that cannot be written --------------------------------------------------------------
check '--logits into no folder' 1 'nowhere/a.npy: cannot write: No such' 'class' \
    "$classify" $golden --logits nowhere/a.npy "$png"
check '--logits onto a folder' 1 'folder: ' 'class' "$classify" $golden --logits folder "$png"
check '--cam into no folder' 1 'nowhere/a.png: cannot create: No such' 'class' \
    "$classify" $golden --cam nowhere/a.png "$png"
check '--dump-input into no folder' 1 'nowhere/a.npy' 'class' \
    "$classify" $golden --dump-input nowhere/a.npy "$png"
is 'nothing is left beside the folder' "$(ls folder)" ''
mkdir locked
chmod 500 locked
if [ -w locked ]; then
    skip 'a folder without permission' 'this user may write everywhere'
else
    check 'a folder without permission' 1 'Permission denied' 'class' \
        "$classify" $golden --logits locked/a.npy "$png"
fi
if [ -w /dev/full ]; then
    code=0
    "$classify" $golden "$png" >/dev/full 2>err || code=$?
    : >out
    judge 'a full disk' 1 'cannot write the result: No space left' ''
fi
code=0
"$classify" $golden --logits closed.npy "$png" >&- 2>err || code=$?
: >out
judge 'stdout is closed' 1 'cannot write the result' ''
same 'stdout is closed: the file is whole' closed.npy closed.npy
npy 'stdout is closed: the file is right' closed.npy '1, 1000'
{
    code=0
    "$classify" $golden --topk 1000 "$png" "$jpeg" 2>err || code=$?
    echo "$code" >code
} | head -n 1 >out
is '| head -n 1' "$(cat out)" "$png"
case $(cat code) in 0 | 141) ok ;; *) bad '| head -n 1' "exit code $(cat code)" ;; esac

# ---- Ctrl-C --------------------------------------------------------------------------------------
"$classify" --golden --model $nano --size 3072 --threads 1 "$png" >out 2>err &
pid=$!
sleep 1
kill -INT $pid
code=0
wait $pid || code=$?
judge 'Ctrl-C' 1 'cancelled' ''

# ---- the shipped weights -------------------------------------------------------------------------
if [ -f "$root/weights/swin_nano_objects.safetensors" ]; then
    works 'shipped weights' '%  [a-z]' "$classify" "$jpeg"
    works 'shipped weights in bf16' '%  [a-z]' "$classify" --dtype bf16 "$jpeg"
    json 'shipped weights name their model' model $nano "$classify" --json "$jpeg"
    works 'shipped weights by name' '%  [a-z]' \
        "$classify" --weights "$root/weights/swin_nano_objects.safetensors" "$jpeg"
    fails 'shipped weights as another model' 'swin_tiny' "$classify" \
        --model swin_tiny_patch4_window7_224 \
        --weights "$root/weights/swin_nano_objects.safetensors" "$jpeg"
else
    fails 'no shipped weights' 'shipped weights were not found; give --weights' "$classify" "$png"
    skip 'shipped weights' 'weights/swin_nano_objects.safetensors is not there'
fi
finish
