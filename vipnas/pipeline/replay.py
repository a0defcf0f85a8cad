"""A training step that failed, computed again from its file."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from vipnas.arch.io import arch_from_json
from vipnas.config.experiment import ExperimentConfig
from vipnas.files import parse
from vipnas.models.posenet import PoseNet
from vipnas.pipeline import retrain, supernet
from vipnas.pipeline.experiment import Experiment
from vipnas.training.checkpoint import load_checkpoint, load_strictly
from vipnas.training.failure import Diagnosis, Taken, diagnose


def replay(path: Path, device: torch.device) -> tuple[int, Diagnosis]:
    """The number of the step in a `failure.pt` and what it gives here: losses, archs, the first
    that is not finite. Needs no data.

    One process computes the joint batch of all. Raises ValueError for a file that is no failure.
    """
    content = load_checkpoint(path)
    needed = {"arch", "network", "step", "images", "keypoints", "stage", "experiment"}
    if missing := sorted(needed - content.keys()):
        raise ValueError(f"{path}: {', '.join(missing)} missing: not the file of a failed step")
    config = parse(ExperimentConfig, json.loads(content["experiment"]), str(path))
    experiment = Experiment(config, path.parent, Path(), device)
    network = PoseNet(arch_from_json(content["arch"], str(path)), initialise=False)
    load_strictly(network, content["network"], path)
    network = network.to(device).train()
    if content["stage"] == "supernet":
        backward = supernet.backward_of(experiment, network, content["train_persons"])
    else:
        backward = retrain.backward_of(experiment, network)
    batch = (content["images"].to(device), content["keypoints"].to(device))
    return content["step"], diagnose(network, backward, Taken(content["step"], batch))
