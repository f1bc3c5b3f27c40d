/* SPDX-License-Identifier: Apache-2.0 */
#include "pictures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vertebra/digest.h"

#define FOLDER "tests/fixtures/pictures/"

json_t *pictures_index(void)
{
    json_error_t why;
    json_t *index = json_load_file(FOLDER "pictures.json", 0, &why);
    if (!index) {
        fail_msg(FOLDER "pictures.json: %s", why.text);
    }
    return index;
}

static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!value) {
        fail_msg("pictures.json: an entry lacks '%s'", key);
    }
    return value;
}

const char *json_text(const json_t *object, const char *key)
{
    return json_string_value(member(object, key));
}

int json_int(const json_t *object, const char *key)
{
    return (int)json_integer_value(member(object, key));
}

double json_number(const json_t *object, const char *key)
{
    return json_number_value(member(object, key));
}

void picture_path(const char *name, char *path, size_t capacity)
{
    snprintf(path, capacity, FOLDER "%s", name);
}

vt_image picture_load(vt_context *context, const char *name)
{
    char path[512];
    picture_path(name, path, sizeof path);
    vt_image_settings settings = vt_image_settings_default();
    settings.apply_exif = false;
    vt_image image;
    vt_error error = {0};
    if (vt_image_load(&image, context, path, &settings, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    return image;
}

void picture_digest(const void *bytes, size_t size, char hex[65])
{
    vt_sha256 digest;
    vt_sha256_init(&digest);
    vt_sha256_add(&digest, bytes, size);
    vt_sha256_hex(&digest, hex);
}

uint8_t *picture_bytes(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail_msg("%s: cannot open", path);
    }
    fseek(file, 0, SEEK_END);
    const long length = ftell(file);
    rewind(file);
    uint8_t *bytes = test_malloc((size_t)length + 1);
    *size = fread(bytes, 1, (size_t)length, file);
    fclose(file);
    assert_int_equal(*size, length);
    return bytes;
}
