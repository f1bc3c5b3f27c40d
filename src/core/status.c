/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

vt_status vt_error_set(vt_error *error, vt_status status, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        error->status = status;
    }
    return status;
}

vt_status vt_error_wrap(vt_error *error, vt_status status, const char *format, ...)
{
    if (error) {
        char inner[VT_ERROR_CAPACITY];
        memcpy(inner, error->message, sizeof inner);
        va_list args;
        va_start(args, format);
        int length = vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        if (length >= 0 && (size_t)length < sizeof error->message) {
            size_t room = sizeof error->message - (size_t)length;
            int fits = room > 3 ? (int)room - 3 : 0;
            snprintf(error->message + length, room, ": %.*s", fits, inner);
        }
        error->status = status;
    }
    return status;
}

const char *vt_status_name(vt_status status)
{
    switch (status) {
    case VT_OK: return "ok";
    case VT_ERR_ARGUMENT: return "bad argument";
    case VT_ERR_MEMORY: return "out of memory";
    case VT_ERR_IO: return "input/output error";
    case VT_ERR_FORMAT: return "bad file format";
    case VT_ERR_UNSUPPORTED: return "not supported";
    case VT_ERR_MISMATCH: return "checkpoint does not fit";
    case VT_ERR_NOT_FOUND: return "not found";
    case VT_ERR_LIMIT: return "limit exceeded";
    case VT_ERR_CANCELLED: return "cancelled";
    case VT_ERR_DEVICE: return "device error";
    case VT_ERR_NUMERIC: return "result is not finite";
    }
    return "unknown status";
}
