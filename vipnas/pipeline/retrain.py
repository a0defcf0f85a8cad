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
from vipnas.files import digest, read_json, to_plain, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.supernet import existing_supernet
from vipnas.pipeline.work import is_done, timed, train
from vipnas.training.checkpoint import inherit, load_network, save_network
from vipnas.training.compute import make_forward
from vipnas.training.loop import Backward, Callback
from vipnas.training.randomness import seed_process
from vipnas.training.step import retrain_backward


def network_file(experiment: Experiment) -> Path:
    return experiment.output / "retrain" / "network.pt"


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
    config, arch = experiment.config.retrain, read_arch_of_space(experiment, arch_file)
    init_from = initial_weights(experiment, init_from)
    target = network_file(experiment)
    if directory is not None:
        target = directory / target.name
    settings = {
        **experiment.training_settings(),
        "retrain": to_plain(config),
        "arch": to_plain(arch),
        "init_from": digest_of(init_from),
        "calibration_batch_size": experiment.config.evaluation_batch_size,
    }
    if not is_done(target, settings):
        seed_process(experiment.config.seed)
        network = PoseNet(arch) if init_from is None else inherit(init_from, arch)
        network = network.to(experiment.device)
        backward = backward_of(experiment, network)
        with timed(target.parent, experiment.processes.is_first):
            trained = train(
                experiment,
                target.parent,
                network,
                config.schedule,
                backward,
                settings,
                callbacks=callbacks,
                same_every_step=True,
            )
            if experiment.processes.is_first:
                _keep(experiment, target, trained, settings)
    if experiment.processes.is_first:
        _measure(experiment, target, arch)
    return target


def read_arch_of_space(experiment: Experiment, arch_file: Path) -> Arch:
    """The arch of a file; raises ValueError unless it is of the experiment's space."""
    arch = read_arch(arch_file)
    experiment.space.check_arch(arch, str(arch_file))
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
    save_network(target, trained, settings=json.dumps(settings, sort_keys=True))


def _measure(experiment: Experiment, target: Path, arch: Arch) -> None:
    """On the test set, unless it was measured with the same settings before."""
    metrics_file, scoring = target.with_name("metrics.json"), experiment.scoring_settings()
    if not metrics_file.exists() or read_json(metrics_file).get("settings") != scoring:
        network = load_network(target, arch).to(experiment.device)
        metrics = experiment.evaluator("test")(network)
        figures = {**to_plain(metrics), "settings": scoring}
        write_atomically(metrics_file, json.dumps(figures, indent=2) + "\n")
        print(f"retrain: {metrics} on the test set; {target}")


def digest_of(path: Path | None) -> str | None:
    return None if path is None else digest(path)


def read_metrics(path: Path) -> Metrics:
    """The figures of a `metrics.json`, without the settings they were measured with."""
    figures = read_json(path)
    return Metrics(**{field.name: figures[field.name] for field in fields(Metrics)})
