#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# examples: every layer module has one of its name that runs, and so does a composed backbone.
#   EXAMPLES=folder   the programs to test (default build/release/examples)
. "$(dirname "$0")/common.sh"
examples=${EXAMPLES:-build/release/examples}

size='[1-9][0-9]*'
number='-?[0-9]+\.[0-9]{6}'
for header in include/vertebra/layers/*.h; do
    layer=$(basename "$header" .h)
    grep -o 'vt_[a-z_]*_bind' "$header" >"$tmp/binds"
    holds "$layer: its example binds it" grep -qwFf "$tmp/binds" "examples/$layer.c"
    works "$layer" "^[a-zA-Z0-9]+ is $size x $size x $size:( $number){3} [.]{3}\$" \
        "$examples/$layer"
    holds "$layer: its numbers differ" awk '$8 == $9 || $9 == $10 { exit 1 }' "$tmp/out"
done
works compose "^9 $number\$" "$examples/compose"
finish
