/* SPDX-License-Identifier: Apache-2.0 */
/* The ceilings that operations are compared with: multiply-adds on registers and copies of blocks
 * that fit in no cache, all threads at once. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm.h"

double vt_cpu_peak(const vt_backend *backend, vt_dtype dtype, int threads)
{
    enum { TRIES = 20, ROUNDS = 200000 };
    const vt_cpu_kernels *k = vt_cpu_kernels_of(backend);
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double done = 0, start = omp_get_wtime();
#pragma omp parallel num_threads(threads) reduction(+ : done)
        done += k->spin(dtype == VT_BF16, ROUNDS);
        double rate = done / (omp_get_wtime() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    return best;
}

double vt_cpu_copy_rate(const vt_backend *backend, int threads)
{
    enum { TRIES = 8 };
    const size_t part = ((size_t)256 << 20) / (size_t)threads / 4096 * 4096;
    char *src = malloc(part * (size_t)threads), *dst = malloc(part * (size_t)threads);
    double best = 0;
    (void)backend;
    for (int i = -1; src && dst && i < TRIES; i++) { /* the first round touches the pages */
        double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        {
            size_t at = part * (size_t)omp_get_thread_num();
            if (i < 0) {
                memset(src + at, 1, part);
            }
            memcpy(dst + at, src + at, part);
        }
        double rate = 2e-9 * (double)part * threads / (omp_get_wtime() - start);
        best = i >= 0 && rate > best ? rate : best;
    }
    free(src);
    free(dst);
    return best;
}
