#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# compute-sanitizer over the operations and the kernels of the GPU: memcheck (addresses), synccheck
# (barriers) and racecheck (shared memory), the last two for our own kernels, the very last for the
# operations in one type and without those that bench/cuda_kernels checks: all would take it hours.
# Ends with one table: tool, program, errors.
# Takes minutes, so `make cuda-sanitize` runs it and not `make test`. Exits with 77 where there is
# no GPU or no compute-sanitizer.
#   TOOLS="memcheck synccheck racecheck"
#                            which tools
#   FOLDER=path              where test_cuda_ops, cuda_kernels and libvertebra_cuda.so.0 are, if
#                            not where tests/cuda.sh builds them
#   LIMIT=600                seconds for one program under one tool
set -u
cd "$(dirname "$0")/.."
tools=${TOOLS:-memcheck synccheck racecheck}
limit=${LIMIT:-600}
if ! command -v compute-sanitizer >/dev/null 2>&1; then
    echo "no compute-sanitizer: the GPU side was not sanitized"
    exit 77
fi
if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "no GPU here: the GPU side was not sanitized"
    exit 77
fi
if [ -n "${FOLDER:-}" ]; then
    ops=$FOLDER/test_cuda_ops
    kernels=$FOLDER/cuda_kernels
    VERTEBRA_CUDA=$FOLDER/libvertebra_cuda.so.0
else
    sh tests/cuda.sh build || exit 1
    ops=build/release/tests/test_cuda_ops
    kernels=build/cuda-test/cuda_kernels
    VERTEBRA_CUDA=build/cuda-test/libvertebra_cuda.so.0
fi
logs=build/sanitizer-logs
mkdir -p "$logs"
export VERTEBRA_CUDA
# the same data under every tool
VT_TEST_SEED=${VT_TEST_SEED:-1}
export VT_TEST_SEED

# check TOOL PROGRAM ARGUMENTS...: prints a row of the table; of $VT_TEST_OP alone if it is not empty
check() {
    tool=$1
    program=$2
    shift 2
    what=${VT_TEST_OP:-$(basename "$program")}
    log=$logs/$tool-$what.log
    case $tool in
    memcheck) options= ;;
    *) options="--kernel-name kns=_kernel" ;; # ours: the libraries' would take hours
    esac
    begin=$(date +%s)
    # shellcheck disable=SC2086
    timeout "$limit" compute-sanitizer --tool "$tool" $options --error-exitcode 9 "$program" "$@" \
        >"$log" 2>&1
    code=$?
    errors=$(sed -n 's/.*ERROR SUMMARY: \([0-9]*\) error.*/\1/p
        s/.*RACECHECK SUMMARY: \([0-9]*\) hazard.*/\1/p' "$log" | tail -n 1)
    case $code in
    0) ;;
    124) errors="over ${limit}s" ;;
    *) errors="${errors:-?} (exit $code)" ;;
    esac
    printf '%-10s %-18s %-14s %5ds\n' "$tool" "$what" "${errors:-no summary}" \
        $(($(date +%s) - begin))
    [ "$code" = 0 ] && [ "$errors" = 0 ]
}

# row ARGUMENTS OF check...
row() {
    check "$@" >"$logs/row.txt" || bad=$((bad + 1))
    tee -a "$table" <"$logs/row.txt"
}

bad=0
table=$logs/table.txt
printf '%-10s %-18s %-14s %6s\n' tool program errors time | tee "$table"
for tool in $tools; do
    unset VT_TEST_OP
    row "$tool" "$kernels" --check-only
    if [ "$tool" != racecheck ]; then
        row "$tool" "$ops"
        continue
    fi
    for operation in depthwise attention linear_attention channel_attention conv2d pool mean_pool \
        deform_patches; do
        export VT_TEST_OP=$operation
        row "$tool" "$ops" test_f16
    done
done
echo "$bad programs with errors; the reports are in $logs"
[ "$bad" = 0 ]
