#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds of NATTEN's sources what NAT and DiNAT need on an H100, in minutes instead of an hour: the
forward kernels of two dimensions in f16 with 32 channels per head, unchanged, and the package.

  build_natten.py FOLDER SITE [--jobs 8]     FOLDER: unpacked natten-0.21.7 or natten-0.17.5
  PYTHONPATH=SITE python3 bench/peers/torch_gpu.py nat_tiny --modes natten

Needs nvcc, ninja and the PyTorch that will run it. Version 0.17 calls its kernels with position
bias; every function that isn't built says so when it is called.
"""
import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

SIZES = ("32x128x32", "64x64x32", "64x128x32")  # queries x keys x channels of a block
STUB = '  m.def("{0}", [](pybind11::args) {{ throw std::runtime_error("{0}: not built"); }});\n'


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def module(source, built, head):
    """The text of a Python module with all functions of NATTEN's: `built` has bodies of some."""
    names = re.findall(r'm\.def\(\s*"(\w+)"', (source / "csrc/natten.cpp").read_text())
    lines = (f'  m.def("{n}", {built[n]});\n' if n in built else STUB.format(n) for n in names)
    return f"{head}PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{\n{''.join(lines)}}}\n"


# --- 0.21: its generators, with shorter lists -----------------------------------------------------

def generate(source, out, name, function, splits, *swaps):
    text = (source / "scripts" / name).read_text()
    for pattern, new in swaps:
        text, count = re.subn(pattern, new, text, flags=re.S)
        if not count:
            raise SystemExit(f"{name} isn't that of 0.21.7: no {pattern}")
    space = {"__name__": name}
    exec(compile(text, name, "exec"), space)
    space[function](str(out), num_splits=splits)


def sources_21(source, out):
    shapes = ", ".join(f"({size.replace('x', ', ')})" for size in SIZES)
    half = (r"SUPPORTED_DTYPES = \[.*?\]", "SUPPORTED_DTYPES = [Half]")
    width = (r"HEAD_DIMS = \[.*?\]", "HEAD_DIMS = [32]")
    mask = (r"CAUSAL_MASKS = \{.*?\n    \}", "CAUSAL_MASKS = {2: [(False, False)]}")
    plain = [(r"SUPPORTED_ARCHS = \[.*?\]", "SUPPORTED_ARCHS = [80]"),
             (r"CUDA_DTYPES = \[.*?\]", "CUDA_DTYPES = [NATTEN_Half]"),
             (r"GEMM_SHAPES = \[.*?\]", f"GEMM_SHAPES = [{shapes}]"),
             (r"return impl\n", r"return impl + chr(10)\n"),  # else a comment eats a brace
             (r"BACKWARD_GEMM_SHAPES\[sm\]\[\s*dtype\s*\]", "[]")]
    generate(source, out, "autogen_hopper_fna.py", "generate_hopper_fna_kernels", 2, half, width,
             mask, (r"NA_DIMS = \[.*?\]", "NA_DIMS = [2]"))
    generate(source, out, "autogen_hopper_fmha.py", "generate_hopper_fmha_kernels", 1, half, width)
    generate(source, out, "autogen_fna.py", "generate_cuda_kernels", 1, *plain, mask,
             (r"NA_RANKS = \[.*?\]", "NA_RANKS = [2]"))
    generate(source, out, "autogen_fmha.py", "generate_cuda_kernels", 1, *plain)
    include = out / "autogen/include"
    write(include / "natten_autogen/cuda/hopper_fmha_bwd/interface.h",
          '#define DISPATCH_HOPPER_FMHA_BACKWARD(...) throw std::runtime_error("not built")\n')
    built = ("token_permute_2d", "token_unpermute_2d", "hopper_na2d_forward",
             "hopper_fmha_forward", "na2d_forward", "fmha_forward")
    heads = ("fna", "hopper_fna", "fmha", "hopper_fmha", "token_permute")
    write(out / "module.cu", module(
        source, {n: f"&natten::{n}" for n in built},
        "#include <torch/extension.h>\n" + "".join(f'#include "natten/{h}.h"\n' for h in heads)))
    files = [out / "module.cu"] + sorted(out.glob("autogen/src/cuda/*/*.cu"))
    files += [source / f"csrc/src/{n}.cu" for n in (
        "fna_forward", "hopper_fna_forward", "fmha", "hopper_fmha", "token_permute",
        "token_unpermute", "compute_delta")]
    return files, include


# --- 0.17: cut out of its generated sources -------------------------------------------------------

CALL_17 = """#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>
#include <natten/cuda/fna/fna_forward.cuh>

using Pair = std::tuple<int32_t, int32_t>;

static void na2d_forward(at::Tensor& out, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v, const at::optional<at::Tensor>& bias,
                         const at::optional<at::Tensor>& lse, const Pair& kernel,
                         const Pair& dilation, const std::tuple<bool, bool>& causal, float scale,
                         const Pair& q_tile, const Pair& kv_tile) {
  at::cuda::OptionalCUDAGuard guard(q.device());
  TORCH_CHECK(q.scalar_type() == torch::kFloat16 && q.size(4) == 32 && bias && lse, "not built");
  at::Tensor workspace;
  auto alloc = [&](void** place, int64_t bytes, bool zero) {
    workspace = at::empty({bytes}, q.options().dtype(at::kByte));
    if (zero) {
      workspace.zero_();
    }
    *place = workspace.data_ptr();
  };
  auto device = at::cuda::getDeviceProperties(q.device().index());
  natten::cuda::fna::fna_forward_generic<natten::float16>(
      device->major * 10 + device->minor, device->sharedMemPerBlockOptin,
      at::cuda::getCurrentCUDAStream(q.device().index()).stream(), alloc, q.data_ptr(),
      k.data_ptr(), v.data_ptr(), out.data_ptr(), bias->data_ptr(), (int32_t)q.size(0),
      Pair((int32_t)q.size(1), (int32_t)q.size(2)), (int32_t)q.size(3), 32, 32, kernel, dilation,
      causal, scale, lse->data_ptr(), q_tile, kv_tile);
}

"""
DISPATCH_17 = """#define DISPATCH_FNA_FORWARD_KERNEL(rank, cc, dtype, causal, has_bias, lse, cb) \\
  [&] { \\
    TORCH_CHECK(has_bias && lse && !std::get<0>(causal) && !std::get<1>(causal), "not built"); \\
    chosen(cb); \\
  }();
"""


def sources_17(source, out):
    kernels = (source / "csrc/autogen/include/natten_autogen/cuda/fna/kernels.h").read_text()
    bodies = "".join(p.read_text() for p in source.glob("csrc/autogen/src/cuda/fna/*.cu"))
    declared, defined, calls = "", "", ""
    for name in (f"fna2d_{size}_sm80_float16_cm_0_0_rpb_lse" for size in SIZES):
        at = kernels.index(name + "(")
        declared += kernels[kernels.rindex("__global__", 0, at):kernels.index(";", at) + 1] + "\n"
        at = bodies.index(name + "(")
        end = bodies.index("#endif\n}", bodies.index("printf", at)) + len("#endif\n}")
        defined += bodies[bodies.rindex("__global__", 0, at):end] + "\n"
        calls += re.search(rf"  cb\([^\n]*, {name}\);\n", kernels).group(0)
    include = out / "include"
    space = "namespace natten { namespace cuda { namespace fna {\n"
    heads = "".join(f"#include <natten/{h}>\n" for h in (
        "natten.h", "dtypes.cuh", "cuda/fna/na_utils.cuh", "cuda/fna/kernel_forward.h"))
    chosen = f"template <typename T> void chosen(T cb) {{\n{calls}}}\n"
    write(include / "natten_autogen/cuda/fna/interface.h",
          f"#pragma once\n{heads}{space}{declared}{chosen}{DISPATCH_17}}}}}}}\n")
    write(out / "kernels.cu", "#include <iostream>\n"
          f"#include <natten_autogen/cuda/fna/interface.h>\n{space}{defined}}}}}}}\n")
    yes = "[](pybind11::args) { return true; }"
    write(out / "module.cu", module(source, {"na2d_forward": "&na2d_forward", "has_cuda": yes,
                                             "has_gemm": yes}, CALL_17))
    return [out / "kernels.cu", out / "module.cu"], include


# --- compiling ------------------------------------------------------------------------------------

def ninja_file(source, files, include, library):
    root, cuda = Path(torch.__file__).parent, Path(shutil.which("nvcc")).resolve().parents[1]
    standard = 20 if "C++20" in (root / "include/ATen/ATen.h").read_text() else 17
    flags = [f"-I{p}" for p in (include, source / "third_party/cutlass/include",
                                source / "csrc/include", source / "csrc/autogen/include")]
    flags += [f"-isystem {p}" for p in (
        root / "include", root / "include/torch/csrc/api/include",
        sysconfig.get_paths()["include"], *root.parent.glob("nvidia/*/include"))]
    flags += ["-DTORCH_API_INCLUDE_EXTENSION_H", "-DTORCH_EXTENSION_NAME=libnatten", "-DWITH_CUDA",
              "-DNATTEN_WITH_CUDA", "-DNATTEN_WITH_CUTLASS", "-DCUTLASS_ENABLE_TENSOR_CORE_MMA=1",
              "-DNATTEN_WITH_HOPPER_FNA=1", "-DNDEBUG",
              f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    objects = {f"{f.parent.name}_{f.stem}.o": f for f in files}
    return f"""rule cu
  command = nvcc -std=c++{standard} -O3 --use_fast_math --expt-relaxed-constexpr --extended-lambda $
    -Xcompiler=-fno-strict-aliasing,-fPIC,-O3 -gencode arch=compute_90a,code=sm_90a $
    {' '.join(flags)} -c $in -o $out
rule link
  command = g++ -shared -o $out $in -L{root}/lib -lc10 -ltorch -ltorch_cpu -ltorch_python $
    -lc10_cuda -ltorch_cuda -L{cuda}/lib64 -lcudart
{''.join(f'build {o}: cu {f}' + chr(10) for o, f in objects.items())}
build {library}: link {' '.join(objects)}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--jobs", type=int, default=8)
    args = parser.parse_args()
    source, site = args.folder.resolve(), args.site.resolve()
    work = site / "natten_build"
    shutil.rmtree(work, ignore_errors=True)
    old = not (source / "scripts").exists()
    files, include = (sources_17 if old else sources_21)(source, work)
    package = site / "natten"
    shutil.copytree(source / "src/natten", package, dirs_exist_ok=True)
    for path in package.rglob("*.py") if old else ():  # a name that PyTorch has no more
        path.write_text(path.read_text().replace("from torch.cuda import _device_t",
                                                 "from typing import Any as _device_t"))
    library = package / f"libnatten{sysconfig.get_config_var('EXT_SUFFIX')}"
    (work / "build.ninja").write_text(ninja_file(source, files, include, library))
    return subprocess.call(["ninja", "-C", str(work), "-j", str(args.jobs)])


if __name__ == "__main__":
    sys.exit(main())
