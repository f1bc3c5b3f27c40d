/* SPDX-License-Identifier: Apache-2.0 */
/* JPEG by libjpeg-turbo with its accurate integer transform and smooth chroma upsampling: the
 * pixels that Pillow gives. libjpeg reports errors by calling error_exit, which must not return;
 * here it jumps back. Its working memory comes from the C library: it has no hook for another. */
#include <stdio.h> /* jpeglib.h needs it first */

#include <jpeglib.h>

#include <jerror.h>
#include <setjmp.h>
#include <string.h>

#include "core/checked.h"
#include "io/image/decode.h"

/* A progressive file may list any number of scans, each of which costs a pass over the picture.
 * Real files have about ten. */
enum { MAX_SCANS = 500 };

typedef struct jpeg_job {
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    const vt_image_source *source;
    vt_image *image;
    uint8_t *row; /* one row of CMYK */
    jmp_buf jump;
    vt_status status;
    char message[JMSG_LENGTH_MAX];
} jpeg_job;

/* ---- callbacks ------------------------------------------------------------------------------- */

static _Noreturn void fail(jpeg_job *job, vt_status status, const char *message)
{
    job->status = status;
    snprintf(job->message, sizeof job->message, "%s", message);
    longjmp(job->jump, 1);
}

static _Noreturn void fail_with_current(j_common_ptr decoder, vt_status status)
{
    char message[JMSG_LENGTH_MAX];
    decoder->err->format_message(decoder, message);
    fail(decoder->client_data, status, message);
}

static void on_error(j_common_ptr decoder)
{
    switch (decoder->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
    case JERR_NO_BACKING_STORE: fail(decoder->client_data, VT_ERR_MEMORY, "out of memory");
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CCIR601_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_IMAGE_TOO_BIG:
    case JERR_NOT_COMPILED:
    case JERR_SOF_UNSUPPORTED: fail_with_current(decoder, VT_ERR_UNSUPPORTED);
    default: fail_with_current(decoder, VT_ERR_FORMAT);
    }
}

/* libjpeg only warns about damage and invents the missing pixels; here damage is an error. */
static void on_message(j_common_ptr decoder, int level)
{
    jpeg_job *job = decoder->client_data;
    if (level >= 0) {
        return; /* tracing */
    }
    switch (decoder->err->msg_code) {
    case JWRN_JPEG_EOF: fail(job, VT_ERR_FORMAT, "file is cut short");
    /* These do not touch the pixels, and other readers let them pass. */
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR: break;
    default: fail_with_current(decoder, VT_ERR_FORMAT);
    }
    char message[JMSG_LENGTH_MAX];
    decoder->err->format_message(decoder, message);
    vt_log(job->source->context, VT_LOG_DEBUG, "JPEG: %s", message);
}

static void on_output(j_common_ptr decoder)
{
    (void)decoder; /* would print */
}

static void on_progress(j_common_ptr decoder)
{
    jpeg_job *job = decoder->client_data;
    if (job->decoder.input_scan_number > MAX_SCANS) {
        char message[64];
        snprintf(message, sizeof message, "more than %d scans", MAX_SCANS);
        fail(job, VT_ERR_LIMIT, message);
    }
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* a * b / 255 rounded, as Pillow computes it. */
static int scale_255(int a, int b)
{
    const int t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* Pillow takes every four-colour JPEG for Adobe's, in which 255 means no ink. */
static void inverted_cmyk_to_rgb(const uint8_t *in, uint8_t *out, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, in += 4, out += 3) {
        for (int c = 0; c < 3; c++) {
            const int v = in[3] - scale_255(255 - in[c], in[3]);
            out[c] = (uint8_t)(v < 0 ? 0 : v);
        }
    }
}

static int find_orientation(const struct jpeg_decompress_struct *decoder)
{
    enum { PREFIX = 6 };
    for (jpeg_saved_marker_ptr m = decoder->marker_list; m; m = m->next) {
        if (m->data_length >= PREFIX && memcmp(m->data, "Exif\0", PREFIX - 1) == 0) {
            return vt_exif_orientation(m->data + PREFIX, m->data_length - PREFIX);
        }
    }
    return 1;
}

static void read_header(jpeg_job *job)
{
    struct jpeg_decompress_struct *decoder = &job->decoder;
    jpeg_create_decompress(decoder);
    job->progress.progress_monitor = on_progress;
    decoder->progress = &job->progress;
    jpeg_mem_src(decoder, job->source->bytes, (unsigned long)job->source->size);
    jpeg_save_markers(decoder, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(decoder, TRUE);
    decoder->dct_method = JDCT_ISLOW;
    decoder->do_fancy_upsampling = TRUE;
    decoder->do_block_smoothing = TRUE;
    decoder->out_color_space = decoder->num_components == 4 ? JCS_CMYK : JCS_RGB;
}

static void decode_steps(jpeg_job *job, vt_error *error)
{
    struct jpeg_decompress_struct *decoder = &job->decoder;
    read_header(job);
    const size_t width = decoder->image_width;
    vt_status status = vt_image_check_size(job->source, width, decoder->image_height, error);
    if (status == VT_OK) {
        status = vt_image_allocate(job->source, job->image, width, decoder->image_height, error);
    }
    if (status != VT_OK) {
        fail(job, status, error ? error->message : "");
    }
    const bool cmyk = decoder->out_color_space == JCS_CMYK;
    if (cmyk) {
        job->row = vt_alloc_zero(vt_context_allocator(job->source->context), width, 4);
        if (!job->row) {
            fail(job, VT_ERR_MEMORY, "out of memory");
        }
    }
    jpeg_start_decompress(decoder);
    while (decoder->output_scanline < decoder->output_height) {
        uint8_t *out = job->image->data + decoder->output_scanline * 3 * width;
        uint8_t *row = cmyk ? job->row : out;
        if (jpeg_read_scanlines(decoder, &row, 1) != 1) {
            fail(job, VT_ERR_FORMAT, "file is cut short");
        }
        if (cmyk) {
            inverted_cmyk_to_rgb(job->row, out, width);
        }
    }
    job->image->orientation = find_orientation(decoder); /* before finishing, which forgets it */
    jpeg_finish_decompress(decoder);                     /* wants the end mark */
}

/* The job is not a local of the function that calls setjmp, whose locals a jump may spoil. */
static void run(jpeg_job *job, vt_error *error)
{
    if (setjmp(job->jump) == 0) {
        decode_steps(job, error);
    }
}

vt_status vt_image_decode_jpeg(const vt_image_source *source, vt_image *image, vt_error *error)
{
    jpeg_job job = {.source = source, .image = image};
    job.decoder.err = jpeg_std_error(&job.errors);
    job.decoder.client_data = &job;
    job.errors.error_exit = on_error;
    job.errors.emit_message = on_message;
    job.errors.output_message = on_output;
    run(&job, error);
    jpeg_destroy_decompress(&job.decoder);
    vt_free(vt_context_allocator(source->context), job.row);
    return job.status == VT_OK ? VT_OK : vt_error_set(error, job.status, "%s", job.message);
}
