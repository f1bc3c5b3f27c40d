/* SPDX-License-Identifier: Apache-2.0 */
/* Writes .safetensors files: a list of named tensors. Fails the running test by itself. */
#ifndef TESTS_SUPPORT_MODEL_WRITER_H
#define TESTS_SUPPORT_MODEL_WRITER_H

#include "vertebra/model.h"

typedef struct written_tensor {
    char *name;
    vt_dtype dtype; /* VT_F32, VT_F16, VT_BF16 or VT_I64 */
    int rank;
    int64_t shape[4];
    float *data;
} written_tensor;

typedef struct model_writer {
    written_tensor *tensors;
    size_t count, capacity;
} model_writer;

/* Appends a tensor of f32; `data` is taken over. */
void writer_add(model_writer *writer, const char *name, int rank, const int64_t *shape,
                float *data);

/* A tensor of that name, or NULL. */
written_tensor *writer_find(const model_writer *writer, const char *name);
void writer_remove(model_writer *writer, const char *name);

/* Appends every stored parameter of a model with its golden values. */
void writer_add_golden(model_writer *writer, const vt_model *model);

/* The value that a file of that type keeps of x. */
float rounded_to(vt_dtype dtype, float x);

/* `metadata` is a JSON object, or NULL. */
void writer_save(const model_writer *writer, const char *path, const char *metadata);
void writer_clear(model_writer *writer);

#endif
