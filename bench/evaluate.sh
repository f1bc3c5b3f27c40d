#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# How near evaluate comes to the slower of network and decoding: a table of three speeds in pictures
# per second, and end to end as a share of the smaller of the other two.
#   bench/evaluate.sh [COUNT] [EVALUATE OPTIONS ...]
#       default: 10000 pictures, --device cuda --dtype f16 --model swin_tiny_patch4_window7_224
# Two kinds of pictures: a photo of 500 x 375 (JPEG), where decoding is slower, and noise of
# 256 x 256 (PPM), where on a GPU the network is. VERTEBRA_EVALUATE names another program.
# Exits with 1 where a kind of preprocessing changes a result.
set -eu
cd "$(dirname "$0")/.."
evaluate=${VERTEBRA_EVALUATE:-apps/evaluate}
count=${1:-10000}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- --device cuda --dtype f16 --model swin_tiny_patch4_window7_224
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# 100 files in a folder, and links to that folder until there are enough
mkdir -p "$tmp/photo" "$tmp/noise"
i=0
while [ $i -lt 100 ]; do
    ln -s "$PWD/tests/fixtures/pictures/photo_420.jpg" "$tmp/photo/$i.jpg"
    { printf 'P6\n256 256\n255\n' && head -c 196608 /dev/urandom; } >"$tmp/noise/$i.ppm"
    i=$((i + 1))
done
for kind in photo noise; do
    mkdir -p "$tmp/of_$kind/0"
    i=0
    while [ $i -lt $((count / 100)) ]; do
        ln -s "../../$kind" "$tmp/of_$kind/0/$i"
        i=$((i + 1))
    done
done

# row KIND PREPROCESS OPTIONS...
row() {
    kind=$1
    how=$2
    shift 2
    if ! "$evaluate" --golden "$@" --preprocess "$how" --json "$tmp/$kind-$how.json" \
        "$tmp/of_$kind" >"$tmp/out" 2>&1; then
        cat "$tmp/out" >&2
        exit 2
    fi
    awk -v kind="$kind" -v how="$how" '$1 == "speed" {
        whole = $2; network = $9; load = $12
        sub(",", "", network)
        least = network + 0 < load + 0 ? network : load
        printf "%-8s %-10s %12.0f %12.0f %12.0f %8.3f\n", kind, how, whole, network, load,
            whole / least
    }' "$tmp/out"
}

echo "$evaluate $*: $((count / 100 * 100)) pictures"
printf '%-8s %-10s %12s %12s %12s %8s\n' pictures preprocess 'end to end' network decoding share
case " $* " in *cuda*) ways='cpu gpu' ;; *) ways=cpu ;; esac
bad=0
for kind in photo noise; do
    for how in $ways; do
        row "$kind" "$how" "$@"
        sed -e '/^ "about": {/,/^ }/d' -e '/^ "speed": {/,/^ }/d' "$tmp/$kind-$how.json" \
            >"$tmp/$how.figures"
        if ! cmp -s "$tmp/cpu.figures" "$tmp/$how.figures"; then
            echo "$kind: --preprocess $how gives other results" >&2
            bad=1
        fi
    done
done
exit $bad
