/* SPDX-License-Identifier: Apache-2.0 */
/* An evaluation as one HTML page that needs no other file. */
#ifndef APPS_COMMON_REPORT_H
#define APPS_COMMON_REPORT_H

#include "evaluation.h"

/* Makes the folder where it is not there, so that a long run fails before it begins. */
int report_prepare(const cli_options *options, const char *folder);

/* Writes FOLDER/index.html and FOLDER/confusion.png. Pictures of errors are read again from the
 * evaluated folder; where they are not there, their names stand alone. */
int report_write(const evaluation *e, const cli_options *options, vt_context *context,
                 const char *folder);

#endif
