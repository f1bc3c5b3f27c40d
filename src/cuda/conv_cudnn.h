/* SPDX-License-Identifier: Apache-2.0 */
/* What conv_cudnn.c keeps in the backend. */
#ifndef VT_CUDA_CONV_CUDNN_H
#define VT_CUDA_CONV_CUDNN_H

#include "cuda/cuda.h"

/* Makes and frees vt_cuda.dnn; the library is not opened before it is needed. */
vt_status vt_cuda_dnn_open(vt_cuda *cuda, vt_error *error);
void vt_cuda_dnn_close(vt_cuda *cuda);

/* Before the plain convolution in the list. */
extern const vt_impl vt_impl_cuda_conv2d_cudnn;

#endif
