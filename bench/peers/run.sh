#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Rivals and our own bench program side by side. Arguments go to cpu.py: --model, --threads, ...
# VERTEBRA_BENCH names our program; without it (or if it is not built) only the rivals run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/setup.sh")
bench=${VERTEBRA_BENCH:-$here/../../apps/bench}
common="--model {model} --threads {threads} --batch {batch} --golden --json"
if [ -x "$bench" ]; then
    exec "$python" "$here/cpu.py" --ours "f32=$bench --dtype f32 $common" \
        --ours "bf16=$bench --dtype bf16 $common" "$@"
fi
echo "$bench is not built: rivals only" >&2
exec "$python" "$here/cpu.py" "$@"
