"""How near the chosen number of threads comes to the best, alone and beside busy processes.

For each network and number of busy processes: training steps a second with each fixed number of
threads, with two that wait passively, and with a data worker beside one thread; and the number that
a training would choose at that moment. Its rate must be 0.75 of the best fixed number's when the
machine is quiet, and 0.9 beside busy processes.

The quickstart and lspet_cpu train architectures of one space, between its smallest and its largest.
With `--data-root`, lspet_cpu is measured too: a network at its budget, on its images, with its
augmentation and its data worker. Settings take turns. Each runs in a process of its own, whose
environment counts (`OMP_WAIT_POLICY`).

    python -m tools.benchmarks.threads --data-root DATA --report experiments/reports/NAME.md
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tools.benchmarks.command import command_line, exit_with, write_report
from vipnas.threads import most_threads, usable_cores

if TYPE_CHECKING:
    from vipnas.arch.image import Arch
    from vipnas.data.codecs.heatmap import HeatmapCodec
    from vipnas.data.crops.loader import TrainingCrops

BUSY = "while True: pass"
TASK = "--task"
PASSIVE, WITH_WORKER, CHOOSE = "2 passive", "1 and a data worker", "choose"
BATCH_SIZE = 16
BUDGET_MACS = (16_000_000, 17_000_000)  # what lspet_cpu may cost, and little less
MANY = 1_000_000  # steps: more than there is time for


class Network(NamedTuple):
    """What is trained.

    An architecture of a space: its smallest, its largest, or one at the budget of an experiment. Or
    that of an arch file. On synthetic people, or on the data of the experiment.
    """

    shipped: str
    which: Literal["smallest", "largest", "budget", "arch"]
    input_hw: tuple[int, int]
    experiment: str | None = None


NETWORKS = {
    "quick-smallest": Network("quick", "smallest", (96, 72)),
    "quick-largest": Network("quick", "largest", (96, 72)),
    "lspet_cpu": Network("quick", "budget", (96, 72), "lspet_cpu"),
    "S-ViPNAS-Res50": Network("published/s_vipnas_res50", "arch", (128, 96)),
}


def main() -> int:
    from vipnas.synthetic.images import synthesize

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 3], help="processes beside")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each setting in a round")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="all that have their data")
    parser.add_argument("--data-root", type=Path, help="holds the data of lspet_cpu")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    with_data = [
        n for n, network in NETWORKS.items() if options.data_root or not network.experiment
    ]
    names = options.networks or with_data
    if missing := sorted(set(names) - set(with_data)):
        parser.error(f"--data-root: expected the folder of the data of {missing[0]}, got none")
    with TemporaryDirectory() as folder:
        synthesize(Path(folder), 64, seed=0, image_hw=(160, 160), people_per_image=(1, 1))
        bench = Bench(Path(folder), options.data_root, options.rounds, options.seconds)
        rows = [bench.row(name, busy) for name in names for busy in options.busy]
    lines = report(rows, options.rounds, options.seconds)
    print("\n".join(lines))
    write_report(options.report, lines)
    return 0 if all(row.is_met for row in rows) else 1


@dataclass(frozen=True)
class Row:
    """Steps a second, by setting; `chosen` and `reason` are of the start beside those processes."""

    name: str
    busy: int
    rates: dict[str, float]
    chosen: list[int]
    reason: str

    @property
    def share(self) -> float:
        """Of the best fixed number, by the worst choice of all rounds."""
        fixed = [rate for name, rate in self.rates.items() if name.isdecimal()]
        return min(self.rates[str(threads)] for threads in self.chosen) / max(fixed)

    @property
    def is_met(self) -> bool:
        return self.share >= (0.9 if self.busy else 0.75)


@dataclass(frozen=True)
class Bench:
    """Runs settings in turns, on the people in a folder or on the data of an experiment."""

    people: Path
    data_root: Path | None
    rounds: int
    seconds: float

    def row(self, name: str, busy: int) -> Row:
        numbers = [str(number) for number in range(1, most_threads({}) + 1)]
        settings = [*numbers, *([PASSIVE] if len(numbers) > 1 else []), WITH_WORKER]
        rates: dict[str, list[float]] = {setting: [] for setting in settings}
        choices = []
        with busy_processes(busy):
            for _ in range(self.rounds):
                for setting in settings:
                    rates[setting].append(self._run(name, setting)["rate"])
                choices.append(self._run(name, CHOOSE))
        medians = {setting: median(found) for setting, found in rates.items()}
        chosen = [choice["chosen"] for choice in choices]
        return Row(name, busy, medians, chosen, choices[-1]["reason"])

    def _run(self, name: str, setting: str) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if "_NUM_" not in name}
        if setting == PASSIVE:
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        folder = self.data_root if NETWORKS[name].experiment else self.people
        task = [name, setting, str(folder), str(self.seconds)]
        command = [sys.executable, "-m", "tools.benchmarks.threads", TASK, *task]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        time.sleep(0.5 if number else 0.0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_task(name: str, setting: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Train for so many seconds: the rate. Or time steps as a training does: the choice."""
    import torch

    from vipnas.config.schedule import Schedule
    from vipnas.config.training import Compute
    from vipnas.data.crops.loader import training_batches
    from vipnas.memory import keep_freed_memory
    from vipnas.models.posenet import PoseNet
    from vipnas.training.compute import make_forward
    from vipnas.training.loop import Training
    from vipnas.training.step import ImageTask, network_backward
    from vipnas.training.step_time import time_step

    keep_freed_memory()
    arch = arch_of(NETWORKS[name])
    network = PoseNet(arch).train()
    crops, codec, num_workers = data_of(NETWORKS[name], arch, folder)
    backward = network_backward(ImageTask(make_forward(network, Compute()), codec))
    workers = 1 if setting == WITH_WORKER else 0 if setting == CHOOSE else num_workers
    batches = training_batches(crops, BATCH_SIZE, 0, MANY, workers)
    if setting == CHOOSE:
        batch = next(batches)
        timed = time_step(lambda: backward(0, batch), most_threads({}))
        return {"chosen": timed.choice, "reason": str(timed)}
    torch.set_num_threads(int(setting.split()[0]))
    training = Training(
        network, Schedule(epochs=1, batch_size=BATCH_SIZE, learning_rate=1e-3), MANY
    )
    training._update(backward, next(batches))
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        training._update(backward, next(batches))
        training.step += 1
        steps += 1
    return {"rate": steps / (time.perf_counter() - started)}


def data_of(network: Network, arch: Arch, folder: Path) -> tuple[TrainingCrops, HeatmapCodec, int]:
    """Return the crops, the codec, and the number of data workers."""
    from vipnas.config.data import Augmentation
    from vipnas.config.experiment import read_experiment
    from vipnas.data.codecs.heatmap import HeatmapCodec
    from vipnas.data.crops.loader import TrainingCrops
    from vipnas.data.formats.coco import read_coco
    from vipnas.data.formats.skeletons import COCO_17
    from vipnas.shipped import find_shipped
    from vipnas.synthetic.images import ANNOTATIONS

    annotations, images = ANNOTATIONS, "images"
    augmentation, sigma_px, num_workers = Augmentation(), 2.0, 0
    if network.experiment:
        config = read_experiment(find_shipped("experiments", network.experiment))
        assert config.data.train is not None
        ((annotations, images),) = config.data.train.coco_files
        augmentation, sigma_px = config.augmentation, config.sigma_px
        num_workers = config.data.num_workers
    data = read_coco(folder / annotations, folder / images, COCO_17)
    crops = TrainingCrops(data.persons, COCO_17, arch.input_hw, augmentation, 0)
    return crops, HeatmapCodec(arch.input_hw, arch.heatmap_hw, sigma_px), num_workers


def arch_of(network: Network) -> Arch:
    from vipnas.arch.io import read_arch
    from vipnas.shipped import find_shipped
    from vipnas.space.yaml import read_space

    if network.which == "arch":
        arch = read_arch(find_shipped("search_spaces", network.shipped, ".json"))
    else:
        space = read_space(find_shipped("search_spaces", network.shipped))
        drawn = (space.sample(random.Random(seed)) for seed in count())
        choices = {"smallest": space.min_arch(), "largest": space.max_arch()}
        arch = choices.get(network.which) or next(a for a in drawn if is_at_budget(a))
    return replace(arch, input_hw=network.input_hw)


def is_at_budget(arch: Arch) -> bool:
    from vipnas.models.counting import count_cost

    return BUDGET_MACS[0] <= count_cost(arch).macs <= BUDGET_MACS[1]


def report(rows: Sequence[Row], rounds: int, seconds: float) -> list[str]:
    from vipnas.runtimes.machine import device_name

    settings = list(rows[0].rates)
    return [
        "# Threads of a training",
        "",
        command_line(),
        "",
        f"{device_name('cpu')}, {usable_cores()} usable cores. Steps a second, batch {BATCH_SIZE},"
        f" medians of {rounds} rounds of {seconds:g} s. `chosen`: in every round; `share`: of the"
        " best fixed number, by the worst of them.",
        "",
        f"| network | busy processes | {' | '.join(settings)} | chosen | share |",
        f"|---|---|{'---|' * len(settings)}---|---|",
        *(
            f"| {row.name} | {row.busy} |"
            f" {' | '.join(f'{rate:.2f}' for rate in row.rates.values())} |"
            f" {', '.join(map(str, row.chosen))} | {row.share:.2f} |"
            for row in rows
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == [TASK]:
        _, _, name, setting, folder, seconds = sys.argv
        print(json.dumps(run_task(name, setting, Path(folder), float(seconds))))
    else:
        exit_with(main)
