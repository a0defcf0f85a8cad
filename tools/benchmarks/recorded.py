"""A training step on a GPU: asked for kernel by kernel, recorded, and recorded with dense forms.

    python -m tools.benchmarks.recorded [NAME ...] [--batch-size N ...] [--repeats N] [--report \
        FILE]

Forward and backward pass of networks that are trained by themselves, in bfloat16 and channels_last
at 256 x 192: eager, replayed as one CUDA graph, and that with those grouped convolutions as dense
ones that are quicker so (`vipnas.models.grouped`). The ways take turns, some steps each; medians.
A name is an architecture, or a space, of which the largest member is taken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from tools.benchmarks.command import command_line, exit_with, write_report
from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.config.training import Compute
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.loader import Batch
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.machine import device_name
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.training.capture import CapturedBackward
from vipnas.training.compute import make_forward
from vipnas.training.failure import Backward
from vipnas.training.step import ImageTask, network_backward

NAMES = ("published/s_vipnas_res50", "published/s_vipnas_mbv3")
STEPS_A_TURN = 3
WARM_UP_ROUNDS = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="*", default=NAMES, help="of an arch or a space")
    parser.add_argument("--batch-size", type=int, nargs="+", default=(32, 64))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=Path, help="write the table there too, as markdown")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_recorded: this machine or this torch has no CUDA", file=sys.stderr)
        return 1
    lines = [
        f"{device_name('cuda')}, torch {torch.__version__}, bfloat16, channels_last; forward and"
        f" backward pass, medians of {options.repeats} turns of {STEPS_A_TURN} steps.",
        "",
        command_line(),
        "",
        "| network | batch | eager ms | recorded ms | recorded, dense forms ms | dense / not |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.name:
        for batch_size in options.batch_size:
            lines.append(_row(name, batch_size, options.repeats))
            print(lines[-1], flush=True)
    write_report(options.report, lines)
    return 0


def _row(name: str, batch_size: int, repeats: int) -> str:
    arch = _arch(name)
    batch = _batch(arch, batch_size)
    network = PoseNet(arch).train().cuda()
    forward = make_forward(network, Compute(precision="bfloat16"))
    eager = network_backward(ImageTask(forward, HeatmapCodec(arch.input_hw, arch.heatmap_hw)))
    ways = (
        eager,
        CapturedBackward(network, eager, dense=False),
        CapturedBackward(network, eager, dense=True),
    )
    runs = [_turn(network, way, batch) for way in ways]
    seconds: list[list[float]] = [[] for _ in ways]
    for repeat in range(repeats + WARM_UP_ROUNDS):
        for run, taken in zip(runs, seconds, strict=True):
            torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if repeat >= WARM_UP_ROUNDS:
                taken.append((time.perf_counter() - started) / STEPS_A_TURN)
    eager_s, recorded_s, dense_s = map(median, seconds)
    return (
        f"| {name} | {batch_size} | {eager_s * 1e3:.1f} | {recorded_s * 1e3:.1f} |"
        f" {dense_s * 1e3:.1f} | {dense_s / recorded_s:.3f} |"
    )


def _turn(network: PoseNet, backward: Backward, batch: Batch) -> Callable[[], None]:
    def run() -> None:
        for step in range(STEPS_A_TURN):
            network.zero_grad(set_to_none=True)
            backward(step, batch)

    return run


def _arch(name: str) -> Arch:
    path = find_shipped("search_spaces", name)
    return read_arch(path) if path.suffix == ".json" else read_space(path).max_arch()


def _batch(arch: Arch, batch_size: int) -> Batch:
    """Noise with visible joints somewhere in it, on the GPU."""
    generator = torch.Generator().manual_seed(0)
    height, width = arch.input_hw
    shape = (batch_size, 3, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    keypoints = torch.rand(batch_size, arch.num_keypoints, 3, generator=generator)
    keypoints *= torch.tensor([width, height, 1.0])
    return images.to("cuda", memory_format=torch.channels_last), keypoints.cuda()


if __name__ == "__main__":
    exit_with(main)
