"""Write the checkpoints of a training, and its best network."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vipnas.models.file import read_header
from vipnas.settings import check_settings
from vipnas.training.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    settings_in,
)
from vipnas.training.loop import Outcome, Training


@dataclass
class CheckpointFile:
    """The checkpoint of a training, written regularly and at the end.

    Attributes:
        path: The file.
        settings: All that the training depends on; a checkpoint of others is refused.
        minutes: The longest time between two checkpoints.
        every_steps: The number of steps between two checkpoints (an epoch).
        keep_last: The number of states that stay in the folder `kept`, the newest one under both
            names. To go back, copy one over `path`.
        about: Further values for the reader of the file.
        threads: The number of CPU threads; a checkpoint replaces it by its own.
    """

    path: Path
    settings: dict[str, Any]
    minutes: float = 2.0
    every_steps: int | None = None
    keep_last: int = 1
    about: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def resume(self, training: Training) -> None:
        """Continue from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        state = load_checkpoint(self.path)
        check_settings(settings_in(state, self.path), self.settings, self.path)
        training.load(state, self.path)
        self.threads = state.get("threads", self.threads)

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Save if it is due."""
        at_epoch = self.every_steps is not None and training.step % self.every_steps == 0
        at_end = training.step == training.num_steps
        if at_epoch or at_end or time.monotonic() - self._last >= self.minutes * 60:
            self.save(training)

    def save(self, training: Training) -> None:
        """Save the state; after a kill or on a full disk, the previous one remains."""
        settings = json.dumps(self.settings, sort_keys=True)
        about = {"settings": settings, "threads": self.threads, **self.about}
        save_checkpoint(self.path, {**training.state(), **about})
        if self.keep_last > 1:
            self._keep(training.step)
        self._last = time.monotonic()

    def _keep(self, step: int) -> None:
        folder = self.path.parent / "kept"
        folder.mkdir(exist_ok=True)
        newest = folder / _name(step)
        newest.unlink(missing_ok=True)
        try:
            os.link(self.path, newest)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.path, newest)
        # States of later steps are of a run that was reverted.
        ordered = sorted(folder.glob("step_*.pt"))
        before = [path for path in ordered if path.name <= newest.name]
        for path in set(ordered) - set(before[-self.keep_last :]):
            path.unlink()


def _name(step: int) -> str:
    return f"step_{step:09d}.pt"


class BestNetwork:
    """Write the averaged weights with the best score so far as a model file.

    Args:
        path: The file.
        measure: The name of the score. An existing file with another one does not count.
        first_step: The step of the training. A file of a later step does not count, because the
            run will reach it again.
        save: `save(path, network, metrics=...)` writes the file.
    """

    def __init__(
        self, path: Path, measure: str, first_step: int, save: Callable[..., object]
    ) -> None:
        self.path, self.measure, self._save = path, measure, save
        self.score, self.step = -float("inf"), first_step
        if path.exists():
            found = read_header(path).metrics
            if found.get("measure") == measure and int(found["step"]) <= first_step:
                self.score, self.step = float(found["score"]), int(found["step"])

    def offer(self, training: Training, score: float) -> None:
        if score > self.score:
            self.score, self.step = score, training.step
            found = {"step": training.step, "measure": self.measure, "score": score}
            self._save(self.path, training.averaged, metrics=found)


@dataclass(frozen=True)
class EarlyStop:
    """Stop a training after some probes without a better score; a resumed run counts alike.

    Attributes:
        best: Knows the step of the best score. It must be offered the scores first.
        every_steps: Steps between probes.
        patience: Number of probes.
    """

    best: BestNetwork
    every_steps: int
    patience: int

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Stop if it is time."""
        self.check(training)

    def check(self, training: Training) -> None:
        """Stop if it is time; call it on resume too, as a kill may have come after the stop."""
        in_vain = training.step - self.best.step
        is_probe = training.step % self.every_steps == 0
        if is_probe and in_vain >= self.patience * self.every_steps:
            place = self.best.path.parent.name
            print(f"{place}: stopped: no better score since step {self.best.step}", flush=True)
            training.stop()
