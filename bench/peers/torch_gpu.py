# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the GPU: eager and compiled (CUDA graphs), a timm model with random weights, f16.

  python3 bench/peers/torch_gpu.py swin_tiny_patch4_window7_224 --batches 1 64 256

Prints one line per mode and batch: median milliseconds by CUDA events, pictures per second.
"""
import argparse
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--size", type=int)
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"])
    args = parser.parse_args()
    model = timm.create_model(args.model, pretrained=False).cuda().half().eval()
    size = args.size or model.default_cfg["input_size"][-1]
    print(f"torch {torch.__version__}, timm {timm.__version__}, {torch.cuda.get_device_name()}")
    for mode in args.modes:
        for batch in args.batches:
            torch._dynamo.reset()
            fast = torch.compile(model, mode="reduce-overhead") if mode == "compiled" else model
            x = torch.randn(batch, 3, size, size, device="cuda", dtype=torch.half)
            ms = median_ms(fast, x, 30 if batch > 1 else 100)
            print(f"{args.model} {mode} batch {batch}: {ms:.3f} ms, {1e3 * batch / ms:.0f} img/s",
                  flush=True)


if __name__ == "__main__":
    main()
