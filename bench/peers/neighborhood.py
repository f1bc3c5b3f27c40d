#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Neighborhood attention alone, 7x7, f16, 32 per head, of the maps that NAT-T and DiNAT-T have at
224x224: compiled flex_attention, with the position bias and its tokens already in order, and NATTEN
where it is installed, with the bias if it has one; each in the best of its settings.

  neighborhood.py [--batches 64 1] [--only ROW] [--peers flex natten] [--compile-only]

Ours: build/cuda_kernels --boxes. q, k and v are contiguous and rotate beyond the L2 at large
batches; median of CUDA graphs. Errors are relative to the formula in f32.
"""
import argparse
import itertools
import math

import torch

import networks  # before anything of tools/fixtures, whose folder it names
import dinat

WINDOW, WIDTH = 7, 32
ROWS = ((56, 2, 1), (28, 4, 1), (14, 8, 1), (7, 16, 1), (56, 2, 8), (28, 4, 4), (14, 8, 2))
COLUMNS = {"flex": ["flex us", "blocks", "error"],
           "natten": ["NATTEN us", "best us", "setting", "error"]}
PEERS = ["flex", "natten"] if networks.natten else ["flex"]
WHOLE = {"FORCE_USE_FLEX_ATTENTION": True}  # not the kernel for few queries, which 7x7 would get
BLOCKS = ((128, {}), (128, {"BLOCK_M": 128, "BLOCK_N": 64}), (64, WHOLE),
          (64, WHOLE | {"BLOCK_N": 32}))


def error(got, want):
    return float((got.float() - want).norm() / want.norm())


def graph_us(run, inputs):
    """Microseconds of a call of run(q, k, v), called with all the inputs in turn."""
    turns = range(max(1, 20 // len(inputs)))

    def all_inputs():
        for _, qkv in itertools.product(turns, inputs):
            run(*qkv)

    return 1e3 * networks.graph_ms(all_inputs) / len(turns) / len(inputs)


def flex_calls(side, dilation, rpb):
    """(what, compiled call on q, k, v [n,heads,tokens,d], order, its inverse) of each setting."""
    for block, options in BLOCKS:
        order, back, *tables = networks.flex_tables(side, side, WINDOW, dilation, "cuda", block)

        def call(q, k, v, tables=tables, options=options):
            return networks.flex_neighborhood(q, k, v, rpb, *tables, kernel_options=options)

        torch._dynamo.reset()
        yield f"{block} {list(options.values())}", torch.compile(call, dynamic=False), order, back


def flex_times(args, inputs, rpb, dilation, want):
    side = inputs[0][0].shape[1]
    best = (math.inf, "none", math.nan)
    for what, call, order, back in flex_calls(side, dilation, rpb):
        try:
            ordered = [[t.flatten(1, 2)[:, order].transpose(1, 2).contiguous() for t in qkv]
                       for qkv in inputs]
            y = call(*ordered[0])[:1].transpose(1, 2)[:, back].unflatten(1, (side, side))
            us = 0 if args.compile_only else graph_us(call, ordered)
            best = min(best, (us, what, error(y, want)))
        except Exception as problem:  # a setting that this GPU hasn't the shared memory for, say
            print(f"flex_attention {what}: {str(problem).splitlines()[0][:100]}", flush=True)
    return best


def natten_times(inputs, rpb, dilation, want):
    """The default's and the best setting's microseconds, the best one, its error."""
    q, k, v = inputs[0]
    settings = networks.fastest_natten(tuple(q.shape), WINDOW, dilation)

    def call(q, k, v, **chosen):
        return networks.natten_attention(q, k, v, rpb, WINDOW, dilation, **chosen)

    default = graph_us(call, inputs)
    best = graph_us(lambda q, k, v: call(q, k, v, **settings), inputs)
    tiles = settings.get("tiles", [settings.get(key, "") for key in ("q_tile_shape",
                                                                     "kv_tile_shape")])
    what = " ".join(str(part) for part in (settings.get("backend", "default"), *tiles))
    return default, best, what, error(call(*(t[:1] for t in (q, k, v)), **settings), want)


def row(args, side, heads, dilation, batch):
    torch.manual_seed(1)
    shape = batch, side, side, heads, WIDTH
    sets = 1 if batch == 1 else math.ceil(2e8 / (8 * math.prod(shape)))
    inputs = [list(torch.randn(3, *shape, device="cuda", dtype=torch.half)) for _ in range(sets)]
    rpb = torch.randn(heads, 13, 13, device="cuda", dtype=torch.half)
    q, k, v = (t[:1].float() for t in inputs[0])

    def want(bias):
        return dinat.attend(q * WIDTH ** -0.5, k, v, bias.float(), WINDOW, dilation)

    cells = [f"{side}x{side}x{heads * WIDTH}, every {dilation}", batch]
    if "flex" in args.peers:
        us, setting, off = flex_times(args, inputs, rpb, dilation, want(rpb))
        cells += [f"{us:.1f}", setting, f"{off:.0e}"]
    if "natten" in args.peers and not args.compile_only:
        bias = rpb if networks.natten_has_bias else torch.zeros_like(rpb)
        default, best, what, off = natten_times(inputs, rpb, dilation, want(bias))
        cells += [f"{default:.1f}", f"{best:.1f}", what, f"{off:.0e}"]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--only", type=int, nargs="+", default=range(len(ROWS)))
    parser.add_argument("--peers", nargs="+", choices=list(COLUMNS), default=PEERS)
    parser.add_argument("--compile-only", action="store_true")
    args = parser.parse_args()
    columns = ["map", "batch"] + sum((COLUMNS[peer] for peer in args.peers), [])
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for batch in args.batches:
        for i in args.only:
            row(args, *ROWS[i], batch)


if __name__ == "__main__":
    main()
