"""Code that the stages of an experiment share: training that resumes, locks, durations."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from vipnas.config.schedule import Schedule
from vipnas.data.crops.loader import Batch, training_batches
from vipnas.errors import UserError
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.file import read_network
from vipnas.pipeline.hours import Repeated, TimedStep, choose_epochs, kept_schedule
from vipnas.pipeline.precision import keep_precision
from vipnas.pipeline.step_seconds import MacsOfStep
from vipnas.pipeline.watch import BEST_FILE, watched
from vipnas.threads import Timed, choose_threads, most_threads
from vipnas.training.callbacks.keeping import CheckpointFile
from vipnas.training.callbacks.probes import Probes
from vipnas.training.failure import FailureFile
from vipnas.training.loop import Backward, Callback, Training
from vipnas.training.step_time import time_step, undone
from vipnas.viz.curves import draw_curves
from vipnas.viz.sheets import crop_sheet

if TYPE_CHECKING:
    from vipnas.pipeline.experiment import Experiment
    from vipnas.pipeline.level import Level

A = TypeVar("A")
Section = TypeVar("Section")

log = logging.getLogger(__name__)

# Crops on the picture of a training's first batch.
MAX_CROPS = 24


def train(
    level: Level[A],
    directory: Path,
    network: nn.Module,
    schedule: Schedule,
    backward: Backward,
    settings: dict[str, Any],
    probed: Mapping[str, A],
    stage: str = "retrain",
    callbacks: Sequence[Callback] = (),
    same_every_step: bool = False,
    patience: int | None = None,
    macs_of_step: MacsOfStep | None = None,
) -> nn.Module:
    """Train from the checkpoint in `directory`, or from the start.

    Args:
        probed: The subnets whose AP is monitored, by name.
        stage: Tells `vipnas.pipeline.replay` how to make the backward pass.
        callbacks: Run after the usual ones.
        same_every_step: The backward pass depends on the batch alone.
        patience: Stop after so many probes without a better AP.
        macs_of_step: The MACs of all subnets of a step; None where steps cost the same.

    Returns:
        The averaged network, that of the best probe if it was stopped. Of several processes all
        get the same one; only the first writes and has callbacks.
    """
    started = time.monotonic()
    schedule = kept_schedule(schedule, directory)
    experiment, data = level.experiment, level.training_data
    checkpoint, failure = _files(level, directory, schedule, settings, stage, probed)
    training = _begun(level, network, schedule, checkpoint)
    share = training.processes.share(schedule.batch)
    batches = partial(training_batches, data, schedule.batch, share=share)
    _set_threads(experiment, directory.name, training, backward, batches, checkpoint)
    loaded = partial(batches, num_workers=experiment.config.data.num_workers)
    probes = _probes(level, schedule, probed)
    if schedule.hours is not None:
        seconds_left = partial(_seconds_until, started + 3600 * schedule.hours)
        step = TimedStep(loaded, backward, same_every_step, macs_of_step)
        pauses = _repeated(training, probes, checkpoint)
        choose_epochs(training, len(data), directory, seconds_left, step, pauses)
    with watched(level, training, checkpoint, probes, probed.get("network"), patience) as watching:
        if training.processes.is_first:
            watching += callbacks
            _draw_crops(directory / "crops.png", experiment, next(batches(0, 1)))
        if not training.stopped:
            training.run(loaded, backward, watching, failure, same_every_step)
    return _finished(training, directory)


def _begun(
    level: Level[A], network: nn.Module, schedule: Schedule, checkpoint: CheckpointFile
) -> Training:
    """Return a training as its checkpoint left it, or before its first step."""
    experiment = level.experiment
    num_steps = 1 if schedule.epochs is None else schedule.num_steps(len(level.training_data))
    compute, processes = experiment.config.compute, experiment.processes
    training = Training(network, schedule, num_steps, compute, processes)
    checkpoint.resume(training)
    if processes.is_first:
        _keep_precision(experiment, checkpoint.path.parent.name)
    return training


def _seconds_until(moment: float) -> float:
    return moment - time.monotonic()


def _repeated(
    training: Training, probes: Probes[A] | None, checkpoint: CheckpointFile
) -> list[Repeated]:
    """Return what a training does between its steps, without its results."""
    if not training.processes.is_first:
        return []
    aside = replace(checkpoint, path=checkpoint.path.with_name(".timed.pt"), keep_last=1)

    def save() -> None:
        aside.save(training)
        aside.path.unlink()

    saved = [] if checkpoint.every_steps is None else [Repeated(save, checkpoint.every_steps)]
    if probes is None:
        return saved
    return [*saved, Repeated(lambda: probes(training.averaged), probes.every_steps)]


def _finished(training: Training, directory: Path) -> nn.Module:
    """Draw the curves; return the averaged network, or the best one after an early stop."""
    if training.processes.is_first:
        draw_curves(directory / "curves.png", directory / "metrics.jsonl")
    if training.stopped:
        best, _ = read_network(directory / BEST_FILE)
        training.averaged.load_state_dict(best.state_dict())
    return training.averaged


def _draw_crops(path: Path, experiment: Experiment, first_batch: Batch) -> None:
    """Draw crops of the first step, to be looked at before the training ends; frames for clips."""
    images, keypoints = first_batch[0].flatten(0, -4).numpy(), first_batch[1].flatten(0, -3).numpy()
    crop_sheet(path, images[:MAX_CROPS], keypoints[:MAX_CROPS], experiment.skeleton)


def _files(
    level: Level[A],
    directory: Path,
    schedule: Schedule,
    settings: dict[str, Any],
    stage: str,
    probed: Mapping[str, A],
) -> tuple[CheckpointFile, FailureFile]:
    """Return what a training resumes from, and what it leaves where a step is not finite."""
    config, num_persons = level.experiment.config, len(level.training_data)
    plain = to_plain(replace(config, compute=level.experiment.compute))
    if level.name == "image":  # its batch size may be `auto`
        plain[stage]["schedule"] = to_plain(schedule)
    about = {"stage": stage, "level": level.name, "experiment": json.dumps(plain)}
    checkpoint = CheckpointFile(
        directory / "checkpoint.pt",
        settings,
        config.checkpoint_minutes,
        schedule.num_steps_of(1, num_persons),
        config.keep_checkpoints,
        about,
    )
    trained = {"arch": to_json(probed.get("network")), "train_persons": num_persons}
    failure = FailureFile(directory / "failure.pt", {**about, **trained, **level.replay_state()})
    return checkpoint, failure


def to_json(arch: Any | None) -> str | None:
    """Return an architecture of either level as JSON; None for the supernet's own."""
    return None if arch is None else str(arch.to_json())


def _keep_precision(experiment: Experiment, name: str) -> None:
    """Write the precision of the run where it is chosen; print that of a GPU."""
    if experiment.config.compute.precision == "auto":
        keep_precision(experiment.compute, experiment.output)
    if experiment.device.type == "cuda":
        gpu = torch.cuda.get_device_name(experiment.device)
        print(f"{name}: {experiment.compute.precision} on {gpu}")


def _set_threads(
    experiment: Experiment,
    name: str,
    training: Training,
    backward: Backward,
    batches: Callable[[int, int], Iterator[Batch]],
    checkpoint: CheckpointFile,
) -> None:
    """Set PyTorch's number of threads for the rest of the stage; the checkpoint keeps it.

    Steps are timed where they run on the CPU of one process, as they are.
    """
    compute, processes = experiment.config.compute, experiment.processes

    def timed() -> Timed:
        with undone(training.network):
            training.network.train()
            (batch,) = batches(training.step, 1)
            return time_step(lambda: backward(training.step, batch), most)

    can_time = (
        training.device.type == "cpu"
        and processes.number == 1
        and not compute.compile
        and training.step < training.num_steps
    )
    most = most_threads(os.environ)
    threads = choose_threads(checkpoint.threads, compute.threads, most, timed if can_time else None)
    torch.set_num_threads(threads.number)
    if processes.is_first:
        print(f"{name}: {threads}", flush=True)
        if threads.number > most:
            log.warning("%s: the process may use %d cores only", name, most)
    checkpoint.threads = threads.number


def _probes(level: Level[A], schedule: Schedule, archs: Mapping[str, A]) -> Probes[A] | None:
    config = level.experiment.config.monitoring
    if config.probe_epochs is None:
        return None
    every_steps = schedule.num_steps_of(config.probe_epochs, len(level.training_data))
    return Probes(dict(archs), every_steps, partial(level.scorer, num_persons=config.probe_persons))


def needed(experiment: Experiment, section: Section | None, name: str) -> Section:
    """Return a section; raise UserError with the experiment's file if there is none."""
    if section is None:
        place = name if experiment.file is None else f"{experiment.file}: {name}"
        raise UserError(place, "a section of the experiment, for this command", "none")
    return section


@contextmanager
def at_work(experiment: Experiment, stage: Path) -> Iterator[None]:
    """Lock the folder of a stage; of several processes of a training, only the first does."""
    if not experiment.processes.is_first:
        yield
        return
    with experiment.folder.lock(stage):
        yield


@contextmanager
def timed(directory: Path, writes: bool = True) -> Iterator[None]:
    """Add the seconds spent inside to `seconds.json`; a run that was killed is not counted.

    Of several processes, only one `writes`.
    """
    if not writes:
        yield
        return
    started = time.monotonic()
    try:
        yield
    finally:
        path = directory / "seconds.json"
        before = read_json(path) if path.exists() else 0.0
        write_atomically(path, json.dumps(round(before + time.monotonic() - started, 1)) + "\n")
