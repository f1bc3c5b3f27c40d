# SPDX-License-Identifier: Apache-2.0
"""Write the card of the object-classification weights.

    python3 objects_card.py DATA_DIR RESULT.json TRAINING.json CARD.md

DATA_DIR is what build_dataset.py made, RESULT.json what evaluate.py --json wrote, TRAINING.json
what train.py left beside its weights.
"""

import collections
import csv
import json
import os
import sys

import numpy as np

import model as network
import sources

# What each kind is made of, for the table of the data.
SOURCES_OF = [
    ("whole photographs", "gcompris, kphotoalbum, forensics-samples, dlib, leptonlib, scratch, "
     "Qt and wxWidgets examples"),
    ("photo cut-outs", "tuxpaint stamps, scratch figures, gcompris objects on plain ground"),
    ("renders, 2 to 20 views", "sweethome3d furniture, 0 A.D., FlightGear"),
    ("drawings", "openclipart, pysiogame, tuxpaint, scratch, Noto and EmojiOne emoji"),
]

CARD = """# swin_nano_objects

A small Swin transformer that names the main object of a picture among {classes} everyday things. These are
the default weights: they make the programs usable out of the box and show what the library does.
They are **modest**: on real photographs {real_top1:.0f} of 100 answers are right. For serious work load
ImageNet weights of one of the supported models.

| | |
|---|---|
| file | `swin_nano_objects.safetensors`, half precision, {megabytes:.1f} MB; labels in `swin_nano_objects.labels.txt` |
| model | `{model}`: timm `SwinTransformer`, embed_dim 48, depths 2-2-4-2, heads 3-6-12-24, window 7; {parameters:.2f} M parameters |
| input | 224 x 224: short side to 248 bicubic, centre crop, ImageNet mean and deviation |
| output | {classes} logits, softmax |
| licence | of the weights: `LICENSE.swin_nano_objects.txt` (GPL and share-alike sources among them) |

## Accuracy

Measured on the half-precision file with `tools/train/evaluate.py`.

| test | pictures | top-1 | top-5 |
|---|---|---|---|
{tests}

Guessing is right in {guess:.1f} % of the cases. With {real_count} real photographs the standard error is five points.
Held-out objects by kind:

| kind | pictures | top-1 | top-5 |
|---|---|---|---|
{kinds}

The real photographs come from 24 packages that gave no training picture (one gave other wallpapers
as backgrounds). They were chosen and labelled by looking at them, and `tools/train/real_photos.tsv`
with their hashes was committed before the first training. They show {real_classes} of the classes, all of them
among the first 63. Where a picture honestly shows two of the classes, either answer counts. A
difference hash finds no near copy of any of them among the training pictures
(`tools/train/check_overlap.py`). They have been read three times: on the weights of a first round, of
which 34.0 % were right and whose failures suggested what to add; on a four-minute trial of the
second round (26.6 %, not shipped); and on these weights, of the second round in full. Nothing else
was chosen by them.

## Data

All from Debian 12, reproduced by script. Objects are split, never views: all renders of a model, all
skins of a mesh, all poses of a person and all numbered variants of a drawing are on one side.

| kind | sources | training: objects, pictures | held out: objects, pictures |
|---|---|---|---|
{data}

## Recipe

Every training picture is made on the GPU: a cut-out with changed colours at 0.33 to 2 times the
frame, turned, stretched and tilted, on one or two background crops, a plain colour or a gradient,
with a shadow and other objects behind and before it; two pictures in nine are crops of whole
photographs. Then colour, grey, blur, low resolution, noise, JPEG rounding and erasing. For the
cut-outs classes are drawn alike, for the photographs by the root of their counts; kinds with
weights 4 : 5 : 2 : 0.7 (photograph, photo cut-out, render, drawing) times the root of theirs. Cutmix
on 25 % and mixup on 15 % of the batches, label smoothing 0.1, drop path 0.1, AdamW (weight decay
0.05), bfloat16, rate on a cosine to 1e-5.

{training}
The file holds the running average of the weights (0.999). One run; no search over settings.

## Classes

Training objects (of them photographs and photo cut-outs), held-out objects, right answers on
held-out pictures, right answers on real photographs (by the first accepted label).

| class | training | held out | held-out top-1 | real photographs |
|---|---|---|---|---|
{table}

## Known failures

- The training set holds few real photographs ({photos} whole, {cutouts} cut out), so fur, feathers and skin are
  read badly. Heads without a body, close-ups, and small or dark objects often fail.
- Confidence means little. The most confident mistakes on the real photographs: {mistakes}.
- There is no "none of these": every picture gets one of the {classes} names.
- Held-out accuracy is kinder than the world. The pictures are made like the training pictures, and
  families of models (white airliners, buildings of one game) resemble each other across the split.
  It counts each view, so classes with many models (chair, building, airplane, tree) weigh more.
- No real photograph tests the classes from "door" on, and several of them are mostly drawings.
- Classes with no held-out object: {untested}.
- People were trained as one class, "person", from few pictures of few people. Do not use it to
  decide anything about people.

## Reproduce

`tools/train/README.md` has the commands. Training on a GPU is not bit-exact from run to run; expect
figures within a few points.
"""

FIRST_ROUND = """The first round knew 63 classes and fewer sources: 7,063 steps of 512 pictures in 15 minutes, rate
1e-3. The second started from those weights: """


def share(row, key):
    return "%.1f %%" % (100 * row[key] / row["n"])


def test_rows(result):
    real, held = result["real photographs"], result["held-out"]["all"]
    return ("| **real photographs**, hand-labelled, never trained on | %d | **%s** (%d) | %s (%d) |\n"
            "| **held-out objects**, made like the training pictures | %d | **%s** | %s |" % (
                real["n"], share(real, "top1"), real["top1"], share(real, "top5"), real["top5"],
                held["n"], share(held, "top1"), share(held, "top5")))


def kind_rows(result):
    rows = [(kind, result["held-out"].get(kind)) for kind in sources.KIND_NAMES]
    return "\n".join("| %s | %d | %s | %s |" % (kind, row["n"], share(row, "top1"),
                                               share(row, "top5")) for kind, row in rows if row)


def picture_counts(path):
    """Pictures by kind in one pack; -1 counts backgrounds."""
    with np.load(path) as pack:
        return collections.Counter(pack["kind"].tolist())


def data_rows(folder, manifest):
    objects = collections.Counter((row["kind"], row["split"]) for row in manifest)
    train, test = (picture_counts(os.path.join(folder, name + ".npz")) for name in ("train", "test"))
    rows = []
    for kind, (title, origin) in enumerate(SOURCES_OF):
        name = sources.KIND_NAMES[kind]
        rows.append("| %s | %s | %d, %s | %d, %d |" % (
            title, origin, objects[name, "training"], format(train[kind], ","),
            objects[name, "held-out"], test[kind]))
    grounds = [picture_counts(os.path.join(folder, name + "_backgrounds.npz"))[-1]
               for name in ("train", "test")]
    rows.append("| backgrounds | supertuxkart and 0 A.D. textures, gcompris paintings and places, "
                "scratch stages, wallpapers | %s | %d |" % (format(grounds[0], ","), grounds[1]))
    return "\n".join(rows)


def class_rows(names, manifest, result):
    real = collections.defaultdict(list)
    for photo in result["photos"]:
        real[photo["accepted"][0]].append(photo["right"])
    rows = []
    for name in names:
        mine = [row for row in manifest if row["class"] == name]
        training = [row for row in mine if row["split"] == "training"]
        photos = sum(row["kind"].startswith("photo") for row in training)
        tally = result["held-out"].get("class " + name)
        rows.append("| %s | %d (%d) | %d | %s | %s |" % (
            name, len(training), photos, len(mine) - len(training),
            "%d / %d" % (tally["top1"], tally["n"]) if tally else "-",
            "%d / %d" % (sum(real[name]), len(real[name])) if real[name] else "-"))
    return "\n".join(rows), len([name for name in names if real[name]])


def mistakes(result, count=4):
    wrong = sorted((photo for photo in result["photos"] if not photo["right"]),
                   key=lambda photo: -photo["top3"][0][1])
    return ", ".join("`%s` (%s) as %s %.2f" % (photo["photo"], " or ".join(photo["accepted"]),
                                               *photo["top3"][0]) for photo in wrong[:count])


def training_text(training):
    text = "%s steps of %d pictures, %.1f million in %.0f minutes on one %s, highest rate %g." % (
        format(training["steps"], ","), training["pictures"] // training["steps"],
        training["pictures"] / 1e6, training["seconds"] / 60, training["device"],
        training["rate"])
    return (FIRST_ROUND if training["init"] else "") + text


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    folder, result_path, training_path, card_path = sys.argv[1:]
    with open(result_path) as f:
        result = json.load(f)
    with open(training_path) as f:
        training = json.load(f)
    with open(os.path.join(folder, "manifest.tsv")) as f:
        fields = f.readline().lstrip("# ").rstrip("\n").split("\t")
        manifest = [dict(zip(fields, row)) for row in csv.reader(f, delimiter="\t")]
    names, _ = sources.load_classes()
    parameters = sum(p.numel() for p in network.build(len(names)).parameters())
    table, real_classes = class_rows(names, manifest, result)
    objects = collections.Counter((row["kind"], row["split"]) for row in manifest)
    held = {row["class"] for row in manifest if row["split"] == "held-out"}
    real = result["real photographs"]
    with open(card_path, "w") as f:
        f.write(CARD.format(
            classes=len(names), real_top1=100 * real["top1"] / real["n"], model=network.NAME,
            megabytes=parameters * 2 / 1e6, parameters=parameters / 1e6,
            tests=test_rows(result), guess=100 / len(names), real_count=real["n"],
            kinds=kind_rows(result), real_classes=real_classes, data=data_rows(folder, manifest),
            training=training_text(training), table=table, mistakes=mistakes(result),
            photos=objects["photo", "training"], cutouts=objects["photo cut-out", "training"],
            untested=", ".join(name for name in names if name not in held) or "none"))


if __name__ == "__main__":
    main()
