# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the GPU, f16 in channels_last, hashed weights, inputs on the device (networks.py).

  python3 bench/peers/torch_gpu.py MODEL ... --batches 1 64 256
  python3 bench/peers/torch_gpu.py MODEL ... --warm-cache    compiles only, all at the same time

Modes: eager; compiled (CUDA graphs); second, compiled in a network's second form where it has one
(flex_attention, torchvision's deformable convolution); where NATTEN is installed natten, compiled,
and natten_graph, the uncompiled network as one CUDA graph: not in the table, as 0.21 has no position
bias and so computes something else (DIFFERENT).
Prints one line per model, mode and batch: median milliseconds by CUDA events, pictures per second.
With --ours FOLDER (MODEL.json: what apps/bench --json printed; bench/gpu.sh does both) ends with
one table of all. Compiled kernels are kept in $TORCHINDUCTOR_CACHE_DIR.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vertebra" / "inductor_gpu"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE))

import torch

import networks

LIMIT = 5e-2  # of max|logit|, f16 against eager f16: above it a mode computes something else
MODES = ("eager", "compiled", "second", "natten", "natten_graph")
COMPILED = ("compiled", "second", "natten")
RIVALS = ("compiled", "second")


def median_ms(model, x, rounds):
    for _ in range(5):
        model(x)
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        model(x)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def form_of(mode):
    return mode.removesuffix("_graph")


def applies(mode, name):
    form = form_of(mode)
    return form not in networks.FORMS or networks.has_form(name, form)


def network(args, name, mode):
    model = networks.build(name, form_of(mode))
    networks.fill(model)
    return model.to(args.device, torch.half, memory_format=torch.channels_last)


def captured(model, x):
    """The uncompiled model as one CUDA graph, its input copied as compiled models do."""
    place = x.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = model(place)

    def run(x):
        place.copy_(x)
        graph.replay()
        return y

    return run


def fast_form(model, mode, x):
    if mode == "eager":
        return model
    if mode.endswith("_graph"):
        return captured(model, x)
    torch._dynamo.reset()
    return torch.compile(model, mode="reduce-overhead", dynamic=False)


def picture(args, name, model, batch):
    size = args.size or networks.size(name, model)
    torch.manual_seed(1)
    x = torch.randn(batch, 3, size, size, device=args.device, dtype=torch.half)
    return x.to(memory_format=torch.channels_last)


@torch.inference_mode()
def eager_logits(args, name):
    """By batch: what the modes' logits are compared with."""
    model = network(args, name, "eager")
    return {batch: model(picture(args, name, model, batch)).float() for batch in args.batches}


@torch.inference_mode()
def measure_mode(args, name, mode, want):
    """{batch: ms}, printed as it goes."""
    times = {}
    model = network(args, name, mode)
    for batch in args.batches:
        x = picture(args, name, model, batch)
        networks.prepare(model, x if form_of(mode) == "natten" else x[:1])
        start = time.perf_counter()
        fast = fast_form(model, mode, x)
        logits = fast(x).float()
        seconds = time.perf_counter() - start
        if args.compile_only:
            continue
        error = float((logits - want[batch]).abs().max() / want[batch].abs().max())
        times[batch] = ms = median_ms(fast, x, 30 if batch > 1 else 100)
        print(f"{name} {mode} batch {batch}: {ms:.3f} ms, {1e3 * batch / ms:.0f} img/s, "
              f"ready after {seconds:.0f} s, difference {error:.0e}"
              f"{'' if error <= LIMIT else '  DIFFERENT'}", flush=True)
    return times


def measure(args, name):
    """{mode: {batch: ms}} and how many modes failed."""
    times, want, failed = {}, {}, 0
    for mode in (m for m in args.modes if applies(m, name)):
        try:
            if not want and not args.compile_only:
                want = eager_logits(args, name)
            times[mode] = measure_mode(args, name, mode, want)
        except Exception as error:  # one mode's trouble must not cost the others' numbers
            if args.compile_only:
                raise
            failed += 1
            print(f"{name} {mode}: {type(error).__name__}: {error}", flush=True)
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    return times, failed


def warm_cache(args):
    """A process per compiled mode and batch: compiling is one core's work for a minute or more."""
    env = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "2", "OMP_NUM_THREADS": "1"}
    jobs = {}
    for name in args.models:
        for mode in (m for m in COMPILED if m in args.modes and applies(m, name)):
            for batch in args.batches:
                command = [sys.executable, "-W", "ignore", __file__, name, "--modes", mode,
                           "--batches", str(batch), "--device", args.device, "--compile-only"]
                command += ["--size", str(args.size)] if args.size else []
                jobs[name, mode, batch] = subprocess.Popen(
                    command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    failed = 0
    for (name, mode, batch), job in jobs.items():
        words = job.communicate()[1].strip().splitlines()
        if job.returncode:
            failed += 1
            print(f"{name} {mode} batch {batch}: {words[-1] if words else 'failed'}", flush=True)
    # What is fastest was found out while the others were running: that is to be seen again.
    for choice in Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.best_config"):
        choice.unlink()
    return failed


def cell(ms, batch):
    return f"{ms:.3f} | {1e3 * batch / ms:.0f}" if ms else "- | -"


def print_table(args, all_times):
    print("| f16 | batch | ours ms | img/s | compiled ms | img/s | eager ms | img/s | "
          "compiled over ours | floor ms | ours at |")
    print("|---" * 11 + "|")
    for name in args.models:
        path = Path(args.ours) / f"{name}.json"
        ours = json.loads(path.read_text(encoding="utf-8") or "{}") if path.exists() else {}
        mine = {b["batch"]: b for b in ours.get("batches", [])}
        times = all_times.get(name, {})
        for batch in args.batches:
            ms = mine[batch]["latency_ms"]["median"] if batch in mine else None
            best = min((times[mode][batch] for mode in RIVALS if batch in times.get(mode, {})),
                       default=None)
            ratio = f"{best / ms:.2f}" if ms and best else "-"
            floor = mine[batch]["floor_ms"] if ms else None
            share = f"{floor:.3f} | {100 * floor / ms:.0f} %" if floor else "- | -"
            print(f"| {name} | {batch} | {cell(ms, batch)} | {cell(best, batch)} | "
                  f"{cell(times.get('eager', {}).get(batch), batch)} | {ratio} | {share} |")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--size", type=int)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--warm-cache", action="store_true")
    parser.add_argument("--ours", metavar="FOLDER")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile-only", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse()
    if args.warm_cache:
        return warm_cache(args)
    all_times, failed = {}, 0
    for name in args.models:
        all_times[name], problems = measure(args, name)
        failed += problems
    if args.ours:
        print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}")
        print_table(args, all_times)
    return failed


if __name__ == "__main__":
    sys.exit(main())
