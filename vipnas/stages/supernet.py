"""Train the supernet."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vipnas.experiment import Experiment
from vipnas.files import to_plain
from vipnas.models.posenet import PoseNet
from vipnas.stages.work import is_done, needed, timed, train
from vipnas.training.checkpoint import save_network
from vipnas.training.supernet import supernet_backward


def supernet_file(experiment: Experiment) -> Path:
    return experiment.output / "supernet" / "supernet.pt"


def train_supernet(experiment: Experiment) -> Path:
    """Train the supernet; `supernet/supernet.pt` holds its averaged weights."""
    target = supernet_file(experiment)
    config = needed(experiment.config.supernet, "supernet")
    settings = {**experiment.training_settings(), "supernet": to_plain(config)}
    if is_done(target, settings):
        return target
    torch.manual_seed(experiment.config.seed)
    supernet = PoseNet(experiment.space.max_arch()).to(experiment.device)
    backward = supernet_backward(
        supernet, experiment.space, experiment.codec, experiment.config.seed, config.num_random
    )
    with timed(target.parent):
        trained = train(experiment, target.parent, supernet, config.schedule, backward, settings)
        save_network(target, trained, settings=json.dumps(settings, sort_keys=True))
    print(f"supernet: trained; {target}")
    return target
