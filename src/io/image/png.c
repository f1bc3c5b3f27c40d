/* SPDX-License-Identifier: Apache-2.0 */
/* PNG by libpng: decoding to RGB, and writing. libpng reports errors by longjmp only, so each job
 * lives in a struct outside the function that calls setjmp (whose locals a jump may spoil), and
 * one cleanup follows it. */
#include <png.h>

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/checked.h"
#include "io/file.h"
#include "io/image/decode.h"

typedef struct png_job {
    const vt_image_source *source; /* decoding */
    size_t position;
    const vt_pixels *pixels; /* writing */
    FILE *file;

    vt_context *context;
    vt_image *image;
    png_structp png;
    png_infop info;
    jmp_buf jump;
    bool out_of_memory;
    vt_status status;
    char message[256];
} png_job;

/* ---- callbacks ------------------------------------------------------------------------------- */

static void *on_malloc(png_structp png, png_alloc_size_t size)
{
    png_job *job = png_get_mem_ptr(png);
    /* Zeroed: libpng leaves some row buffers for the file to fill. */
    void *p = vt_alloc_zero(vt_context_allocator(job->context), size, 1);
    job->out_of_memory |= !p;
    return p;
}

static void on_free(png_structp png, void *pointer)
{
    png_job *job = png_get_mem_ptr(png);
    vt_free(vt_context_allocator(job->context), pointer);
}

static _Noreturn void fail(png_job *job, vt_status status, const char *message)
{
    job->status = status;
    snprintf(job->message, sizeof job->message, "%s", message);
    longjmp(job->jump, 1);
}

static void on_error(png_structp png, const char *message)
{
    fail(png_get_error_ptr(png), VT_ERR_FORMAT, message);
}

static void on_warning(png_structp png, const char *message)
{
    png_job *job = png_get_error_ptr(png);
    vt_log(job->context, VT_LOG_DEBUG, "PNG: %s", message);
}

static void on_read(png_structp png, png_bytep out, size_t size)
{
    png_job *job = png_get_io_ptr(png);
    if (size > job->source->size - job->position) {
        fail(job, VT_ERR_FORMAT, "file is cut short");
    }
    memcpy(out, job->source->bytes + job->position, size);
    job->position += size;
}

static void on_write(png_structp png, png_bytep bytes, size_t size)
{
    png_job *job = png_get_io_ptr(png);
    errno = 0;
    if (fwrite(bytes, 1, size, job->file) != size) {
        fail(job, VT_ERR_IO, errno ? strerror(errno) : "cannot write");
    }
}

static void on_flush(png_structp png)
{
    (void)png;
}

static vt_status job_result(const png_job *job, vt_error *error)
{
    if (job->out_of_memory) {
        /* libpng goes on without a note that it could not store: that is still a failure. */
        return vt_error_set(error, VT_ERR_MEMORY, "out of memory");
    }
    return job->status == VT_OK ? VT_OK : vt_error_set(error, job->status, "%s", job->message);
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* Walks from chunk to chunk up to the end mark. libpng takes memory for what a chunk's length says
 * before it has seen that many bytes: a length beyond the file must not get that far. */
static vt_status check_chunks(const vt_image_source *s, vt_error *error)
{
    enum { SIGNATURE = 8, FRAME = 12 }; /* a chunk is length, name, content, check sum */
    size_t at = SIGNATURE;
    if (s->size >= SIGNATURE && png_sig_cmp(s->bytes, 0, SIGNATURE) != 0) {
        return VT_OK; /* libpng knows what kind of transfer damages a signature */
    }
    while (at <= s->size && s->size - at >= FRAME) {
        const uint8_t *p = s->bytes + at;
        const uint32_t length =
            (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        if (length > s->size - at - FRAME) {
            break;
        }
        if (memcmp(p + 4, "IEND", 4) == 0) {
            return VT_OK;
        }
        at += FRAME + (size_t)length;
    }
    return vt_error_set(error, VT_ERR_FORMAT, "file is cut short");
}

/* Any colour type to 8-bit RGB as it is stored: no gamma, no background, alpha and transparent
 * colours dropped, of 16 bits the high byte. */
static void ask_for_rgb(png_structp png)
{
    png_set_strip_16(png);
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
}

static void set_limits(png_structp png)
{
    /* Notes that change no pixel here are skipped unread (tRNS would only add alpha). */
    static const png_byte skipped[] = "tRNS\0iCCP\0zTXt\0iTXt\0tEXt\0sPLT\0hIST";
    enum { SKIPPED = 7 };
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, SKIPPED);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* our own limit is by area */
    png_set_chunk_cache_max(png, 64);
    png_set_chunk_malloc_max(png, (png_alloc_size_t)1 << 23);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
}

static void read_orientation(png_job *job)
{
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 size = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(job->png, job->info, &size, &exif) && exif) {
        job->image->orientation = vt_exif_orientation(exif, size);
    }
#else
    (void)job;
#endif
}

static void decode_steps(png_job *job, vt_error *error)
{
    job->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, job, on_error, on_warning, job,
                                        on_malloc, on_free);
    job->info = job->png ? png_create_info_struct(job->png) : NULL;
    if (!job->info) {
        job->out_of_memory = true;
        return;
    }
    png_structp png = job->png;
    png_set_read_fn(png, job, on_read);
    set_limits(png);
    png_read_info(png, job->info);

    const png_uint_32 width = png_get_image_width(png, job->info);
    const png_uint_32 height = png_get_image_height(png, job->info);
    vt_status status = vt_image_check_size(job->source, width, height, error);
    if (status == VT_OK) {
        status = vt_image_allocate(job->source, job->image, width, height, error);
    }
    if (status != VT_OK) {
        fail(job, status, error ? error->message : "");
    }
    ask_for_rgb(png);
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, job->info);
    const size_t row = 3 * (size_t)width;
    if (png_get_rowbytes(png, job->info) != row) {
        fail(job, VT_ERR_FORMAT, "rows do not come out as RGB");
    }
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < height; y++) {
            png_read_row(png, job->image->data + y * row, NULL);
        }
    }
    png_read_end(png, job->info); /* wants the end mark: a file without it is cut short */
    read_orientation(job);
}

static void run_decode(png_job *job, vt_error *error)
{
    if (setjmp(job->jump) == 0) {
        decode_steps(job, error);
    }
}

vt_status vt_image_decode_png(const vt_image_source *source, vt_image *image, vt_error *error)
{
    vt_status status = check_chunks(source, error);
    if (status != VT_OK) {
        return status;
    }
    png_job job = {.source = source, .context = source->context, .image = image};
    run_decode(&job, error);
    png_destroy_read_struct(&job.png, &job.info, NULL);
    return job_result(&job, error);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_steps(png_job *job)
{
    job->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, job, on_error, on_warning, job,
                                         on_malloc, on_free);
    job->info = job->png ? png_create_info_struct(job->png) : NULL;
    if (!job->info) {
        job->out_of_memory = true;
        return;
    }
    png_structp png = job->png;
    const vt_pixels *p = job->pixels;
    png_set_write_fn(png, job, on_write, on_flush);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(png, job->info, (png_uint_32)p->width, (png_uint_32)p->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, job->info);
    if (p->format == VT_PIXELS_BGR) {
        png_set_bgr(png);
    }
    for (int y = 0; y < p->height; y++) {
        png_write_row(png, p->data + y * p->stride);
    }
    png_write_end(png, job->info);
}

static void run_write(png_job *job)
{
    if (setjmp(job->jump) == 0) {
        write_steps(job);
    }
}

static vt_status write_file(vt_context *context, FILE *file, const vt_pixels *pixels,
                            vt_error *error)
{
    png_job job = {.context = context, .file = file, .pixels = pixels};
    run_write(&job);
    png_destroy_write_struct(&job.png, &job.info);
    if (job.status == VT_ERR_FORMAT) {
        job.status = VT_ERR_IO; /* libpng's own complaint: nothing was read */
    }
    return job_result(&job, error);
}

static FILE *create_beside(const char *path, char *name, vt_error *error)
{
    int fd = vt_file_create_beside(path, name);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file) {
        vt_error_set(error, VT_ERR_IO, "cannot create: %s", strerror(errno));
        if (fd >= 0) {
            close(fd);
            unlink(name);
        }
    }
    return file;
}

static vt_status save_beside(vt_context *context, const char *path, char *name,
                             const vt_pixels *pixels, vt_error *error)
{
    FILE *file = create_beside(path, name, error);
    if (!file) {
        return VT_ERR_IO;
    }
    vt_status status = write_file(context, file, pixels, error);
    if (fclose(file) != 0 && status == VT_OK) {
        status = vt_error_set(error, VT_ERR_IO, "cannot write: %s", strerror(errno));
    }
    if (status == VT_OK && rename(name, path) != 0) {
        status = vt_error_set(error, VT_ERR_IO, "cannot create: %s", strerror(errno));
    }
    if (status != VT_OK) {
        unlink(name);
    }
    return status;
}

vt_status vt_image_save_png(vt_context *context, const char *path, const vt_pixels *pixels,
                            vt_error *error)
{
    if (!context || !path || !pixels || !pixels->data || pixels->width < 1 || pixels->height < 1) {
        return vt_error_set(error, VT_ERR_ARGUMENT, "save: nothing to write, or nowhere to");
    }
    const vt_allocator *allocator = vt_context_allocator(context);
    char *name = vt_alloc(allocator, strlen(path) + VT_FILE_BESIDE);
    if (!name) {
        return vt_error_set(error, VT_ERR_MEMORY, "%s: out of memory", path);
    }
    vt_status status = save_beside(context, path, name, pixels, error);
    vt_free(allocator, name);
    return status == VT_OK ? VT_OK : vt_error_wrap(error, status, "%s", path);
}
