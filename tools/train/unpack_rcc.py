"""Unpack Qt resource archives (.rcc), the container of GCompris' pictures.

    python3 unpack_rcc.py OUT_DIR FILE.rcc...

Layout: a header (magic "qres", version, offsets of tree, data and names), a tree of fixed-size
nodes, a name table (UTF-16) and length-prefixed data blobs, optionally zlib or zstd compressed.
Each archive is unpacked into OUT_DIR under the path that its own tree gives.
"""

import os
import struct
import sys
import zlib

ZLIB, DIRECTORY, ZSTD = 1, 2, 4


def read_nodes(blob):
    """Yield (path, flags, data offset) for every file in the archive."""
    magic, version, tree, data, names = struct.unpack_from(">4sIIII", blob, 0)
    if magic != b"qres":
        raise ValueError("not a Qt resource archive")
    node_size = 14 if version < 2 else 22

    def name_at(offset):
        length = struct.unpack_from(">H", blob, names + offset)[0]
        start = names + offset + 6
        return blob[start:start + 2 * length].decode("utf-16-be")

    pending = [(0, "")]
    while pending:
        index, parent = pending.pop()
        at = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", blob, at)
        path = os.path.join(parent, name_at(name_offset)) if index else ""
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">II", blob, at + 6)
            pending += [(i, path) for i in range(first, first + count)]
        else:
            yield path, flags, data + struct.unpack_from(">I", blob, at + 10)[0]


def unpack(archive, out_dir):
    with open(archive, "rb") as f:
        blob = f.read()
    written = 0
    for path, flags, at in read_nodes(blob):
        size = struct.unpack_from(">I", blob, at)[0]
        content = blob[at + 4:at + 4 + size]
        if flags & ZSTD:
            continue                      # not used by the archives read here
        if flags & ZLIB:
            content = zlib.decompress(content[4:])
        target = os.path.normpath(os.path.join(out_dir, path))
        if not target.startswith(os.path.normpath(out_dir) + os.sep):
            raise ValueError("path leaves the output folder: " + path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(content)
        written += 1
    return written


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    total = sum(unpack(archive, sys.argv[1]) for archive in sys.argv[2:])
    print("%d files unpacked into %s" % (total, sys.argv[1]))
