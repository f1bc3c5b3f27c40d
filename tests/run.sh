#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds and runs every test: the release build, then the same under ASan and UBSan, the programs
# from the command line, and the self-test on another processor. Ends with "N passed, M failed".
#   tests/run.sh [release|sanitize|apps|headers|valgrind|aarch64|cuda ...]
set -u
steps="${*:-headers release apps sanitize valgrind aarch64 cuda}"
jobs=$(nproc 2>/dev/null || echo 2)
passed=0
failed=0
skipped=0
log=build/test-logs
mkdir -p "$log"

# run NAME COMMAND...: one test; its output is shown only when it fails, but for the closing lines
run() {
    name=$1
    shift
    begin=$(date +%s)
    "$@" >"$log/$name.log" 2>&1
    code=$?
    seconds=$(($(date +%s) - begin))
    if [ $code = 0 ]; then
        passed=$((passed + 1))
        echo "ok    $name (${seconds}s)"
        grep -E '^\[  PASSED  \]|^[0-9]+ passed' "$log/$name.log" | sed 's/^/      /'
    elif [ $code = 77 ]; then
        skipped=$((skipped + 1))
        echo "skip  $name: $(tail -n 1 "$log/$name.log")"
    else
        failed=$((failed + 1))
        echo "FAIL  $name (exit $code, ${seconds}s)"
        tail -n 60 "$log/$name.log" | sed 's/^/      /'
    fi
}

cmocka_tests() {
    config=$1
    shift
    run "build-$config" make -j"$jobs" --no-print-directory "$@" tests || return
    for test in build/"$config"/tests/test_*; do
        case $test in *.o | *.d) continue ;; esac
        run "$config-$(basename "$test")" "$test"
    done
}

for step in $steps; do
    case $step in
    release) cmocka_tests release ;;
    sanitize) ASAN_OPTIONS=detect_leaks=1 cmocka_tests sanitize SANITIZE=1 ;;
    headers) run headers sh tests/test_headers.sh ;;
    apps)
        run build-apps make -j"$jobs" --no-print-directory apps examples
        for script in tests/cli/*.sh; do
            case $script in */common.sh) continue ;; esac
            run "cli-$(basename "$script" .sh)" sh "$script"
        done
        run selftest apps/selftest
        run build-bench make -j"$jobs" --no-print-directory build/release/bench/layers
        run bench-layers build/release/bench/layers --runs 1
        ;;
    valgrind) run valgrind sh tests/valgrind.sh ;;
    aarch64) run aarch64 sh tests/aarch64.sh ;;
    cuda)
        run cuda-emulation sh tests/cuda_emulation.sh
        run cuda-build sh tests/cuda.sh build
        for part in f32 bf16 f16 kernels test_cuda test_cuda_evaluate test_cuda_models \
            test_cuda_ops test_cuda_stream; do
            run "cuda-$part" sh tests/cuda.sh "$part"
        done
        ;;
    *)
        echo "unknown step $step" >&2
        exit 2
        ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
