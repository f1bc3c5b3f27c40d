#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The CUDA side. Exits with 77 where there is no nvcc or no GPU.
#   build             compiles and links it for one architecture (`make lib` builds them all)
#   f32, bf16, f16    the golden cases on the GPU
#   kernels           the kernels alone, bench/cuda_kernels.cu
#   test_NAME         a test program
set -u
if ! command -v nvcc >/dev/null 2>&1; then
    echo "no nvcc: the CUDA side was not tested"
    exit 77
fi
# in a folder of its own: the release build's library has code for every architecture
config=${CUDA_CONFIG:-cuda-test}
folder=build/$config
VERTEBRA_CUDA=$folder/libvertebra_cuda.so.0
export VERTEBRA_CUDA
case $1 in
build)
    make -j"$(nproc)" --no-print-directory CONFIG="$config" CUDA=1 \
        CUDA_ARCHS="${CUDA_ARCHS:-90a}" NVCCFLAGS="${NVCCFLAGS:-}" "$VERTEBRA_CUDA" \
        "$folder/cuda_kernels" &&
        exec make -j"$(nproc)" --no-print-directory apps build/release/tests/test_cuda \
            build/release/tests/test_cuda_evaluate build/release/tests/test_cuda_models \
            build/release/tests/test_cuda_ops build/release/tests/test_cuda_stream
    exit 1
    ;;
kernels) message=$("$folder/cuda_kernels" --check-only 2>&1) ;;
test_*) message=$("build/release/tests/$1" 2>&1) ;;
*) message=$(apps/selftest --device cuda --dtype "$1" 2>&1) ;;
esac
code=$?
echo "$message"
case $message in *"no GPU can be used"* | *"device: no CUDA-capable device"* | *"device: CUDA driver"*)
    echo "no GPU here: the CUDA side was built but not run"
    exit 77
    ;;
esac
exit $code
