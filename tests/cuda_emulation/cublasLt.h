/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the library's header: the types that src/cuda/cuda.h names. */
#ifndef VT_EMULATION_CUBLASLT_H
#define VT_EMULATION_CUBLASLT_H

typedef void *cublasLtHandle_t, *cublasLtMatmulDesc_t, *cublasLtMatrixLayout_t;
typedef int cublasLtMatmulAlgo_t;

#endif
