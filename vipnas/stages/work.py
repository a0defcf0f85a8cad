"""What every command of an experiment shares: a training that goes on where it was killed, results
that are not made twice, the time it took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vipnas.data.loader import training_batches
from vipnas.experiment import Experiment
from vipnas.files import read_json, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.training.checkpoint import load_checkpoint
from vipnas.training.loop import Backward, CheckpointFile, Schedule, Training, check_settings
from vipnas.training.monitor import Monitor

Section = TypeVar("Section")


def train(
    experiment: Experiment,
    directory: Path,
    network: PoseNet,
    schedule: Schedule,
    backward: Backward,
    settings: dict[str, Any],
) -> PoseNet:
    """Train from the checkpoint in `directory`, or from the start; returns the averaged network."""
    crops = experiment.training_crops
    num_steps = schedule.num_steps(len(crops))
    training = Training(network, schedule, num_steps)
    minutes = experiment.config.checkpoint_minutes
    checkpoint = CheckpointFile(directory / "checkpoint.pt", settings, minutes)
    checkpoint.resume(training)
    workers = experiment.config.data.num_workers
    with Monitor(directory.name, directory, training.step, num_steps) as monitor:
        training.run(
            lambda first, count: training_batches(
                crops, schedule.batch_size, first, count, workers
            ),
            backward,
            checkpoint,
            monitor,
        )
    return training.averaged


def is_done(target: Path, settings: dict[str, Any]) -> bool:
    """Whether the result is there; raises ValueError if it was made with other settings."""
    if not target.exists():
        return False
    found = json.loads(load_checkpoint(target)["found"]["settings"])
    check_settings(found, settings, target)
    print(f"{target.parent.name}: done already; {target}")
    return True


def needed(section: Section | None, name: str) -> Section:
    if section is None:
        raise ValueError(f"the experiment has no section {name}, which this command needs")
    return section


@contextmanager
def timed(directory: Path) -> Iterator[None]:
    """Add the seconds spent inside to `seconds.json`; a part that was killed is not counted."""
    started = time.monotonic()
    try:
        yield
    finally:
        path = directory / "seconds.json"
        before = read_json(path) if path.exists() else 0.0
        write_atomically(path, json.dumps(round(before + time.monotonic() - started, 1)) + "\n")
