"""A schedule in hours: its epochs are chosen when the training starts, and a run keeps them."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vipnas.config.schedule import Schedule
from vipnas.data.crops.loader import Batch
from vipnas.errors import UserError, shown
from vipnas.files import read_json, write_atomically
from vipnas.pipeline.step_seconds import Clock, Effort, MacsOfStep, typical_backward
from vipnas.training.loop import Backward, Training
from vipnas.training.randomness import random_state, restore_random_state

FILE = "epochs.json"
STEPS, SECONDS = 15, 40.0
# Steps are timed for at most this part of the hours.
SHARE = 0.02


class TimedStep(NamedTuple):
    """The step of a training, as the training runs it.

    Attributes:
        batches: As in `Training.run`.
        backward: As in `Training.run`.
        same_every_step: As in `Training.run`.
        macs_of_step: The MACs of all subnets of a step; None where steps cost the same.
    """

    batches: Callable[[int, int], Iterator[Batch]]
    backward: Backward
    same_every_step: bool
    macs_of_step: MacsOfStep | None


class Repeated(NamedTuple):
    """What the first process runs every so many steps, and at the end, such as a probe."""

    run: Callable[[], object]
    every_steps: int


def kept_schedule(schedule: Schedule, stage: Path) -> Schedule:
    """Return a schedule in hours with the epochs that were chosen, or as it is before that.

    Args:
        schedule: The schedule, in epochs or in hours.
        stage: The folder of the stage.

    Raises:
        UserError: If the file holds no number of epochs.
    """
    path = stage / FILE
    if schedule.hours is None or not path.exists():
        return schedule
    epochs = read_json(path)
    if not isinstance(epochs, int | float) or not 0 < epochs < math.inf:
        raise UserError(str(path), "a number of epochs", shown(epochs))
    return replace(schedule, epochs=float(epochs), hours=None)


def choose_epochs(
    training: Training,
    num_persons: int,
    stage: Path,
    seconds_left: Callable[[], float],
    step: TimedStep,
    repeated: Sequence[Repeated],
) -> None:
    """Choose the length of a training from the time of its own steps; print and write it.

    The state of the training stays as it is. Of several processes, the first one chooses.

    Args:
        training: The training, before its first step.
        num_persons: Training persons.
        stage: The folder of the stage.
        seconds_left: Returns the seconds until the end of the hours.
        step: What is timed.
        repeated: What runs between steps.

    Raises:
        UserError: If the training is not at its first step, as its epochs were chosen before.
    """
    schedule, path, processes = training.schedule, stage / FILE, training.processes
    assert schedule.hours is not None
    if training.step > 0:
        hint = "restore it, or remove the checkpoint to start again"
        raise UserError(str(path), "the epochs of the training that resumes", "none", hint)
    seconds, pauses = _measured(training, step, repeated, schedule.hours)
    num_steps = num_steps_within(seconds_left(), seconds, pauses)
    num_steps = round(processes.from_first(num_steps))
    epochs = num_steps * schedule.batch / num_persons
    if processes.is_first:
        write_atomically(path, json.dumps(epochs) + "\n")
        measured = f"{schedule.hours:g} hours at {1e3 * seconds:.0f} ms a step"
        print(f"{stage.name}: {epochs:.1f} epochs, {num_steps} steps, for {measured}; {path}")
    training.schedule = replace(schedule, epochs=epochs, hours=None)
    training.num_steps = num_steps


def num_steps_within(seconds: float, step: float, pauses: Sequence[tuple[float, int]]) -> int:
    """Return how many steps fit, at least 1.

    Args:
        seconds: The time for them.
        step: Seconds of a step.
        pauses: The seconds of each pause, and the steps from one to the next; there is one at the
            end, too.
    """
    at_the_end = sum(pause for pause, _ in pauses)
    each = step + sum(pause / every_steps for pause, every_steps in pauses)
    return max(1, int((seconds - at_the_end) / each))


def _measured(
    training: Training, step: TimedStep, repeated: Sequence[Repeated], hours: float
) -> tuple[float, list[tuple[float, int]]]:
    """Return the seconds of a step, and the pauses between steps."""
    # Processes that train together must end with the same step.
    most = min(SECONDS, 3600 * SHARE * hours) if training.processes.number == 1 else math.inf
    effort = Effort(steps=STEPS, seconds=most)
    backward = step.backward
    if step.macs_of_step is not None:
        backward = typical_backward(backward, step.macs_of_step, 0, effort)
    with _undone(training):
        training.num_steps = effort.warm_up + effort.steps
        clock = Clock(effort, [time.perf_counter()])
        training.run(step.batches, backward, (clock,), same_every_step=step.same_every_step)
        # The first time counts not: a probe also reads its crops.
        pauses = [([_seconds(run) for _ in range(2)][-1], steps) for run, steps in repeated]
    return clock.seconds_of_step, pauses


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@contextmanager
def _undone(training: Training) -> Iterator[None]:
    """Leave a training, before its first step, and the random state as they were."""
    state, random = copy.deepcopy(training.state()), random_state()
    try:
        yield
    finally:
        training.load(state, Path(FILE))
        training.stopped, training.random_to_restore = False, None
        restore_random_state(random)
