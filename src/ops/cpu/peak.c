/* SPDX-License-Identifier: Apache-2.0 */
/* The ceiling that products are compared with: multiply-adds on registers, all threads at once. */
#include <omp.h>

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
