"""What the benchmarks of training share: how it is run, and how two ways of it are compared."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vipnas.config.training import Compute
from vipnas.memory import keep_freed_memory
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.machine import device_name
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

WARM_UP_ROUNDS = 2
GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")  # as the profiler names it

SMALL_HW = (128, 96)  # of the spaces that are larger, unless --full-size


@dataclass(frozen=True)
class Setting:
    """How everything is run and timed."""

    device: torch.device
    compute: Compute
    batch_size: int
    repeats: int

    def __str__(self) -> str:
        if self.on_gpu:
            machine = device_name("cuda")
        else:
            machine = f"{device_name('cpu')}, {torch.get_num_threads()} thread(s)"
        order = "channels_last" if self.compute.channels_last else "contiguous"
        return (
            f"{machine}, torch {torch.__version__}, {self.compute.precision}, {order},"
            f" batch {self.batch_size}"
        )

    def images(self, space: SearchSpace) -> Tensor:
        return torch.randn(self.batch_size, 3, *space.input_hw, device=self.device)

    def supernet(self, space: SearchSpace) -> PoseNet:
        torch.manual_seed(0)
        network = PoseNet(space.max_arch()).train()
        for parameter in network.parameters():
            # Heatmaps and attention start so small that there are denormals on the way back.
            if parameter.dim() == 4:
                torch.nn.init.normal_(parameter, 0, parameter[0].numel() ** -0.5)
        return network.to(self.device)

    def now(self) -> float:
        """Seconds. Of one thread those that the process computed: others on its core add none."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        elif torch.get_num_threads() == 1:
            return time.process_time()
        return time.perf_counter()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def gpu_seconds(self, way: Callable[[], None]) -> float:
        """Seconds of `way` in which the GPU computes or copies; what runs at once counts once."""
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            way()
            self.now()
        with TemporaryDirectory() as folder:  # by far quicker than the profiler's own lists
            path = Path(folder) / "trace.json"
            profiled.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        return covered(
            (event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6)
            for event in events
            if event.get("cat") in GPU_WORK
        )


def add_options(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """What `setting_of` and `space_of` read."""
    parser.add_argument("--full-size", action="store_true", help="256 x 192 instead of 128 x 96")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--contiguous", action="store_true", help="not in channels_last")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="try all, take the fastest")


def setting_of(options: argparse.Namespace) -> Setting:
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = options.cudnn_benchmark
    keep_freed_memory()
    compute = Compute(precision=options.precision, channels_last=not options.contiguous)
    return Setting(torch.device(options.device), compute, options.batch_size, options.repeats)


def space_of(name: str, full_size: bool) -> SearchSpace:
    """A shipped space, unless at full size no larger than `SMALL_HW`."""
    space = read_space(find_shipped("search_spaces", name))
    return space if full_size or space.input_hw <= SMALL_HW else space.with_facts(input_hw=SMALL_HW)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class Compared(NamedTuple):
    """Medians of the seconds that two ways took, and of their ratio turn by turn: a machine whose
    speed drifts does not move that."""

    first_s: float
    second_s: float
    ratio: float
    gpu_s: tuple[float, float] | None = None  # those in which it computes

    @property
    def gpu_ratio(self) -> float:
        assert self.gpu_s is not None
        return self.gpu_s[0] / self.gpu_s[1]


def interleaved(
    setting: Setting, repeats: int, first: Callable[[], None], second: Callable[[], None]
) -> Compared:
    """Time both by turns, now the one and now the other in front, after rounds to warm up."""
    seconds: dict[Callable[[], None], list[float]] = {first: [], second: []}
    for repeat in range(repeats + WARM_UP_ROUNDS):
        for way in (first, second) if repeat % 2 else (second, first):
            started = setting.now()
            way()
            taken = setting.now() - started
            if repeat >= WARM_UP_ROUNDS:
                seconds[way].append(taken)
    ratios = [one / other for one, other in zip(seconds[first], seconds[second], strict=True)]
    gpu_s = None
    if setting.on_gpu:
        gpu_s = (setting.gpu_seconds(first), setting.gpu_seconds(second))
    return Compared(median(seconds[first]), median(seconds[second]), median(ratios), gpu_s)
