/* SPDX-License-Identifier: Apache-2.0 */
/* The test pictures and what Pillow and timm make of them (tests/fixtures/pictures). */
#ifndef TESTS_SUPPORT_PICTURES_H
#define TESTS_SUPPORT_PICTURES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "vertebra/image.h"

/* pictures.json; the caller releases it. Fails the running test when it is not there. */
json_t *pictures_index(void);

/* Member `key` of an object, which must have it. */
const char *json_text(const json_t *object, const char *key);
int json_int(const json_t *object, const char *key);
double json_number(const json_t *object, const char *key);

/* "tests/fixtures/pictures/NAME" */
void picture_path(const char *name, char *path, size_t capacity);

/* Decodes a test picture without regard to its EXIF orientation; fails the test on error. */
vt_image picture_load(vt_context *context, const char *name);

/* SHA-256, for comparing pixels with the digests in pictures.json. */
void picture_digest(const void *bytes, size_t size, char hex[65]);

/* Bytes of a file; the caller frees them with test_free. Fails the test on error. */
uint8_t *picture_bytes(const char *path, size_t *size);

#endif
