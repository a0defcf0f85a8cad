"""What running a slice of the supernet costs beside the same arch extracted, on this machine's CPU.

    python tools/bench_supernet.py [--report FILE] [--full-size] [--repeats N]

Forward and backward of a batch, gradients adding up as in a step; the two ways take turns, so that
whatever else the machine does meets both; medians. Then a training step of four archs beside its
parts, and how many archs a second are drawn and counted.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from vipnas.arch import Arch
from vipnas.cost import count_cost
from vipnas.memory import keep_freed_memory
from vipnas.models.posenet import PoseNet, extract
from vipnas.shipped import find_shipped
from vipnas.space import SearchSpace, read_space
from vipnas.training.losses import distillation_loss, heatmap_loss
from vipnas.training.sandwich import archs_of_step

SPACES = ("tiny", "s_vipnas_res50", "s_vipnas_mbv3")
SMALL_HW = (128, 96)
BATCH_SIZE = 8
NUM_RANDOM = 3
ALLOWED_RATIO = 1.05
WARM_UP_ARCHS = 20_000


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    lines = [
        f"# Slice against extracted network, {date.today()}",
        "",
        f"{_cpu()}, {options.threads} thread(s), torch {torch.__version__}, float32, batch"
        f" {BATCH_SIZE}; medians of {options.repeats} forward and backward passes, taking turns.",
        "",
        f"Command: `python tools/bench_supernet.py {' '.join(sys.argv[1:])}`".rstrip("` ") + "`",
        "",
        "| space | input | arch | MMACs | slice ms | extracted ms | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    worst = 0.0
    for name in options.space or SPACES:
        space = read_space(find_shipped("search_spaces", name))
        if name != "tiny" and not options.full_size:
            space = space.with_facts(input_hw=SMALL_HW)
        for row, ratio in _rows(space, options.repeats):
            lines.append(row)
            print(row, flush=True)
            worst = max(worst, ratio)
        for row in (*_step_rows(space, max(3, options.repeats // 3)), *_rates(space)):
            lines.append(row)
            print(row, flush=True)
    lines.append(f"\nLargest ratio: {worst:.3f}; allowed: {ALLOWED_RATIO}")
    print(lines[-1])
    if options.report:
        options.report.write_text("\n".join(lines) + "\n")
    return int(worst > ALLOWED_RATIO)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    parser.add_argument("--full-size", action="store_true", help="256 x 192 instead of 128 x 96")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    return parser


def _rows(space: SearchSpace, repeats: int) -> list[tuple[str, float]]:
    supernet = _supernet(space)
    images = torch.randn(BATCH_SIZE, 3, *space.input_hw)
    rng = random.Random(0)
    archs = {"largest": space.max_arch(), "smallest": space.min_arch()}
    archs |= {f"random {number + 1}": space.sample(rng) for number in range(NUM_RANDOM)}
    rows = []
    for name, arch in archs.items():
        subnet = extract(supernet, arch)
        sliced, extracted = interleaved(
            repeats, _pass(supernet, images, arch), _pass(subnet, images, None)
        )
        ratio = sliced / extracted
        rows.append(
            (
                f"| {space.name} | {'x'.join(map(str, space.input_hw))} | {name} |"
                f" {count_cost(arch).macs / 1e6:.1f} | {sliced * 1e3:.1f} |"
                f" {extracted * 1e3:.1f} | {ratio:.3f} |",
                ratio,
            )
        )
    return rows


def _step_rows(space: SearchSpace, repeats: int) -> list[str]:
    """A sandwich step of four archs, and the sum of the same as steps of extracted networks."""
    supernet = _supernet(space)
    images = torch.randn(BATCH_SIZE, 3, *space.input_hw)
    targets = torch.rand(BATCH_SIZE, space.num_keypoints, *space.max_arch().heatmap_hw)
    weights = torch.ones(BATCH_SIZE, space.num_keypoints)
    archs = archs_of_step(space, seed=0, step=0, num_random=2)
    subnets = [extract(supernet, arch) for arch in archs]

    def step(networks: list[tuple[PoseNet, Arch | None]]) -> None:
        teacher: Tensor | None = None
        for network, _ in networks:
            network.zero_grad(set_to_none=True)
        for network, arch in networks:
            heatmaps = network(images, arch)
            if teacher is None:
                teacher = heatmaps
                heatmap_loss(heatmaps, targets, weights).backward()
            else:
                distillation_loss(heatmaps, teacher).backward()

    whole, parts = interleaved(
        repeats,
        lambda: step([(supernet, arch) for arch in archs]),
        lambda: step([(subnet, None) for subnet in subnets]),
    )
    return [
        f"| {space.name} | {'x'.join(map(str, space.input_hw))} | sandwich of {len(archs)} |"
        f" {sum(count_cost(arch).macs for arch in archs) / 1e6:.1f} | {whole * 1e3:.1f} |"
        f" {parts * 1e3:.1f} | {whole / parts:.3f} |"
    ]


def _rates(space: SearchSpace, number: int = 2000) -> list[str]:
    """Archs a second: drawn, and counted with the parts known, each arch for the first time."""
    rng = random.Random(0)
    for _ in range(WARM_UP_ARCHS):
        count_cost(space.sample(rng))
    started = time.perf_counter()
    archs = [space.sample(rng) for _ in range(number)]
    drawn = number / (time.perf_counter() - started)
    started = time.perf_counter()
    for arch in archs:
        count_cost(arch)
    counted = number / (time.perf_counter() - started)
    return [f"| {space.name} | | drawn {drawn:,.0f} archs/s, counted {counted:,.0f}/s | | | | |"]


def interleaved(repeats: int, *ways: Callable[[], None]) -> list[float]:
    """Median seconds of each way; they take turns, after two rounds to warm up."""
    seconds: list[list[float]] = [[] for _ in ways]
    for repeat in range(repeats + 2):
        for taken, way in zip(seconds, ways, strict=True):
            started = time.perf_counter()
            way()
            if repeat >= 2:
                taken.append(time.perf_counter() - started)
    return [median(taken) for taken in seconds]


def _supernet(space: SearchSpace) -> PoseNet:
    torch.manual_seed(0)
    network = PoseNet(space.max_arch()).train()
    for parameter in network.parameters():
        if parameter.dim() == 4:  # the published initialisation gives denormals on the way back
            torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
    return network


def _pass(network: PoseNet, images: Tensor, arch: Arch | None) -> Callable[[], None]:
    def run() -> None:  # gradients add up, as those of the archs of a step do
        network(images, arch).square().mean().backward()

    return run


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
