"""What `vipnas run` is about to do: the stages with their expected times, and the time left."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vipnas.arch.io import read_arch_as
from vipnas.config.schedule import Schedule
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.hours import kept_schedule
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import Level, best_file, network_file, supernet_file
from vipnas.pipeline.run_folder import done_file
from vipnas.pipeline.search import REFERENCES, search_methods
from vipnas.pipeline.stage_seconds import BRIEF, stage_seconds
from vipnas.search.journal import read_journal
from vipnas.search.ray_cluster import RaySettings
from vipnas.search.table import num_shared
from vipnas.search.trial import Trial
from vipnas.training.checkpoint import held, load_checkpoint
from vipnas.training.loop import Outcome, Training

A = TypeVar("A")

TRAINING = "training"
UNITS = {"supernet": "steps", "search": "trials", "retrain": "steps"}
NUM_SAMPLES = 12
DAY = 24 * 3600
SECONDS_BETWEEN_LINES = 60.0
# From so many seconds of a stage on, its own pace counts, not that of the steps that were timed.
SECONDS_OF_PACE = 15.0


@dataclass
class PlannedStage:
    """A stage of a run.

    Attributes:
        name: Its name, `supernet`, `search` or `retrain`, with `video` before it for clips.
        unit: What it counts: steps, trials, or 1 training whose steps are not chosen.
        total: Their number.
        done: How many of them are done.
        seconds_each: Expected seconds of one; None if that is not known.
        is_most: Whether it may take less: the search has not found the network to retrain.
    """

    name: str
    unit: str
    total: int
    done: int
    seconds_each: float | None
    is_most: bool = False

    def count_steps(self, total: int) -> None:
        """Count in the steps of a training, once their number is chosen; its time stays."""
        if self.unit == TRAINING and self.seconds_each is not None:
            self.unit, self.total = "steps", total
            self.seconds_each /= total

    @property
    def seconds_left(self) -> float | None:
        if self.done >= self.total:
            return 0.0
        return None if self.seconds_each is None else (self.total - self.done) * self.seconds_each

    def __str__(self) -> str:
        if self.done >= self.total:
            return f"{self.name:15} done"
        some = f"{self.total - self.done} of " if self.done else ""
        about = "at most" if self.is_most else "about"
        expected = "" if self.seconds_left is None else f"{about} {duration(self.seconds_left)}"
        return f"{self.name:15} {some + f'{self.total} {self.unit}':22} {expected}".rstrip()


class RunPlan:
    """The stages of a run in their order, and how far it is.

    It is told about every step and trial, and prints once a minute how long the run will take.
    """

    def __init__(self, stages: list[PlannedStage]) -> None:
        self.stages = stages
        self._at = stages[0]
        self._began: tuple[float, int] | None = None
        self._last_line = time.monotonic()

    def __str__(self) -> str:
        left = self.seconds_left()
        about = "at most" if any(stage.is_most for stage in self.stages) else "about"
        total = "" if left is None else f"{about} {duration(left)}, until {_clock_after(left)}"
        return "\n".join([*map(str, self.stages), *([f"{'all':38} {total}"] if left else [])])

    def seconds_left(self) -> float | None:
        """Return the expected seconds of all that is left; None if a stage was not timed."""
        known = [stage.seconds_left for stage in self.stages]
        return None if None in known else sum(left for left in known if left is not None)

    def begin(self, level: Level[Any], name: str) -> RunPlan:
        """Note that a stage begins, and that those before it are done."""
        number = [stage.name for stage in self.stages].index(_name(level, name))
        for stage in self.stages[:number]:
            stage.done = stage.total
        self._at, self._began = self.stages[number], None
        return self

    def after_step(self, training: Training, outcome: Outcome) -> None:
        self._at.count_steps(training.num_steps)
        self._advance(training.step)

    def after_trial(self, trial: Trial) -> None:
        self._advance(self._at.done + 1)

    def _advance(self, done: int) -> None:
        """Note how far the stage is; once it has a pace of its own, that is what is expected."""
        stage, now = self._at, time.monotonic()
        stage.done = done
        self._began = self._began or (now, done)
        seconds, count = now - self._began[0], done - self._began[1]
        if count and seconds >= SECONDS_OF_PACE:
            stage.seconds_each, stage.is_most = seconds / count, False
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            if (left := self.seconds_left()) is not None:
                about = f"about {duration(left)} left, until {_clock_after(left)}"
                print(f"run: {stage.name} {done}/{stage.total}; {about}", flush=True)


def plan_run(images: ImageLevel, ray: RaySettings | None = None) -> RunPlan:
    """Look at what is done, time a few steps and scores, and return the plan of a whole run.

    Nothing is timed where all stages of a level are done, or where trainings are compiled. The
    random state stays as it is.
    """
    workers = 1 if ray is None else ray.num_workers
    stages = _stages(images, workers)
    if images.config.video is not None:
        stages += _stages(expected_clips(images), workers)
    return RunPlan(stages)


def expected_clips(images: ImageLevel) -> ClipLevel:
    """Return the level of clips; until its key frame's network is trained, with an expected one."""
    is_trained = network_file(images).exists()
    key_frame = None if is_trained else PoseNet(expected_arch(images)).eval()
    return ClipLevel(images.experiment, key_frame)


def expected_arch(level: Level[A]) -> A:
    """Return what the search found or, before it, one near the budgets: large ones score best."""
    if best_file(level).exists():
        found: A = read_arch_as(level.arch_type, best_file(level))
        return found
    # A row from the smallest to the largest comes nearer to a budget than random ones.
    space = level.space
    row = [
        space.decode([part * (count - 1) // NUM_SAMPLES for count in space.num_options])
        for part in range(NUM_SAMPLES + 1)
    ]
    within = _within(level, [*row, *_samples(level)])
    return within[-1] if within else space.min_arch()


def expected_trials(level: Level[A]) -> tuple[A, A]:
    """Return architectures as a search scores them: of median MACs, and a costly one.

    Random search scores the first kind; a searcher also follows the front to its costly end.
    """
    within = _within(level, _samples(level)) or [level.space.min_arch()]
    return within[len(within) // 2], within[-1]


def _samples(level: Level[A]) -> list[A]:
    rng = random.Random("plan")
    return [level.space.sample(rng) for _ in range(NUM_SAMPLES)]


def _within(level: Level[A], archs: Sequence[A]) -> list[A]:
    """Return those within the budgets, sorted by their MACs."""
    cost_of, _ = level.cost_of()
    costs = [(arch, cost_of(arch)) for arch in archs]
    within = [one for one in costs if not any(limit.excess(one[1]) for limit in level.budgets)]
    return [arch for arch, _ in sorted(within, key=lambda one: one[1].macs)]


def _stages(level: Level[Any], workers: int) -> list[PlannedStage]:
    """Return the three stages of a level."""
    schedules = {
        "supernet": kept_schedule(level.supernet_config.schedule, level.folder.supernet),
        "retrain": kept_schedule(level.retrain_schedule, level.folder.retrain),
    }
    counts = {
        "supernet": _steps(level, supernet_file(level), schedules["supernet"]),
        "search": _trials(level),
        "retrain": _steps(level, network_file(level), schedules["retrain"]),
    }
    hours = {name: one.hours for name, one in schedules.items() if one.hours is not None}
    is_done = all(done >= total for total, done in counts.values())
    is_compiled = level.experiment.config.compute.compile
    each = {} if is_done or is_compiled else _seconds_each(level, workers)
    each |= {name: 3600 * number for name, number in hours.items()}
    units = UNITS | dict.fromkeys(hours, TRAINING)
    unknown = set() if best_file(level).exists() else {"retrain"} - hours.keys()
    return [
        PlannedStage(_name(level, name), units[name], total, done, each.get(name), name in unknown)
        for name, (total, done) in counts.items()
    ]


def _name(level: Level[Any], stage: str) -> str:
    return stage if level.name == "image" else f"video {stage}"


def _steps(level: Level[Any], target: Path, schedule: Schedule) -> tuple[int, int]:
    """Return how many steps a training has, and how many of them are done.

    A schedule in hours counts as one step.
    """
    total = 1 if schedule.epochs is None else schedule.num_steps(len(level.training_data))
    checkpoint = target.with_name("checkpoint.pt")
    if target.exists() and done_file(target).exists():
        return total, total
    if not checkpoint.exists():
        return total, 0
    return total, held(load_checkpoint(checkpoint), "step", int, checkpoint)


def _trials(level: Level[Any]) -> tuple[int, int]:
    """Return how many trials the search has, and how many of them are done."""
    wanted = dict.fromkeys(search_methods(level), level.search_config.num_trials) | {REFERENCES: 2}
    journal = best_file(level).with_name("trials.jsonl")
    _, trials = read_journal(journal) if journal.exists() else ({}, [])
    done = Counter(trial.method for trial in trials)
    return sum(wanted.values()), sum(min(done[name], count) for name, count in wanted.items())


def _seconds_each(level: Level[Any], workers: int) -> dict[str, float]:
    """Time a step of each training, its share of the probes included, and a trial."""
    seconds = stage_seconds(level, expected_arch(level), expected_trials(level), BRIEF)
    monitoring = level.experiment.config.monitoring

    def with_probes(step: float, schedule: Schedule, num_subnets: int) -> float:
        if monitoring.probe_epochs is None:
            return step
        between = schedule.num_steps_of(monitoring.probe_epochs, len(level.training_data))
        return step + num_subnets * seconds.probe / between

    config = level.search_config
    num_scored = 2 * config.num_trials + 2 - min(num_shared(config), config.num_trials)
    return {
        "supernet": with_probes(
            seconds.supernet_step, level.supernet_config.schedule, monitoring.num_probed
        ),
        "search": seconds.score / workers * num_scored / (2 * config.num_trials + 2),
        "retrain": with_probes(seconds.retrain_step, level.retrain_schedule, 1),
    }


def duration(seconds: float) -> str:
    """Return a duration as people say it, such as `40 s`, `12 min` and `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _clock_after(seconds: float) -> str:
    moment = time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if seconds < DAY else "%Y-%m-%d %H:%M", moment)
