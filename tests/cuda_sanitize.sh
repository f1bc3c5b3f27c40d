#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# compute-sanitizer over the operations and the kernels of the GPU: memcheck (addresses), synccheck
# (barriers) and racecheck (shared memory), the last two for our own kernels, the very last for the
# operations in one type and without `linear`: the tool fails there by itself ("failed to handle a
# hardware exception"); its kernels are checked one by one. Ends with one table: tool, program,
# errors.
# Takes minutes (all rows run at the same time), so `make cuda-sanitize` runs it and not `make
# test`. Exits with 77 where there is no GPU or no compute-sanitizer.
#   TOOLS="memcheck synccheck racecheck"
#                            which tools
#   FOLDER=path              where test_cuda_ops, cuda_kernels and libvertebra_cuda.so.0 are, if
#                            not where tests/cuda.sh builds them
#   RACE_FOLDER=path         the same for racecheck, whose code needs more registers than kernels
#                            leave that hand registers from warpgroup to warpgroup: built with
#                            -DVT_KEEP_REGISTERS
#   LIMIT=900                seconds for one program under one tool
set -u
cd "$(dirname "$0")/.."
tools=${TOOLS:-memcheck synccheck racecheck}
limit=${LIMIT:-900}
if ! command -v compute-sanitizer >/dev/null 2>&1; then
    echo "no compute-sanitizer: the GPU side was not sanitized"
    exit 77
fi
if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "no GPU here: the GPU side was not sanitized"
    exit 77
fi

# Builds the three files, into build/CONFIG.
build() {
    CUDA_CONFIG=$1 NVCCFLAGS=$2 sh tests/cuda.sh build || exit 1
    ln -sf ../release/tests/test_cuda_ops "build/$1/"
}
case $tools in *memcheck* | *synccheck*)
    [ -n "${FOLDER:-}" ] || build cuda-test ""
    ;;
esac
case $tools in *racecheck*)
    [ -n "${RACE_FOLDER:-}" ] || build cuda-race -DVT_KEEP_REGISTERS
    ;;
esac
logs=build/sanitizer-logs
rm -rf "$logs"
mkdir -p "$logs"
# the same data under every tool
VT_TEST_SEED=${VT_TEST_SEED:-1}
export VT_TEST_SEED

# check TOOL NAME PROGRAM ARGUMENTS...: writes a row of the table; $VT_TEST_OP is the one operation
check() {
    tool=$1
    what=$2
    folder=${FOLDER:-build/cuda-test}
    options="--kernel-name kns=_kernel" # ours: the libraries' would take hours
    case $tool in
    memcheck) options= ;;
    racecheck) folder=${RACE_FOLDER:-build/cuda-race} ;;
    esac
    program=$folder/$3
    shift 3
    log=$logs/$tool-$what.log
    begin=$(date +%s)
    # shellcheck disable=SC2086
    VERTEBRA_CUDA=$folder/libvertebra_cuda.so.0 timeout "$limit" compute-sanitizer --tool "$tool" \
        $options --error-exitcode 9 "$program" "$@" >"$log" 2>&1
    code=$?
    errors=$(sed -n 's/.*ERROR SUMMARY: \([0-9]*\) error.*/\1/p
        s/.*RACECHECK SUMMARY: \([0-9]*\) hazard.*/\1/p' "$log" | tail -n 1)
    case $code in
    0) ;;
    124) errors="over ${limit}s" ;;
    *) errors="${errors:-?} (exit $code)" ;;
    esac
    printf '%-10s %-20s %-14s %5ds\n' "$tool" "$what" "${errors:-no summary}" \
        $(($(date +%s) - begin)) >"$logs/$tool-$what.row"
    [ "$code" = 0 ] && [ "$errors" = 0 ] || echo "$tool $what" >>"$logs/failed"
}

for tool in $tools; do
    check "$tool" kernels cuda_kernels --check-only &
    if [ "$tool" != racecheck ]; then
        for type in f32 bf16 f16; do
            check "$tool" "operations, $type" test_cuda_ops "test_$type" &
        done
        check "$tool" "large values" test_cuda_ops "test_large*" &
        continue
    fi
    for operation in depthwise attention linear_attention channel_attention conv2d pool mean_pool \
        deform_patches; do
        VT_TEST_OP=$operation check "$tool" $operation test_cuda_ops test_f16 &
    done
done
wait
printf '%-10s %-20s %-14s %6s\n' tool program errors time
cat "$logs"/*.row
[ ! -e "$logs/failed" ] || echo "$(wc -l <"$logs/failed") with errors; the reports are in $logs"
[ ! -e "$logs/failed" ]
