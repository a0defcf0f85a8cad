"""A training step that failed, computed again from its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vipnas.arch.io import arch_from_json
from vipnas.config.experiment import ExperimentConfig
from vipnas.files import parse
from vipnas.models.posenet import PoseNet
from vipnas.pipeline import retrain, supernet
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import Level
from vipnas.training.checkpoint import load_checkpoint, load_strictly
from vipnas.training.failure import Diagnosis, Taken, diagnose

NEEDED = {"network", "step", "batch", "stage", "level", "arch", "experiment", "train_persons"}


def replay(path: Path, device: torch.device) -> tuple[int, Diagnosis]:
    """Return the number of the step in a `failure.pt` and what it computes here. Needs no data.

    One process computes the joint batch of all. Raises ValueError for a file that is no failure.
    """
    content = load_checkpoint(path)
    if missing := sorted(NEEDED - content.keys()):
        raise ValueError(f"{path}: {', '.join(missing)} missing: not the file of a failed step")
    level = _level_of(content, path, device)
    arch = None if content["arch"] is None else level.parse_arch(content["arch"], str(path))
    network = level.blank(arch)
    load_strictly(network, content["network"], path)
    network = network.to(device).train()
    if content["stage"] == "supernet":
        backward = supernet.backward_of(level, network, content["train_persons"])
    else:
        backward = retrain.backward_of(level, network, arch)
    batch = tuple(part.to(device) for part in content["batch"])
    return content["step"], diagnose(network, backward, Taken(content["step"], batch))


def _level_of(content: dict[str, Any], path: Path, device: torch.device) -> Level[Any]:
    config = parse(ExperimentConfig, json.loads(content["experiment"]), str(path))
    experiment = Experiment(config, path.parent, Path(), device)
    if content["level"] == "image":
        return ImageLevel(experiment)
    key_frame = PoseNet(arch_from_json(content["key_frame_arch"], str(path)), initialise=False)
    load_strictly(key_frame, content["key_frame"], path)
    return ClipLevel(experiment, key_frame.to(device).eval())
