"""What watches a training of either level: its log, its best network, its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from vipnas.training.callbacks.keeping import BestNetwork, CheckpointFile, EarlyStop
from vipnas.training.callbacks.monitor import Monitor
from vipnas.training.callbacks.probes import Probes
from vipnas.training.loop import Callback, Training
from vipnas.training.step_time import SlowSteps

if TYPE_CHECKING:
    from vipnas.pipeline.level import Level

A = TypeVar("A")

BEST_FILE = "best.safetensors"


@contextmanager
def watched(
    level: Level[A],
    training: Training,
    checkpoint: CheckpointFile,
    probes: Probes[A] | None,
    arch: A | None,
    patience: int | None,
) -> Iterator[list[Callback]]:
    """Yield the callbacks of the first process; the others have none.

    Args:
        level: The level of the training.
        training: The training, as its checkpoint left it.
        checkpoint: Its checkpoint, in the folder where everything is written.
        probes: Measure AP on the way.
        arch: The architecture that is trained; None for a supernet.
        patience: Stop after so many probes without a better AP.
    """
    if not training.processes.is_first:
        yield []
        return
    directory = checkpoint.path.parent
    measure = "mean training loss, negative" if probes is None else "mean AP of the probes"
    save = partial(level.save_best, arch=arch)
    best = BestNetwork(directory / BEST_FILE, measure, training.step, save)
    epoch_steps = training.schedule.num_steps_of(1, len(level.training_data))
    loggers = level.experiment.config.monitoring.loggers
    with Monitor(directory, training, best, epoch_steps, probes, loggers) as monitor:
        early = _early_stop(monitor, patience)
        for one in early:
            one.check(training)
        yield [SlowSteps(directory.name), monitor, checkpoint, *early]


def _early_stop(monitor: Monitor, patience: int | None) -> list[EarlyStop]:
    if patience is None or monitor.best is None or monitor.probes is None:
        return []
    return [EarlyStop(monitor.best, monitor.probes.every_steps, patience)]
