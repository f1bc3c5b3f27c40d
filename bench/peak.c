/* SPDX-License-Identifier: Apache-2.0 */
/* The ceiling of this processor: fused multiply-adds on registers alone, no memory.
 * Build: gcc -O2 -fopenmp -mavx512f -mavx512bf16 bench/peak.c -o build/peak   (or -mavx2 -mfma)
 * Run:   build/peak [THREADS]     prints GFLOP/s, best of many */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef float vf __attribute__((vector_size(BYTES)));

enum { CHAINS = 12, ROUNDS = 40000, REPEATS = 300 };

static double run_f32(void)
{
    vf acc[CHAINS], x = {1e-3f}, y = {1e-3f};
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
        acc[i] = x * (float)i;
    }
    __asm__ volatile("" : "+x"(x), "+x"(y));
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = acc[i] * x + y;
            __asm__ volatile("" : "+x"(acc[i])); /* keeps every step */
        }
    }
    vf sum = x;
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
        sum += acc[i];
    }
    __asm__ volatile("" : : "x"(sum));
    return 2.0 * ROUNDS * CHAINS * (BYTES / 4);
}

#ifdef __AVX512BF16__
static double run_bf16(void)
{
    __m512 acc[CHAINS];
    __m512i zero = _mm512_setzero_si512();
    __asm__ volatile("" : "+x"(zero));
    __m512bh x = (__m512bh)zero;
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
        acc[i] = _mm512_setzero_ps();
    }
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = _mm512_dpbf16_ps(acc[i], x, x);
            __asm__ volatile("" : "+x"(acc[i]));
        }
    }
    __m512 sum = acc[0];
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++) {
        sum = _mm512_add_ps(sum, acc[i]);
    }
    __asm__ volatile("" : : "x"(sum));
    return 2.0 * ROUNDS * CHAINS * 32;
}
#endif

static double best(double (*run)(void), int threads)
{
    double top = 0;
    for (int i = 0; i < REPEATS; i++) {
        double work = 0, start = omp_get_wtime();
#pragma omp parallel num_threads(threads) reduction(+ : work)
        work += run();
        double rate = work / (omp_get_wtime() - start) * 1e-9;
        top = rate > top ? rate : top;
    }
    return top;
}

int main(int argc, char **argv)
{
    int most = argc > 1 ? atoi(argv[1]) : omp_get_num_procs();
    for (int threads = 1; threads <= most; threads++) {
        printf("%d thread%s: f32 %.0f GFLOP/s", threads, threads == 1 ? "" : "s",
               best(run_f32, threads));
#ifdef __AVX512BF16__
        printf(", bf16 %.0f GFLOP/s", best(run_bf16, threads));
#endif
        printf("\n");
    }
    return 0;
}
