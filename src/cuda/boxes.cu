/* SPDX-License-Identifier: Apache-2.0 */
/* Host side of the kernels for sm_90a. */
#include "cuda/wgmma.cuh"

/* What the code that was loaded for this GPU holds: the library may lack sm_90a. */
static __device__ int code_has_wgmma = VT_HAS_WGMMA;

bool vt_cuda_has_wgmma(int device)
{
    int major = 0, minor = 0, built = 0;
    return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) ==
               cudaSuccess &&
           cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) ==
               cudaSuccess &&
           major == 9 && minor == 0 &&
           cudaMemcpyFromSymbol(&built, code_has_wgmma, sizeof built) == cudaSuccess && built;
}

/* The driver's function, found without linking against the driver. */
typedef CUresult encode_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                           const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                           const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                           CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

bool vt_cuda_boxes(CUtensorMap *map, const void *matrix, vt_dtype dtype, int64_t rows,
                   int64_t columns, int box_rows, int box_columns)
{
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault,
                                         &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess) {
        return false;
    }
    cuuint64_t sizes[2] = {(cuuint64_t)columns, (cuuint64_t)rows};
    cuuint64_t row_bytes[1] = {(cuuint64_t)columns * 2};
    cuuint32_t box[2] = {(cuuint32_t)box_columns, (cuuint32_t)box_rows}, steps[2] = {1, 1};
    return ((encode_fn *)entry)(
               map,
               dtype == VT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
               2, (void *)matrix, sizes, row_bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               box_columns == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
