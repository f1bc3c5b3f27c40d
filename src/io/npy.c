/* SPDX-License-Identifier: Apache-2.0 */
/* .npy: one array.
 *
 *   +--------------+-------+-------+------------+----------------------------------+----------+
 *   | \x93 "NUMPY" | major | minor | header     | {'descr': '<f4', 'fortran_order' | elements |
 *   |              | 1..3  | 0     | length:    | : False, 'shape': (2, 3), }      |          |
 *   |              |       |       | u16 or u32 | spaces, newline                  |          |
 *   +--------------+-------+-------+------------+----------------------------------+----------+
 *
 * The length is a u16 in version 1, a u32 later. The header is a Python dictionary: its three keys
 * may come in any order.
 */
#include "vertebra/npy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/checked.h"
#include "io/checkpoint.h"
#include "io/file.h"

enum {
    MAX_HEADER = 64 * 1024,
    STEP = 64 * 1024 /* bytes converted at a time */
};

/* ---- header ---------------------------------------------------------------------------------- */
typedef struct npy_header {
    vt_dtype dtype;
    int64_t elements;
    bool has_descr, has_order, has_shape;
} npy_header;

static const struct {
    const char *descr;
    vt_dtype dtype;
} descrs[] = {{"<f4", VT_F32}, {"<f2", VT_F16}, {"<f8", VT_F64}, {"|u1", VT_U8}};

static void skip_spaces(const char **at)
{
    *at += strspn(*at, " \t\r\n");
}

static bool accept(const char **at, const char *text)
{
    skip_spaces(at);
    size_t length = strlen(text);
    if (strncmp(*at, text, length) != 0) {
        return false;
    }
    *at += length;
    return true;
}

/* A text in single or double quotes, without escapes. */
static bool accept_string(const char **at, char *out, size_t size)
{
    skip_spaces(at);
    char quote = **at;
    const char *end = quote == '\'' || quote == '"' ? strchr(*at + 1, quote) : NULL;
    if (!end || (size_t)(end - *at) > size) {
        return false;
    }
    memcpy(out, *at + 1, (size_t)(end - *at - 1));
    out[end - *at - 1] = '\0';
    *at = end + 1;
    return true;
}

/* (), (3,) or (2, 3), with or without a comma at the end. */
static vt_status read_shape(const char **at, npy_header *header, vt_npy *out, vt_error *error)
{
    header->elements = 1;
    bool open = accept(at, "(");
    while (open && !accept(at, ")")) {
        int64_t extent = 0;
        skip_spaces(at);
        if (**at < '0' || **at > '9') {
            open = false;
            break;
        }
        for (; **at >= '0' && **at <= '9'; ++*at) {
            if (!vt_mul_i64(extent, 10, &extent) || !vt_add_i64(extent, **at - '0', &extent)) {
                return vt_error_set(error, VT_ERR_FORMAT, "npy: a dimension is too large");
            }
        }
        if (out->rank == VT_NPY_MAX_RANK) {
            return vt_error_set(error, VT_ERR_LIMIT, "npy: more than %d dimensions",
                                VT_NPY_MAX_RANK);
        }
        out->shape[out->rank++] = extent;
        if (!vt_mul_i64(header->elements, extent, &header->elements)) {
            return vt_error_set(error, VT_ERR_FORMAT, "npy: too many elements");
        }
        if (!accept(at, ",")) {
            open = accept(at, ")");
            break;
        }
    }
    header->has_shape = true;
    return open ? VT_OK : vt_error_set(error, VT_ERR_FORMAT, "npy: the shape is damaged");
}

static vt_status read_descr(const char **at, npy_header *header, vt_error *error)
{
    char descr[64];
    if (!accept_string(at, descr, sizeof descr)) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "npy: records of several fields are not "
                            "supported");
    }
    for (size_t i = 0; i < sizeof descrs / sizeof *descrs; i++) {
        if (strcmp(descr, descrs[i].descr) == 0) {
            header->dtype = descrs[i].dtype;
            header->has_descr = true;
            return VT_OK;
        }
    }
    return vt_error_set(error, VT_ERR_UNSUPPORTED,
                        "npy: element type '%s' is not supported: use "
                        "float32, float16, float64 or uint8",
                        vt_show(descr, strlen(descr)).text);
}

static vt_status parse_header(const char *text, npy_header *header, vt_npy *out, vt_error *error)
{
    const char *at = text;
    char key[32];
    bool good = accept(&at, "{"), fortran = false;
    while (good && !accept(&at, "}")) {
        vt_status status = VT_OK;
        good = accept_string(&at, key, sizeof key) && accept(&at, ":");
        if (good && strcmp(key, "descr") == 0 && !header->has_descr) {
            status = read_descr(&at, header, error);
        } else if (good && strcmp(key, "shape") == 0 && !header->has_shape) {
            status = read_shape(&at, header, out, error);
        } else if (good && strcmp(key, "fortran_order") == 0 && !header->has_order) {
            header->has_order = true;
            fortran = accept(&at, "True");
            good = fortran || accept(&at, "False");
        } else {
            good = false;
        }
        if (status != VT_OK) {
            return status;
        }
        if (!accept(&at, ",")) {
            good = good && accept(&at, "}");
            break;
        }
    }
    skip_spaces(&at);
    if (!good || *at || !header->has_descr || !header->has_order || !header->has_shape) {
        return vt_error_set(error, VT_ERR_FORMAT, "npy: the header is damaged");
    }
    if (fortran && out->rank > 1) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED, "npy: Fortran order is not supported");
    }
    return VT_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */
/* Reads the header; *data is where the elements begin. */
static vt_status read_header(const vt_allocator *allocator, const vt_file *file, uint64_t *data,
                             npy_header *header, vt_npy *out, vt_error *error)
{
    unsigned char head[12] = {0};
    size_t fixed = 10;
    vt_status status = vt_file_read(file, 0, head, fixed, error);
    if (status != VT_OK || memcmp(head, "\x93NUMPY", 6) != 0) {
        return vt_error_set(error, VT_ERR_FORMAT, "not a NumPy array (.npy)");
    }
    if (head[6] < 1 || head[6] > 3 || head[7] != 0) {
        return vt_error_set(error, VT_ERR_UNSUPPORTED,
                            "npy: format version %d.%d is not "
                            "supported",
                            head[6], head[7]);
    }
    uint64_t length = vt_le16(head + 8);
    if (head[6] > 1) {
        fixed = 12;
        status = vt_file_read(file, 0, head, fixed, error);
        if (status != VT_OK) {
            return status;
        }
        length = vt_le32(head + 8);
    }
    if (length > MAX_HEADER) {
        return vt_error_set(error, VT_ERR_LIMIT, "npy: a header of %llu bytes",
                            (unsigned long long)length);
    }
    char *text = vt_alloc(allocator, (size_t)length + 1);
    if (!text) {
        return vt_out_of_memory(error);
    }
    status = vt_file_read(file, fixed, text, (size_t)length, error);
    text[length] = '\0';
    if (status == VT_OK && strlen(text) != length) {
        status = vt_error_set(error, VT_ERR_FORMAT, "npy: the header is damaged");
    }
    if (status == VT_OK) {
        status = parse_header(text, header, out, error);
    }
    vt_free(allocator, text);
    *data = fixed + length;
    return status;
}

static vt_status read_elements(const vt_file *file, uint64_t data, const npy_header *header,
                               float *out, vt_error *error)
{
    unsigned char buffer[STEP];
    size_t item = vt_dtype_size(header->dtype), left = (size_t)header->elements;
    while (left > 0) {
        size_t n = left < STEP / item ? left : STEP / item;
        vt_status status = vt_file_read(file, data, buffer, n * item, error);
        if (status != VT_OK) {
            return status;
        }
        vt_convert_to_f32(header->dtype, buffer, item, out, 1, n);
        data += n * item;
        out += n;
        left -= n;
    }
    return VT_OK;
}

static vt_status read_file(const vt_allocator *allocator, const vt_file *file, vt_npy *out,
                           vt_error *error)
{
    npy_header header = {.dtype = VT_F32};
    uint64_t data = 0;
    vt_status status = read_header(allocator, file, &data, &header, out, error);
    if (status != VT_OK) {
        return status;
    }
    size_t item = vt_dtype_size(header.dtype), bytes;
    /* The sizes are compared by division: nothing to overflow, and no memory is asked for before
     * the file has shown that it holds as much. */
    if ((uint64_t)header.elements > (file->size - data) / item ||
        (uint64_t)header.elements * item != file->size - data) {
        return vt_error_set(error, VT_ERR_FORMAT,
                            "npy: the file holds %llu bytes of elements, "
                            "not %lld of %zu bytes each",
                            (unsigned long long)(file->size - data), (long long)header.elements,
                            item);
    }
    if (!vt_mul_size((size_t)header.elements, sizeof(float), &bytes) ||
        !(out->data = vt_alloc(allocator, bytes))) {
        return vt_out_of_memory(error);
    }
    return read_elements(file, data, &header, out->data, error);
}

vt_status vt_npy_read(vt_context *context, const char *path, vt_npy *out, vt_error *error)
{
    if (!context || !path || !out) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_npy_read: an argument is NULL");
    }
    *out = (vt_npy){0};
    vt_file file;
    vt_status status = vt_file_open(&file, path, error);
    if (status == VT_OK) {
        status = read_file(vt_context_allocator(context), &file, out, error);
        vt_file_close(&file);
    }
    if (status != VT_OK) {
        vt_npy_clear(context, out);
        return vt_error_wrap(error, status, "%s", path);
    }
    return VT_OK;
}

void vt_npy_clear(vt_context *context, vt_npy *array)
{
    if (context && array) {
        vt_free(vt_context_allocator(context), array->data);
        *array = (vt_npy){0};
    }
}

/* ---- writing --------------------------------------------------------------------------------- */
static bool write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t done = write(fd, at, size < ((size_t)1 << 30) ? size : (size_t)1 << 30);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return false;
        }
        at += done;
        size -= (size_t)done;
    }
    return true;
}

/* The whole front of the file, padded so that the elements begin at a multiple of 64. */
static size_t format_header(char out[512], int rank, const int64_t *shape)
{
    int n = snprintf(out + 10, 400, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int d = 0; d < rank; d++) {
        n += snprintf(out + 10 + n, 400 - (size_t)n, "%lld%s", (long long)shape[d],
                      rank == 1      ? ","
                      : d + 1 < rank ? ", "
                                     : "");
    }
    n += snprintf(out + 10 + n, 400 - (size_t)n, "), }");
    size_t length = ((size_t)n + 1 + 10 + 63) / 64 * 64;
    memset(out + 10 + n, ' ', length - 10 - (size_t)n);
    out[length - 1] = '\n';
    memcpy(out, "\x93NUMPY\1\0", 8);
    out[8] = (char)((length - 10) & 0xFF);
    out[9] = (char)((length - 10) >> 8);
    return length;
}

vt_status vt_npy_write_f32(vt_context *context, const char *path, const float *data, int rank,
                           const int64_t *shape, vt_error *error)
{
    size_t bytes = sizeof(float);
    bool good = context && path && rank >= 0 && rank <= VT_NPY_MAX_RANK && (shape || rank == 0);
    for (int d = 0; good && d < rank; d++) {
        good = shape[d] >= 0 && vt_mul_size(bytes, (size_t)shape[d], &bytes);
    }
    if (!good || (!data && bytes > 0)) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "vt_npy_write_f32: bad arguments");
    }
    const vt_allocator *allocator = vt_context_allocator(context);
    char header[512], *name = vt_alloc(allocator, strlen(path) + VT_FILE_BESIDE);
    if (!name) {
        vt_out_of_memory(error);
        return vt_error_wrap(error, VT_ERR_MEMORY, "%s", path);
    }
    size_t length = format_header(header, rank, shape);
    int fd = vt_file_create_beside(path, name), problem = errno;
    bool written = fd >= 0;
    if (fd >= 0) {
        written = write_all(fd, header, length) && write_all(fd, data, bytes);
        problem = errno;
        if (close(fd) != 0 && written) {
            written = false;
            problem = errno;
        }
        if (written && rename(name, path) != 0) {
            written = false;
            problem = errno;
        }
        if (!written) {
            unlink(name);
        }
    }
    vt_free(allocator, name);
    return written
               ? VT_OK
               : vt_error_set(error, VT_ERR_IO, "%s: cannot write: %s", path, strerror(problem));
}
