"""Train the object classifier on one GPU, for a given time.

    python3 train.py DATA_DIR OUT_DIR --minutes 15 [--init WEIGHTS.safetensors --rate 5e-4]
                     [--call-seconds 560] [--state FILE]

DATA_DIR holds the four .npz files of build_dataset.py. The learning rate follows a cosine over
--minutes of training time. --init starts from weights of the same network, which may know other
classes: rows of the head are taken over by name. With --state the whole training state is saved
when --call-seconds have passed, and the next call with the same --state goes on from there.
Without --state the schedule is shortened to end with the call. OUT_DIR/weights.safetensors gets the
averaged weights in half precision whenever a call ends, and every 1000 steps.
"""

import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

import compose
import model as network
import sources

BATCH, WHOLES = 512, 112           # pictures a step, and how many of them are whole photographs
FLOOR_RATE, WARM_UP = 1e-5, 200
WEIGHT_DECAY, SMOOTHING, DROP_PATH = 0.05, 0.1, 0.1
AVERAGE = 0.999                    # decay of the running average of the weights
CUTMIX, MIXUP = 0.25, 0.15         # share of the batches that are mixed


def mix(pictures, labels, classes):
    """Soft labels, and for some batches a rectangle or a blend from another picture."""
    target = F.one_hot(labels, classes).float()
    draw = torch.rand(()).item()
    if draw >= CUTMIX + MIXUP:
        return pictures, target
    order = torch.randperm(len(labels), device=labels.device)
    if draw < MIXUP:
        share = torch.distributions.Beta(0.3, 0.3).sample().item()
        pictures = share * pictures + (1 - share) * pictures[order]
    else:
        size = pictures.shape[-1]
        side = int(size * math.sqrt(torch.rand(()).item()) * 0.8) + 1
        x, y = (int(v) for v in torch.randint(0, size - side + 1, (2,)))
        pictures = pictures.clone()
        pictures[:, :, y:y + side, x:x + side] = pictures[order, :, y:y + side, x:x + side]
        share = 1 - side * side / (size * size)
    return pictures, share * target + (1 - share) * target[order]


@torch.no_grad()
def held_out_accuracy(net, composer, normalize):
    """Top-1 on a fixed draw of held-out cut-outs and on the held-out photographs."""
    net.eval()
    pack, right, seen = composer.pack, 0, 0
    with torch.random.fork_rng(devices=[0]):
        torch.manual_seed(1)
        for part in torch.arange(len(pack["cutouts"]), device=composer.device).split(256):
            with torch.autocast("cuda", torch.bfloat16):
                out = net(normalize(composer.held_out(part)))
            right += (out.argmax(1) == pack["cutout_label"][part]).sum().item()
            seen += len(part)
    wholes = F.interpolate(pack["wholes"].float() / 255, size=(224, 224), mode="bilinear",
                           antialias=True)
    with torch.autocast("cuda", torch.bfloat16):
        photos = (net(normalize(wholes)).argmax(1) == pack["whole_label"]).float().mean().item()
    net.train()
    return right / seen, photos


def parameter_groups(net):
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY},
            {"params": plain, "weight_decay": 0.0}]


def load_initial(net, path, names):
    """Copy weights into `net`; classes that the file does not know keep their random rows."""
    with safe_open(path, "pt") as f:
        known = f.metadata()["vertebra.labels"].split("\n")
        given = {name: f.get_tensor(name).float() for name in f.keys()}
    values = net.state_dict()
    rows = [(names.index(name), i) for i, name in enumerate(known) if name in names]
    mine, theirs = (list(r) for r in zip(*rows))
    for name, value in given.items():
        if name.startswith("head.fc."):
            values[name][mine] = value[theirs].to(values[name].device)
        else:
            values[name].copy_(value)
    print("started from %s, %d of %d classes known" % (path, len(rows), len(names)), flush=True)


def save_weights(net, path):
    save_file({name: value.detach().half().contiguous().cpu()
               for name, value in net.state_dict().items()}, path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--call-seconds", type=float, default=1e9)
    parser.add_argument("--state")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--init")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--steps", type=int, default=10 ** 9, help="stop early, for a dry run")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    call_start = time.time()
    os.makedirs(args.out, exist_ok=True)
    device = torch.device(args.device)
    names, _ = sources.load_classes()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True

    def load(name):
        return compose.load_pack(os.path.join(args.data, name + ".npz"))

    composer = compose.Composer(load("train"), load("train_backgrounds"), device)
    tester = compose.Composer(load("test"), load("test_backgrounds"), device)
    print("loaded %d cut-outs, %d photographs, %d backgrounds in %.0f s" % (
        len(composer.pack["cutouts"]), len(composer.pack["wholes"]), len(composer.backgrounds),
        time.time() - call_start), flush=True)
    mean = torch.tensor(network.MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(network.STD, device=device).view(1, 3, 1, 1)

    def normalize(pictures):
        return (pictures - mean) / std

    net = network.build(len(names), drop_path_rate=DROP_PATH).to(device)
    if args.init:
        load_initial(net, args.init, names)
    average = network.build(len(names)).to(device).eval()
    average.load_state_dict(net.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(net), lr=args.rate, betas=(0.9, 0.99),
                                  fused=device.type == "cuda")
    step, elapsed = 0, 0.0
    if args.state and os.path.exists(args.state):
        state = torch.load(args.state, map_location=device)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed = state["step"], state["elapsed"]
        torch.manual_seed(1000 + step)
        print("resumed at step %d, %.0f s" % (step, elapsed), flush=True)

    wholes = WHOLES * args.batch // BATCH
    forward, make_batch = net, composer.batch
    if not args.no_compile:
        forward = torch.compile(net)
        make_batch = torch.compile(composer.batch)
    net_values = [v for v in net.state_dict().values() if v.is_floating_point()]
    average_values = [v for v in average.state_dict().values() if v.is_floating_point()]

    # compile before the clock of the schedule starts
    make_batch(*composer.draw(args.batch - wholes, wholes))
    weights_path = os.path.join(args.out, "weights.safetensors")
    total, log = args.minutes * 60, []
    last = tick = time.time()
    first_step = step
    while True:
        now = time.time()
        if step > first_step + 5:                    # the first steps are compilation
            elapsed += now - last
        elif not args.state:                         # nothing goes on later: end with the call
            total = min(args.minutes * 60, args.call_seconds - (now - call_start))
        last = now
        done = min(1.0, elapsed / total)
        if done >= 1 or now - call_start > args.call_seconds or step - first_step >= args.steps:
            break
        rate = FLOOR_RATE + (args.rate - FLOOR_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        rate *= min(1.0, (step + 1) / WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            pictures, labels = make_batch(*composer.draw(args.batch - wholes, wholes))
            pictures, target = mix(pictures, labels, len(names))
            pictures = normalize(pictures)
        with torch.autocast(device.type, torch.bfloat16):
            out = forward(pictures)
        loss = F.cross_entropy(out.float(), target, label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(AVERAGE, (1 + step) / (10 + step))
            torch._foreach_lerp_(average_values, net_values, 1 - decay)
        if step % 200 == 0 or step == 20:
            value = loss.item()
            speed = (20 if step == 20 else 200) * args.batch / (time.time() - tick)
            line = "step %d  %.0f s  rate %.2e  loss %.3f  %.0f pictures/s" % (
                step, elapsed, rate, value, speed)
            if step % 1000 == 0:
                save_weights(average, weights_path)
                line += "  held-out cut-outs %.3f photos %.3f" % held_out_accuracy(
                    average, tester, normalize)
            print(line, flush=True)
            log.append(line)
            tick = time.time()

    save_weights(average, weights_path)
    if device.type == "cuda":
        log.append("held-out cut-outs %.4f photos %.4f" % held_out_accuracy(average, tester,
                                                                           normalize))
        print(log[-1], flush=True)
    with open(os.path.join(args.out, "training.json"), "w") as f:
        json.dump({"steps": step, "pictures": step * args.batch, "seconds": elapsed,
                   "rate": args.rate, "init": bool(args.init), "torch": torch.__version__,
                   "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
                   "log": log}, f, indent=1)
    if args.state:
        torch.save({"net": net.state_dict(), "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(), "step": step, "elapsed": elapsed},
                   args.state)
    print("step %d, %.0f s of training, call took %.0f s" % (step, elapsed,
                                                          time.time() - call_start))


if __name__ == "__main__":
    main()
