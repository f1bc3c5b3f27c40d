# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the GPU: eager and compiled (CUDA graphs), a timm model with random weights, f16 in
channels_last, inputs on the device.

  python3 bench/peers/torch_gpu.py swin_tiny_patch4_window7_224 --batches 1 64 256

Prints one line per mode and batch: median milliseconds by CUDA events, pictures per second. With
--ours FILE (what apps/bench --json printed; bench/gpu.sh does both) ends with one table of all.
"""
import argparse
import json
import statistics

import timm
import torch


def median_ms(model, x, rounds):
    with torch.inference_mode():
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


def measure(args):
    """{mode: {batch: ms}}, printed as it goes."""
    model = timm.create_model(args.model, pretrained=False).cuda().half().eval()
    model = model.to(memory_format=torch.channels_last)
    size = args.size or model.default_cfg["input_size"][-1]
    times = {}
    for mode in args.modes:
        for batch in args.batches:
            torch._dynamo.reset()
            fast = torch.compile(model, mode="reduce-overhead") if mode == "compiled" else model
            x = torch.randn(batch, 3, size, size, device="cuda", dtype=torch.half)
            x = x.to(memory_format=torch.channels_last)
            ms = median_ms(fast, x, 30 if batch > 1 else 100)
            times.setdefault(mode, {})[batch] = ms
            print(f"{args.model} {mode} batch {batch}: {ms:.3f} ms, {1e3 * batch / ms:.0f} img/s",
                  flush=True)
    return times


def print_table(ours, times, batches):
    mine = {b["batch"]: b["latency_ms"]["median"] for b in ours["batches"]}
    floor = {b["batch"]: b["floor_ms"] for b in ours["batches"]}
    rows = {"ours": mine, **times}
    print("| batch | " + " | ".join(f"{r} ms | {r} img/s" for r in rows) +
          " | floor ms | ours at |")
    print("|---" * (2 * len(rows) + 3) + "|")
    for b in batches:
        cells = [f"{t[b]:.3f} | {1e3 * b / t[b]:.0f}" if b in t else "- | -"
                 for t in rows.values()]
        share = f"{floor[b]:.3f} | {100 * floor[b] / mine[b]:.0f} %" if b in mine else "- | -"
        print(f"| {b} | " + " | ".join(cells) + f" | {share} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--size", type=int)
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"])
    parser.add_argument("--ours", metavar="FILE")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, timm {timm.__version__}, {torch.cuda.get_device_name()}")
    times = measure(args)
    if args.ours:
        with open(args.ours, encoding="utf-8") as file:
            ours = json.load(file)
        print(f"\n{ours['model']} at {ours['height']}x{ours['width']}, {ours['dtype']}, "
              f"{ours['device']}; torch {torch.__version__}, timm {timm.__version__}")
        print(f"peak {ours['peak_gflops'] / 1e3:.0f} TFLOP/s, copies {ours['copy_gbs']:.0f} GB/s")
        print_table(ours, times, args.batches)


if __name__ == "__main__":
    main()
