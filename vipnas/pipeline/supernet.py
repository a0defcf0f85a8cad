"""Train the supernet of a level."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vipnas.errors import UserError
from vipnas.pipeline.budget_range import budget_range, resolved_sampling
from vipnas.pipeline.level import Level, supernet_file
from vipnas.pipeline.step_seconds import MacsOfStep
from vipnas.pipeline.work import at_work, timed, train
from vipnas.training.callbacks.probes import probed_archs
from vipnas.training.loop import Backward, Callback
from vipnas.training.randomness import seed_process
from vipnas.training.sampling import SubnetSampler
from vipnas.training.step import supernet_backward

A = TypeVar("A")

log = logging.getLogger(__name__)


def train_supernet(
    level: Level[A],
    target: Path | None = None,
    more_settings: dict[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train the supernet.

    Args:
        level: The level of an experiment.
        target: The file of the averaged weights, by default `supernet/supernet.safetensors`.
        more_settings: Further settings that affect the training, from a caller that changed it.
        callbacks: Run after the usual ones.

    Returns:
        The file.
    """
    target = target or supernet_file(level)
    check_sampling(level)
    with at_work(level.experiment, target.parent):
        settings = {**_settings_of(level), **(more_settings or {})}
        if (near := budget_range(level)) is not None:
            print(f"supernet: {near}")
        if not level.folder.is_done(target, settings):
            if (shortage := level.space.shortage()) is not None:
                log.warning("%s: %s", level.space.name, shortage)
            _train(level, target, settings, callbacks)
    return target


def _settings_of(level: Level[Any]) -> dict[str, Any]:
    """Return all that the training of the supernet depends on."""
    near = budget_range(level)
    return {
        **level.settings(),
        **level.supernet_settings(),
        **({} if near is None else {"macs_between": list(near.macs)}),
    }


def check_trained(level: Level[Any]) -> None:
    """Raise UserError if the supernet is trained, but with other settings than those of today."""
    if (target := supernet_file(level)).exists():
        level.folder.was_made(target, _settings_of(level))


def _train(
    level: Level[A], target: Path, settings: dict[str, Any], callbacks: Sequence[Callback]
) -> None:
    experiment = level.experiment
    seed_process(experiment.config.seed)
    supernet = level.supernet(target.parent).to(experiment.device)
    backward = backward_of(level, supernet, len(level.training_data))
    with timed(target.parent, experiment.processes.is_first):
        trained = train(
            level,
            target.parent,
            supernet,
            level.supernet_config.schedule,
            backward,
            settings,
            probed_archs(
                level.space, experiment.config.seed, experiment.config.monitoring.random_probes
            ),
            "supernet",
            callbacks,
            macs_of_step=macs_of_step(level),
        )
        if experiment.processes.is_first:
            level.save_supernet(target, trained)
            level.draw(target.parent, trained, None)
    if experiment.processes.is_first:  # last: what is done has its seconds
        level.folder.mark_done(target, settings)
    print(f"supernet: trained; {target}")


def backward_of(level: Level[A], supernet: nn.Module, num_persons: int) -> Backward:
    """Return the training step of the supernet, for a number of persons or clips."""
    return supernet_backward(
        level.supernet_task(supernet),
        subnet_sampler(level, num_persons),
        level.supernet_config.distillation,
        level.experiment.processes.mean,
    )


def macs_of_step(level: Level[A]) -> MacsOfStep:
    """Return a function that counts the MACs of all subnets of a step."""
    sampler = subnet_sampler(level)
    return lambda step: sum(level.count_cost(arch).macs for arch in sampler.archs(step))


def check_sampling(level: Level[Any]) -> None:
    """Raise UserError if the supernet cannot be sampled, started or distilled as configured.

    Call it before the data are read, which may have to be synthesized.
    """
    subnet_sampler(level, num_persons=1)
    level.check_initial_supernet()
    loss = level.supernet_config.distillation.loss
    if loss != "labels" and "input_hw" in level.space.choices:
        hint = "heatmaps of different input sizes cannot be compared"
        place = f"{level.sections}supernet.distillation.loss"
        raise UserError(place, "labels, as input_hw is a choice", loss, hint)


def subnet_sampler(level: Level[A], num_persons: int | None = None) -> SubnetSampler[A]:
    """Return the sampler of subnets, for a number of persons (by default those of the level)."""
    config = level.supernet_config
    return SubnetSampler(
        level.space,
        level.sampler_seed,
        (num_persons or len(level.training_data)) / config.schedule.batch,
        level.count_cost,
        resolved_sampling(level),
        config.progressive_shrinking,
    )
