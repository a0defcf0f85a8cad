"""Fusion of the previous frame's heatmaps into a feature.

B batch, C channels, K keypoints, H W height and width of the heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.arch.clip import FollowUp, Fusion, Operation
from vipnas.arch.image import Arch
from vipnas.models.elastic import ElasticBatchNorm2d, ElasticConv2d
from vipnas.models.posenet import segments


class Tap(NamedTuple):
    """The feature behind a stage: its channels, height and width."""

    channels: int
    hw: tuple[int, int]


def tap_of(arch: Arch, stage: int) -> Tap:
    """What stands behind stage `stage`: what the next segment reads."""
    following = list(segments(arch))[stage + 1]
    return Tap(following.in_channels, following.in_hw)


class FusionModule(nn.Module):
    """Heatmaps of the frame before, brought into a feature of this one, and carried along.

    heatmaps -> 1x1 convolution -> resize -> batch norm -> add, multiply or concatenate with the
    feature. The norm takes heatmaps, which are nearly everywhere nearly 0, to the scale of
    features, however high their peaks have grown. What multiplies or is concatenated goes through a
    ReLU; what is added does not, or it could only ever add. A convolution behind it all is there
    for the concatenation only, and of it only the part that the heatmaps go through: all else of it
    would be a linear map straight before the next convolution, which is one already.

    Besides, the heatmaps before are added to those that the network gives, each joint's times a
    weight of its own: a network that fuses draws the change since the frame before. From one frame
    to the next that is little, and what need not be drawn anew costs nothing.

    It starts as almost the identity on the feature, so that weights of a network of images are of
    use from the first step, and with the heatmaps carried along as they are.
    """

    def __init__(self, operation: Operation, num_keypoints: int, channels: int) -> None:
        super().__init__()
        self.operation = operation
        self.embed = ElasticConv2d(num_keypoints, channels)
        self.embed_norm = ElasticBatchNorm2d(channels)
        self.mix = ElasticConv2d(channels, channels) if operation == "cat" else None
        self.carry = ElasticConv2d(num_keypoints, num_keypoints, groups=num_keypoints)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Next to nothing comes of the heatmaps in the feature: a product starts at 1, a sum at
        0."""
        nn.init.normal_(self.embed.weight)
        nn.init.constant_(self.embed_norm.weight, 0.1)
        nn.init.constant_(self.embed_norm.bias, 1.0 if self.operation == "mul" else 0.0)
        if self.mix is not None:
            nn.init.dirac_(self.mix.weight)
        nn.init.ones_(self.carry.weight)

    def carried(self, heatmaps_BKHW: Tensor) -> Tensor:
        """What of the heatmaps before is added to those that the network gives."""
        num_keypoints = heatmaps_BKHW.shape[1]
        carried: Tensor = self.carry(heatmaps_BKHW, num_keypoints, groups=num_keypoints)
        return carried

    def forward(self, feature_BCHW: Tensor, heatmaps_BKHW: Tensor) -> Tensor:
        channels, hw = feature_BCHW.shape[1], feature_BCHW.shape[2:]
        # A 1x1 convolution and a resizing whose weights add up to one may change places: the
        # convolution runs at the smaller of both sizes.
        before: Tensor
        if heatmaps_BKHW.shape[2] > hw[0]:
            before = self.embed(resize(heatmaps_BKHW, hw), channels)
        else:
            before = resize(self.embed(heatmaps_BKHW, channels), hw)
        before = self.embed_norm(before)
        if self.operation == "add":
            return feature_BCHW + before
        if self.operation == "mul":
            return feature_BCHW * F.relu(before)
        assert self.mix is not None
        mixed: Tensor = self.mix(F.relu(before), channels)
        return feature_BCHW + mixed


def resize(x_BCHW: Tensor, hw: Sequence[int]) -> Tensor:
    """Means over whole blocks where it shrinks, which lose no peak; bilinear where it grows."""
    if x_BCHW.shape[2] > hw[0]:
        blocks = x_BCHW.shape[2] // hw[0], x_BCHW.shape[3] // hw[1]
        return F.avg_pool2d(x_BCHW, blocks)
    if x_BCHW.shape[2] < hw[0]:
        return F.interpolate(x_BCHW, size=tuple(hw), mode="bilinear", align_corners=False)
    return x_BCHW


def fusions_of(member: FollowUp) -> tuple[Fusion, ...]:
    """Those that a stand-alone network holds: one or none."""
    return () if member.fusion is None else (member.fusion,)


def module_name(fusion: Fusion) -> str:
    return f"stage{fusion.stage}_{fusion.operation}"
