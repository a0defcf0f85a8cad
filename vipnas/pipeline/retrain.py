"""Train one architecture of a level by itself, and measure it on the test split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from torch import nn

from vipnas.files import read_json, write_atomically
from vipnas.pipeline.level import Level, network_file
from vipnas.pipeline.work import is_done, mark_done, timed, train
from vipnas.training.loop import Backward, Callback
from vipnas.training.randomness import seed_process
from vipnas.training.step import network_backward

A = TypeVar("A")


def retrain(
    level: Level[A],
    arch_file: Path,
    init_from: Path | None = None,
    directory: Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train one architecture by itself, and measure it.

    `metrics.json` beside the network holds its test metrics, with the settings that they were
    measured with: with others they are re-measured.

    Args:
        arch_file: The architecture, in the level's space.
        init_from: Weights to start from; None leaves it to the experiment's `init_from`.
        directory: Where to keep the results, by default `retrain`.
        callbacks: Run after the usual ones.
    """
    experiment, arch = level.experiment, level.read_arch(arch_file)
    init_from = level.initial_weights(init_from)
    target = network_file(level)
    if directory is not None:
        target = directory / target.name
    settings = {**level.settings(), **level.retrain_settings(arch, init_from)}
    if not is_done(target, settings):
        seed_process(experiment.config.seed)
        network = level.network(arch, init_from).to(experiment.device)
        with timed(target.parent, experiment.processes.is_first):
            trained = train(
                level,
                target.parent,
                network,
                level.retrain_schedule,
                backward_of(level, network, arch),
                settings,
                {"network": arch},
                callbacks=callbacks,
                same_every_step=level.network_step_is_static,
            )
            if experiment.processes.is_first:
                target.with_name("metrics.json").unlink(missing_ok=True)  # of an earlier network
                level.save_network(target, trained, arch)
                mark_done(target, settings)
    if experiment.processes.is_first:
        _measure(level, target)
    return target


def backward_of(level: Level[A], network: nn.Module, arch: A) -> Backward:
    """Return the step of a network by itself."""
    return network_backward(*level.network_task(network, arch))


def _measure(level: Level[A], target: Path) -> None:
    """Measure on the test split, unless it was measured with the same settings before."""
    metrics_file = target.with_name("metrics.json")
    scoring = level.experiment.scoring_settings() | level.scoring_settings()
    if not metrics_file.exists() or read_json(metrics_file).get("settings") != scoring:
        figures = {**level.test_metrics(target), "settings": scoring}
        write_atomically(metrics_file, json.dumps(figures, indent=2) + "\n")
