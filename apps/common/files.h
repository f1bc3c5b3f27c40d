/* SPDX-License-Identifier: Apache-2.0 */
/* Where the files are that programs open by themselves: what ships with them, and the weights that
 * weights/fetch has brought. Nothing here reaches for the network. */
#ifndef APPS_COMMON_FILES_H
#define APPS_COMMON_FILES_H

#include "cli.h"

/* A file of the source tree ("weights/x"), found from the program's own place there, or where
 * `make install` puts it, below PREFIX/share/vertebra. False: in neither. */
bool files_shipped(char *out, size_t size, const char *in_tree, const char *installed);

/* The weights that are used where none are named: $VERTEBRA_WEIGHTS, else the shipped ones. */
bool files_default_weights(char *out, size_t size);

/* The weights of the model `name`: shipped, or in the cache folder ($VERTEBRA_CACHE, else
 * $XDG_CACHE_HOME/vertebra, else ~/.cache/vertebra; "weights" below it) as NAME.safetensors, .pth,
 * ... A tag behind a dot that is not the published file's is part of the file's name.
 * CLI_OK, or CLI_FAILED after a message that says how to get them. */
int files_find_weights(char *out, size_t size, const cli_options *options,
                       const vt_context *context, const char *name);

#endif
