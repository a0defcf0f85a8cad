"""The headers of the model files of an experiment."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import Any

import torch
from torch import nn

import vipnas
from vipnas.arch.clip import VideoArch
from vipnas.arch.image import Arch
from vipnas.deploy.loading import input_format
from vipnas.models.clipnet import FollowUpNet, VideoNet
from vipnas.models.header import BatchNorm, HeaderMetrics, Kind, ModelHeader, Provenance
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.shipped import PACKAGE
from vipnas.space.clip import VideoSpace
from vipnas.space.genes import GeneSpace
from vipnas.space.image import SearchSpace


def header_of(
    experiment: Experiment,
    network: nn.Module,
    space: GeneSpace[Any] | None = None,
    *,
    calibrated_on: str | None = None,
    metrics: HeaderMetrics | None = None,
) -> ModelHeader:
    """Return the header of a network that was trained in an experiment.

    Args:
        network: A `PoseNet`, a `VideoNet` or a `FollowUpNet`.
        space: The space of a supernet.
        calibrated_on: The images that the batch-norm statistics of these weights were measured on;
            None if they were not measured.
    """
    clips = space if isinstance(space, VideoSpace) else None
    images = clips.image_space if clips is not None else space
    assert images is None or isinstance(images, SearchSpace)
    assert isinstance(network, PoseNet | VideoNet | FollowUpNet)
    arch = network.follow_up.arch if isinstance(network, FollowUpNet) else network.arch
    clip = arch if isinstance(arch, VideoArch) else clips.max_arch() if clips else None
    key_frame = clip.key_frame if clip else arch
    assert isinstance(key_frame, Arch)
    kinds: tuple[Kind, Kind] = ("image", "supernet")
    if clips is not None or isinstance(network, VideoNet):
        kinds = ("clip", "clip_supernet")
    return ModelHeader(
        kind=kinds[space is not None],
        skeleton=experiment.skeleton,
        codec=experiment.config.codec,
        sigma_px=experiment.config.sigma_px,
        input=input_format(key_frame.input_hw, experiment.codec, experiment.config.box),
        batch_norm=BatchNorm(calibrated_on is not None, calibrated_on),
        arch=arch if isinstance(arch, Arch) else None,
        clip=clip,
        space=None if images is None else images.to_plain(),
        space_name=None if images is None else images.name,
        fusions=() if clips is None else clips.fusions,
        warp=clips is not None and clips.warp,
        provenance=provenance(experiment),
        metrics=metrics or {},
    )


def provenance(experiment: Experiment) -> Provenance:
    """Return the origin of weights: names and numbers, no paths."""
    return Provenance(
        experiment=experiment.name,
        seed=experiment.config.seed,
        threads=torch.get_num_threads(),
        commit=_commit(),
        vipnas=vipnas.__version__,
        torch=torch.__version__,
        data=experiment.datasets.digests(),
    )


@cache
def _commit() -> str | None:
    """Return the commit of the checkout that vipnas runs from; None if it is installed."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    command = ("git", "-C", str(root), "rev-parse", "HEAD")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
