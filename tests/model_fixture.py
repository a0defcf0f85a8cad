"""Model files for tests, without an experiment behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from vipnas.arch.clip import KeyFrameRule
from vipnas.arch.image import Arch
from vipnas.arch.skeleton import Skeleton
from vipnas.data.codecs.heatmap import make_codec
from vipnas.data.formats.skeletons import COCO_17
from vipnas.deploy.loading import input_format
from vipnas.models.clipnet import VideoNet
from vipnas.models.file import read_network, write_model
from vipnas.models.header import BatchNorm, HeaderMetrics, ModelHeader
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace


def skeleton_of(num_joints: int) -> Skeleton:
    """The COCO skeleton, or one of so many joints that have no names and no limbs."""
    if num_joints == COCO_17.num_joints:
        return COCO_17
    joints = tuple(f"joint_{number}" for number in range(num_joints))
    return Skeleton(f"joints_{num_joints}", joints, (), (), (0.05,) * num_joints)


def header_of_arch(arch: Arch) -> ModelHeader:
    """The header of a calibrated network of images."""
    codec = make_codec("quarter", arch.input_hw, arch.heatmap_hw)
    return ModelHeader(
        kind="image",
        skeleton=skeleton_of(arch.num_keypoints),
        codec="quarter",
        sigma_px=2.0,
        input=input_format(arch.input_hw, codec),
        batch_norm=BatchNorm(True, "a test"),
        arch=arch,
    )


def header_of_space(space: SearchSpace) -> ModelHeader:
    """The header of a supernet."""
    return replace(
        header_of_arch(space.max_arch()),
        kind="supernet",
        space=space.to_plain(),
        space_name=space.name,
        batch_norm=BatchNorm(False),
    )


def save_network(path: Path, network: nn.Module, metrics: HeaderMetrics | None = None) -> Path:
    assert isinstance(network, PoseNet)
    header = replace(header_of_arch(network.arch), metrics=metrics or {})
    write_model(path, network, header)
    return path


def save_clip(path: Path, network: VideoNet, key_frames: KeyFrameRule | None = None) -> Path:
    header = header_of_arch(network.arch.key_frame)
    clip = replace(header, kind="clip", arch=None, clip=network.arch, key_frames=key_frames)
    write_model(path, network, clip)
    return path


def save_supernet(path: Path, space: SearchSpace, seed: int = 0) -> Path:
    """With random weights."""
    torch.manual_seed(seed)
    write_model(path, PoseNet(space.max_arch()), header_of_space(space))
    return path


def load_network(path: Path) -> PoseNet:
    return read_network(path)[0]
