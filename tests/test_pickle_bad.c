/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch pickles, tensors and legacy streams that lie: each gives an error, of the file or of the
 * one tensor concerned. Nothing here may crash, hang, leak or read outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/checkpoint_support.h"

static vt_context *context;
static ck_allocations allocations;

/* ---- pickles --------------------------------------------------------------------------------- */
#define CODE(text) text, sizeof text - 1

typedef struct pickle_case {
    const char *code;
    size_t size;
    const char *message; /* NULL: must open */
} pickle_case;

/* Values of one more key beside a good tensor: opaque things must not harm. */
static const pickle_case values[] = {
    {CODE("cos\nsystem\nX\x02\0\0\0ls\x85R"), NULL},
    {CODE("cbuiltins\neval\nX\x03\0\0\0"
          "1+1\x85R"),
     NULL},
    {CODE("c__builtin__\ngetattr\ncos\npath\nX\x06\0\0\0system\x86RX\x02\0\0\0ls\x85R"), NULL},
    {CODE("cmy.module\nThing\n)\x81}X\x01\0\0\0aK\1sb"), NULL},
    {CODE("cmy.module\nThing\n)}\x92"), NULL},
    {CODE("ctorch\nFloatTensor\n"), NULL},
    {CODE("c__builtin__\nset\n](K\1K\2e\x85R"), NULL},
    {CODE("cmy\nList\n)\x81(K\1K\2eK\3a"), NULL},
    {CODE("cmy\nDict\n)\x81K\1K\2s(K\3K\4u"), NULL},
    {CODE("ccollections\nOrderedDict\n](](K\1K\2ee\x85R}X\1\0\0\0_Nsb"), NULL},
    {CODE("\x8a\0"), NULL},
    {CODE("\x8a\x0a"
          "0123456789"),
     NULL},
    {CODE("\x8b\x02\0\0\0\xff\xff"), NULL},
    {CODE("G?\xf0\0\0\0\0\0\0"), NULL},
    {CODE("(K\1K\2l"), NULL},
    {CODE("(K\1K\2d"), NULL},
    {CODE("\x8f(K\1\x90"), NULL},
    {CODE("(K\1\x91"), NULL},
    {CODE("K\1"
          "2"
          "0"),
     NULL},
    {CODE("((0K\1"
          "0"
          "0N"),
     NULL},
    {CODE("((K\1K\2"
          "1"
          "0N"),
     NULL},
    {CODE("]q\x05h\x05"
          "a"),
     NULL},
    {CODE("}q\x05h\x05h\x05s"), NULL},
    {CODE("]q\x05r\xff\0\0\0j\xff\0\0\0"
          "0"),
     "memo index 255"},
    {CODE("\x95\x02\0\0\0\0\0\0\0K\1"), NULL},
    {CODE("X\1\0\0\0xQ"), NULL},
    {CODE("U\1xT\1\0\0\0x\x8c\1x\x8d\1\0\0\0\0\0\0\0x\x86\x86\x86"), NULL},
    {CODE("C\1xB\1\0\0\0x\x8e\1\0\0\0\0\0\0\0x\x87"), NULL},
    {CODE("\x96\1\0\0\0\0\0\0\0x"), NULL},
    {CODE("X\x01\0\0\0mX\x01\0\0\0n\x93"), NULL},
    /* Refused and malformed. */
    {CODE("P1\n"), "opcode 0x50"},
    {CODE("I1\n"), "opcode 0x49"},
    {CODE("L1L\n"), "opcode 0x4c"},
    {CODE("F1\n"), "opcode 0x46"},
    {CODE("S'a'\n"), "opcode 0x53"},
    {CODE("Va\n"), "opcode 0x56"},
    {CODE("Ng1\n"), "opcode 0x67"},
    {CODE("Np1\n"), "opcode 0x70"},
    {CODE("(imod\nname\n"), "opcode 0x69"},
    {CODE("(cmod\nname\no"), "opcode 0x6f"},
    {CODE("\x82\1"), "opcode 0x82"},
    {CODE("\x83\1\0"), "opcode 0x83"},
    {CODE("\x84\1\0\0\0"), "opcode 0x84"},
    {CODE("\x97"), "opcode 0x97"},
    {CODE("N\x98"), "opcode 0x98"},
    {CODE("\xff"), "opcode 0xff"},
    {CODE("\x80\x06"), "protocol 6"},
    {CODE("\x80\1"), "protocol 1"},
    {CODE("h\x63"), "memo index 99"},
    {CODE("j\xff\xff\xff\xff"), "memo index 4294967295"},
    {CODE("Nr\xff\xff\xff\xff"), "memo index 4294967295 is out of range"},
    {CODE("(q\1"), "stack is empty"},
    {CODE("(2"), "stack is empty"},
    {CODE("(\x94"), "stack is empty"},
    {CODE("(R"), "stack is empty"},
    {CODE("(Q"), "stack is empty"},
    {CODE("(a"), "stack is empty"},
    {CODE("(Na"), "stack is empty"},
    {CODE("(s"), "stack is empty"},
    {CODE("(b"), "stack is empty"},
    {CODE("(\x93"), "stack is empty"},
    {CODE("(\x85"), "too short"},
    {CODE("(N\x86"), "too short"},
    {CODE("(NN\x87"), "too short"},
    {CODE("e"), "no mark"},
    {CODE("t"), "no mark"},
    {CODE("u"), "no mark"},
    {CODE("1"), "no mark"},
    {CODE("(((N"), "stack is empty"},
    {CODE("NN"), "not a dictionary"},
    {CODE("}(Nu"), "a key without"},
    {CODE("(Nd"), "a key without"},
    {CODE("NNa"), "not a list"},
    {CODE("N(Ne"), "not a list"},
    {CODE("}(N\x90"), "not a list"},
    {CODE("]NNs"), "not a dictionary"},
    {CODE("](NNu"), "not a dictionary"},
    {CODE("NNb"), "not an object"},
    {CODE("K\1)R"), "called"},
    {CODE("])R"), "called"},
    {CODE("cm\nn\nNR"), "not a tuple"},
    {CODE("cm\nn\n]\x81"), "not a tuple"},
    {CODE("cm\nn\n)N\x92"), "keyword"},
    {CODE("NN\x93"), "not a string"},
    {CODE("X\1\0\0\0mK\1\x93"), "not a string"},
    {CODE("ccollections\nOrderedDict\n](Ne\x85R"), "pairs"},
    {CODE("ccollections\nOrderedDict\n](](Nee\x85R"), "pairs"},
    {CODE("ccollections\nOrderedDict\n](](NNNee\x85R"), "pairs"},
    {CODE("X\xff\xff\xff\xff"), "cut short"},
    {CODE("T\xff\xff\xff\xff"), "cut short"},
    {CODE("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "cut short"},
    {CODE("\x8e\0\0\0\0\0\0\0\x80"), "cut short"},
    {CODE("\x96\0\0\0\0\0\0\0\x10"), "cut short"},
    {CODE("\x8b\xff\xff\xff\x7f"), "cut short"},
    {CODE("\x8b\xff\xff\xff\xff"), "cut short"},
    {CODE("\x95\xff\xff\xff\xff\xff\xff\xff\xff"), "cut short"},
    {CODE("\x95\x40\0\0\0\0\0\0\0N"), "cut short"},
    {CODE("cmodule without an end"), "cut short"},
};

/* {"w": tensor, "x": code} */
static void wrap_value(ck_bytes *pickle, const void *code, size_t size)
{
    ck_text(pickle, "\x80\x02}");
    ck_pickle_tensor(pickle, &ck_weight);
    ck_pickle_string(pickle, "x");
    ck_put(pickle, code, size);
    ck_text(pickle, "s.");
}

static void check_pickle(const ck_bytes *pickle, const char *what, size_t number,
                         const char *message)
{
    ck_bytes file = {0};
    ck_torch_pickle(&file, pickle->data, pickle->size);
    ck_check_open(context, &file, what, number, message);
    ck_clear(&file);
}

static void test_pickle_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        ck_bytes pickle = {0};
        wrap_value(&pickle, values[i].code, values[i].size);
        check_pickle(&pickle, "value", i, values[i].message);
        ck_clear(&pickle);
    }
}

static const pickle_case whole[] = {
    {CODE(""), "cut short"},
    {CODE("."), "0 values are left"},
    {CODE("\x80"), "cut short"},
    {CODE("\x80\x02N."), "holds None"},
    {CODE("\x80\x02]."), "holds a list"},
    {CODE("\x80\x02X\1\0\0\0x."), "holds a text"},
    {CODE("\x80\x02}."), "no dictionary of tensors"},
    {CODE("\x80\2cm\nn\n."), "holds the name m.n"},
    {CODE("\x80\2cm\nn\n)R."), "an object of m.n"},
    {CODE("\x80\x02NN."), "2 values are left"},
    {CODE("\x80\x02(N."), "left at the end"},
    {CODE("\x80\x02"
          "0."),
     "stack is empty"},
    {CODE("\x80\x02R."), "stack is empty"},
    {CODE("\x80\x02}q\1X\5\0\0\0modelh\1s."), "no dictionary of tensors"},
};

static void test_whole_pickles(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        ck_bytes pickle = {0};
        ck_put(&pickle, whole[i].code, whole[i].size);
        check_pickle(&pickle, "pickle", i, whole[i].message);
        ck_clear(&pickle);
    }
    /* The same name twice. */
    ck_bytes pickle = {0};
    ck_text(&pickle, "\x80\x02}");
    ck_pickle_tensor(&pickle, &ck_weight);
    ck_pickle_tensor(&pickle, &ck_weight);
    ck_text(&pickle, ".");
    check_pickle(&pickle, "duplicate", 0, "two tensors are named 'w'");
    ck_clear(&pickle);
}

/* Nesting, sharing and repeating beyond reason. */
static void test_bombs(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    ck_bytes code = {0}, pickle = {0};
    for (int kind = 0; kind < 8; kind++) {
        code.size = pickle.size = 0;
        const char *message = NULL;
        switch (kind) {
        case 0: /* lists inside lists */
        case 1: /* tuples inside tuples */
            ck_text(&code, kind == 0 ? "]" : ")");
            for (int i = 1; i < MANY; i++) {
                ck_text(&code, kind == 0 ? "]" : "\x85");
            }
            for (int i = 1; kind == 0 && i < MANY; i++) {
                ck_text(&code, "a");
            }
            break;
        case 2: /* marks */
            for (int i = 0; i < MANY; i++) {
                ck_text(&code, "(");
            }
            ck_text(&code, "d");
            message = "stack is empty";
            break;
        case 3: /* each list holds the one before twice: 2^60 leaves */
            ck_text(&code, "]q\1");
            for (int i = 0; i < 60; i++) {
                ck_text(&code, "0](h\1h\1eq\1");
            }
            break;
        case 4: /* one long list made into dictionaries again and again */
            ck_text(&code, "ccollections\nOrderedDict\nq\1](");
            for (int i = 0; i < 1000; i++) {
                ck_text(&code, "](K\1K\2e");
            }
            ck_text(&code, "eq\2"
                           "0");
            for (int i = 0; i < MANY / 4; i++) {
                ck_text(&code, "h\2\x85R0h\1");
            }
            message = "more memory";
            break;
        case 5: /* a dictionary with itself under every key */
            ck_text(&code, "}q\1(");
            for (int i = 0; i < MANY / 4; i++) {
                ck_text(&code, "Nh\1");
            }
            ck_text(&code, "u");
            break;
        case 6: /* a persistent id of a persistent id of ... */
            ck_text(&code, "N");
            for (int i = 0; i < MANY; i++) {
                ck_text(&code, "Q");
            }
            break;
        default: /* objects called with the objects before */
            ck_text(&code, "cm\nn\n");
            for (int i = 0; i < MANY; i++) {
                ck_text(&code, ")R");
            }
            break;
        }
        wrap_value(&pickle, code.data, code.size);
        check_pickle(&pickle, "bomb", (size_t)kind, message);
    }
    ck_clear(&code);
    ck_clear(&pickle);
}

/* ---- tensors --------------------------------------------------------------------------------- */
typedef struct tensor_case {
    ck_tensor tensor;
    const char *message; /* NULL: readable */
} tensor_case;

static const int64_t big = INT64_MAX;

static void check_tensor(const ck_tensor *tensor, size_t number, const char *message)
{
    const unsigned char zeros[64] = {0};
    const ck_tensor both[] = {ck_weight, *tensor};
    ck_bytes file = {0};
    vt_checkpoint *cp;
    vt_error error = {0};
    float out[16];
    ck_torch(&file, both, 2, zeros, sizeof zeros);
    if (ck_open(&cp, context, &file, NULL, &error) != VT_OK) {
        fail_msg("tensor case %zu: %s", number, error.message);
    }
    /* The good tensor beside it is not concerned. */
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_find(cp, "w"), 0, 16, out, NULL), VT_OK);
    const vt_checkpoint_entry *e = vt_checkpoint_find(cp, "t");
    vt_status status =
        vt_checkpoint_read(cp, e, 0, e->elements < 16 ? e->elements : 16, out, &error);
    if (message ? status == VT_OK || !strstr(error.message, message) ||
                      !strstr(error.message, "tensor 't': ")
                : status != VT_OK) {
        fail_msg("tensor case %zu: %s (%s)", number, vt_status_name(status), error.message);
    }
    vt_checkpoint_close(&cp);
    ck_clear(&file);
}

static void test_tensors(void **state)
{
    (void)state;
    const tensor_case cases[] = {
        {{"t", NULL, NULL, 16, 0, 1, {16}, {1}}, NULL},
        {{"t", NULL, NULL, 16, 0, 1, {5}, {0}}, NULL},
        {{"t", NULL, NULL, 16, 99, 2, {0, 7}, {9, 9}}, NULL},
        {{"t", NULL, NULL, 16, 15, 1, {1}, {1000}}, NULL},
        {{"t", NULL, NULL, 16, 1, 1, {16}, {1}}, "last element is number 16"},
        {{"t", NULL, NULL, 16, 16, 0, {0}, {0}}, "last element is number 16"},
        {{"t", NULL, NULL, 16, 0, 1, {17}, {1}}, "last element"},
        {{"t", NULL, NULL, 16, -1, 1, {1}, {1}}, "offset"},
        {{"t", NULL, NULL, 16, big, 1, {2}, {1}}, "strides are too large"},
        {{"t", NULL, NULL, 16, big, 0, {0}, {0}}, "last element"},
        {{"t", NULL, NULL, 16, 0, 1, {-1}, {1}}, "negative"},
        {{"t", NULL, NULL, 16, 15, 1, {16}, {-1}}, "negative"},
        {{"t", NULL, NULL, 16, 0, 2, {big, big}, {0, 0}}, "too many elements"},
        {{"t", NULL, NULL, 16, 0, 1, {big}, {0}}, "expands"},
        {{"t", NULL, NULL, 16, 0, 2, {1LL << 40, 1}, {0, 1}}, "expands"},
        {{"t", NULL, NULL, 16, 0, 8, {2, 1000, 1000, 1000, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0, 0, 0}},
         "expands"},
        {{"t", NULL, NULL, 16, 0, 1, {3}, {big}}, "strides are too large"},
        {{"t", NULL, NULL, 16, 0, 2, {2, 2}, {big, big}}, "strides are too large"},
        {{"t", NULL, NULL, 16, 0, 17, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {0}},
         "17 dimensions"},
        {{"t", NULL, NULL, 15, 0, 1, {1}, {1}}, "has 64 bytes, not the 60"},
        {{"t", NULL, NULL, 17, 0, 1, {1}, {1}}, "has 64 bytes, not the 68"},
        {{"t", NULL, NULL, -16, 0, 1, {1}, {1}}, "storage's size"},
        {{"t", NULL, NULL, big, 0, 1, {1}, {1}}, "too large"},
        {{"t", NULL, NULL, 1LL << 62, 0, 1, {1}, {1}}, "too large"},
        {{"t", "DoubleStorage", NULL, 16, 0, 1, {1}, {1}}, "has 64 bytes, not the 128"},
        {{"t", "QInt8Storage", NULL, 64, 0, 1, {1}, {1}}, "quantised"},
        {{"t", "UntypedStorage", NULL, 64, 0, 1, {1}, {1}}, "element type"},
        {{"t", "ComplexFloatStorage", NULL, 8, 0, 1, {1}, {1}}, "element type"},
        {{"t", "StrangeStorage", NULL, 16, 0, 1, {1}, {1}}, "type is not known"},
        {{"t", NULL, "1", 16, 0, 1, {1}, {1}}, "storage '1' is missing"},
        {{"t", NULL, "../data/0", 16, 0, 1, {1}, {1}}, "is missing"},
        {{"t", NULL, "../../x\n\x1b", 16, 0, 1, {1}, {1}}, "'../../x\?\?' is missing"},
        {{"t", NULL, "", 16, 0, 1, {1}, {1}}, "key is not a plain text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_tensor(&cases[i].tensor, i, cases[i].message);
    }
}

/* Arguments of the rebuilding call that are of the wrong kind. */
static void test_tensor_operands(void **state)
{
    (void)state;
#define ID                                                                                         \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                             \
    "0X\3\0\0\0cpuK\x10tQ"
    static const pickle_case calls[] = {
        {CODE("(" ID "K\0K\1\x85K\1\x85\x89}t"), NULL},
        {CODE("(" ID "K\0](K\1eK\1\x85\x89}t"), NULL},
        {CODE("(" ID "K\0ctorch\nSize\nK\1\x85\x85RK\1\x85\x89}t"), NULL},
        {CODE(")"), "no storage"},
        {CODE("(K\1K\0K\1\x85K\1\x85t"), "no storage"},
        {CODE("(K\1QK\0K\1\x85K\1\x85t"), "no storage"},
        {CODE("()QK\0K\1\x85K\1\x85t"), "no storage"},
        {CODE("(X\7\0\0\0storage\x85QK\0K\1\x85K\1\x85t"), "no type"},
        {CODE("((X\7\0\0\0storagectorch\nFloatStorage\nK\0X\3\0\0\0cpuK\x10tQK\0))t"), "key"},
        {CODE("((X\7\0\0\0storagecxorch\nFloatStorage\nX\1\0\0\0"
              "0NK\x10tQK\0))t"),
         "PyTorch's"},
        {CODE("((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0NNtQK\0))t"),
         "size"},
        {CODE("((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0N\x88tQK\0))t"),
         "size"},
        {CODE("((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0NK\x10K\1tQK\0))t"),
         "view"},
        {CODE("((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0NK\x10)tQK\0))t"),
         "view"},
        {CODE("((X\7\0\0\0storagectorch\nFloatStorage\nX\2\0\0\0"
              "0\0NK\x10tQK\0))t"),
         "key"},
        {CODE("(" ID "NK\1\x85K\1\x85t"), "offset"},
        {CODE("(" ID "G\0\0\0\0\0\0\0\0K\1\x85K\1\x85t"), "offset"},
        {CODE("(" ID "K\0NK\1\x85t"), "do not fit"},
        {CODE("(" ID "K\0K\1\x85t"), "do not fit"},
        {CODE("(" ID "K\0K\1\x85K\1K\1\x86t"), "do not fit"},
        {CODE("(" ID "K\0N\x85K\1\x85t"), "negative or not numbers"},
        {CODE("(" ID "K\0K\1\x85N\x85t"), "negative or not numbers"},
        {CODE("(" ID "K\0}}t"), "do not fit"},
        {CODE("(" ID "K\0\x8a\x0a"
              "0123456789\x85K\1\x85t"),
         "not numbers"},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        ck_bytes pickle = {0}, file = {0};
        ck_put(&pickle, CODE("\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n"));
        ck_put(&pickle, calls[i].code, calls[i].size);
        ck_text(&pickle, "Rs.");
        ck_torch_pickle(&file, pickle.data, pickle.size);
        vt_checkpoint *cp;
        vt_error error = {0};
        float out[1];
        if (ck_open(&cp, context, &file, NULL, &error) != VT_OK) {
            fail_msg("operands %zu: %s", i, error.message);
        }
        const vt_checkpoint_entry *e = vt_checkpoint_at(cp, 0);
        vt_status status = vt_checkpoint_read(cp, e, 0, e->elements > 0, out, &error);
        if (calls[i].message ? !status || !strstr(error.message, calls[i].message) : status) {
            fail_msg("operands %zu: %s (%s)", i, vt_status_name(status), error.message);
        }
        vt_checkpoint_close(&cp);
        ck_clear(&pickle);
        ck_clear(&file);
    }
}

/* ---- legacy streams -------------------------------------------------------------------------- */
#define MAGIC "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define TENSOR(numel, view, size)                                                                  \
    "\x80\2}X\1\0\0\0tctorch._utils\n_rebuild_tensor_v2\n(("                                       \
    "X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                              \
    "5X\3\0\0\0cpuK" numel view "tQK\0K" size "\x85K\1\x85\x89}tRs."
#define KEYS                                                                                       \
    "\x80\2]X\1\0\0\0"                                                                             \
    "5a."
#define FRONT                                                                                      \
    MAGIC "\x80\2M\xe9\3."                                                                         \
          "\x80\2}."

#define NUMEL(n) n "\0\0\0\0\0\0\0"

static const struct {
    const char *code;
    size_t size;
    const char *open, *read; /* messages */
} legacy_cases[] = {
    {CODE(FRONT TENSOR("\2", "N", "\2") KEYS NUMEL("\2") "12345678"), NULL, NULL},
    {CODE(FRONT TENSOR("\2",
                       "X\1\0\0\0"
                       "6K\1K\1\x87",
                       "\1") KEYS NUMEL("\2") "12345678"),
     NULL, NULL},
    {CODE(FRONT TENSOR("\2",
                       "X\1\0\0\0"
                       "6K\1K\1\x87",
                       "\2") KEYS NUMEL("\2") "12345678"),
     NULL, "last element"},
    {CODE(FRONT TENSOR("\2",
                       "X\1\0\0\0"
                       "6K\1K\2\x87",
                       "\1") KEYS NUMEL("\2") "12345678"),
     NULL, "out of bounds"},
    {CODE(FRONT TENSOR("\2",
                       "X\1\0\0\0"
                       "6\x8a\1\xffK\2\x87",
                       "\1") KEYS NUMEL("\2") "12345678"),
     NULL, "out of bounds"},
    {CODE(FRONT TENSOR("\2", "N", "\2") KEYS NUMEL("\3") "12345678"), "not the 2", NULL},
    {CODE(FRONT TENSOR("\2", "N", "\2") KEYS NUMEL("\2") "1234567"), "beyond the end", NULL},
    {CODE(FRONT TENSOR("\2", "N", "\2") KEYS "\2"), "cut short", NULL},
    {CODE(FRONT TENSOR("\2", "N", "\2") "\x80\2]." NUMEL("\2") "12345678"), NULL, "missing"},
    {CODE(FRONT TENSOR("\2", "N", "\2") "\x80\2](X\1\0\0\0"
                                        "5X\1\0\0\0"
                                        "5e." NUMEL("\2") "12345678" NUMEL("\2") "12345678"),
     "there twice", NULL},
    {CODE(FRONT TENSOR("\2", "N", "\2") "\x80\2]X\1\0\0\0"
                                        "7a." NUMEL("\2")),
     "not used", NULL},
    {CODE(FRONT TENSOR("\2", "N", "\2") "\x80\2]K\5a." NUMEL("\2")), "not used", NULL},
    {CODE(FRONT TENSOR("\2", "N", "\2") "\x80\2}."), "list of storages", NULL},
    {CODE(FRONT "\x80\2}."
                "\x80\2]."),
     "no dictionary of tensors", NULL},
    {CODE(FRONT "\x80\2N."
                "\x80\2]."),
     "holds None", NULL},
    {CODE(MAGIC "\x80\2K\1."
                "\x80\2}."
                "\x80\2}."
                "\x80\2]."),
     "protocol version", NULL},
    {CODE(MAGIC "\x80\2N."
                "\x80\2}."
                "\x80\2}."
                "\x80\2]."),
     "protocol version", NULL},
    {CODE(MAGIC "\x80\2M\xe9\3."
                "\x80\2N."
                "\x80\2}."
                "\x80\2]."),
     "system record", NULL},
    {CODE(FRONT "\x80\2(X\6\0\0\0modulectorch.nn.modules.linear\nLinear\nNNtQ)\x81."
                "\x80\2]."),
     "an object of torch.nn.modules.linear.Linear", NULL},
    {CODE(MAGIC), "cut short", NULL},
    {CODE(FRONT "\x80\2P1\n."), "opcode 0x50", NULL},
};

static void test_legacy(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof legacy_cases / sizeof *legacy_cases; i++) {
        ck_bytes file = {0};
        vt_checkpoint *cp;
        vt_error error = {0};
        float out[1];
        ck_put(&file, legacy_cases[i].code, legacy_cases[i].size);
        vt_status status = ck_open(&cp, context, &file, NULL, &error);
        if (legacy_cases[i].open ? !status || !strstr(error.message, legacy_cases[i].open)
                                 : status) {
            fail_msg("legacy %zu: %s (%s)", i, vt_status_name(status), error.message);
        }
        if (status == VT_OK) {
            status = vt_checkpoint_read(cp, vt_checkpoint_at(cp, 0), 0, 1, out, &error);
            if (legacy_cases[i].read ? !status || !strstr(error.message, legacy_cases[i].read)
                                     : status) {
                fail_msg("legacy %zu: %s (%s)", i, vt_status_name(status), error.message);
            }
        }
        vt_checkpoint_close(&cp);
        ck_clear(&file);
    }
}

/* Pickles longer than the piece that is read first. */
static void test_long_legacy(void **state)
{
    (void)state;
    ck_bytes file = {0};
    vt_checkpoint *cp;
    vt_error error = {0};
    float out[2];
    ck_put(&file, CODE(FRONT "\x80\2X"));
    ck_number(&file, 3000000, 4);
    for (int i = 0; i < 3000000; i++) {
        ck_text(&file, "x");
    }
    ck_text(&file, "0");
    ck_put(&file, CODE(TENSOR("\2", "N", "\2") KEYS NUMEL("\2")));
    ck_put(&file, (float[]){3, 4}, 8);
    if (ck_open(&cp, context, &file, NULL, &error) != VT_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(vt_checkpoint_read(cp, vt_checkpoint_at(cp, 0), 0, 2, out, NULL), VT_OK);
    assert_true(out[0] == 3.0f && out[1] == 4.0f);
    vt_checkpoint_close(&cp);
    ck_clear(&file);
}

static int make_context(void **state)
{
    (void)state;
    context = ck_context(&allocations);
    return 0;
}

static int drop_context(void **state)
{
    (void)state;
    vt_context_destroy(&context);
    ck_remove_folder();
    return allocations.live == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pickle_values),   cmocka_unit_test(test_whole_pickles),
        cmocka_unit_test(test_bombs),           cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_tensor_operands), cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_long_legacy),
    };
    return cmocka_run_group_tests_name("bad pickles", tests, make_context, drop_context);
}
