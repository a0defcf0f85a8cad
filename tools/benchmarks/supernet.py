"""What running a slice of the supernet costs beside the same subnet extracted, on this machine.

    python -m tools.benchmarks.supernet [--report FILE] [--full-size] [--repeats N]
    python -m tools.benchmarks.supernet --device cuda --precision bfloat16 --full-size \
        --batch-size 64

Forward and backward of a batch as in training, where gradients add up. The two ways take turns, so
that a busy machine slows both; medians, and of the ratio the median over the turns. Seconds of one
thread on a CPU are those that the process computed. The report also has:

    a step of four subnets beside its parts
    on a CPU, how many architectures a second are sampled and counted
    on a GPU, the seconds of each pass in which a kernel runs: the host may be slower
    on a GPU, steps of the sandwich and of the largest subnet: peak memory, and share of busy time
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.interleaved import (
    Compared,
    Setting,
    add_options,
    interleaved,
    setting_of,
    space_of,
)
from tools.benchmarks.supernet_steps import training_rows
from vipnas.arch.image import Arch
from vipnas.config.training import Sampling
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet, extract
from vipnas.models.slicing import slices_in_training
from vipnas.space.image import SearchSpace
from vipnas.training.compute import make_forward
from vipnas.training.losses import distillation_loss, heatmap_loss
from vipnas.training.sampling import SubnetSampler

SPACES = ("tiny", "quick", "s_vipnas_res50", "s_vipnas_mbv3", "lat_vipnas")
BATCH_SIZE = 16  # as most of the shipped experiments
NUM_RANDOM = 5
NUM_RANDOM_ON_GPU = 2
ALLOWED_RATIO = 1.05
ALLOWED_MEDIAN_RATIO = 1.03
ALLOWED_SANDWICH_RATIO = 1.1
WARM_UP_ARCHS = 20_000
RATIOS_MISSED = 3  # exit status; tools/gpu_check.sh tells it from a crash


def main() -> int:
    options = _parser().parse_args()
    setting = setting_of(options)
    lines = [
        f"# Slice against extracted network, {date.today()}",
        "",
        f"{setting}; medians of {options.repeats} forward and backward passes, taking turns.",
        "",
        command_line(),
        "",
        *header_of(setting),
    ]
    print("\n".join(lines), flush=True)
    spaces = [space_of(name, options.full_size) for name in options.space or SPACES]
    found: list[Result] = []
    started = time.perf_counter()
    with slices_in_training():
        for result in _results(spaces, setting):
            lines.append(result.row)
            print(result.row, flush=True)
            found.append(result)
            if time.perf_counter() - started > options.seconds:
                lines += ["", "Not all of it: the time was up."]
                break
    checks = _checks(found)
    verdict = [f"{name}: {value:.3f}; allowed: {allowed}" for name, value, allowed in checks]
    lines += ["", *verdict]
    print("\n".join(["", *verdict]))
    write_report(options.report, lines)
    return RATIOS_MISSED if any(value > allowed for _, value, allowed in checks) else 0


class Result(NamedTuple):
    """A row of the table, and what was compared: of a member, or of a step of four (`is_step`)."""

    row: str
    compared: Compared | None = None
    is_step: bool = False


def _results(spaces: Sequence[SearchSpace], setting: Setting) -> Iterator[Result]:
    """What is asked first of a GPU comes first."""
    if setting.on_gpu:
        for space in spaces:
            yield from map(Result, training_rows(space, setting))
    for space in spaces:
        yield from _members(space, setting)
        yield _step(space, setting)
        if not setting.on_gpu:
            yield Result(_rates(space))


def _checks(found: Sequence[Result]) -> list[tuple[str, float, float]]:
    """Return what is checked: name, ratio and limit of each."""
    members = [one.compared for one in found if one.compared and not one.is_step]
    steps = [one.compared for one in found if one.compared and one.is_step]
    checks = []
    if members:
        ratios = [one.ratio for one in members]
        checks.append(("Largest ratio", max(ratios), ALLOWED_RATIO))
        checks.append(("Median ratio", median(ratios), ALLOWED_MEDIAN_RATIO))
    if steps:
        largest = max(one.ratio for one in steps)
        checks.append(("Largest ratio of a sandwich step", largest, ALLOWED_SANDWICH_RATIO))
    on_gpu = [one.gpu_ratio for one in members if one.gpu_s]
    if on_gpu:
        checks.append(("Largest ratio on the GPU", max(on_gpu), ALLOWED_RATIO))
        checks.append(("Median ratio on the GPU", median(on_gpu), ALLOWED_MEDIAN_RATIO))
    return checks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    add_options(parser, BATCH_SIZE)
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    return parser


def _members(space: SearchSpace, setting: Setting) -> Iterator[Result]:
    supernet, images = setting.supernet(space), setting.images(space)
    rng = random.Random(0)
    archs = {"largest": space.max_arch(), "smallest": space.min_arch()}
    archs |= {
        f"random {number + 1}": space.sample(rng)
        for number in range(NUM_RANDOM_ON_GPU if setting.on_gpu else NUM_RANDOM)
    }
    for name, arch in archs.items():
        sliced = _pass(supernet, images, arch, setting)
        alone = _pass(extract(supernet, arch), images, None, setting)
        compared = interleaved(setting, setting.repeats, sliced, alone)
        yield Result(row_of(space, name, count_cost(arch).macs, compared), compared)


def header_of(setting: Setting) -> list[str]:
    """Return the two lines above the rows of the table."""
    return [
        "| space | input | arch | MMACs | slice ms | extracted ms | ratio |"
        + " on the GPU: slice ms | extracted ms | ratio |" * setting.on_gpu,
        "|---|---|---|---|---|---|---|" + "---|---|---|" * setting.on_gpu,
    ]


def row_of(space: SearchSpace, name: str, macs: int, compared: Compared) -> str:
    """Return a row of the table: milliseconds of the supernet, of extracted networks, and ratio."""
    row = (
        f"| {space.name} | {'x'.join(map(str, space.input_hw))} | {name} | {macs / 1e6:.1f} |"
        f" {compared.first_s * 1e3:.2f} | {compared.second_s * 1e3:.2f} | {compared.ratio:.3f} |"
    )
    if compared.gpu_s is None:
        return row
    first_s, second_s = compared.gpu_s
    return f"{row} {first_s * 1e3:.2f} | {second_s * 1e3:.2f} | {compared.gpu_ratio:.3f} |"


def _step(space: SearchSpace, setting: Setting) -> Result:
    """A sandwich step of four subnets, and the sum of the same steps of extracted networks."""
    supernet, images = setting.supernet(space), setting.images(space)
    targets = torch.rand(
        len(images), space.num_keypoints, *space.max_arch().heatmap_hw, device=setting.device
    )
    weights = torch.ones(targets.shape[:2], device=setting.device)
    archs = SubnetSampler(space, 0, 1, count_cost, Sampling("sandwich", 2)).archs(step=0)

    def step(networks: Sequence[PoseNet]) -> Callable[[], None]:
        forwards = [make_forward(network, setting.compute) for network in networks]

        def run() -> None:
            teacher: Tensor | None = None
            for network in networks:
                network.zero_grad(set_to_none=True)
            for forward, arch in zip(forwards, archs, strict=True):
                heatmaps = forward(images, arch)
                if teacher is None:
                    teacher = heatmaps
                    heatmap_loss(heatmaps, targets, weights).backward()
                else:
                    distillation_loss(heatmaps, teacher).backward()

        return run

    sliced = step([supernet] * len(archs))
    alone = step([extract(supernet, arch) for arch in archs])
    compared = interleaved(setting, max(3, setting.repeats // 3), sliced, alone)
    macs = sum(count_cost(arch).macs for arch in archs)
    rate = f"sandwich of {len(archs)}, {len(images) / compared.first_s:.0f} images/s"
    return Result(row_of(space, rate, macs, compared), compared, is_step=True)


def _rates(space: SearchSpace, number: int = 2000) -> str:
    """Architectures a second: sampled, and counted for the first time with the parts known."""
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
    return f"| {space.name} | | drawn {drawn:,.0f} archs/s, counted {counted:,.0f}/s | | | | |"


def _pass(
    network: PoseNet, images: Tensor, arch: Arch | None, setting: Setting
) -> Callable[[], None]:
    forward = make_forward(network, setting.compute)

    def run() -> None:  # gradients add up, as those of the architectures of a step do
        forward(images, arch).square().mean().backward()

    return run


if __name__ == "__main__":
    exit_with(main)
