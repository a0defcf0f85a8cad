"""The building blocks of both families.

Each block is built at its largest size. Every call says at which size it runs.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.arch.image import DeconvArch, StageArch, StemArch
from vipnas.models.attention import GlobalContext, SqueezeExcitation
from vipnas.models.elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticDeconv2d,
    ElasticLayer,
)

# In place: the input is the fresh output of a batch norm, which nothing else reads.
relu = partial(F.relu, inplace=True)
ACTIVATIONS = {"relu": relu, "hardswish": partial(F.hardswish, inplace=True)}


class Stem(nn.Module):
    """k x k convolution at stride 2 and, if `max_pool` is set, 3 x 3 max pooling at stride 2."""

    def __init__(self, arch: StemArch, in_channels: int) -> None:
        super().__init__()
        self.conv = ElasticConv2d(in_channels, arch.width, arch.kernel_size, stride=2)
        self.norm = ElasticBatchNorm2d(arch.width)

    def forward(self, x: Tensor, arch: StemArch) -> Tensor:
        x = self.norm(self.conv(x, arch.width, arch.kernel_size))
        x = ACTIVATIONS[arch.activation](x)
        return F.max_pool2d(x, 3, 2, 1) if arch.max_pool else x


class ResidualBlock(nn.Module):
    """1x1, grouped k x k, 1x1, global context, shortcut.

    The first block of a stage always projects its shortcut. Whether the projection exists must not
    depend on a sampled width.
    """

    def __init__(self, arch: StageArch, in_channels: int, first: bool) -> None:
        super().__init__()
        middle, stride = arch.middle_width, arch.stride if first else 1
        self.reduce = ElasticConv2d(in_channels, middle)
        self.reduce_norm = ElasticBatchNorm2d(middle)
        self.conv = ElasticConv2d(middle, middle, arch.kernel_size, stride, arch.groups)
        self.conv_norm = ElasticBatchNorm2d(middle)
        self.expand = ElasticConv2d(middle, arch.width)
        self.expand_norm = ElasticBatchNorm2d(arch.width)
        self.attention = GlobalContext(arch.width) if arch.attention else None
        self.project = ElasticConv2d(in_channels, arch.width, stride=stride) if first else None
        self.project_norm = ElasticBatchNorm2d(arch.width) if first else None

    def forward(self, x: Tensor, arch: StageArch) -> Tensor:
        act = ACTIVATIONS[arch.activation]
        middle = arch.middle_width
        out: Tensor = act(self.reduce_norm(self.reduce(x, middle)))
        out = act(self.conv_norm(self.conv(out, middle, arch.kernel_size, arch.groups)))
        out = self.expand_norm(self.expand(out, arch.width))
        if arch.attention:
            assert self.attention is not None
            out = self.attention(out)
        if self.project is not None and self.project_norm is not None:
            x = self.project_norm(self.project(x, arch.width))
        return act(out + x)


class InvertedResidualBlock(nn.Module):
    """1x1 expansion, grouped k x k, squeeze-excitation, 1x1 projection, shortcut.

    There is no expansion at `expand_ratio` 1. The shortcut has no weights, so it may depend on the
    sampled widths: it exists if input and output have the same shape.
    """

    def __init__(self, arch: StageArch, in_channels: int, first: bool) -> None:
        super().__init__()
        middle = arch.middle_width
        self.stride = arch.stride if first else 1
        expanded = arch.expand_ratio > 1
        self.expand = ElasticConv2d(in_channels, middle) if expanded else None
        self.expand_norm = ElasticBatchNorm2d(middle) if expanded else None
        conv_in = middle if expanded else in_channels
        self.conv = ElasticConv2d(conv_in, middle, arch.kernel_size, self.stride, arch.groups)
        self.conv_norm = ElasticBatchNorm2d(middle)
        self.attention = SqueezeExcitation(middle) if arch.attention else None
        self.project = ElasticConv2d(middle, arch.width)
        self.project_norm = ElasticBatchNorm2d(arch.width)

    def forward(self, x: Tensor, arch: StageArch) -> Tensor:
        act = ACTIVATIONS[arch.activation]
        middle = arch.middle_width
        out: Tensor = x
        if self.expand is not None and self.expand_norm is not None:
            out = act(self.expand_norm(self.expand(out, middle)))
        out = act(self.conv_norm(self.conv(out, middle, arch.kernel_size, arch.groups)))
        if arch.attention:
            assert self.attention is not None
            out = self.attention(out)
        out = self.project_norm(self.project(out, arch.width))
        return out + x if self.stride == 1 and x.shape[1] == arch.width else out


class Deconv(nn.Module):
    """Deconvolution at stride 2, batch norm, ReLU."""

    def __init__(self, arch: DeconvArch, in_channels: int) -> None:
        super().__init__()
        self.conv = ElasticDeconv2d(in_channels, arch.width, arch.kernel_size, arch.groups)
        self.norm = ElasticBatchNorm2d(arch.width)

    def forward(self, x: Tensor, arch: DeconvArch) -> Tensor:
        return relu(self.norm(self.conv(x, arch.width, arch.kernel_size, arch.groups)))


class HeatmapConv(nn.Module):
    """1x1 convolution to one heatmap per keypoint."""

    def __init__(self, num_keypoints: int, in_channels: int) -> None:
        super().__init__()
        self.conv = ElasticConv2d(in_channels, num_keypoints, bias=True)

    def forward(self, x: Tensor, num_keypoints: int) -> Tensor:
        return self.conv(x, num_keypoints)  # type: ignore[no-any-return]


class FixedLinear(ElasticLayer, nn.Linear):
    """Linear layer of one size, which all subnets share as a whole."""


class SimccShape(NamedTuple):
    """What a SimCC head is built from, beside the channels of its input.

    Attributes:
        num_keypoints: Number of maps, one per joint.
        kernel_size: Of the convolution to the maps.
        maps_hw: Height and width of the maps.
        bins_xy: Number of bins along x and along y.
    """

    num_keypoints: int
    kernel_size: int
    maps_hw: tuple[int, int]
    bins_xy: tuple[int, int]


class SimccHead(nn.Module):
    """k x k convolution to one map per keypoint, then linear layers to the bins of x and of y.

    The output (B, K, 1, X + Y) has the logits of the bins of x, then those of y. The linear layers
    start as in the published networks.
    """

    def __init__(self, shape: SimccShape, in_channels: int) -> None:
        super().__init__()
        size = shape.maps_hw[0] * shape.maps_hw[1]
        self.conv = ElasticConv2d(in_channels, shape.num_keypoints, shape.kernel_size, bias=True)
        self.x, self.y = (FixedLinear(size, bins) for bins in shape.bins_xy)
        for linear in (self.x, self.y):
            nn.init.normal_(linear.weight, std=0.01)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, shape: SimccShape) -> Tensor:
        maps_BKN = self.conv(x, shape.num_keypoints, shape.kernel_size).flatten(2)
        return torch.cat((self.x(maps_BKN), self.y(maps_BKN)), dim=2).unsqueeze(2)
