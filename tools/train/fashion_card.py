#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes FOLDER/README.md, the card of the networks that fashion.py trained.

    python3 fashion_card.py FOLDER "HOW" [NAME=RIGHT...]

HOW: how they were trained, in a few words. NAME=RIGHT: this network was trained again after its
first weights had RIGHT of the test pictures right, so that these were read twice for it.
"""
import json
import os
import sys

import fashion_data as data
import fashion_models as models

HEAD = """# Six small networks for Fashion-MNIST

One network of each kind of attention in this library, trained with PyTorch from nothing, to show
that nothing is lost between a training program, its checkpoint and `apps/evaluate`:
`make evaluate-demo` repeats the table and compares every answer.

| network | what it shows | parameters | file | epochs | top-1 of the 10,000 test pictures |
|---|---|---|---|---|---|
"""
TAIL = """
| | |
|---|---|
| input | 28 x 28 grey, brought to 64 x 64 (bicubic) in three equal channels, mean {mean}, deviation {std} |
| output | ten logits: {classes} |
| data | Fashion-MNIST (Zalando SE, MIT), Debian package `dataset-fashion-mnist`, the official split |
| choice | {held} of the 60,000 training pictures chose among the states of each training; the test pictures were read after the weights had been written, {read} |
| weights | half precision; the accuracies are those of the files, computed in f32 |
| trained with | {how}; PyTorch {torch}, {device} |
| licence of the weights | Apache-2.0; the pictures they were trained on are under MIT |

`NAME.tsv` holds, for each test picture in the order of the set, its label, the training program's answer,
that answer's logit and its lead over the second; `NAME.json` how the network was trained.
"""


def reads(again, pictures):
    """How often the test pictures were read; `again`: NAME=RIGHT of the networks trained twice."""
    if not again:
        return "once"
    first = dict(entry.split("=") for entry in again)
    if not first.keys() <= models.NAMES.keys():
        raise SystemExit(f"no such network among {', '.join(first)}")
    names = " and ".join(f"`{name}`" for name in first)
    values = " and ".join(f"{100 * int(right) / pictures:.2f} %" for right in first.values())
    return (f"once for each network but {names}: these were trained again, longer, after their first "
            f"weights had been read there at {values}, so that the test pictures were read twice "
            "for them and their accuracies are not those of an untouched test set")


def main(argv):
    if len(argv) < 2:
        raise SystemExit(__doc__)
    folder, how, *again = argv
    rows, told = [], None
    for name, shows in models.NAMES.items():
        path = os.path.join(folder, name)
        if not os.path.exists(path + ".json"):
            continue
        with open(path + ".json", encoding="utf-8") as file:
            told = json.load(file)
        if (told["train_pictures"] + told["held_out_pictures"], told["test_pictures"]) != (60000, 10000):
            raise SystemExit(f"{name} was only tried out: the card is for the whole official split")
        rows.append(f"| `{name}` | {shows} | {told['parameters'] / 1e6:.2f} M | "
                    f"{os.path.getsize(path + '.safetensors') / 1e6:.1f} MB | {told['epochs']:.0f} | "
                    f"{100 * told['test_right'] / told['test_pictures']:.2f} % |")
    if not told:
        raise SystemExit(f"{folder} has no NAME.json of fashion.py")
    tail = TAIL.format(mean=data.MEAN, std=data.STD, classes=", ".join(data.CLASSES),
                       held=told["held_out_pictures"], how=how,
                       read=reads(again, told["test_pictures"]), torch=told["torch"],
                       device=told["device"])
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
        file.write(HEAD + "\n".join(rows) + "\n" + tail)


if __name__ == "__main__":
    main(sys.argv[1:])
