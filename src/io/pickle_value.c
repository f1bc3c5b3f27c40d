/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at the values that a pickle was read into. */
#include <stdio.h>
#include <string.h>

#include "io/checkpoint.h"
#include "io/unpickle.h"

bool vt_pickle_is(const vt_pickle_value *value, vt_pickle_kind kind)
{
    return value && value->kind == kind;
}

bool vt_pickle_text_is(vt_pickle_text text, const char *wanted)
{
    return text.length == strlen(wanted) && memcmp(text.at, wanted, text.length) == 0;
}

bool vt_pickle_is_string(const vt_pickle_value *value, const char *wanted)
{
    return vt_pickle_is(value, VT_PICKLE_STRING) && vt_pickle_text_is(value->text, wanted);
}

bool vt_pickle_is_global(const vt_pickle_value *value, const char *module, const char *name)
{
    return vt_pickle_is(value, VT_PICKLE_GLOBAL) &&
           vt_pickle_text_is(value->global.module, module) &&
           vt_pickle_text_is(value->global.name, name);
}

const vt_pickle_items *vt_pickle_pairs(const vt_pickle_value *value)
{
    return vt_pickle_is(value, VT_PICKLE_DICT)     ? &value->items
           : vt_pickle_is(value, VT_PICKLE_OBJECT) ? value->object.pairs
                                                   : NULL;
}

const vt_pickle_value *vt_pickle_get(const vt_pickle_value *dict, const char *key, size_t length)
{
    const vt_pickle_items *pairs = vt_pickle_pairs(dict);
    for (size_t i = pairs ? pairs->count : 0; i >= 2; i -= 2) {
        const vt_pickle_value *k = pairs->at[i - 2];
        if (k->kind == VT_PICKLE_STRING && k->text.length == length &&
            memcmp(k->text.at, key, length) == 0) {
            return pairs->at[i - 1];
        }
    }
    return NULL;
}

const vt_pickle_value *vt_pickle_item(const vt_pickle_value *value, size_t i)
{
    bool indexed = vt_pickle_is(value, VT_PICKLE_TUPLE) || vt_pickle_is(value, VT_PICKLE_LIST);
    return indexed && i < value->items.count ? value->items.at[i] : NULL;
}

void vt_pickle_describe(const vt_pickle_value *value, char *out, size_t size)
{
    static const char *const kinds[] = {
        [VT_PICKLE_NONE] = "None",
        [VT_PICKLE_BOOL] = "a truth value",
        [VT_PICKLE_INT] = "a number",
        [VT_PICKLE_BIG_INT] = "a number",
        [VT_PICKLE_FLOAT] = "a number",
        [VT_PICKLE_STRING] = "a text",
        [VT_PICKLE_BYTES] = "bytes",
        [VT_PICKLE_TUPLE] = "a tuple",
        [VT_PICKLE_LIST] = "a list",
        [VT_PICKLE_DICT] = "a dictionary",
        [VT_PICKLE_GLOBAL] = "a class or function",
        [VT_PICKLE_OBJECT] = "an object",
        [VT_PICKLE_PERSISTENT] = "an object stored elsewhere",
    };
    const vt_pickle_value *class =
        vt_pickle_is(value, VT_PICKLE_OBJECT) ? value->object.callable : value;
    if (vt_pickle_is(class, VT_PICKLE_PERSISTENT)) { /* ('module', class, ...): a whole module */
        class = vt_pickle_item(class->persistent.id, 1);
    }
    if (vt_pickle_is(class, VT_PICKLE_GLOBAL)) {
        snprintf(out, size, "%s %s.%s",
                 value->kind == VT_PICKLE_OBJECT ? "an object of" : "the name",
                 vt_show(class->global.module.at, class->global.module.length).text,
                 vt_show(class->global.name.at, class->global.name.length).text);
    } else {
        snprintf(out, size, "%s", value ? kinds[value->kind] : "nothing");
    }
}
