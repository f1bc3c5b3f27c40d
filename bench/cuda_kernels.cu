/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA kernels alone: checks against plain loops on the CPU, then times at Swin-T's shapes.
 * Build and run (pick the architecture of the device):
 *   nvcc -std=c++17 -O3 --expt-relaxed-constexpr -Iinclude -Isrc -arch=native \
 *       bench/cuda_kernels*.cu src/cuda/[a-z]*.cu -lcublasLt -o build/cuda_kernels
 *   build/cuda_kernels [--check-only | --time-only | --products | --summed | --boxes |
 *                       --depthwise | --small [BATCH]]
 * --check-only is the one to run under compute-sanitizer; --products checks and times the kernels
 * of tensor-core products alone, --summed times linear and channel attention alone, --boxes that of
 * boxes of keys, --depthwise depthwise convolutions, --small times the products of a block at a
 * small batch beside cuBLASLt. */
#include "cuda_kernels.cuh"

int main(int argc, char **argv)
{
    bool checks = argc < 2 || strcmp(argv[1], "--check-only") == 0;
    bool times = argc < 2 || strcmp(argv[1], "--check-only") != 0;
    bool products = argc == 2 && strcmp(argv[1], "--products") == 0;
    cudaDeviceProp device;
    must(cudaGetDeviceProperties(&device, 0), "device");
    printf("%s, %d multiprocessors, L2 %d MB\n", device.name, device.multiProcessorCount,
           device.l2CacheSize >> 20);
    if (products) {
        check_products();
        if (vt_cuda_has_wgmma(0)) {
            time_products();
        }
        return failures != 0;
    }
    if (checks) {
        check_kernels();
    }
    if (argc > 1 && strcmp(argv[1], "--small") == 0) {
        time_smalls(argc > 2 ? atoi(argv[2]) : 1);
    } else if (argc == 2 && strcmp(argv[1], "--summed") == 0) {
        time_summed_all();
    } else if (argc == 2 && strcmp(argv[1], "--boxes") == 0) {
        time_boxes();
    } else if (argc == 2 && strcmp(argv[1], "--depthwise") == 0) {
        time_depthwises();
    } else if (times && !failures) {
        time_all();
        time_summed_all();
        time_boxes();
        time_depthwises();
        if (vt_cuda_has_wgmma(0)) {
            time_products();
        }
    }
    return failures != 0;
}
