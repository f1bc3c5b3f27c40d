/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4), for comparing pixels with the digests in pictures.json. */
#ifndef TESTS_SUPPORT_SHA256_H
#define TESTS_SUPPORT_SHA256_H

#include <stddef.h>

/* 64 hexadecimal digits and a NUL. */
void sha256_hex(const void *bytes, size_t size, char hex[65]);

#endif
