/* SPDX-License-Identifier: Apache-2.0 */
#include "io/unpickle.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/checked.h"
#include "io/checkpoint.h"

enum {
    POOL_SLACK = 64 * 1024 + 64, /* what a pool may ask for at a time */
    MAX_LOGGED = 32              /* unknown globals that are reported */
};

typedef struct machine {
    const vt_context *context;
    vt_pool *pool;
    const unsigned char *bytes;
    size_t size, at;
    size_t op_at; /* of the opcode that runs now */
    vt_pickle_value **stack;
    size_t depth, stack_capacity;
    size_t *marks; /* stack depths */
    size_t mark_count, mark_capacity;
    vt_pickle_value **memo;
    size_t memo_capacity;
    size_t memo_next; /* MEMOIZE's index: one more than the values noted so far */
    vt_pickle_value *persistent;
    unsigned logged;
    bool stopped, cut;
    vt_status status;
    vt_error *error;
} machine;

/* ---- machine parts: each returns false or NULL after noting the failure ---------------------- */
VT_PRINTF(3, 4)
static bool fail(machine *m, vt_status status, const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    m->status = vt_error_set(m->error, status, "pickle: byte %zu: %s", m->op_at, line);
    return false;
}

static void *pool_alloc(machine *m, size_t size)
{
    void *p = vt_pool_alloc(m->pool, size);
    if (!p) {
        size_t need = (size > POOL_SLACK ? size : 0) + POOL_SLACK;
        bool limited =
            m->pool->limit && (need > m->pool->limit || m->pool->total > m->pool->limit - need);
        if (limited) {
            fail(m, VT_ERR_LIMIT, "its values need more memory than a checkpoint of this size may");
        } else {
            fail(m, VT_ERR_MEMORY, "out of memory");
        }
    }
    return p;
}

static vt_pickle_value *make(machine *m, vt_pickle_kind kind)
{
    vt_pickle_value *value = pool_alloc(m, sizeof *value);
    if (value) {
        value->kind = kind;
    }
    return value;
}

/* Pushes; a NULL value is a failure noted before. */
static bool push(machine *m, vt_pickle_value *value)
{
    void *stack = m->stack;
    if (!value) {
        return false;
    }
    if (!vt_array_reserve(m->pool->allocator, &stack, &m->stack_capacity, m->depth,
                          sizeof *m->stack)) {
        return fail(m, VT_ERR_MEMORY, "out of memory");
    }
    m->stack = stack;
    m->stack[m->depth++] = value;
    return true;
}

/* Values above the last mark. */
static size_t above_mark(const machine *m)
{
    return m->depth - (m->mark_count > 0 ? m->marks[m->mark_count - 1] : 0);
}

static vt_pickle_value *top(machine *m)
{
    if (above_mark(m) == 0) {
        fail(m, VT_ERR_FORMAT, "the stack is empty");
        return NULL;
    }
    return m->stack[m->depth - 1];
}

static vt_pickle_value *pop(machine *m)
{
    vt_pickle_value *value = top(m);
    if (value) {
        m->depth--;
    }
    return value;
}

/* Takes the values above the last mark off the stack; they stay readable at *values until the next
 * push. */
static bool pop_mark(machine *m, vt_pickle_value ***values, size_t *count)
{
    if (m->mark_count == 0) {
        return fail(m, VT_ERR_FORMAT, "there is no mark on the stack");
    }
    size_t begin = m->marks[--m->mark_count];
    *count = m->depth - begin;
    *values = *count > 0 ? m->stack + begin : NULL;
    m->depth = begin;
    return true;
}

static bool take(machine *m, uint64_t count, const unsigned char **bytes)
{
    if (count > m->size - m->at) {
        m->cut = true;
        return fail(m, VT_ERR_FORMAT, "the pickle is cut short");
    }
    *bytes = m->bytes + m->at;
    m->at += (size_t)count;
    return true;
}

/* A little-endian unsigned number of 1, 2, 4 or 8 bytes. */
static bool take_number(machine *m, int width, uint64_t *number)
{
    const unsigned char *p = NULL;
    if (!take(m, (uint64_t)width, &p)) {
        return false;
    }
    *number = 0;
    for (int i = width - 1; i >= 0; i--) {
        *number = *number << 8 | p[i];
    }
    return true;
}

static bool append(machine *m, vt_pickle_items *items, vt_pickle_value *const *values, size_t count)
{
    if (count > items->capacity - items->count) {
        size_t wanted, bytes;
        /* Tuples never grow, lists and dictionaries may. */
        if (!vt_mul_size(items->capacity, 2, &wanted) || !vt_add_size(wanted, count, &wanted) ||
            !vt_mul_size(wanted, sizeof *items->at, &bytes)) {
            return fail(m, VT_ERR_LIMIT, "too many items");
        }
        vt_pickle_value **grown = pool_alloc(m, bytes);
        if (!grown) {
            return false;
        }
        if (items->count > 0) {
            memcpy(grown, items->at, items->count * sizeof *grown);
        }
        items->at = grown;
        items->capacity = wanted;
    }
    if (count > 0) {
        memcpy(items->at + items->count, values, count * sizeof *values);
    }
    items->count += count;
    return true;
}

/* ---- constants, numbers and text ------------------------------------------------------------- */
static bool op_proto(machine *m, int unused)
{
    (void)unused;
    uint64_t protocol;
    if (!take_number(m, 1, &protocol)) {
        return false;
    }
    return (protocol >= 2 && protocol <= 5) ||
           fail(m, VT_ERR_UNSUPPORTED, "protocol %u: 2 to 5 are supported", (unsigned)protocol);
}

static bool op_frame(machine *m, int unused)
{
    (void)unused;
    uint64_t length;
    const unsigned char *frame;
    if (!take_number(m, 8, &length) || !take(m, length, &frame)) {
        return false;
    }
    m->at -= (size_t)length; /* a frame only says what may be read in one go */
    return true;
}

static bool op_stop(machine *m, int unused)
{
    (void)unused;
    m->stopped = true;
    return true;
}

static bool op_none(machine *m, int unused)
{
    (void)unused;
    return push(m, make(m, VT_PICKLE_NONE));
}

static bool push_integer(machine *m, vt_pickle_kind kind, int64_t integer)
{
    vt_pickle_value *value = make(m, kind);
    if (value) {
        value->integer = integer;
    }
    return push(m, value);
}

static bool op_bool(machine *m, int value)
{
    return push_integer(m, VT_PICKLE_BOOL, value);
}

/* BININT1 and BININT2 are unsigned, BININT is signed. */
static bool op_int(machine *m, int width)
{
    uint64_t number;
    return take_number(m, width, &number) &&
           push_integer(m, VT_PICKLE_INT, width == 4 ? (int32_t)(uint32_t)number : (int64_t)number);
}

/* LONG1, LONG4: a length, then a little-endian two's complement number; no bytes are 0. */
static bool op_long(machine *m, int width)
{
    uint64_t length;
    const unsigned char *p = NULL;
    if (!take_number(m, width, &length) || !take(m, length, &p)) {
        return false;
    }
    if (length > 8) {
        return push(m, make(m, VT_PICKLE_BIG_INT));
    }
    uint64_t number = length > 0 && (p[length - 1] & 0x80) ? UINT64_MAX : 0;
    for (size_t i = (size_t)length; i-- > 0;) {
        number = number << 8 | p[i];
    }
    return push_integer(m, VT_PICKLE_INT, (int64_t)number);
}

/* The one big-endian number of the format. */
static bool op_float(machine *m, int unused)
{
    (void)unused;
    const unsigned char *p = NULL;
    if (!take(m, 8, &p)) {
        return false;
    }
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        bits = bits << 8 | p[i];
    }
    vt_pickle_value *value = make(m, VT_PICKLE_FLOAT);
    if (value) {
        memcpy(&value->number, &bits, sizeof bits);
    }
    return push(m, value);
}

static bool push_text(machine *m, vt_pickle_kind kind, int width)
{
    uint64_t length;
    const unsigned char *p = NULL;
    if (!take_number(m, width, &length) || !take(m, length, &p)) {
        return false;
    }
    vt_pickle_value *value = make(m, kind);
    if (value) {
        value->text = (vt_pickle_text){(const char *)p, (size_t)length};
    }
    return push(m, value);
}

/* Also the strings of Python 2 (BINSTRING): text in all files of interest. */
static bool op_string(machine *m, int width)
{
    return push_text(m, VT_PICKLE_STRING, width);
}

static bool op_bytes(machine *m, int width)
{
    return push_text(m, VT_PICKLE_BYTES, width);
}

/* ---- stack and memo -------------------------------------------------------------------------- */
static bool op_mark(machine *m, int unused)
{
    (void)unused;
    void *marks = m->marks;
    if (!vt_array_reserve(m->pool->allocator, &marks, &m->mark_capacity, m->mark_count,
                          sizeof *m->marks)) {
        return fail(m, VT_ERR_MEMORY, "out of memory");
    }
    m->marks = marks;
    m->marks[m->mark_count++] = m->depth;
    return true;
}

static bool op_pop(machine *m, int unused)
{
    (void)unused;
    if (m->mark_count > 0 && above_mark(m) == 0) {
        m->mark_count--;
        return true;
    }
    return pop(m) != NULL;
}

static bool op_pop_mark(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value **values = NULL;
    size_t count = 0;
    return pop_mark(m, &values, &count);
}

static bool op_dup(machine *m, int unused)
{
    (void)unused;
    return push(m, top(m));
}

/* Notes the top of the stack under an index. Writers number from 0 upward and spend at least a byte
 * on each, so an index beyond the bytes read is a lie: the table stays within a multiple of them.
 */
static bool note(machine *m, uint64_t index)
{
    vt_pickle_value *value = top(m);
    if (!value) {
        return false;
    }
    if (index >= m->at) {
        return fail(m, VT_ERR_FORMAT, "memo index %llu is out of range", (unsigned long long)index);
    }
    if (index >= m->memo_capacity) {
        size_t capacity = m->memo_capacity ? m->memo_capacity : 64;
        while (capacity <= index) {
            capacity *= 2;
        }
        vt_pickle_value **memo = vt_alloc_zero(m->pool->allocator, capacity, sizeof *memo);
        if (!memo) {
            return fail(m, VT_ERR_MEMORY, "out of memory");
        }
        if (m->memo_capacity > 0) {
            memcpy(memo, m->memo, m->memo_capacity * sizeof *memo);
        }
        vt_free(m->pool->allocator, m->memo);
        m->memo = memo;
        m->memo_capacity = capacity;
    }
    m->memo_next += m->memo[index] == NULL;
    m->memo[index] = value;
    return true;
}

static bool op_put(machine *m, int width)
{
    uint64_t index;
    return take_number(m, width, &index) && note(m, index);
}

static bool op_memoize(machine *m, int unused)
{
    (void)unused;
    return note(m, m->memo_next);
}

static bool op_get(machine *m, int width)
{
    uint64_t index;
    if (!take_number(m, width, &index)) {
        return false;
    }
    if (index >= m->memo_capacity || !m->memo[index]) {
        return fail(m, VT_ERR_FORMAT, "nothing was noted under memo index %llu",
                    (unsigned long long)index);
    }
    return push(m, m->memo[index]);
}

/* ---- containers ------------------------------------------------------------------------------ */
static bool op_empty(machine *m, int kind)
{
    return push(m, make(m, (vt_pickle_kind)kind));
}

/* TUPLE1, TUPLE2, TUPLE3. */
static bool op_tuple_of(machine *m, int count)
{
    if (above_mark(m) < (size_t)count) {
        return fail(m, VT_ERR_FORMAT, "the stack is too short for a tuple");
    }
    vt_pickle_value *tuple = make(m, VT_PICKLE_TUPLE);
    m->depth -= (size_t)count;
    return tuple && append(m, &tuple->items, m->stack + m->depth, (size_t)count) && push(m, tuple);
}

/* TUPLE, LIST, DICT, FROZENSET: of the values above the mark. */
static bool op_collect(machine *m, int kind)
{
    vt_pickle_value **values = NULL;
    size_t count = 0;
    if (!pop_mark(m, &values, &count)) {
        return false;
    }
    if (kind == VT_PICKLE_DICT && count % 2 != 0) {
        return fail(m, VT_ERR_FORMAT, "a key without a value");
    }
    vt_pickle_value *value = make(m, (vt_pickle_kind)kind);
    return value && append(m, &value->items, values, count) && push(m, value);
}

static bool extend(machine *m, vt_pickle_value *const *values, size_t count)
{
    vt_pickle_value *target = top(m);
    if (!target) {
        return false;
    }
    if (target->kind == VT_PICKLE_OBJECT) {
        return true; /* a list of some class: nobody asks for its items */
    }
    if (target->kind != VT_PICKLE_LIST) {
        return fail(m, VT_ERR_FORMAT, "items are added to something that is not a list");
    }
    return append(m, &target->items, values, count);
}

static bool op_append(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value *value = pop(m);
    return value && extend(m, &value, 1);
}

/* APPENDS, ADDITEMS. */
static bool op_appends(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value **values = NULL;
    size_t count = 0;
    return pop_mark(m, &values, &count) && extend(m, values, count);
}

static bool set_items(machine *m, vt_pickle_value *const *values, size_t count)
{
    vt_pickle_value *target = top(m);
    if (!target) {
        return false;
    }
    if (count % 2 != 0) {
        return fail(m, VT_ERR_FORMAT, "a key without a value");
    }
    if (target->kind == VT_PICKLE_DICT) {
        return append(m, &target->items, values, count);
    }
    if (target->kind != VT_PICKLE_OBJECT) {
        return fail(m, VT_ERR_FORMAT, "items are set on something that is not a dictionary");
    }
    if (!target->object.pairs) {
        target->object.pairs = pool_alloc(m, sizeof *target->object.pairs);
    }
    return target->object.pairs && append(m, target->object.pairs, values, count);
}

static bool op_setitem(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value *pair[2];
    return (pair[1] = pop(m)) && (pair[0] = pop(m)) && set_items(m, pair, 2);
}

static bool op_setitems(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value **values = NULL;
    size_t count = 0;
    return pop_mark(m, &values, &count) && set_items(m, values, count);
}

/* ---- globals and objects --------------------------------------------------------------------- */
static bool push_global(machine *m, vt_pickle_text module, vt_pickle_text name)
{
    vt_pickle_value *value = make(m, VT_PICKLE_GLOBAL);
    if (!value) {
        return false;
    }
    value->global.module = module;
    value->global.name = name;
    bool expected = (module.length >= 5 && memcmp(module.at, "torch", 5) == 0) ||
                    vt_pickle_text_is(module, "collections");
    if (!expected && m->logged < MAX_LOGGED) {
        m->logged++;
        vt_log(m->context, VT_LOG_DEBUG, "pickle: %s.%s is kept unread",
               vt_show(module.at, module.length).text, vt_show(name.at, name.length).text);
    }
    return push(m, value);
}

static bool take_line(machine *m, vt_pickle_text *line)
{
    const unsigned char *begin = m->bytes + m->at;
    const unsigned char *end = memchr(begin, '\n', m->size - m->at);
    if (!end) {
        m->cut = true;
        return fail(m, VT_ERR_FORMAT, "the pickle is cut short");
    }
    *line = (vt_pickle_text){(const char *)begin, (size_t)(end - begin)};
    m->at += line->length + 1;
    return true;
}

static bool op_global(machine *m, int unused)
{
    (void)unused;
    vt_pickle_text module, name;
    return take_line(m, &module) && take_line(m, &name) && push_global(m, module, name);
}

static bool op_stack_global(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module) {
        return false;
    }
    if (name->kind != VT_PICKLE_STRING || module->kind != VT_PICKLE_STRING) {
        return fail(m, VT_ERR_FORMAT, "a global's name is not a string");
    }
    return push_global(m, module->text, name->text);
}

/* The classes that are read as plain dictionaries. */
static bool is_dict_class(const vt_pickle_value *callable)
{
    return vt_pickle_is_global(callable, "collections", "OrderedDict") ||
           vt_pickle_is_global(callable, "collections", "defaultdict") ||
           vt_pickle_is_global(callable, "collections", "Counter") ||
           vt_pickle_is_global(callable, "builtins", "dict") ||
           vt_pickle_is_global(callable, "__builtin__", "dict");
}

/* OrderedDict() or, from Python 2, OrderedDict([[key, value], ...]). */
static bool push_dict(machine *m, const vt_pickle_value *args)
{
    vt_pickle_value *dict = make(m, VT_PICKLE_DICT);
    if (!dict) {
        return false;
    }
    const vt_pickle_value *from = vt_pickle_item(args, 0);
    if (vt_pickle_is(from, VT_PICKLE_DICT) &&
        !append(m, &dict->items, from->items.at, from->items.count)) {
        return false;
    }
    const vt_pickle_value *pair;
    for (size_t i = 0; (pair = vt_pickle_item(from, i)) != NULL; i++) {
        if (!vt_pickle_item(pair, 1) || vt_pickle_item(pair, 2)) {
            return fail(m, VT_ERR_FORMAT, "a dictionary is made of something else than pairs");
        }
        if (!append(m, &dict->items, pair->items.at, 2)) {
            return false;
        }
    }
    return push(m, dict);
}

static bool push_object(machine *m, const vt_pickle_value *callable, const vt_pickle_value *args)
{
    if (callable->kind != VT_PICKLE_GLOBAL && callable->kind != VT_PICKLE_OBJECT &&
        callable->kind != VT_PICKLE_PERSISTENT) {
        return fail(m, VT_ERR_FORMAT, "something that is not a class or function is called");
    }
    if (args->kind != VT_PICKLE_TUPLE) {
        return fail(m, VT_ERR_FORMAT, "the arguments of a call are not a tuple");
    }
    if (is_dict_class(callable)) {
        return push_dict(m, args);
    }
    vt_pickle_value *object = make(m, VT_PICKLE_OBJECT);
    if (object) {
        object->object.callable = callable;
        object->object.args = args;
    }
    return push(m, object);
}

/* REDUCE, NEWOBJ; NEWOBJ_EX has keyword arguments besides, which nobody asks for. */
static bool op_call(machine *m, int keywords)
{
    if (keywords) {
        vt_pickle_value *named = pop(m);
        if (!named) {
            return false;
        }
        if (named->kind != VT_PICKLE_DICT) {
            return fail(m, VT_ERR_FORMAT, "keyword arguments are not a dictionary");
        }
    }
    vt_pickle_value *args = pop(m), *callable = args ? pop(m) : NULL;
    return callable && push_object(m, callable, args);
}

static bool op_build(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value *state = pop(m), *target = state ? top(m) : NULL;
    if (!target) {
        return false;
    }
    if (target->kind == VT_PICKLE_OBJECT) {
        target->object.state = state;
        return true;
    }
    /* Attributes of a dictionary, such as a state_dict's _metadata. */
    return target->kind == VT_PICKLE_DICT ||
           fail(m, VT_ERR_FORMAT, "state is set on something that is not an object");
}

static bool op_persistent(machine *m, int unused)
{
    (void)unused;
    vt_pickle_value *id = pop(m), *value = id ? make(m, VT_PICKLE_PERSISTENT) : NULL;
    if (!value) {
        return false;
    }
    value->persistent.id = id;
    value->persistent.next = m->persistent;
    m->persistent = value;
    return push(m, value);
}

/* ---- the table ------------------------------------------------------------------------------- */
/* What is missing is refused: text opcodes of protocol 0, INST and OBJ, extension codes, buffers
 * kept outside the pickle. */
static const struct {
    bool (*run)(machine *m, int argument);
    int argument;
} opcodes[256] = {
    [0x80] = {op_proto, 0},
    [0x95] = {op_frame, 0},
    ['.'] = {op_stop, 0},
    ['('] = {op_mark, 0},
    ['0'] = {op_pop, 0},
    ['1'] = {op_pop_mark, 0},
    ['2'] = {op_dup, 0},
    ['N'] = {op_none, 0},
    [0x88] = {op_bool, 1},
    [0x89] = {op_bool, 0},
    ['J'] = {op_int, 4},
    ['K'] = {op_int, 1},
    ['M'] = {op_int, 2},
    [0x8A] = {op_long, 1},
    [0x8B] = {op_long, 4},
    ['G'] = {op_float, 0},
    ['X'] = {op_string, 4},
    [0x8C] = {op_string, 1},
    [0x8D] = {op_string, 8},
    ['U'] = {op_string, 1},
    ['T'] = {op_string, 4},
    ['C'] = {op_bytes, 1},
    ['B'] = {op_bytes, 4},
    [0x8E] = {op_bytes, 8},
    [0x96] = {op_bytes, 8},
    ['q'] = {op_put, 1},
    ['r'] = {op_put, 4},
    [0x94] = {op_memoize, 0},
    ['h'] = {op_get, 1},
    ['j'] = {op_get, 4},
    [')'] = {op_empty, VT_PICKLE_TUPLE},
    [']'] = {op_empty, VT_PICKLE_LIST},
    ['}'] = {op_empty, VT_PICKLE_DICT},
    [0x8F] = {op_empty, VT_PICKLE_LIST},
    [0x85] = {op_tuple_of, 1},
    [0x86] = {op_tuple_of, 2},
    [0x87] = {op_tuple_of, 3},
    ['t'] = {op_collect, VT_PICKLE_TUPLE},
    ['l'] = {op_collect, VT_PICKLE_LIST},
    ['d'] = {op_collect, VT_PICKLE_DICT},
    [0x91] = {op_collect, VT_PICKLE_LIST},
    ['a'] = {op_append, 0},
    ['e'] = {op_appends, 0},
    [0x90] = {op_appends, 0},
    ['s'] = {op_setitem, 0},
    ['u'] = {op_setitems, 0},
    ['c'] = {op_global, 0},
    [0x93] = {op_stack_global, 0},
    ['R'] = {op_call, 0},
    [0x81] = {op_call, 0},
    [0x92] = {op_call, 1},
    ['b'] = {op_build, 0},
    ['Q'] = {op_persistent, 0},
};

static void run(machine *m)
{
    while (!m->stopped) {
        const unsigned char *op = NULL;
        m->op_at = m->at;
        if (!take(m, 1, &op)) {
            return;
        }
        if (!opcodes[*op].run) {
            fail(m, VT_ERR_UNSUPPORTED, "opcode 0x%02x is not supported", *op);
            return;
        }
        if (!opcodes[*op].run(m, opcodes[*op].argument)) {
            return;
        }
    }
    if (m->depth != 1 || m->mark_count != 0) {
        fail(m, VT_ERR_FORMAT, "%zu values are left at the end instead of one", m->depth);
    }
}

vt_status vt_unpickle(vt_pickle *pickle, vt_pool *pool, const vt_context *context,
                      const unsigned char *bytes, size_t size, vt_error *error)
{
    machine m = {.context = context, .pool = pool, .bytes = bytes, .size = size, .error = error};
    run(&m);
    *pickle = (vt_pickle){.used = m.at, .cut = m.cut, .persistent = m.persistent};
    if (m.status == VT_OK) {
        pickle->root = m.stack[0];
    }
    vt_free(pool->allocator, m.stack);
    vt_free(pool->allocator, m.marks);
    vt_free(pool->allocator, m.memo);
    return m.status;
}
