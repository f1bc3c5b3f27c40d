#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains six small networks, one of each kind of attention, on Fashion-MNIST.

    python3 fashion.py [NAME ...] --data FOLDER --out FOLDER [--seconds 75] [--jobs 1]
    python3 fashion.py --check      the training networks against the references of tools/fixtures

Of the 60,000 training pictures the last 5,000 choose among the states of a training; the 10,000
test pictures are read once, after the weights have been written, by those weights as the file holds
them. OUT gets for each network
    NAME.safetensors    half precision, with the model's and the classes' names
    NAME.tsv            a line per test picture: its label, the answer, the answer's logit and
                        its lead over the second
    NAME.json           how it was trained, and what came out
The learning rate follows a cosine that ends after --epochs or --seconds, whichever is first.
--train, --test: fewer pictures, for trials. Several networks run --jobs at a time.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import fashion_data as data
import fashion_models as models

PEAK_RATE, FLOOR_RATE, WARM_UP = 2e-3, 1e-5, 0.05  # the last: share of the training
WEIGHT_DECAY, SMOOTHING, CLIP = 0.05, 0.1, 1.0
AVERAGE = 0.999     # decay of the running average of the weights
SHIFT, HOLE = 6, 24  # pixels of 64: largest shift, largest side of what is cut out
CHOICES = 25        # how often a state is compared on the held-out pictures
LICENSE = "Apache-2.0; trained on Fashion-MNIST (MIT, Zalando SE)"


def normalise(pictures):
    """[n,64,64] bytes -> [n,3,64,64] floats, three equal channels."""
    x = (pictures.float() / 255 - data.MEAN) / data.STD
    return x[:, None].expand(-1, 3, -1, -1)


def batch_of(pictures, chosen):
    """Chosen pictures moved, half of them mirrored, half of them with a hole."""
    n, device = len(chosen), pictures.device
    line = torch.arange(data.SIDE, device=device)

    def draw(low, high):
        return torch.randint(low, high, (n, 1), device=device)

    y, x = line + draw(-SHIFT, SHIFT + 1), line + draw(-SHIFT, SHIFT + 1)
    x = torch.where(draw(0, 2) > 0, data.SIDE - 1 - x, x)
    seen_y, seen_x = (y >= 0) & (y < data.SIDE), (x >= 0) & (x < data.SIDE)
    out = pictures[chosen[:, None, None], y.clamp(0, data.SIDE - 1)[:, :, None],
                   x.clamp(0, data.SIDE - 1)[:, None, :]]
    out = normalise(out * (seen_y[:, :, None] & seen_x[:, None, :]))
    side = draw(8, HOLE + 1) * draw(0, 2)
    top, left = draw(0, data.SIDE), draw(0, data.SIDE)
    hole_y, hole_x = (line - top).abs() * 2 < side, (line - left).abs() * 2 < side
    return out.masked_fill((hole_y[:, :, None] & hole_x[:, None, :])[:, None], 0.0)


@torch.inference_mode()
def logits_of(net, pictures, half):
    """In batches; `half`: in bf16 where the device is a GPU."""
    net.eval()
    parts = []
    for part in pictures.split(1000):
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=half):
            parts.append(net(normalise(part)).float())
    return torch.cat(parts)


def accuracy(net, pictures, labels, half=False):
    return (logits_of(net, pictures, half).argmax(1) == labels).float().mean().item()


def floats(net):
    return [v for v in net.state_dict().values() if v.is_floating_point()]


def optimizer_of(net):
    groups = [{"params": [p for p in net.parameters() if p.ndim > 1]},
              {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY,
                             fused=next(net.parameters()).is_cuda)


def step_of(net, optimizer, x, labels):
    """One step; returns the loss."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
        out = net(x)
    loss = F.cross_entropy(out.float(), labels, label_smoothing=SMOOTHING)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
    optimizer.step()
    return loss


def quicker_layout(name, args, device, pictures, labels):
    """Convolutions differ most in what layout suits them: both are tried for a few steps."""
    if device.type != "cuda":
        return torch.contiguous_format
    times = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        net = models.build(name).to(device, memory_format=layout).train()
        optimizer = optimizer_of(net)
        chosen = torch.arange(min(args.batch, len(pictures)), device=device)
        x = batch_of(pictures, chosen).contiguous(memory_format=layout)
        for i in range(8):
            if i == 3:
                torch.cuda.synchronize()
                began = time.time()
            step_of(net, optimizer, x, labels[chosen])
        torch.cuda.synchronize()
        times[layout] = (time.time() - began) / 5
    print(f"{name}: a step in " + ", ".join(f"{1000 * t:.1f} ms ({layout})"
                                            for layout, t in times.items()), flush=True)
    return min(times, key=times.get)


def rate_at(done):
    if done < WARM_UP:
        return PEAK_RATE * (done + 1e-3) / WARM_UP
    return FLOOR_RATE + (PEAK_RATE - FLOOR_RATE) * 0.5 * (1 + math.cos(
        math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def train(name, args, device, pictures, labels):
    """The averaged weights that were best on the held-out pictures, and what to tell about them."""
    held = min(data.HELD_OUT, len(pictures) // 12)
    held_pictures, held_labels = pictures[-held:], labels[-held:]
    pictures, labels = pictures[:-held], labels[:-held]
    layout = quicker_layout(name, args, device, pictures, labels)
    torch.manual_seed(args.seed)
    net = models.build(name).to(device, memory_format=layout)
    average = models.build(name).to(device, memory_format=layout).eval()
    average.load_state_dict(net.state_dict())
    optimizer, half = optimizer_of(net), device.type == "cuda"
    forward = torch.compile(net) if args.compile else net
    batch = min(args.batch, len(pictures))
    per_epoch = len(pictures) // batch
    steps, step, best, state, chosen_at = per_epoch * args.epochs, 0, -1.0, None, 0
    net_values, average_values = floats(net), floats(average)
    began = tick = time.time()
    done = 0.0
    while done < 1:
        if step % per_epoch == 0:
            order = torch.randperm(len(pictures), device=device)
        chosen = order[step % per_epoch * batch:][:batch]
        for group in optimizer.param_groups:
            group["lr"] = rate_at(done)
        net.train()
        x = batch_of(pictures, chosen).contiguous(memory_format=layout)
        loss = step_of(forward, optimizer, x, labels[chosen])
        step += 1
        with torch.no_grad():
            decay = min(AVERAGE, (1 + step) / (10 + step))
            torch._foreach_lerp_(average_values, net_values, 1 - decay)
        before, done = done, max(step / steps, (time.time() - began) / args.seconds)
        if int(done * CHOICES) > int(before * CHOICES):
            right = accuracy(average, held_pictures, held_labels, half)
            if right >= best:
                best, chosen_at = right, step
                state = {k: v.detach().clone() for k, v in average.state_dict().items()}
            print(f"{name}: step {step}, epoch {step / per_epoch:.1f}, {time.time() - began:.0f} s, "
                  f"loss {loss.item():.3f}, held-out {right:.4f}, "
                  f"{batch * step / (time.time() - tick):.0f} pictures/s", flush=True)
    average.load_state_dict(state)
    held_out = accuracy(average, held_pictures, held_labels)
    return average, {"steps": step, "batch": batch, "epochs": round(step / per_epoch, 2),
                     "chosen_step": chosen_at, "seconds": round(time.time() - began, 1),
                     "train_pictures": len(pictures), "held_out_pictures": held,
                     "held_out_f32": round(held_out, 5)}


def save(net, name, path):
    tensors = {k: v.detach().half().contiguous().cpu() for k, v in net.state_dict().items()
               if v.is_floating_point()}
    assert all(bool(t.isfinite().all()) for t in tensors.values())
    save_file(tensors, path, {"format": "pt", "vertebra.model": name,
                              "vertebra.labels": "\n".join(data.CLASSES),
                              "vertebra.license": LICENSE})


def restore(name, path, device):
    """The network with the weights as the file holds them, for f32 arithmetic."""
    net = models.build(name)
    missing, extra = net.load_state_dict({k: v.float() for k, v in load_file(path).items()}, False)
    assert not extra and all(k.endswith("num_batches_tracked") for k in missing), (missing, extra)
    return net.to(device).eval()


def predict(name, args, device):
    """Reads the test pictures; their answers in f32 go into NAME.tsv. Returns the accuracy."""
    pictures, labels = data.load(data.folder_of(args.data), "t10k", args.test)
    net = restore(name, os.path.join(args.out, name + ".safetensors"), device)
    logits = logits_of(net, torch.from_numpy(pictures).to(device), False).cpu()
    best = logits.topk(2)
    with open(os.path.join(args.out, name + ".tsv"), "w") as file:
        file.write("label\tanswer\tlogit\tlead\n")
        for label, (first, second), (answer, _) in zip(labels, best.values.tolist(),
                                                       best.indices.tolist()):
            file.write(f"{label}\t{answer}\t{first:.6f}\t{first - second:.6f}\n")
    right = int((best.indices[:, 0] == torch.from_numpy(labels)).sum())
    return right, len(labels)


def one(name, args):
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = False  # bf16 trains; what is written and told is f32
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    began = time.time()
    pictures, labels = data.load(data.folder_of(args.data), "train", args.train)
    pictures = torch.from_numpy(pictures).to(device)
    labels = torch.from_numpy(labels).to(device)
    print(f"{name}: {len(pictures)} pictures read in {time.time() - began:.0f} s", flush=True)
    net, told = train(name, args, device, pictures, labels)
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, name + ".safetensors")
    save(net, name, path)
    held = told["held_out_pictures"]
    told["held_out_f16_weights"] = round(accuracy(restore(name, path, device), pictures[-held:],
                                                  labels[-held:]), 5)
    told["test_right"], told["test_pictures"] = predict(name, args, device)
    told |= {"parameters": sum(p.numel() for p in net.parameters()), "seed": args.seed,
             "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
             "torch": torch.__version__}
    with open(os.path.join(args.out, name + ".json"), "w") as file:
        json.dump(told, file, indent=1)
        file.write("\n")
    print(f"{name}: {told['test_right']} of {told['test_pictures']} test pictures right "
          f"({100 * told['test_right'] / told['test_pictures']:.2f} %), {told['epochs']} epochs in "
          f"{told['seconds']} s, held-out {told['held_out_f32']} in f32, "
          f"{told['held_out_f16_weights']} with f16 weights", flush=True)


def several(names, argv, jobs):
    """Each network in a process of its own. Returns how many failed."""
    options = [a for a in argv if a not in models.NAMES]
    waiting, running, failed = list(names), [], 0
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), waiting.pop(0), *options]))
        time.sleep(0.2)
        failed += sum(p.poll() not in (None, 0) for p in running)
        running = [p for p in running if p.poll() is None]
    return failed


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(models.NAMES))
    parser.add_argument("--data", help=f"folder of the IDX files (default {data.FOLDERS[0]})")
    parser.add_argument("--out", default="fashion")
    parser.add_argument("--seconds", type=float, default=75, help="of training, for each network")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--train", type=int, help="only so many training pictures")
    parser.add_argument("--test", type=int, help="only so many test pictures")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    if wrong := [n for n in args.names if n not in models.NAMES]:
        parser.error(f"no network {wrong[0]}: there are {', '.join(models.NAMES)}")
    if args.check:
        models.check()
        return 0
    names = args.names or list(models.NAMES)
    if len(names) == 1:
        one(names[0], args)
        return 0
    return 1 if several(names, argv, args.jobs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
