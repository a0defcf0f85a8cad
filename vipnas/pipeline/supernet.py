"""Train the supernet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vipnas.files import to_plain
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.work import at_work, needed, timed, train
from vipnas.training.callbacks.probes import probed_archs
from vipnas.training.checkpoint import save_network
from vipnas.training.compute import make_forward
from vipnas.training.loop import Backward
from vipnas.training.randomness import seed_process
from vipnas.training.sampling import SubnetSampler
from vipnas.training.step import supernet_backward


def supernet_file(experiment: Experiment) -> Path:
    return experiment.folder.supernet / "supernet.pt"


def existing_supernet(experiment: Experiment) -> Path:
    """Raises ValueError where the supernet is not trained yet."""
    file = supernet_file(experiment)
    if not file.exists():
        raise ValueError(f"{file}: no supernet; run `vipnas train-supernet` first")
    return file


def train_supernet(
    experiment: Experiment, target: Path | None = None, more_settings: dict[str, Any] | None = None
) -> Path:
    """Train the supernet; `target`, by default `supernet/supernet.pt`, holds its averaged weights.

    `more_settings` is what else the training depends on, where the caller changed it.
    """
    target = target or supernet_file(experiment)
    config = needed(experiment.config.supernet, "supernet")
    check_sampling(experiment)
    with at_work(experiment, target.parent):
        settings = {
            **experiment.training_settings(),
            "supernet": to_plain(config),
            **(more_settings or {}),
        }
        if not experiment.folder.is_done(target, settings):
            _train(experiment, target, settings)
    return target


def _train(experiment: Experiment, target: Path, settings: dict[str, Any]) -> None:
    config = needed(experiment.config.supernet, "supernet")
    seed_process(experiment.config.seed)
    supernet = PoseNet(experiment.space.max_arch()).to(experiment.device)
    backward = backward_of(experiment, supernet, len(experiment.train_data.persons))
    with timed(target.parent, experiment.processes.is_first):
        trained = train(
            experiment,
            target.parent,
            supernet,
            config.schedule,
            backward,
            settings,
            probed_archs(
                experiment.space,
                experiment.config.seed,
                experiment.config.monitoring.random_probes,
            ),
            "supernet",
        )
        if experiment.processes.is_first:
            save_network(target, trained)
            experiment.folder.mark_done(target, settings)
    print(f"supernet: trained; {target}")


def backward_of(experiment: Experiment, supernet: PoseNet, num_persons: int) -> Backward:
    """What a step of the supernet does, on a training set of so many people."""
    config, processes = needed(experiment.config.supernet, "supernet"), experiment.processes
    return supernet_backward(
        make_forward(supernet, experiment.config.compute, processes),
        subnet_sampler(experiment, num_persons),
        experiment.codec,
        config.distillation,
        processes.mean,
    )


def check_sampling(experiment: Experiment) -> None:
    """Raises ValueError where the experiment has no supernet, or none that can be sampled as it
    says: before the data are read, which may have to be drawn."""
    subnet_sampler(experiment, num_persons=1)


def subnet_sampler(experiment: Experiment, num_persons: int | None = None) -> SubnetSampler:
    """Who trains in which step, as the experiment says, on so many people (by default its own)."""
    config = needed(experiment.config.supernet, "supernet")
    return SubnetSampler(
        experiment.space,
        experiment.config.seed,
        (num_persons or len(experiment.train_data.persons)) / config.schedule.batch_size,
        count_cost,
        config.sampling,
        config.progressive_shrinking,
    )
