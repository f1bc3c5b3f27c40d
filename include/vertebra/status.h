/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and chained error messages. */
#ifndef VERTEBRA_STATUS_H
#define VERTEBRA_STATUS_H

/* Around the declarations of every public header: C linkage, exported from the shared library. */
#ifdef __cplusplus
#define VT_BEGIN_DECLS                                                                             \
    extern "C" {                                                                                   \
    _Pragma("GCC visibility push(default)")
#define VT_END_DECLS                                                                               \
    _Pragma("GCC visibility pop")                                                                  \
    }
#else
#define VT_BEGIN_DECLS _Pragma("GCC visibility push(default)")
#define VT_END_DECLS   _Pragma("GCC visibility pop")
#endif

VT_BEGIN_DECLS

#if defined(__GNUC__)
#define VT_PRINTF(fmt_index, args_index) __attribute__((format(printf, fmt_index, args_index)))
#else
#define VT_PRINTF(fmt_index, args_index)
#endif

/* What every fallible call returns. VT_OK is zero; everything else is a failure that left the
 * library's objects as they were before the call. */
typedef enum vt_status {
    VT_OK = 0,
    VT_ERR_ARGUMENT,    /* a parameter is out of its documented range */
    VT_ERR_MEMORY,      /* an allocation failed */
    VT_ERR_IO,          /* a file could not be opened, read or written */
    VT_ERR_FORMAT,      /* a file is not what it claims to be, or is damaged */
    VT_ERR_UNSUPPORTED, /* well formed, but outside what this build can do */
    VT_ERR_MISMATCH,    /* checkpoint and architecture do not fit each other */
    VT_ERR_NOT_FOUND,   /* no model, tensor or output of that name */
    VT_ERR_LIMIT,       /* a safety limit (pixels, bytes, nesting) was exceeded */
    VT_ERR_CANCELLED,   /* the caller's progress callback asked to stop */
    VT_ERR_DEVICE,      /* the device or its driver failed */
    VT_ERR_NUMERIC      /* a result is not a finite number */
} vt_status;

enum { VT_ERROR_CAPACITY = 2048 };

/* The caller's storage for one message. It is chained outward: the innermost cause stands last, as
 * in "cat.png: cannot decode PNG: file is cut short". Zero-initialise it; passing NULL wherever a
 * vt_error * is wanted discards the message. Not shared between threads. */
typedef struct vt_error {
    vt_status status;
    char message[VT_ERROR_CAPACITY];
} vt_error;

/* Replaces the message and returns `status`, so that a caller can write
 * `return vt_error_set(error, VT_ERR_IO, "cannot open %s", path);`. Cut at the capacity. */
vt_status vt_error_set(vt_error *error, vt_status status, const char *format, ...) VT_PRINTF(3, 4);

/* Puts "context: " before the message that is already there and returns `status`, which should be
 * the value that the failing call returned. */
vt_status vt_error_wrap(vt_error *error, vt_status status, const char *format, ...) VT_PRINTF(3, 4);

/* A short English name such as "out of memory"; never NULL. */
const char *vt_status_name(vt_status status);

VT_END_DECLS
#endif
