"""What every command of an experiment shares: a training that goes on where it was killed, results
that are not made twice, the time it took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.config.training import Schedule
from vipnas.data.crops.loader import KeyedBatches, training_batches
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.training.callbacks.keeping import BestNetwork, CheckpointFile
from vipnas.training.callbacks.monitor import Monitor
from vipnas.training.callbacks.probes import Probes
from vipnas.training.failure import FailureFile
from vipnas.training.loop import Backward, Batch, Callback, Training

Section = TypeVar("Section")


def train(
    experiment: Experiment,
    directory: Path,
    network: PoseNet,
    schedule: Schedule,
    backward: Backward,
    settings: dict[str, Any],
    probed: Mapping[str, Arch] | None = None,
    stage: str = "retrain",
    callbacks: Sequence[Callback] = (),
    same_every_step: bool = False,
) -> PoseNet:
    """Train from the checkpoint in `directory`, or from the start; returns the averaged network.

    `probed` are the members whose AP is followed, by name; by default the network itself. `stage`
    tells `vipnas.pipeline.replay` how to make the backward pass; `same_every_step` says whether it
    depends on the batch alone. `callbacks` run after the usual ones. Of several processes all
    get the same network; only the first writes and has callbacks.
    """
    crops = experiment.training_crops
    about = {"stage": stage, "experiment": json.dumps(to_plain(experiment.config))}
    failure = FailureFile(directory / "failure.pt", {**about, "train_persons": len(crops)})

    def monitor(training: Training, epoch_steps: int) -> Monitor:
        probes = _probes(experiment, schedule, probed or {"network": network.arch})
        measure = "mean training loss, negative" if probes is None else "mean AP of the probes"
        best = BestNetwork(directory / "best.pt", measure, training.step)
        return Monitor(directory, training, best, epoch_steps, probes)

    trained = run_training(
        experiment,
        directory,
        network,
        crops,
        schedule,
        backward,
        settings,
        monitor,
        about,
        callbacks,
        failure,
        same_every_step,
    )
    assert isinstance(trained, PoseNet)
    return trained


def run_training(
    experiment: Experiment,
    directory: Path,
    network: nn.Module,
    data: KeyedBatches[Batch],
    schedule: Schedule,
    backward: Backward,
    settings: dict[str, Any],
    monitor: Callable[[Training, int], Monitor],
    about: dict[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    failure: FailureFile | None = None,
    same_every_step: bool = False,
) -> nn.Module:
    """Train on people or on clips, from the checkpoint in `directory` or from the start; the
    averaged network, the same in all processes.

    `monitor(training, steps of an epoch)` is made by the first process alone, which writes and has
    `callbacks`. `about` is kept in the checkpoints.
    """
    config, processes = experiment.config, experiment.processes
    share = processes.share(schedule.batch_size)
    num_steps, epoch_steps = schedule.num_steps(len(data)), schedule.num_steps_of(1, len(data))
    training = Training(network, schedule, num_steps, config.compute, processes)
    checkpoint = CheckpointFile(
        directory / "checkpoint.pt",
        settings,
        config.checkpoint_minutes,
        epoch_steps,
        config.keep_checkpoints,
        about or {},
    )
    checkpoint.resume(training)
    with ExitStack() as stack:
        all_callbacks: list[Callback] = []
        if processes.is_first:
            shown = stack.enter_context(monitor(training, epoch_steps))
            all_callbacks = [shown, checkpoint, *callbacks]
        training.run(
            lambda first, count: training_batches(
                data, schedule.batch_size, first, count, config.data.num_workers, share
            ),
            backward,
            all_callbacks,
            failure,
            same_every_step,
        )
    return training.averaged


def _probes(experiment: Experiment, schedule: Schedule, archs: Mapping[str, Arch]) -> Probes | None:
    config = experiment.config.monitoring
    if config.probe_epochs is None:
        return None

    def evaluator() -> Evaluator:
        return experiment.evaluator("val", config.probe_persons)

    def calibration_images() -> Tensor:
        return experiment.calibration_images[: config.probe_persons]

    every_steps = schedule.num_steps_of(config.probe_epochs, len(experiment.training_crops))
    return Probes(dict(archs), every_steps, evaluator, calibration_images)


def needed(section: Section | None, name: str) -> Section:
    if section is None:
        raise ValueError(f"the experiment has no section {name}, which this command needs")
    return section


@contextmanager
def at_work(experiment: Experiment, stage: Path) -> Iterator[None]:
    """Lock the folder of a stage; of several processes of one training the first does."""
    if not experiment.processes.is_first:
        yield
        return
    with experiment.folder.lock(stage):
        yield


@contextmanager
def timed(directory: Path, writes: bool = True) -> Iterator[None]:
    """Add the seconds spent inside to `seconds.json`; a part that was killed is not counted. Of
    several processes only one `writes`."""
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
