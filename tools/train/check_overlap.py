"""Check that no test photograph, nor a near copy of one, is among the training pictures.

    python3 check_overlap.py DATA_DIR CACHE

Compares SHA-256 of the files and a 64-bit difference hash of the pictures: cut-outs and whole
photographs of the training set, its backgrounds, and real_photos.tsv. Prints the closest pairs and
fails on one closer than LIMIT bits.
"""

import os
import sys

import numpy as np
from PIL import Image

import compose
import evaluate
import sources

LIMIT = 6


def difference_hash(picture):
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.LANCZOS)).astype(int)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def hashes_of(pictures):
    out = []
    for picture in pictures:
        array = picture.permute(1, 2, 0).numpy()
        image = Image.fromarray(array)
        if array.shape[2] == 4:
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
            image = image.crop(image.convert("L").point(lambda v: 255 * (v < 250)).getbbox())
        out.append(difference_hash(image))
    return np.array(out)


def main():
    data, cache = sys.argv[1:3]
    train = compose.load_pack(os.path.join(data, "train.npz"))
    grounds = compose.load_pack(os.path.join(data, "train_backgrounds.npz"))
    known = np.concatenate([hashes_of(train["wholes"]), hashes_of(grounds["wholes"]),
                            hashes_of(train["cutouts"][train["cutout_kind"] == sources.CUTOUT])])
    real = evaluate.read_real_photos(cache)
    _, items = sources.collect(cache)
    files = {item["path"] for item in items if isinstance(item["path"], str)}
    nearest = []
    for path, _ in real:
        if os.path.realpath(path) in {os.path.realpath(f) for f in files}:
            sys.exit("a test photograph is a training picture: " + path)
        mine = difference_hash(Image.open(path).convert("RGB"))
        nearest.append((int((known != mine).sum(1).min()), os.path.basename(path)))
    for distance, name in sorted(nearest)[:8]:
        print("%2d bits  %s" % (distance, name))
    if min(nearest)[0] <= LIMIT:
        sys.exit("a test photograph has a near copy in the training set")
    print("%d test photographs, no near copy among %d training pictures" % (len(real), len(known)))


if __name__ == "__main__":
    main()
