"""Time ten steps of both trainings and a score, as the stages of an experiment compute them."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from vipnas.arch.image import Arch
from vipnas.data.crops.loader import Batch, training_batches
from vipnas.models.counting import count_cost
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.retrain import backward_of as backward_of_network
from vipnas.pipeline.supernet import backward_of as backward_of_supernet
from vipnas.space.image import SearchSpace
from vipnas.training.loop import Backward, Outcome, Training

WARM_UP_STEPS, TIMED_STEPS = 3, 10


@dataclass(frozen=True)
class StageSeconds:
    """Measured seconds.

    Attributes:
        supernet_step: A training step of the supernet.
        score: The score of one architecture, calibration included.
        retrain_step: A training step of an architecture by itself.
    """

    supernet_step: float
    score: float
    retrain_step: float

    def __str__(self) -> str:
        return (
            f"Measured: a step of the supernet {1e3 * self.supernet_step:.0f} ms, of a network"
            f" {1e3 * self.retrain_step:.0f} ms, a score {self.score:.1f} s."
        )


def stage_seconds(level: ImageLevel, macs: float) -> StageSeconds:
    """Time what the stages of a level compute.

    Args:
        level: The level of an experiment.
        macs: MACs of the architecture that is scored and trained, or the nearest of some.
    """
    device = level.experiment.device
    with TemporaryDirectory() as folder:
        supernet = level.supernet(Path(folder)).to(device)
        backward = backward_of_supernet(level, supernet, len(level.training_data))
        supernet_step = _seconds_of_step(level, supernet, backward)
        arch = _nearest(level.space, macs)
        scorer = level.scorer(supernet)
        scorer(arch)  # reads the crops
        started = time.perf_counter()
        scorer(arch)
        score = time.perf_counter() - started
        network = level.network(arch, None, Path(folder)).to(device)
        retrain_step = _seconds_of_step(level, network, backward_of_network(level, network, arch))
    return StageSeconds(supernet_step, score, retrain_step)


def _seconds_of_step(level: ImageLevel, network: nn.Module, backward: Backward) -> float:
    schedule = replace(level.retrain_schedule, warmup_steps=0)
    num_steps = WARM_UP_STEPS + TIMED_STEPS
    training = Training(network, schedule, num_steps, level.experiment.config.compute)
    clock = _Clock([time.perf_counter()])
    data = level.training_data

    def batches(first: int, count: int) -> Iterator[Batch]:
        return training_batches(data, schedule.batch_size, first, count)

    training.run(batches, backward, (clock,))
    return float(statistics.median(np.diff(clock.moments)[WARM_UP_STEPS:]))


@dataclass
class _Clock:
    """A callback that notes the end of every step."""

    moments: list[float]

    def after_step(self, training: Training, outcome: Outcome) -> None:
        float(next(iter(outcome.losses.values())))  # waits for a GPU
        self.moments.append(time.perf_counter())


def _nearest(space: SearchSpace, macs: float) -> Arch:
    rng = random.Random(1)
    archs = [space.sample(rng) for _ in range(200)]
    return min(archs, key=lambda arch: abs(count_cost(arch).macs - macs))
