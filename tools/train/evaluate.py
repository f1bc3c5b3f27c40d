"""Measure trained weights on the held-out set and on real photographs (CPU is enough).

    python3 evaluate.py WEIGHTS.safetensors DATA_DIR CACHE [--json OUT.json]

Held-out: every cut-out and render of the held-out objects on COPIES held-out backgrounds (fixed
seed), and every held-out whole photograph. Real photographs: real_photos.tsv, whose files are
checked by hash, through the usual evaluation transform (short side 248 bicubic, centre crop 224).
"""

import argparse
import collections
import csv
import hashlib
import json
import math
import os
import sys

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

import compose
import model as network
import sources

COPIES = 2
CROP_SHARE = 0.9


def transform(picture):
    """The evaluation transform of the library and of timm, for one picture."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "P"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    short = math.floor(compose.SIZE / CROP_SHARE)
    w, h = picture.size
    size = (short, int(short * h / w)) if w < h else (int(short * w / h), short)
    picture = picture.resize(size, Image.BICUBIC)
    x, y = round((size[0] - compose.SIZE) / 2), round((size[1] - compose.SIZE) / 2)
    picture = picture.crop((x, y, x + compose.SIZE, y + compose.SIZE))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


def read_real_photos(cache):
    """Rows of real_photos.tsv with the path on this machine, after checking every hash."""
    rows = []
    with open(os.path.join(sources.HERE, "real_photos.tsv")) as f:
        for row in csv.reader(f, delimiter="\t"):
            if row[0].startswith("#"):
                continue
            package, name, digest, labels = row[:4]
            path = os.path.join(cache, "files", package.split(" ")[0], name)
            with open(path, "rb") as picture:
                if hashlib.sha256(picture.read()).hexdigest() != digest:
                    raise SystemExit("not the listed file: " + path)
            rows.append((path, labels.split(",")))
    return rows


class Tally:
    def __init__(self):
        self.count, self.top1, self.top5 = 0, 0, 0

    def add(self, ranking, accepted):
        self.count += 1
        self.top1 += ranking[0] in accepted
        self.top5 += any(label in accepted for label in ranking[:5])

    def row(self):
        return {"n": self.count, "top1": self.top1, "top5": self.top5}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("data")
    parser.add_argument("cache")
    parser.add_argument("--json")
    args = parser.parse_args()
    names, _ = sources.load_classes()
    net = network.build(len(names)).eval()
    net.load_state_dict({k: v.float() for k, v in load_file(args.weights).items()})
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (network.MEAN, network.STD))

    @torch.no_grad()
    def predict(pictures):
        return net((pictures - mean) / std).softmax(1)

    tallies = collections.defaultdict(Tally)

    def score(probabilities, labels, groups):
        for ranking, label, group in zip(probabilities.argsort(1, descending=True).tolist(),
                                         labels, groups):
            for tally in ("all", group, "class " + names[label]):
                tallies[tally].add(ranking, [label])

    test = compose.load_pack(os.path.join(args.data, "test.npz"))
    composer = compose.Composer(
        test, compose.load_pack(os.path.join(args.data, "test_backgrounds.npz")), "cpu")
    torch.manual_seed(2)
    for _ in range(COPIES):
        for part in torch.arange(len(test["cutouts"])).split(64):
            with torch.no_grad():
                pictures = composer.held_out(part)
            score(predict(pictures), test["cutout_label"][part].tolist(),
                  [sources.KIND_NAMES[k] for k in test["cutout_kind"][part].tolist()])
            print("held-out pictures: %d" % tallies["all"].count, file=sys.stderr)
    for i, whole in enumerate(test["wholes"]):
        # stored square: give the photograph its proportions back
        aspect = test["whole_aspect"][i].item()
        size = (round(256 * max(aspect, 1)), round(256 * max(1 / aspect, 1)))
        picture = Image.fromarray(whole.permute(1, 2, 0).numpy()).resize(size, Image.BICUBIC)
        score(predict(transform(picture)[None]), [test["whole_label"][i].item()],
              [sources.KIND_NAMES[test["whole_kind"][i].item()]])

    real, lines = Tally(), []
    for path, accepted in read_real_photos(args.cache):
        probabilities = predict(transform(Image.open(path))[None])[0]
        ranking = probabilities.argsort(descending=True).tolist()
        real.add(ranking, [names.index(label) for label in accepted])
        lines.append({"photo": os.path.basename(path), "accepted": accepted,
                      "top3": [[names[i], round(probabilities[i].item(), 3)]
                               for i in ranking[:3]],
                      "right": names[ranking[0]] in accepted})

    result = {"held-out": {name: tally.row() for name, tally in tallies.items()},
              "real photographs": real.row(), "photos": lines}
    for name, tally in [*result["held-out"].items(), ("real photographs", real.row())]:
        print("%-28s n %5d  top-1 %5.1f %%  top-5 %5.1f %%" % (
            name, tally["n"], 100 * tally["top1"] / tally["n"], 100 * tally["top5"] / tally["n"]))
    for line in lines:
        print("%s %-34s %-22s %s" % ("+" if line["right"] else "-", line["photo"][:34],
                                     ",".join(line["accepted"]),
                                     "  ".join("%s %.2f" % tuple(p) for p in line["top3"])))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
