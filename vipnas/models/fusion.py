"""Fusion of the previous frame's heatmaps into a feature.

B batch, C channels, K keypoints, H W height and width of the heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.arch.clip import Fusion, Operation
from vipnas.arch.image import Arch
from vipnas.models.elastic import ElasticBatchNorm2d, ElasticConv2d
from vipnas.models.posenet import segments


class Tap(NamedTuple):
    """The feature after a stage: its channels, height and width."""

    channels: int
    hw: tuple[int, int]


def tap_of(arch: Arch, stage: int) -> Tap:
    """Return the feature after stage `stage`, which is the input of the next segment."""
    following = list(segments(arch))[stage + 1]
    return Tap(following.in_channels, following.in_hw)


class FusionModule(nn.Module):
    """Fuse heatmaps of the frame before into a feature of this frame.

    heatmaps -> 1x1 convolution -> resize -> batch norm -> add, multiply or concatenate with the
    feature. Heatmaps are near 0 almost everywhere; the norm brings them to the scale of features. A
    ReLU follows before multiplication and concatenation. An addition has none, so that it can also
    subtract. A convolution follows the concatenation. It covers the heatmaps only: on the feature
    it would be a linear map before the next convolution, which is linear itself.

    The heatmaps before are also added to those of the network, scaled by one weight per joint
    (`residual`). A network with a fusion thus predicts the change since the frame before.

    At first the module is almost the identity on the feature, and the residual weights are 1. The
    weights of an image network can then be used from the first step.
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
        """Initialise near the identity on the feature: a factor starts near 1, a summand near 0."""
        nn.init.normal_(self.embed.weight)
        nn.init.constant_(self.embed_norm.weight, 0.1)
        nn.init.constant_(self.embed_norm.bias, 1.0 if self.operation == "mul" else 0.0)
        if self.mix is not None:
            nn.init.dirac_(self.mix.weight)
        nn.init.ones_(self.carry.weight)

    def residual(self, heatmaps_BKHW: Tensor) -> Tensor:
        """Return the residual heatmaps, which are added to those of the network."""
        num_keypoints = heatmaps_BKHW.shape[1]
        residual: Tensor = self.carry(heatmaps_BKHW, num_keypoints, groups=num_keypoints)
        return residual

    def forward(self, feature_BCHW: Tensor, heatmaps_BKHW: Tensor) -> Tensor:
        channels, hw = feature_BCHW.shape[1], feature_BCHW.shape[2:]
        # A 1x1 convolution commutes with a resize whose weights add up to one. The convolution runs
        # at the smaller of both sizes.
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
    """Resize: average pooling to a smaller size, which loses no peak, bilinear to a larger one."""
    if x_BCHW.shape[2] > hw[0]:
        blocks = x_BCHW.shape[2] // hw[0], x_BCHW.shape[3] // hw[1]
        return F.avg_pool2d(x_BCHW, blocks)
    if x_BCHW.shape[2] < hw[0]:
        return F.interpolate(x_BCHW, size=tuple(hw), mode="bilinear", align_corners=False)
    return x_BCHW


def module_name(fusion: Fusion) -> str:
    return f"stage{fusion.stage}_{fusion.operation}"
