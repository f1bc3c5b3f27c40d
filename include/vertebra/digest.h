/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4): says whether two files, or two lists of files, are the same. */
#ifndef VERTEBRA_DIGEST_H
#define VERTEBRA_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "vertebra/status.h"

VT_BEGIN_DECLS

enum { VT_SHA256_HEX = 65 }; /* 64 hexadecimal digits and a NUL */

/* A digest in the making. */
typedef struct vt_sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
} vt_sha256;

void vt_sha256_init(vt_sha256 *digest);
void vt_sha256_add(vt_sha256 *digest, const void *bytes, size_t size);

/* Of all bytes that were added; more may follow afterwards. */
void vt_sha256_hex(const vt_sha256 *digest, char hex[VT_SHA256_HEX]);

/* Of a file's content. Errors: VT_ERR_IO. */
vt_status vt_sha256_file(const char *path, char hex[VT_SHA256_HEX], vt_error *error);

VT_END_DECLS
#endif
