"""Time steps of both trainings and a score, as the stages of an experiment compute them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, TypeVar

import torch
from torch import nn

from vipnas.config.schedule import Schedule
from vipnas.data.crops.loader import Batch, training_batches
from vipnas.pipeline.level import Level
from vipnas.pipeline.retrain import backward_of as backward_of_network
from vipnas.pipeline.scorer import in_worker
from vipnas.pipeline.step_seconds import Clock, Effort, typical_backward
from vipnas.pipeline.supernet import backward_of as backward_of_supernet
from vipnas.pipeline.supernet import macs_of_step
from vipnas.threads import Timed, choose_threads, most_threads
from vipnas.training.loop import Backward, Training
from vipnas.training.randomness import random_state, restore_random_state
from vipnas.training.step_time import time_step, undone

A = TypeVar("A")

# Batches that are read before the clock starts, where workers read them during a training.
READ_BEFORE = 2

THOROUGH = Effort(seconds=30.0, persons=100)
BRIEF = Effort(warm_up=1, seconds=10.0, persons=16)


@dataclass(frozen=True)
class StageSeconds:
    """Measured seconds.

    Attributes:
        supernet_step: A training step of the supernet.
        score: The score of one architecture, calibration included.
        retrain_step: A training step of an architecture by itself.
        probe: The score of one architecture on the persons of a probe.
    """

    supernet_step: float
    score: float
    retrain_step: float
    probe: float

    def __str__(self) -> str:
        return (
            f"Measured: a step of the supernet {1e3 * self.supernet_step:.0f} ms, of a network"
            f" {1e3 * self.retrain_step:.0f} ms, a score {self.score:.1f} s."
        )


def stage_seconds(
    level: Level[A], arch: A, scored: Sequence[A], effort: Effort = THOROUGH
) -> StageSeconds:
    """Time what the stages of a level compute. The random state stays as it is.

    Args:
        level: The level of an experiment.
        arch: The architecture that is trained by itself.
        scored: The architectures that are scored; their mean counts.
        effort: How much is timed.
    """
    before = random_state()
    try:
        supernet = _filled(level, level.blank(None))
        schedule = level.supernet_config.schedule
        backward = _typical_backward(level, supernet, schedule, effort)
        supernet_step = _seconds_of_step(level, supernet, schedule, backward, effort)
        score = _seconds_of_score(level, supernet, scored, effort)
        alone = level.at(arch)
        network = _filled(alone, alone.blank(arch))
        backward = backward_of_network(alone, network, arch)
        schedule = alone.retrain_schedule
        retrain_step = _seconds_of_step(alone, network, schedule, backward, effort)
    finally:
        restore_random_state(before)
    persons = level.experiment.config.monitoring.probe_persons
    share = level.crops_of_score(persons) / level.crops_of_score(None)
    return StageSeconds(supernet_step, score, retrain_step, share * score)


def _filled(level: Level[Any], network: nn.Module) -> nn.Module:
    """Give a network finite weights; its times do not depend on them."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.to(level.experiment.device)


def _typical_backward(
    level: Level[Any], supernet: nn.Module, schedule: Schedule, effort: Effort
) -> Backward:
    num_persons = len(level.training_data)
    num_steps = 0 if schedule.epochs is None else schedule.num_steps(num_persons)
    backward = backward_of_supernet(level, supernet, num_persons)
    return typical_backward(backward, macs_of_step(level), num_steps, effort)


def _seconds_of_step(
    level: Level[Any], network: nn.Module, schedule: Schedule, backward: Backward, effort: Effort
) -> float:
    if not list(network.parameters()):  # a clip whose follow-up frames run no network
        return 0.0
    compute = level.experiment.config.compute
    training = Training(network, schedule, effort.warm_up + effort.steps, compute)
    clock = Clock(effort, [time.perf_counter()])
    data, reads_here = level.training_data, level.experiment.config.data.num_workers == 0

    def batches(first: int, count: int) -> Iterator[Batch]:
        if reads_here:
            return training_batches(data, schedule.batch, first, count)
        read = list(training_batches(data, schedule.batch, first, READ_BEFORE))
        clock.moments[0] = time.perf_counter()
        return islice(cycle(read), count)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(_threads_of_steps(level, network, schedule, backward))
        training.run(batches, backward, (clock,))
    finally:
        torch.set_num_threads(threads)
    return clock.seconds_of_step


def _threads_of_steps(
    level: Level[Any], network: nn.Module, schedule: Schedule, backward: Backward
) -> int:
    """Return the number of threads that a training chooses; beside busy processes it matters."""
    experiment, most = level.experiment, most_threads(os.environ)

    def timed() -> Timed:
        with undone(network):
            network.train()
            (batch,) = training_batches(level.training_data, schedule.batch, 0, 1)
            return time_step(lambda: backward(0, batch), most)

    can_time = experiment.device.type == "cpu" and experiment.processes.number == 1
    given = experiment.config.compute.threads
    return choose_threads(None, given, most, timed if can_time else None).number


def _seconds_of_score(
    level: Level[A], supernet: nn.Module, archs: Sequence[A], effort: Effort
) -> float:
    """Time scores; with fewer persons, in proportion to the crops that run through a network."""
    threads = torch.get_num_threads()
    scorer = level.scorer(supernet, effort.persons)
    try:
        score = in_worker(scorer, level.experiment.device, level.search_config.threads)
        score(archs[0])  # the first one is slower
        started = time.perf_counter()
        for arch in archs:
            score(arch)
        seconds = (time.perf_counter() - started) / len(archs)
    finally:
        torch.set_num_threads(threads)
    return seconds * level.crops_of_score(None) / level.crops_of_score(effort.persons)
