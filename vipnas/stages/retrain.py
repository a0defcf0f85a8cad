"""Train one architecture by itself, and measure it on the test set."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vipnas.arch import read_arch
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.experiment import Experiment, digest
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.posenet import PoseNet
from vipnas.results import Metrics
from vipnas.stages.supernet import supernet_file
from vipnas.stages.work import is_done, timed, train
from vipnas.training.checkpoint import inherit, load_network, save_network
from vipnas.training.retrain import retrain_backward


def retrain(experiment: Experiment, arch_file: Path, init_from: Path | None = None) -> Path:
    """Train one arch by itself; `retrain/network.pt` holds it, `retrain/metrics.json` its test AP.

    `init_from` is a file of weights: of a supernet that holds the arch, or of this very arch. None
    leaves it to the experiment's `init_from`.
    """
    arch = read_arch(arch_file)
    experiment.space.check_member(arch, str(arch_file))
    config = experiment.config.retrain
    if init_from is None and config.init_from == "supernet":
        init_from = supernet_file(experiment)
    target = experiment.output / "retrain" / "network.pt"
    settings = {
        **experiment.training_settings(),
        "retrain": to_plain(config),
        "arch": to_plain(arch),
        "init_from": digest_of(init_from),
        "calibration_batch_size": experiment.config.evaluation_batch_size,
    }
    if not is_done(target, settings):
        torch.manual_seed(experiment.config.seed)
        network = PoseNet(arch) if init_from is None else inherit(init_from, arch)
        network = network.to(experiment.device)
        backward = retrain_backward(network, experiment.codec)
        with timed(target.parent):
            trained = train(experiment, target.parent, network, config.schedule, backward, settings)
            if config.schedule.average_decay > 0:
                # The running statistics are of the last weights, not of the averaged ones.
                batch_size = experiment.config.evaluation_batch_size
                calibrate_bn(trained, experiment.calibration_images, batch_size)
            target.with_name("metrics.json").unlink(missing_ok=True)  # of an earlier network
            save_network(target, trained, settings=json.dumps(settings, sort_keys=True))
    metrics_file = target.with_name("metrics.json")
    if not metrics_file.exists():
        network = load_network(target, arch).to(experiment.device)
        metrics = experiment.evaluator("test")(network)
        write_atomically(metrics_file, json.dumps(to_plain(metrics), indent=2) + "\n")
        print(f"retrain: {metrics} on the test set; {target}")
    return target


def digest_of(path: Path | None) -> str | None:
    return None if path is None else digest(path)


def read_metrics(path: Path) -> Metrics:
    return Metrics(**read_json(path))
