# SPDX-License-Identifier: Apache-2.0
"""Runs the pictures of an `evaluate --json` result through timm and compares, picture by picture.

    python tools/compare_evaluation.py RESULT.json WEIGHTS TIMM_MODEL [KEY=VALUE ...]

KEY=VALUE go to timm.create_model as Python values. For the shipped weights:

    python tools/compare_evaluation.py r.json weights/swin_nano_objects.safetensors \
        swin_tiny_patch4_window7_224 embed_dim=48 'depths=(2,2,4,2)'
"""
import ast
import json
import os
import re
import sys

import timm
import torch
from PIL import Image


def name_of(text):
    """The file's name that a text of the result stands for (docs/evaluate.md)."""
    return os.fsdecode(re.sub(rb"\\(?:\\|x(..))",
                              lambda m: bytes.fromhex(m[1].decode()) if m[1] else b"\\",
                              text.encode()))


def transform_of(run):
    assert run["crop_mode"] == "center" and run["resize_shorter"] == 0 and run["exif"] == "ignore"
    return timm.data.create_transform(
        input_size=(3, run["height"], run["width"]), interpolation=run["filter"],
        mean=run["mean"], std=run["std"], crop_pct=run["crop_pct"], crop_mode=run["crop_mode"])


def main():
    result = json.load(open(sys.argv[1]))
    options = {k: ast.literal_eval(v) for k, v in (a.split("=") for a in sys.argv[4:])}
    classes = len(result["class_names"])
    model = timm.create_model(sys.argv[3], pretrained=False, num_classes=classes, **options)
    state = timm.models.load_state_dict(sys.argv[2], use_ema=False)
    model.load_state_dict({k: v.float() for k, v in state.items()})
    model.eval()
    transform = transform_of(result["run"])
    top1 = top5 = different = order = 0
    loss_sum = worst = 0.0
    smallest = float("inf")
    for record in result["records"]:
        if len(record) == 4:
            continue
        index, path, label, rank, loss, top = record
        image = Image.open(name_of(os.path.join(result["about"]["folder"], path))).convert("RGB")
        with torch.inference_mode():
            logits = model(transform(image)[None])[0]
        best = logits.topk(min(5, classes))
        ours = [t[0] for t in top]
        theirs = best.indices.tolist()
        margin = (best.values[0] - best.values[1]).item()
        smallest = min(smallest, margin)
        worst = max([worst] + [abs(t[1] - logits[t[0]].item()) for t in top])
        top1 += theirs[0] == label
        top5 += label in theirs
        loss_sum += torch.nn.functional.cross_entropy(logits[None].double(),
                                                      torch.tensor([label])).item()
        order += ours != theirs
        if ours[0] != theirs[0]:
            different += 1
            print(f"{path}: we say {ours[0]}, timm {theirs[0]}, its margin {margin:.3g}")
    count = result["result"]["pictures"]
    print(f"{count} pictures, {different} best classes differ, {order} lists of five differ; "
          f"largest difference of a logit {worst:.3g}, smallest margin {smallest:.3g}")
    print(f"timm: top-1 {top1}, top-5 {top5}, loss {loss_sum / count:.7f}")
    print(f"ours: top-1 {result['result']['top1']}, top-5 {result['result']['top5']}, "
          f"loss {result['result']['loss']:.7f}")


if __name__ == "__main__":
    main()
