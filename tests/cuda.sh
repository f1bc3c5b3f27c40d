#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The CUDA side: `build` compiles and links it (for one architecture; `make lib` builds them all); an
# element type runs the golden cases on the GPU. Exits with 77 where there is no nvcc or no GPU.
set -u
if ! command -v nvcc >/dev/null 2>&1; then
    echo "no nvcc: the CUDA side was not tested"
    exit 77
fi
# in a folder of its own: the release build's library has code for every architecture
config=cuda-test
library=build/$config/libvertebra_cuda.so.0
if [ "$1" = build ]; then
    exec make -j"$(nproc)" --no-print-directory CONFIG="$config" CUDA=1 \
        CUDA_ARCHS="${CUDA_ARCHS:-90a}" "$library"
fi
message=$(VERTEBRA_CUDA=$library apps/selftest --device cuda --dtype "$1" 2>&1)
code=$?
echo "$message"
case $message in *"no GPU can be used"*)
    echo "no GPU here: the CUDA side was built but not run"
    exit 77
    ;;
esac
exit $code
