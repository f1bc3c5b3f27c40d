/* SPDX-License-Identifier: Apache-2.0 */
/* An inert reader of Python pickles, protocols 2 to 5. It builds a graph of plain values; nothing
 * is imported or called. A call that the file asks for becomes an object that says what was to be
 * called with what, so unknown classes cost nothing unless somebody needs what they hold. */
#ifndef VT_IO_UNPICKLE_H
#define VT_IO_UNPICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "core/memory.h"

typedef enum vt_pickle_kind {
    VT_PICKLE_NONE,
    VT_PICKLE_BOOL,
    VT_PICKLE_INT,
    VT_PICKLE_BIG_INT, /* beyond 64 bits: the value is not kept */
    VT_PICKLE_FLOAT,
    VT_PICKLE_STRING,
    VT_PICKLE_BYTES,
    VT_PICKLE_TUPLE,
    VT_PICKLE_LIST, /* sets too */
    VT_PICKLE_DICT,
    VT_PICKLE_GLOBAL,    /* module.name */
    VT_PICKLE_OBJECT,    /* callable(*args), with state and dictionary items */
    VT_PICKLE_PERSISTENT /* what the writer stored elsewhere: tensors' bytes */
} vt_pickle_kind;

typedef struct vt_pickle_value vt_pickle_value;

/* Points into the pickle's bytes; not terminated. */
typedef struct vt_pickle_text {
    const char *at;
    size_t length;
} vt_pickle_text;

/* A dictionary holds key, value, key, value ...; a repeated key's last value counts. */
typedef struct vt_pickle_items {
    vt_pickle_value **at;
    size_t count, capacity;
} vt_pickle_items;

struct vt_pickle_value {
    vt_pickle_kind kind;
    union {
        int64_t integer; /* bool too */
        double number;
        vt_pickle_text text;
        vt_pickle_items items; /* tuple, list, dict */
        struct {
            vt_pickle_text module, name;
        } global;
        struct {
            const vt_pickle_value *callable, *args, *state;
            vt_pickle_items *pairs; /* items set as on a dictionary, or NULL */
        } object;
        struct {
            const vt_pickle_value *id;
            vt_pickle_value *next; /* the persistent value made before this one */
        } persistent;
    };
};

typedef struct vt_pickle {
    const vt_pickle_value *root;
    const vt_pickle_value *persistent; /* the last one made, or NULL */
    size_t used;                       /* bytes, up to and with STOP */
    bool cut;                          /* failed for want of more bytes */
} vt_pickle;

/* Reads one pickle from the front of bytes[0..size). Values live in `pool`, whose limit should be
 * set, and point into `bytes`. Time and memory are bounded by a multiple of `size`. */
vt_status vt_unpickle(vt_pickle *pickle, vt_pool *pool, const vt_context *context,
                      const unsigned char *bytes, size_t size, vt_error *error);

/* Every function below accepts NULL for the value and then finds nothing. */
bool vt_pickle_is(const vt_pickle_value *value, vt_pickle_kind kind);
bool vt_pickle_text_is(vt_pickle_text text, const char *wanted);
bool vt_pickle_is_string(const vt_pickle_value *value, const char *wanted);
bool vt_pickle_is_global(const vt_pickle_value *value, const char *module, const char *name);
/* Keys and values of a dictionary or of an object used like one; NULL for anything else. */
const vt_pickle_items *vt_pickle_pairs(const vt_pickle_value *value);
const vt_pickle_value *vt_pickle_get(const vt_pickle_value *dict, const char *key, size_t length);
/* Item i of a tuple or list. */
const vt_pickle_value *vt_pickle_item(const vt_pickle_value *value, size_t i);
/* "a list", "an object of class torch.nn.modules.linear.Linear". */
void vt_pickle_describe(const vt_pickle_value *value, char *out, size_t size);

#endif
