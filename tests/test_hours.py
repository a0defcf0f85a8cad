"""A schedule in hours: the epochs that are chosen, and that a run keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from errors_fixture import refused
from torch import Tensor, nn

from vipnas.config.schedule import Schedule
from vipnas.config.training import ProgressiveShrinking, SupernetConfig
from vipnas.data.crops.loader import Batch
from vipnas.pipeline.hours import (
    Repeated,
    TimedStep,
    choose_epochs,
    kept_schedule,
    num_steps_within,
)
from vipnas.training.loop import Training
from vipnas.training.randomness import seed_process

HOUR = Schedule(hours=1.0, batch_size=2, learning_rate=1e-3, warmup_steps=0)


def test_the_steps_of_a_time_by_hand() -> None:
    assert num_steps_within(3600, 2.0, []) == 1800
    # A probe and a checkpoint at the end, and 0.2 s and 0.1 s of them for each step.
    assert num_steps_within(114, 0.5, [(2.0, 10), (0.5, 5)]) == 139
    assert num_steps_within(-5, 2.0, [(1.0, 1)]) == 1


def test_a_schedule_has_epochs_or_hours() -> None:
    for epochs, hours, found in ((None, None, "none"), (1.0, 1.0, "both")):
        with refused(place="epochs and hours", expected="exactly one of them", found=found):
            Schedule(epochs=epochs, hours=hours, batch_size=2, learning_rate=1e-3)
    with refused(place="hours", expected="a number above 0"):
        replace(HOUR, hours=0.0)
    with refused(place="epochs"):
        HOUR.num_steps(10)
    shrinking = ProgressiveShrinking(largest_alone_epochs=1.0)
    with refused(place="progressive_shrinking", expected="none, as the schedule has hours"):
        SupernetConfig(HOUR, progressive_shrinking=shrinking)


def small_training(schedule: Schedule, num_steps: int = 1) -> Training:
    """Batch norm and averaged weights are part of its state, too."""
    seed_process(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
    return Training(network, schedule, num_steps)


def step_of(training: Training, seconds: float, clock: list[float], ran: list[int]) -> TimedStep:
    """A step that takes so many seconds of a clock which nothing else moves."""

    def batches(first: int, count: int) -> Iterator[Batch]:
        for step in range(first, first + count):
            yield (torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(step)),)

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        clock[0] += seconds
        ran.append(step)
        loss = training.network(batch[0]).square().mean()
        loss.backward()
        return {"loss": loss.detach()}

    return TimedStep(batches, backward, False, lambda step: float(-step))


def test_a_training_chooses_its_epochs_and_a_run_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, ran, stage = [0.0], list[int](), tmp_path / "retrain"
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert kept_schedule(HOUR, stage) is HOUR
    training = small_training(HOUR)
    step = step_of(training, 2.0, clock, ran)
    choose_epochs(training, 10, stage, lambda: 9.0, step, [])
    # 4 steps of 2 s in 9 s, of 2 of the 10 persons each.
    assert (training.num_steps, training.schedule.epochs) == (4, 0.8)
    assert "retrain: 0.8 epochs, 4 steps, for 1 hours at 2000 ms a step" in capsys.readouterr().out
    # 17 of 90 steps, spread over their MACs.
    assert len(ran) == 17 and min(ran) < 9 and max(ran) > 81
    kept = kept_schedule(HOUR, stage)
    assert kept == training.schedule and kept.num_steps(10) == 4
    training.run(step.batches, step.backward)
    # A run that was killed before its first checkpoint has timed nothing when it starts again.
    again = small_training(kept, 4)
    again.run(step.batches, step_of(again, 2.0, clock, ran).backward)
    assert ran[17:] == [0, 1, 2, 3] * 2
    for one, other in zip(*(flat(each.state()) for each in (training, again)), strict=True):
        assert torch.equal(one, other)


def flat(value: Any) -> list[Tensor]:
    """Return all numbers of a state."""
    if isinstance(value, dict):
        return [tensor for key in sorted(value, key=str) for tensor in flat(value[key])]
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in flat(part)]
    return [] if value is None or isinstance(value, str) else [torch.as_tensor(value)]


def test_short_hours_are_timed_briefly_and_probes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 % of 0.05 hours are 3.6 s: 2 steps of 1 s to warm up, and 2 that are timed."""
    clock, ran = [0.0], list[int]()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def probe() -> None:
        clock[0] += 5.0

    training = small_training(replace(HOUR, hours=0.05))
    step = step_of(training, 1.0, clock, ran)
    probes = [Repeated(probe, 10)]
    choose_epochs(training, 10, tmp_path, lambda: 180.0 - clock[0], step, probes)
    assert len(ran) == 4
    # 4 s of steps and 10 s of probes are gone; the last probe takes 5 s.
    assert training.num_steps == int((180 - 14 - 5) / 1.5)


def test_what_has_no_epochs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "epochs.json"
    training = small_training(HOUR)
    training.step = 1  # of a checkpoint
    with refused(place=str(path), expected="the epochs of the training that resumes"):
        choose_epochs(training, 10, tmp_path, lambda: 9.0, step_of(training, 1.0, [0.0], []), [])
    path.write_text("[1]")
    with refused(place=str(path), expected="a number of epochs"):
        kept_schedule(HOUR, tmp_path)
