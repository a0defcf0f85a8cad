"""A training step that failed, computed again from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vipnas.arch.io import arch_from_json
from vipnas.config.experiment import ExperimentConfig
from vipnas.errors import UserError
from vipnas.files import parse_json
from vipnas.models.posenet import PoseNet
from vipnas.pipeline import retrain, supernet
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import Level
from vipnas.training.checkpoint import held, load_checkpoint, load_strictly
from vipnas.training.failure import Diagnosis, Taken, diagnose

NEEDED = {"network", "step", "batch", "stage", "level", "arch", "experiment", "train_persons"}


def replay(path: Path, device: torch.device) -> tuple[int, Diagnosis]:
    """Return the number of the step in a `failure.pt` and what it computes here. Needs no data.

    One process computes the joint batch of all. Raises UserError for any other file.
    """
    content = load_checkpoint(path)
    if missing := sorted(NEEDED - content.keys()):
        raise UserError(str(path), "the file of a failed step", f"one without {', '.join(missing)}")
    level = _level_of(content, path, device)
    arch = None
    if content["arch"] is not None:
        arch = level.parse_arch(held(content, "arch", str, path), str(path))
        level = level.at(arch)
    network = level.blank(arch)
    load_strictly(network, content["network"], path)
    network = network.to(device).train()
    if content["stage"] == "supernet":
        backward = supernet.backward_of(level, network, held(content, "train_persons", int, path))
    else:
        backward = retrain.backward_of(level, network, arch)
    batch = tuple(part.to(device) for part in held(content, "batch", list, path))
    step = held(content, "step", int, path)
    return step, diagnose(network, backward, Taken(step, batch))


def _level_of(content: dict[str, Any], path: Path, device: torch.device) -> Level[Any]:
    config = parse_json(ExperimentConfig, held(content, "experiment", str, path), str(path))
    experiment = Experiment(config, path.parent, Path(), device)
    if content["level"] == "image":
        return ImageLevel(experiment)
    arch = arch_from_json(held(content, "key_frame_arch", str, path), str(path))
    key_frame = PoseNet(arch, initialise=False)
    load_strictly(key_frame, content.get("key_frame"), path)
    return ClipLevel(experiment, key_frame.to(device).eval())
