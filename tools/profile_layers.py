"""Where a network's time goes in ONNX Runtime: by kind of operation and by part of the network.

    python tools/profile_layers.py published/s_vipnas_res50 [--threads N] [--runs N]
    python tools/profile_layers.py lat_vipnas --member 3     # of a space: largest, smallest, a seed

Batch 1, float32, random weights. The time of an operation is the best of all runs, so that what
else the machine does drops out; so is the rate of a product of square matrices, by the fastest
library at hand, taken in between. On a busy machine let the product be small (--side 256): a long
one is always disturbed. Needs the extra `vipnas[export]`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from vipnas.arch import Arch, DeconvArch, read_arch
from vipnas.cost import count_cost
from vipnas.deploy.onnx_model import check_extra
from vipnas.deploy.runtime import fill_for_timing, to_onnx_quickly
from vipnas.latency.product import products
from vipnas.models.posenet import PoseNet
from vipnas.shipped import find_shipped
from vipnas.space import read_space


class Operation(NamedTuple):
    """One node of the optimised graph. MACs with channels rounded up to what is computed."""

    kind: str
    part: str
    macs: int
    seconds: float


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    arch = _arch(options.name, options.member)
    operations, rate = profile(arch, options.threads, options.runs, options.side)
    member = f", {options.member}" if options.member else ""
    print(f"{options.name}{member}: {count_cost(arch)}, {options.threads} thread(s)")
    for column in ("kind", "part"):
        print(f"\n| {column} | ms | share | MMACs | GFLOP/s | of the product's |")
        print("|---|---|---|---|---|---|")
        for row in _rows(operations, column, rate):
            print(row)
    print(f"\n{options.side}^3 product: {rate / 1e9:.0f} GFLOP/s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help="an arch or a space, a file or a shipped name")
    parser.add_argument("--member", help="of a space: largest, smallest, or a seed to draw it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--side", type=int, default=1024, help="of the product's matrices")
    return parser


def _arch(name: str, member: str | None) -> Arch:
    path = find_shipped("search_spaces", name)
    if member is None:
        return read_arch(path)
    space = read_space(path)
    if member in ("largest", "smallest"):
        return space.max_arch() if member == "largest" else space.min_arch()
    return space.sample(random.Random(int(member)))


def profile(arch: Arch, threads: int, runs: int, side: int) -> tuple[list[Operation], float]:
    """Every operation at its best, and the floating-point operations a second of the product."""
    check_extra("export", "onnxruntime")
    import onnxruntime

    network = PoseNet(arch)
    fill_for_timing(network)
    images = torch.randn(1, 3, *arch.input_hw)
    model = to_onnx_quickly(network, images)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3  # errors
    settings.enable_profiling = True
    runs_of_product = products(side, threads).values()
    product_s = []
    with TemporaryDirectory() as folder:
        settings.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, {"images": images.numpy()})
            for run in runs_of_product:
                started = time.perf_counter()
                run()
                product_s.append(time.perf_counter() - started)
        events = json.loads(Path(session.end_profiling()).read_text())
    return list(_operations(events, arch)), 2 * side**3 / min(product_s)


def _operations(events: list[dict[str, Any]], arch: Arch) -> Iterator[Operation]:
    best_us: dict[str, float] = defaultdict(lambda: float("inf"))
    nodes: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            best_us[name] = min(best_us[name], event["dur"])
            nodes[name] = event["args"]
    for name, node in nodes.items():
        found = re.match("/?(stem|stage\\d+|deconv\\d+|heatmaps)", name)
        part = found[1] if found else "of no part"
        if node["op_name"] == "ConvTranspose":
            kind, macs = _deconv(node, arch.head[int(part.removeprefix("deconv")) - 1])
        else:
            kind, macs = _kind(node)
        yield Operation(kind, part, macs, best_us[name] * 1e-6)


def _deconv(node: dict[str, Any], deconv: DeconvArch) -> tuple[str, int]:
    """Like `_kind`; its weight is packed beforehand and so not among its inputs."""
    (channels, height, width), groups = _shapes(node)[0][1:], deconv.groups
    macs = deconv.width * channels // groups * deconv.kernel_size**2 * height * width
    return f"deconvolution, {'dense' if groups == 1 else 'grouped'}", macs


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
    columns, kernel = weight[1], weight[2]
    macs = int(np.prod(weight) * np.prod(out[2:]))
    if out[2:] == [1, 1]:
        return "convolution of attention", macs
    if kernel == 1:
        return "convolution 1x1", macs
    grouping = "dense" if images[1] <= columns else "grouped"
    return f"convolution {kernel}x{kernel}, {'depthwise' if columns == 1 else grouping}", macs


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
    sys.exit(main())
