/* SPDX-License-Identifier: Apache-2.0 */
/* The families a context knows: those built in, then those registered with it. */
#include <string.h>

#include "backbones/family.h"
#include "core/context.h"
#include "vertebra/model.h"

static const vt_family *family_at(const vt_context *context, size_t i)
{
    size_t built_in = 0;
    while (vt_families[built_in]) {
        built_in++;
    }
    return i < built_in ? vt_families[i] : vt_context_registered(context, i - built_in);
}

const vt_variant *vt_variant_at(const vt_context *context, size_t i, const vt_family **family)
{
    const vt_family *f;
    for (size_t k = 0; (f = family_at(context, k)) != NULL; k++) {
        if (i < f->variant_count) {
            if (family) {
                *family = f;
            }
            return &f->variants[i];
        }
        i -= f->variant_count;
    }
    return NULL;
}

/* The variant whose name is the first `length` characters. */
static const vt_variant *find_name(const vt_context *context, const char *name, size_t length,
                                   const vt_family **family)
{
    const vt_variant *v;
    for (size_t i = 0; (v = vt_variant_at(context, i, family)) != NULL; i++) {
        if (strlen(v->name) == length && strncmp(v->name, name, length) == 0) {
            return v;
        }
    }
    return NULL;
}

const vt_variant *vt_variant_find(const vt_context *context, const char *name,
                                  const vt_family **family)
{
    const vt_variant *exact = find_name(context, name, strlen(name), family);
    return exact ? exact : find_name(context, name, strcspn(name, "."), family);
}

vt_status vt_context_register(vt_context *context, const vt_family *family, vt_error *error)
{
    for (size_t i = 0; i < family->variant_count; i++) {
        const char *name = family->variants[i].name;
        if (find_name(context, name, strlen(name), NULL)) {
            return vt_error_set(error, VT_ERR_ARGUMENT, "there is a model '%s' already", name);
        }
    }
    return vt_context_add_family(context, family)
               ? VT_OK
               : vt_error_set(error, VT_ERR_MEMORY, "out of memory for a family");
}
