#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Latency of one model on the CPU: rivals and, with --ours, our own program, in one run.

Each rival lives in a process of its own, so its thread pool and allocator are not shared, and is
asked for a few runs at a time in turn (A B C A B C ...): noise of the machine hits all alike.
Weights and picture are hashes of their names (tools/fixtures/golden.py); a rival's logits must
agree with eager PyTorch in float32.
"""
import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools" / "fixtures"))

REFERENCE = "torch eager f32"
# Largest difference to the reference over max|logit|; what is above it computes something else.
LIMIT = {"f32": 1e-4, "bf16": 1e-1}


# --- rivals: build(options) -> function(picture) -> logits ----------------------------------------

def network(options, sdpa=False, dtype="f32"):
    import torch
    import networks
    if sdpa:
        from timm.layers import set_fused_attn
        set_fused_attn(True, experimental=True)
    torch.set_num_threads(options.threads)
    net = networks.build(options.model)
    networks.fill(net)
    net = net.to(torch.bfloat16) if dtype == "bf16" else net
    networks.prepare(net, torch.zeros(options.shape, dtype=next(net.parameters()).dtype))
    return net


def torch_rival(options, dtype="f32", mode=None, sdpa=False):
    import torch
    net = network(options, sdpa, dtype)
    if mode:
        import torch._inductor.config as inductor
        inductor.freezing = True  # packs the weights for the chosen GEMM once
        net = torch.compile(net, mode=mode, dynamic=False)

    def run(picture):
        with torch.inference_mode() if not mode else torch.no_grad():
            x = torch.from_numpy(picture)
            return net(x.to(torch.bfloat16) if dtype == "bf16" else x).float().numpy()
    return run


def export(options, path):
    import numpy as np
    import torch
    net = network(options)
    x = torch.from_numpy(np.zeros(options.shape, np.float32))
    pad = torch.nn.functional.pad
    # Padding by nothing would stay in the graph as a copy; no rival shall pay for that.
    torch.nn.functional.pad = lambda t, p, *rest, **kw: pad(t, p, *rest, **kw) if any(p) else t
    torch.onnx.export(net, (x,), path, opset_version=20, dynamo=True, optimize=True,
                      external_data=False, verbose=False)


def onnxruntime_rival(options):
    import onnxruntime as ort
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = ort.InferenceSession(options.onnx, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda picture: session.run(None, {name: picture})[0]


def openvino_rival(options, dtype):
    import openvino as ov
    import openvino.properties as props
    import openvino.properties.hint as hint
    core = ov.Core()
    compiled = core.compile_model(core.read_model(options.onnx), "CPU", {
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: ov.Type.bf16 if dtype == "bf16" else ov.Type.f32,
        hint.execution_mode: hint.ExecutionMode.PERFORMANCE,
        props.inference_num_threads: options.threads,
        props.num_streams: 1,
    })
    request = compiled.create_infer_request()
    return lambda picture: request.infer([picture], share_inputs=True, share_outputs=True)[0]


RIVALS = {
    REFERENCE: lambda o: torch_rival(o),
    "torch compile f32": lambda o: torch_rival(o, mode="default"),
    "torch compile-max f32": lambda o: torch_rival(o, mode="max-autotune-no-cudagraphs"),
    "onnxruntime f32": onnxruntime_rival,
    "openvino f32": lambda o: openvino_rival(o, "f32"),
    "torch compile bf16": lambda o: torch_rival(o, "bf16", mode="default"),
    "torch compile-max bf16": lambda o: torch_rival(o, "bf16", mode="max-autotune-no-cudagraphs"),
    "openvino bf16": lambda o: openvino_rival(o, "bf16"),
}
# The other way to write attention in timm's networks; the faster of the two is the rival.
for dtype_name in ("f32", "bf16"):
    RIVALS[f"torch compile+sdpa {dtype_name}"] = (
        lambda o, dtype=dtype_name: torch_rival(o, dtype, mode="default", sdpa=True))


# --- a rival's process ----------------------------------------------------------------------------

def worker(options):
    """Speaks lines of JSON: first {logits}, then a list of milliseconds for every number read."""
    import numpy as np
    import golden
    talk = os.fdopen(os.dup(1), "w")  # libraries print to 1; they may have standard error
    os.dup2(2, 1)
    if options.worker == "export":
        export(options, options.onnx)
        return
    picture = np.ascontiguousarray(golden.picture(*(options.shape[i] for i in (0, 2, 3))))
    run = RIVALS[options.worker](options)
    logits = np.array(run(picture))
    start = time.perf_counter()
    done = 0
    while done < 10 or time.perf_counter() - start < 2.0:
        run(picture)
        done += 1
    print(json.dumps({"logits": logits.ravel().tolist()}), file=talk, flush=True)
    for line in sys.stdin:
        run(picture)  # wakes the caches and the thread pool up again after the others' turn
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run(picture)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), file=talk, flush=True)


def environment(options):
    """Same threads for all; nothing that makes a library choose an older code path."""
    env = {key: value for key, value in os.environ.items()
           if not key.startswith(("OPENBLAS_", "MKL_", "ONEDNN_", "DNNL_", "KMP_", "GOMP_", "OMP_"))
           and key != "ATEN_CPU_CAPABILITY"}
    env["OMP_NUM_THREADS"] = str(options.threads)
    cache = Path(env.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vertebra" / "inductor"
    env.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))  # compiling takes minutes, once
    return env


def start_worker(options, name):
    command = [sys.executable, "-W", "ignore", __file__, "--worker", name, "--onnx", options.onnx,
               "--model", options.model, "--threads", str(options.threads),
               "--batch", str(options.batch), "--size", *map(str, options.size)]
    log = open(Path(options.onnx).parent / f"{name}.log", "w+", encoding="utf-8")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                               text=True, env=environment(options))
    process.log = log
    return process


def last_words(process):
    process.log.seek(0)
    lines = [line for line in process.log.read().splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"


# --- our program ----------------------------------------------------------------------------------

def ours(options, command):
    """One call of our program; its own JSON says how long it took. None if it can't be read."""
    command = command.format(model=options.model, threads=options.threads, batch=options.batch)
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False,
                          env=environment(options))
    try:
        report = json.loads(done.stdout[done.stdout.index("{"):])
        latency = report["latency_ms"]
        return {key: float(latency[key]) for key in ("min", "median", "p99") if key in latency}
    except (ValueError, KeyError, TypeError):
        print(f"no latency_ms from: {command}\n{done.stderr.strip()[-300:]}", file=sys.stderr)
        return None


# --- the run --------------------------------------------------------------------------------------

def summary(times):
    times = sorted(times)
    return {"min": times[0], "median": statistics.median(times),
            "p99": times[min(len(times) - 1, int(0.99 * len(times)))], "runs": len(times)}


def our_summary(calls):
    """Best, middle and worst over our program's own calls."""
    pick = {"min": min, "median": statistics.median, "p99": max}
    return {key: how([c[key] for c in calls if key in c]) for key, how in pick.items()
            if any(key in c for c in calls)}


def difference(logits, reference):
    return (max(abs(a - b) for a, b in zip(logits, reference))
            / max(abs(v) for v in reference))


def measure(options):
    names = [name for name in RIVALS if (name == REFERENCE or not options.peers
                                         or any(part in name for part in options.peers))
             and (options.max or "compile-max" not in name)]
    rows, workers, logits = {}, {}, {}
    exporter = start_worker(options, "export")
    exporter.communicate()
    if exporter.returncode:
        print("ONNX export failed:", last_words(exporter), file=sys.stderr)
    for name in names:  # one after the other: building must not disturb another's warm-up
        began = time.perf_counter()
        process = start_worker(options, name)
        line = process.stdout.readline()
        if line:
            workers[name], logits[name] = process, json.loads(line)["logits"]
            print(f"ready: {name} ({time.perf_counter() - began:.0f} s)", file=sys.stderr,
                  flush=True)
        else:
            process.wait()
            rows[name] = {"error": last_words(process)}
            print(f"failed: {name}: {rows[name]['error']}", file=sys.stderr, flush=True)
    times = {name: [] for name in workers}
    calls = {label: [] for label, _ in options.ours}
    our_rounds = {round(i * options.rounds / options.our_calls) for i in range(options.our_calls)}
    for turn in range(options.rounds):
        for name, process in workers.items():
            process.stdin.write(f"{options.runs}\n")
            process.stdin.flush()
            times[name] += json.loads(process.stdout.readline())
        for label, command in options.ours if turn in our_rounds else []:
            calls[label].append(ours(options, command))
    for name, process in workers.items():
        process.stdin.close()
        process.wait()
        rows[name] = summary(times[name])
        rows[name]["difference"] = difference(logits[name], logits[REFERENCE])
        rows[name]["agrees"] = rows[name]["difference"] <= LIMIT[name.split()[-1]]
    for label, found in calls.items():
        found = [call for call in found if call]
        rows[f"vertebra {label}"] = our_summary(found) if found else {"error": "no latency_ms"}
    return rows


def machine():
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next((line.split(":", 1)[1].strip() for line in text.splitlines()
                      if line.startswith("model name")), model)
    return {"cpu": model, "cores": os.cpu_count(), "load": list(os.getloadavg())}


def versions():
    from importlib.metadata import version
    return {name: version(name) for name in ("torch", "timm", "onnxruntime", "openvino")}


def print_table(options, rows):
    print(f"{options.model}, {options.size[0]}x{options.size[1]}, batch {options.batch}, "
          f"{options.threads} threads, ms")
    print(f"{'':28}{'min':>9}{'median':>9}{'p99':>9}{'images/s':>10}  logits")
    for name, row in sorted(rows.items(), key=lambda item: item[1].get("median", 1e30)):
        if "error" in row:
            print(f"{name:28}  {row['error']}")
            continue
        cells = "".join(f"{row[key]:9.2f}" if key in row else f"{'-':>9}"
                        for key in ("min", "median", "p99"))
        rate = f"{1e3 * options.batch / row['median']:10.1f}" if "median" in row else f"{'-':>10}"
        note = f"{row['difference']:.1e}" if "difference" in row else ""
        print(f"{name:28}{cells}{rate}  {note}{'' if row.get('agrees', True) else '  DIFFERENT'}")


def label_and_command(text):
    label, equals, command = text.partition("=")
    if not equals or " " in label:
        label, command = "ours", text
    return label, command


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="swin_tiny_patch4_window7_224", help="one of our names")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of a rival in a round")
    parser.add_argument("--peers", nargs="*", help="only rivals whose name contains one of these")
    parser.add_argument("--max", action="store_true",
                        help="also PyTorch's max-autotune, which takes many minutes to build")
    parser.add_argument("--ours", action="append", default=[], type=label_and_command,
                        metavar="LABEL=COMMAND", help="prints JSON with latency_ms on stdout; "
                        "{model}, {threads} and {batch} are filled in")
    parser.add_argument("--our-calls", type=int, default=4, help="calls of each --ours command")
    parser.add_argument("--json", metavar="OUT")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--onnx", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.shape = (options.batch, 3, *options.size)
    return options


def main(argv):
    options = parse(argv)
    if options.worker:
        worker(options)
        return 0
    with tempfile.TemporaryDirectory(prefix="vertebra-peers-") as folder:
        options.onnx = str(Path(folder) / "model.onnx")
        before = machine()
        rows = measure(options)
    print_table(options, rows)
    if options.json:
        report = {"model": options.model, "size": list(options.size), "batch": options.batch,
                  "threads": options.threads, "machine": before, "load_after": machine()["load"],
                  "versions": versions(), "latency_ms": rows}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
