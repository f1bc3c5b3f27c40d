#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The release programs under valgrind: no invalid access, no use of uninitialised memory, no leak.
# With the portable kernels, because valgrind knows no AVX-512. Exits with 77 without valgrind.
set -eu
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null 2>&1 || {
    echo "valgrind is not installed"
    exit 77
}
make -j"$(nproc)" --no-print-directory apps

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0
nano="--golden --model swin_nano_patch4_window7_224 --size 64"
portable="--isa portable --threads 1"
pictures=tests/fixtures/pictures
checkpoints=tests/fixtures/checkpoints

# memcheck EXIT_CODE PROGRAM ARGUMENT...
memcheck() {
    want=$1
    shift
    code=0
    valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect,possible \
        --errors-for-leak-kinds=definite,indirect,possible "$@" >"$tmp/out" 2>"$tmp/err" || code=$?
    if [ "$code" != "$want" ]; then
        echo "FAIL  $*: exit code $code, want $want"
        cat "$tmp/out" "$tmp/err"
        exit 1
    fi
    passed=$((passed + 1))
    echo "ok    $*"
}

# shellcheck disable=SC2086
{
    memcheck 0 apps/classify $nano $portable --logits "$tmp/l.npy" --dump-input "$tmp/i.npy" \
        --cam "$tmp/cam.png" $pictures/png_palette_alpha.png
    memcheck 0 apps/classify $nano $portable --json $pictures/photo_420.jpg $pictures/exif_6.jpg
    memcheck 0 apps/classify $nano $portable --dtype bf16 --input-npy "$tmp/i.npy"
    memcheck 0 apps/features $nano $portable --out "$tmp/f" $pictures/png_grey_16bit.png
}
mkdir -p "$tmp/val/3" "$tmp/val/17"
cp $pictures/png_rgb.png "$tmp/val/3/"
cp $pictures/photo_420.jpg "$tmp/val/17/"
# shellcheck disable=SC2086
{
    memcheck 0 apps/evaluate $nano $portable --workers 2 --json "$tmp/e.json" \
        --report "$tmp/report" "$tmp/val"
    memcheck 0 apps/evaluate --merge "$tmp/e.json" --csv "$tmp/e.csv"
}
# damaged pictures beside a good one, a wrong checkpoint
head -c 5000 $pictures/photo_420.jpg >"$tmp/cut.jpg"
head -c 1500 $pictures/png_interlaced_rgb.png >"$tmp/cut.png"
# shellcheck disable=SC2086
memcheck 1 apps/classify $nano $portable "$tmp/cut.jpg" "$tmp/cut.png" $pictures/bmp_24.bmp
memcheck 1 apps/classify --model swin_nano_patch4_window7_224 \
    --weights $checkpoints/zip_p4.pth $pictures/png_rgb.png
for file in standard.safetensors zip_p4.pth legacy_p2.pth timm.pth.tar \
    model.safetensors.index.json; do
    memcheck 0 apps/info $checkpoints/$file
done
head -c 3000 $checkpoints/zip_p4.pth >"$tmp/cut.pth"
memcheck 1 apps/info "$tmp/cut.pth"
if [ -f weights/swin_nano_objects.safetensors ]; then
    memcheck 0 apps/classify $portable --size 64 $pictures/png_rgb.png
fi
echo "$passed passed, 0 failed"
