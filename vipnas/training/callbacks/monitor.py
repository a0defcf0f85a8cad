"""Progress of a training: a bar or plain lines, loggers, and the same numbers as JSON lines."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vipnas.data.crops.images import write_png
from vipnas.files import errors_name, write_atomically
from vipnas.training.callbacks.keeping import BestNetwork
from vipnas.training.callbacks.loggers import DEFAULT_LOGGER, LOGGERS, Logger
from vipnas.training.callbacks.probes import Probes
from vipnas.training.loop import Outcome, Training

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0
STEPS_BETWEEN_NUMBERS = 20


class Monitor:
    """Show and log the progress of a run: a bar on a terminal, plain lines in a log file.

    `metrics.jsonl` has one line for every 20th step and for every probe, in order. After a kill,
    lines of steps that will be trained again are removed first.
    """

    def __init__(
        self,
        directory: Path,
        training: Training,
        best: BestNetwork | None = None,
        epoch_steps: int | None = None,
        probes: Probes[Any] | None = None,
        loggers: Sequence[str] = (DEFAULT_LOGGER,),
    ) -> None:
        self.directory, self.best, self.epoch_steps = directory, best, epoch_steps
        self.probes = probes
        self.num_steps = training.num_steps
        self.batch_size = training.schedule.batch
        directory.mkdir(parents=True, exist_ok=True)
        self.lines = directory / "metrics.jsonl"
        drop_lines_after(self.lines, training.step)
        self.loggers = {name: LOGGERS[name](directory, training.step) for name in loggers}
        self.clock = _Clock(training.step)
        self.last_line = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self.bar = Progress(*columns, disable=not sys.stderr.isatty())
        self.task = self.bar.add_task(
            directory.name, total=self.num_steps, completed=training.step, losses=""
        )

    def __enter__(self) -> Monitor:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        self._log(lambda logger: logger.close())

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Show and log a step; only steps that are shown are read, which synchronises a GPU."""
        self.bar.update(self.task, completed=training.step)
        at_end = training.step == self.num_steps
        numbers: dict[str, float] = {}
        if training.step % STEPS_BETWEEN_NUMBERS == 0 or at_end:
            numbers = self._numbers(training, outcome)
            self._show(training.step, outcome)
        if self.probes is not None and (at_end or training.step % self.probes.every_steps == 0):
            numbers |= self._probe(self.probes, training)
        elif self.probes is None and self.epoch_steps and training.step % self.epoch_steps == 0:
            self._offer(training, -float(training.mean_loss))
        if numbers:
            self._write(training.step, numbers)

    def _numbers(self, training: Training, outcome: Outcome) -> dict[str, float]:
        rate = self.clock.steps_per_second(training.step) * self.batch_size
        return {
            **{f"loss/{name}": float(loss) for name, loss in outcome.losses.items()},
            "gradient_norm": float(outcome.gradient_norm),
            "learning_rate": outcome.learning_rate,
            "images_per_second": rate,
            **memory_mib(training.device),
        }

    def _probe(self, probes: Probes[Any], training: Training) -> dict[str, float]:
        seen = probes(training.averaged)
        self._offer(training, float(np.mean(list(seen.aps.values()))))
        self._log(lambda logger: logger.log_picture(training.step, "heatmaps", seen.picture))
        write_png(self.directory / "heatmaps.png", seen.picture)
        aps = ", ".join(f"{name} {ap:.3f}" for name, ap in seen.aps.items())
        self._say(f"step {training.step}/{self.num_steps}, AP on the validation split: {aps}")
        self.clock = _Clock(training.step)  # the time of probes is not that of training
        return {f"ap/{name}": ap for name, ap in seen.aps.items()}

    def _offer(self, training: Training, score: float) -> None:
        if self.best is not None:
            self.best.offer(training, score)

    def _write(self, step: int, numbers: dict[str, float]) -> None:
        self._log(lambda logger: logger.log_numbers(step, numbers))
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        with errors_name(self.lines), self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **plain}) + "\n")

    def _log(self, log_to: Callable[[Logger], object]) -> None:
        """Call every logger. One that needs a service is left out once it fails."""
        for name, logger in list(self.loggers.items()):
            try:
                with errors_name(self.directory):
                    log_to(logger)
            except Exception as error:  # services fail in any way; a training must not
                if name == DEFAULT_LOGGER:
                    raise
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("logger %s: left out from here on: %s", name, reason)
                del self.loggers[name]

    def _show(self, step: int, outcome: Outcome) -> None:
        text = ", ".join(f"{name} {float(loss):.2e}" for name, loss in outcome.losses.items())
        self.bar.update(self.task, losses=text)
        if time.monotonic() - self.last_line < SECONDS_BETWEEN_LINES and step < self.num_steps:
            return
        self.last_line = time.monotonic()
        rate = self.clock.steps_per_second(step)
        left = (self.num_steps - step) / max(rate, 1e-9)
        self._say(f"step {step}/{self.num_steps}, {rate:.1f} steps/s, {left:.0f} s left, {text}")

    def _say(self, line: str) -> None:
        if self.bar.disable:
            print(f"{self.directory.name}: {line}", flush=True)


class _Clock:
    """The number of steps per second since a step."""

    def __init__(self, step: int) -> None:
        self.step, self.started = step, time.monotonic()

    def steps_per_second(self, step: int) -> float:
        return (step - self.step) / max(time.monotonic() - self.started, 1e-9)


def drop_lines_after(path: Path, step: int) -> None:
    """Remove from a `metrics.jsonl` later steps and a torn line, which will be written again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    write_atomically(path, "".join(kept))


def memory_mib(device: torch.device) -> dict[str, float]:
    """Return the peak memory of this process: resident, if known, and on its GPU."""
    found = {}
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        found["memory_mib"] = peak / 2**20
    if device.type == "cuda":
        found["gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found
