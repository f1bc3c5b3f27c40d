# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST as the networks of fashion.py see it: 28 x 28 grey, brought to 64 x 64 by Pillow's
bicubic filter, which the library's preprocessing reproduces in every bit."""
import gzip
import os

import numpy as np
from PIL import Image

FOLDERS = ("/usr/share/datasets/fashion-mnist", "fashion-mnist")
SIDE, MEAN, STD = 64, 0.286, 0.353
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot")
HELD_OUT = 5000  # the last pictures of the official training set choose between states


def read_idx(path):
    """An IDX file of bytes: two zeros, type 8, the number of axes, their lengths, the bytes."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        head = file.read(4)
        assert head[:3] == b"\0\0\x08", f"{path} is no IDX file of bytes"
        shape = np.frombuffer(file.read(4 * head[3]), ">u4").astype(int)
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def find(folder, name):
    for end in ("", ".gz"):
        if os.path.exists(path := os.path.join(folder, name + end)):
            return path
    raise SystemExit(f"{folder} has no {name}: the files are in Debian's dataset-fashion-mnist, "
                     f"--data names their folder")


def folder_of(data):
    return data or next((f for f in FOLDERS if os.path.isdir(f)), FOLDERS[0])


def load(folder, part, count=None):
    """`part`: train or t10k. Pictures [n,64,64] as bytes, labels [n]."""
    pictures = read_idx(find(folder, f"{part}-images-idx3-ubyte"))[:count]
    labels = read_idx(find(folder, f"{part}-labels-idx1-ubyte"))[:count]
    assert len(pictures) == len(labels) and pictures.shape[1:] == (28, 28)
    large = [np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.BICUBIC)) for p in pictures]
    return np.stack(large), labels.astype(np.int64)
