"""Train one architecture of a level by itself, and measure it on the test split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vipnas.errors import UserError
from vipnas.files import read_json, write_atomically
from vipnas.pipeline.level import Level, network_file
from vipnas.pipeline.work import at_work, timed, train
from vipnas.settings import first_setting
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
    arch = read_within_budgets(level, arch_file)
    init_from = level.initial_weights(init_from)
    level = level.at(arch)
    target = network_file(level)
    if directory is not None:
        target = directory / target.name
    with at_work(level.experiment, target.parent):
        settings = {**level.settings(), **level.retrain_settings(arch, init_from)}
        if not level.folder.is_done(target, settings):
            _train(level, arch, init_from, target, settings, callbacks)
        if level.experiment.processes.is_first:
            _measure(level, target)
    return target


def _train(
    level: Level[A],
    arch: A,
    init_from: Path | None,
    target: Path,
    settings: dict[str, Any],
    callbacks: Sequence[Callback],
) -> None:
    experiment = level.experiment
    seed_process(experiment.config.seed)
    network = level.network(arch, init_from, target.parent).to(experiment.device)
    with timed(target.parent, experiment.processes.is_first):
        trained = network
        if list(network.parameters()):  # a clip whose follow-up frames run no network has none
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
                patience=level.patience,
            )
        if experiment.processes.is_first:
            target.with_name("metrics.json").unlink(missing_ok=True)  # of an earlier network
            level.save_network(target, trained, arch)
            level.draw(target.parent, trained, arch)
    if experiment.processes.is_first:  # last: what is done has its seconds
        level.folder.mark_done(target, settings)


def read_within_budgets(level: Level[A], arch_file: Path) -> A:
    """Read an architecture; raise UserError outside of the space or the current budgets."""
    arch = level.read_arch(arch_file)
    if level.budgets:
        cost_of, _ = level.cost_of()
        cost = cost_of(arch)
        for limit in level.budgets:
            if limit.excess(cost):
                found = limit.format(limit.value(cost))
                hint = "search within the budgets of the experiment, or change these"
                raise UserError(str(arch_file), str(limit), found, hint)
    return arch


def backward_of(level: Level[A], network: nn.Module, arch: A) -> Backward:
    """Return the step of a network by itself."""
    return network_backward(*level.network_task(network, arch))


def _measure(level: Level[A], target: Path) -> None:
    """Measure on the test split, unless it was measured with the same settings before."""
    metrics_file = target.with_name("metrics.json")
    scoring = level.experiment.scoring_settings() | level.scoring_settings()
    if not _is_measured(metrics_file, scoring):
        with level.folder.replacing(target) as other:
            level.choose_key_frames(target, other)
        metrics = {
            **level.test_metrics(target),
            "settings": scoring,
            "threads": torch.get_num_threads(),
        }
        write_atomically(metrics_file, json.dumps(metrics, indent=2) + "\n")


def _is_measured(metrics_file: Path, scoring: dict[str, Any]) -> bool:
    """Return whether metrics were measured with these settings; print what differs."""
    if not metrics_file.exists():
        return False
    found = read_json(metrics_file).get("settings", {})
    difference = first_setting(found, scoring, metrics_file)
    if difference is not None:
        print(f"{metrics_file.parent.name}: {difference}; measuring again")
    return difference is None
