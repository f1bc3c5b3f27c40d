#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The small networks of weights/fashion on the 10,000 test pictures of Fashion-MNIST: how often they
# are right, and, picture by picture, whether they answer what the program that trained them did.
#   evaluate_demo.sh [--limit N] [WEIGHTS [PICTURES]]
# WEIGHTS (default weights/fashion) holds NAME.safetensors and NAME.tsv of tools/train/fashion.py,
# PICTURES (default build/fashion-mnist, made where it is missing) what
# datasets/fashion-mnist/prepare writes. $FASHION_MNIST: folder of the IDX files. $VERTEBRA_OPTIONS:
# more options for apps/evaluate, such as --device cuda.
set -eu

limit=
if [ "${1:-}" = --limit ]; then
    limit="--limit $2"
    shift 2
fi
weights=${1:-weights/fashion}
pictures=${2:-build/fashion-mnist}

complain() {
    printf 'evaluate-demo: %s\n' "$1" >&2
    exit 1
}
ls "$weights"/*.safetensors >/dev/null 2>&1 || complain \
    "no weights in $weights; tools/train/README.md, Fashion-MNIST, says how they are trained"
command -v python3 >/dev/null || complain "python3 is needed to compare (no packages)"
if [ ! -d "$pictures/test" ]; then
    idx=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
    [ -d "$idx" ] || complain "$idx: no such folder (apt-get install dataset-fashion-mnist)"
    datasets/fashion-mnist/prepare "$idx" "$pictures"
fi

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM HUP
for file in "$weights"/*.safetensors; do
    name=$(basename "$file" .safetensors)
    echo "$name ..."
    # shellcheck disable=SC2086 # both are lists of words
    apps/evaluate $limit ${VERTEBRA_OPTIONS:-} --weights "$file" --json "$results/$name.json" \
        "$pictures/test" >/dev/null
done
python3 tools/compare_predictions.py "$weights" "$results"/*.json
