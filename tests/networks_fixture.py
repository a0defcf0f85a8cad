"""Networks as after training, for tests that compare what they compute."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch

# Of each family a small one: both kinds of attention, grouped and depthwise convolutions.
ARCHS = {
    "residual": Arch(
        family="residual",
        input_hw=(64, 48),
        stem=StemArch(8, 7, "relu", max_pool=True),
        stages=(StageArch(16, 2, 5, 4, True, 1, 2, "relu"),),
        head=(DeconvArch(16, 4, 4),),
        num_keypoints=5,
    ),
    "inverted_residual": Arch(
        family="inverted_residual",
        input_hw=(64, 48),
        stem=StemArch(8, 3, "hardswish", max_pool=False),
        stages=(
            StageArch(8, 1, 3, 8, True, 1, 1, "relu"),
            StageArch(16, 2, 5, 12, True, 3, 2, "hardswish"),
        ),
        head=(DeconvArch(8, 2, 8),),
        num_keypoints=5,
    ),
}


def of_depth_1(arch: Arch) -> Arch:
    """An arch with the same kinds of layers that is quickly exported."""
    return replace(arch, stages=tuple(replace(stage, depth=1) for stage in arch.stages))


def of_one_stage(arch: Arch) -> Arch:
    """The smallest arch of the same kind and heatmaps: for tests of what is around a network."""
    stride = math.prod(stage.stride for stage in arch.stages)
    return of_depth_1(replace(arch, stages=(replace(arch.stages[0], stride=stride),)))


def randomise_batch_norm(network: nn.Module, seed: int) -> None:
    """Statistics and scales of a trained network: at their initial values many mistakes cancel."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
    for parameter in network.parameters():
        # Those of heatmaps and attention start too small to tell outputs apart.
        if parameter.dim() == 4:
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, 0, fan_in**-0.5, generator=generator)
