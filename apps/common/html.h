/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of an HTML page that needs no other file. */
#ifndef APPS_COMMON_HTML_H
#define APPS_COMMON_HTML_H

#include <stdio.h>

#include "cli.h"
#include "vertebra/image.h"

/* Text for between tags and in quotes. */
void html_text(FILE *out, const char *text);

/* A picture as "data:image/png;base64,...". `path` is a file that the PNG is written to and read
 * back from; it stays. Errors: those of vt_image_save_png, VT_ERR_IO, VT_ERR_MEMORY. */
vt_status html_png(FILE *out, vt_context *context, const char *path, const vt_pixels *pixels,
                   vt_error *error);

#endif
