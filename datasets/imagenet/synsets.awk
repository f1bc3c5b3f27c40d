# SPDX-License-Identifier: Apache-2.0
# The table of ILSVRC2012's own class numbers: prints "ID SYNSET" for each element of the struct
# array `synsets` of the devkit's meta.mat. Input: its first variable, decompressed, a byte a line:
#   od -An -v -tu1 -w1
# MATLAB 5 format: an element is a tag (type, size; both in four bytes where size <= 4) and data,
# padded to eight bytes. A matrix (type 14) holds flags, dimensions, name and its data; in a struct
# array these are the length of the field names, the names, and a matrix for each field of each
# element.

function byte() {
    if ((getline line) <= 0) stop("it is cut short")
    at++
    return line + 0
}
function stop(why) {
    print why >"/dev/stderr"
    failed = 1
    exit 1
}
function u32(    a, b, c) {
    a = byte(); b = byte(); c = byte()
    return a + 256 * b + 65536 * c + 16777216 * byte()
}
function skip(to) {
    while (at < to) byte()
}
# Reads one element's tag and data: sets type, size and data[0 ... size - 1]
function element(    start, i) {
    start = at
    type = u32()
    if (type >= 65536) {
        size = int(type / 65536)
        type = type % 65536
    } else {
        size = u32()
    }
    if (size > 1000000) stop("an element is too large")
    for (i = 0; i < size; i++) data[i] = byte()
    skip(start + (size <= 4 && at - size == start + 4 ? 8 : 8 + 8 * int((size + 7) / 8)))
}
function text(    i, s, step) {
    step = type == 4 || type == 17 ? 2 : 1 # UTF-16 or bytes
    for (i = 0; i < size; i += step) s = s sprintf("%c", data[i])
    return s
}
function number(    i, n, exponent, fraction) {
    if (type == 9) {
        exponent = data[7] % 128 * 16 + int(data[6] / 16) - 1023
        fraction = 1 + data[6] % 16 / 16
        for (i = 5; i >= 0; i--) fraction += data[i] / 16 / 256 ^ (6 - i)
        return int(fraction * 2 ^ exponent + 0.5)
    }
    for (i = size - 1; i >= 0; i--) n = 256 * n + data[i]
    return n
}
# The head of a matrix: sets end, and count from its dimensions
function matrix(    i) {
    if (u32() != 14) stop("no matrix where one must be")
    end = u32()
    end += at
    if (end == at) return # an empty cell
    element() # flags
    element()
    count = 1
    for (i = 0; i < size; i += 4) count *= data[i] + 256 * data[i + 1] + 65536 * data[i + 2]
    element()
    name = text()
}

BEGIN {
    at = 0
    matrix()
    elements = count
    if (name != "synsets") stop("its first variable is '" name "', not 'synsets'")
    element()
    width = data[0]
    element()
    names = text()
    for (fields = 0; fields * width < size; fields++) {
        field[fields] = substr(names, fields * width + 1, width)
        sub(/[^A-Za-z0-9_].*/, "", field[fields])
    }
    for (i = 0; i < elements; i++) {
        for (f = 0; f < fields; f++) {
            matrix()
            last = end
            if (field[f] == "ILSVRC2012_ID") { element(); id = number() }
            if (field[f] == "WNID") { element(); synset = text() }
            skip(last)
        }
        print id, synset
    }
}
END { exit failed }
