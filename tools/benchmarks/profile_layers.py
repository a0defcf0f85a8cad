"""Where a network's time goes: by kind of operation and by part of the network.

    python -m tools.benchmarks.profile_layers published/s_vipnas_res50 [--runtime openvino] \
        [--runs N]
    python -m tools.benchmarks.profile_layers lat_vipnas:3     # of a space: largest, smallest, a \
        seed

Batch 1, float32, random weights. The time of an operation is the best of all runs, so that what
else the machine does drops out; so is the rate of a product of square matrices, by the fastest
library at hand, taken in between. On a busy machine let the product be small (--side 256): a long
one is always disturbed. Needs the extra `vipnas[export]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from tools.benchmarks.command import exit_with
from tools.benchmarks.gemm_reference import gemm_runs
from tools.benchmarks.members import HELP, find_member
from vipnas.arch.image import Arch, DeconvArch
from vipnas.latency.measure import fill_for_timing
from vipnas.models.counting import count_cost
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.onnx_model import to_onnx_quickly
from vipnas.runtimes.openvino import core, open_model
from vipnas.runtimes.runtime import RunSettings
from vipnas.runtimes.table import RUNTIMES


class Operation(NamedTuple):
    """One node of the optimised graph. MACs with channels rounded up to what is computed."""

    kind: str
    part: str
    macs: int
    seconds: float


# How to run it on images, and what was found in all runs.
Profiled = tuple[Callable[[np.ndarray], None], Callable[[], Iterator[Operation]]]


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    arch = find_member(options.name)
    if options.input_hw:
        arch = replace(arch, input_hw=tuple(options.input_hw))
    operations, rate = profile(arch, options)
    print(f"{options.name}: {count_cost(arch)}; {options.runtime}, {options.threads} thread(s)")
    for column in ("kind", "part"):
        print(f"\n| {column} | ms | share | MMACs | GFLOP/s | of the product's |")
        print("|---|---|---|---|---|---|")
        for row in _rows(operations, column, rate):
            print(row)
    print(f"\n{options.side}^3 product: {rate / 1e9:.0f} GFLOP/s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help=HELP)
    parser.add_argument(
        "--input-hw", nargs=2, type=int, metavar=("H", "W"), help="default: that of the arch"
    )
    parser.add_argument("--runtime", choices=PROFILED, default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--side", type=int, default=1024, help="of the product's matrices")
    return parser


def profile(arch: Arch, options: argparse.Namespace) -> tuple[list[Operation], float]:
    """Every operation at its best, and the floating-point operations a second of the product."""
    network = PoseNet(arch)
    fill_for_timing(network)
    # Runtimes do so themselves, and lose the names of the convolutions.
    fold_batch_norm(network)
    images = torch.randn(1, 3, *arch.input_hw)
    model = to_onnx_quickly(network, {"images": images})
    runs_of_product = gemm_runs(options.side, options.threads).values()
    product_s = []
    with TemporaryDirectory() as folder:
        run, found = PROFILED[options.runtime](model, arch, options.threads, Path(folder))
        for _ in range(options.runs):
            run(images.numpy())
            for run_product in runs_of_product:
                started = time.perf_counter()
                run_product()
                product_s.append(time.perf_counter() - started)
        operations = list(found())
    return operations, 2 * options.side**3 / min(product_s)


def _in_onnxruntime(model: bytes, arch: Arch, threads: int, folder: Path) -> Profiled:
    RUNTIMES["onnxruntime"].check_installed()
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3  # errors
    settings.enable_profiling = True
    settings.profile_file_prefix = f"{folder}/profile"
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> None:
        session.run(None, {"images": images})

    def found() -> Iterator[Operation]:
        return _operations(json.loads(Path(session.end_profiling()).read_text()), arch)

    return run, found


def _in_openvino(model: bytes, arch: Arch, threads: int, folder: Path) -> Profiled:
    read, _ = open_model(model, RunSettings(threads))
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERF_COUNT": True,
    }
    compiled = core().compile_model(read, "CPU", settings)
    nodes = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ops()}
    request = compiled.create_infer_request()
    best_s: dict[str, float] = defaultdict(lambda: float("inf"))

    def run(images: np.ndarray) -> None:
        request.infer([images])
        for info in request.profiling_info:
            if str(info.status).endswith(".EXECUTED"):
                seconds = info.real_time.total_seconds()
                best_s[info.node_name] = min(best_s[info.node_name], seconds)

    def found() -> Iterator[Operation]:
        deconvs = itertools.count(1)
        for name, seconds in best_s.items():  # in the order they run
            kind, macs = _openvino_kind(nodes[name])
            is_deconv = kind.startswith("deconvolution")
            # Their batch norm is not folded before, so that their name is lost.
            part = f"deconv{next(deconvs)}" if is_deconv else _part(name)
            yield Operation(kind, part, macs, seconds)

    return run, found


def _openvino_kind(node: Any) -> tuple[str, int]:
    """Like `_kind`. Weights of groups have the groups as a dimension of their own."""
    kind = node.get_rt_info()["layerType"].value
    if kind == "Reorder":
        return "layout changes", 0
    if kind not in ("Convolution", "Deconvolution"):
        return "element-wise, pooling, other", 0
    images, weight = (list(port.get_shape()) for port in node.inputs()[:2])
    out = list(node.output(0).get_shape())
    pixels = images[2:] if kind == "Deconvolution" else out[2:]
    macs = int(np.prod(weight) * np.prod(pixels))
    groups = weight[0] if len(weight) == 5 else 1
    if kind == "Deconvolution":
        return _deconv_kind(groups), macs
    return _conv_kind(groups, images[1], weight[-1], out[2:]), macs


PROFILED: dict[str, Callable[[bytes, Arch, int, Path], Profiled]] = {
    "onnxruntime": _in_onnxruntime,
    "openvino": _in_openvino,
}


def _operations(events: list[dict[str, Any]], arch: Arch) -> Iterator[Operation]:
    best_us: dict[str, float] = defaultdict(lambda: float("inf"))
    nodes: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            best_us[name] = min(best_us[name], event["dur"])
            nodes[name] = event["args"]
    for name, node in nodes.items():
        part = _part(name)
        if node["op_name"] == "ConvTranspose":
            kind, macs = _deconv(node, arch.head[int(part.removeprefix("deconv")) - 1])
        else:
            kind, macs = _kind(node)
        yield Operation(kind, part, macs, best_us[name] * 1e-6)


def _part(name: str) -> str:
    found = re.match("/?(stem|stage\\d+|deconv\\d+|heatmaps)", name)
    return found[1] if found else "of no part"


def _deconv(node: dict[str, Any], deconv: DeconvArch) -> tuple[str, int]:
    """Like `_kind`; its weight is packed beforehand and so not among its inputs."""
    (channels, height, width), groups = _shapes(node)[0][1:], deconv.groups
    macs = deconv.width * channels // groups * deconv.kernel_size**2 * height * width
    return _deconv_kind(groups), macs


def _deconv_kind(groups: int) -> str:
    return f"deconvolution, {'dense' if groups == 1 else 'grouped'}"


def _shapes(node: dict[str, Any]) -> list[list[int]]:
    return [next(iter(found.values())) for found in node["input_type_shape"]]


def _kind(node: dict[str, Any]) -> tuple[str, int]:
    """What an operation is, and its multiply-accumulates for one image."""
    if node["op_name"].startswith("Reorder"):
        return "layout changes", 0
    if "Conv" not in node["op_name"]:
        return "element-wise, pooling, other", 0
    images, weight = _shapes(node)[:2]
    out = next(iter(node["output_type_shape"][0].values()))
    macs = int(np.prod(weight) * np.prod(out[2:]))
    return _conv_kind(max(1, images[1] // weight[1]), images[1], weight[2], out[2:]), macs


def _conv_kind(groups: int, in_channels: int, kernel_size: int, out_hw: list[int]) -> str:
    if out_hw == [1, 1]:
        return "convolution of attention"
    if kernel_size == 1:
        return "convolution 1x1"
    grouping = "dense" if groups == 1 else "depthwise" if groups == in_channels else "grouped"
    return f"convolution {kernel_size}x{kernel_size}, {grouping}"


def _rows(operations: list[Operation], column: str, rate: float) -> Iterator[str]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for operation in operations:
        for name in (getattr(operation, column), "all"):
            sums[name][0] += operation.seconds
            sums[name][1] += operation.macs
    whole = sums["all"][0]
    for name, (seconds, macs) in sorted(sums.items(), key=lambda found: found[1][0]):
        reached = f"{2e-9 * macs / seconds:.0f} | {2 * macs / seconds / rate:.0%}" if macs else "|"
        yield (
            f"| {name} | {seconds * 1e3:.2f} | {seconds / whole:.0%} | {macs / 1e6:.1f} |"
            f" {reached} |"
        )


if __name__ == "__main__":
    exit_with(main)
