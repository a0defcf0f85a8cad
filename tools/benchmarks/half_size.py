"""What training steps of subnets at half the input size cost, on this machine.

    python -m tools.benchmarks.half_size [--space NAME ...] [--report FILE] [--repeats N]

From uint8 crops of full size, which are resized, beside the extracted networks on crops of their
size; without the optimizer. The two take turns; medians, and of the ratio the median over the
turns. Seconds of one thread on a CPU are those that the process computed.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.interleaved import Setting, add_options, interleaved, setting_of, space_of
from tools.benchmarks.supernet import (
    ALLOWED_RATIO,
    BATCH_SIZE,
    RATIOS_MISSED,
    SPACES,
    header_of,
    row_of,
)
from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.loader import Batch
from vipnas.data.crops.resizing import resize_crops, resize_points
from vipnas.errors import UserError
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet, extract
from vipnas.models.slicing import slices_in_training
from vipnas.space.image import SearchSpace
from vipnas.training.compute import make_forward
from vipnas.training.failure import Backward
from vipnas.training.sampling import SampledSubnet
from vipnas.training.step import ImageTask, Task, network_backward, supernet_backward


def main() -> int:
    options = _parser().parse_args()
    setting = setting_of(options)
    title = f"# Training steps at half the input size, {date.today()}"
    lines = [title, "", f"{setting}.", "", command_line(), "", *header_of(setting)]
    print("\n".join(lines), flush=True)
    ratios = []
    with slices_in_training():
        for name in options.space or SPACES:
            for row, ratio in half_size_rows(space_of(name, options.full_size), setting):
                lines.append(row)
                print(row, flush=True)
                ratios.append(ratio)
    above = sum(ratio > ALLOWED_RATIO for ratio in ratios)
    lines += ["", f"Above {ALLOWED_RATIO}: {above} of {len(ratios)}."]
    print("\n".join(lines[-2:]))
    write_report(options.report, lines)
    return RATIOS_MISSED if above else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", type=Path, help="write the table there, as markdown")
    parser.add_argument("--repeats", type=int, default=31)
    add_options(parser, BATCH_SIZE)
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    return parser


def half_size_rows(space: SearchSpace, setting: Setting) -> Iterator[tuple[str, float]]:
    """Training steps of subnets at half the input size, each by itself and four in a step, beside
    the extracted networks on crops of that size; none where the total stride does not divide it."""
    half_hw = space.input_hw[0] // 2, space.input_hw[1] // 2
    try:
        sized = space.with_facts(input_hw=(half_hw, space.input_hw))
    except UserError:
        return
    supernet = setting.supernet(space)
    codec = HeatmapCodec(space.input_hw, space.max_arch().heatmap_hw)
    rng, generator = random.Random(1), torch.Generator().manual_seed(0)
    shape = (setting.batch_size, *space.input_hw, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images = images.permute(0, 3, 1, 2).to(setting.device)
    joints = torch.rand(setting.batch_size, space.num_keypoints, 3, generator=generator)
    joints = (joints * torch.tensor([*space.input_hw[::-1], 2.0])).to(setting.device)
    small = resize_crops(images, half_hw), resize_points(joints, space.input_hw, half_hw)
    task: Task[Arch] = ImageTask(make_forward(supernet, setting.compute), codec)
    archs = [replace(sized.sample(rng), input_hw=half_hw) for _ in range(4)]
    extracted = [_extracted_step(extract(supernet, arch), codec, small, setting) for arch in archs]
    macs = [count_cost(arch).macs for arch in archs]
    for number, arch in enumerate(archs):
        sliced = _step_of(supernet, network_backward(task, arch), (images, joints))
        compared = interleaved(setting, setting.repeats, sliced, extracted[number])
        name = f"random {number + 1}"
        yield row_of(space, name, macs[number], compared), compared.ratio
    subnets = [SampledSubnet("random", (arch,)) for arch in archs]
    together = _step_of(supernet, supernet_backward(task, lambda step: subnets), (images, joints))

    def apart() -> None:
        for step in extracted:
            step()

    compared = interleaved(setting, setting.repeats, together, apart)
    yield row_of(space, "four in a step", sum(macs), compared), compared.ratio


def _extracted_step(
    network: PoseNet, codec: HeatmapCodec, batch: Batch, setting: Setting
) -> Callable[[], None]:
    """A training step of a network by itself, on crops of its size."""
    task = ImageTask(make_forward(network, setting.compute), codec.at(network.arch))
    return _step_of(network, network_backward(task), batch)


def _step_of(network: PoseNet, backward: Backward, batch: Batch) -> Callable[[], None]:
    parameters = list(network.parameters())  # once, as the optimizer has them

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        backward(0, batch)

    return run


if __name__ == "__main__":
    exit_with(main)
