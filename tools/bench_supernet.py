"""What running a slice of the supernet costs beside the same arch extracted, on this machine.

    python tools/bench_supernet.py [--report FILE] [--full-size] [--repeats N]
    python tools/bench_supernet.py --device cuda --precision bfloat16 --full-size --batch-size 64

Forward and backward of a batch as training runs them, gradients adding up as in a step; the two
ways take turns, so that whatever else the machine does meets both; medians, and of the ratio the
median over the turns. Seconds of one thread on a CPU are those that the process computed. Then a
training step of four archs beside its parts, with images per second and, on a GPU, the share of the
time that it is busy; and how many archs a second are drawn and counted.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vipnas.arch import Arch
from vipnas.cost import count_cost
from vipnas.deploy.runtime import device_name
from vipnas.memory import keep_freed_memory
from vipnas.models.posenet import PoseNet, extract
from vipnas.shipped import find_shipped
from vipnas.space import SearchSpace, read_space
from vipnas.training.compute import Compute, make_forward
from vipnas.training.losses import distillation_loss, heatmap_loss
from vipnas.training.sampling import Sampling, SubnetSampler

SPACES = ("tiny", "quick", "s_vipnas_res50", "s_vipnas_mbv3", "lat_vipnas")
SMALL_HW = (128, 96)  # of the spaces that are larger, unless --full-size
NUM_RANDOM = 5
ALLOWED_RATIO = 1.05
ALLOWED_MEDIAN_RATIO = 1.03
ALLOWED_SANDWICH_RATIO = 1.1
WARM_UP_ARCHS = 20_000


@dataclass(frozen=True)
class Setting:
    """How everything is run and timed."""

    device: torch.device
    compute: Compute
    batch_size: int
    repeats: int

    def images(self, space: SearchSpace) -> Tensor:
        return torch.randn(self.batch_size, 3, *space.input_hw, device=self.device)

    def supernet(self, space: SearchSpace) -> PoseNet:
        torch.manual_seed(0)
        network = PoseNet(space.max_arch()).train()
        for parameter in network.parameters():
            if parameter.dim() == 4:  # the published initialisation gives denormals on the way back
                torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
        return network.to(self.device)

    def now(self) -> float:
        """Seconds. Of one thread those that the process computed: others on its core add none."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif torch.get_num_threads() == 1:
            return time.process_time()
        return time.perf_counter()

    def busy(self, way: Callable[[], None]) -> float | None:
        """Share of the time that a GPU computes while `way` runs; None on a CPU."""
        if self.device.type != "cuda":
            return None
        started = self.now()
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            way()
            seconds = self.now() - started
        busy = sum(event.self_device_time_total for event in profiled.key_averages())
        return float(busy / 1e6 / seconds)


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    device = torch.device(options.device)
    compute = Compute(precision=options.precision)
    setting = Setting(device, compute, options.batch_size, options.repeats)
    lines = [
        f"# Slice against extracted network, {date.today()}",
        "",
        f"{_machine(device, options.threads)}, torch {torch.__version__}, {options.precision},"
        f" batch {options.batch_size}; medians of {options.repeats} forward and backward passes,"
        " taking turns.",
        "",
        f"Command: `python tools/bench_supernet.py {' '.join(sys.argv[1:])}`".rstrip("` ") + "`",
        "",
        "| space | input | arch | MMACs | slice ms | extracted ms | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    ratios, sandwich_ratios = [], []
    for name in options.space or SPACES:
        space = read_space(find_shipped("search_spaces", name))
        if space.input_hw > SMALL_HW and not options.full_size:
            space = space.with_facts(input_hw=SMALL_HW)
        for row, ratio in _rows(space, setting):
            lines.append(row)
            print(row, flush=True)
            ratios.append(ratio)
        step_row, ratio = _step_row(space, setting)
        sandwich_ratios.append(ratio)
        for row in (step_row, _rates(space)):
            lines.append(row)
            print(row, flush=True)
    figures = (
        ("Largest ratio", max(ratios), ALLOWED_RATIO),
        ("Median ratio", median(ratios), ALLOWED_MEDIAN_RATIO),
        ("Largest ratio of a sandwich step", max(sandwich_ratios), ALLOWED_SANDWICH_RATIO),
    )
    verdict = [f"{name}: {found:.3f}; allowed: {allowed}" for name, found, allowed in figures]
    lines += ["", *verdict]
    print("\n".join(lines[-4:]))
    if options.report:
        options.report.write_text("\n".join(lines) + "\n")
    return int(any(found > allowed for _, found, allowed in figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    parser.add_argument("--full-size", action="store_true", help="256 x 192 instead of 128 x 96")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    return parser


def _rows(space: SearchSpace, setting: Setting) -> Iterator[tuple[str, float]]:
    supernet, images = setting.supernet(space), setting.images(space)
    rng = random.Random(0)
    archs = {"largest": space.max_arch(), "smallest": space.min_arch()}
    archs |= {f"random {number + 1}": space.sample(rng) for number in range(NUM_RANDOM)}
    for name, arch in archs.items():
        sliced = _pass(supernet, images, arch, setting)
        alone = _pass(extract(supernet, arch), images, None, setting)
        compared = interleaved(setting, setting.repeats, sliced, alone)
        yield _row(space, name, count_cost(arch).macs, compared), compared.ratio


def _row(space: SearchSpace, name: str, macs: int, compared: Compared) -> str:
    return (
        f"| {space.name} | {'x'.join(map(str, space.input_hw))} | {name} | {macs / 1e6:.1f} |"
        f" {compared.first_s * 1e3:.2f} | {compared.second_s * 1e3:.2f} | {compared.ratio:.3f} |"
    )


def _step_row(space: SearchSpace, setting: Setting) -> tuple[str, float]:
    """A sandwich step of four archs, and the sum of the same as steps of extracted networks."""
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
    busy = setting.busy(sliced)
    if busy is not None:
        rate += f", GPU busy {busy:.0%}"
    return _row(space, rate, macs, compared), compared.ratio


def _rates(space: SearchSpace, number: int = 2000) -> str:
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
    return f"| {space.name} | | drawn {drawn:,.0f} archs/s, counted {counted:,.0f}/s | | | | |"


class Compared(NamedTuple):
    """Medians of the seconds that two ways took, and of their ratio turn by turn: a machine whose
    speed drifts does not move that."""

    first_s: float
    second_s: float
    ratio: float


def interleaved(
    setting: Setting, repeats: int, first: Callable[[], None], second: Callable[[], None]
) -> Compared:
    """Time both by turns, now the one and now the other in front, after two rounds to warm up."""
    seconds: dict[Callable[[], None], list[float]] = {first: [], second: []}
    for repeat in range(repeats + 2):
        for way in (first, second) if repeat % 2 else (second, first):
            started = setting.now()
            way()
            taken = setting.now() - started
            if repeat >= 2:
                seconds[way].append(taken)
    ratios = [one / other for one, other in zip(seconds[first], seconds[second], strict=True)]
    return Compared(median(seconds[first]), median(seconds[second]), median(ratios))


def _pass(
    network: PoseNet, images: Tensor, arch: Arch | None, setting: Setting
) -> Callable[[], None]:
    forward = make_forward(network, setting.compute)

    def run() -> None:  # gradients add up, as those of the archs of a step do
        forward(images, arch).square().mean().backward()

    return run


def _machine(device: torch.device, threads: int) -> str:
    name = device_name("cuda" if device.type == "cuda" else "cpu")
    return name if device.type == "cuda" else f"{name}, {threads} thread(s)"


if __name__ == "__main__":
    sys.exit(main())
