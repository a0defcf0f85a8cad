"""A training step that failed, computed again from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vipnas.arch.io import arch_from_json
from vipnas.config.experiment import ExperimentConfig
from vipnas.errors import UserError
from vipnas.files import parse_json
from vipnas.models.file import check_tensors
from vipnas.models.posenet import PoseNet
from vipnas.pipeline import retrain, supernet
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import Level
from vipnas.training.checkpoint import held, load_checkpoint, load_strictly
from vipnas.training.failure import Diagnosis, Taken, diagnose

STAGES = ("supernet", "retrain")
NEEDED = {"network", "step", "batch", "stage", "level", "arch", "experiment", "train_persons"}


def replay(path: Path, device: torch.device) -> tuple[int, Diagnosis]:
    """Return the number of the step in a `failure.pt` and what it computes here. Needs no data.

    One process computes the joint batch of all. Raises UserError for any other file.
    """
    content = load_checkpoint(path)
    if missing := sorted(NEEDED - content.keys()):
        raise UserError(str(path), "the file of a failed step", f"one without {', '.join(missing)}")
    level = _level_of(content, path, device)
    stage = held(content, "stage", str, path)
    if stage not in STAGES:
        raise UserError.not_one_of(f"{path}: stage", STAGES, stage)
    arch = None
    if stage == "retrain" or content["arch"] is not None:
        arch = level.parse_arch(held(content, "arch", str, path), str(path))
        level = level.at(arch)
    network = level.blank(arch)
    load_strictly(network, content["network"], path)
    network = network.to(device).train()
    step, num_persons = (held(content, key, int, path) for key in ("step", "train_persons"))
    if step < 0 or num_persons < 1:
        found = f"{step} and {num_persons}"
        raise UserError(f"{path}: step and train_persons", "numbers from 0 and 1", found)
    if stage == "supernet":
        backward = supernet.backward_of(level, network, num_persons)
    else:
        backward = retrain.backward_of(level, network, arch)
    batch = tuple(part.to(device) for part in _batch_of(content, level, path))
    return step, diagnose(network, backward, Taken(step, batch))


def _batch_of(content: dict[str, Any], level: Level[Any], path: Path) -> list[Tensor]:
    """Return the batch; raises UserError unless it is one of the level's trainings."""
    parts = held(content, "batch", list, path)
    experiment, is_clip = level.experiment, level.name == ClipLevel.name
    first = parts[0] if parts and isinstance(parts[0], Tensor) else torch.empty(0)
    length = tuple(max(size, 1) for size in first.shape[: 1 + is_clip])
    joints = (*length, experiment.skeleton.num_joints, 3)
    codec = level.codec if isinstance(level, ClipLevel) else experiment.codec
    forms = {0: (*length, 3, *codec.input_hw), 1: joints}
    if is_clip:
        forms[2] = (length[0], length[-1] - 1, 2, 3)  # warps
    elif len(parts) == 3:
        forms[2] = joints  # of the teacher
    expected = {
        f"batch {number}": torch.empty(
            form, dtype=torch.float32 if number else torch.uint8, device="meta"
        )
        for number, form in forms.items()
    }
    check_tensors({f"batch {n}": part for n, part in enumerate(parts)}, expected, path)
    return parts


def _level_of(content: dict[str, Any], path: Path, device: torch.device) -> Level[Any]:
    config = parse_json(ExperimentConfig, held(content, "experiment", str, path), str(path))
    experiment = Experiment(config, path.parent, Path(), device)
    levels, name = (ImageLevel.name, ClipLevel.name), held(content, "level", str, path)
    if name not in levels:
        raise UserError.not_one_of(f"{path}: level", levels, name)
    if name == ImageLevel.name:
        return ImageLevel(experiment)
    arch = arch_from_json(held(content, "key_frame_arch", str, path), str(path))
    key_frame = PoseNet(arch, initialise=False)
    load_strictly(key_frame, content.get("key_frame"), path)
    return ClipLevel(experiment, key_frame.to(device).eval())
