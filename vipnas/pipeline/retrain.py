"""Train one architecture by itself, and measure it on the test set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.metrics import Metrics
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.search import check_budgets, cost_of_images
from vipnas.pipeline.supernet import existing_supernet
from vipnas.pipeline.work import at_work, timed, train
from vipnas.settings import content_digest, difference_in_words
from vipnas.training.checkpoint import inherit, load_network, save_network
from vipnas.training.compute import make_forward
from vipnas.training.loop import Backward, Callback
from vipnas.training.randomness import seed_process
from vipnas.training.step import retrain_backward


def network_file(experiment: Experiment) -> Path:
    return experiment.folder.retrain / "network.pt"


def retrain(
    experiment: Experiment,
    arch_file: Path,
    init_from: Path | None = None,
    directory: Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train one arch by itself; `retrain/network.pt` holds it, `retrain/metrics.json` its test AP,
    with the settings that it was measured with: with others it is measured anew. `directory` may be
    another than `retrain`, `callbacks` look on besides the usual ones.

    `init_from` is a file of weights: of a supernet that holds the arch, or of this very arch. None
    leaves it to the experiment's `init_from`.
    """
    arch = read_arch_of_space(experiment, arch_file)
    init_from = initial_weights(experiment, init_from)
    target = network_file(experiment)
    if directory is not None:
        target = directory / target.name
    with at_work(experiment, target.parent):
        settings = {
            **experiment.training_settings(),
            "retrain": to_plain(experiment.config.retrain),
            "arch": to_plain(arch, defaults=False),
            "init_from": digest_of(init_from),
            "calibration_batch_size": experiment.config.evaluation_batch_size,
        }
        if not experiment.folder.is_done(target, settings):
            _train(experiment, arch, init_from, target, settings, callbacks)
        if experiment.processes.is_first:
            _measure(experiment, target, arch)
    return target


def _train(
    experiment: Experiment,
    arch: Arch,
    init_from: Path | None,
    target: Path,
    settings: dict[str, Any],
    callbacks: Sequence[Callback],
) -> None:
    seed_process(experiment.config.seed)
    network = PoseNet(arch) if init_from is None else inherit(init_from, arch)
    network = network.to(experiment.device)
    with timed(target.parent, experiment.processes.is_first):
        trained = train(
            experiment,
            target.parent,
            network,
            experiment.config.retrain.schedule,
            backward_of(experiment, network),
            settings,
            callbacks=callbacks,
            same_every_step=True,
        )
        if experiment.processes.is_first:
            _keep(experiment, target, trained, settings)


def read_arch_of_space(experiment: Experiment, arch_file: Path) -> Arch:
    """Return the arch of a file; raise ValueError unless it is of the experiment's space and within
    the budgets of its search."""
    arch, config = read_arch(arch_file), experiment.config.search
    experiment.space.check_arch(arch, str(arch_file))
    if config is not None and config.constraints:
        cost_of, _ = cost_of_images(config, experiment.space)
        check_budgets(config, cost_of(arch), str(arch_file))
    return arch


def initial_weights(experiment: Experiment, init_from: Path | None) -> Path | None:
    """The file that training starts from, None for none; raises ValueError where it is missing."""
    if init_from is None and experiment.config.retrain.init_from == "supernet":
        return existing_supernet(experiment)
    if init_from is not None and not init_from.is_file():
        raise ValueError(f"{init_from}: no such checkpoint")
    return init_from


def backward_of(experiment: Experiment, network: PoseNet) -> Backward:
    """What a step does."""
    forward = make_forward(network, experiment.config.compute, experiment.processes)
    return retrain_backward(forward, experiment.codec)


def _keep(experiment: Experiment, target: Path, trained: PoseNet, settings: dict[str, Any]) -> None:
    if experiment.config.retrain.schedule.average_decay > 0:
        # The running statistics are of the last weights, not of the averaged ones.
        batch_size = experiment.config.evaluation_batch_size
        calibrate_bn(trained, experiment.calibration_images, batch_size)
    target.with_name("metrics.json").unlink(missing_ok=True)  # of an earlier network
    save_network(target, trained)
    experiment.folder.mark_done(target, settings)


def _measure(experiment: Experiment, target: Path, arch: Arch) -> None:
    """Measure on the test set, unless that was done with the same settings before."""
    metrics_file, scoring = target.with_name("metrics.json"), experiment.scoring_settings()
    if not is_measured(metrics_file, scoring):
        network = load_network(target, arch).to(experiment.device)
        metrics = experiment.evaluator("test")(network)
        figures = {**to_plain(metrics), "settings": scoring}
        write_atomically(metrics_file, json.dumps(figures, indent=2) + "\n")
        print(f"retrain: {metrics} on the test set; {target}")


def is_measured(metrics_file: Path, scoring: dict[str, Any]) -> bool:
    """Return whether metrics were measured with these settings; print what differs."""
    if not metrics_file.exists():
        return False
    found = read_json(metrics_file).get("settings", {})
    difference = difference_in_words(found, scoring, metrics_file)
    if difference is not None:
        print(f"{metrics_file.parent.name}: {difference}; measuring again")
    return difference is None


def digest_of(path: Path | None) -> str | None:
    return None if path is None else content_digest(path)


def read_metrics(path: Path) -> Metrics:
    """The figures of a `metrics.json`, without the settings they were measured with."""
    figures = read_json(path)
    return Metrics(**{field.name: figures[field.name] for field in fields(Metrics)})
