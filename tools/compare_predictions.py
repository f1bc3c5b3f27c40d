#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares results of apps/evaluate with what the program that trained the weights answered.

    compare_predictions.py WEIGHTS RESULT.json...

RESULT is NAME.json; WEIGHTS/NAME.tsv has a line per picture of the test set, with its label, the
training program's answer, the logit of that answer and its lead over the second. Pictures are K.png
with their place K in the set. Prints a table, and every picture with another answer. Exit code 1:
an answer differs although the lead was larger than what rounding explains: 0.001 where both were
computed in f32, else the bound of docs/testing.md for the type times the largest logit.
"""
import json
import os
import sys

SUMMATION = 1e-3  # a smaller lead can be lost to the order of summation in f32
BOUNDS = {"f32": 0.0, "f16": 1e-2, "bf16": 4e-2}  # of the largest logit


def read_table(path):
    with open(path, encoding="utf-8") as file:
        next(file)
        return [(int(a), int(b), float(c), float(d)) for a, b, c, d in map(str.split, file)]


def explained(result):
    """The largest lead that rounding may have taken."""
    logits = [abs(score[1]) for record in result["records"] if len(record) == 6
              for score in record[5]]
    return max(SUMMATION, BOUNDS[result["run"]["dtype"]] * max(logits))


def compare(name, weights, result):
    """One row of the table; prints the pictures that differ and counts those without excuse."""
    table = read_table(os.path.join(weights, name + ".tsv"))
    allowed = explained(result)
    right = theirs = different = unexplained = 0
    worst = 0.0
    for _, path, label, *found in result["records"]:
        place = int(os.path.splitext(os.path.basename(path))[0])
        if len(found) == 1:
            raise SystemExit(f"{path}: {found[0]}")
        if place >= len(table):
            raise SystemExit(f"{name}.tsv has {len(table)} pictures, none is {place}")
        theirs_label, answer, logit, lead = table[place]
        if theirs_label != label:
            raise SystemExit(f"{path}: its label is {label}, in {name}.tsv {theirs_label}")
        scores = {k: value for k, value, _ in found[2]}
        ours, second = found[2][0][0], found[2][1][1]
        worst = max(worst, abs(scores.get(answer, float("-inf")) - logit))
        if ours == answer:
            worst = max(worst, abs(scores[ours] - second - lead))
        right += ours == label
        theirs += answer == label
        if ours != answer:
            different += 1
            unexplained += lead > allowed
            print(f"{name}: {path}: ours {ours}, the training program's {answer}, which led by "
                  f"{lead:.6f}")
    count = len(result["records"])
    row = (f"{name:16} {count:8} {100 * right / count:9.2f} % {100 * theirs / count:9.2f} % "
           f"{different:10} {worst:12.1e}")
    return row, unexplained


def main(argv):
    if len(argv) < 2:
        raise SystemExit(__doc__)
    rows, unexplained = [], 0
    for path in argv[1:]:
        name = os.path.splitext(os.path.basename(path))[0]
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        if not result["complete"] or not result["records"]:
            raise SystemExit(f"{path}: the evaluation was stopped")
        row, bad = compare(name, argv[0], result)
        rows.append(row)
        unexplained += bad
    print(f"{'network':16} {'pictures':>8} {'top-1':>11} {'in training':>11} {'different':>10} "
          f"{'largest diff':>12}")
    print("\n".join(rows))
    if unexplained:
        raise SystemExit(f"{unexplained} answers differ by more than rounding")


if __name__ == "__main__":
    main(sys.argv[1:])
