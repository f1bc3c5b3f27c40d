/* SPDX-License-Identifier: Apache-2.0 */
/* A stranger's own memory, streams and graphs on a GPU, through the driver that is found at run
 * time: tests build and link without CUDA. Failures end the test; main thread only. */
#ifndef TESTS_SUPPORT_GPU_H
#define TESTS_SUPPORT_GPU_H

#include <stdbool.h>
#include <stddef.h>

struct CUstream_st;

/* The number of GPUs; 0 when there is none, or no driver. */
int gpu_count(void);

/* Makes a GPU current for this thread, and says which one is (-1: none). */
void gpu_make_current(int device);
int gpu_current(void);

/* Memory of the current GPU. */
void *gpu_alloc(size_t bytes);
void gpu_free(void *pointer);
void gpu_upload(void *dst, const void *src, size_t bytes);
void gpu_download(void *dst, const void *src, size_t bytes);

/* Streams that do not wait for the legacy default stream. */
struct CUstream_st *gpu_stream_open(void);
void gpu_stream_close(struct CUstream_st *stream);
void gpu_wait(struct CUstream_st *stream);
bool gpu_is_busy(struct CUstream_st *stream);

/* Enqueued: a copy within the GPU; some milliseconds of work on memory of its own. */
void gpu_copy(void *dst, const void *src, size_t bytes, struct CUstream_st *stream);
void gpu_delay(struct CUstream_st *stream);

/* Recording a stream (the mode that forbids most) into a graph that can be launched. */
void gpu_capture_begin(struct CUstream_st *stream);
void *gpu_capture_end(struct CUstream_st *stream);
void gpu_graph_launch(void *graph, struct CUstream_st *stream);
void gpu_graph_close(void *graph);

#endif
